// Windows of an image, one tap a beat: a circular buffer of the last rows, read in the order that the block after it computes in.
//
// In: the image in raster order, FOLD words of WIDTH bits a pixel. Out: for each output pixel in raster order
//   SLICED = 0: REPEAT times all taps (ky, kx), FOLD words each             (every output channel group sees the whole window)
//   SLICED = 1: for each of the FOLD words all taps (ky, kx), that word     (channels stay apart; REPEAT is not used)
// Taps outside the H x W image are 0; PADDED = 0 says that there is none. A tap is given as soon as its pixel is there; a pixel is dropped when no later window has it.
// The buffer has 2^AW words: at least the span of a window, ((KH-1)*W + KW)*FOLD, and of a step, (STRIDE*W + STRIDE)*FOLD.
module window #(
    parameter WIDTH = 8, parameter FOLD = 1, parameter H = 4, parameter W = 4, parameter KH = 3, parameter KW = 3,
    parameter STRIDE = 1, parameter PT = 0, parameter PL = 0, parameter OH = 2, parameter OW = 2,
    parameter REPEAT = 1, parameter SLICED = 0, parameter PADDED = 1, parameter AW = 4, parameter BLOCK = 0
) (
    input clk, input rst,
    input [WIDTH-1:0] s_data, input s_valid, output s_ready,
    output [WIDTH-1:0] m_data, output m_valid, input m_ready
);
    // Words are numbered through all frames, modulo 2^IW; the low AW bits are the address in the buffer.
    localparam IW = AW + 2;
    localparam [IW-1:0] ROW = W * FOLD, NEXT = STRIDE * FOLD, NEXT_ROW = STRIDE * W * FOLD, FRAME = H * W * FOLD,
        LEFT = PL * FOLD, START = -(PT * W + PL) * FOLD, NEXT_FRAME = (H - (OH - 1) * STRIDE) * W * FOLD, DEPTH = 1 << AW,
        ALONG = SLICED ? FOLD : 1;
    localparam XW = $clog2(W + KW + STRIDE) + 1, YW = $clog2(H + KH + STRIDE) + 1; // signed coordinates
    localparam FW = $clog2(FOLD + 1), RW = $clog2(REPEAT + 1), KXW = $clog2(KW + 1), KYW = $clog2(KH + 1);
    localparam signed [XW-1:0] X0 = -PL, XS = STRIDE, XEND = W, XLAST = (OW - 1) * STRIDE - PL;
    localparam signed [YW-1:0] Y0 = -PT, YS = STRIDE, YEND = H, YLAST = (OH - 1) * STRIDE - PT;

    reg [IW-1:0] wr;                          // next word to be written
    reg [IW-1:0] tail;                        // oldest word that is still needed
    reg [IW-1:0] frame, winrow, win;          // first word of: the frame, the first window in this output row, this window
    reg [IW-1:0] slice, row, rd;              // first word of: this slice of the window, this row of taps, this tap
    reg signed [XW-1:0] x0, x;                // column of the window, of the tap
    reg signed [YW-1:0] y0, y;
    reg [KXW-1:0] kx; reg [KYW-1:0] ky; reg [FW-1:0] fold; reg [RW-1:0] rep;

    wire fold_last = fold == FOLD - 1, kx_last = kx == KW - 1, ky_last = ky == KH - 1, rep_last = rep == REPEAT - 1;
    wire line_last = kx_last && (SLICED || fold_last);
    wire pass_last = line_last && ky_last;
    wire window_last = pass_last && (SLICED ? fold_last : rep_last);
    wire x_last = x0 == XLAST, y_last = y0 == YLAST;

    wire present = !PADDED || (x >= 0 && x < XEND && y >= 0 && y < YEND);
    wire [IW-1:0] ahead = rd - wr;            // negative: the word of the tap has been written
    reg valid;
    wire en = !valid || m_ready;
    wire step = en && (!present || ahead[IW-1]);

    reg room;                                 // a word fits
    assign s_ready = room;
    wire [IW-1:0] wr_next = wr + (s_valid && room);
    wire [IW-1:0] used = wr_next - tail;      // negative: the frame's last words are not needed and not here yet
    wire [IW-1:0] winrow_next = winrow + (y_last ? NEXT_FRAME : NEXT_ROW);
    wire [IW-1:0] win_next = x_last ? winrow_next : win + NEXT;
    wire signed [XW-1:0] x0_next = x_last ? X0 : x0 + XS;
    wire signed [YW-1:0] y0_next = y_last ? Y0 : y0 + YS;

    always @(posedge clk) begin
        if (rst) wr <= 0;
        else wr <= wr_next;
        room <= !rst && (used[IW-1] || used < DEPTH);
        tail <= y0 < 0 ? frame : x0 < 0 ? winrow + LEFT : win;
        if (rst) begin
            valid <= 0; tail <= 0;
            frame <= 0; winrow <= START; win <= START; slice <= START; row <= START; rd <= START;
            x0 <= X0; x <= X0; y0 <= Y0; y <= Y0;
            kx <= 0; ky <= 0; fold <= 0; rep <= 0;
        end else begin
            if (en) valid <= step;
            if (step) begin
                if (!SLICED) fold <= fold_last ? 0 : fold + 1'b1;
                if (SLICED || fold_last) begin
                    kx <= kx_last ? 0 : kx + 1'b1;
                    x <= kx_last ? x0 : x + 1'b1;
                end
                rd <= rd + ALONG;
                if (line_last) begin
                    ky <= ky_last ? 0 : ky + 1'b1;
                    y <= ky_last ? y0 : y + 1'b1;
                    row <= row + ROW;
                    rd <= row + ROW;
                end
                if (pass_last) begin
                    if (SLICED) begin
                        fold <= fold_last ? 0 : fold + 1'b1;
                        slice <= slice + 1'b1; row <= slice + 1'b1; rd <= slice + 1'b1;
                    end else begin
                        rep <= rep_last ? 0 : rep + 1'b1;
                        row <= win; rd <= win;
                    end
                end
                if (window_last) begin
                    win <= win_next; slice <= win_next; row <= win_next; rd <= win_next;
                    x0 <= x0_next; x <= x0_next;
                    if (x_last) begin
                        winrow <= winrow_next;
                        y0 <= y0_next; y <= y0_next;
                        if (y_last) frame <= frame + FRAME;
                    end
                end
            end
        end
    end

    reg absent;
    wire [WIDTH-1:0] word;
    ram #(.WIDTH(WIDTH), .AW(AW), .BLOCK(BLOCK)) buffer (
        .clk(clk), .we(s_valid && s_ready), .waddr(wr[AW-1:0]), .wdata(s_data), .re(en), .raddr(rd[AW-1:0]), .rdata(word));
    always @(posedge clk) if (en) absent <= !present;
    assign m_data = PADDED && absent ? {WIDTH{1'b0}} : word;
    assign m_valid = valid;
endmodule

// Windows of an image, all taps in one beat: KH - 1 rows in a memory, KH x KW pixels in registers.
//
// In: the image in raster order, one pixel of WIDTH bits a beat. Out: for each output pixel in raster order, REPEAT times, the taps
// (ky, kx), first lowest. Padding is scanned like pixels, one a cycle: VH x VW cycles a frame, VH = max(PT + H, (OH-1)*STRIDE + KH).
module windows_all #(
    parameter WIDTH = 8, parameter H = 4, parameter W = 4, parameter KH = 3, parameter KW = 3, parameter STRIDE = 1,
    parameter PT = 0, parameter PL = 0, parameter OH = 2, parameter OW = 2, parameter REPEAT = 1
) (
    input clk, input rst,
    input [WIDTH-1:0] s_data, input s_valid, output s_ready,
    output [KH*KW*WIDTH-1:0] m_data, output m_valid, input m_ready
);
    localparam NH = (OH - 1) * STRIDE + KH, NW = (OW - 1) * STRIDE + KW; // rows and columns that windows see
    localparam VH = PT + H > NH ? PT + H : NH, VW = PL + W > NW ? PL + W : NW;
    localparam KEPT = (KW > 1 ? KW - 1 : 1) * WIDTH;
    localparam XW = $clog2(VW + 1), YW = $clog2(VH + 1), SW = $clog2(STRIDE + 1), RW = $clog2(REPEAT + 1);

    reg [XW-1:0] x; reg [YW-1:0] y;             // position in the padded image of the pixel that enters
    reg [SW-1:0] xs, ys;                        // steps until the next window's last column, row
    reg x_in, y_in;                             // a window ends in this column, row
    reg [RW-1:0] rep;
    reg valid;
    reg [KH*KW*WIDTH-1:0] taps;

    wire real_x = x >= PL && x < PL + W, real_y = y >= PT && y < PT + H;
    wire real_pixel = real_x && real_y;
    wire x_last = x == VW - 1, y_last = y == VH - 1, rep_last = rep == REPEAT - 1;
    wire en = !valid || (m_ready && rep_last);
    wire step = en && (s_valid || !real_pixel);
    wire [XW-1:0] x_next = x_last ? 0 : x + 1'b1;
    wire [YW-1:0] y_next = y_last ? 0 : y + 1'b1;
    wire [WIDTH-1:0] pixel = real_pixel ? s_data : {WIDTH{1'b0}};
    assign s_ready = en && real_pixel;
    assign m_valid = valid;
    assign m_data = taps;

    wire [KH*WIDTH-1:0] column;                 // the pixels above, oldest lowest, and this one
    generate
        if (KH > 1) begin : rows
            wire [(KH-1)*WIDTH-1:0] above;
            ram #(.WIDTH((KH-1)*WIDTH), .AW(XW)) memory (
                .clk(clk), .we(step), .waddr(x), .wdata(column[KH*WIDTH-1:WIDTH]),
                .re(step || rst), .raddr(rst ? {XW{1'b0}} : x_next), .rdata(above));
            assign column = {pixel, above};
        end else begin : single
            assign column = pixel;
        end
    endgenerate

    integer ky;
    always @(posedge clk) begin
        if (step)
            for (ky = 0; ky < KH; ky = ky + 1) begin
                if (KW > 1) taps[ky*KW*WIDTH +: KEPT] <= taps[(ky*KW+KW-KEPT/WIDTH)*WIDTH +: KEPT];
                taps[(ky*KW+KW-1)*WIDTH +: WIDTH] <= column[ky*WIDTH +: WIDTH];
            end
        if (rst) begin
            valid <= 0; x <= 0; y <= 0; rep <= 0;
            x_in <= KW == 1; y_in <= KH == 1; xs <= 0; ys <= 0;
        end else begin
            if (valid && m_ready) rep <= rep_last ? 0 : rep + 1'b1;
            if (en) valid <= step && x_in && y_in;
            if (step) begin
                x <= x_next;
                xs <= x_last || x_next == KW - 1 || xs == STRIDE - 1 ? 0 : xs + 1'b1;
                x_in <= x_next >= KW - 1 && x_next <= NW - 1 && (x_next == KW - 1 || xs == STRIDE - 1 || STRIDE == 1);
                if (x_last) begin
                    y <= y_next;
                    ys <= y_last || y_next == KH - 1 || ys == STRIDE - 1 ? 0 : ys + 1'b1;
                    y_in <= y_next >= KH - 1 && y_next <= NH - 1 && (y_next == KH - 1 || ys == STRIDE - 1 || STRIDE == 1);
                end
            end
        end
    end
endmodule

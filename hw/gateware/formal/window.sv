// window: every tap of every window is its pixel, or 0 outside the image; counted from reset, over frames.
module window_check #(
    parameter H = 3, parameter W = 3, parameter K = 2, parameter STRIDE = 1, parameter PT = 1, parameter PL = 1, parameter OH = 3, parameter OW = 3,
    parameter FOLD = 1, parameter REPEAT = 1, parameter SLICED = 0, parameter AW = 3, parameter ALL = 0
) (
    input clk, input [1:0] s_data, input s_valid, input m_ready
);
    localparam TAPS = ALL ? REPEAT : K * K * FOLD * (SLICED ? 1 : REPEAT), FRAME = OH * OW * TAPS;
    localparam WIDTH = ALL ? 2 * K * K : 2;
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, m_valid, s_moves, m_moves;
    wire [WIDTH-1:0] m_data;
    wire [7:0] ins, outs;
    generate
        if (ALL) begin : wide
            windows_all #(.WIDTH(2), .H(H), .W(W), .KH(K), .KW(K), .STRIDE(STRIDE), .PT(PT), .PL(PL), .OH(OH), .OW(OW), .REPEAT(REPEAT)) dut (
                .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .m_data(m_data), .m_valid(m_valid), .m_ready(m_ready));
        end else begin : narrow
            window #(.WIDTH(2), .FOLD(FOLD), .H(H), .W(W), .KH(K), .KW(K), .STRIDE(STRIDE), .PT(PT), .PL(PL), .OH(OH), .OW(OW), .REPEAT(REPEAT),
                .SLICED(SLICED), .AW(AW)) dut (
                .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .m_data(m_data), .m_valid(m_valid), .m_ready(m_ready));
        end
    endgenerate
    stream_watch #(.WIDTH(2), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_data), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(WIDTH)) m_side (.clk(clk), .rst(rst), .data(m_data), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    still_watch #(.LIMIT(16)) watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));

    // Any output beat, and any tap of it: the pixel that it must show.
    (* anyconst *) reg [7:0] beat;
    (* anyconst *) reg [3:0] lane;
    always @* assume (lane < (ALL ? K * K : 1));
    wire [7:0] frame = beat / FRAME, in_frame = beat % FRAME, pixel = in_frame / TAPS, tap = in_frame % TAPS;
    wire [7:0] ky = ALL ? lane / K : SLICED ? (tap % (K * K)) / K : (tap % (K * K * FOLD)) / (K * FOLD);
    wire [7:0] kx = ALL ? lane % K : SLICED ? tap % K : (tap % (K * FOLD)) / FOLD;
    wire [7:0] word = ALL ? 0 : SLICED ? tap / (K * K) : tap % FOLD;
    wire signed [7:0] y = (pixel / OW) * STRIDE + ky - PT, x = (pixel % OW) * STRIDE + kx - PL;
    wire inside = y >= 0 && y < H && x >= 0 && x < W;
    wire [7:0] source = frame * (H * W * FOLD) + (y * W + x) * FOLD + word;
    reg [1:0] value;
    reg known = 0;
    always @(posedge clk) if (s_moves && ins == source) begin
        value <= s_data;
        known <= 1;
    end
    wire [WIDTH-1:0] moved = m_data >> (2 * lane);
    always @* if (!rst && m_valid && outs == beat) begin
        if (inside) assert (known && moved[1:0] == value);
        else assert (moved[1:0] == 0);
    end
endmodule

// resize: every element comes out once, in order.
module resize_check #(parameter BITS = 3, parameter IN = 1, parameter OUT = 4) (
    input clk, input [IN*BITS-1:0] s_data, input s_valid, input m_ready
);
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, m_valid, s_moves, m_moves;
    wire [OUT*BITS-1:0] m_data;
    wire [7:0] ins, outs;
    resize #(.BITS(BITS), .IN(IN), .OUT(OUT)) dut (
        .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .m_data(m_data), .m_valid(m_valid), .m_ready(m_ready));
    stream_watch #(.WIDTH(IN*BITS), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_data), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(OUT*BITS)) m_side (.clk(clk), .rst(rst), .data(m_data), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    still_watch watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));
    (* anyconst *) reg [7:0] k;         // any element
    reg [BITS-1:0] value;
    wire [9:0] in = ins * IN, out = outs * OUT;
    always @(posedge clk) if (s_moves && k >= in && k < in + IN) value <= s_data[(k - in)*BITS +: BITS];
    always @* if (!rst) begin
        assert (out + (m_valid ? OUT : 0) <= in + (IN == OUT && s_valid ? IN : 0));
        assert (in - out <= IN + OUT);
        if (m_valid && k >= out && k < out + OUT && k < in) assert (m_data[(k - out)*BITS +: BITS] == value);
    end
endmodule

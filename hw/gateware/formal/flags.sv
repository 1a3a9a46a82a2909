// flags: every bit comes out once, in order.
module flags_check #(parameter AW = 2) (input clk, input s_bad, input s_valid, input m_ready, input mark);
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, m_valid, m_bad, s_moves, m_moves;
    wire [7:0] ins, outs;
    flags #(.AW(AW)) dut (.clk(clk), .rst(rst), .s_bad(s_bad), .s_valid(s_valid), .s_ready(s_ready), .m_bad(m_bad), .m_valid(m_valid), .m_ready(m_ready));
    stream_watch #(.WIDTH(1), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_bad), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(1)) m_side (.clk(clk), .rst(rst), .data(m_bad), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    still_watch watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));
    wire [AW:0] wr;                     // peek dut.wr
    wire [AW:0] rd;                     // peek dut.rd
    wire [(1<<AW)-1:0] bits;            // peek dut.bits
    wire [AW:0] used = wr - rd;
    reg seen = 0, value;
    reg [AW:0] ahead;
    wire [AW:0] at = rd + ahead;
    always @(posedge clk)
        if (rst) seen <= 0;
        else if (!seen && s_moves && mark) begin
            seen <= 1;
            value <= s_bad;
            ahead <= used - m_moves;
        end else if (seen) begin
            if (m_moves && ahead == 0) seen <= 0;
            ahead <= ahead - m_moves;
        end
    always @* if (!rst) begin
        assert (used <= (1 << AW) && s_ready == (used != (1 << AW)) && m_valid == (used != 0));
        assert (ins - outs == used);
        if (seen) assert (ahead < used && bits[at[AW-1:0]] == value);
        if (seen && ahead == 0) assert (m_bad == value);
    end
endmodule

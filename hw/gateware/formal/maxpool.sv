// maxpool: one beat out for SF in, each element the largest of its SF.
module maxpool_check #(parameter BITS = 3, parameter PE = 2, parameter SF = 4) (
    input clk, input [PE*BITS-1:0] s_data, input s_valid, input m_ready
);
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, m_valid, s_moves, m_moves;
    wire [PE*BITS-1:0] m_data;
    wire [7:0] ins, outs;
    maxpool #(.BITS(BITS), .PE(PE), .SF(SF)) dut (
        .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .m_data(m_data), .m_valid(m_valid), .m_ready(m_ready));
    stream_watch #(.WIDTH(PE*BITS), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_data), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(PE*BITS)) m_side (.clk(clk), .rst(rst), .data(m_data), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    still_watch watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));
    wire [$clog2(SF+1)-1:0] beat;       // peek dut.beat
    // Naive: the group under way, and the one that is done.
    (* anyconst *) reg [7:0] lane;
    always @* assume (lane < PE);
    wire [BITS-1:0] x = s_data[lane*BITS +: BITS];
    reg [7:0] phase = 0;
    reg [BITS-1:0] best, whole;
    reg there = 0;
    wire [BITS-1:0] largest = phase == 0 || x > best ? x : best;
    always @(posedge clk)
        if (rst) begin
            phase <= 0;
            there <= 0;
        end else begin
            if (m_moves) there <= 0;
            if (s_moves) begin
                best <= largest;
                phase <= phase == SF - 1 ? 0 : phase + 1;
                if (phase == SF - 1) begin
                    whole <= largest;
                    there <= 1;
                end
            end
        end
    wire [PE*BITS-1:0] shown = m_data >> (lane * BITS);
    always @* if (!rst) begin
        assert (phase < SF && beat == phase);
        assert (m_valid == there);
        if (m_valid) assert (shown[BITS-1:0] == whole);
        else if (phase != 0) assert (shown[BITS-1:0] == best);
        if (m_valid) assert (phase == 0);
    end
endmodule

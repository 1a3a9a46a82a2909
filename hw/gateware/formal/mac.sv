// mac: results of two groups with weights, biases and shifts of their own equal the naive sum, rounded half to even and clipped.
module mac_check #(parameter DEPTH = 8) (input clk, input [3:0] s_data, input s_valid, input m_ready);
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, m_valid, s_moves, m_moves;
    wire [1:0] m_data;
    wire [7:0] ins, outs;
    // Weights (group, beat): (+1, -1), (0, +1); (-1, -1), (+1, 0). Biases 1 and 5, shifts 1 and 2. See `mac.v` for the words in the files.
    mac #(.BITS(2), .SIMD(2), .PE(1), .SF(2), .NF(2), .ACC(8), .OUT(2), .SMIN(1), .SB(1), .SPAN(1), .WEIGHTS("mac_weights.mem"),
        .BIASES("mac_biases.mem")) dut (
        .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .m_data(m_data), .m_valid(m_valid), .m_ready(m_ready));
    stream_watch #(.WIDTH(4), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_data), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(2)) m_side (.clk(clk), .rst(rst), .data(m_data), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    still_watch #(.LIMIT(12)) watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));
    // Naive.
    wire signed [7:0] a = s_data[1:0], b = s_data[3:2];
    reg signed [7:0] sum;
    (* anyconst *) reg [7:0] k;         // any result
    reg [1:0] value;
    reg known = 0;
    wire signed [7:0] term = ins[1:0] == 0 ? a - b : ins[1:0] == 1 ? b : ins[1:0] == 2 ? -a - b : a;
    wire signed [7:0] total = sum + term + (ins[1] ? 5 : 1);
    wire signed [7:0] quotient = ins[1] ? total >>> 2 : total >>> 1;
    wire [1:0] rest = ins[1] ? total[1:0] : {total[0], 1'b0};
    wire signed [7:0] rounded = rest > 2 || (rest == 2 && quotient[0]) ? quotient + 1 : quotient;
    always @(posedge clk) if (s_moves) begin
        sum <= ins[0] ? 0 : term;
        if (ins[0] && k == ins >> 1) begin
            value <= rounded < 0 ? 0 : rounded > 3 ? 3 : rounded[1:0];
            known <= 1;
        end
    end
    always @* if (!rst) begin
        assert (!m_valid || outs < ins >> 1);
        if (m_valid && outs == k) assert (known && m_data == value);
    end
endmodule

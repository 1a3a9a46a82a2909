// unpack: whole frames of the right bytes whatever tlast says: a short frame is filled with zeros, a long one cut; one verdict a frame.
module unpack_check #(parameter BYTES = 10, parameter LANES = 1) (
    input clk, input [31:0] s_tdata, input s_tvalid, input s_tlast, input m_ready, input f_ready
);
    localparam BEATS = (BYTES + 3) / 4, FULL = 4 / LANES, OUTS = BYTES / LANES;
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_tready, m_valid, f_valid, f_bad, err_short, err_long, s_moves, m_moves;
    wire [8*LANES-1:0] m_data;
    wire [7:0] ins, outs;
    unpack #(.BYTES(BYTES), .LANES(LANES)) dut (
        .clk(clk), .rst(rst), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tlast(s_tlast), .s_tready(s_tready), .m_data(m_data),
        .m_valid(m_valid), .m_ready(m_ready), .f_valid(f_valid), .f_bad(f_bad), .f_ready(f_ready), .err_short(err_short), .err_long(err_long));
    stream_watch #(.WIDTH(33), .MINE(0)) s_side (.clk(clk), .rst(rst), .data({s_tlast, s_tdata}), .valid(s_tvalid), .ready(s_tready), .count(ins),
        .moves(s_moves));
    stream_watch #(.WIDTH(8*LANES)) m_side (.clk(clk), .rst(rst), .data(m_data), .valid(m_valid), .ready(m_ready), .count(outs), .moves(m_moves));
    reg [1:0] wait_f = 0;
    always @(posedge clk) wait_f <= rst || f_ready ? 0 : wait_f + 1;
    always @* assume (wait_f != 3 || f_ready);
    still_watch #(.LIMIT(12)) watch (.clk(clk), .rst(rst), .s_valid(s_tvalid), .m_valid(m_valid), .m_ready(m_ready), .moves(s_moves || m_moves));

    // Naive: the words of frames, short ones filled, long ones cut, numbered from reset; any one of them.
    reg [7:0] beat = 0, words = 0, frames = 0;
    reg cutting = 0, verdict, due = 0;
    wire ends = s_tlast || beat == BEATS - 1;
    always @(posedge clk) begin
        due <= 0;
        if (rst) begin
            beat <= 0;
            words <= 0;
            frames <= 0;
            cutting <= 0;
        end else if (s_moves && cutting) cutting <= !s_tlast;
        else if (s_moves) begin
            beat <= ends ? 0 : beat + 1;
            words <= ends ? words + BEATS - beat : words + 1;
            cutting <= beat == BEATS - 1 && !s_tlast;
            frames <= frames + ends;
            due <= ends;
            verdict <= s_tlast != (beat == BEATS - 1);
        end
    end
    (* anyconst *) reg [7:0] k;
    reg [31:0] value;
    reg known = 0;
    always @(posedge clk)
        if (rst) known <= 0;
        else if (s_moves && !cutting) begin
            if (k == words) begin
                value <= s_tdata;
                known <= 1;
            end else if (ends && k > words && k < words + BEATS - beat) begin
                value <= 0;
                known <= 1;
            end
        end
    // The word that an output beat belongs to, and the beat within it.
    reg [7:0] out_frame = 0, out_beat = 0;      // beat of the frame that is to come out
    always @(posedge clk)
        if (rst) begin
            out_frame <= 0;
            out_beat <= 0;
        end else if (m_moves) begin
            out_beat <= out_beat == OUTS - 1 ? 0 : out_beat + 1;
            out_frame <= out_frame + (out_beat == OUTS - 1);
        end
    wire [7:0] out_word = out_frame * BEATS + out_beat / FULL;
    wire [31:0] moved = value >> (8 * LANES * (out_beat % FULL));
    reg was_due = 0, was_verdict, was_short, was_long;
    always @* if (!rst) begin
        if (m_valid) assert (out_word < words);
        if (m_valid && out_word == k) assert (known && m_data == moved[8*LANES-1:0]);
        assert (f_valid == (s_moves && !cutting && ends));
        if (f_valid) assert (f_bad == (s_tlast != (beat == BEATS - 1)));
        assert (f_ready || !f_valid);
        if (due) assert (err_short == (verdict && !cutting) && err_long == cutting);
        else assert (!err_short && !err_long);
    end
endmodule

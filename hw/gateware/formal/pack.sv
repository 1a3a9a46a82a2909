// pack: the logits of a right frame, four to a beat, zeros and tlast at the end; those of a wrong frame are taken and nothing is given.
module pack_check #(parameter CLASSES = 6) (
    input clk, input [7:0] s_data, input s_valid, input f_bad, input f_valid, input m_tready
);
    localparam BEATS = (CLASSES + 3) / 4;
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    wire s_ready, f_ready, m_tvalid, m_tlast, s_moves, m_moves, f_moves;
    wire [31:0] m_tdata;
    wire [7:0] ins, outs, verdicts;
    pack #(.CLASSES(CLASSES)) dut (
        .clk(clk), .rst(rst), .s_data(s_data), .s_valid(s_valid), .s_ready(s_ready), .f_bad(f_bad), .f_valid(f_valid), .f_ready(f_ready),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tlast(m_tlast), .m_tready(m_tready));
    stream_watch #(.WIDTH(8), .MINE(0)) s_side (.clk(clk), .rst(rst), .data(s_data), .valid(s_valid), .ready(s_ready), .count(ins), .moves(s_moves));
    stream_watch #(.WIDTH(1), .MINE(0)) f_side (.clk(clk), .rst(rst), .data(f_bad), .valid(f_valid), .ready(f_ready), .count(verdicts), .moves(f_moves));
    stream_watch #(.WIDTH(33)) m_side (.clk(clk), .rst(rst), .data({m_tlast, m_tdata}), .valid(m_tvalid), .ready(m_tready), .count(outs), .moves(m_moves));
    reg [1:0] wait_f = 0;
    always @(posedge clk) wait_f <= rst || f_valid ? 0 : wait_f + 1;
    always @* assume (wait_f != 3 || f_valid);
    still_watch #(.LIMIT(12)) watch (.clk(clk), .rst(rst), .s_valid(s_valid), .m_valid(m_tvalid), .m_ready(m_tready), .moves(s_moves || m_moves));

    // Naive: the beat that is being filled; the one that is due.
    reg [7:0] index = 0, given = 0;
    reg [31:0] filled = 0, due_data;
    reg due = 0, due_last;
    wire [31:0] with_it = (index % 4 == 0 ? 0 : filled) | s_data << (8 * (index % 4));
    always @(posedge clk)
        if (rst) begin
            index <= 0;
            due <= 0;
        end else begin
            if (m_moves) due <= 0;
            if (s_moves) begin
                index <= index == CLASSES - 1 ? 0 : index + 1;
                filled <= with_it;
                if (!f_bad && (index % 4 == 3 || index == CLASSES - 1)) begin
                    due <= 1;
                    due_data <= with_it;
                    due_last <= index == CLASSES - 1;
                end
            end
        end
    wire [$clog2(CLASSES)-1:0] i;       // peek dut.index
    wire [1:0] n;                       // peek dut.count
    wire [23:0] held;                   // peek dut.held
    always @* if (!rst) begin
        assert (m_tvalid == due);
        if (due) assert (m_tdata == due_data && m_tlast == due_last);
        assert (f_ready == (s_moves && index == CLASSES - 1));
        assert (index < CLASSES && i == index && n == index % 4);
        assert (held == (n == 0 ? 0 : filled[23:0]));
        if (n == 1) assert (filled[31:8] == 0);
        if (n == 2) assert (filled[31:16] == 0);
        if (n == 3) assert (filled[31:24] == 0);
    end
endmodule

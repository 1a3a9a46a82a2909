// FIFO of 2^AW bits between `unpack` and `pack`: for each frame inside the core, whether its answer must be dropped.
module flags #(
    parameter AW = 4
) (
    input clk, input rst,
    input s_bad, input s_valid, output s_ready,
    output m_bad, output m_valid, input m_ready
);
    reg [(1<<AW)-1:0] bits;
    reg [AW:0] wr, rd;
    wire [AW:0] used = wr - rd;
    assign s_ready = !used[AW];
    assign m_valid = used != 0;
    assign m_bad = bits[rd[AW-1:0]];
    always @(posedge clk) begin
        if (s_valid && s_ready) bits[wr[AW-1:0]] <= s_bad;
        if (rst) begin
            wr <= 0; rd <= 0;
        end else begin
            if (s_valid && s_ready) wr <= wr + 1'b1;
            if (m_valid && m_ready) rd <= rd + 1'b1;
        end
    end
endmodule

// No deadlock: while both sides keep nothing waiting for more than 3 cycles, something moves or the block works for at most LIMIT cycles.
module still_watch #(parameter LIMIT = 8) (input clk, input rst, input s_valid, input m_valid, input m_ready, input moves);
    reg [1:0] wait_s = 0, wait_m = 0;
    reg [7:0] still = 0;
    always @(posedge clk) begin
        wait_s <= rst || s_valid ? 0 : wait_s + 1;
        wait_m <= rst || !m_valid || m_ready ? 0 : wait_m + 1;
        still <= rst || moves ? 0 : still + 1;
    end
    always @* begin
        assume (wait_s != 3 || s_valid);
        assume (wait_m != 3 || m_ready || !m_valid);
        if (!rst) assert (still < LIMIT);
    end
endmodule

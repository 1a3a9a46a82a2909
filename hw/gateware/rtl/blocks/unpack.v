// Frames of BYTES bytes from a 32-bit AXI4-Stream, four to a beat, first byte lowest, to beats of LANES bytes (1, 2 or 4, dividing BYTES).
//
// tlast before the last beat of a frame: err_short for a cycle, zeros complete the frame. No tlast at the last beat: err_long for a cycle,
// beats up to and with tlast are dropped. When the frame's last beat is known, one bit says whether it was right (f_bad, f_valid for a
// cycle); no beat is taken while f_ready = 0.
module unpack #(
    parameter BYTES = 16, parameter LANES = 1
) (
    input clk, input rst,
    input [31:0] s_tdata, input s_tvalid, input s_tlast, output s_tready,
    output [8*LANES-1:0] m_data, output m_valid, input m_ready,
    output f_valid, output f_bad, input f_ready,
    output reg err_short, output reg err_long
);
    localparam BEATS = (BYTES + 3) / 4;
    localparam BW = BEATS > 1 ? $clog2(BEATS) : 1;
    localparam [2:0] FULL = 4 / LANES, REST = (BYTES - 4 * (BEATS - 1)) / LANES;
    reg [31:0] held;
    reg [2:0] left;                                     // lane beats still in `held`
    reg [BW-1:0] beat;                                  // index of the next beat of the frame
    reg filling, dropping;
    wire room = left == 0 || (left == 1 && m_ready);
    wire last = beat == BEATS - 1;
    assign s_tready = dropping || (room && !filling && f_ready);
    wire taken = s_tvalid && s_tready;
    wire enters = taken && !dropping;
    wire load = enters || (filling && room);
    assign m_data = held[8*LANES-1:0];
    assign m_valid = left != 0;
    assign f_valid = enters && (last || s_tlast);
    assign f_bad = last != s_tlast;
    always @(posedge clk) begin
        if (load) held <= filling ? 32'd0 : s_tdata;
        else if (m_ready) held <= held >> (8 * LANES);
        if (rst) begin
            left <= 0; beat <= 0; filling <= 0; dropping <= 0; err_short <= 0; err_long <= 0;
        end else begin
            if (load) left <= last ? REST : FULL;
            else if (m_valid && m_ready) left <= left - 1'b1;
            if (load) beat <= last ? 0 : beat + 1'b1;
            if (filling ? room && last : enters && s_tlast && !last) filling <= !filling;
            if (dropping ? taken && s_tlast : enters && last && !s_tlast) dropping <= !dropping;
            err_short <= enters && s_tlast && !last;
            err_long <= enters && !s_tlast && last;
        end
    end
endmodule

// Logits of 8 bits, one a beat, CLASSES to an answer, to a 32-bit AXI4-Stream: four to a beat, first lowest, zeros after the last, tlast.
//
// An answer starts when its frame's bit is there (f_valid); where f_bad = 1 its logits are taken and dropped. f_ready takes the bit.
module pack #(
    parameter CLASSES = 10
) (
    input clk, input rst,
    input [7:0] s_data, input s_valid, output s_ready,
    input f_bad, input f_valid, output f_ready,
    output reg [31:0] m_tdata, output reg m_tvalid, output reg m_tlast, input m_tready
);
    localparam CW = CLASSES > 1 ? $clog2(CLASSES) : 1;
    reg [CW-1:0] index;
    reg [23:0] held;                                    // up to three logits before this one
    reg [1:0] count;
    wire last = index == CLASSES - 1;
    assign s_ready = f_valid && (!m_tvalid || m_tready);
    wire taken = s_valid && s_ready;
    assign f_ready = taken && last;
    wire [31:0] word = {24'd0, s_data} << {count, 3'd0} | {8'd0, held};
    always @(posedge clk) begin
        if (taken) begin
            m_tdata <= word;
            m_tlast <= last;
            held <= last || count == 3 ? 24'd0 : word[23:0];
        end
        if (rst) begin
            m_tvalid <= 0; index <= 0; count <= 0; held <= 0;
        end else begin
            if (taken) begin
                index <= last ? 0 : index + 1'b1;
                count <= last ? 0 : count + 1'b1;
            end
            if (taken) m_tvalid <= !f_bad && (last || count == 3);
            else if (m_tready) m_tvalid <= 0;
        end
    end
endmodule

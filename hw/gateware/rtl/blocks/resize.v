// Beats of IN elements to beats of OUT elements of BITS bits, order kept, lowest element first; one of IN, OUT divides the other.
//
// A beat a cycle on the narrow side, whatever the other does; equal widths are wires.
module resize #(
    parameter BITS = 8, parameter IN = 1, parameter OUT = 1
) (
    input clk, input rst,
    input [IN*BITS-1:0] s_data, input s_valid, output s_ready,
    output [OUT*BITS-1:0] m_data, output m_valid, input m_ready
);
    localparam RATIO = IN > OUT ? IN / OUT : OUT / IN;
    localparam NARROW = IN > OUT ? OUT : IN;
    localparam WIDE = IN > OUT ? IN : OUT;
    generate
        if (IN == OUT) begin : wires
            assign m_data = s_data;
            assign m_valid = s_valid;
            assign s_ready = m_ready;
        end else if (IN < OUT) begin : gather
            localparam CW = $clog2(RATIO + 1);
            localparam [CW-1:0] ALL = RATIO;
            reg [WIDE*BITS-1:0] held;
            reg [CW-1:0] count; // beats held
            assign m_data = held;
            assign m_valid = count == ALL;
            assign s_ready = count != ALL || m_ready;
            always @(posedge clk) begin
                if (s_valid && s_ready) held <= {s_data, held[WIDE*BITS-1:NARROW*BITS]};
                if (rst) count <= 0;
                else if (m_valid && m_ready) count <= {{CW-1{1'b0}}, s_valid};
                else if (s_valid && s_ready) count <= count + 1'b1;
            end
        end else begin : scatter
            localparam IW = $clog2(RATIO);
            reg [WIDE*BITS-1:0] held;
            reg [IW-1:0] index; // beat to give
            reg full;
            wire last = index == RATIO - 1;
            assign m_data = held[index*NARROW*BITS +: NARROW*BITS];
            assign m_valid = full;
            assign s_ready = !full || (last && m_ready);
            always @(posedge clk) begin
                if (s_valid && s_ready) held <= s_data;
                if (rst) begin
                    full <= 0; index <= 0;
                end else begin
                    if (s_ready) full <= s_valid;
                    if (m_valid && m_ready) index <= last ? 0 : index + 1'b1;
                end
            end
        end
    endgenerate
endmodule

// Largest of SF beats, element by element: PE elements of BITS bits a beat; one beat out for every SF in.
module maxpool #(
    parameter BITS = 4, parameter PE = 1, parameter SF = 4
) (
    input clk, input rst,
    input [PE*BITS-1:0] s_data, input s_valid, output s_ready,
    output [PE*BITS-1:0] m_data, output m_valid, input m_ready
);
    localparam SFW = $clog2(SF + 1);
    reg valid;
    reg [SFW-1:0] beat;
    wire en = !valid || m_ready;
    reg first, last;
    assign s_ready = en;
    assign m_valid = valid;
    always @(posedge clk)
        if (rst) begin
            valid <= 0; beat <= 0; first <= 1; last <= SF == 1;
        end else if (en) begin
            valid <= s_valid && last;
            if (s_valid) begin
                beat <= last ? 0 : beat + 1'b1;
                first <= last;
                last <= SF == 1 || (!last && beat == SF - 2);
            end
        end
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : element
            reg [BITS-1:0] best;
            wire [BITS-1:0] x = s_data[p*BITS +: BITS];
            always @(posedge clk) if (en && s_valid && (first || x > best)) best <= x;
            assign m_data[p*BITS +: BITS] = best;
        end
    endgenerate
endmodule

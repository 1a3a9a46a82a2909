// Accumulator to activation: acc * 2^-shift, halves to even, clipped to 0 .. 2^OUT-1 (SIGNED = 0) or -2^(OUT-1) .. 2^(OUT-1)-1.
//
// shift = SMIN + select. acc (signed) already holds 2^(shift-1) more than the sum where shift > 0, so that rounding is a cut and only
// the exact half, all bits cut being 0, needs care: its result becomes even. Two enabled edges from acc to y.
module requantise #(
    parameter ACC = 12, parameter OUT = 4, parameter SIGNED = 0, parameter SMIN = 0, parameter SB = 1, parameter SPAN = 1
) (
    input clk, input en, input [ACC-1:0] acc, input [SB-1:0] select, output reg [OUT-1:0] y
);
    // select is 0 .. SPAN. EW: acc, extended so that every shift leaves OUT + 1 bits.
    localparam SMAX = SMIN + SPAN;
    localparam EW = ACC > SMIN + OUT + 1 ? ACC : SMIN + OUT + 1;
    localparam YW = EW - SMIN;
    wire signed [EW-1:0] wide = $signed({{EW-ACC+1{acc[ACC-1]}}, acc[ACC-2:0]});
    wire signed [YW-1:0] cut = $signed(wide[EW-1:SMIN]);
    wire signed [YW-1:0] shifted;
    wire half;
    genvar i;
    generate
        if (SPAN == 0) begin : fixed
            assign shifted = cut;
        end else begin : variable
            assign shifted = cut >>> select;
        end
        if (SMAX == 0) begin : whole
            assign half = 1'b0;
        end else begin : fraction
            wire [SMAX-1:0] lost;
            for (i = 0; i < SMAX; i = i + 1) begin : bits
                if (i < SMIN) assign lost[i] = wide[i];
                else assign lost[i] = wide[i] && select > i - SMIN;
            end
            assign half = ~|lost && (SMIN != 0 || select != 0);
        end
    endgenerate
    reg signed [YW-1:0] t;
    wire below = t[YW-1];
    always @(posedge clk) if (en) t <= {shifted[YW-1:1], shifted[0] && !half};
    generate
        if (SIGNED) begin : signed_clip
            wire outside = t[YW-1:OUT-1] != {YW-OUT+1{below}};
            always @(posedge clk) if (en) y <= outside ? {below, {OUT-1{!below}}} : t[OUT-1:0];
        end else begin : unsigned_clip
            wire above = |t[YW-1:OUT];
            always @(posedge clk) if (en) y <= below ? {OUT{1'b0}} : above ? {OUT{1'b1}} : t[OUT-1:0];
        end
    endgenerate
endmodule

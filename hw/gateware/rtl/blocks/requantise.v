// Accumulator to activation: acc * 2^-shift, halves to even, clipped to 0 .. 2^OUT-1 (SIGNED = 0) or -2^(OUT-1) .. 2^(OUT-1)-1.
//
// shift = SMIN + select, select in 0 .. SPAN. acc (signed) already holds 2^(shift-1) more than the sum where shift > 0, so that rounding is
// a cut and only the exact half, all bits cut being 0, needs care: its result becomes even. One enabled edge from acc to y.
module requantise #(
    parameter ACC = 12, parameter OUT = 4, parameter SIGNED = 0, parameter SMIN = 0, parameter SB = 1, parameter SPAN = 1
) (
    input clk, input en, input [ACC-1:0] acc, input [SB-1:0] select, output reg [OUT-1:0] y
);
    localparam TOP = SIGNED ? OUT - 1 : OUT;            // bits of the result below its sign
    localparam SMAX = SMIN + SPAN;
    localparam EW = ACC > SMAX + OUT + 1 ? ACC : SMAX + OUT + 1;
    wire below = acc[ACC-1];
    wire [EW-1:0] wide = {{EW-ACC+1{below}}, acc[ACC-2:0]};
    wire [OUT-1:0] shifted;
    wire [EW-1:SMIN+TOP] high;                          // bits above the result that differ from the sign
    wire half;
    genvar i;
    generate
        if (SPAN == 0) begin : fixed
            assign shifted = wide[SMIN +: OUT];
        end else begin : variable
            wire [OUT+SPAN-1:0] cut = wide[SMIN +: OUT+SPAN];
            wire [OUT+SPAN-1:0] moved = cut >> select;
            assign shifted = moved[OUT-1:0];
        end
        for (i = SMIN + TOP; i < EW; i = i + 1) begin : above
            if (i < SMAX + TOP) assign high[i] = (wide[i] != below) && select <= i - SMIN - TOP;
            else assign high[i] = wide[i] != below;
        end
        if (SMAX == 0) begin : whole
            assign half = 1'b0;
        end else begin : fraction
            wire [SMAX-1:0] lost;
            for (i = 0; i < SMAX; i = i + 1) begin : cut_off
                if (i < SMIN) assign lost[i] = wide[i];
                else assign lost[i] = wide[i] && select > i - SMIN;
            end
            assign half = ~|lost && (SMIN != 0 || select != 0);
        end
        if (SIGNED) begin : signed_clip
            always @(posedge clk) if (en) y <= |high ? {below, {OUT-1{!below}}} : {shifted[OUT-1:1], shifted[0] && !half};
        end else begin : unsigned_clip
            always @(posedge clk) if (en) y <= below ? {OUT{1'b0}} : |high ? {OUT{1'b1}} : {shifted[OUT-1:1], shifted[0] && !half};
        end
    endgenerate
endmodule

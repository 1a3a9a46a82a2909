// requantise: for every accumulator and every shift the naive rule, half to even and clipped.
module requantise_check #(parameter ACC = 12, parameter OUT = 4, parameter SIGNED = 0, parameter SMIN = 1, parameter SB = 2, parameter SPAN = 3) (
    input clk, input [ACC-1:0] acc, input [SB-1:0] select
);
    localparam signed [31:0] TOP = SIGNED ? (1 << (OUT - 1)) - 1 : (1 << OUT) - 1, BOTTOM = SIGNED ? -(1 << (OUT - 1)) : 0;
    wire [OUT-1:0] y;
    requantise #(.ACC(ACC), .OUT(OUT), .SIGNED(SIGNED), .SMIN(SMIN), .SB(SB), .SPAN(SPAN)) dut (.clk(clk), .en(1'b1), .acc(acc), .select(select), .y(y));
    always @* assume (select <= SPAN);
    reg past = 0;
    reg signed [31:0] sum;              // without the half that rounding adds
    reg [5:0] shift;
    wire [5:0] now = SMIN + select;
    wire signed [31:0] wide = {{32-ACC{acc[ACC-1]}}, acc};
    always @(posedge clk) begin
        past <= 1;
        shift <= now;
        sum <= now == 0 ? wide : wide - (32'sd1 <<< (now - 1));
    end
    wire signed [31:0] floor = sum >>> shift, rest = sum - (floor <<< shift), half = shift == 0 ? 1 : 32'sd1 <<< (shift - 1);
    wire signed [31:0] rounded = shift == 0 || rest < half ? floor : rest > half ? floor + 1 : floor[0] ? floor + 1 : floor;
    wire signed [31:0] clipped = rounded > TOP ? TOP : rounded < BOTTOM ? BOTTOM : rounded;
    always @* if (past) assert (y == clipped[OUT-1:0]);
endmodule

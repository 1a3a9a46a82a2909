// Sum of N unsigned numbers of W bits: sum has W + clog2(N) bits and belongs to the input of LATENCY enabled edges before.
//
// A register after every EVERY levels, counted from the last: LATENCY = ceil(clog2(N) / EVERY), 0 for N = 1. en = 0 holds everything.
// EVERY = 1 is also the smallest: yosys turns adders that follow each other without a register into carry-save adders, of more LUTs.
module adder_tree #(
    parameter N = 2, parameter W = 4, parameter EVERY = 1
) (
    input clk, input en, input [N*W-1:0] terms, output [W+$clog2(N)-1:0] sum
);
    localparam LEVELS = $clog2(N);
    genvar l, i;
    generate
        for (l = 0; l <= LEVELS; l = l + 1) begin : level
            localparam COUNT = (N + (1 << l) - 1) >> l;
            localparam WIDTH = W + l;
            wire [COUNT*WIDTH-1:0] v;
            if (l == 0) begin : leaves
                assign v = terms;
            end else begin : adders
                localparam BEFORE = (N + (1 << (l - 1)) - 1) >> (l - 1);
                wire [COUNT*WIDTH-1:0] s;
                for (i = 0; i < COUNT; i = i + 1) begin : adder
                    if (2 * i + 1 < BEFORE) begin : two
                        assign s[i*WIDTH +: WIDTH] = {1'b0, level[l-1].v[(2*i)*(WIDTH-1) +: WIDTH-1]}
                            + {1'b0, level[l-1].v[(2*i+1)*(WIDTH-1) +: WIDTH-1]};
                    end else begin : one
                        assign s[i*WIDTH +: WIDTH] = {1'b0, level[l-1].v[(2*i)*(WIDTH-1) +: WIDTH-1]};
                    end
                end
                if ((LEVELS - l) % EVERY == 0) begin : registered
                    reg [COUNT*WIDTH-1:0] q;
                    always @(posedge clk) if (en) q <= s;
                    assign v = q;
                end else begin : through
                    assign v = s;
                end
            end
        end
    endgenerate
    assign sum = level[LEVELS].v;
endmodule

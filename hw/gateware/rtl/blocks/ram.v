// Memory of 2^AW words of WIDTH bits, one write and one read port; rdata is the word at raddr of the last edge with re = 1.
//
// Its user never reads a word in the cycle that writes it. BLOCK = 1 asks for block RAM, 0 for LUT RAM.
module ram #(
    parameter WIDTH = 8, parameter AW = 4, parameter BLOCK = 0
) (
    input clk,
    input we, input [AW-1:0] waddr, input [WIDTH-1:0] wdata,
    input re, input [AW-1:0] raddr, output [WIDTH-1:0] rdata
);
    reg [WIDTH-1:0] word;
    assign rdata = word;
    generate
        if (BLOCK) begin : block
            (* ram_style = "block" *) reg [WIDTH-1:0] mem [0:(1<<AW)-1];
            always @(posedge clk) begin
                if (we) mem[waddr] <= wdata;
                if (re) word <= mem[raddr];
            end
        end else begin : distributed
            (* ram_style = "distributed" *) reg [WIDTH-1:0] mem [0:(1<<AW)-1];
            always @(posedge clk) begin
                if (we) mem[waddr] <= wdata;
                if (re) word <= mem[raddr];
            end
        end
    endgenerate
endmodule

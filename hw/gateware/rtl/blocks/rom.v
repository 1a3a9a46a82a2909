// Read-only memory of DEPTH words of WIDTH bits, read from FILE (hex, $readmemh, path relative to the directory of the design).
//
// q is word `addr` of the last rising edge with en = 1; with DEPTH = 1 it is word 0 at all times. BLOCK = 1 asks for block RAM.
module rom #(
    parameter WIDTH = 8, parameter DEPTH = 2, parameter AW = 1, parameter BLOCK = 0, parameter FILE = ""
) (
    input clk, input en, input [AW-1:0] addr, output [WIDTH-1:0] q
);
    generate
        if (DEPTH == 1) begin : single
            reg [WIDTH-1:0] mem [0:0];
            initial $readmemh(FILE, mem);
            assign q = mem[0];
        end else if (BLOCK) begin : block
            (* rom_style = "block", ram_style = "block" *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            reg [WIDTH-1:0] word;
            initial $readmemh(FILE, mem);
            always @(posedge clk) if (en) word <= mem[addr];
            assign q = word;
        end else begin : logic_rom
            (* rom_style = "distributed", ram_style = "logic" *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            reg [WIDTH-1:0] word;
            initial $readmemh(FILE, mem);
            always @(posedge clk) if (en) word <= mem[addr];
            assign q = word;
        end
    endgenerate
endmodule

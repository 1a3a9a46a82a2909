// One end of a stream: what waits stays as it is; counts the beats that have moved. MINE = 1: the block's output, asserted; 0: its input, assumed.
module stream_watch #(parameter WIDTH = 8, parameter MINE = 1, parameter BITS = 8) (
    input clk, input rst, input [WIDTH-1:0] data, input valid, input ready, output reg [BITS-1:0] count, output moves
);
    reg waits = 0;
    reg [WIDTH-1:0] was;
    assign moves = valid && ready && !rst;
    always @(posedge clk) begin
        waits <= !rst && valid && !ready;
        was <= data;
        count <= rst ? 0 : count + moves;
    end
    generate
        if (MINE) begin : asserted
            always @* if (!rst && waits) assert (valid && data == was);
        end else begin : assumed
            always @* if (!rst && waits) assume (valid && data == was);
        end
    endgenerate
endmodule

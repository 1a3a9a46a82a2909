// First-in first-out store of 2^LOG words in LUT RAM: in and out are valid/ready streams, `out_data` is the oldest word.
module edgert_fifo #(
    parameter WIDTH = 64,
    parameter LOG = 6
) (
    input                  clk,
    input                  rst,
    input      [WIDTH-1:0] in_data,
    input                  in_valid,
    output                 in_ready,
    output     [WIDTH-1:0] out_data,
    output                 out_valid,
    input                  out_ready,
    output reg [LOG:0]     count        // words held
);
    reg [WIDTH-1:0] words [0:(1 << LOG)-1];
    reg [LOG-1:0] head;                 // next word out
    reg [LOG-1:0] tail;                 // next free place

    wire push = in_valid && in_ready;
    wire pop = out_valid && out_ready;

    assign in_ready = !count[LOG];
    assign out_valid = count != 0;
    assign out_data = words[head];

`ifdef FORMAL
    wire [LOG-1:0] spy;                 // a place that the proof looks at
    wire [WIDTH-1:0] spied = words[spy];
`endif

    always @(posedge clk)
        if (push) words[tail] <= in_data;

    always @(posedge clk)
        if (rst) begin
            head <= 0;
            tail <= 0;
            count <= 0;
        end else begin
            if (push) tail <= tail + 1'b1;
            if (pop) head <= head + 1'b1;
            if (push && !pop) count <= count + 1'b1;
            if (pop && !push) count <= count - 1'b1;
        end
endmodule

// Ternary multiply-accumulate: PE output channels at a time, SIMD inputs a beat, rounded and clipped.
//
// In: beats of SIMD inputs of BITS bits; SF beats make one result. Out: one beat of PE results of OUT bits for every SF beats in.
// NF groups of results in turn have their own weights and biases: result group g of a pixel is made by beats g*SF .. g*SF + SF - 1.
// SPREAD = 0: every channel sees all SIMD inputs (convolution, dense). SPREAD = 1: SIMD = PE and channel i sees input i (depthwise).
// UNIT = 1: all weights are +1, no memory (average pooling).
//
// Weights: word g*SF + f of WEIGHTS, two bits for each (channel p, input s) at 2*(p*SIMD + s), with SPREAD at 2*p: bit 0 "not zero",
// bit 1 "negative". A weight of -1 adds ~x = 2^BITS - 1 - x, so that all terms are unsigned; the bias, word g of BIASES, at
// p*(SB + ACC) ACC bits, makes up for it and holds the half for rounding; above it SB bits of shift - SMIN.
module mac #(
    parameter BITS = 4, parameter SIMD = 1, parameter PE = 1, parameter SF = 1, parameter NF = 1, parameter SPREAD = 0, parameter UNIT = 0,
    parameter ACC = 12, parameter OUT = 4, parameter SIGNED = 0, parameter SMIN = 0, parameter SB = 1, parameter SPAN = 1,
    parameter EVERY = 1, parameter BLOCK = 0, parameter WEIGHTS = "", parameter BIASES = ""
) (
    input clk, input rst,
    input [SIMD*BITS-1:0] s_data, input s_valid, output s_ready,
    output [PE*OUT-1:0] m_data, output m_valid, input m_ready
);
    localparam N = SPREAD ? 1 : SIMD;                   // terms of a channel in a beat
    localparam SUM = BITS + $clog2(N);
    localparam TREE = ($clog2(N) + EVERY - 1) / EVERY;  // latency of the adder tree
    localparam LATENCY = 1 + TREE;                      // edges from input to the accumulator's input
    localparam DEPTH = SF * NF;
    localparam AW = DEPTH > 1 ? $clog2(DEPTH) : 1, SFW = $clog2(SF + 1), NFW = NF > 1 ? $clog2(NF) : 1;

    reg [1:0] done;                                     // a result in the accumulator, in y of `requantise`
    reg [LATENCY-1:0] flow;                             // a beat in each stage before the accumulator
    assign m_valid = done[1];
    wire en = !m_valid || m_ready;
    assign s_ready = en;

    // Input and its weights.
    reg [SIMD*BITS-1:0] x;
    wire [2*PE*N-1:0] w;
    always @(posedge clk) if (en) x <= s_data;
    generate
        if (UNIT) begin : ones
            assign w = {PE*N{2'b01}};
        end else begin : weighted
            reg [AW-1:0] addr;
            rom #(.WIDTH(2*PE*N), .DEPTH(DEPTH), .AW(AW), .BLOCK(BLOCK), .FILE(WEIGHTS)) weights (.clk(clk), .en(en), .addr(addr), .q(w));
            always @(posedge clk)
                if (rst) addr <= 0;
                else if (en && s_valid) addr <= addr == DEPTH - 1 ? 0 : addr + 1'b1;
        end
    endgenerate

    // Which beat of a result, and which group of results, is at the accumulator.
    wire arrived = flow[LATENCY-1];
    reg [SFW-1:0] beat;
    reg first, last;                                    // beat == 0, beat == SF - 1: registers, since every accumulator looks at them
    reg [NFW-1:0] group;
    wire [NFW-1:0] group_next = en && arrived && last ? (group == NF - 1 ? 0 : group + 1'b1) : group;
    wire [PE*(SB+ACC)-1:0] bias;
    rom #(.WIDTH(PE*(SB+ACC)), .DEPTH(NF), .AW(NFW), .FILE(BIASES)) biases (.clk(clk), .en(1'b1), .addr(rst ? {NFW{1'b0}} : group_next), .q(bias));
    always @(posedge clk) begin
        if (rst) begin
            flow <= 0; done <= 0; beat <= 0; group <= 0; first <= 1; last <= SF == 1;
        end else if (en) begin
            flow <= {flow, s_valid};
            done <= {done[0], arrived && last};
            if (arrived) begin
                beat <= last ? 0 : beat + 1'b1;
                first <= last;
                last <= SF == 1 || (!last && beat == SF - 2);
            end
            group <= group_next;
        end
    end

    genvar p, s;
    generate
        for (p = 0; p < PE; p = p + 1) begin : channel
            wire [N*BITS-1:0] terms;
            for (s = 0; s < N; s = s + 1) begin : input_
                assign terms[s*BITS +: BITS] = {BITS{w[2*(p*N+s)]}} & ({BITS{w[2*(p*N+s)+1]}} ^ x[(SPREAD ? p : s)*BITS +: BITS]);
            end
            wire [SUM-1:0] sum;
            adder_tree #(.N(N), .W(BITS), .EVERY(EVERY)) tree (.clk(clk), .en(en), .terms(terms), .sum(sum));
            reg [ACC-1:0] acc;
            reg [SB-1:0] select;
            wire [SB+ACC-1:0] own = bias[p*(SB+ACC) +: SB+ACC];
            always @(posedge clk) if (en && arrived) begin
                acc <= sum + (first ? own[ACC-1:0] : acc);
                select <= own[ACC +: SB];
            end
            requantise #(.ACC(ACC), .OUT(OUT), .SIGNED(SIGNED), .SMIN(SMIN), .SB(SB), .SPAN(SPAN)) activation (
                .clk(clk), .en(en), .acc(acc), .select(select), .y(m_data[p*OUT +: OUT]));
        end
    endgenerate
endmodule

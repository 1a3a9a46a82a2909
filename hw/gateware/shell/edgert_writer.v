// Packs the core's answers into words of 8 bytes and writes them to memory, one burst at a time, its response awaited.
//
// A burst is started when all of it is stored, so that it never waits for the core: a reset finishes it in a few cycles.
module edgert_writer #(
    parameter ANSWER_BYTES = 10,
    parameter LOG = 5                   // 2^LOG words of 8 bytes are stored; at least 5
) (
    input             clk,
    input             rst,              // only while `idle`
    input             halt,             // start no further burst
    output            idle,             // no burst in flight
    input             job_valid,        // held, with the address, until `finished`
    input      [31:0] job_address,      // multiple of 8
    input             job_fetched,      // its frame has been read to the end
    input             job_refused,      // a word of its frame came with an error: drop the answer
    output reg        finished,         // pulse: the answer has been written, or dropped
    output reg        sound,            // with `finished`: written, and its frame was read without an error
    output reg        refused,          // pulse: a burst was answered with an error
    output reg [31:0] awaddr,
    output reg [3:0]  awlen,
    output reg        awvalid,
    input             awready,
    output reg [63:0] wdata,
    output reg        wlast,
    output reg        wvalid,
    input             wready,
    input      [1:0]  bresp,
    input             bvalid,
    output            bready,
    input      [31:0] tdata,
    input             tvalid,
    output            tready
);
    localparam BEATS = (ANSWER_BYTES + 3) / 4;
    localparam WORDS = (ANSWER_BYTES + 7) / 8;
    localparam BITS = $clog2(WORDS + 1) < 5 ? 5 : $clog2(WORDS + 1);
    localparam BEAT_BITS = $clog2(BEATS + 1);
    /* verilator lint_off WIDTH */
    localparam [BITS-1:0] ANSWER_WORDS = WORDS;
    localparam [BEAT_BITS-1:0] LAST_BEAT = BEATS - 1;
    /* verilator lint_on WIDTH */
    localparam [2:0] IDLE = 0, PLAN = 1, WAIT = 2, DROP = 3, SEND = 4, REPLY = 5, NEXT = 6, FINISH = 7;

    // Beats to words.
    reg                 half;
    reg [31:0]          low;
    reg [BEAT_BITS-1:0] beat;
    wire last = beat == LAST_BEAT;
    wire beat_taken = tvalid && tready;
    wire [63:0] word;
    wire        word_valid;
    wire        pop;
    wire [LOG:0] held;

    edgert_fifo #(.WIDTH(64), .LOG(LOG)) store (
        .clk(clk), .rst(rst), .in_data(half ? {tdata, low} : {32'd0, tdata}), .in_valid(beat_taken && (half || last)), .in_ready(tready),
        .out_data(word), .out_valid(word_valid), .out_ready(pop), .count(held)
    );

    always @(posedge clk)
        if (rst) begin
            half <= 1'b0;
            beat <= 0;
        end else if (beat_taken) begin
            half <= !half && !last;
            beat <= last ? {BEAT_BITS{1'b0}} : beat + 1'b1;
        end

    always @(posedge clk)
        if (beat_taken) low <= tdata;

    // Bursts.
    reg [2:0]      state;
    reg [28:0]     address;             // of the next burst, in words
    reg [BITS-1:0] left;                // words of the answer not yet written
    reg [4:0]      burst;
    reg [4:0]      unsent;              // words of the burst not yet handed to the W channel, or not yet dropped
    reg            final_burst;
    reg            ready;               // all words of the burst are stored
    reg            broken;              // a burst of this answer was answered with an error
    wire [4:0] line = 5'd16 - {1'b0, address[3:0]};
    wire       fits = left <= {{(BITS-5){1'b0}}, line};
    wire       load = state == SEND && unsent != 0 && (!wvalid || wready);
    wire [4:0] burst_less = burst - 5'd1;

    assign pop = load || (state == DROP && unsent != 0);
    assign bready = state == REPLY;
    assign idle = state != SEND && state != REPLY;

    always @(posedge clk)
        if (rst) begin
            state <= IDLE;
            awvalid <= 1'b0;
            wvalid <= 1'b0;
            finished <= 1'b0;
            refused <= 1'b0;
        end else begin
            finished <= 1'b0;
            refused <= 1'b0;
            if (awready) awvalid <= 1'b0;
            if (load) wvalid <= 1'b1;
            else if (wready) wvalid <= 1'b0;
            case (state)
                IDLE:
                    if (job_valid && !finished) state <= PLAN;
                PLAN:
                    state <= WAIT;
                WAIT:
                    if (ready && !halt) begin
                        state <= job_refused || broken ? DROP : SEND;
                        awvalid <= !job_refused && !broken;
                    end
                DROP:
                    if (unsent == 0) state <= NEXT;
                SEND:
                    if (unsent == 0 && !awvalid && !wvalid) state <= REPLY;
                REPLY:
                    if (bvalid) begin
                        state <= NEXT;
                        refused <= bresp[1];
                    end
                NEXT:
                    state <= final_burst ? FINISH : PLAN;
                FINISH:
                    if (job_fetched) begin
                        state <= IDLE;
                        finished <= 1'b1;
                    end
            endcase
        end

    always @(posedge clk) begin
        ready <= state == WAIT && held >= {{(LOG-4){1'b0}}, burst};
        sound <= !broken && !job_refused;
        if (state == IDLE) begin
            address <= job_address[31:3];
            left <= ANSWER_WORDS;
            broken <= 1'b0;
        end
        if (state == PLAN) begin
            burst <= fits ? left[4:0] : line;
            final_burst <= fits;
        end
        if (state == WAIT) begin
            unsent <= burst;
            awaddr <= {address, 3'd0};
            awlen <= burst_less[3:0];
        end
        if (pop) unsent <= unsent - 5'd1;
        if (load) begin
            wdata <= word;
            wlast <= unsent == 5'd1;
        end
        if (bready && bvalid && bresp[1]) broken <= 1'b1;
        if (state == NEXT) begin
            left <= left - {{(BITS-5){1'b0}}, burst};
            address <= {address[28:4] + 25'd1, 4'd0};
        end
    end

    wire unused = &{1'b0, bresp[0], job_address[2:0], burst_less[4], word_valid};
endmodule

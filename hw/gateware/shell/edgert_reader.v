// Reads frames from memory in bursts and hands them to the core, four bytes a beat.
//
// A burst ends at the next 128-byte line: at most 16 beats of 8 bytes, none across 4 kB. A burst is asked for only when the store has room
// for all of it, so `rready` is always 1 and a stalled core never blocks the memory port. One id: answers come in order.
module edgert_reader #(
    parameter FRAME_BYTES = 784,
    parameter LOG = 6                   // 2^LOG words of 8 bytes are stored; at least 5
) (
    input             clk,
    input             rst,              // only while `idle`
    input             halt,             // start no further burst
    output reg        idle,             // no burst in flight
    input             job_valid,
    output            job_ready,
    input      [31:0] job_address,      // multiple of 8
    output reg        fetched,          // pulse: the last word of the oldest unfinished frame has come
    output reg        refused,          // pulse, with `fetched` or before: a word of that frame came with an error
    output reg [31:0] araddr,
    output reg [3:0]  arlen,
    output reg        arvalid,
    input             arready,
    input      [63:0] rdata,
    input      [1:0]  rresp,
    input             rvalid,
    output            rready,
    output reg [31:0] tdata,
    output reg        tvalid,
    output reg        tlast,
    input             tready
);
    localparam BEATS = (FRAME_BYTES + 3) / 4;
    localparam WORDS = (FRAME_BYTES + 7) / 8;
    localparam BITS = $clog2(WORDS + 1) < 5 ? 5 : $clog2(WORDS + 1);
    localparam BEAT_BITS = $clog2(BEATS + 1);
    localparam [31:0] LAST_MASK = 32'hFFFFFFFF >> (8 * (4 * BEATS - FRAME_BYTES));
    /* verilator lint_off WIDTH */      // constants of 32 bits into counters that hold them
    localparam [BITS-1:0] FRAME_WORDS = WORDS;
    localparam [BITS-1:0] LAST_WORD = WORDS - 1;
    localparam [BEAT_BITS-1:0] LAST_BEAT = BEATS - 1;
    localparam [LOG:0] ROOM = 1 << LOG;
    /* verilator lint_on WIDTH */

    // Bursts: plan, then issue.
    reg            have;                // a frame is being asked for
    reg            planned;
    reg            final_burst;
    reg [28:0]     address;             // of the next burst, in words
    reg [BITS-1:0] left;                // words not yet asked for
    reg [4:0]      burst;               // words of the planned burst
    reg [LOG:0]    room;                // words of the store neither filled nor promised to a burst
    reg [LOG:0]    flight;              // words asked for and not yet come
    wire           pop;

    wire [4:0] line = 5'd16 - {1'b0, address[3:0]};
    wire       fits = left <= {{(BITS-5){1'b0}}, line};
    wire       issue = planned && !arvalid && !halt && room[LOG:4] != 0;
    wire [4:0] asked = issue ? burst : 5'd0;
    wire [4:0] burst_less = burst - 5'd1;

    assign job_ready = !have;
    assign rready = 1'b1;

    always @(posedge clk)
        if (rst) begin
            have <= 1'b0;
            planned <= 1'b0;
            arvalid <= 1'b0;
            room <= ROOM;
            flight <= 0;
            idle <= 1'b1;
        end else begin
            if (!have) begin
                have <= job_valid;
                address <= job_address[31:3];
                left <= FRAME_WORDS;
            end else if (!planned) begin
                planned <= 1'b1;
                burst <= fits ? left[4:0] : line;
                final_burst <= fits;
            end else if (issue) begin
                planned <= 1'b0;
                have <= !final_burst;
                address <= {address[28:4] + 25'd1, 4'd0};
                left <= left - {{(BITS-5){1'b0}}, burst};
                araddr <= {address, 3'd0};
                arlen <= burst_less[3:0];
            end
            if (issue) arvalid <= 1'b1;
            else if (arready) arvalid <= 1'b0;
            room <= room - {{(LOG-4){1'b0}}, asked} + {{LOG{1'b0}}, pop};
            flight <= flight + {{(LOG-4){1'b0}}, asked} - {{LOG{1'b0}}, rvalid};
            idle <= !issue && !arvalid && flight == 0;
        end

    // What has come, word by word.
    reg [BITS-1:0] come;                // words of the oldest unfinished frame that have come

    always @(posedge clk)
        if (rst) begin
            come <= 0;
            fetched <= 1'b0;
            refused <= 1'b0;
        end else begin
            fetched <= rvalid && come == LAST_WORD;
            refused <= rvalid && rresp[1];
            if (rvalid) come <= come == LAST_WORD ? {BITS{1'b0}} : come + 1'b1;
        end

    wire [63:0] word;
    wire        word_valid;
    wire        store_ready;            // always 1 where it matters: proved in formal/
    wire [LOG:0] held;

    edgert_fifo #(.WIDTH(64), .LOG(LOG)) store (
        .clk(clk), .rst(rst), .in_data(rdata), .in_valid(rvalid), .in_ready(store_ready),
        .out_data(word), .out_valid(word_valid), .out_ready(pop), .count(held)
    );

    // Words to beats; the last beat is filled with zeros whatever lies behind the frame in memory.
    reg                 half;           // the upper half of the word is next
    reg [BEAT_BITS-1:0] beat;
    wire last = beat == LAST_BEAT;
    wire take = !tvalid || tready;
    wire [31:0] part = half ? word[63:32] : word[31:0];

    assign pop = take && word_valid && (half || last);

    always @(posedge clk)
        if (rst) begin
            tvalid <= 1'b0;
            half <= 1'b0;
            beat <= 0;
        end else if (take) begin
            tvalid <= word_valid;
            if (word_valid) begin
                half <= !half && !last;
                beat <= last ? {BEAT_BITS{1'b0}} : beat + 1'b1;
            end
        end

    always @(posedge clk)
        if (take) begin
            tdata <= last ? part & LAST_MASK : part;
            tlast <= last;
        end

    wire unused = &{1'b0, rresp[0], job_address[2:0], burst_less[4], store_ready, held};
endmodule

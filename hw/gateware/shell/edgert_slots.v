// Takes STARTs of the two slots in their order, checks their addresses, hands them to reader and writer, keeps their states and times,
// and carries a soft reset through: no new burst, transfers in flight drained, then `clear` for a cycle.
module edgert_slots #(
    parameter FRAME_BYTES = 784,
    parameter ANSWER_BYTES = 10
) (
    input             clk,
    input             rst,
    // from and to the registers
    input      [1:0]  start,            // pulses
    input      [1:0]  acknowledge,      // pulses
    input             soft_reset,       // pulse
    input      [31:0] source0, target0, source1, target1,
    input      [31:0] window_low, window_high,
    input      [31:0] timeout,          // 0: none
    output reg [1:0]  busy,
    output reg [1:0]  done,
    output reg [1:0]  failed,
    output reg        resetting,
    output            clear,            // last cycle of a reset
    output reg [31:0] cycles0, cycles1,
    output reg [31:0] answers,
    output reg        outside,          // pulses: an error each
    output reg        overrun,
    output reg        late,
    // reader
    output            read_valid,
    input             read_ready,
    output     [31:0] read_address,
    input             fetched,
    input             refused,
    // writer
    output            write_valid,
    output     [31:0] write_address,
    output            write_fetched,
    output            write_refused,
    input             finished,
    input             sound,
    // both
    output            halt,
    input             idle,
    output reg        core_rst
);
    localparam [31:0] FRAME_ROOM = (FRAME_BYTES + 7) / 8 * 8;
    localparam [31:0] ANSWER_ROOM = (ANSWER_BYTES + 7) / 8 * 8;
    localparam [2:0] REST = 0, ENDS = 1, COMPARE = 2, DECIDE = 3, OFFER = 4;

    wire all = rst || clear;

    // STARTs: slots go through the check in the order of their STARTs. Both wait only where both were started at once: slot 0 first.
    reg [1:0]  waiting;
    reg [2:0]  check;
    reg        slot;                    // under check
    reg [31:0] source, target;
    reg [32:0] source_end, target_end;
    reg [4:0]  legal;
    wire next = !waiting[0];
    wire [1:0] fresh = start & ~busy;
    wire wrong = check == DECIDE && !(&legal);
    wire [1:0] checked = check == REST ? {next && waiting[1], !next && waiting[0]} : 2'b00;

    assign read_valid = check == OFFER;
    assign read_address = source;

    always @(posedge clk)
        if (all) begin
            waiting <= 2'b00;
            check <= REST;
        end else begin
            waiting <= (waiting & ~checked) | fresh;
            case (check)
                REST: if (waiting != 0) check <= ENDS;
                ENDS: check <= COMPARE;
                COMPARE: check <= DECIDE;
                DECIDE: check <= wrong ? REST : OFFER;
                default: if (read_ready) check <= REST;
            endcase
        end

    always @(posedge clk) begin
        if (check == REST) begin
            slot <= next;
            source <= next ? source1 : source0;
            target <= next ? target1 : target0;
        end
        source_end <= {1'b0, source} + {1'b0, FRAME_ROOM};
        target_end <= {1'b0, target} + {1'b0, ANSWER_ROOM};
        legal <= {source[2:0] == 0 && target[2:0] == 0, source >= window_low, target >= window_low,
                  source_end <= {1'b0, window_high}, target_end <= {1'b0, window_high}};
    end

    // Frames on their way, oldest first: taken by the reader, not yet answered.
    reg        here0, here1, slot0, slot1, fetched0, fetched1, refused0, refused1;
    reg [31:0] address0, address1;
    wire taken = read_valid && read_ready;
    wire refused0_now = refused0 || (refused && !fetched0);
    wire refused1_now = refused1 || (refused && fetched0);
    wire fetched0_now = fetched0 || fetched;
    wire fetched1_now = fetched1 || (fetched && fetched0);

    assign write_valid = here0;
    assign write_address = address0;
    assign write_fetched = fetched0;
    assign write_refused = refused0;

    always @(posedge clk)
        if (all) begin
            here0 <= 1'b0;
            here1 <= 1'b0;
            fetched0 <= 1'b0;
            fetched1 <= 1'b0;
        end else begin
            here0 <= finished ? here1 || taken : here0 || taken;
            here1 <= finished ? here1 && taken : here1 || (here0 && taken);
            if (finished || !here0) begin
                fetched0 <= finished && here1 && fetched1_now;
                fetched1 <= 1'b0;
            end else begin
                fetched0 <= fetched0_now;
                fetched1 <= here1 && fetched1_now;
            end
        end

    always @(posedge clk) begin
        if (finished || !here0) begin
            refused0 <= here1 && refused1_now;
            refused1 <= 1'b0;
            slot0 <= here1 ? slot1 : slot;
            address0 <= here1 ? address1 : target;
        end else begin
            refused0 <= refused0_now;
            refused1 <= here1 && refused1_now;
        end
        if (taken) begin
            slot1 <= slot;
            address1 <= target;
        end
    end

    // States and times.
    wire [1:0] ends = finished ? (slot0 ? 2'b10 : 2'b01) : 2'b00;
    wire [1:0] wrongs = wrong ? (slot ? 2'b10 : 2'b01) : 2'b00;
    reg [1:0] over, warned;

    always @(posedge clk)
        if (all) begin
            busy <= 2'b00;
            done <= 2'b00;
            failed <= 2'b00;
            answers <= 0;
            cycles0 <= 0;
            cycles1 <= 0;
            outside <= 1'b0;
            overrun <= 1'b0;
            late <= 1'b0;
            over <= 2'b00;
            warned <= 2'b00;
        end else begin
            busy <= (busy & ~ends & ~wrongs) | fresh;
            done <= (done & ~acknowledge & ~fresh) | (sound ? ends : 2'b00);
            failed <= (failed & ~fresh) | (sound ? 2'b00 : ends) | wrongs;
            if (finished && sound) answers <= answers + 1;
            if (fresh[0]) cycles0 <= 0;
            else if (busy[0]) cycles0 <= cycles0 + 1;
            if (fresh[1]) cycles1 <= 0;
            else if (busy[1]) cycles1 <= cycles1 + 1;
            outside <= wrong;
            overrun <= (start & busy) != 0;
            over[0] <= busy[0] && timeout != 0 && cycles0 >= timeout;
            over[1] <= busy[1] && timeout != 0 && cycles1 >= timeout;
            warned <= (warned | over) & busy & ~fresh;
            late <= (over & ~warned & busy) != 0;
        end

    // Soft reset: at least 16 cycles, for the core too.
    reg [3:0] hold;

    assign halt = resetting;
    assign clear = resetting && hold == 15 && idle;

    always @(posedge clk) begin
        if (rst) begin
            resetting <= 1'b0;
            hold <= 0;
        end else begin
            resetting <= (resetting && !clear) || soft_reset;
            hold <= !resetting ? 4'd0 : (hold == 15 ? hold : hold + 4'd1);
        end
        core_rst <= rst || resetting || soft_reset;
    end
endmodule

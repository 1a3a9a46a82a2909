// The slots: a started slot is in one place until it is done or failed, in order; no address outside the window; a reset ends; no deadlock.
module slots_check #(parameter FRAME_BYTES = 784, parameter ANSWER_BYTES = 10) (
    input clk,
    input [1:0] start, input [1:0] acknowledge, input soft_reset,
    input [31:0] source0, target0, source1, target1, window_low, window_high, timeout,
    input read_ready, input fetched, input refused, input finished, input sound, input idle
);
    localparam [32:0] FRAME_ROOM = (FRAME_BYTES + 7) / 8 * 8, ANSWER_ROOM = (ANSWER_BYTES + 7) / 8 * 8;
    localparam [2:0] REST = 0, ENDS = 1, COMPARE = 2, DECIDE = 3, OFFER = 4;
    reg rst = 1;
    always @(posedge clk) rst <= 0;

    wire [1:0] busy, done, failed;
    wire resetting, clear, outside, overrun, late, read_valid, write_valid, write_fetched, write_refused, halt, core_rst;
    wire [31:0] cycles0, cycles1, answers, read_address, write_address;
    edgert_slots #(.FRAME_BYTES(FRAME_BYTES), .ANSWER_BYTES(ANSWER_BYTES)) dut (
        .clk(clk), .rst(rst), .start(start), .acknowledge(acknowledge), .soft_reset(soft_reset), .source0(source0), .target0(target0),
        .source1(source1), .target1(target1), .window_low(window_low), .window_high(window_high), .timeout(timeout), .busy(busy), .done(done),
        .failed(failed), .resetting(resetting), .clear(clear), .cycles0(cycles0), .cycles1(cycles1), .answers(answers), .outside(outside),
        .overrun(overrun), .late(late), .read_valid(read_valid), .read_ready(read_ready), .read_address(read_address), .fetched(fetched),
        .refused(refused), .write_valid(write_valid), .write_address(write_address), .write_fetched(write_fetched),
        .write_refused(write_refused), .finished(finished), .sound(sound), .halt(halt), .idle(idle), .core_rst(core_rst)
    );
    wire [1:0] waiting;         // peek dut.waiting
    wire [2:0] check;           // peek dut.check
    wire slot;                  // peek dut.slot
    wire [31:0] source;         // peek dut.source
    wire [31:0] target;         // peek dut.target
    wire [32:0] source_end;     // peek dut.source_end
    wire [32:0] target_end;     // peek dut.target_end
    wire [4:0] legal;           // peek dut.legal
    wire here0;                 // peek dut.here0
    wire here1;                 // peek dut.here1
    wire slot0;                 // peek dut.slot0
    wire slot1;                 // peek dut.slot1
    wire fetched0;              // peek dut.fetched0
    wire fetched1;              // peek dut.fetched1
    wire refused0;              // peek dut.refused0
    wire refused1;              // peek dut.refused1
    wire [31:0] address0;       // peek dut.address0
    wire [31:0] address1;       // peek dut.address1
    wire wrong;                 // peek dut.wrong
    wire [1:0] fresh;           // peek dut.fresh
    wire [3:0] hold;            // peek dut.hold

    // The registers: no START in a reset; what a busy slot uses stays.
    reg past = 0;
    reg [1:0] was_used;
    reg [31:0] was_s0, was_t0, was_s1, was_t1, was_low, was_high;
    wire all = rst || clear;
    always @(posedge clk) begin
        past <= !rst && !clear;
        was_used <= busy | start;
        was_s0 <= source0; was_t0 <= target0; was_s1 <= source1; was_t1 <= target1; was_low <= window_low; was_high <= window_high;
    end
    always @* begin
        if (rst || resetting) assume (start == 0 && !soft_reset);
        if (soft_reset) assume (start == 0);
        if (past && was_used[0]) assume (source0 == was_s0 && target0 == was_t0);
        if (past && was_used[1]) assume (source1 == was_s1 && target1 == was_t1);
        if (past && was_used != 0) assume (window_low == was_low && window_high == was_high);
    end
    // The reader: ends frames in the order that it took them. The writer: finishes what it sees, once it has been fetched.
    reg [1:0] reading = 0;
    wire taken = read_valid && read_ready;
    reg was_finished = 0;
    always @(posedge clk) begin
        reading <= all ? 0 : reading + taken - fetched;
        was_finished <= finished && !all;
    end
    always @* begin
        if (reading == 0) assume (!fetched && !refused);
        if (!(write_valid && write_fetched) || was_finished) assume (!finished);
        if (write_refused) assume (!sound);
        if (rst) assume (!finished && !fetched && !refused);
    end

    // Naive: which busy slot was started first; the slots that the reader has, oldest first, with their fate.
    reg older = 0;
    reg r_here0 = 0, r_here1 = 0, r_slot0, r_slot1;
    reg [1:0] spoiled;          // by slot
    always @(posedge clk) begin
        if (fresh == 2'b11) older <= 0;
        else if (fresh[0]) older <= busy[1];
        else if (fresh[1]) older <= !busy[0];
        if (all) begin
            r_here0 <= 0;
            r_here1 <= 0;
        end else if (fetched) begin
            r_here0 <= r_here1 || taken;
            r_here1 <= r_here1 && taken;
            r_slot0 <= r_here1 ? r_slot1 : slot;
            if (taken) r_slot1 <= slot;
        end else if (taken) begin
            r_here0 <= 1;
            r_here1 <= r_here0;
            if (!r_here0) r_slot0 <= slot;
            r_slot1 <= slot;
        end
        if (fresh[0]) spoiled[0] <= 0;
        if (fresh[1]) spoiled[1] <= 0;
        if (refused) spoiled[r_slot0] <= 1;
    end
    wire both = busy == 2'b11;
    wire checking = check != REST;
    function inside(input [31:0] from, input [32:0] room);
        inside = from[2:0] == 0 && from >= window_low && {1'b0, from} + room <= {1'b0, window_high};
    endfunction
    function [2:0] places(input k);
        places = waiting[k] + (checking && slot == k) + (here0 && slot0 == k) + (here1 && slot1 == k);
    endfunction
    always @* if (!rst) begin
        assert (places(0) == busy[0] && places(1) == busy[1]);
        if (finished && both) assert (slot0 == older);
        if (taken && both && slot != older) assert (here0 && slot0 == older);
        if (read_valid) begin
            assert (source[2:0] == 0 && inside(source, FRAME_ROOM) && inside(target, ANSWER_ROOM));
            assert (source == (slot ? source1 : source0) && target == (slot ? target1 : target0));
        end
        if (write_valid) assert (inside(address0, ANSWER_ROOM) && address0 == (slot0 ? target1 : target0));
        if (here1) assert (inside(address1, ANSWER_ROOM) && address1 == (slot1 ? target1 : target0));
        if (write_valid && write_fetched) assert (write_refused == spoiled[slot0]);
        assert ((busy & (done | failed)) == 0);
        if (past && was_busy[0] && !busy[0]) assert (done[0] != failed[0]);
        if (past && was_busy[1] && !busy[1]) assert (done[1] != failed[1]);
        // what carries the induction
        assert (!here1 || here0);
        assert (!fetched1 || (here1 && fetched0));
        assert (!fetched0 || here0);
        assert (reading == (here0 && !fetched0) + (here1 && !fetched1));
        assert (r_here0 == (reading != 0) && r_here1 == (reading == 2));
        if (r_here0) assert (r_slot0 == (fetched0 ? slot1 : slot0));
        if (r_here1) assert (r_slot1 == slot1);
        if (here0) assert (refused0 == spoiled[slot0]);
        if (here1) assert (refused1 == spoiled[slot1]);
        if (waiting[0]) assert (!spoiled[0]);
        if (waiting[1]) assert (!spoiled[1]);
        if (checking) assert (!spoiled[slot]);
        if (waiting == 2'b11) assert (both && !older && !checking);
        if (both && waiting != 2'b11 && waiting != 0) assert (waiting == (older ? 2'b01 : 2'b10));
        if (both && waiting == 0 && checking) assert (slot != older);
        if (both && here1) assert (slot0 == older);
        if (both && here0 && !here1) assert (slot0 == older);
        assert (check <= OFFER);
        if (checking) assert (source == (slot ? source1 : source0) && target == (slot ? target1 : target0));
        if (check == COMPARE || check == DECIDE || check == OFFER)
            assert (source_end == {1'b0, source} + FRAME_ROOM && target_end == {1'b0, target} + ANSWER_ROOM);
        if (check == DECIDE || check == OFFER)
            assert ((&legal) == (inside(source, FRAME_ROOM) && inside(target, ANSWER_ROOM)));
        if (check == OFFER) assert (&legal);
        if (!resetting && past2) assert (hold == 0 || was_resetting);
    end
    reg [1:0] was_busy = 0;
    reg was_resetting = 0, past2 = 0;
    always @(posedge clk) begin
        was_busy <= all ? 0 : busy;
        was_resetting <= resetting;
        past2 <= !rst;
    end

    // Times: from START to the end, to the cycle.
    reg [31:0] count0 = 0, count1 = 0;
    always @(posedge clk) begin
        count0 <= all || fresh[0] ? 0 : busy[0] ? count0 + 1 : count0;
        count1 <= all || fresh[1] ? 0 : busy[1] ? count1 + 1 : count1;
    end
    always @* if (!rst) assert (count0 == cycles0 && count1 == cycles1);

    // A reset holds the core for 16 cycles or more and ends when what is in flight has ended.
    reg [4:0] quiet = 0;        // cycles of a reset with nothing in flight
    reg [4:0] held_core = 0;
    always @(posedge clk) begin
        quiet <= rst || !resetting || !idle ? 0 : quiet == 31 ? 31 : quiet + 1;
        held_core <= rst || !resetting ? 0 : held_core == 31 ? 31 : held_core + 1;
    end
    always @* if (!rst) begin
        assert (quiet <= 16);
        if (clear) assert (idle && held_core >= 15);
        assert (!resetting || hold == (held_core > 15 ? 15 : held_core));
        assert (quiet <= held_core);
        if (resetting) assert (halt && core_rst);
        if (clear_was) assert (busy == 0 && done == 0 && failed == 0 && waiting == 0 && !here0 && !read_valid && core_rst);
    end
    reg clear_was = 0;
    always @(posedge clk) clear_was <= clear && !rst;

    // No deadlock: reader and writer keep nothing waiting for more than 3 cycles; something moves every 8.
    reg [1:0] wait_read = 0, wait_fetch = 0, wait_write = 0;
    reg [3:0] still = 0;
    wire moves = taken || fetched || finished || wrong || start != 0;
    always @(posedge clk) begin
        wait_read <= read_valid && !read_ready ? wait_read + 1 : 0;
        wait_fetch <= reading != 0 && !fetched ? wait_fetch + 1 : 0;
        wait_write <= write_valid && write_fetched && !finished ? wait_write + 1 : 0;
        still <= all || moves || busy == 0 ? 0 : still + 1;
    end
    always @* begin
        assume (wait_read != 3 || read_ready || !read_valid);
        assume (wait_fetch != 3 || fetched || reading == 0);
        assume (wait_write != 3 || finished || !(write_valid && write_fetched) || was_finished);
        if (!rst) assert (still < 9);
    end
endmodule

// The writer: bursts legal, tiling the target; a word goes out once, in order, or is dropped with its whole rest; no deadlock.
module writer_check #(parameter ANSWER_BYTES = 1000, parameter LOG = 5) (
    input clk,
    input halt, input job_valid, input [31:0] job_address, input job_fetched, input job_refused,
    input awready, input wready, input [1:0] bresp, input bvalid, input [31:0] tdata, input tvalid,
    input mark
);
    localparam BEATS = (ANSWER_BYTES + 3) / 4, WORDS = (ANSWER_BYTES + 7) / 8;
    localparam BITS = $clog2(WORDS + 1) < 5 ? 5 : $clog2(WORDS + 1);
    localparam BEAT_BITS = $clog2(BEATS + 1);
    localparam [2:0] IDLE = 0, PLAN = 1, WAIT = 2, DROP = 3, SEND = 4, REPLY = 5, NEXT = 6, FINISH = 7;

    reg rst = 1;
    always @(posedge clk) rst <= 0;

    wire idle, finished, sound, refused, awvalid, wlast, wvalid, bready, tready;
    wire [31:0] awaddr;
    wire [3:0] awlen;
    wire [63:0] wdata;
    edgert_writer #(.ANSWER_BYTES(ANSWER_BYTES), .LOG(LOG)) dut (
        .clk(clk), .rst(rst), .halt(halt), .idle(idle), .job_valid(job_valid), .job_address(job_address), .job_fetched(job_fetched),
        .job_refused(job_refused), .finished(finished), .sound(sound), .refused(refused), .awaddr(awaddr), .awlen(awlen), .awvalid(awvalid),
        .awready(awready), .wdata(wdata), .wlast(wlast), .wvalid(wvalid), .wready(wready), .bresp(bresp), .bvalid(bvalid), .bready(bready),
        .tdata(tdata), .tvalid(tvalid), .tready(tready)
    );
    wire [2:0] state;           // peek dut.state
    wire [28:0] address;        // peek dut.address
    wire [BITS-1:0] left;       // peek dut.left
    wire [4:0] burst;           // peek dut.burst
    wire [4:0] unsent;          // peek dut.unsent
    wire final_burst;           // peek dut.final_burst
    wire ready;                 // peek dut.ready
    wire broken;                // peek dut.broken
    wire pop;                   // peek dut.pop
    wire load;                  // peek dut.load
    wire [LOG:0] held;          // peek dut.held
    wire [LOG-1:0] head;        // peek dut.store.head
    wire [LOG-1:0] tail;        // peek dut.store.tail
    wire [63:0] spied;          // peek dut.store.spied
    wire half;                  // peek dut.half
    wire [31:0] low;            // peek dut.low
    wire [BEAT_BITS-1:0] beat;  // peek dut.beat

    // A job stays until it is finished; what was refused stays refused; all of it is known when the frame has been fetched.
    reg past = 0, was_job, was_finished, was_fetched, was_refused;
    reg [31:0] was_address;
    always @(posedge clk) begin
        past <= !rst;
        was_job <= job_valid; was_finished <= finished; was_fetched <= job_fetched; was_refused <= job_refused; was_address <= job_address;
    end
    always @* begin
        assume (job_address[2:0] == 0);
        if (rst) assume (!job_valid);
        if (past && was_job && !was_finished) begin
            assume (job_valid && job_address == was_address);
            assume (!was_fetched || (job_fetched && job_refused == was_refused));
            assume (!was_refused || job_refused);
        end
    end
    // The memory answers a burst when its address and its last beat have been taken, once.
    reg aw_taken = 0, w_taken = 0;
    always @(posedge clk)
        if (rst || (bvalid && bready)) begin
            aw_taken <= 0;
            w_taken <= 0;
        end else begin
            if (awvalid && awready) aw_taken <= 1;
            if (wvalid && wready && wlast) w_taken <= 1;
        end
    always @* if (!(aw_taken && w_taken)) assume (!bvalid);

    // What the channels showed last cycle.
    reg held_aw = 0, held_w = 0, was_wlast, was_halt;
    reg [31:0] was_awaddr;
    reg [3:0] was_awlen;
    reg [63:0] was_wdata;
    always @(posedge clk) begin
        held_aw <= !rst && awvalid && !awready;
        held_w <= !rst && wvalid && !wready;
        was_awaddr <= awaddr; was_awlen <= awlen; was_wdata <= wdata; was_wlast <= wlast; was_halt <= halt;
    end
    // The burst under way, from its address on; the words of the answer that are neither written nor dropped.
    reg [4:0] sent = 0;         // W beats taken
    reg [BITS-1:0] to_do = 0;
    reg [28:0] expected;
    reg was_awvalid;
    wire issued = past && awvalid && !was_awvalid;
    always @(posedge clk) begin
        was_awvalid <= awvalid;
        if (rst || (bvalid && bready)) sent <= 0;
        else if (wvalid && wready) sent <= sent + 1;
        if (state == IDLE) begin
            expected <= job_address[31:3];
            to_do <= WORDS;
        end else if (state == NEXT) begin
            expected <= expected + burst;
            to_do <= to_do - burst;
        end
    end
    always @* if (!rst) begin
        if (held_aw) assert (awvalid && awaddr == was_awaddr && awlen == was_awlen);
        if (held_w) assert (wvalid && wdata == was_wdata && wlast == was_wlast);
        if (awvalid) assert (awaddr[2:0] == 0 && awaddr[11:3] + awlen <= 511);
        if (issued) assert (!was_halt && awaddr[31:3] == expected && awlen < to_do && !broken);
        if (wvalid) assert (state == SEND && wlast == (sent == awlen));
        assert (sent <= awlen + 1);
        if (state == REPLY) assert (aw_taken && w_taken && sent == awlen + 1);
        assert (bready == (state == REPLY));
        // what carries the induction
        assert (tail - head == held[LOG-1:0] && held <= (1 << LOG));
        assert ((state == IDLE) || job_valid);
        if (finished) assert (state == IDLE);
        if (state != SEND) assert (!awvalid && !wvalid && (state == REPLY || (!aw_taken && !w_taken && sent == 0)));
        if (state != IDLE && state != FINISH) assert (left != 0 && left == to_do && left <= WORDS && address == expected);
        if (state == FINISH) assert (to_do == 0);
        if (state == WAIT || state == DROP || state == SEND || state == REPLY || state == NEXT) begin
            assert (burst != 0 && burst <= left && burst <= 16 - address[3:0]);
            assert (final_burst == (burst == left));
            assert (burst == left || burst == 16 - address[3:0]);
        end
        if (state == WAIT && ready) assert (held >= burst);
        if (state == DROP) assert (unsent <= burst && unsent <= held);
        if (state == SEND || state == REPLY) assert (awlen == burst - 1 && awaddr == {address, 3'd0});
        if (state == SEND) begin
            assert (unsent <= held && sent + wvalid + unsent == burst);
            assert (aw_taken == !awvalid);
            assert (w_taken == (sent == burst));
        end
        if (state == PLAN || state == NEXT || state == FINISH) assert (!ready);
    end

    // Words: the one that was marked goes out after those before it.
    reg seen = 0;
    reg [63:0] value;
    reg [LOG:0] ahead;
    wire pushes = tvalid && tready && (beat[0] || beat == BEATS - 1);
    wire [63:0] packed_word = beat[0] ? {tdata, first_half} : {32'd0, tdata};
    reg [31:0] first_half;
    always @(posedge clk) if (tvalid && tready) first_half <= tdata;
    always @(posedge clk)
        if (rst) seen <= 0;
        else if (!seen && pushes && mark) begin
            seen <= 1;
            value <= packed_word;
            ahead <= held - pop;
        end else if (seen) begin
            if (pop && ahead == 0) seen <= 0;
            ahead <= ahead - pop;
        end
    wire [LOG-1:0] spy = head + ahead[LOG-1:0];     // poke dut.store.spy
    reg due = 0;
    reg [63:0] due_data;
    always @(posedge clk) begin
        due <= !rst && load && seen && ahead == 0;
        due_data <= value;
    end
    always @* if (!rst) begin
        assert (beat < BEATS && half == beat[0]);
        if (half) assert (low == first_half);
        if (seen) assert (ahead < held && spied == value);
        if (due) assert (wvalid && wdata == due_data);
    end
    // Words into the store and words out of it belong to the same answer: their counts agree modulo an answer.
    reg [BITS-1:0] out = 0;     // words of the answer that have left the store
    always @(posedge clk)
        if (rst) out <= 0;
        else if (pop) out <= out == WORDS - 1 ? 0 : out + 1;
    wire [BITS+1:0] sum = out + held, in = beat >> 1;
    wire [BITS+1:0] gone = WORDS - to_do + (state == DROP || state == SEND ? burst - unsent : state == REPLY || state == NEXT ? burst : 0);
    always @* if (!rst) begin
        assert (out < WORDS);
        assert ((sum >= WORDS ? sum - WORDS : sum) == in);
        if (state == IDLE) assert (out == 0);
        else assert (out == (gone == WORDS ? 0 : gone));
    end

    // No deadlock: memory and core keep nothing waiting for more than 3 cycles; something moves every 12.
    reg [1:0] wait_aw = 0, wait_w = 0, wait_b = 0, wait_t = 0, wait_f = 0;
    reg [3:0] still = 0;
    wire moves = (awvalid && awready) || (wvalid && wready) || (bvalid && bready) || (tvalid && tready) || finished || pop;
    always @(posedge clk) begin
        wait_aw <= awvalid && !awready ? wait_aw + 1 : 0;
        wait_w <= wvalid && !wready ? wait_w + 1 : 0;
        wait_b <= aw_taken && w_taken && !bvalid ? wait_b + 1 : 0;
        wait_t <= !tvalid ? wait_t + 1 : 0;
        wait_f <= !job_fetched ? wait_f + 1 : 0;
        still <= rst || moves || !job_valid || halt ? 0 : still + 1;
    end
    always @* begin
        assume (wait_aw != 3 || awready || !awvalid);
        assume (wait_w != 3 || wready || !wvalid);
        assume (wait_b != 3 || bvalid || !(aw_taken && w_taken));
        assume (wait_t != 3 || tvalid);
        assume (wait_f != 3 || job_fetched);
        if (!rst) assert (still < 12);
    end
endmodule

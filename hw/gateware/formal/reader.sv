// The reader: bursts legal, tiling the frame; the store never overflows; every word comes out once, in order, on the right beats; no deadlock.
module reader_check #(parameter FRAME_BYTES = 784, parameter LOG = 5) (
    input clk,
    input halt, input job_valid, input [31:0] job_address, input arready, input [63:0] rdata, input [1:0] rresp, input rvalid, input tready,
    input mark
);
    localparam BEATS = (FRAME_BYTES + 3) / 4, WORDS = (FRAME_BYTES + 7) / 8;
    localparam BITS = $clog2(WORDS + 1) < 5 ? 5 : $clog2(WORDS + 1);
    localparam BEAT_BITS = $clog2(BEATS + 1);
    localparam [31:0] LAST_MASK = 32'hFFFFFFFF >> (8 * (4 * BEATS - FRAME_BYTES));

    reg rst = 1;
    always @(posedge clk) rst <= 0;

    wire idle, job_ready, fetched, refused, arvalid, rready, tvalid, tlast;
    wire [31:0] araddr, tdata;
    wire [3:0] arlen;
    edgert_reader #(.FRAME_BYTES(FRAME_BYTES), .LOG(LOG)) dut (
        .clk(clk), .rst(rst), .halt(halt), .idle(idle), .job_valid(job_valid), .job_ready(job_ready), .job_address(job_address),
        .fetched(fetched), .refused(refused), .araddr(araddr), .arlen(arlen), .arvalid(arvalid), .arready(arready),
        .rdata(rdata), .rresp(rresp), .rvalid(rvalid), .rready(rready), .tdata(tdata), .tvalid(tvalid), .tlast(tlast), .tready(tready)
    );
    wire [LOG:0] room;          // peek dut.room
    wire [LOG:0] flight;        // peek dut.flight
    wire [LOG:0] held;          // peek dut.held
    wire store_ready;           // peek dut.store_ready
    wire have;                  // peek dut.have
    wire planned;               // peek dut.planned
    wire [4:0] burst;           // peek dut.burst
    wire [BITS-1:0] left;       // peek dut.left
    wire [28:0] address;        // peek dut.address
    wire final_burst;           // peek dut.final_burst
    wire [BITS-1:0] come;       // peek dut.come
    wire [BEAT_BITS-1:0] beat;  // peek dut.beat
    wire half;                  // peek dut.half
    wire [LOG-1:0] head;        // peek dut.store.head
    wire [LOG-1:0] tail;        // peek dut.store.tail
    wire [63:0] spied;          // peek dut.store.spied
    wire take;                  // peek dut.take
    wire pop;                   // peek dut.pop

    // The memory: answers only what was asked for; how much it owes.
    reg [LOG+1:0] owed = 0;
    always @(posedge clk)
        if (rst) owed <= 0;
        else owed <= owed + (arvalid && arready ? arlen + 1 : 0) - rvalid;
    always @* if (!rst) assume (!rvalid || owed != 0);
    always @* if (rst) assume (!rvalid);
    always @* assume (job_address[2:0] == 0);

    // Signals of the last cycle.
    reg past = 0, was_arvalid, was_arready, was_halt, was_have;
    reg [31:0] was_araddr;
    reg [3:0] was_arlen;
    always @(posedge clk) begin
        past <= !rst;
        was_arvalid <= arvalid; was_arready <= arready; was_araddr <= araddr; was_arlen <= arlen; was_halt <= halt; was_have <= have;
    end

    // Where the next burst must start, how many words of the frame are still to be asked for.
    reg [28:0] expected;
    reg [BITS-1:0] to_ask = 0;
    wire issued = past && arvalid && !was_arvalid;
    always @(posedge clk)
        if (rst) to_ask <= 0;
        else if (job_valid && job_ready) begin
            expected <= job_address[31:3];
            to_ask <= WORDS;
        end else if (issued) begin
            expected <= araddr[31:3] + arlen + 1;
            to_ask <= to_ask - arlen - 1;
        end

    always @* if (!rst) begin
        if (past && was_arvalid && !was_arready) assert (arvalid && araddr == was_araddr && arlen == was_arlen);
        if (arvalid) begin
            assert (araddr[2:0] == 0);
            assert (araddr[11:3] + arlen <= 511);
        end
        if (issued) assert (!was_halt && araddr[31:3] == expected && arlen < to_ask);
        assert (!rvalid || store_ready);
        assert (rready);
        // what carries the induction
        assert (room + flight + held == (1 << LOG));
        assert (room <= (1 << LOG) && flight <= (1 << LOG) && held <= (1 << LOG));
        assert (flight == owed + (arvalid ? arlen + 1 : 0));
        assert (!arvalid || flight > arlen);
        assert (tail - head == held[LOG-1:0]);
        if (have) begin
            assert (left != 0 && left <= WORDS && (issued || address == expected));
            assert (issued ? to_ask == left + arlen + 1 : to_ask == left);
            if (issued) assert (address == expected + arlen + 29'd1);
        end else assert (issued ? to_ask == arlen + 1 : to_ask == 0);
        if (planned) begin
            assert (have && burst != 0 && burst <= left && burst <= 16 - address[3:0]);
            assert (final_burst == (burst == left));
            assert (burst == left || burst == 16 - address[3:0]);
        end
        if (issued) assert (!planned);
        if (idle && past) assert (flight == 0 && !arvalid || issued);
    end

    // Words: the one that was marked comes out after those before it, as its two beats.
    reg seen = 0;
    reg [63:0] value;
    reg [LOG:0] ahead;
    reg [BITS-1:0] place;
    wire leaves = seen && ahead == 0 && pop;
    always @(posedge clk)
        if (rst) seen <= 0;
        else if (!seen && rvalid && mark) begin
            seen <= 1;
            value <= rdata;
            place <= come;
            ahead <= held - pop;
        end else if (seen) begin
            if (leaves) seen <= 0;
            ahead <= ahead - pop;
        end
    wire [LOG-1:0] spy = head + ahead[LOG-1:0];     // poke dut.store.spy

    wire [BITS:0] first = beat >> 1;                // of the frame, the word at the store's head
    wire [BITS+1:0] raw = first + held, raw_marked = first + ahead;
    wire [BITS+1:0] wrapped = raw >= 2 * WORDS ? raw - 2 * WORDS : raw >= WORDS ? raw - WORDS : raw;
    wire [BITS+1:0] wrapped_marked = raw_marked >= 2 * WORDS ? raw_marked - 2 * WORDS : raw_marked >= WORDS ? raw_marked - WORDS : raw_marked;
    always @* if (!rst) begin
        assert (come < WORDS && beat < BEATS);
        assert (half == beat[0]);
        assert (come == wrapped);
        if (seen) begin
            assert (ahead < held);
            assert (spied == value);
            assert (place == wrapped_marked);
        end
    end
    // The beats of the marked word.
    reg due = 0, due_last;
    reg [31:0] due_data;
    wire at_head = seen && ahead == 0;
    wire [31:0] part = beat[0] ? value[63:32] : value[31:0];
    always @(posedge clk) begin
        due <= !rst && take && at_head;
        due_data <= beat == BEATS - 1 ? part & LAST_MASK : part;
        due_last <= beat == BEATS - 1;
        if (!rst && take && at_head) assert (beat == 2 * place + beat[0]);
    end
    always @* if (!rst && due) assert (tvalid && tdata == due_data && tlast == due_last);
    // What is not loaded stays.
    reg stalled = 0, was_tlast;
    reg [31:0] was_tdata;
    always @(posedge clk) begin
        stalled <= !rst && tvalid && !tready;
        was_tdata <= tdata;
        was_tlast <= tlast;
    end
    always @* if (!rst && stalled) assert (tvalid && tdata == was_tdata && tlast == was_tlast);
    // Beats given and beats loaded agree: none is lost or doubled at the output.
    reg [BEAT_BITS-1:0] given = 0;
    always @(posedge clk)
        if (rst) given <= 0;
        else if (tvalid && tready) given <= given == BEATS - 1 ? 0 : given + 1;
    always @* if (!rst) begin
        assert (given < BEATS);
        assert (tvalid ? beat == (given == BEATS - 1 ? 0 : given + 1) : beat == given);
        if (tvalid) assert (tlast == (given == BEATS - 1));
    end

    // No deadlock: where memory and core keep nothing waiting for more than 3 cycles, something moves every 8.
    reg [1:0] wait_ar = 0, wait_r = 0, wait_t = 0;
    reg [3:0] still = 0;
    wire moves = (arvalid && arready) || rvalid || (tvalid && tready) || (job_valid && job_ready);
    wire work = have || flight != 0 || held != 0 || tvalid;
    always @(posedge clk) begin
        wait_ar <= arvalid && !arready ? wait_ar + 1 : 0;
        wait_r <= owed != 0 && !rvalid ? wait_r + 1 : 0;
        wait_t <= tvalid && !tready ? wait_t + 1 : 0;
        still <= rst || moves || !work || halt ? 0 : still + 1;
    end
    always @* begin
        assume (wait_ar != 3 || arready || !arvalid);
        assume (wait_r != 3 || rvalid || owed == 0);
        assume (wait_t != 3 || tready || !tvalid);
        if (!rst) assert (still < 8);
    end
    always @* if (!rst) begin
        cover (fetched && refused);
        cover (tvalid && tlast && tready);
    end
endmodule

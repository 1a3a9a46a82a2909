// The registers' AXI3 side: every burst gets its beats and one response, ids and order right, nothing changes under a waiting master, all
// in bounded time; what is written, byte by byte, in bursts of every kind, is what the register holds; what a busy slot uses stays.
module registers_check #(parameter ID_BITS = 12, parameter LEN_BITS = 4) (
    input clk,
    input [ID_BITS-1:0] awid, arid, input [11:0] awaddr, araddr, input [LEN_BITS-1:0] awlen, arlen, input [1:0] awsize, awburst, arsize, arburst,
    input awvalid, arvalid, wvalid, bready, rready, input [31:0] wdata, input [3:0] wstrb,
    input [1:0] busy, done, failed, input clear, input [31:0] cycles0, cycles1, answers, input [6:0] errors_now
);
    reg rst = 1;
    always @(posedge clk) rst <= 0;
    reg resetting = 0;

    wire awready, wready, bvalid, arready, rlast, rvalid, soft_reset, irq;
    wire [ID_BITS-1:0] bid, rid;
    wire [31:0] rdata, source0, target0, source1, target1, window_low, window_high, timeout;
    wire [1:0] start, acknowledge;
    edgert_registers #(.ID_BITS(ID_BITS), .LEN_BITS(LEN_BITS), .MODEL(256'h1234)) dut (
        .clk(clk), .rst(rst), .awid(awid), .awaddr(awaddr), .awlen(awlen), .awsize(awsize), .awburst(awburst), .awvalid(awvalid),
        .awready(awready), .wdata(wdata), .wstrb(wstrb), .wvalid(wvalid), .wready(wready), .bid(bid), .bvalid(bvalid), .bready(bready),
        .arid(arid), .araddr(araddr), .arlen(arlen), .arsize(arsize), .arburst(arburst), .arvalid(arvalid), .arready(arready),
        .rid(rid), .rdata(rdata), .rlast(rlast), .rvalid(rvalid), .rready(rready), .start(start), .acknowledge(acknowledge),
        .soft_reset(soft_reset), .source0(source0), .target0(target0), .source1(source1), .target1(target1), .window_low(window_low),
        .window_high(window_high), .timeout(timeout), .busy(busy), .done(done), .failed(failed), .resetting(resetting), .clear(clear),
        .cycles0(cycles0), .cycles1(cycles1), .answers(answers), .errors_now(errors_now), .irq(irq)
    );
    wire [6:0] errors;          // peek dut.errors
    wire [1:0] irq_enable;      // peek dut.irq_enable
    wire [11:0] to;             // peek dut.to
    wire [LEN_BITS-1:0] to_left;// peek dut.to_left
    wire [LEN_BITS-1:0] to_len; // peek dut.to_len
    wire [1:0] to_size;         // peek dut.to_size
    wire [1:0] to_burst;        // peek dut.to_burst
    wire write;                 // peek dut.write
    wire [4:0] place;           // peek dut.place
    wire [31:0] value;          // peek dut.value
    wire [31:0] mask;           // peek dut.mask
    wire [LEN_BITS-1:0] from_left; // peek dut.from_left
    wire [1:0] fetch;           // peek dut.fetch
    wire [2:0] settle;          // peek dut.settle

    // The master keeps what it offers; WRAP bursts have 2, 4, 8 or 16 beats and start at a multiple of the size, as AXI3 says.
    reg past = 0, aw_waits = 0, ar_waits = 0, w_waits = 0;
    reg [ID_BITS+12+LEN_BITS+3:0] aw_was, ar_was;
    reg [35:0] w_was;
    wire [ID_BITS+12+LEN_BITS+3:0] aw_now = {awid, awaddr, awlen, awsize, awburst}, ar_now = {arid, araddr, arlen, arsize, arburst};
    always @(posedge clk) begin
        past <= !rst;
        aw_waits <= !rst && awvalid && !awready; aw_was <= aw_now;
        ar_waits <= !rst && arvalid && !arready; ar_was <= ar_now;
        w_waits <= !rst && wvalid && !wready; w_was <= {wdata, wstrb};
    end
    always @* begin
        if (aw_waits) assume (awvalid && aw_now == aw_was);
        if (ar_waits) assume (arvalid && ar_now == ar_was);
        if (w_waits) assume (wvalid && {wdata, wstrb} == w_was);
        assume (awsize <= 2 && arsize <= 2 && awburst != 3 && arburst != 3);
        if (awburst == 2) assume ((awlen == 1 || awlen == 3 || awlen == 7 || awlen == 15) && (awaddr & ((12'd1 << awsize) - 1)) == 0);
    end
    // The slots.
    reg [1:0] was_start;
    always @(posedge clk) begin
        resetting <= !rst && ((resetting && !clear) || soft_reset);
        was_start <= rst || clear ? 0 : start;
    end
    always @* begin
        assume ((was_start & ~busy) == 0);
        if (!resetting) assume (!clear);
    end

    // Writes: one transaction at a time.
    reg writing = 0;
    reg [ID_BITS-1:0] w_id;
    reg [LEN_BITS:0] w_left, w_beat;
    reg [11:0] w_addr;
    reg [LEN_BITS-1:0] w_len;
    reg [1:0] w_size, w_burst;
    wire w_takes = wvalid && wready;
    always @(posedge clk)
        if (rst) writing <= 0;
        else if (awvalid && awready) begin
            writing <= 1;
            w_id <= awid; w_left <= awlen + 1; w_beat <= 0; w_addr <= awaddr; w_len <= awlen; w_size <= awsize; w_burst <= awburst;
        end else begin
            if (w_takes) begin
                w_left <= w_left - 1;
                w_beat <= w_beat + 1;
            end
            if (bvalid && bready) writing <= 0;
        end
    // The address of a beat in AXI's words: aligned start plus beats times size, or within the wrap boundary.
    wire [11:0] size = 12'd1 << w_size, whole = (w_len + 12'd1) << w_size, aligned = w_addr & ~(size - 12'd1);
    wire [12:0] linear = aligned + (w_beat << w_size);
    wire [11:0] bound = w_addr & ~(whole - 12'd1);
    wire [12:0] wrapped = linear >= {1'b0, bound} + whole ? linear - whole : linear;
    wire [11:0] at = w_burst == 0 || w_beat == 0 ? w_addr : w_burst == 1 ? linear[11:0] : wrapped[11:0];
    wire [31:0] bytes = {{8{wstrb[3]}}, {8{wstrb[2]}}, {8{wstrb[1]}}, {8{wstrb[0]}}};

    // Naive registers: SOURCE0 and WINDOW_HIGH; one cycle behind the beat, as `write` is.
    reg do_write = 0;
    reg [9:0] do_word;
    reg [31:0] do_value, do_mask, naive_source = 0, naive_window = 0;
    always @(posedge clk) begin
        do_write <= !rst && w_takes && !resetting && !soft_reset;
        do_word <= at[11:2];
        do_value <= wdata;
        do_mask <= bytes;
        if (rst || clear) begin
            naive_source <= 0;
            naive_window <= 0;
        end else if (do_write) begin
            if (do_word == 10'h018 && !busy[0] && !start[0]) naive_source <= (naive_source & ~do_mask) | (do_value & do_mask);
            if (do_word == 10'h016 && busy == 0 && start == 0) naive_window <= (naive_window & ~do_mask) | (do_value & do_mask);
        end
    end

    // What the slave showed last cycle.
    reg b_waits = 0, r_waits = 0;
    reg [ID_BITS-1:0] bid_was;
    reg [ID_BITS+32:0] r_was;
    reg [1:0] used_was;
    reg [31:0] s0_was, t1_was, low_was;
    reg [6:0] errors_was, set_was;
    reg wrote_errors, cleared, was_soft = 0, irq_expected;
    always @(posedge clk) begin
        b_waits <= !rst && bvalid && !bready; bid_was <= bid;
        r_waits <= !rst && rvalid && !rready; r_was <= {rid, rdata, rlast};
        used_was <= busy | start; s0_was <= source0; t1_was <= target1; low_was <= window_low;
        errors_was <= errors; set_was <= errors_now; wrote_errors <= write && place == 5'h12; cleared <= rst || clear;
        was_soft <= soft_reset && !rst;
        irq_expected <= (irq_enable[0] && done != 0) || (irq_enable[1] && errors != 0);
    end

    // Reads.
    reg reading = 0;
    reg [ID_BITS-1:0] r_id;
    reg [LEN_BITS:0] r_left;
    always @(posedge clk)
        if (rst) reading <= 0;
        else if (arvalid && arready) begin
            reading <= 1;
            r_id <= arid;
            r_left <= arlen + 1;
        end else if (rvalid && rready) begin
            r_left <= r_left - 1;
            if (rlast) reading <= 0;
        end
    always @* if (!rst && past) begin
        if (b_waits) assert (bvalid && bid == bid_was);
        if (r_waits) assert (rvalid && {rid, rdata, rlast} == r_was);
        if (bvalid) assert (writing && w_left == 0 && bid == w_id);
        if (wready) assert (writing && w_left != 0);
        if (awready) assert (!writing);
        assert ({2'd0, settle[0]} + settle[1] + settle[2] + bvalid == (writing && w_left == 0));
        if (rvalid) assert (reading && rid == r_id && rlast == (r_left == 1));
        if (arready) assert (!reading);
        if (reading) assert (r_left != 0 && from_left == r_left - 1 && rid == r_id);
        assert (source0 == naive_source && window_high == naive_window);
        // what the slots rely on
        if (resetting) assert (start == 0 && !soft_reset);
        if (soft_reset) assert (start == 0);
        if (used_was[0] && !cleared) assert (source0 == s0_was);
        if (used_was[1] && !cleared) assert (target1 == t1_was);
        if (used_was != 0 && !cleared) assert (window_low == low_was);
        // errors are kept until they are written; the interrupt is a level
        if (!cleared) assert ((errors & set_was) == set_was && (wrote_errors || (errors & errors_was) == errors_was));
        if (!cleared) assert (irq == irq_expected);
        // what carries the induction
        if (writing) assert (to_len == w_len && to_size == w_size && to_burst == w_burst && w_size <= 2 && w_burst != 3);
        if (writing) assert (w_left + w_beat == w_len + 1 && w_left <= w_len + 1 && bid == w_id);
        if (writing && w_left != 0) assert (to == at && to_left == w_left - 1 && wready);
        if (writing && w_burst == 2) assert ((w_len == 1 || w_len == 3 || w_len == 7 || w_len == 15) && aligned == w_addr);
        assert (write == (do_write && do_word[9:5] == 0));
        if (write) assert (place == do_word[4:0] && value == do_value && mask == do_mask);
        assert ({1'b0, fetch[0]} + fetch[1] + rvalid == reading);
        if (was_soft) assert (resetting);
        if (resetting && !was_soft) assert (!write);
    end

    // Bounded time: a master that keeps nothing waiting gets an address taken and answered within 5 cycles, a beat of data every 4.
    reg [3:0] w_still = 0, r_still = 0;
    always @(posedge clk) begin
        w_still <= rst || !(awvalid || writing) || (awvalid && awready) || (writing && wready && !wvalid) || w_takes || bvalid ? 0 : w_still + 1;
        r_still <= rst || !(arvalid || reading) || (arvalid && arready) || rvalid ? 0 : r_still + 1;
    end
    always @* if (!rst) assert (w_still < 5 && r_still < 4);
endmodule

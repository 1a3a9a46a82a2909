// The shell around a core, without anything of the processor: registers, slots, reader, writer.
module edgert_shell #(
    parameter [31:0]  BOARD = 1,
    parameter [31:0]  CLOCK_HZ = 100000000,
    parameter [255:0] MODEL = 0,
    parameter FRAME_BYTES = 784,
    parameter ANSWER_BYTES = 10,
    parameter ID_BITS = 12,
    parameter LEN_BITS = 4
) (
    input                 clk,
    input                 rst,          // synchronous, active high
    output                irq,          // level, active high
    // registers: AXI3 slave, 32 bits
    input  [ID_BITS-1:0]  s_axi_awid,
    input  [11:0]         s_axi_awaddr,
    input  [LEN_BITS-1:0] s_axi_awlen,
    input  [1:0]          s_axi_awsize,
    input  [1:0]          s_axi_awburst,
    input                 s_axi_awvalid,
    output                s_axi_awready,
    input  [31:0]         s_axi_wdata,
    input  [3:0]          s_axi_wstrb,
    input                 s_axi_wvalid,
    output                s_axi_wready,
    output [ID_BITS-1:0]  s_axi_bid,
    output [1:0]          s_axi_bresp,
    output                s_axi_bvalid,
    input                 s_axi_bready,
    input  [ID_BITS-1:0]  s_axi_arid,
    input  [11:0]         s_axi_araddr,
    input  [LEN_BITS-1:0] s_axi_arlen,
    input  [1:0]          s_axi_arsize,
    input  [1:0]          s_axi_arburst,
    input                 s_axi_arvalid,
    output                s_axi_arready,
    output [ID_BITS-1:0]  s_axi_rid,
    output [31:0]         s_axi_rdata,
    output [1:0]          s_axi_rresp,
    output                s_axi_rlast,
    output                s_axi_rvalid,
    input                 s_axi_rready,
    // memory: AXI3 master, 64 bits, ids 0, size 8 bytes, INCR
    output [31:0]         m_axi_araddr,
    output [3:0]          m_axi_arlen,
    output                m_axi_arvalid,
    input                 m_axi_arready,
    input  [63:0]         m_axi_rdata,
    input  [1:0]          m_axi_rresp,
    input                 m_axi_rvalid,
    output                m_axi_rready,
    output [31:0]         m_axi_awaddr,
    output [3:0]          m_axi_awlen,
    output                m_axi_awvalid,
    input                 m_axi_awready,
    output [63:0]         m_axi_wdata,
    output                m_axi_wlast,
    output                m_axi_wvalid,
    input                 m_axi_wready,
    input  [1:0]          m_axi_bresp,
    input                 m_axi_bvalid,
    output                m_axi_bready
);
    wire [1:0]  start, acknowledge, busy, done, failed;
    wire        soft_reset, resetting, clear, halt, core_rst;
    wire [31:0] source0, target0, source1, target1, window_low, window_high, timeout, cycles0, cycles1, answers;
    wire        outside, overrun, late, err_short, err_long;
    wire        read_valid, read_ready, fetched, read_refused, reader_idle;
    wire        write_valid, write_fetched, write_spoiled, write_refused, finished, sound, writer_idle;
    wire [31:0] read_address, write_address;
    wire [31:0] frame_data, answer_data;
    wire        frame_valid, frame_ready, frame_last, answer_valid, answer_ready, answer_last;
    wire        part_rst = rst || clear;

    assign s_axi_bresp = 2'b00;
    assign s_axi_rresp = 2'b00;

    edgert_registers #(
        .BOARD(BOARD), .CLOCK_HZ(CLOCK_HZ), .MODEL(MODEL), .FRAME_BYTES(FRAME_BYTES), .ANSWER_BYTES(ANSWER_BYTES),
        .ID_BITS(ID_BITS), .LEN_BITS(LEN_BITS)
    ) registers (
        .clk(clk), .rst(rst),
        .awid(s_axi_awid), .awaddr(s_axi_awaddr), .awlen(s_axi_awlen), .awsize(s_axi_awsize), .awburst(s_axi_awburst),
        .awvalid(s_axi_awvalid), .awready(s_axi_awready),
        .wdata(s_axi_wdata), .wstrb(s_axi_wstrb), .wvalid(s_axi_wvalid), .wready(s_axi_wready),
        .bid(s_axi_bid), .bvalid(s_axi_bvalid), .bready(s_axi_bready),
        .arid(s_axi_arid), .araddr(s_axi_araddr), .arlen(s_axi_arlen), .arsize(s_axi_arsize), .arburst(s_axi_arburst),
        .arvalid(s_axi_arvalid), .arready(s_axi_arready),
        .rid(s_axi_rid), .rdata(s_axi_rdata), .rlast(s_axi_rlast), .rvalid(s_axi_rvalid), .rready(s_axi_rready),
        .start(start), .acknowledge(acknowledge), .soft_reset(soft_reset),
        .source0(source0), .target0(target0), .source1(source1), .target1(target1),
        .window_low(window_low), .window_high(window_high), .timeout(timeout),
        .busy(busy), .done(done), .failed(failed), .resetting(resetting), .clear(clear),
        .cycles0(cycles0), .cycles1(cycles1), .answers(answers),
        .errors_now({late, overrun, outside, write_refused, read_refused, err_long, err_short}), .irq(irq)
    );

    edgert_slots #(.FRAME_BYTES(FRAME_BYTES), .ANSWER_BYTES(ANSWER_BYTES)) slots (
        .clk(clk), .rst(rst), .start(start), .acknowledge(acknowledge), .soft_reset(soft_reset),
        .source0(source0), .target0(target0), .source1(source1), .target1(target1),
        .window_low(window_low), .window_high(window_high), .timeout(timeout),
        .busy(busy), .done(done), .failed(failed), .resetting(resetting), .clear(clear),
        .cycles0(cycles0), .cycles1(cycles1), .answers(answers), .outside(outside), .overrun(overrun), .late(late),
        .read_valid(read_valid), .read_ready(read_ready), .read_address(read_address), .fetched(fetched), .refused(read_refused),
        .write_valid(write_valid), .write_address(write_address), .write_fetched(write_fetched), .write_refused(write_spoiled),
        .finished(finished), .sound(sound), .halt(halt), .idle(reader_idle && writer_idle), .core_rst(core_rst)
    );

    edgert_reader #(.FRAME_BYTES(FRAME_BYTES)) reader (
        .clk(clk), .rst(part_rst), .halt(halt), .idle(reader_idle),
        .job_valid(read_valid), .job_ready(read_ready), .job_address(read_address), .fetched(fetched), .refused(read_refused),
        .araddr(m_axi_araddr), .arlen(m_axi_arlen), .arvalid(m_axi_arvalid), .arready(m_axi_arready),
        .rdata(m_axi_rdata), .rresp(m_axi_rresp), .rvalid(m_axi_rvalid), .rready(m_axi_rready),
        .tdata(frame_data), .tvalid(frame_valid), .tlast(frame_last), .tready(frame_ready)
    );

    core core (
        .clk(clk), .rst(core_rst),
        .s_tdata(frame_data), .s_tvalid(frame_valid), .s_tlast(frame_last), .s_tready(frame_ready),
        .m_tdata(answer_data), .m_tvalid(answer_valid), .m_tlast(answer_last), .m_tready(answer_ready),
        .err_short(err_short), .err_long(err_long)
    );

    edgert_writer #(.ANSWER_BYTES(ANSWER_BYTES)) writer (
        .clk(clk), .rst(part_rst), .halt(halt), .idle(writer_idle),
        .job_valid(write_valid), .job_address(write_address), .job_fetched(write_fetched), .job_refused(write_spoiled),
        .finished(finished), .sound(sound), .refused(write_refused),
        .awaddr(m_axi_awaddr), .awlen(m_axi_awlen), .awvalid(m_axi_awvalid), .awready(m_axi_awready),
        .wdata(m_axi_wdata), .wlast(m_axi_wlast), .wvalid(m_axi_wvalid), .wready(m_axi_wready),
        .bresp(m_axi_bresp), .bvalid(m_axi_bvalid), .bready(m_axi_bready),
        .tdata(answer_data), .tvalid(answer_valid && !core_rst), .tready(answer_ready)
    );

    wire unused = &{1'b0, answer_last};
endmodule

"""PYNQ-Z2: Zynq-7000 XC7Z020. Clock and reset from FCLK0, registers on M_AXI_GP0, memory through S_AXI_HP0 (64 bits), interrupt IRQ_F2P[0].

The width of HP0 is a processor register (AFI0, 0xF8008000 and 0xF8008014, bit 0: 0 is 64 bits) that no bitstream sets: the driver does.
"""

from gateware.boards import Board

TOP = """
// PYNQ-Z2: the processor (PS7) around the shell.
module edgert_top;
    wire [3:0]  fclk, fclk_reset_n;
    wire        clk, irq;
    (* keep, async_reg = "true", shreg_extract = "no" *) reg reset_first, reset_second;
    reg         rst;
    wire [11:0] awid, arid, bid, rid;
    wire [31:0] awaddr, araddr, wdata, rdata;
    wire [3:0]  awlen, arlen, wstrb;
    wire [1:0]  awsize, arsize, awburst, arburst, bresp, rresp;
    wire        awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rlast, rvalid, rready;
    wire [31:0] hp_araddr, hp_awaddr;
    wire [3:0]  hp_arlen, hp_awlen;
    wire [63:0] hp_rdata, hp_wdata;
    wire [1:0]  hp_rresp, hp_bresp;
    wire        hp_arvalid, hp_arready, hp_rvalid, hp_rready, hp_awvalid, hp_awready, hp_wlast, hp_wvalid, hp_wready, hp_bvalid, hp_bready;

    BUFG clock_buffer (.I(fclk[0]), .O(clk));

    always @(posedge clk) begin
        reset_first <= !fclk_reset_n[0];
        reset_second <= reset_first;
        rst <= reset_second;
    end

    PS7 ps7 (
        .FCLKCLK(fclk), .FCLKRESETN(fclk_reset_n), .IRQF2P({19'd0, irq}), .FPGAIDLEN(1'b1),
        .MAXIGP0ACLK(clk),
        .MAXIGP0AWID(awid), .MAXIGP0AWADDR(awaddr), .MAXIGP0AWLEN(awlen), .MAXIGP0AWSIZE(awsize), .MAXIGP0AWBURST(awburst),
        .MAXIGP0AWVALID(awvalid), .MAXIGP0AWREADY(awready),
        .MAXIGP0WDATA(wdata), .MAXIGP0WSTRB(wstrb), .MAXIGP0WVALID(wvalid), .MAXIGP0WREADY(wready),
        .MAXIGP0BID(bid), .MAXIGP0BRESP(bresp), .MAXIGP0BVALID(bvalid), .MAXIGP0BREADY(bready),
        .MAXIGP0ARID(arid), .MAXIGP0ARADDR(araddr), .MAXIGP0ARLEN(arlen), .MAXIGP0ARSIZE(arsize), .MAXIGP0ARBURST(arburst),
        .MAXIGP0ARVALID(arvalid), .MAXIGP0ARREADY(arready),
        .MAXIGP0RID(rid), .MAXIGP0RDATA(rdata), .MAXIGP0RRESP(rresp), .MAXIGP0RLAST(rlast), .MAXIGP0RVALID(rvalid), .MAXIGP0RREADY(rready),
        .SAXIHP0ACLK(clk), .SAXIHP0RDISSUECAP1EN(1'b0), .SAXIHP0WRISSUECAP1EN(1'b0),
        .SAXIHP0ARID(6'd0), .SAXIHP0ARADDR(hp_araddr), .SAXIHP0ARLEN(hp_arlen), .SAXIHP0ARSIZE(2'd3), .SAXIHP0ARBURST(2'd1),
        .SAXIHP0ARLOCK(2'd0), .SAXIHP0ARCACHE(4'd3), .SAXIHP0ARPROT(3'd0), .SAXIHP0ARQOS(4'd0),
        .SAXIHP0ARVALID(hp_arvalid), .SAXIHP0ARREADY(hp_arready),
        .SAXIHP0RDATA(hp_rdata), .SAXIHP0RRESP(hp_rresp), .SAXIHP0RVALID(hp_rvalid), .SAXIHP0RREADY(hp_rready),
        .SAXIHP0AWID(6'd0), .SAXIHP0AWADDR(hp_awaddr), .SAXIHP0AWLEN(hp_awlen), .SAXIHP0AWSIZE(2'd3), .SAXIHP0AWBURST(2'd1),
        .SAXIHP0AWLOCK(2'd0), .SAXIHP0AWCACHE(4'd3), .SAXIHP0AWPROT(3'd0), .SAXIHP0AWQOS(4'd0),
        .SAXIHP0AWVALID(hp_awvalid), .SAXIHP0AWREADY(hp_awready),
        .SAXIHP0WID(6'd0), .SAXIHP0WDATA(hp_wdata), .SAXIHP0WSTRB(8'hFF), .SAXIHP0WLAST(hp_wlast),
        .SAXIHP0WVALID(hp_wvalid), .SAXIHP0WREADY(hp_wready),
        .SAXIHP0BRESP(hp_bresp), .SAXIHP0BVALID(hp_bvalid), .SAXIHP0BREADY(hp_bready)
    );

    (* keep_hierarchy *)
    edgert_shell shell (
        .clk(clk), .rst(rst), .irq(irq),
        .s_axi_awid(awid), .s_axi_awaddr(awaddr[11:0]), .s_axi_awlen(awlen), .s_axi_awsize(awsize), .s_axi_awburst(awburst),
        .s_axi_awvalid(awvalid), .s_axi_awready(awready),
        .s_axi_wdata(wdata), .s_axi_wstrb(wstrb), .s_axi_wvalid(wvalid), .s_axi_wready(wready),
        .s_axi_bid(bid), .s_axi_bresp(bresp), .s_axi_bvalid(bvalid), .s_axi_bready(bready),
        .s_axi_arid(arid), .s_axi_araddr(araddr[11:0]), .s_axi_arlen(arlen), .s_axi_arsize(arsize), .s_axi_arburst(arburst),
        .s_axi_arvalid(arvalid), .s_axi_arready(arready),
        .s_axi_rid(rid), .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rlast(rlast), .s_axi_rvalid(rvalid), .s_axi_rready(rready),
        .m_axi_araddr(hp_araddr), .m_axi_arlen(hp_arlen), .m_axi_arvalid(hp_arvalid), .m_axi_arready(hp_arready),
        .m_axi_rdata(hp_rdata), .m_axi_rresp(hp_rresp), .m_axi_rvalid(hp_rvalid), .m_axi_rready(hp_rready),
        .m_axi_awaddr(hp_awaddr), .m_axi_awlen(hp_awlen), .m_axi_awvalid(hp_awvalid), .m_axi_awready(hp_awready),
        .m_axi_wdata(hp_wdata), .m_axi_wlast(hp_wlast), .m_axi_wvalid(hp_wvalid), .m_axi_wready(hp_wready),
        .m_axi_bresp(hp_bresp), .m_axi_bvalid(hp_bvalid), .m_axi_bready(hp_bready)
    );
endmodule
"""

BOARD = Board(
    name="pynq-z2", number=1, part="xc7z020clg400-1", pieces=("xc7z020", "clg400", "-1"), yosys_arch="xc7", open_tools=True,
    pll_hz=1_000_000_000, divisor_limit=63,
    clock_hz=100_000_000, register_base=0x4000_0000, len_bits=4, id_bits=12, top=TOP, clock_pin="ps7/FCLKCLK[0]",
    processor={"MODTYPE": "processing_system7", "VLNV": "xilinx.com:ip:processing_system7:5.5", "INSTANCE": "processing_system7_0",
               "registers": "M_AXI_GP0", "memory": "S_AXI_HP0", "clock": "FCLK_CLK0", "reset": "FCLK_RESET0_N", "interrupt": "IRQ_F2P"},
    parameters={"PCW_USE_M_AXI_GP0": "1", "PCW_USE_S_AXI_HP0": "1", "PCW_S_AXI_HP0_DATA_WIDTH": "64", "C_S_AXI_HP0_DATA_WIDTH": "64"},
    clock_names=("PCW_FCLK{0}_PERIPHERAL_DIVISOR0", "PCW_FCLK{0}_PERIPHERAL_DIVISOR1", "PCW_FPGA_FCLK{0}_ENABLE"),
)

"""ZCU102: Zynq UltraScale+ XCZU9EG. Clock and reset from PL_CLK0, registers on M_AXI_HPM0_FPD (32 bits), memory on S_AXI_HP0_FPD (64 bits).

The widths of both ports are processor registers; PYNQ sets them from the `.hwh`. No open tool places and routes this chip.
"""

from gateware.boards import Board

TOP = """
// ZCU102: the processor (PS8) around the shell. Bursts of its AXI4 ports are at most 16 beats from us, up to 256 from the processor.
module edgert_top;
    wire [3:0]   pl_clk;
    wire [95:0]  gpio;                  // bit 95 is PL_RESETN0
    wire         clk, irq;
    (* keep, async_reg = "true", shreg_extract = "no" *) reg reset_first, reset_second;
    reg          rst;
    wire [15:0]  awid, arid, bid, rid, wstrb;
    wire [39:0]  awaddr, araddr;
    wire [127:0] wdata, hp_rdata;
    wire [31:0]  rdata;
    wire [7:0]   awlen, arlen;
    wire [2:0]   awsize, arsize;
    wire [1:0]   awburst, arburst, bresp, rresp;
    wire         awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rlast, rvalid, rready;
    wire [31:0]  hp_araddr, hp_awaddr;
    wire [3:0]   hp_arlen, hp_awlen;
    wire [63:0]  hp_wdata;
    wire [1:0]   hp_rresp, hp_bresp;
    wire         hp_arvalid, hp_arready, hp_rvalid, hp_rready, hp_awvalid, hp_awready, hp_wlast, hp_wvalid, hp_wready, hp_bvalid, hp_bready;

    BUFG_PS clock_buffer (.I(pl_clk[0]), .O(clk));

    always @(posedge clk) begin
        reset_first <= !gpio[95];
        reset_second <= reset_first;
        rst <= reset_second;
    end

    PS8 ps8 (
        .PLCLK(pl_clk), .EMIOGPIOO(gpio), .PLPSIRQ0({7'd0, irq}),
        .MAXIGP0ACLK(clk),
        .MAXIGP0AWID(awid), .MAXIGP0AWADDR(awaddr), .MAXIGP0AWLEN(awlen), .MAXIGP0AWSIZE(awsize), .MAXIGP0AWBURST(awburst),
        .MAXIGP0AWVALID(awvalid), .MAXIGP0AWREADY(awready),
        .MAXIGP0WDATA(wdata), .MAXIGP0WSTRB(wstrb), .MAXIGP0WVALID(wvalid), .MAXIGP0WREADY(wready),
        .MAXIGP0BID(bid), .MAXIGP0BRESP(bresp), .MAXIGP0BVALID(bvalid), .MAXIGP0BREADY(bready),
        .MAXIGP0ARID(arid), .MAXIGP0ARADDR(araddr), .MAXIGP0ARLEN(arlen), .MAXIGP0ARSIZE(arsize), .MAXIGP0ARBURST(arburst),
        .MAXIGP0ARVALID(arvalid), .MAXIGP0ARREADY(arready),
        .MAXIGP0RID(rid), .MAXIGP0RDATA({96'd0, rdata}), .MAXIGP0RRESP(rresp), .MAXIGP0RLAST(rlast), .MAXIGP0RVALID(rvalid),
        .MAXIGP0RREADY(rready),
        .SAXIGP2RCLK(clk), .SAXIGP2WCLK(clk),
        .SAXIGP2ARID(6'd0), .SAXIGP2ARADDR({17'd0, hp_araddr}), .SAXIGP2ARLEN({4'd0, hp_arlen}),
        .SAXIGP2ARSIZE(3'd3), .SAXIGP2ARBURST(2'd1),
        .SAXIGP2ARLOCK(1'b0), .SAXIGP2ARCACHE(4'd3), .SAXIGP2ARPROT(3'd2), .SAXIGP2ARQOS(4'd0),
        .SAXIGP2ARVALID(hp_arvalid), .SAXIGP2ARREADY(hp_arready),
        .SAXIGP2RDATA(hp_rdata), .SAXIGP2RRESP(hp_rresp), .SAXIGP2RVALID(hp_rvalid), .SAXIGP2RREADY(hp_rready),
        .SAXIGP2AWID(6'd0), .SAXIGP2AWADDR({17'd0, hp_awaddr}), .SAXIGP2AWLEN({4'd0, hp_awlen}),
        .SAXIGP2AWSIZE(3'd3), .SAXIGP2AWBURST(2'd1),
        .SAXIGP2AWLOCK(1'b0), .SAXIGP2AWCACHE(4'd3), .SAXIGP2AWPROT(3'd2), .SAXIGP2AWQOS(4'd0),
        .SAXIGP2AWVALID(hp_awvalid), .SAXIGP2AWREADY(hp_awready),
        .SAXIGP2WDATA({64'd0, hp_wdata}), .SAXIGP2WSTRB(16'h00FF), .SAXIGP2WLAST(hp_wlast),
        .SAXIGP2WVALID(hp_wvalid), .SAXIGP2WREADY(hp_wready),
        .SAXIGP2BRESP(hp_bresp), .SAXIGP2BVALID(hp_bvalid), .SAXIGP2BREADY(hp_bready)
    );

    (* keep_hierarchy *)
    edgert_shell shell (
        .clk(clk), .rst(rst), .irq(irq),
        .s_axi_awid(awid), .s_axi_awaddr(awaddr[11:0]), .s_axi_awlen(awlen), .s_axi_awsize(awsize[1:0]), .s_axi_awburst(awburst),
        .s_axi_awvalid(awvalid), .s_axi_awready(awready),
        .s_axi_wdata(wdata[31:0]), .s_axi_wstrb(wstrb[3:0]), .s_axi_wvalid(wvalid), .s_axi_wready(wready),
        .s_axi_bid(bid), .s_axi_bresp(bresp), .s_axi_bvalid(bvalid), .s_axi_bready(bready),
        .s_axi_arid(arid), .s_axi_araddr(araddr[11:0]), .s_axi_arlen(arlen), .s_axi_arsize(arsize[1:0]), .s_axi_arburst(arburst),
        .s_axi_arvalid(arvalid), .s_axi_arready(arready),
        .s_axi_rid(rid), .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rlast(rlast), .s_axi_rvalid(rvalid), .s_axi_rready(rready),
        .m_axi_araddr(hp_araddr), .m_axi_arlen(hp_arlen), .m_axi_arvalid(hp_arvalid), .m_axi_arready(hp_arready),
        .m_axi_rdata(hp_rdata[63:0]), .m_axi_rresp(hp_rresp), .m_axi_rvalid(hp_rvalid), .m_axi_rready(hp_rready),
        .m_axi_awaddr(hp_awaddr), .m_axi_awlen(hp_awlen), .m_axi_awvalid(hp_awvalid), .m_axi_awready(hp_awready),
        .m_axi_wdata(hp_wdata), .m_axi_wlast(hp_wlast), .m_axi_wvalid(hp_wvalid), .m_axi_wready(hp_wready),
        .m_axi_bresp(hp_bresp), .m_axi_bvalid(hp_bvalid), .m_axi_bready(hp_bready)
    );
endmodule
"""

BOARD = Board(
    name="zcu102", number=2, part="xczu9eg-ffvb1156-2-e", pieces=("xczu9eg", "ffvb1156", "-2"), yosys_arch="xcup", open_tools=False,
    pll_hz=1_500_000_000, divisor_limit=63,
    clock_hz=100_000_000, register_base=0xA000_0000, len_bits=8, id_bits=16, top=TOP, clock_pin="ps8/PLCLK[0]",
    processor={"MODTYPE": "zynq_ultra_ps_e", "VLNV": "xilinx.com:ip:zynq_ultra_ps_e:3.5", "INSTANCE": "zynq_ultra_ps_e_0",
               "registers": "M_AXI_HPM0_FPD", "memory": "S_AXI_HP0_FPD", "clock": "pl_clk0", "reset": "pl_resetn0",
               "interrupt": "pl_ps_irq0"},
    parameters={"C_MAXIGP0_DATA_WIDTH": "32", "C_SAXIGP2_DATA_WIDTH": "64"},
    clock_names=("PSU__CRL_APB__PL{0}_REF_CTRL__DIVISOR0", "PSU__CRL_APB__PL{0}_REF_CTRL__DIVISOR1", "PSU__FPGA_PL{0}_ENABLE"),
)

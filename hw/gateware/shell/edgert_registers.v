// Registers of the shell as an AXI3 (or, with LEN_BITS 8, AXI4) slave: one transaction at a time in each direction, bursts of all kinds taken.
module edgert_registers #(
    parameter [31:0]  BOARD = 1,
    parameter [31:0]  CLOCK_HZ = 100000000,
    parameter [255:0] MODEL = 0,
    parameter [31:0]  FRAME_BYTES = 784,
    parameter [31:0]  ANSWER_BYTES = 10,
    parameter ID_BITS = 12,
    parameter LEN_BITS = 4
) (
    input                     clk,
    input                     rst,
    input      [ID_BITS-1:0]  awid,
    input      [11:0]         awaddr,
    input      [LEN_BITS-1:0] awlen,
    input      [1:0]          awsize,
    input      [1:0]          awburst,
    input                     awvalid,
    output reg                awready,
    input      [31:0]         wdata,
    input      [3:0]          wstrb,
    input                     wvalid,
    output reg                wready,
    output reg [ID_BITS-1:0]  bid,
    output reg                bvalid,
    input                     bready,
    input      [ID_BITS-1:0]  arid,
    input      [11:0]         araddr,
    input      [LEN_BITS-1:0] arlen,
    input      [1:0]          arsize,
    input      [1:0]          arburst,
    input                     arvalid,
    output reg                arready,
    output reg [ID_BITS-1:0]  rid,
    output reg [31:0]         rdata,
    output reg                rlast,
    output reg                rvalid,
    input                     rready,
    output reg [1:0]          start,
    output reg [1:0]          acknowledge,
    output reg                soft_reset,
    output reg [31:0]         source0, target0, source1, target1,
    output reg [31:0]         window_low, window_high,
    output reg [31:0]         timeout,
    input      [1:0]          busy,
    input      [1:0]          done,
    input      [1:0]          failed,
    input                     resetting,
    input                     clear,
    input      [31:0]         cycles0, cycles1,
    input      [31:0]         answers,
    input      [6:0]          errors_now,   // pulses that set ERRORS
    output reg                irq
);
    localparam [31:0] ID = 32'h45444752, VERSION = 32'h00010000;
    localparam [1:0] FIXED = 0, WRAP = 2;

    // Address of the next beat of a burst.
    function [11:0] following(input [11:0] at, input [LEN_BITS-1:0] len, input [1:0] size, input [1:0] burst);
        reg [11:0] step, mask, ahead;
        begin
            step = 12'd1 << size;
            ahead = (at & ~(step - 12'd1)) + step;
            mask = (({{(12-LEN_BITS){1'b0}}, len} + 12'd1) << size) - 12'd1;
            following = burst == FIXED ? at : burst == WRAP ? (at & ~mask) | (ahead & mask) : ahead;
        end
    endfunction

    // Writes.
    reg [11:0]         to;
    reg [LEN_BITS-1:0] to_len, to_left;
    reg [1:0]          to_size, to_burst;
    reg                write;
    reg [4:0]          place;           // word that is written
    reg [31:0]         value, mask;
    reg [2:0]          settle;          // the response waits until what was written has its effect

    always @(posedge clk)
        if (rst) begin
            awready <= 1'b0;
            wready <= 1'b0;
            bvalid <= 1'b0;
            write <= 1'b0;
            settle <= 3'd0;
        end else begin
            settle <= {settle[1:0], wvalid && wready && to_left == 0};
            write <= wvalid && wready && to[11:7] == 0 && !resetting && !soft_reset;
            if (awvalid && awready) begin
                awready <= 1'b0;
                wready <= 1'b1;
            end else if (wvalid && wready) begin
                if (to_left == 0) wready <= 1'b0;
            end else if (bvalid) begin
                if (bready) bvalid <= 1'b0;
            end else if (settle[2]) bvalid <= 1'b1;
            else if (!wready && settle == 0) awready <= 1'b1;
        end

    always @(posedge clk) begin
        if (awvalid && awready) begin
            bid <= awid;
            to <= awaddr;
            to_len <= awlen;
            to_left <= awlen;
            to_size <= awsize;
            to_burst <= awburst;
        end else if (wvalid && wready) begin
            to <= following(to, to_len, to_size, to_burst);
            to_left <= to_left - 1'b1;
        end
        place <= to[6:2];
        value <= wdata;
        mask <= {{8{wstrb[3]}}, {8{wstrb[2]}}, {8{wstrb[1]}}, {8{wstrb[0]}}};
    end

    wire [31:0] set = value & mask;
    reg  [6:0]  errors;
    reg  [1:0]  irq_enable;
    wire [1:0]  held = busy | start;    // slots whose addresses, and the window, stay as they are

    always @(posedge clk)
        if (rst || clear) begin
            start <= 2'b00;
            acknowledge <= 2'b00;
            soft_reset <= 1'b0;
            errors <= 7'd0;
            irq_enable <= 2'b00;
            irq <= 1'b0;
            source0 <= 0;
            target0 <= 0;
            source1 <= 0;
            target1 <= 0;
            window_low <= 0;
            window_high <= 0;
            timeout <= 0;
        end else begin
            soft_reset <= write && place == 5'h10 && set[2] && !soft_reset;
            start <= write && place == 5'h10 && !set[2] && !soft_reset ? set[1:0] : 2'b00;
            acknowledge <= write && place == 5'h13 ? set[3:2] : 2'b00;
            errors <= (errors & ~(write && place == 5'h12 ? set[6:0] : 7'd0)) | errors_now;
            irq <= (irq_enable[0] && done != 0) || (irq_enable[1] && errors != 0);
            if (write)
                case (place)
                    5'h14: irq_enable <= (irq_enable & ~mask[1:0]) | set[1:0];
                    5'h15: if (held == 0) window_low <= (window_low & ~mask) | set;
                    5'h16: if (held == 0) window_high <= (window_high & ~mask) | set;
                    5'h17: timeout <= (timeout & ~mask) | set;
                    5'h18: if (!held[0]) source0 <= (source0 & ~mask) | set;
                    5'h19: if (!held[0]) target0 <= (target0 & ~mask) | set;
                    5'h1A: if (!held[1]) source1 <= (source1 & ~mask) | set;
                    5'h1B: if (!held[1]) target1 <= (target1 & ~mask) | set;
                    default: ;
                endcase
        end

    // Reads: the address, a multiplexer in two steps, the answer.
    reg [11:0]         from;
    reg [LEN_BITS-1:0] from_len, from_left;
    reg [1:0]          from_size, from_burst;
    reg [1:0]          fetch;           // steps of the multiplexer under way
    reg [31:0]         clock, constants, model, controls, others;

    always @(posedge clk)
        if (rst) begin
            arready <= 1'b0;
            rvalid <= 1'b0;
            fetch <= 2'b00;
        end else begin
            fetch <= {fetch[0], arvalid && arready};
            if (fetch[1]) rvalid <= 1'b1;
            if (arvalid && arready) arready <= 1'b0;
            else if (rvalid) begin
                if (rready) begin
                    rvalid <= 1'b0;
                    if (!rlast) fetch[0] <= 1'b1;
                end
            end else if (fetch == 0) arready <= 1'b1;
        end

    always @(posedge clk) begin
        clock <= rst ? 32'd0 : clock + 1;
        if (arvalid && arready) begin
            rid <= arid;
            from <= araddr;
            from_len <= arlen;
            from_left <= arlen;
            from_size <= arsize;
            from_burst <= arburst;
        end else if (rvalid && rready) begin
            from <= following(from, from_len, from_size, from_burst);
            from_left <= from_left - 1'b1;
        end
        case (from[4:2])
            3'd0: constants <= ID;
            3'd1: constants <= VERSION;
            3'd2: constants <= BOARD;
            3'd3: constants <= CLOCK_HZ;
            3'd4: constants <= MODEL[255:224];
            3'd5: constants <= MODEL[223:192];
            3'd6: constants <= MODEL[191:160];
            default: constants <= MODEL[159:128];
        endcase
        case (from[4:2])
            3'd0: model <= MODEL[127:96];
            3'd1: model <= MODEL[95:64];
            3'd2: model <= MODEL[63:32];
            3'd3: model <= MODEL[31:0];
            3'd4: model <= FRAME_BYTES;
            3'd5: model <= ANSWER_BYTES;
            3'd6: model <= clock;
            default: model <= 0;
        endcase
        case (from[4:2])
            3'd1: controls <= {22'd0, failed, 3'd0, resetting || soft_reset, done, busy | start};
            3'd2: controls <= {25'd0, errors};
            3'd4: controls <= {30'd0, irq_enable};
            3'd5: controls <= window_low;
            3'd6: controls <= window_high;
            3'd7: controls <= timeout;
            default: controls <= 0;
        endcase
        case (from[4:2])
            3'd0: others <= source0;
            3'd1: others <= target0;
            3'd2: others <= source1;
            3'd3: others <= target1;
            3'd4: others <= cycles0;
            3'd5: others <= cycles1;
            3'd6: others <= answers;
            default: others <= 0;
        endcase
        if (fetch[1]) begin
            rlast <= from_left == 0;
            case (from[11:5])
                7'd0: rdata <= constants;
                7'd1: rdata <= model;
                7'd2: rdata <= controls;
                7'd3: rdata <= others;
                default: rdata <= 0;
            endcase
        end
    end
endmodule

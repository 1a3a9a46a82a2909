// Block RAM of the 7-series as yosys uses it, for simulating netlists: yosys's own cell library describes its timing only.
//
// Both ports read and write words of 1 to 72 bits in memory of bytes with a parity bit each; SDP joins the data pins of both ports to one
// read port (A) and one write port (B). No output register, no cascade, no error correction: `initial` stops where a netlist asks for them.
module edgert_bram #(
    parameter LOG = 10,                 // of the number of 16-bit words
    parameter PINS = 16,                // data pins of a port
    parameter [(16<<LOG)-1:0] INIT = 0,
    parameter [(2<<LOG)-1:0] INITP = 0,
    parameter SDP = 0, parameter READ_A = 0, parameter READ_B = 0, parameter WRITE_A = 0, parameter WRITE_B = 0,
    parameter NOW_A = 0, parameter NOW_B = 0,           // WRITE_FIRST
    parameter KEEP_A = 0, parameter KEEP_B = 0,         // NO_CHANGE
    parameter [PINS*9/4-1:0] SRVAL_A = 0, parameter [PINS*9/4-1:0] SRVAL_B = 0
) (
    input clk_a, input clk_b, input en_a, input en_b, input rst_a, input rst_b,
    input [LOG+3:0] addr_a, input [LOG+3:0] addr_b,     // in bits
    input [PINS-1:0] di_a, input [PINS-1:0] di_b, input [PINS/8-1:0] dip_a, input [PINS/8-1:0] dip_b,
    input [PINS/8-1:0] we_a, input [PINS/4-1:0] we_b,
    output [PINS-1:0] do_a, output [PINS-1:0] do_b, output [PINS/8-1:0] dop_a, output [PINS/8-1:0] dop_b
);
    localparam BYTES = 2 << LOG, WIDE = 2 * PINS;
    reg [7:0] data [0:BYTES-1];
    reg       parity [0:BYTES-1];
    reg [WIDE-1:0] q_a, q_b;
    reg [WIDE/8-1:0] qp_a, qp_b;
    integer i, j, k, l;
    initial for (i = 0; i < BYTES; i = i + 1) begin
        data[i] = INIT[8*i +: 8];
        parity[i] = INITP[i];
    end
    // Words of whole bytes: W bits with parity are W*8/9 of data.
    function integer bytes(input integer width);
        bytes = width >= 9 ? width / 9 : 0;
    endfunction
    localparam RA = bytes(READ_A), RB = bytes(READ_B), WA = bytes(WRITE_A), WB = bytes(WRITE_B);
    wire [LOG:0] byte_a = addr_a[LOG+3:3], byte_b = addr_b[LOG+3:3];

    // Writes first in the text, reads before them in time: old bytes are read where READ_FIRST; WRITE_FIRST merges below.
    reg [7:0] before_a, before_b;
    always @(posedge clk_a) if (en_a) begin
        if (rst_a) begin
            q_a <= SRVAL_A[PINS-1:0];
            qp_a <= 0;
        end else if (READ_A != 0 && !(KEEP_A && we_a != 0 && !SDP)) begin
            if (RA == 0) begin
                before_a = data[byte_a];
                for (j = 0; j < READ_A; j = j + 1)
                    q_a[j] <= NOW_A && we_a[0] && !SDP ? di_a[j] : before_a[(addr_a[2:0] & ~(READ_A - 1)) + j];
            end else for (j = 0; j < RA; j = j + 1) begin
                q_a[8*j +: 8] <= NOW_A && !SDP && we_a[j % (PINS/8)] ? di_a[8*(j % (PINS/8)) +: 8] : data[(byte_a & ~(RA - 1)) + j];
                qp_a[j] <= NOW_A && !SDP && we_a[j % (PINS/8)] ? dip_a[j % (PINS/8)] : parity[(byte_a & ~(RA - 1)) + j];
            end
        end
    end
    always @(posedge clk_b) if (en_b) begin
        if (rst_b) begin
            q_b <= SRVAL_B[PINS-1:0];
            qp_b <= 0;
        end else if (READ_B != 0 && !(KEEP_B && we_b != 0)) begin
            if (RB == 0) begin
                before_b = data[byte_b];
                for (k = 0; k < READ_B; k = k + 1)
                    q_b[k] <= NOW_B && we_b[0] ? di_b[k] : before_b[(addr_b[2:0] & ~(READ_B - 1)) + k];
            end else for (k = 0; k < RB; k = k + 1) begin
                q_b[8*k +: 8] <= NOW_B && we_b[k % (PINS/8)] ? di_b[8*(k % (PINS/8)) +: 8] : data[(byte_b & ~(RB - 1)) + k];
                qp_b[k] <= NOW_B && we_b[k % (PINS/8)] ? dip_b[k % (PINS/8)] : parity[(byte_b & ~(RB - 1)) + k];
            end
        end
    end
    always @(posedge clk_a) if (en_a && !SDP) begin
        if (WA == 0) begin
            for (j = 0; j < WRITE_A; j = j + 1) if (we_a[0]) data[byte_a][(addr_a[2:0] & ~(WRITE_A - 1)) + j] <= di_a[j];
        end else for (j = 0; j < WA; j = j + 1) if (we_a[j % (PINS/8)]) begin
            data[(byte_a & ~(WA - 1)) + j] <= di_a[8*(j % (PINS/8)) +: 8];
            parity[(byte_a & ~(WA - 1)) + j] <= dip_a[j % (PINS/8)];
        end
    end
    // In SDP the write port has the data pins of both ports, A's lowest.
    wire [WIDE-1:0] di = SDP ? {di_b, di_a} : {{PINS{1'b0}}, di_b};
    wire [WIDE/8-1:0] dip = SDP ? {dip_b, dip_a} : {{PINS/8{1'b0}}, dip_b};
    always @(posedge clk_b) if (en_b) begin
        if (WB == 0) begin
            for (l = 0; l < WRITE_B; l = l + 1) if (we_b[0]) data[byte_b][(addr_b[2:0] & ~(WRITE_B - 1)) + l] <= di[l];
        end else for (l = 0; l < WB; l = l + 1) if (we_b[l]) begin
            data[(byte_b & ~(WB - 1)) + l] <= di[8*l +: 8];
            parity[(byte_b & ~(WB - 1)) + l] <= dip[l];
        end
    end
    assign do_a = q_a[PINS-1:0];
    assign dop_a = qp_a[PINS/8-1:0];
    assign do_b = SDP ? q_a[WIDE-1:PINS] : q_b[PINS-1:0];
    assign dop_b = SDP ? qp_a[WIDE/8-1:PINS/8] : qp_b[PINS/8-1:0];
endmodule

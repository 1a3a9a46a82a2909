// Stand-in core: the answer's bytes are (sum of the frame's bytes + index) mod 256.
module core #(parameter FRAME_BYTES = 784, parameter ANSWER_BYTES = 10) (
    input             clk,
    input             rst,
    input      [31:0] s_tdata,
    input             s_tvalid,
    input             s_tlast,
    output            s_tready,
    output     [31:0] m_tdata,
    output            m_tvalid,
    output            m_tlast,
    input             m_tready,
    output reg        err_short,
    output reg        err_long
);
    localparam BEATS = (FRAME_BYTES + 3) / 4;
    localparam ANSWERS = (ANSWER_BYTES + 3) / 4;
    reg [7:0]  sum;
    reg [31:0] beat;
    reg [31:0] answer;
    reg        full;
    wire take = s_tvalid && s_tready;
    wire [7:0] first = sum + {answer[5:0], 2'b00};
    wire [31:0] four = {first + 8'd3, first + 8'd2, first + 8'd1, first};

    assign s_tready = !full;
    assign m_tvalid = full;
    assign m_tlast = answer == ANSWERS - 1;
    assign m_tdata = m_tlast ? four & (32'hFFFFFFFF >> (8 * (4 * ANSWERS - ANSWER_BYTES))) : four;

    always @(posedge clk)
        if (rst) begin
            sum <= 0;
            beat <= 0;
            answer <= 0;
            full <= 1'b0;
            err_short <= 1'b0;
            err_long <= 1'b0;
        end else begin
            err_short <= take && s_tlast && beat < BEATS - 1;
            err_long <= take && !s_tlast && beat == BEATS - 1;
            if (take) begin
                sum <= sum + s_tdata[7:0] + s_tdata[15:8] + s_tdata[23:16] + s_tdata[31:24];
                beat <= s_tlast ? 0 : beat + 1;
                full <= s_tlast && beat == BEATS - 1;
            end
            if (m_tvalid && m_tready) begin
                answer <= m_tlast ? 0 : answer + 1;
                if (m_tlast) begin
                    full <= 1'b0;
                    sum <= 0;
                end
            end
        end
endmodule

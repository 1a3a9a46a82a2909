"""The project's own C++ and Verilog around hls4ml's network: AXI4-Stream of 32 bit as in docs/gateware.md, test bench, emulation, `core`.

`{name}_axi` takes four uint8 to a beat and gives four int8 logits to a beat. A short frame is completed with zeros, a long one is cut, and
neither is answered; `err` (ap_vld) then says which. hls4ml's own AXI wrapper moves a float to a beat and does not compile with integers.
"""

from __future__ import annotations

from modelkit.ternary.network import Network

FRAMES_IN_FLIGHT = 64
"""Frames between the first pixel and the answer at most: one for each layer, and room."""


def frame_beats(network: Network) -> int:
    """Beats of a frame: four bytes each."""
    height, width, channels = network.input_shape
    return -(-height * width * channels // 4)


def answer_beats(network: Network) -> int:
    """Beats of an answer: four logits each."""
    return -(-network.classes // 4)


def _fill(template: str, network: Network, name: str, input_type: str = "", result_type: str = "") -> str:
    height, width, channels = network.input_shape
    numbers = {"NAME": name, "PIXELS": height * width, "CHANNELS": channels, "FRAME_BYTES": height * width * channels,
               "FRAME_BEATS": frame_beats(network), "CLASSES": network.classes, "ANSWER_BEATS": answer_beats(network),
               "READS": -(-channels // 4), "FLIGHT": FRAMES_IN_FLIGHT, "INPUT_T": input_type, "RESULT_T": result_type}
    for key, value in numbers.items():
        template = template.replace(f"@{key}@", str(value))
    return template


def header(network: Network, name: str) -> str:
    """`firmware/{name}_axi.h`."""
    return _fill(_HEADER, network, name)


def source(network: Network, name: str, input_type: str, result_type: str) -> str:
    """`firmware/{name}_axi.cpp`; the types are those of hls4ml's input and output streams."""
    return _fill(_SOURCE, network, name, input_type, result_type)


def bench(network: Network, name: str) -> str:
    """`{name}_test.cpp`: frames and answers of `tb_data` through the wrapper; its exit code is 1 where a logit differs."""
    return _fill(_BENCH, network, name)


def emulation(network: Network, name: str) -> str:
    """`emulation.cpp`: the wrapper as a library for this processor, called by `gateware.hls.emulation`."""
    return _fill(_EMULATION, network, name)


def core(network: Network, name: str, backend: str) -> str:
    """`core.v`: module `core` of docs/gateware.md around the module that Vitis HLS or Vivado HLS makes of `{name}_axi`."""
    return _fill(_CORE.replace("@KEEP@", _KEEP if backend == "vitis" else ""), network, name)


_HEADER = """\
// Frames and answers as AXI4-Stream, 32 bit: uint8 [h, w, c] four to a beat, first byte lowest; int8 logits the same way.
#ifndef EDGERT_AXI_H_
#define EDGERT_AXI_H_

#include "@NAME@.h"
#ifdef __VITIS_HLS__
#include "ap_axi_sdata.h"
typedef ap_axiu<32, 0, 0, 0> beat_t;
#else
struct beat_t {
    ap_uint<32> data;
    ap_uint<1> last;
};
#endif

static const unsigned PIXELS = @PIXELS@;
static const unsigned CHANNELS = @CHANNELS@;
static const unsigned FRAME_BEATS = @FRAME_BEATS@;
static const unsigned CLASSES = @CLASSES@;
static const unsigned ANSWER_BEATS = @ANSWER_BEATS@;

// One frame. err: bit 0 it was short, bit 1 it was long; written only then.
void @NAME@_axi(hls::stream<beat_t> &in, hls::stream<beat_t> &out, ap_uint<2> *err);

#endif
"""

_SOURCE = """\
#include "@NAME@_axi.h"

// Beats to pixels. A frame that ends early goes on with zeros, one that does not end is dropped up to its last beat.
static void take(hls::stream<beat_t> &in, hls::stream<@INPUT_T@> &pixels, hls::stream<ap_uint<1> > &good, ap_uint<2> *err) {
    ap_uint<8 * (CHANNELS + 4 * @READS@)> held = 0; // bytes read and not yet in a pixel, the first one lowest
    unsigned bytes = 0;
    unsigned beats = 0;
    bool last = false;
    bool cut = false; // the frame ended before its last beat
Pixels:
    for (unsigned i = 0; i < PIXELS; i++) {
        #pragma HLS PIPELINE II=@READS@
    Reads:
        for (unsigned r = 0; r < @READS@; r++) {
            #pragma HLS UNROLL
            if (bytes < CHANNELS) {
                ap_uint<8 * (CHANNELS + 4 * @READS@)> word = 0;
                if (!last) {
                    beat_t beat = in.read();
                    word = beat.data;
                    last = beat.last;
                    cut = last && beats + 1 < FRAME_BEATS;
                }
                held |= word << (8 * bytes);
                bytes += 4;
                beats++;
            }
        }
        @INPUT_T@ pixel;
    Channels:
        for (unsigned c = 0; c < CHANNELS; c++) {
            #pragma HLS UNROLL
            pixel[c] = ap_uint<8>(held.range(8 * c + 7, 8 * c));
        }
        held >>= 8 * CHANNELS;
        bytes -= CHANNELS;
        pixels.write(pixel);
    }
    bool over = !last; // the frame goes on after its last beat
Rest:
    while (!last) {
        #pragma HLS PIPELINE II=1
        #pragma HLS LOOP_TRIPCOUNT min=0 max=0
        last = in.read().last;
    }
    good.write(!(cut || over));
    if (cut || over)
        *err = (ap_uint<2>(over) << 1) | ap_uint<2>(cut);
}

// Logits to beats; the answer to a frame that was not whole is dropped.
static void give(hls::stream<@RESULT_T@> &logits, hls::stream<ap_uint<1> > &good, hls::stream<beat_t> &out) {
    @RESULT_T@ answer = logits.read();
    if (good.read()) {
    Beats:
        for (unsigned b = 0; b < ANSWER_BEATS; b++) {
            #pragma HLS PIPELINE II=1
            ap_uint<32> word = 0;
        Lanes:
            for (unsigned k = 0; k < 4; k++) {
                #pragma HLS UNROLL
                if (4 * b + k < CLASSES)
                    word.range(8 * k + 7, 8 * k) = answer[4 * b + k].range(7, 0);
            }
            beat_t beat;
            beat.data = word;
            beat.last = b + 1 == ANSWER_BEATS;
#ifdef __VITIS_HLS__
            beat.keep = -1;
            beat.strb = -1;
#endif
            out.write(beat);
        }
    }
}

void @NAME@_axi(hls::stream<beat_t> &in, hls::stream<beat_t> &out, ap_uint<2> *err) {
    #pragma HLS INTERFACE axis port=in
    #pragma HLS INTERFACE axis port=out
    #pragma HLS INTERFACE ap_vld port=err
    #pragma HLS INTERFACE ap_ctrl_none port=return
    #pragma HLS DATAFLOW
    hls::stream<@INPUT_T@> pixels("pixels");
    hls::stream<@RESULT_T@> logits("logits");
    hls::stream<ap_uint<1> > good("good");
    #pragma HLS STREAM variable=pixels depth=16
    #pragma HLS STREAM variable=logits depth=2
    #pragma HLS STREAM variable=good depth=@FLIGHT@
    take(in, pixels, good, err);
    @NAME@(pixels, logits);
    give(logits, good, out);
}
"""

_BENCH = """\
// For csim and cosim: the frames of tb_data/frames.dat through the wrapper, compared with tb_data/logits.dat.
#include <fstream>
#include <iostream>

#include "firmware/@NAME@_axi.h"

int main() {
    std::ifstream frames("tb_data/frames.dat"), logits("tb_data/logits.dat");
    unsigned compared = 0, wrong = 0;
    int value;
    while (frames >> value) {
        hls::stream<beat_t> in("in"), out("out");
        ap_uint<2> err = 0;
        for (unsigned b = 0; b < FRAME_BEATS; b++) {
            beat_t beat;
            beat.data = 0;
            for (unsigned k = 0; k < 4 && 4 * b + k < @FRAME_BYTES@; k++) {
                if (b + k > 0)
                    frames >> value;
                beat.data.range(8 * k + 7, 8 * k) = value;
            }
            beat.last = b + 1 == FRAME_BEATS;
            in.write(beat);
        }
        @NAME@_axi(in, out, &err);
        beat_t beat;
        for (unsigned c = 0; c < CLASSES; c++) {
            if (c % 4 == 0)
                beat = out.read();
            ap_int<8> found = beat.data.range(8 * (c % 4) + 7, 8 * (c % 4));
            logits >> value;
            wrong += found != value;
            compared++;
        }
    }
    std::cout << wrong << " of " << compared << " logits differ" << std::endl;
    return wrong != 0 || compared == 0;
}
"""

_EMULATION = """\
// The project's C++ as a library for this processor.
#include <cstdint>
#include <cstring>
#include <string>

static std::string weights_dir = "firmware/weights";
#define WEIGHTS_DIR weights_dir
#include "firmware/@NAME@.cpp"
#include "firmware/@NAME@_axi.cpp"

extern "C" {

void edgert_weights(const char *path) { weights_dir = path; }

void edgert_numbers(int32_t numbers[3]) {
    numbers[0] = @FRAME_BYTES@;
    numbers[1] = CLASSES;
    numbers[2] = FRAME_BEATS;
}

// n frames uint8 [n, FRAME_BYTES] to logits int8 [n, CLASSES]. 0: done; else what the wrapper did wrong.
int edgert_answer(const uint8_t *frames, int8_t *logits, long n) {
    hls::stream<beat_t> in("in"), out("out");
    for (long f = 0; f < n; f++) {
        for (unsigned b = 0; b < FRAME_BEATS; b++) {
            beat_t beat;
            beat.data = 0;
            for (unsigned k = 0; k < 4 && 4 * b + k < @FRAME_BYTES@; k++)
                beat.data.range(8 * k + 7, 8 * k) = frames[f * (long)@FRAME_BYTES@ + 4 * b + k];
            beat.last = b + 1 == FRAME_BEATS;
            in.write(beat);
        }
        ap_uint<2> err = 0;
        @NAME@_axi(in, out, &err);
        if (err != 0 || !in.empty())
            return 1;
        for (unsigned b = 0; b < ANSWER_BEATS; b++) {
            if (out.empty())
                return 2;
            beat_t beat = out.read();
            if (beat.last != (b + 1 == ANSWER_BEATS))
                return 3;
            for (unsigned k = 0; k < 4; k++) {
                if (4 * b + k < CLASSES)
                    logits[f * CLASSES + 4 * b + k] = (int8_t)(uint8_t)beat.data.range(8 * k + 7, 8 * k).to_uint();
                else if (beat.data.range(8 * k + 7, 8 * k) != 0)
                    return 4;
            }
        }
    }
    return out.empty() ? 0 : 5;
}

// Any n beats (data, last) in; beats out up to `room`, and err of every frame. The last beat in must have last. Frames, or -1.
long edgert_beats(const uint32_t *data, const uint8_t *last, long n, uint32_t *out_data, uint8_t *out_last, long room, long *given,
                  uint8_t *errs) {
    hls::stream<beat_t> in("in"), out("out");
    for (long i = 0; i < n; i++) {
        beat_t beat;
        beat.data = data[i];
        beat.last = last[i];
        in.write(beat);
    }
    long frames = 0;
    while (!in.empty()) {
        ap_uint<2> err = 0;
        @NAME@_axi(in, out, &err);
        errs[frames++] = err.to_uint();
    }
    for (*given = 0; !out.empty(); ++*given) {
        if (*given == room)
            return -1;
        beat_t beat = out.read();
        out_data[*given] = beat.data.to_uint();
        out_last[*given] = beat.last.to_uint();
    }
    return frames;
}
}
"""

_KEEP = """\
        .in_r_TKEEP(4'hf),
        .in_r_TSTRB(4'hf),
        .out_r_TKEEP(),
        .out_r_TSTRB(),
"""

_CORE = """\
// module core (docs/gateware.md) around what Vitis HLS or Vivado HLS makes of @NAME@_axi. Port names as those tools give them:
// a stream `in` is in_r_T*, `err` with ap_vld is err and err_ap_vld, the reset is active low.
module core (
    input  wire        clk,
    input  wire        rst,
    input  wire [31:0] s_tdata,
    input  wire        s_tvalid,
    input  wire        s_tlast,
    output wire        s_tready,
    output wire [31:0] m_tdata,
    output wire        m_tvalid,
    output wire        m_tlast,
    input  wire        m_tready,
    output wire        err_short,
    output wire        err_long
);
    wire [1:0] err;
    wire       err_ap_vld;
    reg        rst_n;

    always @(posedge clk) rst_n <= ~rst;

    @NAME@_axi network (
        .ap_clk(clk),
        .ap_rst_n(rst_n),
        .in_r_TDATA(s_tdata),
        .in_r_TVALID(s_tvalid),
        .in_r_TREADY(s_tready),
@KEEP@        .in_r_TLAST(s_tlast),
        .out_r_TDATA(m_tdata),
        .out_r_TVALID(m_tvalid),
        .out_r_TREADY(m_tready),
        .out_r_TLAST(m_tlast),
        .err(err),
        .err_ap_vld(err_ap_vld)
    );

    assign err_short = err_ap_vld & err[0];
    assign err_long  = err_ap_vld & err[1];
endmodule
"""

// The verilated core as a shared library: a stream source, a sink that checks the handshake, random stalls on both sides.
#include <cstdint>
#include <cstring>
#include <memory>
#include <unistd.h>
#include "Vcore.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_vcd_c.h"
#endif

namespace {
struct Random {  // xorshift64*
    uint64_t state;
    uint32_t next() {
        state ^= state >> 12; state ^= state << 25; state ^= state >> 27;
        return static_cast<uint32_t>((state * 2685821657736338717ULL) >> 32);
    }
};

struct Bench {
    std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    std::unique_ptr<Vcore> core;
    int64_t cycle = 0;
#ifdef TRACE
    std::unique_ptr<VerilatedVcdC> trace;
#endif
    void half(int clk) {
        core->clk = clk;
        core->eval();
#ifdef TRACE
        if (trace) trace->dump(static_cast<uint64_t>(cycle * 2 + clk));
#endif
    }
};
}  // namespace

extern "C" {

// The core of the design in `dir` (memory files are read there); every register starts from random bits of `seed`, from 0 if seed is 0.
void* bench_open(const char* dir, uint32_t seed, const char* waveform) {
    char before[4096];
    if (!getcwd(before, sizeof before) || chdir(dir) != 0) return nullptr;
    auto* bench = new Bench;
    bench->context->randReset(seed ? 2 : 0);
    bench->context->randSeed(static_cast<int>(seed));
#ifdef TRACE
    bench->context->traceEverOn(true);
#endif
    bench->core.reset(new Vcore{bench->context.get()});
    bench->core->clk = 0;
    bench->core->eval();
    const bool back = chdir(before) == 0;
#ifdef TRACE
    if (waveform && *waveform) {
        bench->trace.reset(new VerilatedVcdC);
        bench->core->trace(bench->trace.get(), 99);
        bench->trace->open(waveform);
    }
#else
    (void)waveform;
#endif
    if (!back) { delete bench; return nullptr; }
    return bench;
}

void bench_close(void* handle) {
    auto* bench = static_cast<Bench*>(handle);
#ifdef TRACE
    if (bench->trace) bench->trace->close();
#endif
    bench->core->final();
    delete bench;
}

// rst = 1 for `cycles` cycles, with whatever the inputs were.
void bench_reset(void* handle, int64_t cycles) {
    auto* bench = static_cast<Bench*>(handle);
    bench->core->rst = 1;
    for (int64_t i = 0; i < cycles; ++i) { bench->half(0); bench->half(1); ++bench->cycle; }
    bench->core->rst = 0;
}

// Offer `n_in` beats, take beats until `n_out` have come and all were taken, then `quiet` more cycles; stops at `max_cycles`.
// A cycle without an offer, or without readiness, comes with probability stall_in, stall_out in 1/65536. in_cycle, out_cycle: when each beat
// moved. counts: beats in, beats out, short frames, long frames, handshake violations, cycles.
void bench_run(void* handle, const uint32_t* in, const uint8_t* in_last, int64_t n_in, int64_t* in_cycle, uint32_t* out, uint8_t* out_last,
               int64_t* out_cycle, int64_t n_out, int64_t room, int64_t max_cycles, int64_t quiet, uint32_t stall_in, uint32_t stall_out,
               uint64_t seed, int64_t* counts) {
    auto* bench = static_cast<Bench*>(handle);
    Vcore& core = *bench->core;
    Random random{seed * 2 + 1};
    std::memset(counts, 0, 6 * sizeof(int64_t));
    int64_t taken = 0, given = 0, start = bench->cycle, idle = 0;
    bool offering = false, pending = false;
    uint32_t data = 0;
    bool last = false;
    while (bench->cycle - start < max_cycles && idle <= quiet) {
        if (!offering && taken < n_in) offering = !stall_in || (random.next() & 65535) >= stall_in;
        core.s_tvalid = offering;
        core.s_tdata = offering ? in[taken] : random.next();
        core.s_tlast = offering ? in_last[taken] : random.next() & 1;
        core.m_tready = !stall_out || (random.next() & 65535) >= stall_out;
        bench->half(0);
        const bool moves_in = offering && core.s_tready;
        if (pending && !(core.m_tvalid && core.m_tdata == data && core.m_tlast == last)) ++counts[4];
        pending = core.m_tvalid && !core.m_tready;
        data = core.m_tdata;
        last = core.m_tlast;
        counts[2] += core.err_short;
        counts[3] += core.err_long;
        if (core.m_tvalid && core.m_tready) {
            if (given < room) { out[given] = data; out_last[given] = last; out_cycle[given] = bench->cycle; }
            ++given;
        }
        bench->half(1);
        if (moves_in) { in_cycle[taken++] = bench->cycle; offering = false; }
        ++bench->cycle;
        idle = taken >= n_in && given >= n_out ? idle + 1 : 0;
    }
    core.s_tvalid = 0;
    core.m_tready = 0;
    counts[0] = taken;
    counts[1] = given;
    counts[5] = bench->cycle - start;
}
}

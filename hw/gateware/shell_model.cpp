// The shell and its core as Verilator made them, with the processor's register port and a DDR memory: called through a C interface.
//
// The memory answers bursts of 8-byte beats in order, after a latency, with random pauses, and refuses (SLVERR) ranges that it was told;
// outside itself it answers DECERR. It watches the master: what AXI3 forbids is kept as one line, `shell_violation`.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "Vedgert_shell.h"
#include "verilated.h"

namespace {

constexpr int GIVE_UP = 10000;  // cycles after which a register access counts as never answered

struct Range {
    uint64_t low, high;
    bool reads, writes;
};

struct Burst {
    uint64_t address;
    int left;
    uint64_t ready;
};

struct Shell {
    VerilatedContext context;
    std::unique_ptr<Vedgert_shell> top;
    std::vector<uint8_t> memory;
    std::vector<Range> ranges;
    std::deque<Burst> reads, writes;
    std::deque<std::pair<uint64_t, int>> answers;  // write responses: when, what
    uint64_t base = 0, cycles = 0, state = 1, read_beats = 0, write_beats = 0;
    uint32_t latency = 0, pause = 0;               // pause: chance in 1024 that a channel rests for a cycle
    int sent = 0;                                  // beats of the oldest write burst that have come
    int refused = 0;                               // worst answer of that burst so far
    bool valid_r = false;
    std::string violation;
    // what the master showed last cycle and was not taken
    bool held_ar = false, held_aw = false, held_w = false;
    uint64_t last_ar = 0, last_aw = 0, last_w = 0;

    bool rest() {
        if (!pause) return false;
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        return (state >> 20 & 1023) < pause;
    }
    bool inside(uint64_t address) const { return address >= base && address + 8 <= base + memory.size(); }
    int answer(uint64_t address, bool write) const {
        if (!inside(address)) return 3;
        for (const Range &range : ranges)
            if (address + 8 > range.low && address < range.high && (write ? range.writes : range.reads)) return 2;
        return 0;
    }
    void wrong(const char *what) {
        if (violation.empty()) violation = std::string(what) + " in cycle " + std::to_string(cycles);
    }
    void check_burst(const char *channel, uint64_t address, int beats) {
        if (address % 8) wrong((std::string(channel) + ": address not a multiple of 8").c_str());
        if (address / 4096 != (address + 8 * beats - 1) / 4096) wrong((std::string(channel) + ": burst across 4 kB").c_str());
    }
    void watch(const char *channel, bool &held, uint64_t &last, bool valid, bool ready, uint64_t now) {
        if (held && (!valid || now != last)) wrong((std::string(channel) + ": changed before it was taken").c_str());
        held = valid && !ready;
        last = now;
    }

    void tick() {
        Vedgert_shell &t = *top;
        // what the memory offers in this cycle
        t.m_axi_arready = reads.size() < 8 && !rest();
        t.m_axi_awready = writes.size() < 4 && !rest();
        t.m_axi_wready = !rest();
        if (!valid_r) valid_r = !reads.empty() && reads.front().ready <= cycles && !rest();
        t.m_axi_rvalid = valid_r;
        if (valid_r) {
            uint64_t word = 0, at = reads.front().address;
            t.m_axi_rresp = answer(at, false);
            if (t.m_axi_rresp == 0) std::memcpy(&word, &memory[at - base], 8);
            t.m_axi_rdata = t.m_axi_rresp ? 0xDEADDEADDEADDEADull : word;
        }
        t.m_axi_bvalid = !answers.empty() && answers.front().first <= cycles;
        if (t.m_axi_bvalid) t.m_axi_bresp = answers.front().second;
        t.clk = 0;
        t.eval();
        // what moves at the edge
        const bool ar = t.m_axi_arvalid && t.m_axi_arready, aw = t.m_axi_awvalid && t.m_axi_awready;
        const bool w = t.m_axi_wvalid && t.m_axi_wready, r = valid_r && t.m_axi_rready, b = t.m_axi_bvalid && t.m_axi_bready;
        if (!t.rst) {
            watch("AR", held_ar, last_ar, t.m_axi_arvalid, t.m_axi_arready, uint64_t(t.m_axi_arlen) << 32 | t.m_axi_araddr);
            watch("AW", held_aw, last_aw, t.m_axi_awvalid, t.m_axi_awready, uint64_t(t.m_axi_awlen) << 32 | t.m_axi_awaddr);
            watch("W", held_w, last_w, t.m_axi_wvalid, t.m_axi_wready, t.m_axi_wdata);
        }
        if (ar) {
            check_burst("AR", t.m_axi_araddr, t.m_axi_arlen + 1);
            reads.push_back({t.m_axi_araddr, t.m_axi_arlen + 1, cycles + latency});
        }
        if (aw) {
            check_burst("AW", t.m_axi_awaddr, t.m_axi_awlen + 1);
            writes.push_back({t.m_axi_awaddr, t.m_axi_awlen + 1, 0});
        }
        if (r) {
            valid_r = false;
            read_beats++;
            reads.front().address += 8;
            if (--reads.front().left == 0) reads.pop_front();
        }
        if (w) pending.push_back({t.m_axi_wdata, bool(t.m_axi_wlast)});
        if (b) answers.pop_front();
        store();
        t.clk = 1;
        t.eval();
        cycles++;
        context.timeInc(1);
    }

    struct Beat {
        uint64_t data;
        bool last;
    };
    std::deque<Beat> pending;  // W beats, which may come before their address

    void store() {
        while (!pending.empty() && !writes.empty()) {
            Burst &burst = writes.front();
            const uint64_t at = burst.address + 8 * sent;
            const int said = answer(at, true);
            if (said == 0) std::memcpy(&memory[at - base], &pending.front().data, 8);
            refused = refused > said ? refused : said;
            write_beats++;
            if (pending.front().last != (++sent == burst.left)) wrong("W: last on the wrong beat");
            pending.pop_front();
            if (sent == burst.left) {
                answers.push_back({cycles + 1 + latency, refused});
                sent = refused = 0;
                writes.pop_front();
            }
        }
    }

    bool write(uint32_t offset, uint32_t value) {
        Vedgert_shell &t = *top;
        t.s_axi_awid = t.s_axi_awid + 1, t.s_axi_awaddr = offset, t.s_axi_awlen = 0, t.s_axi_awsize = 2, t.s_axi_awburst = 1;
        t.s_axi_wdata = value, t.s_axi_wstrb = 15;
        t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = 1;
        for (int i = 0; i < GIVE_UP; i++) {
            const bool aw = t.s_axi_awvalid && t.s_axi_awready, w = t.s_axi_wvalid && t.s_axi_wready, b = t.s_axi_bvalid;
            tick();
            if (aw) t.s_axi_awvalid = 0;
            if (w) t.s_axi_wvalid = 0;
            if (b) {
                t.s_axi_bready = 0;
                return true;
            }
        }
        return false;
    }

    bool read(uint32_t offset, uint32_t &value) {
        Vedgert_shell &t = *top;
        t.s_axi_arid = t.s_axi_arid + 1, t.s_axi_araddr = offset, t.s_axi_arlen = 0, t.s_axi_arsize = 2, t.s_axi_arburst = 1;
        t.s_axi_arvalid = t.s_axi_rready = 1;
        for (int i = 0; i < GIVE_UP; i++) {
            const bool ar = t.s_axi_arvalid && t.s_axi_arready, r = t.s_axi_rvalid;
            if (r) value = t.s_axi_rdata;
            tick();
            if (ar) t.s_axi_arvalid = 0;
            if (r) {
                t.s_axi_rready = 0;
                return true;
            }
        }
        return false;
    }

    void reset() {
        Vedgert_shell &t = *top;
        reads.clear(), writes.clear(), answers.clear(), pending.clear();
        sent = refused = 0;
        valid_r = held_ar = held_aw = held_w = false;
        t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = t.s_axi_arvalid = t.s_axi_rready = 0;
        t.rst = 1;
        for (int i = 0; i < 16; i++) tick();
        reads.clear(), writes.clear(), pending.clear();
        held_ar = held_aw = held_w = false;
        t.rst = 0;
        tick();
    }
};

}  // namespace

extern "C" {

// `directory`: where the core's `*.mem` files lie. Null: the directory cannot be entered.
void *shell_new(const char *directory, uint64_t base, uint64_t bytes) {
    char here[4096];
    if (!getcwd(here, sizeof here) || chdir(directory)) return nullptr;
    auto *shell = new Shell;
    shell->base = base;
    shell->memory.assign(bytes, 0);
    shell->top = std::make_unique<Vedgert_shell>(&shell->context);
    shell->top->clk = 0;
    shell->top->eval();
    if (chdir(here)) std::abort();
    shell->reset();
    return shell;
}
void shell_free(void *s) { delete static_cast<Shell *>(s); }
uint8_t *shell_memory(void *s) { return static_cast<Shell *>(s)->memory.data(); }
void shell_reset(void *s) { static_cast<Shell *>(s)->reset(); }
int shell_write(void *s, uint32_t offset, uint32_t value) { return static_cast<Shell *>(s)->write(offset, value); }
int shell_read(void *s, uint32_t offset, uint32_t *value) { return static_cast<Shell *>(s)->read(offset, *value); }
int shell_irq(void *s) { return static_cast<Shell *>(s)->top->irq; }
uint64_t shell_cycles(void *s) { return static_cast<Shell *>(s)->cycles; }
uint64_t shell_beats(void *s, int write) {
    return write ? static_cast<Shell *>(s)->write_beats : static_cast<Shell *>(s)->read_beats;
}
const char *shell_violation(void *s) { return static_cast<Shell *>(s)->violation.c_str(); }
void shell_slow(void *s, uint32_t latency, uint32_t pause, uint64_t seed) {
    auto &shell = *static_cast<Shell *>(s);
    shell.latency = latency, shell.pause = pause, shell.state = seed * 0x9E3779B97F4A7C15ull | 1;
}
void shell_refuse(void *s, uint64_t low, uint64_t high, int reads, int writes) {
    auto &ranges = static_cast<Shell *>(s)->ranges;
    if (low < high) ranges.push_back({low, high, reads != 0, writes != 0});
    else ranges.clear();
}
// Run `limit` cycles, or until the interrupt where `until_irq`; the number of cycles run.
uint64_t shell_run(void *s, uint64_t limit, int until_irq) {
    auto &shell = *static_cast<Shell *>(s);
    uint64_t done = 0;
    while (done < limit && !(until_irq && shell.top->irq)) shell.tick(), done++;
    return done;
}
}

"""The shell of docs/gateware.md in plain Python, computing with the NumPy kernel, with faults on demand: `ShellModel`'s interface.

Time is counted in cycles; a register access takes some. Slots are served in the order of their STARTs, one is read while another
computes. Faults are attributes; those that count do so per frame started.
"""

from __future__ import annotations

import numpy as np

BASE = 0x1000_0000
SHORT, LONG, READ_REFUSED, WRITE_REFUSED, OUTSIDE, OVERRUN, WATCHDOG = (1 << n for n in range(7))
ACCESS, CHECK, LATENCY, INTERVAL, RESET = 8, 4, 700, 500, 16  # cycles


class Job:
    """A frame on its way."""

    def __init__(self, slot, source, target, now):
        self.slot, self.source, self.target = slot, source, target
        self.start = now
        self.fetched = None  # cycle at which its frame has been read; the frame then is in `pixels`
        self.pixels = None
        self.due = None
        self.refused = False


class FakeShell:
    """`kernel(frame)` gives int8 logits. `model_id`, `board`, `version`, `magic` are what the constants say."""

    def __init__(self, kernel, shape, classes, model_id, clock_hz=100_000_000, board=1, size=1 << 20, base=BASE):
        self.kernel, self.shape, self.classes = kernel, tuple(shape), classes
        self.model_id, self.board, self.clock_hz = model_id, board, clock_hz
        self.magic, self.version = 0x45444752, 0x10000
        self.base, self.memory = base, np.zeros(size, np.uint8)
        self.frame_bytes = int(np.prod(shape))
        self.latency = LATENCY
        # faults
        self.core_hangs = 0        # so many frames are never answered; a reset helps
        self.memory_hangs = False  # memory never answers: a reset does not come to rest
        self.inject = 0            # ERRORS bits that the next frame causes
        self.garbage = 0           # so many answers have a bit flipped
        self.short_answers = 0     # so many answers lack their last beat
        self.long_answers = 0      # so many have a beat too many
        self.dead_after = None     # frames until every register reads all ones
        self.stopped_clock = False
        self.late = 0              # so many frames take ten times the latency
        self.refused_ranges = []   # (low, high) that memory refuses
        # what tests look at
        self.written_after_reset = 0
        self.answers_begun = self.resets = self.starts = 0
        self.cycles = 0
        self.reset()

    def reset(self):
        """The hardware reset."""
        self.memory_hangs = False
        self._clear()
        self.resetting = None

    def _clear(self):
        self.registers = {}
        self.jobs, self.waiting = [], []
        self.busy, self.done, self.failed = [False, False], [False, False], [False, False]
        self.errors = self.answers = 0
        self.slot_cycles = [0, 0]
        self.warned = [False, False]
        self.left_over = b""
        self.reader_free = self.core_free = self.cycles
        self.hung = False

    # Registers --------------------------------------------------------------------------------------------------------

    def read(self, offset):
        self.run(ACCESS)
        if self.dead_after is not None and self.dead_after <= 0:
            return 0xFFFFFFFF
        if 0x10 <= offset < 0x30:
            at = (offset - 0x10) * 2
            return int(self.model_id[at:at + 8], 16)
        status = sum(1 << n for n in (0, 1) if self.busy[n]) | sum(4 << n for n in (0, 1) if self.done[n])
        status |= sum(256 << n for n in (0, 1) if self.failed[n]) | (16 if self.resetting is not None else 0)
        return {0x00: self.magic, 0x04: self.version, 0x08: self.board, 0x0C: self.clock_hz, 0x30: self.frame_bytes, 0x34: self.classes,
                0x38: 0 if self.stopped_clock else self.cycles & 0xFFFFFFFF, 0x44: status, 0x48: self.errors, 0x70: self.slot_cycles[0],
                0x74: self.slot_cycles[1], 0x78: self.answers}.get(offset, self.registers.get(offset, 0))

    def write(self, offset, value):
        self.run(ACCESS)
        value &= 0xFFFFFFFF
        if self.resetting is not None:
            return
        if offset == 0x40:
            if value & 4:
                self.resets += 1
                self.resetting = self.cycles
                return
            for slot in (0, 1):
                if value >> slot & 1:
                    self._start(slot)
        elif offset == 0x48:
            self.errors &= ~value
        elif offset == 0x4C:
            for slot in (0, 1):
                self.done[slot] &= not value >> (2 + slot) & 1
        elif 0x50 <= offset <= 0x6C:
            held = self.busy[0] if offset in (0x60, 0x64) else self.busy[1] if offset in (0x68, 0x6C) else any(self.busy)
            if not held or offset in (0x50, 0x5C):
                self.registers[offset] = value

    def _start(self, slot):
        if self.busy[slot]:
            self.errors |= OVERRUN
            return
        self.starts += 1
        if self.dead_after is not None:
            self.dead_after -= 1
        self.busy[slot], self.done[slot], self.failed[slot] = True, False, False
        self.slot_cycles[slot] = 0
        self.warned[slot] = False
        get = self.registers.get
        source, target = get(0x60 + 8 * slot, 0), get(0x64 + 8 * slot, 0)
        low, high = get(0x54, 0), get(0x58, 0)
        rooms = -(-self.frame_bytes // 8) * 8, -(-self.classes // 8) * 8
        if source % 8 or target % 8 or min(source, target) < low or source + rooms[0] > high or target + rooms[1] > high:
            self._end(slot, OUTSIDE)
            return
        job = Job(slot, source, target, self.cycles)
        begin = max(self.cycles + CHECK, self.reader_free)
        self.reader_free = job.fetched = begin + rooms[0] // 8 + 20
        latency = self.latency * (10 if self.late > 0 else 1)
        self.late -= self.late > 0
        job.due = max(job.fetched, self.core_free) + latency
        self.core_free = job.due - latency + INTERVAL
        self.jobs.append(job)

    def _end(self, slot, errors=0):
        self.busy[slot] = False
        self.errors |= errors
        self.failed[slot] = bool(errors)
        self.done[slot] = not errors

    # Time -------------------------------------------------------------------------------------------------------------

    @property
    def irq(self):
        enabled = self.registers.get(0x50, 0)
        return bool(enabled & 1 and any(self.done)) or bool(enabled & 2 and self.errors)

    def run(self, cycles):
        if not self.jobs and self.resetting is None:
            self.cycles += cycles
            return
        for _ in range(cycles):
            self._tick()

    def run_until_irq(self, limit):
        while limit > 0 and not self.irq:
            if not self.jobs and self.resetting is None:
                self.cycles += limit
                break
            self._tick()
            limit -= 1
        return self.irq

    def _tick(self):
        self.cycles += 1
        if self.resetting is not None:
            reading = any(job.pixels is None for job in self.jobs)
            if self.cycles - self.resetting >= RESET and not (self.memory_hangs and reading):
                self._clear()
                self.resetting = None
            return
        limit = self.registers.get(0x5C, 0)
        for slot in (0, 1):
            if self.busy[slot]:
                self.slot_cycles[slot] += 1
                if limit and self.slot_cycles[slot] > limit and not self.warned[slot]:
                    self.warned[slot] = True
                    self.errors |= WATCHDOG
        for job in self.jobs:
            if job.pixels is None and self.cycles >= job.fetched and not self.memory_hangs:
                job.refused = self._refused(job.source, self.frame_bytes)
                at = max(0, job.source - self.base)
                job.pixels = self.memory[at:at + self.frame_bytes].copy()
        if self.jobs and self.jobs[0].pixels is not None and self.cycles >= self.jobs[0].due and not self.hung:
            self._answer(self.jobs[0])

    def _refused(self, address, count):
        outside = address < self.base or address + count > self.base + len(self.memory)
        return outside or any(address + count > low and address < high for low, high in self.refused_ranges)

    def _answer(self, job):
        if self.inject:
            self.errors |= self.inject
            ends = self.inject & (READ_REFUSED | WRITE_REFUSED | OUTSIDE)
            self.inject = 0
            if ends:
                self._end(job.slot, ends)
                self.jobs.pop(0)
            else:
                self.hung = True  # a broken frame's answer is not given
            return
        if self.core_hangs > 0:
            self.core_hangs -= 1
            self.hung = True
            return
        if job.refused:
            self._end(job.slot, READ_REFUSED)
            self.jobs.pop(0)
            return
        logits = np.array(self.kernel(job.pixels.reshape(self.shape)), np.int8)
        if self.garbage > 0:
            self.garbage -= 1
            logits[0] ^= 1
        beats = logits.tobytes().ljust(-(-self.classes // 4) * 4, b"\0")
        out = self.left_over + beats
        if self.short_answers > 0:
            self.short_answers -= 1
            out = out[:-4]
        if self.long_answers > 0:
            self.long_answers -= 1
            out += b"\x5a" * 4
        room = len(beats)
        if len(out) < room:
            self.hung = True  # the writer waits for beats that do not come
            return
        self.left_over = out[room:]
        place = -(-self.classes // 8) * 8
        if self._refused(job.target, place):
            self._end(job.slot, WRITE_REFUSED)
        else:
            at = job.target - self.base
            self.memory[at:at + place] = np.frombuffer(out[:room].ljust(place, b"\0"), np.uint8)
            self.answers += 1
            self._end(job.slot)
        self.jobs.pop(0)

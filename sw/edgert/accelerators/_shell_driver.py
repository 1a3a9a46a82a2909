"""The shell's driver: everything that is done with the registers of docs/gateware.md, on silicon and in simulation alike.

It works over a `Port`. Two slots, each with a frame's and an answer's place in one block of memory; `infer` uses them in turn, `stream`
keeps both filled. No wait is without a bound, in the port's time. After any failure the next call begins with a soft reset.

Out of scope: whether the fabric may be touched at all (`_fabric.py`), what to do after failures (the executive).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from ..errors import AcceleratorTimeout, FabricFault
from .base import check_frame

ID, VERSION, BOARD, CLOCK_HZ, MODEL = 0x00, 0x04, 0x08, 0x0C, 0x10
FRAME_BYTES, ANSWER_BYTES, CLOCK = 0x30, 0x34, 0x38
CONTROL, STATUS, ERRORS, ACK, IRQ_ENABLE = 0x40, 0x44, 0x48, 0x4C, 0x50
WINDOW_LOW, WINDOW_HIGH, TIMEOUT = 0x54, 0x58, 0x5C
SOURCE, TARGET, CYCLES, ANSWERS = (0x60, 0x68), (0x64, 0x6C), (0x70, 0x74), 0x78

MAGIC, MAJOR = 0x45444752, 1
SOFT_RESET, RESETTING = 1 << 2, 1 << 4
BUSY, DONE = (1 << 0, 1 << 1), (1 << 2, 1 << 3)
STATUS_BITS = {0: "slot 0 busy", 1: "slot 1 busy", 2: "slot 0 done", 3: "slot 1 done", 4: "resetting", 8: "slot 0 failed",
               9: "slot 1 failed"}
ERROR_BITS = ("short frame", "long frame", "read refused", "write refused", "address outside the window or not a multiple of 8",
              "start of a busy slot", "watchdog: busy longer than TIMEOUT")
WATCHDOG = 1 << 6
UNSEEN = 0xA5  # what an answer's place holds before: bytes that were not written show
LINE = 64      # places begin on lines of the cache
RESET_LIMIT_NS = 500_000
SLICE_NS = 250_000  # an interrupt that got lost costs no more than this
RESET_STEP = "it is reset before the next frame; `edgert board selftest` tests it"

_KEPT: list[Any] = []  # memory that a fabric which did not come to rest may still write to

Finding = tuple[str, bool, str, str]  # name, whether it is right, what was found, what to do otherwise


class Port(Protocol):
    """A shell's registers, memory that it can reach, its interrupt and its time.

    `allocate` gives uint8 [n], an array like PYNQ's: `.physical_address`, `.flush()` before the fabric reads, `.invalidate()` after it
    wrote, all three of slices too. `wait_interrupt` comes back at the interrupt, at the latest after `timeout_ns`; too early is allowed.
    """

    def read(self, offset: int) -> int: ...
    def write(self, offset: int, value: int) -> None: ...
    def allocate(self, count: int) -> Any: ...
    def wait_interrupt(self, timeout_ns: int) -> None: ...
    def now_ns(self) -> int: ...


def decode_status(word: int) -> str:
    """STATUS in words."""
    known = [text for bit, text in STATUS_BITS.items() if word >> bit & 1]
    return f"0x{word:X} ({', '.join(known) or 'idle'})"


def decode_errors(word: int) -> str:
    """ERRORS in words."""
    known = [text for bit, text in enumerate(ERROR_BITS) if word >> bit & 1]
    return f"0x{word:X} ({', '.join(known) or 'none'})"


def identity(port: Port, board: int, model_id: str, frame_bytes: int, answer_bytes: int) -> Iterator[Finding]:
    """What the constants say against what they should; stops at the first that is wrong. The fabric must be programmed and clocked."""
    reload = "load the right bitstream; edgert doctor says which ones are here"
    word = port.read(ID)
    yield "fabric id", word == MAGIC, f"0x{word:08X}, expected 0x{MAGIC:08X} (EDGR)", reload
    if word != MAGIC:
        return
    word = port.read(VERSION)
    yield "fabric version", word >> 16 == MAJOR, f"{word >> 16}.{word & 0xFFFF}, this edgert drives {MAJOR}.x", "build the bitstream again"
    word = port.read(BOARD)
    yield "fabric board", word == board, f"built for board {word}, this is board {board}", reload
    first = port.read(CLOCK)
    start_ns = port.now_ns()
    while (second := port.read(CLOCK)) == first and port.now_ns() - start_ns < RESET_LIMIT_NS:
        pass
    yield "fabric counter", second != first, f"counter {first} then {second}, at {port.read(CLOCK_HZ) / 1e6:g} MHz", "check FCLK0"
    found = "".join(f"{port.read(MODEL + 4 * i):08x}" for i in range(8))
    yield "fabric model", found == model_id, f"{found[:12]}..., the bundle is {model_id[:12]}...", reload
    sizes = port.read(FRAME_BYTES), port.read(ANSWER_BYTES)
    yield ("fabric sizes", sizes == (frame_bytes, answer_bytes), f"frame and answer {sizes[0]} and {sizes[1]} bytes, the bundle's are "
           f"{frame_bytes} and {answer_bytes}", reload)


def quiesce(port: Port) -> bool:
    """Soft reset of whatever shell is loaded, transfers drained; whether it came to rest within the bound."""
    port.write(CONTROL, SOFT_RESET)
    end_ns = port.now_ns() + RESET_LIMIT_NS
    while (status := port.read(STATUS)) != 0:
        if port.now_ns() >= end_ns or status >> 16:
            return False
        port.wait_interrupt(10_000)
    return True


class ShellDriver:
    """An identified shell. `cycles` is what the last frame took from START to its answer in memory."""

    def __init__(self, port: Port, shape: tuple[int, ...], classes: int):
        self.port, self.shape, self.classes = port, shape, classes
        self.frame_bytes = int(np.prod(shape))
        self.cycles = 0
        self.clock_hz = port.read(CLOCK_HZ)
        self._source_room, self._target_room = (-(-n // LINE) * LINE for n in (self.frame_bytes, classes))
        room = self._source_room + self._target_room
        self._memory: Any = port.allocate(2 * room + LINE)
        skip = -int(self._memory.physical_address) % LINE
        self._slots = [self._memory[skip + slot * room:skip + (slot + 1) * room] for slot in (0, 1)]
        self._sources = [slot[:self.frame_bytes] for slot in self._slots]
        self._targets = [slot[self._source_room:self._source_room + -(-classes // 8) * 8] for slot in self._slots]
        self._limit_ns = 0
        self._slot = 0
        self._answers = 0
        self._unsafe = True

    def limit(self, limit_ns: int) -> None:
        """Set the watchdog: no frame takes longer than this from its START."""
        self._limit_ns = limit_ns
        self.port.write(TIMEOUT, min(limit_ns * self.clock_hz // 1_000_000_000, 0xFFFFFFFF))

    def reset(self) -> None:
        """Soft reset, transfers drained, and everything set again. Raises AcceleratorTimeout where it does not come to rest."""
        self._unsafe = True
        if not quiesce(self.port):
            raise AcceleratorTimeout(f"the FPGA did not come to rest within {RESET_LIMIT_NS / 1e3:g} us of its reset, STATUS "
                                     f"{decode_status(self.port.read(STATUS))}", "it must be programmed again")
        errors = self.port.read(ERRORS)
        if errors:
            raise FabricFault(f"the FPGA has ERRORS {decode_errors(errors)} right after its reset", "program it again", 0, errors)
        low = int(self._slots[0].physical_address)
        self.port.write(WINDOW_LOW, low)
        self.port.write(WINDOW_HIGH, low + 2 * (self._source_room + self._target_room))
        for slot in (0, 1):
            self.port.write(SOURCE[slot], low + slot * (self._source_room + self._target_room))
            self.port.write(TARGET[slot], low + slot * (self._source_room + self._target_room) + self._source_room)
        self.limit(self._limit_ns)
        self.port.write(IRQ_ENABLE, 3)
        self._answers = self.port.read(ANSWERS)
        self._slot = 0
        self._unsafe = False

    def infer(self, frame: np.ndarray, limit_ns: int) -> np.ndarray:
        """Logits int8 [classes], a copy, of a frame uint8 [h, w, c], at most `limit_ns` of the port's time after the call.

        Raises AcceleratorTimeout, FabricFault; AcceleratorError for a wrong frame.
        """
        check_frame(frame, self.shape)
        end_ns = self.port.now_ns() + limit_ns
        if self._unsafe:
            self.reset()
        return self._finish(self._begin(frame), end_ns)

    def stream(self, frames: Iterable[np.ndarray], limit_ns: int) -> Iterator[np.ndarray]:
        """Logits of each frame in order; while one is computed the next is read. `limit_ns` bounds the wait for each.

        Where the iteration is left early, what is under way is thrown away with the next call's reset.
        """
        if self._unsafe:
            self.reset()
        under_way: deque[int] = deque()
        complete = False
        try:
            for frame in frames:
                check_frame(frame, self.shape)
                if len(under_way) == 2:
                    yield self._finish(under_way.popleft(), self.port.now_ns() + limit_ns)
                under_way.append(self._begin(frame))
            while under_way:
                yield self._finish(under_way.popleft(), self.port.now_ns() + limit_ns)
            complete = True
        finally:
            self._unsafe |= not complete

    def _begin(self, frame: np.ndarray) -> int:
        """Put a frame in the next slot and start it; the slot."""
        slot, self._slot = self._slot, 1 - self._slot
        self._sources[slot][:] = frame.reshape(-1)
        self._targets[slot][:] = UNSEEN
        self._slots[slot].flush()
        self.port.write(CONTROL, 1 << slot)
        return slot

    def _finish(self, slot: int, end_ns: int) -> np.ndarray:
        """Wait for a slot's answer and copy it."""
        port = self.port
        while True:
            left_ns = end_ns - port.now_ns()  # before looking: who was stalled meanwhile still finds the answer
            status = port.read(STATUS)
            if status & DONE[slot] and not status >> 16:
                break
            errors = port.read(ERRORS)
            if status >> 16 or errors >> len(ERROR_BITS):
                raise self._fault("the FPGA's registers read what the shell never gives", status, errors)
            if errors & WATCHDOG:
                raise self._timeout(slot, "the FPGA's watchdog", status, errors)
            if errors or not status & (BUSY[slot] | DONE[slot]):
                raise self._fault("the FPGA did not answer a frame", status, errors)
            if left_ns <= 0:
                raise self._timeout(slot, "the driver's bound", status, errors)
            port.wait_interrupt(min(left_ns, SLICE_NS))
        errors, answers = port.read(ERRORS), port.read(ANSWERS)
        self._answers = self._answers + 1 & 0xFFFFFFFF
        behind = answers - self._answers & 0xFFFFFFFF
        if errors or behind > 1:  # one more may be there already: the other slot's
            raise self._fault(f"the FPGA says that it answered, but counts {answers} answers where {self._answers} are due", status, errors)
        self.cycles = port.read(CYCLES[slot])
        port.write(ACK, DONE[slot])
        target = self._targets[slot]
        target.invalidate()
        answer = np.array(target, dtype=np.uint8)  # never the live buffer
        if answer[self.classes:].any():
            raise self._fault(f"the FPGA's answer is not of {self.classes} bytes: behind it {answer[self.classes:].tolist()}, not zeros",
                              status, errors)
        return answer[:self.classes].view(np.int8)

    def _timeout(self, slot: int, who: str, status: int, errors: int) -> AcceleratorTimeout:
        self._unsafe = True
        cycles = self.port.read(CYCLES[slot])
        return AcceleratorTimeout(f"the FPGA had no answer by {who}: STATUS {decode_status(status)}, ERRORS {decode_errors(errors)}, "
                                  f"{cycles} cycles since START", RESET_STEP)

    def _fault(self, what: str, status: int, errors: int) -> FabricFault:
        self._unsafe = True
        return FabricFault(f"{what}: STATUS {decode_status(status)}, ERRORS {decode_errors(errors)}", RESET_STEP, status, errors)

    def close(self, touch: bool = True) -> None:
        """Come to rest and give the memory back. Where it does not, or may not be touched, the memory is kept: it may still be written."""
        memory, self._memory = self._memory, None
        self._slots, self._sources, self._targets = [], [], []
        if memory is None:
            return
        if touch and quiesce(self.port):
            memory.freebuffer()
        else:
            _KEPT.append(memory)

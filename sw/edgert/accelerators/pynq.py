"""`pynq`: the ternary network in the FPGA of a PYNQ board, through the shell of docs/gateware.md.

Before the first register is touched: this is a board, the FPGA is nobody else's, the bitstream is whole and made for this part and this
model (`_bitstreams.py`), it is loaded, the FPGA is programmed, clocked and out of reset (`_fabric.py`); then what the registers say of
themselves. A shell that an earlier process left in the middle of a transfer is brought to rest before it is used or replaced.

The same code drives the simulation (`rtl.py`): only the `System` differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.loading import MARGIN
from ..errors import AcceleratorError, AcceleratorMissing, AcceleratorTimeout, BitstreamRefused, FabricFault, FabricLost
from . import _bitstreams
from ._fabric import ROOT, Board, Fabric, Lock, System
from ._shell_driver import Finding, ShellDriver, identity, quiesce
from .base import Accelerator, self_test

if TYPE_CHECKING:
    from ..bundle import Bundle

REGISTER_BYTES = 4096
FIRST_LIMIT_NS = 100_000_000  # for a frame, until its time is known
CALIBRATION = 16              # frames that it is known from
ODD = 10                      # a way so many times longer than usual was a stall of this machine
CYCLE_MARGIN = 1.05           # over the longest seen, for the memory's refresh and other masters
INSTANCE = "edgert"           # the shell's name in the .hwh


class PynqPort:
    """The shell behind PYNQ: see `_shell_driver.Port`."""

    def __init__(self, system: System, base: int):
        self._system, self._pynq = system, system.pynq
        self._registers = system.registers(base, REGISTER_BYTES)
        self.read, self.write = self._registers.read, self._registers.write
        self.now_ns = system.now_ns
        self._interrupt = system.interrupt()

    def allocate(self, count: int) -> Any:
        """uint8 [count] that the fabric can reach."""
        try:
            return self._pynq.allocate((count,), dtype=np.uint8)
        except (MemoryError, RuntimeError) as error:
            raise AcceleratorError(f"no memory for the FPGA: {count} bytes ({error})", "raise cma= on the kernel's command line") from None

    def wait_interrupt(self, timeout_ns: int) -> None:
        """Until the interrupt, at most `timeout_ns`; at once where there is no interrupt: the caller looks and waits itself."""
        if self._interrupt is None:
            self._system.nap(timeout_ns)
        else:
            self._interrupt.wait(timeout_ns)

    def close(self) -> None:
        """Give the interrupt back."""
        if self._interrupt is not None:
            self._interrupt.close()
            self._interrupt = None


class PynqAccelerator(Accelerator):
    """Each wait for a frame ends after `budget_ns`, its worst case, however far its deadline is."""

    name = "pynq"
    rank = 30
    hardware = True

    def __init__(self) -> None:
        self.budget_ns = FIRST_LIMIT_NS
        self.cycles = 0
        self.overlay: Any = None
        self.driver: ShellDriver | None = None
        self._system: System | None = None
        self._fabric: Fabric | None = None
        self._port: PynqPort | None = None
        self._lock: Lock | None = None
        self._wcet: tuple[int, str] = (0, "")

    # What a simulation has otherwise ----------------------------------------------------------------------------------

    def system(self, bundle: Bundle) -> System:
        """The machine."""
        return System()

    def places(self, bundle: Bundle) -> list[Path]:
        """Where bitstreams are looked for."""
        return _bitstreams.roots(bundle)

    # Opening ----------------------------------------------------------------------------------------------------------

    def open(self, bundle: Bundle) -> None:
        """Take the FPGA, load the bundle's bitstream, and learn how long a frame takes.

        Raises AcceleratorMissing, FabricBusy, BitstreamRefused, FabricLost, FabricFault, AcceleratorTimeout.
        """
        self._start(bundle)
        try:
            self._calibrate(bundle)
        except BaseException:
            self.close()
            raise

    def _start(self, bundle: Bundle) -> None:
        system = self.system(bundle)
        board = system.board()
        directory, manifest = _bitstreams.find(board.name, bundle.model_id, self.places(bundle))
        bitstream = _bitstreams.check(directory, manifest, board.name, board.part, bundle.model_id)
        lock = system.lock()
        lock.take()
        self._system, self._lock, self._fabric = system, lock, Fabric(system, board)
        try:
            self._load(bitstream, board)
            self._fabric.require()
            self._fabric.widen()
            self._port = PynqPort(system, self._base(board))
            for name, right, found, fix in identity(self._port, board.number, bundle.model_id, int(np.prod(bundle.input_shape)),
                                                    len(bundle.classes)):
                if not right:
                    raise FabricFault(f"{name}: {found}", fix)
            self.driver = ShellDriver(self._port, bundle.input_shape, len(bundle.classes))
            self.budget_ns = FIRST_LIMIT_NS
            self.driver.limit(self.budget_ns)
            self.driver.reset()
        except BaseException:
            self.close()
            raise

    def _load(self, bitstream: _bitstreams.Bitstream, board: Board) -> None:
        """Program the FPGA, unless this very bitstream is in it; what an earlier process left is brought to rest first."""
        assert self._system is not None and self._lock is not None and self._fabric is not None
        name, right, found, fix = self._fabric.device()
        if not right:
            raise BitstreamRefused(f"{name}: {found}; nothing is loaded", fix)
        pynq = self._system.pynq
        wanted = {"boot": self._system.boot(), "bit": str(bitstream.bit.resolve()), "sha256": bitstream.sha256}
        before = self._lock.loaded
        same = False
        if before.get("boot") == wanted["boot"] and self._named(pynq) == before.get("bit"):  # a shell of ours is in the FPGA
            with contextlib.suppress(FabricLost):
                self._fabric.require()
                port = PynqPort(self._system, board.register_base)
                same = quiesce(port) and before == wanted
                port.close()
        if not same:
            self._lock.note({})
        try:
            self.overlay = pynq.Overlay(wanted["bit"], download=not same)
        except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise AcceleratorError(f"PYNQ cannot load {bitstream.bit} ({type(error).__name__}: {error})",
                                   ROOT) from error
        self._lock.note(wanted)

    @staticmethod
    def _named(pynq: Any) -> str | None:
        """Path of the bitstream that PYNQ loaded last on this machine, as far as it knows."""
        try:
            return str(pynq.PL.bitfile_name)
        except (AttributeError, RuntimeError, OSError):  # it never loaded one
            return None

    def _base(self, board: Board) -> int:
        entry = self.overlay.ip_dict.get(INSTANCE)
        if entry is None or int(entry["phys_addr"]) != board.register_base:
            found = "no such IP" if entry is None else f"0x{int(entry['phys_addr']):08X}"
            raise FabricFault(f"the .hwh has {INSTANCE!r} at {found}, expected 0x{board.register_base:08X}", _bitstreams.BUILD)
        return board.register_base

    def _calibrate(self, bundle: Bundle) -> None:
        """Learn from golden frames how long one takes: cycles, and what the way there and back adds."""
        assert self.driver is not None and self._port is not None and self._system is not None
        frames = bundle.arrays("golden.npz")["frames"]
        cycles, ways_ns = 0, []
        for index in range(CALIBRATION):
            start_ns = self._port.now_ns()
            self.driver.infer(frames[index % len(frames)], FIRST_LIMIT_NS)
            took_ns = self._port.now_ns() - start_ns
            cycles = max(cycles, self.driver.cycles)
            if index:  # the first one warms up
                ways_ns.append(took_ns - self._in_ns(self.driver.cycles))
        self.cycles = cycles
        way_ns = max(way for way in ways_ns if way <= ODD * np.median(ways_ns))  # a stall is an assumption of its own
        computing_ns = self._in_ns(int(cycles * CYCLE_MARGIN))
        if self._system.transport is None:
            transport_ns, source = int(way_ns * MARGIN), f"measured, times {MARGIN:g}"
        else:
            transport_ns, source = self._system.transport
        clock = f"{self.driver.clock_hz / 1e6:g} MHz"
        self._wcet = (computing_ns + transport_ns, f"{cycles} cycles at {clock}, times {CYCLE_MARGIN:g}, + {transport_ns / 1e3:.0f} us of "
                      f"transport ({source})")
        self.budget_ns = self._wcet[0] + max(0, way_ns - transport_ns)
        self.driver.limit(self.budget_ns)

    def _in_ns(self, cycles: int) -> int:
        assert self.driver is not None
        return -(-cycles * 1_000_000_000 // self.driver.clock_hz)

    # Answering --------------------------------------------------------------------------------------------------------

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]`, a copy, of a frame uint8 `[h, w, c]`.

        The wait ends after `budget_ns`: a deadline further away is not waited for, and one that is nearer does not make slow hardware
        of a frame that came late.
        """
        if self.driver is None or self._fabric is None:
            raise AcceleratorError(f"accelerator {self.name!r} is not open")
        if not self._fabric.there():
            self._fabric.require()
        return self.driver.infer(frame, self.budget_ns)

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Logits of many frames in order; while one is computed the next one is read."""
        if self.driver is None or self._fabric is None:
            raise AcceleratorError(f"accelerator {self.name!r} is not open")
        self._fabric.require()
        self.driver.limit(2 * self.budget_ns)
        try:
            yield from self.driver.stream(frames, 2 * self.budget_ns)
        finally:
            if self.driver is not None:
                self.driver.limit(self.budget_ns)

    def recover(self, bundle: Bundle) -> int:
        """After a failure: reset, transfers drained, and the golden frames; the bitstream is not loaded again."""
        if self.driver is None or self._fabric is None:
            return super().recover(bundle)
        self._fabric.require()
        self.driver.reset()
        return self_test(self, bundle)

    def close(self) -> None:
        """Bring the FPGA to rest and let the next process have it; the bitstream stays loaded."""
        touch = self._fabric is not None and all(right for _, right, _, _ in self._fabric.checks())
        if self.driver is not None:
            self.driver.close(touch)
        if self._port is not None:
            self._port.close()
        if self._lock is not None:
            self._lock.release()
        if self._system is not None:
            self._system.close()
        self.driver = self._fabric = self._port = self._lock = self._system = self.overlay = None

    # Telling ----------------------------------------------------------------------------------------------------------

    def hardware_checks(self, bundle: Bundle) -> Iterator[Finding]:
        """What the hardware says of itself, one by one, stopping at the first that is wrong; for `edgert board selftest`.

        Closed, it is opened for it. Raises what `open` does.
        """
        opened = self.driver is None
        if opened:
            self._start(bundle)
        assert self._fabric is not None and self._port is not None and self.driver is not None
        try:
            findings = [self._fabric.device(), *self._fabric.checks()]
            if all(right for _, right, _, _ in findings):
                findings += identity(self._port, self._fabric.board.number, bundle.model_id, self.driver.frame_bytes, self.driver.classes)
            if all(right for _, right, _, _ in findings):
                findings.append(self._resets())
        finally:
            if opened:
                self.close()
        yield from findings

    def _resets(self) -> Finding:
        assert self.driver is not None
        try:
            self.driver.reset()
        except (AcceleratorTimeout, FabricFault) as error:
            return "fabric at rest", False, error.message, error.next_step
        return "fabric at rest", True, "after a soft reset", ""

    def wcet_ns(self) -> tuple[int, str]:
        """Cycles / clock and transport, as seen when it was opened, with their margins."""
        if self.driver is None:
            raise AcceleratorMissing(f"accelerator {self.name!r} is not open")
        return self._wcet

    def about(self) -> str:
        """Board and clock."""
        if self.driver is None or self._fabric is None:
            return f"{self.name}, closed"
        return f"FPGA of {self._fabric.board.name}, {self.driver.clock_hz / 1e6:g} MHz, {self.cycles} cycles a frame"


ACCELERATOR = PynqAccelerator

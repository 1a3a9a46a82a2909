"""A simulated shell behind PYNQ's names: `Overlay`, `MMIO`, `allocate`, `PL`; so that a desktop runs the board's driver, line for line.

The model is a `gateware.shell_model.ShellModel`, or anything with its `read`, `write`, `memory`, `base`, `run`, `run_until_irq`, `cycles`.
What silicon would punish is an error here: a register touched while the FPGA is not programmed or not clocked, an answer read from
memory without `invalidate`, a frame written without `flush` (buffers are copies, as caches are).

Out of scope: DMA engines, AXI interrupt controllers, device trees, any overlay but the shell's.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np

from ._fabric import (
    AFI0,
    BOARDS,
    CRL_APB,
    FPGA0_CLK_CTRL,
    FPGA0_THR_CNT,
    FPGA_RST_CTRL,
    LVL_SHFTR_EN,
    PL0_REF_CTRL,
    PSS_IDCODE,
    SLCR,
    Board,
    System,
)
from ._promise import TRANSPORT_NS

FIRST_BYTES = 4096  # of the model's memory, left to nobody: an address of 0 by mistake shows


class Model(Protocol):
    """A simulated shell: see `gateware.shell_model.ShellModel`."""

    base: int
    memory: np.ndarray

    @property
    def cycles(self) -> int: ...
    def read(self, offset: int) -> int: ...
    def write(self, offset: int, value: int) -> None: ...
    def run(self, cycles: int) -> None: ...
    def run_until_irq(self, limit: int) -> bool: ...


class Hangs(BaseException):
    """Silicon would never answer this access, and the processor would stop for ever; no handler may make light of that."""


class SimulatedSystem(System):
    """A board whose FPGA is `model` and whose time is the model's; `processor` holds the registers of the processor that matter."""

    emulated = True

    def __init__(self, model: Model, board: Board, clock_hz: int, transport: tuple[int, str] | None = (TRANSPORT_NS, "assumed")):
        super().__init__(Path("/nonexistent"))
        self.model, self._board, self.clock_hz = model, board, clock_hz
        self.transport = transport
        self.state = "unknown"
        self.processor: dict[int, int] = {
            SLCR + FPGA0_CLK_CTRL: 0, SLCR + FPGA0_THR_CNT: 0, SLCR + FPGA_RST_CTRL: 1, SLCR + LVL_SHFTR_EN: 0,
            SLCR + PSS_IDCODE: board.device_code << 12 | 0x93, CRL_APB + PL0_REF_CTRL: 0, AFI0: 1, AFI0 + 0x14: 1}
        self._pynq = Pynq(self)
        self._interrupt = _Interrupt(self)

    @property
    def pynq(self) -> Pynq:
        """What stands for the package."""
        return self._pynq

    def board(self) -> Board:
        """The board that is simulated."""
        return self._board

    def fpga_state(self) -> str:
        """`operating` once an overlay was downloaded."""
        return self.state

    def boot(self) -> str:
        """Always the same."""
        return "simulated"

    def interrupt(self) -> Any:
        """The model's interrupt line."""
        return self._interrupt

    def now_ns(self) -> int:
        """The model's time."""
        return self.model.cycles * 1_000_000_000 // self.clock_hz

    def nap(self, timeout_ns: int) -> None:
        """Time passes only when the model runs."""
        self.model.run(max(1, min(1000, timeout_ns) * self.clock_hz // 1_000_000_000))

    def lock(self) -> Any:
        """Each simulation has an FPGA of its own."""
        return _NoLock()

    def programmed(self) -> bool:
        """Whether the shell's registers answer."""
        return self.state == "operating" and self.processor[SLCR + FPGA_RST_CTRL] == 0 and self.processor[SLCR + FPGA0_THR_CNT] == 0


class _NoLock:
    """Stands for `_fabric.Lock`."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}

    def take(self) -> None: ...

    def note(self, loaded: dict[str, Any]) -> None:
        self.loaded = loaded

    def release(self) -> None: ...


class _Interrupt:
    """Stands for `_fabric.Interrupt`."""

    def __init__(self, system: SimulatedSystem):
        self._system = system

    def wait(self, timeout_ns: int) -> None:
        """Let the model run until its interrupt, at most so long."""
        self._system.model.run_until_irq(max(1, timeout_ns * self._system.clock_hz // 1_000_000_000))

    def close(self) -> None: ...


class Pynq:
    """Stands for the package `pynq`."""

    def __init__(self, system: SimulatedSystem):
        self.system = system
        self.PL = _PL()
        self.allocated = 0  # bytes of the model's memory in use, and never given out again
        self.downloads = 0

    def MMIO(self, base_addr: int, length: int = 4) -> _Registers:  # noqa: N802
        """Registers: the shell's, or the processor's."""
        return _Registers(self.system, base_addr, length)

    def Overlay(self, bitfile_name: str, download: bool = True) -> _Overlay:  # noqa: N802
        """Load a bitstream with the `.hwh` of its stem."""
        return _Overlay(self, bitfile_name, download)

    def allocate(self, shape: tuple[int, ...], dtype: Any = "u4") -> Buffer:
        """An array in the model's memory."""
        model, offset = self.system.model, FIRST_BYTES + self.allocated
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if offset + count > len(model.memory):
            raise MemoryError(f"{count} bytes do not fit into the model's memory")
        self.allocated += -(-count // 4096) * 4096
        return Buffer.within(model, offset, shape, dtype)


class _PL:
    """Stands for `pynq.PL`."""

    bitfile_name: str | None = None


class _Registers:
    """Stands for `pynq.MMIO`."""

    def __init__(self, system: SimulatedSystem, base: int, length: int):
        self._system, self._base, self._length = system, base, length
        self._shell = base == system.board().register_base

    def _check(self, offset: int) -> None:
        if offset % 4 or not 0 <= offset < self._length:
            raise MemoryError(f"unaligned or outside: 0x{offset:X}")
        if self._shell and not self._system.programmed():
            raise Hangs(f"register 0x{offset:02X} of an FPGA that is {self._system.state}, not programmed or not clocked")

    def read(self, offset: int = 0) -> int:
        """A register of 32 bits."""
        self._check(offset)
        return self._system.model.read(offset) if self._shell else self._system.processor[self._base + offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register of 32 bits."""
        self._check(offset)
        if self._shell:
            self._system.model.write(offset, value)
        else:
            self._system.processor[self._base + offset] = value


class _Overlay:
    """Stands for `pynq.Overlay`."""

    def __init__(self, pynq: Pynq, bitfile_name: str, download: bool):
        bit = Path(bitfile_name)
        tree = ElementTree.fromstring(bit.with_suffix(".hwh").read_bytes())
        bit.read_bytes()
        self.ip_dict = {}
        for memory in tree.iter("MEMRANGE"):
            self.ip_dict[memory.get("INSTANCE", "")] = {"phys_addr": int(memory.get("BASEVALUE", "0"), 16)}
        self._pynq, self.bitfile_name = pynq, str(bit)
        pynq.PL.bitfile_name = str(bit)
        if download:
            self.download()

    def download(self) -> None:
        """Program the FPGA, clocks first."""
        system = self._pynq.system
        self._pynq.downloads += 1
        system.processor[SLCR + FPGA0_CLK_CTRL] = 5 << 20 | 2 << 8
        system.processor[SLCR + FPGA0_THR_CNT] = system.processor[SLCR + FPGA_RST_CTRL] = 0
        system.processor[SLCR + LVL_SHFTR_EN] = 0xF
        system.processor[CRL_APB + PL0_REF_CTRL] = 1 << 24 | 1 << 16 | 15 << 8
        system.state = "operating"
        reset = getattr(system.model, "reset", None)
        if reset is not None:
            reset()


class Buffer(np.ndarray):
    """Stands for `PynqBuffer`: a copy of a piece of the model's memory, brought there and back by `flush` and `invalidate`; slices too."""

    physical_address: int | None
    _model: Any
    _place: int
    freed: bool

    @classmethod
    def within(cls, model: Model, offset: int, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """At `offset` of the model's memory; what is in it is what an uninitialised cache would show."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer: Buffer = np.full(count, 0xEE, np.uint8).view(dtype).reshape(shape).view(cls)
        buffer._model, buffer._place, buffer.physical_address, buffer.freed = model, offset, model.base + offset, False
        return buffer

    def __array_finalize__(self, source: Any) -> None:
        self._model, self._place, self.physical_address, self.freed = getattr(source, "_model", None), -1, None, False
        if isinstance(source, Buffer) and source.physical_address is not None and self._inside(source):
            offset = self.__array_interface__["data"][0] - source.__array_interface__["data"][0]
            self._place, self.physical_address = source._place + offset, source.physical_address + offset

    def _inside(self, source: Buffer) -> bool:
        low, at = source.__array_interface__["data"][0], self.__array_interface__["data"][0]
        return bool(low <= at and at + self.nbytes <= low + source.nbytes)

    def _piece(self) -> np.ndarray:
        if self._place < 0:
            raise ValueError("this array is no piece of the FPGA's memory")
        piece: np.ndarray = self._model.memory[self._place:self._place + self.nbytes]
        return piece

    def flush(self) -> None:
        """What was written here can be read by the FPGA."""
        self._piece()[:] = np.asarray(self).reshape(-1).view(np.uint8)

    def invalidate(self) -> None:
        """What the FPGA wrote can be read here."""
        np.asarray(self).reshape(-1).view(np.uint8)[:] = self._piece()

    def freebuffer(self) -> None:
        """Give it back."""
        self.freed = True


def board_named(name: str) -> Board:
    """A board by name."""
    return next(board for board in BOARDS if board.name == name)


def stand_in(directory: Path, hwh: bytes, board: Board, model_id: str, content: bytes) -> Path:
    """What stands for a built bitstream: a `.bit` whose data is the sha256 of `content`, the `.hwh`, a manifest, all below `directory`.

    Returns `directory`, a root for `_bitstreams.find`.
    """
    home = directory / board.name / "simulated"
    home.mkdir(parents=True, exist_ok=True)
    files = {"edgert.bit": bit_file(board.part, hashlib.sha256(content).digest()), "edgert.hwh": hwh}
    for name, data in files.items():
        (home / name).write_bytes(data)
    manifest = {"format": 1, "board": board.name, "part": board.part, "model_id": model_id,
                "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return directory


def bit_file(part: str, data: bytes) -> bytes:
    """A `.bit` around `data`."""
    fields = b"".join(key + struct.pack(">H", len(text) + 1) + text.encode() + b"\0"
                      for key, text in ((b"a", "edgert;simulated"), (b"b", part), (b"c", "2000/01/01"), (b"d", "00:00:00")))
    return b"\0\x09" + bytes.fromhex("0ff00ff00ff00ff000") + b"\0\x01" + fields + b"e" + struct.pack(">I", len(data)) + data

"""What must be true before the FPGA's registers are touched, and who may touch them.

An access to the registers of an FPGA that is not programmed or has no clock is never answered: this processor stops for ever, and no
bound helps. So everything is asked of the system first, through files and through registers of the processor that always answer.

`System` is the machine as the driver sees it: files below a root, PYNQ, a clock, an interrupt. `_facade.py` has a simulated one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import AcceleratorError, AcceleratorMissing, FabricBusy, FabricLost, UsageError
from ._shell_driver import Finding

SLCR = 0xF800_0000            # Zynq-7000 system level control registers (UG585)
FPGA0_CLK_CTRL, FPGA0_THR_CNT, FPGA_RST_CTRL, PSS_IDCODE, LVL_SHFTR_EN = 0x170, 0x178, 0x240, 0x530, 0x900
AFI0, AFI_READ, AFI_WRITE = 0xF800_8000, 0x00, 0x14  # bit 0: HP0 is 32 bits wide; no bitstream sets it
CRL_APB, PL0_REF_CTRL = 0xFF5E_0000, 0xC0            # Zynq UltraScale+ (UG1087); bit 24: clock active
MANAGER = "sys/class/fpga_manager/fpga0/state"
LOCK = "run/lock/edgert-fpga.lock"
ROOT = "as root, with XRT's environment: sudo bash -lc '...'"


@dataclass(frozen=True)
class Board:
    """A board as the driver needs to know it; hw/gateware/boards has what its tools need."""

    name: str
    number: int       # register BOARD
    part: str
    register_base: int
    seven_series: bool
    device_code: int  # of the processor's id code, bits 12 to 16; 0: not looked at
    told_by: tuple[str, ...]  # how the system names it, in small letters


BOARDS = (
    Board("pynq-z2", 1, "xc7z020clg400-1", 0x4000_0000, True, 0x07, ("pynq-z2", "pynq z2")),
    Board("zcu102", 2, "xczu9eg-ffvb1156-2-e", 0xA000_0000, False, 0, ("zcu102",)),
)


class Interrupt:
    """A UIO device as an interrupt: `wait` comes back when it fired, or after the bound."""

    def __init__(self, path: str):
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_ns: int) -> None:
        """Wait for it at most `timeout_ns`."""
        os.write(self._fd, b"\1\0\0\0")  # the kernel masks it when it fires
        if select.select([self._fd], [], [], timeout_ns / 1e9)[0]:
            os.read(self._fd, 4)

    def close(self) -> None:
        """Give the device back."""
        os.close(self._fd)


class System:
    """This machine: its files below `root`, PYNQ as installed."""

    emulated = False
    transport: tuple[int, str] | None = None  # ns, and whether measured or assumed; None: it is measured

    def __init__(self, root: Path = Path("/")):
        self.root = root
        self._state_fd = -1

    @property
    def pynq(self) -> Any:
        """The package `pynq`. Raises AcceleratorMissing."""
        try:
            import pynq
        except ImportError as error:
            raise AcceleratorMissing(f"the package pynq cannot be imported here ({error})",
                                     "use PYNQ's image and its Python: sudo bash -lc 'edgert doctor'") from None
        return pynq

    def registers(self, base: int, length: int) -> Any:
        """Registers of 32 bits at a physical address: PYNQ's MMIO. Raises AcceleratorError."""
        try:
            return self.pynq.MMIO(base, length)
        except (OSError, RuntimeError, ValueError) as error:
            raise AcceleratorError(f"PYNQ gives no access to registers ({type(error).__name__}: {error})", ROOT) from error

    def text(self, path: str) -> str:
        """A file's content, "" where there is none."""
        try:
            return (self.root / path).read_bytes().decode(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def board(self) -> Board:
        """Which board this is. Raises AcceleratorMissing; UsageError for an EDGERT_BOARD that is unknown."""
        asked = os.environ.get("EDGERT_BOARD", "").lower()
        if asked:
            for board in BOARDS:
                if board.name == asked:
                    return board
            raise UsageError(f"EDGERT_BOARD is {asked!r}", f"there are {', '.join(b.name for b in BOARDS)}")
        if not self.text(MANAGER):
            raise AcceleratorMissing("this machine has no FPGA (no /sys/class/fpga_manager)", "use --accelerator auto")
        settings = [line.partition("=") for line in self.text("etc/environment").splitlines()]
        named = [value.strip("'\" ") for key, _, value in settings if key == "BOARD"]
        told = [self.text("proc/device-tree/chosen/pynq_board"), *named, self.text("proc/device-tree/model")]
        for name in told:
            for board in BOARDS:
                if any(word in name.lower() for word in board.told_by):
                    return board
        raise AcceleratorMissing(f"this board is unknown ({', '.join(filter(None, told)) or 'it has no name'})",
                                 f"EDGERT_BOARD={BOARDS[0].name} names it; there are {', '.join(b.name for b in BOARDS)}")

    def fpga_state(self) -> str:
        """What the kernel says of the FPGA; `operating`: it is programmed."""
        try:
            if self._state_fd < 0:
                self._state_fd = os.open(self.root / MANAGER, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._state_fd, 64, 0).decode(errors="replace").strip() or "unknown"
        except OSError:
            return "unknown"

    def boot(self) -> str:
        """Identity of this boot: what was loaded before another is gone."""
        return self.text("proc/sys/kernel/random/boot_id")

    def interrupt(self) -> Any:
        """The fabric's interrupt, None where the system has no UIO device for it."""
        for name in sorted((self.root / "sys/class/uio").glob("*/name")):
            if name.read_text().strip() == "fabric":
                return Interrupt(f"/dev/{name.parent.name}")
        return None

    def now_ns(self) -> int:
        """Time of everything that waits for the fabric."""
        return time.monotonic_ns()

    def nap(self, timeout_ns: int) -> None:
        """Wait without an interrupt: not at all, the next look costs a microsecond or two."""

    def close(self) -> None:
        """Give open files back."""
        if self._state_fd >= 0:
            os.close(self._state_fd)
            self._state_fd = -1

    def lock(self) -> Lock:
        """The right to use the FPGA."""
        return Lock(self.root / LOCK)


class Fabric:
    """The FPGA of a system's board, asked without touching it."""

    def __init__(self, system: System, board: Board):
        self.system, self.board = system, board
        self._registers: Any = None

    def _processor(self) -> Any:
        """Registers of the processor that tell about clocks: they answer whatever the FPGA does."""
        if self._registers is None:
            self._registers = self.system.registers(SLCR if self.board.seven_series else CRL_APB, 0x1000)
        return self._registers

    def device(self) -> Finding:
        """The chip itself against the board that this is said to be."""
        if not self.board.device_code:
            return "fabric device", True, f"{self.board.part} (not asked)", ""
        code = self._processor().read(PSS_IDCODE) >> 12 & 0x1F
        return ("fabric device", code == self.board.device_code, f"device code 0x{code:02X}, a {self.board.part} has "
                f"0x{self.board.device_code:02X}", "EDGERT_BOARD names the right board")

    def checks(self) -> Iterator[Finding]:
        """Programmed, clocked, out of reset, connected; stops at the first that is wrong."""
        state = self.system.fpga_state()
        yield "fabric programmed", state == "operating", f"FPGA manager: {state}", "load a bitstream: edgert board selftest does"
        if state != "operating":
            return
        read = self._processor().read
        if self.board.seven_series:
            control, stopped = read(FPGA0_CLK_CTRL), read(FPGA0_THR_CNT) & 0xFFFF
            divided = control >> 8 & 0x3F and control >> 20 & 0x3F
            yield ("fabric clock", bool(divided) and not stopped, f"FCLK0 divided by {control >> 8 & 0x3F} and {control >> 20 & 0x3F}"
                   + (f", stopped after {stopped} pulses" if stopped else ""), "load the bitstream with its .hwh: it sets FCLK0")
            reset, shifters = read(FPGA_RST_CTRL) & 1, read(LVL_SHFTR_EN) & 0xF
            yield "fabric reset", not reset, f"FPGA_RST_CTRL bit 0 is {reset}", "load the bitstream again"
            yield "fabric connected", shifters == 0xF, f"LVL_SHFTR_EN 0x{shifters:X}, expected 0xF", "load the bitstream again"
        else:
            control = read(PL0_REF_CTRL)
            divided = control >> 8 & 0x3F and control >> 16 & 0x3F
            yield ("fabric clock", bool(divided) and bool(control >> 24 & 1), f"PL0_REF_CTRL 0x{control:08X}",
                   "load the bitstream with its .hwh: it sets PL_CLK0")

    def there(self) -> bool:
        """Whether `checks` would all be right, asked quickly: before each frame. Where it is False, ask `require` why."""
        if self.system.fpga_state() != "operating":
            return False
        read = self._processor().read
        if self.board.seven_series:
            control = read(FPGA0_CLK_CTRL)
            return bool(control & 0x3F00 and control & 0x3F0_0000 and not read(FPGA0_THR_CNT) & 0xFFFF
                        and not read(FPGA_RST_CTRL) & 1 and read(LVL_SHFTR_EN) & 0xF == 0xF)
        control = read(PL0_REF_CTRL)
        return bool(control & 0x3F00 and control & 0x3F_0000 and control >> 24 & 1)

    def require(self) -> None:
        """Raise FabricLost where the registers may not be touched."""
        for _, right, found, fix in self.checks():
            if not right:
                raise FabricLost(f"the FPGA may not be touched: {found}", fix)

    def widen(self) -> None:
        """Set HP0 to 64 bits where no bitstream does."""
        if self.board.seven_series:
            port = self.system.registers(AFI0, 0x20)
            for offset in (AFI_READ, AFI_WRITE):
                port.write(offset, port.read(offset) & ~1 & 0xFFFFFFFF)


class Lock:
    """One process has the FPGA: a file with its pid, locked as long as it lives, which also tells the next one what is loaded."""

    _mine: ClassVar[set[Path]] = set()  # a lock of the system's does not keep the same process out

    def __init__(self, path: Path):
        self.path = path
        self._fd = -1
        self.loaded: dict[str, Any] = {}  # what the last owner loaded: boot, bit, sha256

    def take(self) -> None:
        """Raises FabricBusy with the pid that has it; a lock of a dead process is taken over."""
        if self.path in self._mine:
            raise FabricBusy(f"this process (pid {os.getpid()}) has the FPGA already", "close the other accelerator first")
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise AcceleratorError(f"the lock of the FPGA cannot be opened ({self.path}: {error.strerror})",
                                   ROOT) from None
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = self._content(fd).get("pid", "?")
            os.close(fd)
            raise FabricBusy(f"process {pid} has the FPGA", f"stop it first: ps {pid}") from None
        self._fd = fd
        self._mine.add(self.path)
        found = self._content(fd).get("loaded")
        self.loaded = found if isinstance(found, dict) else {}
        self._write(os.getpid())

    @staticmethod
    def _content(fd: int) -> dict[str, Any]:
        """What the file says; {} where a kill left half of it."""
        with contextlib.suppress(ValueError):
            found = json.loads(os.pread(fd, 65536, 0))
            return found if isinstance(found, dict) else {}
        return {}

    def _write(self, pid: int) -> None:
        content = json.dumps({"pid": pid, "loaded": self.loaded}).encode() + b"\n"
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content, 0)

    def note(self, loaded: dict[str, Any]) -> None:
        """Keep what is loaded now; {}: nobody knows."""
        self.loaded = loaded
        self._write(os.getpid())

    def release(self) -> None:
        """Let the next one in."""
        if self._fd >= 0:
            self._write(0)
            os.close(self._fd)
            self._fd = -1
            self._mine.discard(self.path)

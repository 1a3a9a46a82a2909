"""`rtl`: the generated hardware itself, shell and core under Verilator, driven by the board's own driver (`pynq.py`) behind PYNQ's names.

The bits are the hardware's, cycle by cycle. Its time is

    cycles of this frame / clock + transport (87 us, assumed: nobody has measured this shell on silicon)

and no answer comes out earlier. A simulation is slower than that by far: what comes out later than promised is an overshoot, as for
`emulated`, and a run with more than 0.1 % of them is INVALID. Admission counts what a frame takes on this machine, so that the run itself
is in time where the deadline leaves room; for the hardware's timing in a live run use `--accelerator emulated`.

EDGERT_RTL names a directory that `edgert hw rtl` wrote; without it the network is generated with its defaults, once, into the cache. Needs
the extra `hw`, Verilator and a C++ compiler.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AcceleratorError, AcceleratorMissing
from . import _facade
from ._promise import TRANSPORT_NS, Promise
from .base import measured_wcet_ns
from .pynq import PynqAccelerator

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ._fabric import System

BOARD = "pynq-z2"
GENERATE = "edgert hw rtl {} -o DIRECTORY, then EDGERT_RTL=DIRECTORY"


class RtlAccelerator(Promise, PynqAccelerator):
    """`promised_ns` is what the hardware would take, transport included, for the longest frame seen."""

    name = "rtl"
    rank = 0
    emulated = True
    builds = True

    def __init__(self) -> None:
        super().__init__()
        self.promised_ns = 0
        self._bitstreams: tempfile.TemporaryDirectory[str] | None = None
        self._machine: tuple[int, str] = (0, "")

    def directory(self, bundle: Bundle) -> Path:
        """The generated hardware of a bundle, made now where it is not there. Raises AcceleratorMissing, AcceleratorError."""
        try:
            from gateware.folding import CHIPS, NoFolding, Search
            from gateware.generate import NotGenerated, generate, read
            from gateware.shell_model import cache
        except ImportError as error:
            raise AcceleratorMissing(f"generating hardware needs {error.name}", "pip install 'edgert[hw]'") from None
        given = os.environ.get("EDGERT_RTL", "")
        home = Path(given) if given else cache().parent / "rtl" / f"{bundle.model_id[:16]}-{_version()}"
        try:
            build = read(home)
        except NotGenerated as error:
            if given:
                raise AcceleratorError(str(error), GENERATE.format(bundle.name)) from None
            try:
                found = Search(bundle.network, CHIPS[BOARD]).least_cycles(CHIPS[BOARD].lut // 2)
            except NoFolding as refused:
                raise AcceleratorMissing(f"bundle {bundle.name!r} does not fit half of a {BOARD} ({refused})",
                                         GENERATE.format(bundle.name)) from None
            build = generate(found, home, BOARD, 100_000_000, bundle.arrays("golden.npz"))
        if build["model_id"] != bundle.model_id:
            raise AcceleratorError(f"{home} is of model {build['model_id'][:12]}, bundle {bundle.name!r} is {bundle.model_id[:12]}",
                                   GENERATE.format(bundle.name))
        return home

    def model(self, directory: Path) -> Any:
        """The hardware of a generated directory under Verilator. Raises AcceleratorMissing."""
        from gateware.shell_model import ModelError, ShellModel

        try:
            return ShellModel(directory)
        except ModelError as error:
            raise AcceleratorMissing(str(error), "pip install 'edgert[hw]'; apt-get install g++") from None

    def system(self, bundle: Bundle) -> System:
        """A board in simulation, with the generated hardware in its FPGA."""
        from gateware.generate import read

        directory = self.directory(bundle)
        build = read(directory)
        board = _facade.board_named(build["board"])
        self._bitstreams = tempfile.TemporaryDirectory(prefix="edgert-rtl-")
        content = (directory / "build.json").read_bytes()
        _facade.stand_in(Path(self._bitstreams.name), (directory / "edgert.hwh").read_bytes(), board, build["model_id"], content)
        return _facade.SimulatedSystem(self.model(directory), board, int(build["clock_hz"]), (TRANSPORT_NS, "assumed"))

    def places(self, bundle: Bundle) -> list[Path]:
        """The simulation's own bitstream only."""
        return [Path(self._bitstreams.name)] if self._bitstreams is not None else []

    def open(self, bundle: Bundle) -> None:
        """Build (the first time), start, and learn how long a frame takes, here and in hardware."""
        super().open(bundle)
        try:
            self.promised_ns = self._promise()
            self._machine = measured_wcet_ns(self, bundle)
        except BaseException:
            self.close()
            raise
        self.reset_counts()

    def _promise(self) -> int:
        """What the hardware would have taken for the last frame, in ns."""
        assert self.driver is not None
        return self._in_ns(self.driver.cycles) + TRANSPORT_NS

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]` of a frame uint8 `[h, w, c]`, when the hardware would have them, or later."""
        start_ns = time.monotonic_ns()
        logits = super().infer(frame, deadline_ns)
        self.promised_ns = max(self.promised_ns, self._promise())
        self.keep(start_ns + self._promise())
        return logits

    def close(self) -> None:
        """Free the simulation; the counts stay."""
        super().close()
        if self._bitstreams is not None:
            self._bitstreams.cleanup()
            self._bitstreams = None

    def wcet_ns(self) -> tuple[int, str]:
        """What a frame takes on this machine: the run is admitted with what will happen, not with what the hardware would do."""
        hardware_ns, source = super().wcet_ns()
        here_ns, how = self._machine
        return max(hardware_ns, here_ns), f"simulated: {how}; the hardware would take {hardware_ns / 1e3:.0f} us ({source})"

    def about(self) -> str:
        """What is simulated."""
        return f"RTL of the {super().about()} + {TRANSPORT_NS / 1e3:g} us of transport assumed, under Verilator"


def _version() -> str:
    """Changes with the generator's sources: what an older one made is not used."""
    import gateware

    root = Path(str(gateware.__file__)).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("*.py", "*.json", "rtl/**/*", "shell/*", "boards/*.py") for path in root.glob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


ACCELERATOR = RtlAccelerator

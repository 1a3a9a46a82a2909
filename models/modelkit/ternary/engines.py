"""The offline engines of a ternary network, by name, and the check that they all give the same bits.

| name | runs | needs |
|---|---|---|
| reference | `mandatory.npz`, the integer definition | NumPy |
| numpy | `mandatory.npz`, the fast kernel | NumPy |
| litert | `mandatory.tflite` under LiteRT's XNNPACK | `ai_edge_litert` |
| onnxruntime | `mandatory.onnx`, read and rewritten as QCDQ | `onnx`, `onnxruntime` |
| qonnx | `mandatory.onnx` by qonnx's own executor | `onnx`, `qonnx` |

`ENGINES[name].make(source)` takes a `Network` or a bundle directory and returns a function from frames uint8 [n, h, w, c] to
logits int8 [n, classes]. Heavy modules are imported when an engine is made.
"""

from __future__ import annotations

import importlib.util
import os
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import numpy as np

from modelkit.ternary import npz, reference
from modelkit.ternary.network import Network

Run = Callable[[np.ndarray], np.ndarray]
Source = Network | str | os.PathLike[str]

MAX_GOLDEN_BYTES = 256 << 20


def _network(source: Source) -> Network:
    return source if isinstance(source, Network) else npz.load(Path(source) / "mandatory.npz")


def _reference(source: Source) -> Run:
    network = _network(source)
    return lambda frames: reference.forward(network, frames)


def _numpy(source: Source) -> Run:
    from modelkit.ternary.kernel import Kernel

    return Kernel(_network(source)).batch


def _litert(source: Source) -> Run:
    from modelkit.ternary import tflite

    model = tflite.dumps(source) if isinstance(source, Network) else (Path(source) / "mandatory.tflite").read_bytes()
    runner = tflite.Runner(model)
    return lambda frames: np.stack([runner(frame) for frame in frames])


def _onnxruntime(source: Source) -> Run:
    from modelkit.ternary import qcdq, qonnx_io

    return qcdq.runner(source if isinstance(source, Network) else qonnx_io.read(Path(source) / "mandatory.onnx"))


def _qonnx(source: Source) -> Run:
    from modelkit.ternary import qonnx_io

    return qonnx_io.runner(qonnx_io.model(source) if isinstance(source, Network) else qonnx_io.load(Path(source) / "mandatory.onnx"))


@attrs.frozen
class Engine:
    """One way to compute a ternary network's logits."""

    name: str
    make: Callable[[Source], Run]
    needs: tuple[str, ...] = ()

    def available(self) -> tuple[bool, str]:
        """(True, "") or (False, which module is missing and what to install); imports nothing."""
        missing = [module for module in self.needs if importlib.util.find_spec(module) is None]
        if not missing:
            return True, ""
        extra = "tflite" if self.name == "litert" else "models"
        return False, f"{', '.join(missing)} not installed: pip install 'edgert[{extra}]'"


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("reference", _reference),
        Engine("numpy", _numpy),
        Engine("litert", _litert, ("ai_edge_litert",)),
        Engine("onnxruntime", _onnxruntime, ("onnx", "onnxruntime")),
        Engine("qonnx", _qonnx, ("onnx", "qonnx")),
    )
}


@attrs.frozen
class Result:
    """What one engine did with `frames` frames: `logits` values compared, `distinct` different logit vectors it gave.

    `mismatches` counts the logits that differ from the reference, None where the engine did not run: `reason` says why.
    `seconds` is the time for all frames, without making the engine.
    """

    engine: str
    frames: int
    logits: int = 0
    distinct: int = 0
    mismatches: int | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def exact(self) -> bool:
        """True where the engine ran and no logit differs."""
        return self.mismatches == 0


def distinct_rows(logits: np.ndarray) -> int:
    """Number of different rows of int8 [n, classes]."""
    return len({row.tobytes() for row in logits})


def compare(name: str, logits: np.ndarray, expected: np.ndarray, seconds: float = 0.0) -> Result:
    """The `Result` of logits against the expected ones, both int8 [n, classes]; another shape or dtype counts as all wrong."""
    same = logits.shape == expected.shape and logits.dtype == expected.dtype
    mismatches = int((logits != expected).sum()) if same else expected.size
    return Result(name, len(expected), expected.size, distinct_rows(logits), mismatches, seconds)


def golden(bundle: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """(frames uint8 [n, h, w, c], logits int8 [n, classes]) of `golden.npz`; ValueError where it is too big or damaged."""
    path = Path(bundle) / "golden.npz"
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_GOLDEN_BYTES:
            raise ValueError(f"expected at most {MAX_GOLDEN_BYTES} bytes, found {size}")
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["frames"], arrays["logits"]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def verify(bundle: str | os.PathLike[str], frames: np.ndarray | None = None, engines: Iterable[str] | None = None) -> list[Result]:
    """Compare engines with the integer reference of a bundle's `mandatory.npz`, one `Result` each.

    `frames` is uint8 [n, h, w, c]; where None, the bundle's golden frames, and a first result `golden` compares the logits stored
    with them. `engines` are names, all of them where None. An engine that is not installed, or whose file is missing or
    refused, gets a result with `mismatches` None and the reason. Raises ValueError for an unknown name, a bad bundle or no frames.
    """
    names = list(ENGINES if engines is None else engines)
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise ValueError(f"unknown engine {', '.join(unknown)}: expected some of {', '.join(ENGINES)}")
    network = _network(bundle)
    stored = None
    if frames is None:
        frames, stored = golden(bundle)
    if len(frames) == 0:
        raise ValueError("expected at least one frame")
    expected = reference.forward(network, frames)
    results = [] if stored is None else [compare("golden", stored, expected)]
    for name in names:
        present, reason = ENGINES[name].available()
        if not present:
            results.append(Result(name, len(frames), reason=reason))
            continue
        try:
            run = ENGINES[name].make(bundle)
            start = time.perf_counter()
            logits = run(frames)
        except (ValueError, OSError, RuntimeError) as error:
            results.append(Result(name, len(frames), reason=str(error)))
            continue
        results.append(compare(name, logits, expected, time.perf_counter() - start))
    return results

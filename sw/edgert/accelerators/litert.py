"""`litert`: the bundle's `mandatory.tflite` through the TFLite runtime's XNNPACK delegate, the fastest exact CPU engine.

Exact only where the delegate takes the whole graph. tflite-runtime 2.14 delegates no int8 graph, and its own int8 kernels round
twice: it is refused, and the self-test would refuse it too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..board import floats
from ..errors import AcceleratorError, AcceleratorMissing
from .base import Accelerator, check_frame, measured_wcet_ns

if TYPE_CHECKING:
    from ..bundle import Bundle

RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))  # module, distribution
INSTALL = "pip install 'edgert[tflite]'"


def runtime() -> tuple[Any, str]:
    """The `Interpreter` class of the best TFLite runtime installed, and its name and version. Raises AcceleratorMissing."""
    faults = []
    for module, distribution in RUNTIMES:
        try:
            found = __import__(f"{module}.interpreter", fromlist=["Interpreter"]).Interpreter
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != module:
                faults.append(f"{distribution}: {error}")
            continue
        except (ImportError, AttributeError, OSError) as error:  # made for another NumPy, a library missing
            faults.append(f"{distribution}: {error}".splitlines()[0])
            continue
        try:
            return found, f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            return found, distribution
    if faults:
        raise AcceleratorMissing(f"the TFLite runtime cannot be imported ({'; '.join(faults)})",
                                 f"tflite-runtime needs numpy<2; else {INSTALL}")
    raise AcceleratorMissing("no TFLite runtime is installed", INSTALL)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what C code writes to stderr (the runtime greets there) away from the user."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def load(content: bytes, what: str) -> tuple[Any, str]:
    """An interpreter of a `.tflite`, one thread, ready to invoke, and the runtime's name. Raises AcceleratorMissing or AcceleratorError."""
    interpreter_class, name = runtime()
    refused = floats.refusal(content)
    if refused:
        raise AcceleratorMissing(f"{name} is not given {what}: {refused}", "use int8 models")
    try:
        with quiet():
            interpreter = interpreter_class(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
    except (ImportError, SystemError) as error:  # tflite-runtime 2.14 notices NumPy 2 only here
        raise AcceleratorMissing(f"{name} does not work with NumPy {np.__version__}", "pip install 'numpy<2'") from error
    except (ValueError, RuntimeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AcceleratorError(f"{name} cannot load {what} ({reason})") from error
    return interpreter, name


def delegated(interpreter: Any) -> bool:
    """One delegate reads the model's input and writes its output: the whole graph runs in XNNPACK."""
    found = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    return len(found) == 1 and source in found[0]["inputs"] and sink in found[0]["outputs"]


class LiteRTAccelerator(Accelerator):
    """Computes in this process, on one thread."""

    name = "litert"
    rank = 20
    _interpreter: Any = None

    def open(self, bundle: Bundle) -> None:
        """Load `mandatory.tflite`. Raises AcceleratorMissing without a runtime that takes the whole graph."""
        if "mandatory.tflite" not in bundle.contents:
            raise AcceleratorMissing(f"bundle {bundle.name!r} has no mandatory.tflite", "use --accelerator numpy")
        interpreter, self._runtime = load(bundle.contents["mandatory.tflite"], "mandatory.tflite")
        if not delegated(interpreter):
            raise AcceleratorMissing(f"{self._runtime} does not run the whole graph in XNNPACK, and its own int8 kernels are not exact",
                                     "use --accelerator numpy")
        source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        shape = [1, *bundle.input_shape]
        if list(source["shape"]) != shape or source["dtype"] is not np.int8 or sink["dtype"] is not np.int8:
            found = f"{np.dtype(source['dtype'])} {list(source['shape'])}"
            raise AcceleratorError(f"mandatory.tflite takes {found}, the bundle says int8 {shape}")
        self._bundle = bundle
        self._input, self._output = source["index"], sink["index"]
        self._flipped = np.empty(shape, dtype=np.uint8)
        self._interpreter = interpreter

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]` of a frame uint8 `[h, w, c]`; cannot be interrupted, so the deadline is not looked at."""
        interpreter = self._interpreter
        if interpreter is None:
            raise AcceleratorError("accelerator 'litert' is not open")
        check_frame(frame, self._bundle.input_shape)
        np.bitwise_xor(frame, 0x80, out=self._flipped[0])
        try:
            interpreter.set_tensor(self._input, self._flipped.view(np.int8))
            interpreter.invoke()
            logits: np.ndarray = interpreter.get_tensor(self._output)[0]
        except (RuntimeError, ValueError) as error:
            raise AcceleratorError(f"{self._runtime} failed ({error})") from error
        return logits

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None

    def wcet_ns(self) -> tuple[int, str]:
        """Measured."""
        return measured_wcet_ns(self, self._bundle)

    def about(self) -> str:
        """The runtime and its version."""
        return f"{self._runtime}, fully delegated"


ACCELERATOR = LiteRTAccelerator

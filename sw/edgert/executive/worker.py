"""A refinement worker: one TFLite interpreter a stage, woken by a message, frame and result in shared memory.

`invoke()` cannot be cancelled, so a stage is an atom, and the process around it may be killed at any instant: it owns nothing
that another one needs.
"""

from __future__ import annotations

import gc
import socket
import time
from typing import Any

import numpy as np

from ..board import floats
from . import wire
from .wire import Message


class StageError(Exception):
    """A stage's file does not fit the bundle."""


def interpreter_class() -> Any:
    """The `Interpreter` of the TFLite runtime installed. Raises StageError where there is none."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise StageError("no TFLite runtime is installed; pip install 'edgert[tflite]'") from None
    return Interpreter


class StageRunner:
    """One stage: `run(frame uint8 [h, w, c], out float32 [classes])`.

    `content` holds the bytes of a `.tflite` with input int8 [1, h, w, c] = uint8 ^ 0x80 and output int8 or float32 [1, classes].
    Raises StageError where it has others.
    """

    def __init__(self, name: str, content: bytes, shape: tuple[int, ...], classes: int):
        refused = floats.refusal(content)
        if refused:
            raise StageError(f"{name} is not loaded: {refused}")
        try:
            self._interpreter = interpreter_class()(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise StageError(f"{name} cannot be loaded: {str(error).splitlines()[0]}") from None
        entry, result = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        if list(entry["shape"]) != [1, *shape] or entry["dtype"] is not np.int8:
            raise StageError(f"{name} wants input {np.dtype(entry['dtype'])} {entry['shape'].tolist()}, not int8 {[1, *shape]}")
        if list(result["shape"]) != [1, classes] or result["dtype"] not in (np.int8, np.float32):
            raise StageError(f"{name} gives {np.dtype(result['dtype'])} {result['shape'].tolist()}, not int8 {[1, classes]}")
        self._input, self._output = entry["index"], result["index"]
        scale, zero = result["quantization"] if result["dtype"] is np.int8 else (1.0, 0)
        self._scale, self._zero = np.float32(scale), np.float32(zero)
        self._flipped = np.empty((1, *shape), np.uint8)

    def run(self, frame: np.ndarray, out: np.ndarray) -> None:
        """Write the dequantised logits of this stage, to be added to those so far, into `out`."""
        np.bitwise_xor(frame, 0x80, out=self._flipped[0])
        self._interpreter.set_tensor(self._input, self._flipped.view(np.int8))
        self._interpreter.invoke()
        np.multiply(self._interpreter.get_tensor(self._output)[0] - self._zero, self._scale, out=out)


def serve(channel: socket.socket, unit: int, generation: int, slots: wire.Slots, stages: list[tuple[str, bytes]],
          note: str = "") -> None:
    """Load the stages, say READY with `note` (or BROKEN and why), and run what is asked for until the other end closes."""
    frame, output = slots.frames[unit], slots.outputs[unit]
    try:
        runners = [StageRunner(name, content, frame.shape, len(output)) for name, content in stages]
        scratch = np.empty_like(output)
        for runner in runners:
            for _ in range(2):  # the first run of an interpreter is slower
                runner.run(np.zeros_like(frame), scratch)
    except StageError as error:
        channel.send(wire.pack(Message(wire.BROKEN, unit, 0, generation)) + str(error).encode()[:wire.MAX_BYTES - wire.MESSAGE.size])
        return
    gc.collect()
    gc.freeze()
    gc.disable()
    channel.send(wire.pack(Message(wire.READY, unit, 0, generation)) + note.encode())
    clock = time.monotonic_ns
    while True:
        data = channel.recv(wire.MAX_BYTES)
        if not data:
            return
        start_ns = clock()
        message, _ = wire.unpack(data)
        if message.generation != generation:
            continue  # was meant for a worker that is dead
        try:
            runners[message.stage].run(frame, output)
            kind = wire.DONE
        except (RuntimeError, ValueError):
            kind = wire.FAILED
        channel.send(wire.pack(Message(kind, unit, message.stage, generation, message.job, start_ns, clock())))

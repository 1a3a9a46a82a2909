"""What dispatcher, nursery and workers say to each other: fixed-size messages over SOCK_SEQPACKET pairs, frames in shared memory.

    dispatcher -> worker    RUN      run `stage` for `job` on the frame in the unit's shared memory
    worker -> dispatcher    READY    its interpreters are loaded (a text follows: its measures); BROKEN: they are not (why)
                            DONE     `start_ns` to `end_ns`, float32 output in the unit's shared memory; FAILED
    dispatcher -> nursery   REPLACE  kill this generation of the unit's worker (a new one follows every death)
    nursery -> dispatcher   DIED     that generation is gone, the next is on its way

Every message names the generation of the unit's worker, so one that was sent by, or to, a dead worker is recognised and ignored.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

import numpy as np

RUN, READY, BROKEN, DONE, FAILED, REPLACE, DIED = range(1, 8)
MESSAGE = struct.Struct("<BBHIqqq")
MAX_BYTES = 512  # of a message with its text
LINE = 64  # cache line: no two units write to the same one


class Message(NamedTuple):
    """One message; `kind` is one of the constants above, times are monotonic ns."""

    kind: int
    unit: int = 0
    stage: int = 0
    generation: int = 0
    job: int = -1
    start_ns: int = 0
    end_ns: int = 0


def pack(message: Message) -> bytes:
    """To bytes."""
    return MESSAGE.pack(*message)


def unpack(data: bytes) -> tuple[Message, str]:
    """From bytes, with the text behind it."""
    return Message(*MESSAGE.unpack_from(data)), data[MESSAGE.size:].decode("utf-8", "replace")


def _aligned(size: int) -> int:
    return (size + LINE - 1) // LINE * LINE


class Slots:
    """Shared memory of a pool: for each unit a frame uint8 [h, w, c] and an output float32 [classes].

    `fd` is an anonymous memory file, so nothing is left in a file system whoever is killed.
    """

    def __init__(self, fd: int, units: int, shape: tuple[int, ...], classes: int):
        pixels = int(np.prod(shape))
        each = _aligned(pixels) + _aligned(4 * classes)
        self._memory = mmap.mmap(fd, units * each)
        self.frames: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        for unit in range(units):
            start = unit * each
            self.frames.append(np.frombuffer(self._memory, np.uint8, pixels, start).reshape(shape))
            self.outputs.append(np.frombuffer(self._memory, np.float32, classes, start + _aligned(pixels)))

    @staticmethod
    def size(units: int, shape: tuple[int, ...], classes: int) -> int:
        """Bytes of the memory file."""
        return units * (_aligned(int(np.prod(shape))) + _aligned(4 * classes))

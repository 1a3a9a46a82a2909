"""`video:FILE`: frames of a video, decoded ahead by a process of its own, from the first to the last and over again.

    this process  <-- a byte a frame decoded -- pipe --  python -m edgert.sources.video  (OpenCV)
                  --  a byte a slot free  -- pipe -->
                  <-- pictures in slots of shared memory

Frame k of a stream is always the k-th frame of the video, repeated, so two runs show the same; one that is not decoded in time is
dropped. The pipes order what both sides see, on every processor. The decoder ends when its pipe closes, whatever ended this process.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SourceError, UsageError
from .base import Frame, Source

if TYPE_CHECKING:
    from ..bundle import Bundle

AHEAD = 16  # frames decoded ahead
START_S = 20.0  # within which the first frame must be there
READY, FAULT = b"+", b"!"  # from the decoder: a frame is there; what follows says why there will be none


class VideoSource(Source):
    """A video file without labels. `fault` says why no more frames come, "" while they do."""

    def __init__(self, spec: str, bundle: Bundle) -> None:
        """`spec` is the file. Raises UsageError where there is none and SourceError without OpenCV."""
        self._path = Path(spec)
        if not self._path.is_file():
            what = "is no file" if self._path.exists() else "does not exist"
            raise UsageError(f"video {spec} {what}", "name a video file: --source NAME=video:FILE")
        if importlib.util.find_spec("cv2") is None:
            raise SourceError("videos need OpenCV, which is not installed", "pip install 'edgert[video]'")
        self.fault = ""
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, shape: tuple[int, int, int], seed: int, stream: str) -> None:
        """Start the decoder and wait for its first frame. Raises UsageError for a shape that no video has, SourceError where none comes."""
        if shape[2] not in {1, 3}:
            raise UsageError(f"the network takes {shape[2]} channels, a video has 1 or 3", "use a dataset: source")
        size = int(np.prod(shape))
        memory = os.memfd_create("edgert-video", os.MFD_CLOEXEC)
        os.posix_fallocate(memory, 0, AHEAD * size)
        self._memory = mmap.mmap(memory, AHEAD * size)
        self._slots = np.frombuffer(self._memory, dtype=np.uint8).reshape(AHEAD, *shape)
        self._ready, ready = os.pipe()
        free, self._free = os.pipe()
        arguments = [sys.executable, "-m", __name__, str(self._path), *map(str, shape), str(memory), str(free), str(ready)]
        errors = None if os.environ.get("EDGERT_DEBUG") else subprocess.DEVNULL
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENCV_LOG_LEVEL": "OFF",
                       "OPENCV_FFMPEG_LOGLEVEL": "-8"}
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment,
                                         stderr=errors, pass_fds=[memory, free, ready], start_new_session=True)
        for fd in (memory, free, ready):
            os.close(fd)
        os.set_blocking(self._ready, False)
        os.set_blocking(self._free, False)
        self._decoded = self._taken = 0
        self._ended = False
        self._text = b""
        os.write(self._free, b"." * AHEAD)
        while not self._decoded and not self._ended:
            if not select.select([self._ready], [], [], START_S)[0]:
                self.fault = f"no frame within {START_S:g} s"
                break
            self._look()
        if self.fault:
            fault = self.fault
            self.close()
            raise SourceError(f"video {self._path} cannot be decoded ({fault})", "see whether a player shows it; H.264 in MP4 works")

    def _look(self) -> None:
        """Take in what the decoder said."""
        try:
            said = os.read(self._ready, 4096)
        except BlockingIOError:
            return
        good, fault, text = said.partition(FAULT) if not self._text else (b"", b"", said)
        self._decoded += len(good)
        self._text += fault + text
        if not said:
            self._ended = True
            self.fault = self._text[1:].decode(errors="replace").strip() or "the decoder ended"

    def frame(self, index: int) -> Frame | None:
        """Frame `index` of the video, repeated, as a copy; None where it is not decoded yet, or no longer there."""
        if not self._ended:
            self._look()
        skipped = min(index, self._decoded) - self._taken
        if skipped > 0:
            self._give_back(skipped)
        if index != self._taken or self._taken >= self._decoded:
            return None
        pixels = self._slots[index % AHEAD].copy()
        self._give_back(1)
        return Frame(pixels, index, -1)

    def _give_back(self, count: int) -> None:
        self._taken += count
        try:
            os.write(self._free, b"." * count)
        except BrokenPipeError:
            self._ended = True
            self.fault = self.fault or "the decoder ended"

    def close(self) -> None:
        """End the decoder."""
        if self._process is None:
            return
        os.close(self._free)
        os.close(self._ready)
        self._process.kill()
        self._process.wait()
        self._process = None
        del self._slots
        self._memory.close()


SOURCE = VideoSource


# The decoder's side -----------------------------------------------------------------------------------------------------


def _frames(path: str, shape: tuple[int, int, int]) -> Any:
    """Every frame of the video as uint8 `shape`, over and over. Raises ValueError where there is none."""
    import cv2

    cv2.setNumThreads(1)
    while True:
        video = cv2.VideoCapture(path)
        count = 0
        while True:
            found, picture = video.read()
            if not found:
                break
            count += 1
            picture = cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
            if picture.ndim == 3:
                picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY if shape[2] == 1 else cv2.COLOR_BGR2RGB)
            elif shape[2] == 3:
                picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
            yield picture.reshape(shape)
        video.release()
        if not count:
            raise ValueError("no frame in it can be read")


def _leave_the_callers_core() -> None:
    """Run on the cores that the caller is not pinned to, where there are any, and with less priority."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    others = os.sched_getaffinity(0) - pinned
    if others:
        os.sched_setaffinity(0, others)
    os.nice(5)


def main(arguments: list[str]) -> None:
    """Decode into the slots while the pipe gives free ones."""
    path, shape = arguments[0], (int(arguments[1]), int(arguments[2]), int(arguments[3]))
    memory, free, ready = (int(a) for a in arguments[4:])
    _leave_the_callers_core()
    slots = np.frombuffer(mmap.mmap(memory, 0), dtype=np.uint8).reshape(AHEAD, *shape)
    try:
        for index, picture in enumerate(_frames(path, shape)):
            if not os.read(free, 1):
                return
            slots[index % AHEAD] = picture
            os.write(ready, READY)
    except BrokenPipeError:
        return  # nobody reads any more
    except Exception as error:  # told to the other side, which reports it
        os.write(ready, FAULT + f"{error}".splitlines()[0].encode())


if __name__ == "__main__":
    main(sys.argv[1:])

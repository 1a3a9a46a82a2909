"""The dispatcher's side of the refinement workers: start a stage, hear what ended, give up a worker that hangs."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import BundleError, EdgertError
from . import nursery, wire
from .wire import Message

START_TIMEOUT_S = 60.0  # a bound for a machine that is very busy; a second is usual
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Ended(NamedTuple):
    """What a unit reports: `kind` is done, failed, abandoned, lost or back, as in `imprecise.model.Event`; times are ns."""

    kind: str
    unit: int
    job: int
    stage: int
    at_ns: int
    start_ns: int = 0  # when the worker began; 0: unknown


@dataclass
class _Unit:
    channel: socket.socket
    generation: int = 0
    ready: bool = False
    note: str = ""  # which measures its worker could take
    job: int = -1  # what it runs; -1: nothing
    stage: int = -1
    give_up_ns: int = 0


def helper_environment() -> dict[str, str]:
    """The environment of a Python process of ours: finds the same modules, computes on one thread."""
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


class Pool:
    """Workers for the refinement stages of one bundle, one a unit of the resource `cpu`.

    `stages` are (name, bytes of the `.tflite`); `shape` is that of a frame [h, w, c], uint8; `cores` lists the cores of each unit.
    `start` returns when all are ready; raises BundleError for a stage that does not fit, EdgertError where a worker does not come up.
    """

    def __init__(self, stages: Sequence[tuple[str, bytes]], shape: tuple[int, ...], classes: int, cores: Sequence[Sequence[int]]):
        self._stages = list(stages)
        self._shape, self._classes = shape, classes
        self._cores = [list(c) for c in cores]
        self._units: list[_Unit] = []
        self._by_fd: dict[int, int] = {}
        self.fds: list[int] = []  # to be watched by select()
        self.restarts = 0
        self.pid = 0  # of the nursery

    def start(self) -> None:
        """Start the nursery and wait until every worker is ready."""
        count = len(self._cores)
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        memory = os.memfd_create("edgert-slots")
        os.ftruncate(memory, wire.Slots.size(count, self._shape, self._classes))
        setup = os.memfd_create("edgert-stages")
        nursery.write_setup(setup, self._shape, self._classes, self._stages)
        self.slots = wire.Slots(memory, count, self._shape, self._classes)
        inherited = [control.fileno(), setup, memory, *(theirs.fileno() for _, theirs in pairs)]
        numbers = [str(fd) for fd in inherited]
        command = [sys.executable, "-m", nursery.__name__, str(os.getpid()), *numbers[:3], str(self._cores), *numbers[3:]]
        self._process = subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL, start_new_session=True,
                                         env=helper_environment())
        self.pid = self._process.pid
        for fd in (setup, memory):
            os.close(fd)
        control.close()
        for ours, theirs in pairs:
            theirs.close()
            ours.setblocking(False)
            self._by_fd[ours.fileno()] = len(self._units)
            self._units.append(_Unit(ours))
        self._control.setblocking(False)
        self.fds = [self._control.fileno(), *self._by_fd]
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(unit.ready for unit in self._units):
            readable, _, _ = select.select(self.fds, [], [], max(0.0, deadline - time.monotonic()))
            if not readable or self._process.poll() is not None:
                self.close()
                raise EdgertError("the refinement workers did not start", "edgert doctor checks the runtime; EDGERT_DEBUG=1 shows more")
            self.read(readable)

    def notes(self) -> list[str]:
        """For each unit, which measures its worker took."""
        return [unit.note for unit in self._units]

    # While frames are due ---------------------------------------------------------------------------------------------

    def run(self, unit: int, stage: int, job: int, frame: np.ndarray, give_up_ns: int) -> None:
        """Start `stage` (index in `stages`) for `job` on `unit`; it is given up at `give_up_ns` (monotonic ns)."""
        state = self._units[unit]
        state.job, state.stage, state.give_up_ns = job, stage, give_up_ns
        np.copyto(self.slots.frames[unit], frame)
        try:
            state.channel.send(wire.pack(Message(wire.RUN, unit, stage, state.generation, job)))
        except (BrokenPipeError, ConnectionResetError):
            state.give_up_ns = 0  # no nursery any more: given up at once, by the next `overdue`

    def output(self, unit: int) -> np.ndarray:
        """Float32 [classes] that the last stage done on `unit` left; valid until the next `run` there."""
        return self.slots.outputs[unit]

    def read(self, readable: Sequence[int]) -> list[Ended]:
        """Everything that the units of these descriptors report; never waits."""
        ended: list[Ended] = []
        for fd in readable:
            if fd in self._by_fd:
                self._read_unit(self._by_fd[fd], ended)
        if self.fds and self._control.fileno() in readable:
            self._read_control(ended)
        return ended

    def next_give_up_ns(self) -> int:
        """When the next running stage is given up; a very late time where none runs."""
        return min((u.give_up_ns for u in self._units if u.job >= 0), default=1 << 62)

    def overdue(self, now_ns: int) -> list[Ended]:
        """Give up what runs beyond its bound: the worker is killed and a new one comes."""
        ended: list[Ended] = []
        for index, unit in enumerate(self._units):
            if unit.job >= 0 and unit.give_up_ns <= now_ns:
                self._down(index, now_ns, ended)
                self._replace(index)
        return ended

    def _replace(self, index: int) -> None:
        try:
            self._control.send(wire.pack(Message(wire.REPLACE, index, 0, self._units[index].generation)))
        except (BrokenPipeError, ConnectionResetError):
            return  # no nursery any more: the unit stays lost, which has been said

    def _down(self, index: int, at_ns: int, ended: list[Ended]) -> None:
        """The unit's worker is gone or given up; says so once."""
        unit = self._units[index]
        if not unit.ready:
            return
        ended.append(Ended("abandoned" if unit.job >= 0 else "lost", index, unit.job, unit.stage, at_ns))
        unit.ready, unit.job = False, -1
        self.restarts += 1

    def _read_unit(self, index: int, ended: list[Ended]) -> None:
        unit = self._units[index]
        while True:
            try:
                data = unit.channel.recv(wire.MAX_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.fds.remove(unit.channel.fileno())
                self._down(index, time.monotonic_ns(), ended)
                return
            message, text = wire.unpack(data)
            if message.kind == wire.BROKEN and unit.generation == 0:
                self.close()
                raise BundleError(text, "edgert model verify checks the bundle")
            if message.kind == wire.READY and message.generation > unit.generation:
                self._down(index, time.monotonic_ns(), ended)
                unit.generation, unit.ready, unit.note = message.generation, True, text
                ended.append(Ended("back", index, -1, -1, time.monotonic_ns()))
            elif message.generation == unit.generation and unit.job == message.job and message.kind in (wire.DONE, wire.FAILED):
                kind = "done" if message.kind == wire.DONE else "failed"
                ended.append(Ended(kind, index, unit.job, unit.stage, message.end_ns, message.start_ns))
                unit.job = -1

    def _read_control(self, ended: list[Ended]) -> None:
        while True:
            try:
                data = self._control.recv(wire.MAX_BYTES)
            except BlockingIOError:
                return
            if not data:  # the nursery is gone, and with it every worker
                self.fds = []
                for index in range(len(self._units)):
                    self._down(index, time.monotonic_ns(), ended)
                return
            message, _ = wire.unpack(data)
            if message.kind == wire.DIED and self._units[message.unit].generation == 0:
                self.close()
                how = f"signal {-code}" if (code := os.waitstatus_to_exitcode(message.job)) < 0 else f"exit code {code}"
                raise EdgertError(f"a refinement worker died as it started ({how})",
                                  "edgert doctor checks the runtime; EDGERT_DEBUG=1 shows more")
            if message.kind == wire.DIED and message.generation == self._units[message.unit].generation:
                self._down(message.unit, time.monotonic_ns(), ended)

    # Before and after -------------------------------------------------------------------------------------------------

    def measure(self, stage: int, frames: Sequence[np.ndarray], unit: int = 0) -> list[int]:
        """Durations in ns of `stage` over `frames`, one after the other on `unit`, from sending to hearing, as the engine will
        see them. Raises EdgertError where the worker fails."""
        times = []
        for frame in frames:
            start_ns = time.monotonic_ns()
            self.run(unit, stage, 0, frame, start_ns + int(START_TIMEOUT_S * 1e9))
            ended: list[Ended] = []
            while not ended:
                readable, _, _ = select.select(self.fds, [], [], START_TIMEOUT_S)
                ended = self.read(readable)
                if not readable or any(e.kind != "done" for e in ended):
                    raise EdgertError(f"{self._stages[stage][0]} failed while it was measured", "edgert model verify checks the bundle")
            times.append(time.monotonic_ns() - start_ns)
        return times

    def close(self) -> None:
        """End the nursery and the workers, those that hang too."""
        self._control.close()
        for unit in self._units:
            unit.channel.close()
        self.fds = []
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills its workers
            self._process.wait()

"""The nursery: a small process with one thread that has everything imported and forks the workers, so that a new one is there in
milliseconds and the dispatcher never starts a process while frames are due.

Started as `python -m edgert.executive.nursery PARENT CONTROL SETUP MEMORY CORES CHANNEL...` (numbers of inherited files). It
ends with its parent, and the workers end with it: by the kernel's parent-death signal, and by their channel closing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from . import realtime, wire, worker
from .wire import Message

QUICK_S = 1.0  # a worker that lives less is restarted later and later
FIRST_DELAY_S, LAST_DELAY_S = 0.1, 5.0


@dataclass
class _Unit:
    channel: socket.socket
    cores: list[int]
    pid: int = 0
    generation: int = 0
    born: float = 0.0
    quick_deaths: int = 0
    fork_at: float = 0.0  # 0: nothing to fork


def write_setup(fd: int, shape: tuple[int, ...], classes: int, stages: list[tuple[str, bytes]]) -> None:
    """Write what the nursery needs into a memory file: a JSON line, then the stages' bytes."""
    sizes = [[name, len(content)] for name, content in stages]
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(json.dumps({"shape": list(shape), "classes": classes, "stages": sizes}).encode() + b"\n")
        for _, content in stages:
            file.write(content)


def _read_setup(fd: int) -> tuple[tuple[int, ...], int, list[tuple[str, bytes]]]:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        header = json.loads(file.readline())
        stages = [(name, file.read(size)) for name, size in header["stages"]]
    return tuple(header["shape"]), header["classes"], stages


class Nursery:
    """Forks a worker for each unit, and a new one after each death."""

    def __init__(self, control: socket.socket, units: list[_Unit], slots: wire.Slots, stages: list[tuple[str, bytes]]):
        self._control = control
        self._units = units
        self._slots = slots
        self._stages = stages

    def run(self) -> None:
        """Serve until the dispatcher closes its end."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for unit in self._units:
            self._fork(unit)
        while True:
            due = [unit.fork_at for unit in self._units if unit.fork_at]
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            readable, _, _ = select.select([self._control.fileno(), woken], [], [], timeout)
            if woken in readable:
                os.read(woken, 4096)
                self._reap()
            if self._control.fileno() in readable and not self._obey():
                return
            for unit in self._units:
                if unit.fork_at and unit.fork_at <= time.monotonic():
                    self._fork(unit)

    def _obey(self) -> bool:
        data = self._control.recv(wire.MAX_BYTES)
        if not data:
            return False
        message, _ = wire.unpack(data)
        unit = self._units[message.unit]
        if unit.pid and unit.generation == message.generation:
            os.kill(unit.pid, signal.SIGKILL)  # our own child, not yet waited for: the number cannot be another's
        return True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for index, unit in enumerate(self._units):
                if unit.pid == pid:
                    self._bury(index, unit, status)

    def _bury(self, index: int, unit: _Unit, status: int) -> None:
        now = time.monotonic()
        unit.quick_deaths = unit.quick_deaths + 1 if now - unit.born < QUICK_S else 0
        delay = min(LAST_DELAY_S, FIRST_DELAY_S * 2 ** (unit.quick_deaths - 1)) if unit.quick_deaths else 0.0
        unit.pid = 0
        unit.fork_at = now + delay
        self._control.send(wire.pack(Message(wire.DIED, index, 0, unit.generation, status)))

    def _fork(self, unit: _Unit) -> None:
        unit.fork_at = 0.0
        unit.generation += 1
        unit.born = time.monotonic()
        parent = os.getpid()
        unit.pid = os.fork()
        if unit.pid == 0:
            try:
                self._be_worker(unit, parent)
            finally:
                os._exit(0)

    def _be_worker(self, unit: _Unit, parent: int) -> None:
        realtime.die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for other in self._units:
            if other is not unit:
                other.channel.close()
        note = f"{realtime.pin(unit.cores)}; {realtime.nice()}"
        worker.serve(unit.channel, self._units.index(unit), unit.generation, self._slots, self._stages, note)


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    parent, control, setup, memory = (int(a) for a in arguments[:4])
    realtime.die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the dispatcher says when to end, by closing the control channel
    cores = json.loads(arguments[4])
    units = [_Unit(socket.socket(fileno=int(fd)), on) for fd, on in zip(arguments[5:], cores)]
    realtime.pin({core for each in cores for core in each})
    shape, classes, stages = _read_setup(setup)
    slots = wire.Slots(memory, len(units), shape, classes)
    with open(os.devnull, "w") as nowhere:  # runtimes greet on stdout and stderr; the run's output belongs to the dispatcher
        os.dup2(nowhere.fileno(), 1)
        if not os.environ.get("EDGERT_DEBUG"):
            os.dup2(nowhere.fileno(), 2)
    with contextlib.suppress(worker.StageError):  # each worker says so itself
        worker.interpreter_class()  # imported once, before the forks
    Nursery(socket.socket(fileno=control), units, slots, stages).run()


if __name__ == "__main__":
    main(sys.argv[1:])

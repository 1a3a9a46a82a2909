"""The witness: an independent process that sleeps a millisecond a thousand times a second and tells when it woke late.

It runs on the dispatcher's core, where permitted one real-time priority above it, so what delays it is the machine (another
virtual machine, firmware, the kernel) and not the dispatcher's own work: evidence that "the machine stalled", and no excuse.
Without real-time priority both wait for whatever else runs there.

Started as `python -m edgert.executive.witness PARENT RING STOP CORE PRIORITY LIMIT_NS STALL COUNTER` (RING, STOP: inherited files;
STALL, COUNTER: kinds of record); PRIORITY 0 leaves the usual scheduling. Ends with its parent, or when STOP closes, and then leaves
its counters in the ring.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

from ..results.ring import Ring
from . import realtime

PERIOD_NS = 1_000_000
_CLOCK_MONOTONIC, _TIMER_ABSTIME = 1, 1
CHECK = 100  # periods between two looks at STOP
READY = b"R"
START_TIMEOUT_S = 20.0


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class WitnessProcess:
    """Starts the witness beside this process, waits until it samples, and ends it.

    `ring_fd` is the ring for its stalls, `limit_ns` the lateness it reports. One that does not come up is no reason not to run:
    `started` says so.
    """

    def __init__(self, ring_fd: int, core: int, priority: int, limit_ns: int):
        from ..results.record import COUNTER, STALL  # not in the witness itself: NumPy and SQLite are no use to it
        from .pool import helper_environment

        self._stop, theirs = socket.socketpair()
        stop = theirs.fileno()
        numbers = [os.getpid(), ring_fd, stop, core, priority, limit_ns, STALL, COUNTER]
        self._process = subprocess.Popen([sys.executable, "-m", __name__, *map(str, numbers)], pass_fds=[ring_fd, stop],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                                         env=helper_environment())
        theirs.close()
        self._stop.settimeout(START_TIMEOUT_S)
        try:
            self.started = self._stop.recv(1) == READY
        except TimeoutError:
            self.started = False
        self.pid = self._process.pid

    def close(self) -> None:
        """Let it write its counters and end."""
        self._stop.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_delay_ns() -> int:
    """How long this process was ready and had to wait for a core since it started, in ns; 0 where the kernel does not say."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    parent, ring_fd, stop, core, priority, limit_ns, stall_kind, counter_kind = (int(a) for a in arguments)
    realtime.die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ring = Ring(ring_fd)
    realtime.pin([core])
    realtime.lock_memory()
    realtime.timer_slack()
    realtime.still_gc()
    os.write(stop, READY)
    if priority:
        realtime.fifo(priority)  # last: what came before takes tens of milliseconds, on the dispatcher's core
    sleep = ctypes.CDLL(None, use_errno=True).clock_nanosleep
    until = _Timespec()
    clock = time.monotonic_ns
    samples, worst_ns, stalls = 0, 0, 0
    delay_ns = run_delay_ns()
    next_ns = clock() + PERIOD_NS
    while samples % CHECK or not select.select([stop], [], [], 0)[0]:
        until.sec, until.nsec = divmod(next_ns, 1_000_000_000)
        sleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(until), None)
        now_ns = clock()
        late_ns = now_ns - next_ns
        samples += 1
        worst_ns = max(worst_ns, late_ns)
        if late_ns > limit_ns:
            stalls += 1
            ring.put(stall_kind, (now_ns, late_ns, "witness"))
        next_ns += PERIOD_NS
        if next_ns <= now_ns:  # periods slept through are one stall, not many
            next_ns = now_ns + PERIOD_NS
    for name, value in (("samples", samples), ("stalls", stalls), ("worst_ns", worst_ns), ("run_delay_ns", run_delay_ns() - delay_ns)):
        ring.put(counter_kind, (f"witness_{name}", value))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Real-time measures of one process: priority, core, locked memory, timer slack, garbage collector; each taken or refused.

Nothing here is needed to run. What the machine does not permit is reported with the reason, and the run goes on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PRIORITY = 50  # SCHED_FIFO priority of the dispatcher; the witness samples one above it, kernel interrupt threads have 50 too
NICE = -15  # of a refinement worker
_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE = 1, 2
RESET_ON_FORK = getattr(os, "SCHED_RESET_ON_FORK", 0x40000000)


@dataclass(frozen=True)
class Measure:
    """One measure: `name`, whether it was `taken`, and `detail`: its value, or why the machine refused it."""

    name: str
    taken: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {'' if self.taken else 'refused, '}{self.detail}"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, detail: str, function: str, *arguments: int) -> Measure:
    """Call a C function that returns 0 where it worked."""
    if getattr(_libc(), function)(*(ctypes.c_ulong(a) for a in arguments)) == 0:
        return Measure(name, True, detail)
    return Measure(name, False, os.strerror(ctypes.get_errno()))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; raises SystemExit where `parent` (a process id) is gone already."""
    _libc().prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def pin(cores: Iterable[int]) -> Measure:
    """Run on these cores only."""
    wanted = sorted(cores)
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        return Measure("affinity", False, error.strerror or str(error))
    return Measure("affinity", True, "core " + ", ".join(map(str, wanted)))


def fifo(priority: int = PRIORITY) -> Measure:
    """Real-time priority SCHED_FIFO, not inherited by processes started from here."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return Measure("SCHED_FIFO", False, f"{error.strerror}: allow it with `ulimit -r {priority}` or CAP_SYS_NICE")
    return Measure("SCHED_FIFO", True, f"priority {priority}")


@contextmanager
def urgent(core: int) -> Iterator[bool]:
    """SCHED_FIFO on `core` for a while, for measurements as it will be; gives whether SCHED_FIFO was permitted.

    One below the dispatcher's priority: a run that goes on beside this one is not held up by what is measured here.
    """
    before, cores = (os.sched_getscheduler(0), os.sched_getparam(0)), os.sched_getaffinity(0)
    pin([core])
    taken = fifo(PRIORITY - 1).taken
    try:
        yield taken
    finally:
        if taken:
            os.sched_setscheduler(0, *before)
        os.sched_setaffinity(0, cores)


def nice(value: int = NICE) -> Measure:
    """A larger share of the core than other programs get, for what may use all of it and so must not be real-time."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, value)
    except OSError as error:
        return Measure("nice", False, f"{error.strerror}: allow it with `ulimit -e {20 - value}` or CAP_SYS_NICE")
    return Measure("nice", True, str(value))


def lock_memory() -> Measure:
    """Keep every page of this process in memory, those to come too."""
    measure = _call("mlockall", "current and future pages", "mlockall", _MCL_CURRENT | _MCL_FUTURE)
    return measure if measure.taken else Measure("mlockall", False, f"{measure.detail}: raise it with `ulimit -l unlimited`")


def unlock_memory() -> None:
    """Undo `lock_memory`."""
    _libc().munlockall()


def timer_slack() -> Measure:
    """Timers without the usual 50 us of slack (SCHED_FIFO has none)."""
    return _call("timer slack", "1 ns", "prctl", _PR_SET_TIMERSLACK, 1, 0, 0, 0)


def still_gc() -> Measure:
    """Collect once, leave what is alive out of later collections, and collect no more."""
    gc.collect()
    gc.freeze()
    gc.disable()
    return Measure("garbage collector", True, "frozen and off")


def threads() -> Measure:
    """Whether this process has one thread only."""
    number = len(os.listdir("/proc/self/task"))
    return Measure("one thread", number == 1, f"{number} thread{'s' * (number != 1)}")


def take_all(core: int) -> list[Measure]:
    """Everything, for a process that owns `core`; call it after all that is imported and allocated."""
    return [pin([core]), fifo(), lock_memory(), timer_slack(), still_gc(), threads()]


def place(cpus: int) -> tuple[int, list[list[int]]]:
    """Core of the dispatcher and cores of each of `cpus` workers, from those this process may use.

    Where there are `cpus + 1` cores or more every worker has one for itself; else workers share all but the dispatcher's, or,
    on one core, that one. The dispatcher takes the last: the first one serves most interrupts.
    """
    cores = sorted(os.sched_getaffinity(0))
    first, others = cores[-1], cores[:-1] or cores
    if len(others) >= cpus:
        return first, [[others[i]] for i in range(cpus)]
    return first, [list(others) for _ in range(cpus)]

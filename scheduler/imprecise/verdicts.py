"""What schedulability analysis takes and gives: sporadic tasks, arrival patterns, and the three answers.

A *sporadic task* (C, T, D, J) releases jobs at least T apart; each arrives at most J after its release, in order, needs at most
C of the resource and is due D after its release. Time is integer, in one unit of the caller's choice (edgert: nanoseconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_STEPS = 1_000_000  # demand steps or jobs looked at before the answer is NotProven
MAX_ARRIVALS = 100_000  # jobs of a pattern that is written down
UNLIMITED_NS = 1 << 62
LARGEST_NS = 1 << 60
EDF, FIXED_PRIORITY = ("np-edf", "p-edf"), ("np-fp", "p-fp")


class Task(NamedTuple):
    """A sporadic task, integer nanoseconds. `deadline_ns` 0: the period. `piece_ns`: its longest part that is not interrupted
    (0: all of `cost_ns`), as when two stages in a row run on the same resource."""

    cost_ns: int
    period_ns: int
    deadline_ns: int = 0
    jitter_ns: int = 0
    piece_ns: int = 0


class Arrival(NamedTuple):
    """One job of a concrete pattern: the index of its task, its release, and when it arrives (at most the jitter later)."""

    task: int
    release_ns: int
    arrival_ns: int


@dataclass(frozen=True)
class Certificate:
    """Every deadline is met: at the tightest point demand_ns + block_ns <= capacity_ns, and every point was looked at.

    EDF: the tightest step is `t_ns`; `capacity_ns` is t_ns on one unit; `horizon_ns` and `horizon` are the witness that later
    steps need no look. Fixed priority: the tightest job ends `t_ns` = demand_ns + block_ns after it and all else arrived at once,
    and is due after `capacity_ns`; `responses_ns` are the worst-case response times by task, and `horizon_ns` the last end that
    was looked at. `blocking_ns` is the other work allowed for (an optional stage, counted whole). `recheck` verifies all of it.
    """

    tasks: tuple[Task, ...]
    resource: str
    units: int
    blocking_ns: int
    horizon_ns: int
    horizon: str
    t_ns: int
    demand_ns: int
    block_ns: int
    capacity_ns: int
    responses_ns: tuple[int, ...] = ()

    @property
    def slack_ns(self) -> int:
        """What is left at the tightest point."""
        return self.capacity_ns - self.demand_ns - self.block_ns


@dataclass(frozen=True)
class CounterExample:
    """A legal pattern in which a deadline is missed if every job takes its cost: by `t_ns` after the jobs' common arrival
    demand_ns + block_ns must be done, which is more than t_ns."""

    tasks: tuple[Task, ...]
    arrivals: tuple[Arrival, ...]
    t_ns: int
    demand_ns: int
    block_ns: int
    resource: str = "np-edf"


@dataclass(frozen=True)
class NotProven:
    """Neither shown to be in time nor shown to miss, and why."""

    reason: str


Verdict = Certificate | CounterExample | NotProven


def checked(tasks: Sequence[Sequence[int]]) -> tuple[Task, ...]:
    """Tasks from (C, T[, D = T[, J = 0[, piece = C]]]). Raises ValueError for what is no task."""
    out = []
    for given in tasks:
        task = Task(*map(int, given))
        if not task.deadline_ns:
            task = task._replace(deadline_ns=task.period_ns)
        if task.cost_ns < 1 or task.period_ns < 1 or task.deadline_ns < 1 or task.jitter_ns < 0:
            raise ValueError(f"{task}: cost, period and deadline are positive, jitter is not negative")
        if not 0 <= task.piece_ns <= task.cost_ns:
            raise ValueError(f"{task}: a piece is no longer than the cost")
        out.append(task)
    return tuple(out)


def pattern(tasks: tuple[Task, ...], resource: str, counts: Sequence[int], blocker: int, t_ns: int, demand_ns: int,
            block_ns: int) -> CounterExample | NotProven:
    """The worst case written down: of each task the first `counts` jobs, all arriving together and then as early as they may
    with the first as late as its jitter allows, and one time unit before them a job of task `blocker` (-1: none).
    """
    if sum(counts) > MAX_ARRIVALS:
        return NotProven(f"{demand_ns + block_ns} ns of work must be done within {t_ns} ns; that pattern has too many jobs to write down")
    shift = max([1, *(task.jitter_ns for task, n in zip(tasks, counts) if n)])
    arrivals = [] if blocker < 0 else [Arrival(blocker, shift - 1, shift - 1)]
    for i, (task, n) in enumerate(zip(tasks, counts)):
        for k in range(n):
            release = k * task.period_ns - task.jitter_ns
            arrivals.append(Arrival(i, shift + release, shift + max(0, release)))
    arrivals.sort(key=lambda a: (a.arrival_ns, a.release_ns, a.task))
    return CounterExample(tasks, tuple(arrivals), t_ns, demand_ns, block_ns, resource)

"""Weakly hard guarantees: how many of any k consecutive jobs of a task may miss.

The model is what cameras do: each task is released **periodically**, from an unknown offset, and arrives at most J later; fixed
priority in list order; late jobs are finished. (For sporadic tasks there is nothing to gain: whatever can befall one job can
befall each, after a pause. Under EDF a job's fate hangs on all tasks, and the analysis below has no highest ones to begin with.)

A job of task i released at 0 has not begun its last piece (L_i long, as in `fixed_priority`) by t if and only if some s before its
arrival has W(s, t) = B_i - L_i + (own jobs since s) C_i + sum_{j < i} (jobs of j released in [s - J_j, t]) C_j > t - s; it misses where
that is so for all t from its arrival to D_i - L_i. The releases of task j are at phase p_j + k T_j. So whether a job can miss is a
table over the phases (p_1, ..., p_{i-1}); the next job sees them T_i earlier, and the most misses in k jobs are the maximum of a sum of
k shifted tables. Phases are put into cells where there are too many; of a cell the worst of all its phases is taken.

The idea of counting over all offsets is from Bernat, Burns and Llamosi ("Weakly hard real-time systems", IEEE Trans. Computers 50, 2001),
who know the offsets, and Sun and Di Natale ("Weakly hard schedulability analysis for fixed priority scheduling of periodic real-time
tasks", ACM TECS 16(5s), 2017), who do not and solve an integer programme. Here a table does, for a handful of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import Any

import numpy as np

from .verdicts import FIXED_PRIORITY, LARGEST_NS, Task, checked

CELLS = 1 << 14  # phases of the higher tasks together that are told apart
LOOKS = 100_000  # pairs (s, t) of one task, before it counts as unknown
WORK = 50_000_000  # cells times pairs: where there are many pairs, fewer cells


def weakly_hard(tasks: Sequence[Sequence[int]], m: int, k: int, resource: str = "p-fp", cells: int = CELLS) -> bool:
    """Whether of any k consecutive jobs of each task at least m are proven to meet their deadlines.

    See `most_misses`, which it is the sign of. Raises ValueError unless 0 <= m <= k.
    """
    if not 0 <= m <= k:
        raise ValueError(f"found m = {m} and k = {k}, expected 0 <= m <= k")
    return all(misses <= k - m for misses in most_misses(tasks, k, resource, cells))


def most_misses(tasks: Sequence[Sequence[int]], k: int, resource: str = "p-fp", cells: int = CELLS) -> list[int]:
    """For each task a bound on the misses in any k consecutive jobs; k where nothing is known.

    `tasks`: (C, T[, D = T[, J = 0]]), fixed priority in list order ("p-fp", or "np-fp"), **periodic** from unknown offsets, with any
    costs up to C. Exact for "p-fp" without jitter while the phases of the higher tasks (the product of their periods) are no more than
    `cells`. Beyond that, and with jitter or for "np-fp" (a lower job is assumed in the way every time), an upper bound. Raises
    ValueError for k < 1 or a malformed task.

    How far from exact: of 1,500 tasks that miss (2 or 3 tasks, T <= 12, all offsets simulated) the bound is the exact figure for 100 %;
    with 6, 4 or 3 phases told apart of each higher task for 95, 89 or 79 %; for "np-fp" for 73 %. The command:
    `python tests/bench/weakly_hard.py 1500`.
    """
    if k < 1:
        raise ValueError(f"found k = {k}, expected at least 1")
    if resource not in FIXED_PRIORITY:
        raise ValueError(f"unknown resource {resource!r}; there are {', '.join(FIXED_PRIORITY)}")
    set_ = checked(tasks)
    whole = resource == "np-fp"
    out = []
    for i, task in enumerate(set_):
        block = max(((t.piece_ns or t.cost_ns) - 1 for t in set_[i + 1:] if whole), default=0)
        final = task.cost_ns if whole and task.piece_ns in (0, task.cost_ns) else 1
        out.append(_most(set_[: i + 1], block, final, k, cells))
    return out


def _most(tasks: tuple[Task, ...], block: int, final: int, k: int, cells: int) -> int:
    own, higher = tasks[-1], tasks[:-1]
    if own.deadline_ns - own.jitter_ns < own.cost_ns or max(max(t) for t in tasks) > LARGEST_NS >> 8:
        return k
    back = _busy(tasks, block)
    starts = [(0 if back is None else back + t.jitter_ns) // t.period_ns + 3 + own.jitter_ns // t.period_ns for t in tasks]
    times = [(own.deadline_ns - own.jitter_ns) // t.period_ns + 2 for t in higher]
    looks = sum(starts) * (1 + sum(times))
    if back is None or looks > LOOKS:
        return k
    widths = _widths(higher, min(cells, WORK // looks))
    table = _may_miss(tasks, block, final, widths, back)
    total = np.zeros(table.shape, dtype=np.int64)
    for q in range(k):
        seen = table
        for axis, (task, width) in enumerate(zip(higher, widths)):
            seen = _earlier(seen, axis, q * own.period_ns % task.period_ns, task.period_ns, width)
        total += seen
    return int(total.max())


def _widths(higher: Sequence[Task], cells: int) -> list[int]:
    """The width of a cell of each task's phase, in time, so that there are at most `cells` in all."""
    share, widths = max(1, cells), dict[int, int]()
    for n, i in enumerate(sorted(range(len(higher)), key=lambda i: higher[i].period_ns)):  # what a short one leaves the others get
        most = max(1, int(share ** (1 / (len(higher) - n)) + 1e-9))
        widths[i] = -(-higher[i].period_ns // most)
        share //= -(-higher[i].period_ns // widths[i])
    return [widths[i] for i in range(len(higher))]


def _earlier(table: Any, axis: int, shift: int, period: int, width: int) -> Any:
    """The table as seen by a job that is released `shift` later: phase p is then p - shift, modulo the period.

    A cell then lies over one or more of the old cells; it may miss where one of them may.
    """
    count = table.shape[axis]
    start = np.arange(count) * width - shift
    end = np.minimum(start + width, period - shift) - 1
    last = np.where(start // period < end // period, (start // period + 1) * period - 1, end)  # before it goes around
    out = np.zeros_like(table)
    for at in (start, last, end):  # as wide as a cell, it has a phase in at most these cells
        out |= table.take(at % period // width, axis=axis)
    return out


def _may_miss(tasks: tuple[Task, ...], block: int, final: int, widths: Sequence[int], back: int) -> Any:
    """Whether a job of the last task, released at 0, may miss, bool by the cells of the phases of the others; s > -back is enough."""
    own, higher = tasks[-1], tasks[:-1]
    arrival, until = own.jitter_ns, own.deadline_ns - final
    one: Any = np.ones([1] * len(higher), dtype=np.int64)
    low: list[Any] = []
    high: list[Any] = []  # the first and the last phase of each cell, along its axis
    for axis, (task, width) in enumerate(zip(higher, widths)):
        first = np.arange(0, task.period_ns, width, dtype=np.int64)
        low.append(first.reshape([-1 if k == axis else 1 for k in range(len(higher))]))
        high.append(np.minimum(low[-1] + width, task.period_ns) - 1)
    starts: list[Any] = [arrival * one]
    for first, task in zip([h + t.jitter_ns for h, t in zip(high, higher)] + [arrival * one], tasks):  # where more work comes in
        starts += [np.minimum(first + n * task.period_ns, arrival)
                   for n in range(-((back + task.jitter_ns) // task.period_ns) - 2, arrival // task.period_ns + 1)]
    times: list[Any] = [until * one]
    for first, task in zip(low, higher):  # just before a job comes in the least is left
        at = [first - 1 + n * task.period_ns for n in range(arrival // task.period_ns, until // task.period_ns + 2)]
        times += [np.where((t >= arrival) & (t < until), t, until) for t in at]
    missed: Any = np.ones([first.size for first in low], dtype=bool)
    for t in times:
        waiting = np.zeros_like(missed)
        for s in starts:
            work = block - final + ((arrival - s) // own.period_ns + 1) * own.cost_ns
            for first, last, task in zip(low, high, higher):
                jobs = (t - first) // task.period_ns + (last + task.jitter_ns - s) // task.period_ns + 1
                work = work + np.maximum(jobs, 0) * task.cost_ns
            waiting |= work > t - s
        missed &= waiting
    return missed


def _busy(tasks: tuple[Task, ...], block: int) -> int | None:
    """The longest that a busy period may have lasted when a job arrives; None: without bound, or too long to look at."""
    hyper = lcm(*(t.period_ns for t in tasks))
    load = sum(t.cost_ns * (hyper // t.period_ns) for t in tasks)
    if load > hyper:
        return None
    length = block + sum(t.cost_ns for t in tasks)
    for _ in range(LOOKS):
        longer = block + sum(-(-(length + t.jitter_ns) // t.period_ns) * t.cost_ns for t in tasks)
        if longer == length or longer >= hyper:
            return min(longer, hyper)  # further back than a hyperperiod there is no worse
        length = longer
    return None

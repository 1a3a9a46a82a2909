"""Worst-case response times under fixed priority, in integer time: the first task of a list has the highest priority.

The worst case of task i is a *level-i busy period*: all tasks of its priority or higher arrive together, with the first job as
late as its jitter allows and the others as early as they may, right after the longest other work B has started. With U the load
of these tasks, job q = 0, 1, ... of task i comes to its last uninterrupted piece, L_i long, at the least

    w = B_i + (q + 1) C_i - L_i + sum_{j < i} (floor((w + J_j) / T_j) + 1) C_j

and its response time, from its release, is w + L_i - (q T_i - J_i). L_i is one unit of time if preemptive, which gives the
recurrence of Joseph and Pandya (The Computer Journal 29, 1986), Audsley et al. (Software Engineering Journal 8, 1993, jitter), and
L_i = C_i if not. All jobs of the busy period count, not only the first: Lehoczky (RTSS 1990) where D > T, and without preemption
always (Davis, Burns, Bril and Lukkien, Real-Time Systems 35, 2007). It ends at the least L = B_i + sum_{j <= i} ceil((L + J_j) / T_j) C_j;
at U <= 1 no job beyond the hyperperiod is worse than the one a hyperperiod before, so at U = 1 that many are enough.

The bound is reached (with D > T too), and jobs that are shorter or further apart do no harm. What is counted is bounded by
a budget of jobs: each step of a recurrence adds at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import NamedTuple

from .verdicts import MAX_STEPS, Certificate, CounterExample, NotProven, Task, Verdict, checked, pattern


class _Worst(NamedTuple):
    """The job of a task with the worst response time: its number, and when it ends after the common arrival."""

    response: int
    job: int
    end: int


def response_times(tasks: Sequence[Sequence[int]], resource: str = "p-fp", max_steps: int = MAX_STEPS) -> list[int | None]:
    """Worst-case response times under fixed priority in list order, each from the release of a job (its jitter is part of it).

    `tasks`: (C, T[, D = T[, B = 0[, J = 0]]]), integers of one unit; B is the longest other work that may be in the way once (C - 1
    of a lower one that is not interrupted). D is not used: it may be longer than T. `resource`: "p-fp", or "np-fp", where B_i is at
    least C_j - 1 of each lower task. None where there is no bound: the load down to that task is above 1, or more than
    `max_steps` jobs would have to be looked at. Exact for sporadic tasks (see above). Raises ValueError for a malformed task.
    """
    if resource not in ("p-fp", "np-fp"):
        raise ValueError(f"unknown resource {resource!r}; there are np-fp, p-fp")
    blocks = [int(given[3]) if len(given) > 3 else 0 for given in tasks]
    if min(blocks, default=0) < 0:
        raise ValueError("blocking is not negative")
    set_ = checked([(*given[:3], *given[4:5]) for given in tasks])
    whole = resource == "np-fp"
    out: list[int | None] = []
    for i in range(len(set_)):
        lower = max((t.cost_ns - 1 for t in set_[i + 1:] if whole), default=0)
        worst = _worst(set_[: i + 1], max(blocks[i], lower), set_[i].cost_ns if whole else 1, max_steps)
        out.append(worst[0].response if isinstance(worst, tuple) else None)
    return out


def admit_fixed_priority(tasks: tuple[Task, ...], resource: str, blocking_ns: int, max_steps: int) -> Verdict:
    """`admit` for "np-fp" and "p-fp"; exact but for the budget, for other blocking, and for tasks in pieces (then sufficient)."""
    whole = resource == "np-fp"
    responses, last, tightest = [], 0, (0, 0, 0, 0)
    for i, task in enumerate(tasks):
        lower = [(t.piece_ns or t.cost_ns, -k) for k, t in enumerate(tasks) if k > i and whole]
        piece, blocker = (max(lower)[0], -max(lower)[1]) if lower else (1, -1)
        block = max(blocking_ns, piece - 1)
        in_pieces = whole and 0 < task.piece_ns < task.cost_ns
        worst = _worst(tasks[: i + 1], block, task.cost_ns if whole and not in_pieces else 1, max_steps, task.deadline_ns)
        if isinstance(worst, str):
            return NotProven(f"task {i}: {worst}")
        found, end = worst
        if found.response > task.deadline_ns:
            if piece == 1 or 0 < tasks[blocker].piece_ns < tasks[blocker].cost_ns:
                piece, blocker = 1, -1
            if in_pieces or block > piece - 1:  # what these tasks can do by themselves
                sure = _worst(tasks[: i + 1], piece - 1, task.cost_ns if whole else 1, max_steps, task.deadline_ns)
                if isinstance(sure, str) or sure[0].response <= task.deadline_ns:
                    return NotProven(f"task {i}: a job may end later than {task.deadline_ns} ns after its release")
                found = sure[0]
            return _refuse(tasks, resource, i, found.job, piece - 1, blocker)
        due = found.job * task.period_ns + task.deadline_ns - task.jitter_ns
        responses.append(found.response)
        last = max(last, end)
        if i == 0 or due - found.end < tightest[3] - tightest[0]:
            tightest = found.end, found.end - block, block, due
    return Certificate(tasks, resource, 1, blocking_ns, last, "response times", *tightest, tuple(responses))


def _worst(tasks: tuple[Task, ...], block: int, final: int, budget: int, deadline: int | None = None) -> tuple[_Worst, int] | str:
    """The worst job of the last task and the last end looked at, or why there is no bound.

    With `deadline` the first job that ends later than that after its release is the answer, and a load above 1 has one.
    """
    task, higher = tasks[-1], tasks[:-1]
    hyper = lcm(*(t.period_ns for t in tasks))
    load = sum(t.cost_ns * (hyper // t.period_ns) for t in tasks)  # in one hyperperiod
    own = task.cost_ns * (hyper // task.period_ns)
    left = hyper - load + own  # what the higher ones leave in a hyperperiod
    late = sum(t.cost_ns * (hyper // t.period_ns) * t.jitter_ns for t in higher)
    if load <= hyper:
        jobs = _busy(tasks, block, hyper, load, budget)
    elif deadline is None:
        return f"the load is {load / hyper:.9g}"
    else:  # job q ends no sooner than (block + (q + 1) C - U' final + sum_j U_j J_j) / (1 - U'), with U' of the higher ones
        over = left * (deadline - task.jitter_ns) - (block + task.cost_ns) * hyper + (hyper - left) * final - late
        jobs = max(0, over) // ((load - hyper) * task.period_ns) + 2 if left > 0 else 1  # one of them is late
    if jobs > budget:
        return f"the load is {load / hyper:.9g}: more than {budget} jobs to look at"
    best, w, q = _Worst(-1, 0, 0), 0, 0
    while q < jobs:
        base = block + (q + 1) * task.cost_ns - final
        limit = None if deadline is None else q * task.period_ns - task.jitter_ns + deadline - final
        if left > 0:
            w = max(w, base, (base * hyper + late) // left)  # as floor(x) + 1 > x
        while True:
            seen = [(w + t.jitter_ns) // t.period_ns + 1 for t in higher]
            longer = base + sum(n * t.cost_ns for n, t in zip(seen, higher))
            if longer <= w or (limit is not None and w > limit):
                break
            if sum(seen) + q >= budget:
                return f"the load is {load / hyper:.9g}: more than {budget} jobs to look at"
            w = longer
        response = w + final - q * task.period_ns + task.jitter_ns
        if response > best.response:
            best = _Worst(response, q, w + final)
        if limit is not None and w > limit:
            break
        q += 1
    return best, w + final


def _busy(tasks: tuple[Task, ...], block: int, hyper: int, load: int, budget: int) -> int:
    """How many jobs of the last task are in its busy period, but no more than in a hyperperiod, nor many above the budget."""
    most = hyper // tasks[-1].period_ns
    length = block + sum(t.cost_ns for t in tasks)
    if load < hyper:
        late = sum(t.cost_ns * (hyper // t.period_ns) * t.jitter_ns for t in tasks)
        length = max(length, (block * hyper + late) // (hyper - load))  # as ceil(x) >= x
    while True:
        seen = [-(-(length + t.jitter_ns) // t.period_ns) for t in tasks]
        longer = block + sum(n * t.cost_ns for n, t in zip(seen, tasks))
        if longer == length or seen[-1] >= most or seen[-1] > budget:
            return min(most, seen[-1])
        if sum(seen) > budget:
            return budget + 1
        length = longer


def _refuse(tasks: tuple[Task, ...], resource: str, i: int, job: int, block: int, blocker: int) -> CounterExample | NotProven:
    """The busy period of task i up to the deadline of its job, behind a job of task `blocker` (-1: none)."""
    due = job * tasks[i].period_ns + tasks[i].deadline_ns - tasks[i].jitter_ns
    start = due - (tasks[i].cost_ns if resource == "np-fp" else 1)  # by then no other job may be in front of it
    counts = [(start + t.jitter_ns) // t.period_ns + 1 for t in tasks[:i]] + [job + 1] + [0] * (len(tasks) - i - 1)
    demand = sum(n * t.cost_ns for n, t in zip(counts, tasks))
    return pattern(tasks, resource, counts, blocker, due, demand, block)

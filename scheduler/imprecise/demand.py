"""Is a set of sporadic tasks always in time on one resource? Processor-demand analysis, in integer time.

For tasks (C, T, D, J) as in `verdicts`: in any interval of length t, jobs that arrive and fall due in it need at most

    dbf(t) = sum_i max(0, floor((t + J_i - D_i) / T_i) + 1) C_i

and under non-preemptive EDF one job due later may have started just before: B(t) = max{C_j - 1 : D_j - J_j > t}. All deadlines
are met if and only if dbf(t) + B(t) <= t at every step t = D_i - J_i + k T_i (Jeffay, Stanat and Martel, RTSS 1991; George,
Rivierre and Spuri, INRIA RR-2966, 1996; jitter as in Spuri, RR-2772, 1996). "Only if": where it fails, all tasks released
together and as late as J allows, one time unit after the blocking job, miss a deadline. That pattern is the counter-example.

Steps beyond a *horizon* need no look; there are three, and the least is taken (q: other blocking, like an optional stage's):

    busy period    h with sum_i ceil((h + J_i) / T_i) C_i + q <= h:  dbf(t) <= h - q + dbf(t - h) for t >= h
    utilisation    h >= D_i - J_i with sum_i U_i (T_i + J_i - D_i) + q <= h (1 - U)
    hyperperiod    h = max(D_i - J_i) + lcm(T_i):  dbf(t + lcm) - dbf(t) = U lcm <= lcm from there on
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from .fixed_priority import admit_fixed_priority
from .verdicts import (
    EDF,
    FIXED_PRIORITY,
    LARGEST_NS,
    MAX_STEPS,
    UNLIMITED_NS,
    Arrival,
    Certificate,
    CounterExample,
    NotProven,
    Task,
    Verdict,
    checked,
    pattern,
)

__all__ = ["Arrival", "Certificate", "CounterExample", "NotProven", "Task", "Verdict", "admit", "least_deadline", "longest_optional_stage"]

def admit(tasks: Sequence[Sequence[int]], resource: str = "np-edf", units: int = 1, blocking_ns: int = 0,
          max_steps: int = MAX_STEPS) -> Verdict:
    """Prove that a set of tasks is in time on a resource, or show a miss, or say why neither.

    `tasks`: `Task` or (C, T[, D = T[, J = 0]]), integer ns. `resource`: "np-edf" (non-preemptive, as the engine runs mandatory
    stages), "p-edf" (preemptive), "np-fp" or "p-fp" (fixed priority in list order, the first is the highest). Exact on one unit,
    but for the budget of `max_steps`. On `units` > 1 (np-edf: any free unit takes the earliest deadline) a sufficient test answers
    Certificate or NotProven, and a counter-example only where a job cannot even be in time alone. `blocking_ns`: other work that
    may be in the way once. Raises ValueError for a malformed task.
    """
    set_ = checked(tasks)
    if resource not in EDF + FIXED_PRIORITY:
        raise ValueError(f"unknown resource {resource!r}; there are {', '.join(EDF + FIXED_PRIORITY)}")
    if units < 1 or blocking_ns < 0 or (units > 1 and resource != "np-edf"):
        raise ValueError("units >= 1 (several for np-edf only), blocking not negative")
    if not set_:
        return Certificate((), resource, units, blocking_ns, 0, "no task", 0, 0, 0, 0)
    for i, task in enumerate(set_):
        first = task.deadline_ns - task.jitter_ns
        if task.cost_ns > first:
            return CounterExample(set_, (Arrival(i, 0, task.jitter_ns),), first, task.cost_ns, 0, resource)
    if units > 1:
        return _admit_global(set_, units, blocking_ns)
    if resource in FIXED_PRIORITY:
        return admit_fixed_priority(set_, resource, blocking_ns, max_steps)
    return _admit_demand(set_, resource, blocking_ns, max_steps)


def longest_optional_stage(tasks: Sequence[Sequence[int]], units: int = 1, resource: str = "np-edf",
                           max_steps: int = MAX_STEPS) -> int:
    """The longest uninterrupted other work, ns, that may be in the way once without making these tasks late.

    Under EDF on one unit the largest q with dbf(t) + q <= t at every demand step t. It is counted whole, not less 1: it may have
    started at any instant, an arbitrarily short time before. 0 where the tasks are not admitted. On several units, the largest q
    with which the sufficient test still holds when each unit runs one such stage.
    """
    set_ = checked(tasks)
    if not set_:
        return UNLIMITED_NS
    if not isinstance(admit(set_, resource, units, 0, max_steps), Certificate):
        return 0
    low, high = 0, min(t.deadline_ns - t.jitter_ns - t.cost_ns for t in set_) + 1
    while high - low > 1:  # each answer is a certificate, so what is returned is proven
        middle = (low + high) // 2
        if isinstance(admit(set_, resource, units, middle, max_steps), Certificate):
            low = middle
        else:
            high = middle
    return low


def least_deadline(tasks: Sequence[Sequence[int]], resource: str = "np-edf", units: int = 1, max_steps: int = 100_000,
                   admitted: Callable[[int], bool] | None = None) -> int | None:
    """The least relative deadline, ns, common to all tasks, with which they would be admitted; None: no deadline helps.

    With one deadline for all EDF serves in order of release, whatever the deadline, so a longer one never harms and bisection
    finds the least. `admitted` replaces the test of one deadline (for several resources).
    """
    set_ = checked(tasks)
    if not set_ or sum(Fraction(t.cost_ns, t.period_ns) for t in set_) > units:
        return None

    def alone(deadline_ns: int) -> bool:
        return isinstance(admit([t._replace(deadline_ns=deadline_ns) for t in set_], resource, units, 0, max_steps), Certificate)

    test = admitted or alone
    low = max(t.cost_ns + t.jitter_ns for t in set_) - 1
    high = 2 * low + 2
    while not test(high):
        low, high = high, 2 * high
        if high > LARGEST_NS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return high


# Parts ----------------------------------------------------------------------------------------------------------------


def _admit_demand(tasks: tuple[Task, ...], resource: str, blocking_ns: int, max_steps: int) -> Verdict:
    """EDF on one unit: the whole of the analysis above."""
    whole = lcm(*(t.period_ns for t in tasks))
    load = sum(t.cost_ns * (whole // t.period_ns) for t in tasks)  # in one hyperperiod
    firsts = [t.deadline_ns - t.jitter_ns for t in tasks]
    if load > whole:
        room = sum(t.cost_ns * (whole // t.period_ns) * f for t, f in zip(tasks, firsts))
        horizon_ns, horizon = -(-room // (load - whole)) + max(t.period_ns for t in tasks), "overload"
    else:
        horizon_ns, horizon = _horizon(tasks, blocking_ns, load, whole)
    last = max(horizon_ns, *firsts)
    if last > LARGEST_NS:
        return NotProven(f"the load is {load / whole:.9g}: there are demand steps to look at up to {last} ns, too far ahead")
    tightest: tuple[int, int, int] | None = None
    for t, demand, block in _steps(tasks, resource, blocking_ns, last, max_steps):
        slack = t - demand - block
        k = int(slack.argmin())
        if slack[k] < 0:
            k = int((slack < 0).argmax())
            return _refuse(tasks, int(t[k]), int(demand[k]), int(block[k]), resource)
        if tightest is None or int(slack[k]) < tightest[0] - tightest[1] - tightest[2]:
            tightest = int(t[k]), int(demand[k]), int(block[k])
    count = sum((last - f) // t.period_ns + 1 for t, f in zip(tasks, firsts))
    if count > max_steps or tightest is None:
        return NotProven(f"the load is {load / whole:.9g}: {count} demand steps to look at, more than {max_steps}")
    return Certificate(tasks, resource, 1, blocking_ns, horizon_ns, horizon, *tightest, tightest[0])


def _horizon(tasks: tuple[Task, ...], blocking_ns: int, load: int, whole: int) -> tuple[int, str]:
    """The least horizon of the three; `load` ns of work in a hyperperiod of `whole` ns, at most 1."""
    first = max(t.deadline_ns - t.jitter_ns for t in tasks)
    best = first + whole, "hyperperiod"
    if load < whole:
        rest = sum(t.cost_ns * (whole // t.period_ns) * (t.period_ns + t.jitter_ns - t.deadline_ns) for t in tasks)
        best = min(best, (max(first, -(-(rest + blocking_ns * whole) // (whole - load))), "utilisation"))
    h = blocking_ns + sum(t.cost_ns for t in tasks)
    for _ in range(10_000):
        longer = blocking_ns + sum(-(-(h + t.jitter_ns) // t.period_ns) * t.cost_ns for t in tasks)
        if longer == h:
            return min(best, (h, "busy period"))
        h = longer
        if h >= best[0]:
            break
    return best


def _steps(tasks: tuple[Task, ...], resource: str, blocking_ns: int, last: int,
           budget: int) -> Iterator[tuple[Any, Any, Any]]:
    """Demand steps in order, with dbf and blocking, as int64 arrays of some 10,000, up to `last` or about `budget` steps."""
    upcoming = [t.deadline_ns - t.jitter_ns for t in tasks]  # the next step of each
    behind = sorted(zip(upcoming, ((t.piece_ns or t.cost_ns) - 1 if resource == "np-edf" else 0 for t in tasks)))
    firsts = np.array([first for first, _ in behind])
    blocks = np.array([max([blocking_ns, *(piece for _, piece in behind[k:])]) for k in range(len(behind) + 1)])
    costs = np.array([t.cost_ns for t in tasks])
    width = max(min(t.period_ns for t in tasks), int(10_000 / sum(1 / t.period_ns for t in tasks)))
    end, seen, so_far = min(upcoming) - 1, 0, 0
    while end < last and seen < budget:
        end = min(last, end + width)
        counts = [max(0, (end - at) // task.period_ns + 1) for at, task in zip(upcoming, tasks)]
        due = np.concatenate([at + task.period_ns * np.arange(n) if n > 1 else np.array([at] * n, dtype=np.int64)
                              for at, n, task in zip(upcoming, counts, tasks)])
        order = due.argsort(kind="stable")
        t, demand = due[order], so_far + costs.repeat(counts)[order].cumsum()
        if t.size:
            alone = np.append(t[1:] != t[:-1], True)  # of steps at once the last has all their demand
            t, demand = t[alone], demand[alone]
            yield t, demand, blocks[firsts.searchsorted(t, side="right")]
            so_far = int(demand[-1])
        upcoming = [at + n * task.period_ns for at, n, task in zip(upcoming, counts, tasks)]
        seen += int(t.size)


def _refuse(tasks: tuple[Task, ...], t: int, demand: int, block: int, resource: str) -> CounterExample | NotProven:
    """The pattern that breaks the inequality at step t: all together, as late as they may, behind the blocking job."""
    first = [task.deadline_ns - task.jitter_ns for task in tasks]
    blocker, room = -1, 0
    if demand <= t:
        longest = [(task.piece_ns or task.cost_ns, -i) for i, task in enumerate(tasks) if first[i] > t and resource == "np-edf"]
        room, blocker = (max(longest)[0] - 1, -max(longest)[1]) if longest else (0, -1)
        if demand + room <= t:
            return NotProven(f"{demand} ns of work can fall due within {t} ns, and other work of {block} ns be in the way")
        if room + 1 < tasks[blocker].cost_ns:
            return NotProven(f"{demand} ns of work can fall due within {t} ns, and a piece of {room + 1} ns be in the way")
    counts = [(t - f) // task.period_ns + 1 if f <= t else 0 for task, f in zip(tasks, first)]
    return pattern(tasks, resource, counts, blocker, t, demand, room)


def _global_terms(tasks: tuple[Task, ...], k: int, units: int, blocking_ns: int) -> tuple[int, int, int, int]:
    """(window, demand, blocking, capacity) of task k on several units; in time where demand + blocking <= capacity.

    Take the job that misses the earliest deadline, and the last X = D_k - J_k before it. It waits, and all units are busy, for
    more than X - C_k of them; with work of jobs due in that window (all due before it are done), ceil(X / T_i) of task i at most
    and itself left out, and with what runs at its start and is due later, on each unit one at most. After Baruah, "The
    non-preemptive scheduling of periodic tasks upon multiprocessors" (Real-Time Systems 32, 2006), in a coarser form.
    """
    x = tasks[k].deadline_ns - tasks[k].jitter_ns
    demand = sum(-(-x // t.period_ns) * t.cost_ns for t in tasks) - tasks[k].cost_ns
    carried = sorted([t.cost_ns - 1 for t in tasks if t.deadline_ns > x] + [blocking_ns] * units, reverse=True)
    return x, demand, sum(carried[:units]), units * (x - tasks[k].cost_ns + 1) - 1


def _admit_global(tasks: tuple[Task, ...], units: int, blocking_ns: int) -> Certificate | NotProven:
    if any(0 < t.piece_ns < t.cost_ns for t in tasks):
        return NotProven("stages in a row on a resource with several units are not analysed")
    terms = [_global_terms(tasks, k, units, blocking_ns) for k in range(len(tasks))]
    x, demand, block, capacity = min(terms, key=lambda v: v[3] - v[1] - v[2])
    if demand + block > capacity:
        return NotProven(f"up to {demand + block} ns of other work within {x} ns on {units} units, where {capacity} ns would do")
    return Certificate(tasks, "np-edf", units, blocking_ns, x, "window", x, demand, block, capacity)

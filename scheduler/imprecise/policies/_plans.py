"""The dynamic programme of `depth-dp`: which jobs go how deep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ._steps import steps

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job

Steps = list[tuple[int, float, int]]
"""(time in ns, expected gain, first stage) of each way to go on that is worth something and ends in time."""
Option = tuple[float, int, int, "Job", Steps]
"""Least first: minus the best gain per ns, deadline, job id; then the job and its steps."""
_Plan = tuple[int, float, int, Any, int, int, tuple[int, ...]]
"""Least first: time used, minus the gain, a number (of equals the first found wins); the plan that it extends by a job's step, the
job's id, which step; when each worker is free, soonest first."""


def options_of(ready: Sequence[Job], engine: Engine, predict: Callable[[Job], Sequence[float]] | None) -> list[Option]:
    """What can still be gained, by job; jobs with nothing to gain in time are left out. `predict` stands in for `job.gains()`."""
    now_ns, estimate_ns = engine.now_ns, engine.estimate_ns
    known: dict[tuple[int, int], list[int]] = {}  # the time to each depth from a place in some stages
    options: list[Option] = []
    for job in ready:
        stages, place, gains = job.stream.stages, (id(job.stream.stages), job.next), job.gains() if predict is None else predict(job)
        if job.spent_ns or job.stream.kind != "milestone":
            ahead = [(t, gain, first) for t, gain, first, _, _ in steps(job, engine, gains) if gain > 0]
        else:
            times = known.get(place)
            if times is None:
                times = known[place] = list(accumulate([estimate_ns(stage) for stage in stages[job.next:]]))
            room_ns = job.publish_ns - now_ns
            ahead = [(t, gain, job.next) for t, gain in zip(times, gains) if gain > 0 and t <= room_ns]
        if ahead:
            densest = max([gain / (t or 1) for t, gain, _ in ahead])
            options.append((-densest, job.deadline_ns, job.id, job, ahead))
    return options


def best(jobs: Sequence[tuple[int, int, Steps]], waits: Sequence[int], price: float, most: int) -> tuple[float, dict[int, int]]:
    """The net gain of the best plan and, by job id, which of its steps it takes; for one worker exact while `most` plans are enough.

    `jobs` by deadline: (time left in ns, id, steps, as in an option); `waits`: when each worker is free, in ns from now; `price`: of a ns.
    """
    worth = [[(t, net, s) for s, (t, gain, _) in enumerate(ahead) if (net := gain - price * t) > 0] for _, _, ahead in jobs]
    easy = _all_at_their_best(jobs, worth, waits)
    if easy is not None:
        return easy
    alone, number = len(waits) == 1, 0
    plans: list[_Plan] = [(sum(waits), 0.0, 0, None, 0, 0, tuple(waits))]
    for (room_ns, id, _), own in zip(jobs, worth):
        grown = plans[:]
        for plan in plans:
            used, loss, _, _, _, _, free = plan
            for t, net, way in own:
                if free[0] + t <= room_ns:
                    number += 1
                    then = (used + t,) if alone else tuple(sorted((free[0] + t, *free[1:])))
                    grown.append((used + t, loss - net, number, plan, id, way, then))
        grown.sort()
        plans, least = [], 1.0
        for plan in grown:
            if plan[1] < least:
                plans.append(plan)
                least = plan[1]
        if len(plans) > most:  # keep the best and an even sample of the cheaper ones
            step = (len(plans) - 1) / (most - 1)
            plans = [plans[round(i * step)] for i in range(most)]
    gain, ways, last = -plans[-1][1], {}, plans[-1]
    while last[3] is not None:
        ways[last[4]] = last[5]
        last = last[3]
    return gain, ways


def _all_at_their_best(jobs: Sequence[tuple[int, int, Any]], worth: Sequence[Sequence[tuple[int, float, int]]],
                       waits: Sequence[int]) -> tuple[float, dict[int, int]] | None:
    """The plan in which each job takes the step that it gains most from, where that fits: no other can be better. None: it does not."""
    free, total, least, ways = list(waits), 0.0, 1.0, {}
    for (room_ns, id, _), own in zip(jobs, worth):
        if own:
            t, net, way = own[0]
            for other in own[1:]:
                if other[1] > net:
                    t, net, way = other
            end_ns = free[0] + t
            if end_ns > room_ns:
                return None
            free[0] = end_ns
            if len(free) > 1:
                free.sort()
            total += net
            least = net if net < least else least
            ways[id] = way
    return (total, ways) if least > 1e-9 * total else None  # gains lost in rounding: let the programme decide

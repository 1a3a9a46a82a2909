"""A naive model for admission: search every sporadic arrival pattern of a small task set, tick by tick, for a miss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product


def can_miss(tasks: Sequence[tuple[int, int, int, int]], preemptive: bool = False, shorter: bool = False,
             most: int = 300_000) -> bool | None:
    """Whether some legal pattern makes a job of `tasks` (C, T, D, J) miss under (non-)preemptive EDF on one unit.

    Each tick, every task that may release a job does or does not; a job arrives 0 to J ticks later, in order; ties go to the
    lower index. `shorter`: jobs may also take less than C. Breadth first over states, all of them; None: more than `most`.
    State: per task (ticks until it may release, ages of jobs not arrived), waiting jobs (ticks to deadline, task, left), running.
    """
    start = (tuple((0, ()) for _ in tasks), (), None)
    seen, todo = {start}, [start]
    while todo:
        sources, waiting, running = todo.pop()
        for choice in product(*(list(_arrivals(task, *source)) for task, source in zip(tasks, sources))):
            ready = list(waiting)
            for i, (_, _, due) in enumerate(choice):
                ready += [(d, i, tasks[i][0]) for d in due]
            now = running
            if preemptive and now is not None:
                ready.append(now)
                now = None
            if now is None and ready:
                now = min(ready)
                ready.remove(now)
            if any(d <= 0 for d, _, _ in ready) or (now is not None and now[0] < now[2] and not shorter):
                return True
            rests: list[tuple[int, int, int] | None] = [None]
            if now is not None:
                d, i, left = now
                if d <= 0:
                    return True
                rests = [(d - 1, i, left - 1) if left > 1 else None]
                if shorter:
                    rests.append(None)
            after = tuple((wait, ages) for wait, ages, _ in choice)
            later = tuple(sorted((d - 1, i, left) for d, i, left in ready))
            for rest in rests:
                state = (after, later, rest)
                if state not in seen:
                    if len(seen) >= most:
                        return None
                    seen.add(state)
                    todo.append(state)
    return False


def _arrivals(task, wait, ages):
    """What one source may do this tick: (ticks until the next release after this tick, ages after it, deadlines of arrivals)."""
    _, period, deadline, jitter = task
    for release in ([False, True] if wait == 0 else [False]):
        flying = [*ages, 0] if release else list(ages)
        must = sum(age >= jitter for age in flying)
        for n in range(must, len(flying) + 1):
            rest = tuple(age + 1 for age in flying[n:])
            yield (period - 1 if release else max(0, wait - 1)), rest, [deadline - age for age in flying[:n]]

"""A naive model for admission: search every sporadic arrival pattern of a small task set, tick by tick, for a miss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

Task = tuple[int, int, int, int]  # C, T, D, J in ticks


def can_miss(tasks: Sequence[Task], preemptive: bool = False, shorter: bool = False, units: int = 1,
             other: int = 0, most: int = 100_000) -> bool | None:
    """Whether some legal pattern makes a job of `tasks` miss under (non-)preemptive EDF on `units` units.

    Each tick, every task that may release a job does or does not; a job arrives 0 to J ticks later, in order; ties go to the
    lower index. `shorter`: jobs may also take less than C. `other`: while no job waits, a free unit may start foreign work of
    1 to `other` ticks that is not interrupted. Breadth first over all states; None: more than `most` of them.
    State: per task (ticks until it may release, ages of jobs not arrived), jobs waiting and running (ticks to deadline, task,
    ticks left), where foreign work is task -1 without a deadline.
    """
    start = (tuple((0, ()) for _ in tasks), (), ())
    seen, todo = {start}, [start]
    while todo:
        sources, waiting, running = todo.pop()
        for choice in product(*(list(_arrivals(task, *source)) for task, source in zip(tasks, sources, strict=True))):
            ready = list(waiting)
            for i, (_, _, due) in enumerate(choice):
                ready += [(d, i, tasks[i][0]) for d in due]
            busy = list(running)
            if preemptive:
                ready += [job for job in busy if job[1] >= 0]
                busy = [job for job in busy if job[1] < 0]
            ready.sort()
            while ready and len(busy) < units:
                busy.append(ready.pop(0))
            if any(d <= 0 for d, i, _ in ready + busy if i >= 0):
                return True
            after = tuple((wait, ages) for wait, ages, _ in choice)
            later = tuple((d - 1, i, left) for d, i, left in ready)
            for now in _with_foreign(busy, units if not ready else 0, other):
                for rest in _rests(now, shorter):
                    state = (after, later, rest)
                    if state not in seen:
                        if len(seen) >= most:
                            return None
                        seen.add(state)
                        todo.append(state)
    return False


def _with_foreign(busy: list, units: int, other: int) -> Iterator[list]:
    yield busy
    if other and len(busy) < units:
        for length in range(1, other + 1):
            yield from _with_foreign([*busy, (0, -1, length)], units, other)


def _rests(busy: list, shorter: bool) -> list[tuple]:
    """What may be left of the running jobs after this tick."""
    options = []
    for d, i, left in busy:
        on = (d - 1 if i >= 0 else 0, i, left - 1)
        options.append([None] if left == 1 else [on, None] if shorter else [on])
    return [tuple(sorted(job for job in pick if job)) for pick in product(*options)]


def _arrivals(task: Task, wait: int, ages: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...], list[int]]]:
    """What one source may do this tick: (ticks until the next release after it, ages after it, deadlines of what arrives)."""
    _, period, deadline, jitter = task
    for release in ([False, True] if wait == 0 else [False]):
        flying = [*ages, 0] if release else list(ages)
        must = sum(age >= jitter for age in flying)
        for n in range(must, len(flying) + 1):
            rest = tuple(age + 1 for age in flying[n:])
            yield (period - 1 if release else max(0, wait - 1)), rest, [deadline - age for age in flying[:n]]

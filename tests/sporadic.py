"""Naive models for admission: search every sporadic arrival pattern of small task sets for a miss, and replay a pattern.

`can_miss` goes tick by tick through one set, and knows jitter, deadlines beyond the period, several units and other work.
`search` does the same for many sets at once in NumPy, without those. `replay` runs one pattern. None shares code with `imprecise`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import lcm

import numpy as np

Task = tuple[int, int, int, int]  # C, T, D, J in ticks


def can_miss(tasks: Sequence[Task], preemptive: bool = False, shorter: bool = False, units: int = 1,
             other: int = 0, most: int = 100_000, fixed: bool = False) -> bool | None:
    """Whether some legal pattern makes a job of `tasks` miss under (non-)preemptive EDF on `units` units, or `fixed` priority.

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
            ready.sort(key=lambda job: (job[1], job) if fixed else (0, job))
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


def replay(tasks: Sequence[Sequence[int]], arrivals: Sequence[tuple[int, int, int]], resource: str) -> list[int]:
    """Which of these jobs (task, release, arrival) end after their deadline when each takes its whole cost, by index.

    Checks that the pattern is legal. Jobs that are late go on. From event to event, so the times may be large.
    """
    order = sorted(range(len(arrivals)), key=lambda k: (arrivals[k][2], arrivals[k][1], k))
    last: dict[int, tuple[int, int]] = {}
    for task, release, arrival in (arrivals[k] for k in order):
        _, period, _, jitter = tasks[task][:4]
        assert 0 <= release <= arrival <= release + jitter, "an arrival outside its jitter"
        if task in last:
            assert release - last[task][0] >= period and arrival >= last[task][1], "two releases too close"
        last[task] = release, arrival
    now, late, ready, running = 0, [], [], None  # ready: [priority, release, job, left]
    while order or ready:
        if not ready:
            now = max(now, arrivals[order[0]][2])
        while order and arrivals[order[0]][2] <= now:
            job = order.pop(0)
            task, release, _ = arrivals[job]
            ready.append([task if resource.endswith("fp") else release + tasks[task][2], release, job, tasks[task][0]])
        if running is None or resource.startswith("p-"):
            running = min(ready)
        run = min(running[3], arrivals[order[0]][2] - now) if order else running[3]
        now += run
        running[3] -= run
        if not running[3]:
            ready.remove(running)
            if now > running[1] + tasks[arrivals[running[2]][0]][2]:
                late.append(running[2])
            running = None
    return late


def most_late(tasks: Sequence[Sequence[int]], k: int, resource: str) -> list[int]:
    """For each periodic task (C, T, D) the most late jobs in any k consecutive, over all offsets, with each job at its full cost."""
    around = lcm(*(t[1] for t in tasks))
    worst = [0] * len(tasks)
    for offsets in product(*(range(t[1] if i else 1) for i, t in enumerate(tasks))):  # the first one's is 0
        end = 3 * around + max(offsets) + k * max(t[1] for t in tasks)
        jobs = [(i, r, r) for i, (t, o) in enumerate(zip(tasks, offsets, strict=True)) for r in range(o, end, t[1])]
        late = set(replay([(*t, 0) for t in tasks], jobs, resource))
        for i in range(len(tasks)):
            mine = [n in late for n, job in enumerate(jobs) if job[0] == i]
            worst[i] = max(worst[i], *(sum(mine[n:n + k]) for n in range(len(mine) - k + 1)))
    return worst


def search(sets: np.ndarray, resource: str, memory: int = 100_000_000) -> tuple[np.ndarray, np.ndarray]:
    """All sporadic patterns of many sets, int [m, n, (C, T, D <= T)]: (whether one misses [m], longest response [m, n]).

    Breadth first over the states (age of the last job or "may release", work left) of all sets together; each tick, each task
    that may release does or does not. One busy period is enough: after it every task may at best release at once, which is how
    the search begins. The responses of a set that misses are not complete. `memory`: bytes for the marks of visited states.
    """
    sizes = ((sets[:, :, 0] + 1) * (sets[:, :, 1] + 1)).prod(axis=1, dtype=np.int64)
    groups = np.cumsum(sizes) // memory
    found = [_search(sets[groups == g], sizes[groups == g], resource) for g in np.unique(groups)]
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _search(sets: np.ndarray, sizes: np.ndarray, resource: str) -> tuple[np.ndarray, np.ndarray]:
    m, n, _ = sets.shape
    cost, period, due = (np.ascontiguousarray(sets[:, :, k].T.astype(np.int8)) for k in range(3))
    base = np.cumsum(sizes) - sizes
    visited, writer = np.zeros(int(sizes.sum()), dtype=bool), np.zeros(int(sizes.sum()), dtype=np.int32)
    missed, longest = np.zeros(m, dtype=bool), np.zeros((m, n), dtype=np.int8)
    which = np.arange(m)
    age, left = period.copy(), np.zeros_like(cost)
    while which.size:
        for i in range(n):
            may = np.flatnonzero(age[i] == period[i, which])
            size = which.size
            which = np.concatenate([which, which[may]])
            age, left = np.concatenate([age, age[:, may]], axis=1), np.concatenate([left, left[:, may]], axis=1)
            age[i, size:], left[i, size:] = 0, cost[i, which[size:]]
        keep = left.any(axis=0)
        which, age, left = which[keep], age[:, keep], left[:, keep]
        first, urgency = np.zeros(which.size, dtype=np.int8), np.full(which.size, 127, dtype=np.int8)
        for i in range(n):
            mine = due[i, which] - age[i] if resource.endswith("edf") else np.full(which.size, i, dtype=np.int8)
            if resource.startswith("np"):
                mine[left[i] < cost[i, which]] = -1  # it runs, where any is left
            take = (left[i] > 0) & (mine < urgency)
            first[take], urgency[take] = i, mine[take]
        age = np.minimum(age + 1, period[:, which])
        for i in range(n):
            left[i] -= first == i
            ended = (first == i) & (left[i] == 0)
            np.maximum.at(longest[:, i], which[ended], age[i, ended])
        missed[which[((left > 0) & (age >= due[:, which])).any(axis=0)]] = True
        keep = np.flatnonzero(left.any(axis=0) & ~missed[which])
        which, age, left = which[keep], age[:, keep], left[:, keep]
        code = np.zeros(which.size, dtype=np.int64)
        for i in range(n):
            code = (code * (period[i, which] + 1) + age[i]) * (cost[i, which] + 1) + left[i]
        code += base[which]
        writer[code] = np.arange(code.size)  # of equal states the last one stays
        keep = np.flatnonzero(~visited[code] & (writer[code] == np.arange(code.size)))
        visited[code[keep]] = True
        which, age, left = which[keep], age[:, keep], left[:, keep]
    return missed, longest

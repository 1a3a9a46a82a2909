"""What the ladder of bounds reasons about: frames whose every duration and result is known, and their options on the pool.

The *pool* is the resource (or resources) where optional stages run. A frame takes part in the competition for it as an `Item`: from
`ready_ns` to `end_ns` it may use the pool, and with so much of it in all it is worth so much more. Everything else about it is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

BOUNDS = ("B0", "B1", "B2")


class LadderFrame(NamedTuple):
    """One frame with all that a clairvoyant knows of it; times in ns, absolute, durations of every stage whether it ran or not.

    `release_ns`: scheduled capture; `publish_ns`: deadline - guard, by which an optional stage must have ended; `stages`: (resource,
    duration) in order, the first `mandatory` of them mandatory; `worth[d]`: expected correctness of an answer of depth d, `right[d]`:
    whether it would be right (1, 0; -1: no label), d = 0 ... number of optional stages; `arrival_ns`: when it is first seen.
    `deadline_ns`: by which the mandatory part must have ended (-1: `publish_ns`).
    """

    release_ns: int
    publish_ns: int
    stages: tuple[tuple[str, int], ...]
    mandatory: int
    worth: tuple[float, ...]
    right: tuple[int, ...]
    weight: float
    arrival_ns: int
    deadline_ns: int = -1

    @property
    def due_ns(self) -> int:
        """When the mandatory part must have ended."""
        return self.publish_ns if self.deadline_ns < 0 else self.deadline_ns


class Segment(NamedTuple):
    """A unit of a resource works for a stage of a frame (by its index) from `start_ns` to `end_ns`."""

    frame: int
    stage: int
    resource: str
    unit: int
    start_ns: int
    end_ns: int


class Option(NamedTuple):
    """`work_ns` of the pool, all done by `limit_ns`, give the answer of `depth`, worth `gain` more than the item's base."""

    work_ns: int
    gain: float
    depth: int
    limit_ns: int


class Item(NamedTuple):
    """A frame in the competition for the pool.

    `base`: what it is worth without it, at `depth` (-1: missed). `options`: each works longer and gains more than the one before.
    `lead`: its first stages that run elsewhere, before the pool is needed; `ready_ns`: arrival + their durations, which no schedule
    can beat. `plain`: every later stage runs in the pool.
    """

    frame: int
    ready_ns: int
    end_ns: int
    base: float
    depth: int
    options: tuple[Option, ...]
    lead: int
    plain: bool


class Pool(NamedTuple):
    """Where optional stages run: its resources, and how many units they have together."""

    resources: tuple[str, ...]
    units: int


def check(frames: Sequence[LadderFrame], resources: Mapping[str, int], bound: str) -> None:
    """Raises ValueError for a frame that cannot be, or a bound that there is not."""
    if bound not in BOUNDS:
        raise ValueError(f"found bound {bound!r}, expected one of {', '.join(BOUNDS)}")
    for i, frame in enumerate(frames):
        depths = len(frame.stages) - frame.mandatory + 1
        if not 0 <= frame.mandatory <= len(frame.stages) or not len(frame.worth) == len(frame.right) == depths:
            raise ValueError(f"frame {i}: found {frame.mandatory} mandatory of {len(frame.stages)} stages, {len(frame.worth)} worths and "
                             f"{len(frame.right)} results; expected one worth and result for each of the depths")
        for name, took_ns in frame.stages:
            if resources.get(name, 0) < 1:
                raise ValueError(f"frame {i}: a stage needs resource {name!r}; there is {sorted(resources)}")
            if took_ns < 0:
                raise ValueError(f"frame {i}: found a duration of {took_ns} ns")
        if not (math.isfinite(frame.weight) and frame.weight >= 0 and all(math.isfinite(w) and w >= 0 for w in frame.worth)):
            raise ValueError(f"frame {i}: weight and worth must be finite and not negative")
        if frame.due_ns < frame.publish_ns:
            raise ValueError(f"frame {i}: the deadline ({frame.due_ns} ns) lies before the publication ({frame.publish_ns} ns)")
        if bound == "B0" and min(frame.right) < 0:
            raise ValueError(f"frame {i} has no label: B0 is defined where it is known which answers are right")


def pool_of(frames: Sequence[LadderFrame], resources: Mapping[str, int]) -> Pool:
    """The pool of these frames; of no unit where nothing is optional."""
    names = sorted({name for frame in frames for name, _ in frame.stages[frame.mandatory:]})
    return Pool(tuple(names), sum(resources[name] for name in names))


def values(frame: LadderFrame, bound: str) -> list[float]:
    """What the answer of each depth counts: weight x right (B0), weight x worth (B1, B2)."""
    return [frame.weight * v for v in (frame.right if bound == "B0" else frame.worth)]


def item_of(index: int, frame: LadderFrame, pool: Pool, bound: str) -> Item:
    """The options of a frame: depths that its own window leaves time for, without those that take longer for no more."""
    needed = frame.stages[:frame.mandatory]
    inside = [name in pool.resources for name, _ in frame.stages]
    lead = next((k for k, here in enumerate(inside) if here), len(inside))
    ready_ns = frame.arrival_ns + sum(took_ns for _, took_ns in frame.stages[:lead])
    shared_ns = sum(took_ns for name, took_ns in needed if name in pool.resources)
    elsewhere_ns = sum(took_ns for name, took_ns in needed[lead:] if name not in pool.resources)
    worth = values(frame, bound)
    found = []
    if ready_ns + shared_ns + elsewhere_ns <= frame.due_ns:
        found.append(Option(shared_ns, worth[0], 0, frame.due_ns))
        work_ns = shared_ns
        for depth, (_, took_ns) in enumerate(frame.stages[frame.mandatory:], 1):
            work_ns += took_ns
            if ready_ns + work_ns + elsewhere_ns > frame.publish_ns:
                break
            found.append(Option(work_ns, worth[depth], depth, frame.publish_ns))
    base, depth = 0.0, -1
    options: list[Option] = []
    for option in found:
        if option.gain <= (options[-1].gain if options else base):
            continue
        if option.work_ns == 0:
            base, depth = option.gain, option.depth
        elif options and options[-1].work_ns == option.work_ns:
            options[-1] = option
        else:
            options.append(option)
    end_ns = frame.due_ns if shared_ns else frame.publish_ns
    return Item(index, ready_ns, end_ns, base, depth, tuple(o._replace(gain=o.gain - base) for o in options), lead, all(inside[lead:]))


def envelope(options: Sequence[Option]) -> list[tuple[int, float]]:
    """The least concave function through (0, 0) above the options, as (work in ns, gain) of its steps, steepest first."""
    hull: list[tuple[int, float]] = [(0, 0.0)]
    for work_ns, gain, _, _ in options:
        while len(hull) > 1 and ((hull[-1][1] - hull[-2][1]) * (work_ns - hull[-1][0])
                                 <= (gain - hull[-1][1]) * (hull[-1][0] - hull[-2][0])):
            hull.pop()
        hull.append((work_ns, gain))
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(hull)]


def leads(frames: Sequence[LadderFrame], counts: Sequence[int], resources: Mapping[str, int]) -> tuple[list[int], list[Segment]]:
    """When the first `counts[i]` stages of each frame end under non-preemptive EDF on their resources, in ns, and that schedule.

    A frame that can no longer be in time is left out: its end is -1 and it has no segment.
    """
    ends = [frame.arrival_ns if not count else -1 for frame, count in zip(frames, counts)]
    log: list[list[Segment]] = [[] for _ in frames]
    free = {name: list(range(units)) for name, units in resources.items()}
    waiting: dict[str, list[tuple[int, int, int]]] = {name: [] for name in resources}
    coming = [(frame.arrival_ns, i, 0, "", -1) for i, frame in enumerate(frames) if counts[i]]
    coming.sort()
    coming.reverse()
    running: list[tuple[int, int, int, str, int]] = []  # (end, frame, stages done, resource, unit)
    rest = [sum(took_ns for _, took_ns in frame.stages[:max(count, frame.mandatory)]) for frame, count in zip(frames, counts)]
    while coming or running:
        now = min(running[0][0] if running else math.inf, coming[-1][0] if coming else math.inf)
        came = []
        while running and running[0][0] == now:
            came.append(heappop(running))
        while coming and coming[-1][0] == now:
            came.append(coming.pop())
        for _, i, done, name, unit in came:
            if unit >= 0:
                free[name].append(unit)
            if done == counts[i]:
                ends[i] = int(now)
            else:
                heappush(waiting[frames[i].stages[done][0]], (frames[i].due_ns, i, done))
        for name, queue in waiting.items():
            while queue and free[name]:
                _, i, done = heappop(queue)
                took_ns = frames[i].stages[done][1]
                if now + rest[i] > frames[i].due_ns:
                    log[i].clear()
                    continue
                rest[i] -= took_ns
                segment = Segment(i, done, name, free[name].pop(0), int(now), int(now) + took_ns)
                log[i].append(segment)
                heappush(running, (segment.end_ns, i, done + 1, name, segment.unit))
    return ends, [segment for i, segments in enumerate(log) if ends[i] >= 0 for segment in segments]



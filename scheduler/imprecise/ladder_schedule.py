"""Feasible schedules for the competition for the pool: the lower side of each bound.

`search` goes through the frames in a given order and keeps, for every state of the units (when each will be free), the best value
so far; each frame takes one of its options on the unit that is free first. States that agree to within a cell of time are one.
`list_schedule` dispatches where stages alternate between resources. `fluid` runs earliest deadline first, preemptively, cut at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np
from numpy.typing import NDArray

from .ladder_model import Item, LadderFrame, Pool, Segment
from .ladder_program import Piece

ORDERS: tuple[Callable[[Item, int], tuple[int, ...]], ...] = (
    lambda item, ready_ns: (item.end_ns, ready_ns, item.frame),
    lambda item, ready_ns: (ready_ns, item.end_ns, item.frame),
    lambda item, ready_ns: (ready_ns + item.end_ns, item.end_ns, item.frame),
)
"""In which order frames may take their turn: by deadline, by readiness, by the middle of both."""


def search(items: Sequence[Item], ready_ns: Mapping[int, int], units: int, states: int = 1000, order: int = 0) -> dict[int, int]:
    """{frame: index of its option} of the best plan found; frames without one are left out. O(n * states), in NumPy.

    `ready_ns`: when each frame really becomes ready. With one unit, states suffice for an exact answer (for this order) while fewer
    than `states` plans are in none of both, time and value, beaten by another.
    """
    queue = sorted(items, key=lambda item: ORDERS[order](item, ready_ns[item.frame]))
    ready = np.array([ready_ns[item.frame] for item in queue], dtype=np.int64)
    soonest = np.minimum.accumulate(ready[::-1])[::-1]  # of this and all that follow: a unit free before is as good as free then
    span = max((item.end_ns - item.ready_ns for item in items), default=1)
    coarse = max(1.0, 2 * span / max(2.0, states ** (1 / units)))
    cell, least = coarse, max(1.0, coarse / 16)
    free = np.full((1, units), soonest[0] if queue else 0, dtype=np.int64)
    value = np.zeros(1)
    history: list[tuple[NDArray[np.int64], NDArray[np.int8]]] = []
    for item, ready_at, next_ns in zip(queue, ready.tolist(), np.append(soonest[1:], soonest[-1:]).tolist()):
        frees, values, parents, choices = [free], [value], [np.arange(len(value))], [np.full(len(value), -1, dtype=np.int8)]
        start = np.maximum(free[:, 0], ready_at)
        for k, (work_ns, gain, _, limit_ns) in enumerate(item.options):
            ok = np.flatnonzero(start + work_ns <= limit_ns)
            if not len(ok):
                break
            then = free[ok]
            then[:, 0] = start[ok] + work_ns
            then.sort(axis=1)
            frees.append(then)
            values.append(value[ok] + gain)
            parents.append(ok)
            choices.append(np.full(len(ok), k, dtype=np.int8))
        free, value = np.maximum(np.concatenate(frees), next_ns), np.concatenate(values)
        parent, choice = np.concatenate(parents), np.concatenate(choices)
        keep = np.arange(len(value))
        if len(value) > 1:
            keep = _undominated(free, value) if units == 1 else keep
            if units > 1 or len(keep) > states:
                keep, cell = _cells(free, value, keep, cell, least, next_ns, states)
        free, value = free[keep], value[keep]
        history.append((parent[keep], choice[keep]))
    plan = {}
    at = int(value.argmax())
    for item, (parent, choice) in zip(reversed(queue), reversed(history)):
        if choice[at] >= 0:
            plan[item.frame] = int(choice[at])
        at = int(parent[at])
    return plan


def _undominated(free: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """One unit: the states that no earlier one equals in value, by time."""
    order = np.lexsort((-value, free[:, 0]))
    top = np.maximum.accumulate(value[order])
    keep = np.ones(len(order), dtype=bool)
    keep[1:] = top[1:] > top[:-1]
    return order[keep]


def _cells(free: NDArray[np.int64], value: NDArray[np.float64], among: NDArray[np.int64], cell: float,
           least: float, low_ns: int, states: int) -> tuple[NDArray[np.int64], float]:
    """The best state of each cell of time that no cell before it in all units beats; cells grow and shrink with what is left over."""
    among = among[np.argsort(-value[among], kind="stable")]
    units = free.shape[1]
    while True:
        place = ((free[among] - low_ns) / cell).astype(np.int64)
        size = place.max(axis=0) + 1
        key = place[:, 0]
        for unit in range(1, units):
            key = key * size[unit] + place[:, unit]
        keep = np.sort(np.unique(key, return_index=True)[1])
        if units == 2 and len(keep) > states // 4:
            table = np.full(size, -np.inf)
            table[place[keep, 0], place[keep, 1]] = value[among[keep]]
            table = np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)
            padded = np.pad(table, ((1, 0), (1, 0)), constant_values=-np.inf)
            a, b = place[keep, 0], place[keep, 1]
            keep = keep[value[among[keep]] > np.maximum(padded[a, b + 1], padded[a + 1, b])]
        if len(keep) <= states:
            return among[keep], (max(least, cell / 1.2) if len(keep) < states // 2 else cell)
        cell *= 1.2


def lay_out(frames: Sequence[LadderFrame], items: Sequence[Item], ready_ns: Mapping[int, int], pool: Pool, plan: Mapping[int, int],
            order: int = 0) -> list[Segment]:
    """The schedule of a plan of `search`, in the same order, on a pool of one resource: each frame on the unit that is free first."""
    units = [(0, unit) for unit in range(pool.units)]
    heapify(units)
    out: list[Segment] = []
    for item in sorted(items, key=lambda item: ORDERS[order](item, ready_ns[item.frame])):
        if item.frame not in plan:
            continue
        frame, depth = frames[item.frame], item.options[plan[item.frame]].depth
        at_ns, unit = units[0]
        at_ns = max(at_ns, ready_ns[item.frame])
        for stage in range(item.lead, frame.mandatory + depth):
            name, took_ns = frame.stages[stage]
            out.append(Segment(item.frame, stage, name, unit, at_ns, at_ns + took_ns))
            at_ns += took_ns
        heapreplace(units, (at_ns, unit))
    return out


def list_schedule(frames: Sequence[LadderFrame], items: Sequence[Item], resources: Mapping[str, int], plan: Mapping[int, int],
                  dense: bool, fill: bool) -> list[Segment]:
    """Dispatch whole stages on all resources, never interrupted: mandatory first by deadline, then what the plan wants, then the rest.

    Optional stages go by deadline, or the densest first (`dense`), as deep as pays and still fits; what the plan does not want only where
    nothing else waits (`fill`). A frame that cannot be in time takes no further stage.
    """
    gains = [{frame.mandatory: 0.0} for frame in frames]  # by stages done
    aims = [frame.mandatory for frame in frames]
    for item in items:
        known = gains[item.frame]
        known.update({frames[item.frame].mandatory + option.depth: option.gain for option in item.options})
        if item.frame in plan:
            aims[item.frame] += item.options[plan[item.frame]].depth
    free = {name: list(range(units)) for name, units in resources.items()}
    waiting: dict[str, list[tuple[int, float, int, int]]] = {name: [] for name in resources}
    log: list[list[Segment]] = [[] for _ in frames]
    events = [(frame.arrival_ns, i, 0, "", -1) for i, frame in enumerate(frames)]
    heapify(events)

    def stop(i: int, done: int, now: int) -> int:
        """How many stages to have done in the end: the best that fits from now on; so many as now where none is better."""
        frame, at_ns, best = frames[i], now, done
        if done < frame.mandatory:
            needed_ns = sum(took_ns for _, took_ns in frame.stages[done:frame.mandatory])
            return frame.mandatory if now + needed_ns <= frame.due_ns else done
        for k in range(done, len(frame.stages) if fill else aims[i]):
            at_ns += frame.stages[k][1]
            if at_ns <= frame.publish_ns and gains[i].get(k + 1, -1.0) > gains[i].get(best, 0.0):
                best = k + 1
        return best

    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, i, done, name, unit = heappop(events)
            if unit >= 0:
                free[name].append(unit)
            if (aim := stop(i, done, now)) > done:
                sort = 0 if done < frames[i].mandatory else 1 if done < aims[i] else 2
                rank: float = frames[i].publish_ns if sort else frames[i].due_ns
                if sort and dense:
                    rank = -(gains[i][aim] - gains[i].get(done, 0.0)) / max(1, sum(ns for _, ns in frames[i].stages[done:aim]))
                heappush(waiting[frames[i].stages[done][0]], (sort, rank, i, done))
        for name, queue in waiting.items():
            while queue and free[name]:
                _, _, i, done = heappop(queue)
                if stop(i, done, now) > done:
                    segment = Segment(i, done, name, free[name].pop(0), now, now + frames[i].stages[done][1])
                    log[i].append(segment)
                    heappush(events, (segment.end_ns, i, done + 1, name, segment.unit))
    for i, segments in enumerate(log):  # neither a stage that does not pay without its successors, nor a frame without its mandatory part
        count, least = len(segments), frames[i].mandatory
        del segments[0 if count < least else max(range(least, count + 1), key=lambda k: gains[i].get(k, -1.0)):]
    return [segment for segments in log for segment in segments]


def fluid(items: Sequence[Item], ready_ns: Mapping[int, int], amounts: Mapping[int, float], units: int) -> list[Piece]:
    """Run the given amounts of work (ns of one unit) by earliest deadline first, preemptively, each cut at its end."""
    coming = sorted(((ready_ns[item.frame], item.end_ns, item.frame) for item in items if amounts[item.frame] >= 1), reverse=True)
    left = {item.frame: int(amounts[item.frame]) for item in items}
    ready: list[tuple[int, int]] = []
    place: dict[int, int] = {}  # frame: its unit so far
    pieces: list[Piece] = []
    now = coming[-1][0] if coming else 0
    while coming or ready:
        if not ready:
            now = max(now, coming[-1][0])
        while coming and coming[-1][0] <= now:
            _, end_ns, frame = coming.pop()
            heappush(ready, (end_ns, frame))
        running: list[tuple[int, int]] = []
        while ready and len(running) < units:
            end_ns, frame = heappop(ready)
            if end_ns > now and left[frame] > 0:
                running.append((end_ns, frame))
        if not running:
            continue
        until = min(min(end_ns, now + left[frame]) for end_ns, frame in running)
        until = min(until, coming[-1][0]) if coming else until
        taken = {place[frame]: frame for _, frame in running if frame in place}
        spare = [unit for unit in range(units) if unit not in taken]
        for entry in running:
            frame = entry[1]
            if frame not in place:
                place[frame] = spare.pop()
            pieces.append((now, until, place[frame], frame))
            left[frame] -= until - now
            heappush(ready, entry)
        for frame in [f for f in place if left[f] <= 0 or all(f != entry[1] for entry in running)]:
            del place[frame]
        now = until
    return pieces


def cut(frames: Sequence[LadderFrame], items: Sequence[Item], pieces: Sequence[Piece], resource: str) -> list[Segment]:
    """The pool's pieces as pieces of stages: each frame's stages in order, as far as its time goes."""
    stage = [item.lead for item in items]
    left = [frame.stages[k][1] if k < len(frame.stages) else 0 for frame, k in zip(frames, stage)]
    out: list[Segment] = []
    for start_ns, end_ns, unit, i in sorted(pieces):
        stages, at_ns = frames[i].stages, start_ns
        while stage[i] < len(stages):
            part = min(left[i], end_ns - at_ns)
            out.append(Segment(i, stage[i], resource, unit, at_ns, at_ns + part))
            at_ns += part
            left[i] -= part
            if left[i]:
                break
            stage[i] += 1
            left[i] = stages[stage[i]][1] if stage[i] < len(stages) else 0
            if at_ns == end_ns:
                break
    return out

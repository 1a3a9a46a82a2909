"""The simulator: the engine that runs live, stepped in virtual time.

It adds nothing to the schedule: `Engine.step` decides, this file only delivers what happens. All events of one instant go into
one step (stages that end, then injected faults, then arrivals), so a stage that ends when a frame arrives is seen with it.
Arrivals, durations and pictures are draws indexed by (seed, stream, frame, stage) (`draws.py`): every policy sees the same world.

    result = simulate(scenario.load("two-cameras", resolve), "default", seed=1, frames=10_000)
    print(result.summary())
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .draws import draw_items, key_of, uniforms
from .engine import NEVER_NS, Engine
from .model import Event, Stream
from .policies import make
from .policies.base import Policy
from .scenario import Scenario, Source
from .simulation import ANSWERED, BUCKETS, FRAME_DTYPE, MISSED, Log, Simulation, StageRow, StreamTotals

CHUNK = 8192  # frames drawn at once, of all streams together


class StageFault(NamedTuple):
    """The first `times` attempts of one stage of one frame go wrong.

    "failed": no result, the unit is free again; "abandoned": given up, the unit is gone, and back after `back_ns` (0: never).
    It happens `after_ns` after the start (0: when the stage would have ended).
    """

    stream: str
    frame: int
    stage: str
    kind: str = "failed"
    after_ns: int = 0
    back_ns: int = 0
    times: int = 1


class ResourceFault(NamedTuple):
    """A unit of a resource is "lost" (what runs there fails) or "back" at a time."""

    at_ns: int
    resource: str
    unit: int
    kind: str = "lost"


def simulate(scenario: Scenario, policy: Policy | str, seed: int = 0, frames: int = 1000, *, rows: bool = True,
             log: Log | None = None, faults: Sequence[StageFault | ResourceFault] = (),
             options: Mapping[str, Any] | None = None, progress: Callable[[int], None] | None = None) -> Simulation:
    """Simulate until the first `frames` frames, of all streams together in order of arrival, are closed.

    `rows=False` is the streaming mode: counters only, memory does not grow with `frames`. `log` receives every step and stage.
    `options` go to the engine (`quantile`, what admission found); the scenario's blocking limits hold where they have none.
    `progress` is called with the number of frames released so far, now and then.
    A policy object must be fresh. Raises ValueError for frames < 1 or a fault that names nothing.
    """
    spec = policy if isinstance(policy, str) else policy.name
    policy = make(policy) if isinstance(policy, str) else policy
    if frames < 1:
        raise ValueError(f"frames: found {frames}, expected at least 1")
    settings = {"blocking_ns": scenario.blocking_ns, **(options or {})}
    engine = Engine(scenario.streams, scenario.resources, policy, scenario.guard_ns, **settings)
    run = _Run(scenario, engine, seed, frames, rows, log, progress)
    run.inject(faults)
    run.loop()
    totals = [world.totals(stream) for world, stream in zip(run.worlds, scenario.streams)]
    return Simulation(scenario.name, spec, seed, totals, run.table(), engine.now_ns, run.steps, engine.discarded,
                      engine.policy_fault, run.busy_ns, run.latency)


# A frame before and while it is open: (arrival_ns, stream index, frame, release_ns, item, [duration of each stage]).
_Frame = tuple[int, int, int, int, int, list[int]]


class _Run:
    """One simulation's state."""

    def __init__(self, scenario: Scenario, engine: Engine, seed: int, frames: int, rows: bool, log: Log | None,
                 progress: Callable[[int], None] | None):
        self.scenario, self.engine, self.log, self.progress = scenario, engine, log, progress
        self.chunks = arrivals(scenario.sources, seed, frames)
        self.busy_ns = dict.fromkeys(scenario.resources, 0)
        self.latency: dict[int, int] = {}
        self.steps = 0
        self.rows: list[tuple[Any, ...]] | None = [] if rows else None
        self.tables: list[NDArray[Any]] = []
        self.pending: list[tuple[int, int, int, Event]] = []  # heap of (time, 0 stage or 1 resource, order, event)
        self.order = 0
        self.stage_faults: dict[tuple[int, int, int], list[StageFault]] = {}
        self.given_up: dict[tuple[str, int], int] = {}  # abandoned units, and how long they are gone
        self.started: dict[tuple[str, int], int] = {}  # start of what runs on a unit; kept for faults and the log
        self.live: dict[int, _Frame] = {}  # open jobs
        tables: dict[tuple[int, ...], _Tables] = {}  # copies of a stream share theirs
        self.worlds: list[_World] = []
        for source in scenario.sources:
            key = (id(source.work), id(source.stream.reward), id(source.stream.stages))
            if key not in tables:
                tables[key] = _Tables(source)
            self.worlds.append(_World(source, tables[key]))

    def inject(self, faults: Sequence[StageFault | ResourceFault]) -> None:
        """Plan faults. Raises ValueError for one that names nothing."""
        streams = {s.name: i for i, s in enumerate(self.scenario.streams)}
        for fault in faults:
            if isinstance(fault, ResourceFault):
                if fault.kind not in ("lost", "back") or not 0 <= fault.unit < self.scenario.resources.get(fault.resource, 0):
                    raise ValueError(f"no such fault: {fault}")
                self._push(1, Event(fault.kind, fault.at_ns, resource=fault.resource, unit=fault.unit))
                continue
            index = streams.get(fault.stream, -1)
            stages = [stage.name for stage in self.scenario.streams[index].stages] if index >= 0 else []
            if fault.kind not in ("failed", "abandoned") or fault.stage not in stages:
                raise ValueError(f"no such fault: {fault}")
            self.stage_faults.setdefault((index, fault.frame, stages.index(fault.stage)), []).extend([fault] * fault.times)

    def loop(self) -> None:
        """Step the engine from instant to instant until every frame is closed and every stage has ended."""
        step, pending, busy_ns, log, worlds = self.engine.step, self.pending, self.busy_ns, self.log, self.worlds
        live, close, careful = self.live, self._close, bool(self.stage_faults or pending or log is not None)
        completed: dict[int, int] = {}  # when the latest stage of an open job ended
        coming: list[_Frame] = next(self.chunks, [])
        index, jobs, order, steps = 0, 0, self.order, 0
        next_ns, wake_ns = coming[0][0] if coming else NEVER_NS, NEVER_NS
        while live or pending or next_ns != NEVER_NS:
            now = pending[0][0] if pending else NEVER_NS
            now = next_ns if next_ns < now else now
            if wake_ns < now and live:
                now = wake_ns
            events: list[Event] = []
            while pending and pending[0][0] == now:
                event = heappop(pending)[3]
                events.append(event)
                if event[4] in live and event[0] == "done":
                    completed[event[4]] = now
                if careful:
                    self._after(event)
            while next_ns == now:
                frame = coming[index]
                live[jobs] = frame
                events.append(Event("release", frame[3], frame[1], frame[2]))
                jobs += 1
                index += 1
                if index == len(coming):
                    coming, index = next(self.chunks, []), 0
                    if self.progress is not None:
                        self.progress(jobs)
                next_ns = coming[index][0] if coming else NEVER_NS
            actions = step(now, events)
            steps += 1
            if wake_ns <= now:
                wake_ns = NEVER_NS
            for action in actions:
                kind, job, stage, resource, unit, depth, at_ns = action
                if kind == "start":
                    frame = live[job]
                    took = frame[5][stage]
                    event = Event("done", now + took, -1, -1, job, stage, resource, unit, worlds[frame[1]].seen[stage][frame[4]])
                    if careful:
                        self.started[resource, unit] = now
                        event = self._perhaps_fault(event, frame, now)
                        took = event.at_ns - now
                    order += 1
                    heappush(pending, (event[1], 0, order, event))
                    busy_ns[resource] += took
                elif kind == "wake":
                    wake_ns = at_ns
                else:
                    close(live.pop(job), job, depth if kind == "publish" else -1, now, completed.pop(job, -1))
            if log is not None:
                log.step(now, events, actions)
        self.steps = steps

    def table(self) -> NDArray[Any] | None:
        """The rows so far as one array in order of arrival."""
        if self.rows is None:
            return None
        self._flush()
        table = np.concatenate(self.tables)
        return table[np.argsort(table["job"], kind="stable")]

    def _close(self, frame: _Frame, job: int, depth: int, now: int, completed_ns: int) -> None:
        """Count a frame that was published, or missed (depth -1)."""
        arrival_ns, stream, number, release_ns, item, _ = frame
        world = self.worlds[stream]
        if depth >= 0:
            worth, right = world.worth[depth][item], world.right[depth][item]
            world.answered[depth] += 1
            world.utility += worth
            if right > 0:
                world.correct += 1
        else:
            worth, right, completed_ns = 0.0, world.right_of_missed, -1
            world.missed += 1
        if depth >= 0 and number == world.turn and not world.run and not world.ahead:
            world.turn = number + 1
        else:
            world.in_turn(number, depth < 0)
        if self.rows is None:
            if depth >= 0:
                late_ns = now - release_ns
                shift = late_ns.bit_length() - BUCKETS - 1
                bucket = (shift << BUCKETS) + (late_ns >> shift) if shift > 0 else late_ns
                self.latency[bucket] = self.latency.get(bucket, 0) + 1
            return
        self.rows.append((stream, number, item, job, release_ns, arrival_ns, release_ns + world.deadline_ns, completed_ns,
                          now if depth >= 0 else -1, depth, ANSWERED if depth >= 0 else MISSED,
                          world.confidence[depth][item] if depth >= 0 else 0.0, worth, right))
        if len(self.rows) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.tables.append(np.array(self.rows, dtype=FRAME_DTYPE))
            self.rows.clear()

    # Faults and the log -----------------------------------------------------------------------------------------------

    def _push(self, rank: int, event: Event) -> None:
        self.order += 1
        heappush(self.pending, (event.at_ns, rank, self.order, event))

    def _perhaps_fault(self, event: Event, frame: _Frame, now: int) -> Event:
        """The end of a stage that starts now: as drawn, or as the faults want it."""
        planned = self.stage_faults.get((frame[1], frame[2], event.stage))
        if not planned:
            return event
        fault = planned.pop(0)
        if fault.kind == "abandoned":
            self.given_up[event.resource, event.unit] = fault.back_ns
        return event._replace(kind=fault.kind, at_ns=now + fault.after_ns if fault.after_ns else event.at_ns, value=0.0)

    def _after(self, event: Event) -> None:
        """What else follows from an event: a lost unit ends its stage, an abandoned one comes back, the log gets its row."""
        unit = (event.resource, event.unit)
        if event.kind == "lost":
            for i, (_, _, _, other) in enumerate(self.pending):
                if other.kind in ("done", "failed", "abandoned") and (other.resource, other.unit) == unit:
                    del self.pending[i]
                    heapify(self.pending)
                    self.busy_ns[event.resource] -= other.at_ns - event.at_ns
                    self._log_stage(other._replace(kind="failed", at_ns=event.at_ns, value=0.0))
                    break
        elif event.kind != "back":
            self._log_stage(event)
        if event.kind == "abandoned" and self.given_up[unit]:
            self._push(1, Event("back", event.at_ns + self.given_up[unit], resource=unit[0], unit=unit[1]))

    def _log_stage(self, event: Event) -> None:
        start_ns = self.started.pop((event.resource, event.unit))
        if self.log is None:
            return
        status = "late" if event.kind == "done" and event.job not in self.live else event.kind
        name = self.engine.jobs[event.job].stream.stages[event.stage].name
        self.log.stage(StageRow(event.job, name, event.resource, event.unit, start_ns, event.at_ns, status, event.value))


class _Tables:
    """A workload's outcomes as plain lists, indexed `[stage or depth][item]`; without outcomes one item, -1."""

    def __init__(self, source: Source):
        stream, outcomes = source.stream, source.work.outcomes
        depths = range(stream.deepest + 1)
        confidence = np.zeros((1, len(depths))) if outcomes is None else outcomes.confidence
        correct = np.full((1, len(depths)), -1) if outcomes is None else outcomes.correct.astype(int)
        curves = stream.reward.correct
        self.worth = [(np.interp(confidence[:, d], curves[d].x, curves[d].y) if d < len(curves)
                       else np.full(len(confidence), stream.reward.utility(d, 0.0))).tolist() for d in depths]
        self.right = correct.T.tolist()
        self.confidence = confidence.T.tolist()
        self.seen = [self.confidence[max(0, i + 1 - stream.mandatory)] for i in range(len(stream.stages))]  # after each stage


class _World:
    """One stream's outcomes and counters."""

    __slots__ = ("ahead", "answered", "confidence", "correct", "deadline_ns", "longest", "missed", "right", "right_of_missed", "run",
                 "seen", "turn", "utility", "worth")

    def __init__(self, source: Source, tables: _Tables):
        self.deadline_ns = source.stream.deadline_ns
        self.confidence, self.worth, self.right, self.seen = tables.confidence, tables.worth, tables.right, tables.seen
        self.right_of_missed = -1 if source.work.outcomes is None else 0
        self.answered = [0] * (source.stream.deepest + 1)
        self.missed = self.correct = 0
        self.utility = 0.0
        self.turn = self.run = self.longest = 0  # the next frame in order, and the misses in a row before it
        self.ahead: dict[int, bool] = {}  # later frames that closed before it

    def in_turn(self, frame: int, missed: bool) -> None:
        """Count misses in a row, in the order of frames, whatever the order they close in."""
        self.ahead[frame] = missed
        while self.turn in self.ahead:
            self.run = self.run + 1 if self.ahead.pop(self.turn) else 0
            self.longest = max(self.longest, self.run)
            self.turn += 1

    def totals(self, stream: Stream) -> StreamTotals:
        """The counters."""
        return StreamTotals(stream.name, stream.weight, self.answered, self.missed, self.utility, self.correct,
                            self.right_of_missed == 0, self.longest)


def arrivals(sources: Sequence[Source], seed: int, frames: int) -> Iterator[list[_Frame]]:
    """The first `frames` frames of all streams in order of (time seen, stream, frame), with their draws, in lists."""
    rate = sum(1 / source.arrivals.period_ns for source in sources)
    feeds = [_Feed(i, source, seed, max(1, int(CHUNK / rate / source.arrivals.period_ns))) for i, source in enumerate(sources)]
    left = frames
    while left:
        for feed in feeds:
            feed.fill()
        ends = [int(feed.seen[-1]) for feed in feeds if not feed.ended]
        until = min(ends) if ends else NEVER_NS
        counts = [int(np.searchsorted(feed.seen, until)) for feed in feeds]
        if not any(counts):
            if not ends:
                return
            for feed in feeds:
                feed.batch *= 2
            continue
        columns = [feed.take(count) for feed, count in zip(feeds, counts) if count]
        seen, stream, frame, captured, item = (np.concatenate(parts) for parts in zip(*(c[:5] for c in columns)))
        took = np.concatenate([c[5] for c in columns])
        order = np.lexsort((frame, stream, seen))[:left]
        left -= len(order)
        yield list(zip(*(column[order].tolist() for column in (seen, stream, frame, captured, item, took))))


class _Feed:
    """One stream's coming frames: seen but not yet taken ones, in arrays."""

    def __init__(self, index: int, source: Source, seed: int, batch: int):
        self.index, self.source, self.seed, self.batch = index, source, seed, batch
        self.cursor = source.arrivals.start(seed, source.stream.name)
        self.captured = self.seen = np.zeros(0, dtype=np.int64)
        self.first = 0  # frame number of captured[0]
        self.ended = False
        self.keys = [key_of(seed, source.stream.name, stage.name) for stage in source.stream.stages]

    def fill(self) -> None:
        """Have at least a batch ready, unless the stream ends."""
        if len(self.seen) < self.batch and not self.ended:
            ready = self.first + len(self.seen) + self.batch
            if ready * self.source.arrivals.period_ns >= NEVER_NS >> 2:
                raise ValueError(f"stream {self.source.stream.name!r}: {ready} frames go beyond what nanoseconds can count")
            captured, seen = self.cursor.take(self.batch)
            self.ended = len(captured) < self.batch
            self.captured, self.seen = np.concatenate((self.captured, captured)), np.concatenate((self.seen, seen))

    def take(self, count: int) -> tuple[NDArray[Any], ...]:
        """Time seen, stream, frame, capture time, item: int64 `[count]`; durations int64 `[count, stages]`, padded in objects."""
        first, source = self.first, self.source
        seen, captured = self.seen[:count], self.captured[:count]
        self.seen, self.captured, self.first = self.seen[count:], self.captured[count:], first + count
        outcomes = source.work.outcomes
        item = draw_items(self.seed, source.stream.name, first, count, 0 if outcomes is None else len(outcomes.confidence))
        frame = np.arange(first, first + count)
        took = np.empty(count, dtype=object)
        took[:] = list(map(list, zip(*(model.draw(first, uniforms(key, first, count)).tolist()
                                       for model, key in zip(source.work.durations, self.keys)))))
        return seen, np.full(count, self.index), frame, captured, item, took

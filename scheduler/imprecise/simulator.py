"""The simulator: the engine that runs live, stepped in virtual time.

It adds nothing to the schedule: `Engine.step` decides, this file only delivers what happens. All events of one instant go into
one step (stages that end, then injected faults, then arrivals), so a stage that ends when a frame arrives is seen with it.
Arrivals, durations and pictures are draws indexed by (seed, stream, frame, stage) (`draws.py`): every policy sees the same world.

    result = simulate(scenario.load("two-cameras", resolve), "default", seed=1, frames=10_000)
    print(result.summary())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conditions import Machine, ResourceFault, StageFault
from .draws import draw_items
from .engine import Engine
from .model import NEVER_NS, Event, new_event
from .policies import make
from .policies.base import Policy
from .scenario import Scenario
from .simulation import ANSWERED, BUCKETS, DROPPED, FRAME_DTYPE, MISSED, Log, Simulation, StageRow
from .watchdog import SIMULATION_LIMIT_NS, guard
from .worlds import CHUNK, Frame, Tables, World, arrivals

__all__ = ["ResourceFault", "StageFault", "simulate"]


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
    settings = {"blocking_ns": scenario.blocking_ns, "preemptive": scenario.preemptive, "priorities": scenario.priorities(),
                **(options or {})}
    engine = Engine(scenario.streams, scenario.resources, guard(policy, SIMULATION_LIMIT_NS), scenario.guard_ns, **settings)
    run = _Run(scenario, engine, seed, frames, rows, log, progress, bool(settings["preemptive"]))
    run.inject([*scenario.conditions.resource_faults, *faults])
    if policy.needs_oracle:
        policy.oracle = run.truth
    run.loop()
    totals = [world.totals(stream) for world, stream in zip(run.worlds, scenario.streams)]
    return Simulation(scenario.name, spec, seed, totals, run.table(), engine.now_ns, run.steps, engine.discarded,
                      engine.policy_fault, run.busy_ns, run.overruns, run.latency)


class _Run:
    """One simulation's state."""

    def __init__(self, scenario: Scenario, engine: Engine, seed: int, frames: int, rows: bool, log: Log | None,
                 progress: Callable[[int], None] | None, preemptive: bool):
        self.preemptive = preemptive
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
        self.seed = seed
        self.fates: dict[tuple[str, int], tuple[str, int]] = {}  # what goes wrong with a unit's latest stage, how long it is gone
        self.started: dict[tuple[str, int], tuple[int, str]] = {}  # start of what runs on a unit, and its name; for faults and the log
        self.remaining: dict[tuple[int, int], tuple[int, str, int]] = {}  # (job, stage) preempted: what is left, and its fate
        self.machine = Machine(scenario.conditions, scenario.resources, seed)
        self.overruns: dict[str, int] = {}
        self.live: dict[int, Frame] = {}  # open jobs
        tables: dict[tuple[int, ...], Tables] = {}  # copies of a stream share theirs
        self.worlds: list[World] = []
        for source in scenario.sources:
            key = (id(source.work), id(source.stream.reward), id(source.stream.stages))
            if key not in tables:
                tables[key] = Tables(source)
            self.worlds.append(World(source, tables[key]))

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
            if fault.kind not in ("failed", "abandoned", "hung") or fault.stage not in stages:
                raise ValueError(f"no such fault: {fault}")
            self.stage_faults.setdefault((index, fault.frame, stages.index(fault.stage)), []).extend([fault] * fault.times)

    def loop(self) -> None:
        """Step the engine from instant to instant until every frame is closed and every stage has ended."""
        engine, pending, busy_ns, log, worlds, live = self.engine, self.pending, self.busy_ns, self.log, self.worlds, self.live
        careful = bool(self.stage_faults or pending or log is not None or self.preemptive) or not self.scenario.conditions.ideal
        careful = careful or any(stream.kind == "sieve" for stream in self.scenario.streams)
        completed: dict[int, int] = {}  # when the latest stage of an open job ended
        coming: list[Frame] = next(self.chunks, [])
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
                if frame[5]:
                    live[jobs] = frame
                    events.append(new_event("release", frame[3], frame[1], frame[2]))
                    jobs += 1
                else:
                    self._drop(frame)
                index += 1
                if index == len(coming):
                    coming, index = next(self.chunks, []), 0
                    if self.progress is not None:
                        self.progress(jobs)
                next_ns = coming[index][0] if coming else NEVER_NS
            actions = engine.step(now, events)
            steps += 1
            if wake_ns <= now:
                wake_ns = NEVER_NS
            for action in actions:
                kind, job, stage, resource, unit, depth, at_ns = action
                if kind == "start":
                    frame = live[job]
                    took = frame[5][stage]
                    event = new_event("done", now + took, -1, -1, job, stage, resource, unit, worlds[frame[1]].seen[stage][frame[4]])
                    if careful:
                        event = self._begin(event, frame, now)
                        took = event.at_ns - now
                    order += 1
                    heappush(pending, (event[1], 0, order, event))
                    busy_ns[resource] += took
                elif kind == "wake":
                    wake_ns = at_ns
                elif kind == "preempt":
                    self._preempt(job, stage, resource, unit, now)
                else:
                    self._close(live.pop(job), job, depth if kind == "publish" else -1, now, completed.pop(job, -1))
            if log is not None:
                log.step(now, events, actions)
        self.steps = steps

    def table(self) -> NDArray[Any] | None:
        """The rows so far as one array in order of arrival."""
        if self.rows is None:
            return None
        self._flush()
        table = np.concatenate(self.tables) if self.tables else np.zeros(0, dtype=FRAME_DTYPE)
        return table[np.lexsort((table["frame"], table["stream"], table["arrival_ns"]))]

    def truth(self, stream: int, frame: int) -> list[float]:
        """What an answer of each depth to a frame is worth: for policies that study what knowing it would be worth (`oracle`)."""
        source, world = self.scenario.sources[stream], self.worlds[stream]
        outcomes = source.work.outcomes
        item = int(draw_items(self.seed, source.stream.name, frame, 1, 0 if outcomes is None else len(outcomes.confidence))[0])
        return [worth[item] for worth in world.worth]

    def _drop(self, frame: Frame) -> None:
        """Count a frame that was captured and never seen."""
        arrival_ns, stream, number, release_ns, item, _ = frame
        world = self.worlds[stream]
        world.dropped += 1
        world.in_turn(number, None)
        if self.rows is not None:
            due_ns = release_ns + world.deadline_ns
            self.rows.append((stream, number, item, -1, release_ns, arrival_ns, due_ns, -1, -1, -1, DROPPED, 0.0, 0.0, -1))

    def _close(self, frame: Frame, job: int, depth: int, now: int, completed_ns: int) -> None:
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

    # Conditions, faults and the log -----------------------------------------------------------------------------------

    def _push(self, rank: int, event: Event) -> None:
        self.order += 1
        heappush(self.pending, (event.at_ns, rank, self.order, event))

    def _begin(self, event: Event, frame: Frame, now: int) -> Event:
        """The end of a stage that starts now: as drawn, or as the machine, the dice and the faults want it."""
        source, job = self.scenario.sources[frame[1]], self.engine.jobs[event.job]
        stage, unit, machine, rules = job.next_stage, (event.resource, event.unit), self.machine, self.scenario.conditions
        self.started[unit] = (now, stage.name)
        left = self.remaining.pop((event.job, event.stage), None)
        took = machine.takes_ns(stage, frame[5][event.stage], now) if left is None else left[0]
        machine.change(event.resource, 1, now)
        if job.stream.kind == "sieve" and not stage.mandatory:
            mask = job.depth | 1 << (event.stage - job.stream.mandatory)
            event = event._replace(value=self.worlds[frame[1]].confidence[mask][frame[4]])
        planned = self.stage_faults.get((frame[1], frame[2], event.stage))
        kind, back_ns = machine.fault(source.stream.name, frame[2], stage.name), rules.restart_ns
        if left is not None:  # it goes on to the end that it was to have
            _, kind, back_ns = left
        elif planned:
            fault = planned.pop(0)
            kind, took, back_ns = fault.kind, fault.after_ns or took, fault.back_ns if fault.kind == "abandoned" else back_ns
        if unit[1] == 0:
            took += sum(self._left_ns(other, now) for other, victim in rules.takes_core.items() if victim == event.resource)
        if stage.mandatory and stage.wcet_ns and took > stage.wcet_ns + rules.overhead_ns and left is None:
            self.overruns[stage.name] = self.overruns.get(stage.name, 0) + 1
        limit_ns = job.publish_ns + (rules.give_up_ns or 10**9)
        if kind != "abandoned" and rules.give_up_ns and now + took > limit_ns:
            kind = "hung"
        self.fates[unit] = kind, back_ns
        if kind == "hung":
            kind, took = "abandoned", max(1, limit_ns - now)
        if event.resource in rules.takes_core:
            self._pause(rules.takes_core[event.resource], took)
        return event._replace(kind=kind, at_ns=now + took, value=0.0) if kind else event._replace(at_ns=now + took)

    def _left_ns(self, resource: str, now: int) -> int:
        """How long the units of a resource still work."""
        ends = (entry[3] for entry in self.pending if entry[1] == 0 and entry[3].resource == resource)
        return max((event.at_ns - now for event in ends), default=0)

    def _pause(self, resource: str, took: int) -> None:
        """What runs on unit 0 of a resource ends so much later."""
        for i, (at_ns, rank, order, event) in enumerate(self.pending):
            if rank == 0 and (event.resource, event.unit) == (resource, 0):
                self.pending[i] = (at_ns + took, rank, order, event._replace(at_ns=at_ns + took))
                self.busy_ns[resource] += took
                heapify(self.pending)
                return

    def _interrupt(self, unit: tuple[str, int], now: int) -> Event | None:
        """Take the end of what runs on a unit back."""
        for i, (_, rank, _, event) in enumerate(self.pending):
            if rank == 0 and (event.resource, event.unit) == unit:
                del self.pending[i]
                heapify(self.pending)
                self.busy_ns[unit[0]] -= event.at_ns - now
                return event
        return None

    def _preempt(self, job: int, stage: int, resource: str, unit: int, now: int) -> None:
        """A stage is interrupted: what is left of it waits."""
        event = self._interrupt((resource, unit), now)
        if event is not None:
            self.remaining[job, stage] = (event.at_ns - now, *self.fates[resource, unit])
            self._log_stage(event._replace(kind="preempted", at_ns=now, value=0.0))

    def _after(self, event: Event) -> None:
        """What else follows from an event: a lost unit ends its stage, an abandoned one comes back, the log gets its row."""
        unit = (event.resource, event.unit)
        if event.kind == "lost":
            other = self._interrupt(unit, event.at_ns)
            if other is not None:
                self._log_stage(other._replace(kind="failed", at_ns=event.at_ns, value=0.0))
        elif event.kind != "back":
            self._log_stage(event)
        if event.kind == "abandoned" and self.fates[unit][1]:
            self._push(1, Event("back", event.at_ns + self.fates[unit][1], resource=unit[0], unit=unit[1]))

    def _log_stage(self, event: Event) -> None:
        start_ns, name = self.started.pop((event.resource, event.unit))
        self.machine.change(event.resource, -1, event.at_ns)
        if self.log is None:
            return
        status = "late" if event.kind == "done" and event.job not in self.live else event.kind
        self.log.stage(StageRow(event.job, name, event.resource, event.unit, start_ns, event.at_ns, status, event.value))

"""A tiny driver of the engine for tests: virtual time, late wake-ups, faults, and every rule of the engine checked on the way."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imprecise.engine import ATTEMPTS, Engine
from imprecise.model import Action, Event, Job, Stage

Release = tuple[int, int, int, int]  # (when it is released, when it arrives, stream, frame)


@dataclass
class Run:
    """What happened: `steps` [(now, events, actions)], `closed` {job: (kind, depth, when)}, `jobs` seen open by identity,
    `done` {job: when its mandatory part was seen done}, `faults` how many stages failed or units were lost."""

    steps: list[tuple[int, list[Event], list[Action]]] = field(default_factory=list)
    closed: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    faults: int = 0

    @property
    def missed(self) -> list[int]:
        """Jobs without an answer in time."""
        return [job for job, (kind, _, _) in self.closed.items() if kind == "miss"]


def drive(engine: Engine, releases: Sequence[Release], duration: Callable[[Job, Stage], int],
          late: Callable[[], int] = lambda: 0, inline: Sequence[str] = (), fault: Callable[[Job, Stage], str] = lambda j, s: "",
          extra: Sequence[tuple[int, Event]] = (), one_core: bool = False) -> Run:
    """Run to the end of all releases and stages, and assert the engine's rules at each step.

    `late()`: how long after an event or a timer the engine is stepped. Stages of `inline` resources keep the driver itself
    busy. `fault(job, stage)`: "", "failed" or "abandoned" (its unit comes back later). `extra`: more (when, event).
    `one_core`: all stages share a core that finishes what it began, and the driver needs it too.
    """
    run = Run()
    heap: list[tuple[int, int, Event | None]] = []
    order = 0

    def push(at: int, event: Event | None) -> None:
        nonlocal order
        order += 1
        heapq.heappush(heap, (at, order, event))

    for released, arrives, stream, frame in releases:
        push(arrives, Event("release", released, stream=stream, frame=frame))
    for at, event in extra:
        push(at, event)
    running: dict[tuple[str, int], tuple[int, int]] = {}
    free_at = awake_at = 0  # when the driver's core is free, and when a stage in line ends (then it is awake)
    now = 0
    while heap:
        first = heap[0][0]
        now = max(now, free_at) if first <= awake_at == free_at else max(now, max(free_at, first) + late())
        events = []
        while heap and heap[0][0] <= now:
            event = heapq.heappop(heap)[2]
            if event is not None:
                events.append(event)
        actions = engine.step(now, events)
        run.steps.append((now, events, actions))
        for event in events:
            if event.kind in ("done", "failed", "abandoned"):
                if running.get((event.resource, event.unit)) == (event.job, event.stage):
                    del running[event.resource, event.unit]
                    job = run.jobs[event.job]
                    if event.kind == "done" and event.stage == job.needed - 1:
                        run.done[event.job] = now
            elif event.kind == "lost":
                running.pop((event.resource, event.unit), None)
        for id_, job in engine.jobs.items():
            run.jobs.setdefault(id_, job)
        for action in actions:
            if action.kind == "wake":
                assert action.at_ns > now, "a wake-up in the past"
                push(action.at_ns, None)
            elif action.kind == "start":
                job = run.jobs[action.job]
                unit = action.resource, action.unit
                stage = job.stream.stages[action.stage]
                assert unit not in running, f"two stages on {unit}"
                assert 0 <= action.unit < engine.units[action.resource] and stage.resource == action.resource
                assert action.stage == job.done, "a stage before its predecessor"
                assert all(running_job != job.id for running_job, _ in running.values()), "two stages of a job at once"
                assert not job.closed and now >= job.release_ns, "a start before the release or after the end"
                if action.stage >= job.needed:
                    _check_mandatory_first(engine, action.resource, job)
                running[unit] = (job.id, action.stage)
                took = max(0, duration(job, stage))
                end = (max(now, free_at) if one_core else now) + took
                if one_core or action.resource in inline:
                    free_at = end
                    awake_at = end if action.resource in inline else awake_at
                kind = fault(job, stage) or "done"
                run.faults += kind != "done"
                push(end, Event(kind, end, job=job.id, stage=action.stage, resource=action.resource, unit=action.unit, value=0.5))
                if kind == "abandoned":
                    push(end + 3, Event("back", end + 3, resource=action.resource, unit=action.unit))
            else:
                assert action.job not in run.closed, "closed twice"
                run.closed[action.job] = (action.kind, action.depth, now)
                job = run.jobs.get(action.job)
                if action.kind == "publish" and job is not None:
                    assert now <= job.deadline_ns and action.depth >= 0 and action.job in run.done
    return run


def _check_mandatory_first(engine: Engine, resource: str, job: Job) -> None:
    waiting = [other for other in engine.jobs.values()
               if not other.closed and not other.running and other.done < other.needed
               and other.next_stage.resource == resource and engine._attempts.get(other.id, 1) <= ATTEMPTS]
    assert not waiting, f"optional stage of job {job.id} before the mandatory stage of job {waiting[0].id}"


def replayed(make: Callable[[], Engine], run: Run) -> list[list[Action]]:
    """The actions of a fresh engine that is fed the recorded events."""
    engine = make()
    return [engine.step(now, events) for now, events, _ in run.steps]

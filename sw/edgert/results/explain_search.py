"""What would have sufficed: a recorded world run again, in virtual time, with another deadline, rate or number of units."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from imprecise.engine import Engine
from imprecise.model import NEVER_NS, Action, Event, Stream

from ..executive import reproduce
from .explain_watch import State
from .explain_world import Release, World, depth_after
from .view import View

SLOWEST, LONGEST, MOST = 32, 32, 64  # what is tried: periods and deadlines so many times as long, so many units more
SHARES = 1000  # periods are changed in steps of 1/SHARES


@dataclass(frozen=True)
class Change:
    """What is different: `deadline_ns` of the explained stream (0: nothing), all periods times `slower` / SHARES, units of resources."""

    deadline_ns: int = 0
    slower: int = SHARES
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How the frame ended. `kind` "publish", "miss" or "" (never closed); `beyond`: only after frames would have come that the record does
    not have; `drawn` and `guessed`: how many durations and confidences the record did not know, `own` those of the frame itself, ns
    by stage index."""

    kind: str
    depth: int
    late_ns: int
    beyond: bool
    drawn: int
    guessed: int
    own: Mapping[int, int]


Span = tuple[int, int]


class Rerun:
    """The world of a record, ready to be run from a `state` on (None: from the start) until the target is closed."""

    def __init__(self, world: World, description: Mapping[str, Any], state: State | None, stalls: Sequence[Span] = ()):
        self.world, self.description, self.state = world, description, state
        self.first = 0 if state is None else state.next_job
        self.begin_ns = min(r.seen_ns for r in world.releases) if state is None else state.now_ns
        self.stalls = _merged(stalls)
        f = world.view.frames
        self.last_ns = {i: int(f["release_ns"][f["stream"] == i].max()) for i in set(f["stream"].tolist())}

    def engine(self, change: Change) -> Engine:
        """The engine with the change, in the state to begin with; frames that are in it already keep their deadline."""
        given = dict(self.description)
        mine = self.world.releases[self.world.target].stream
        streams = [dict(entry) for entry in given["streams"]]
        for entry in streams:
            entry["period_ns"] = entry["period_ns"] * change.slower // SHARES
        if change.deadline_ns:
            more_ns = change.deadline_ns - streams[mine]["deadline_ns"]
            streams[mine]["deadline_ns"] = change.deadline_ns
            given["local_ns"] = [[i, k, ns + more_ns if i == mine else ns] for i, k, ns in given["local_ns"]]
        given["streams"], given["resources"] = streams, {**given["resources"], **change.units}
        changed = reproduce.build(given)
        return changed if self.state is None else _in_state(changed, self.state.engine)

    def run(self, change: Change) -> Outcome:
        """Until the target is closed."""
        return _Run(self, change).loop()


def _in_state(changed: Engine, state: Engine) -> Engine:
    """A copy of an engine in its state that from now on does as a fresh one would: streams, their local deadlines, and units."""
    engine = copy.deepcopy(state, {id(stream): stream for stream in state.streams})
    engine.streams, engine._local_ns = changed.streams, changed._local_ns
    for name, count in changed.units.items():
        engine.resources.free[name] += range(engine.units[name], count)
    engine.units = changed.units
    return engine


class _Run:
    """One re-run's state. Jobs have the engine's numbers; `jobs` maps them to those of the record."""

    def __init__(self, rerun: Rerun, change: Change):
        self.world, self.engine, self.begin_ns = rerun.world, rerun.engine(change), rerun.begin_ns
        self.slower = change.slower
        coming = [(self._moved(r), job) for job, r in enumerate(self.world.releases) if job >= rerun.first]
        self.coming = sorted(coming, key=lambda pair: (pair[0].seen_ns, pair[1]))
        target = self.world.releases[self.world.target]
        self.release_ns = self._moved(target).release_ns
        moved_ns = self.release_ns - target.release_ns  # stalls and faults keep their place beside the explained frame
        self.stalls = [(start + moved_ns, end + moved_ns) for start, end in rerun.stalls]
        self.starts = [start for start, _ in self.stalls]
        self.end_ns = min((self._later(rerun.last_ns[i] + stream.period_ns) for i, stream in enumerate(self.world.streams)
                           if stream.period_ns and i in rerun.last_ns), default=NEVER_NS)  # then a frame comes that nobody knows
        begin_ns = self.coming[0][0].seen_ns if rerun.state is None else rerun.begin_ns
        self.faults = [(max(begin_ns, at_ns + moved_ns), event) for at_ns, event in self.world.faults
                       if rerun.state is None or at_ns >= rerun.begin_ns]
        self.jobs = list(range(rerun.first))
        self.heap: list[tuple[int, int, Event]] = []
        self.order = 0
        self.running: dict[tuple[str, int], int] = {}  # unit -> order of the event that ends what runs there
        self.ends: dict[int, int] = {}  # when
        self.backs: dict[int, int] = {}  # how long after it the unit comes back
        self.left: dict[tuple[int, int], int] = {}  # of preempted stages
        self.attempts: dict[tuple[int, int], int] = {}
        self.unknown: set[tuple[int, int]] = set()
        self.guesses: set[tuple[int, int]] = set()
        self.own: dict[int, int] = {}
        self.depths: dict[int, int] = {}  # of the answers so far
        self.wake_ns = NEVER_NS
        if rerun.state is not None:
            self._go_on(rerun.state)

    def _moved(self, release: Release) -> Release:
        """A release where all periods are longer from the beginning on; all are seen as late as they were."""
        at_ns = self._later(release.release_ns)
        return release._replace(release_ns=at_ns, seen_ns=max(self.begin_ns, at_ns + release.seen_ns - release.release_ns))

    def _later(self, at_ns: int) -> int:
        return self.begin_ns + (at_ns - self.begin_ns) * self.slower // SHARES

    def _go_on(self, state: State) -> None:
        """What runs, waits or is gone when it begins."""
        self.wake_ns = state.wake_ns
        for job in self.engine.jobs.values():
            self.depths[job.id] = job.depth if job.depth >= 0 else depth_after(job.stream, -1, job.done - 1) if job.done else -1
            key = (job.id, job.next)
            self.attempts[key] = sum(spell.end_ns < state.now_ns for spell in self.world.spells.get(key, ()))
            if job.spent_ns:
                self.left[key] = max(0, self.world.spell(*key, self.attempts[key]).took_ns - job.spent_ns)
        for unit, (number, stage, since_ns) in state.running.items():
            self._start(Action("start", number, stage, *unit), since_ns)
        for gone_ns, back_ns, (resource, place) in self.world.absences:
            if gone_ns < state.now_ns <= back_ns:
                self._push(back_ns, Event("back", 0, resource=resource, unit=place))

    def _awake(self, now_ns: int) -> int:
        """The same, or the end of a stall of the machine."""
        i = bisect_right(self.starts, now_ns) - 1
        return self.stalls[i][1] if i >= 0 and now_ns < self.stalls[i][1] else now_ns

    def loop(self) -> Outcome:
        """Step the engine from instant to instant, as the simulator does: stages that end, then faults, then arrivals."""
        index = fault = 0
        wake_ns = self.wake_ns
        while True:
            next_ns = self.coming[index][0].seen_ns if index < len(self.coming) else NEVER_NS
            fault_ns = self.faults[fault][0] if fault < len(self.faults) and (self.heap or index < len(self.coming)) else NEVER_NS
            now = min(self.heap[0][0] if self.heap else NEVER_NS, next_ns, fault_ns, wake_ns)
            if now == NEVER_NS:
                return self._outcome("", -1, 0, now)
            now = self._awake(now)
            events = self._ended(now)
            while fault < len(self.faults) and self.faults[fault][0] <= now:
                events.append(self._fault(self.faults[fault][1], now))
                fault += 1
            while index < len(self.coming) and self.coming[index][0].seen_ns <= now:
                release, job = self.coming[index]
                events.append(Event("release", release.release_ns, release.stream, release.frame))
                self.jobs.append(job)
                index += 1
            actions = self.engine.step(now, events)
            if wake_ns <= now:
                wake_ns = NEVER_NS
            for action in actions:
                if action.kind == "wake":
                    wake_ns = action.at_ns
                elif action.kind == "start":
                    self._start(action, now)
                elif action.kind == "preempt":
                    self._preempt(action, now)
                elif self.jobs[action.job] == self.world.target:
                    return self._outcome(action.kind, action.depth, now - self.release_ns, now)

    def _outcome(self, kind: str, depth: int, late_ns: int, now: int) -> Outcome:
        reached = depth if kind == "publish" else -1
        return Outcome(kind, reached, late_ns, now > self.end_ns, len(self.unknown), len(self.guesses), dict(self.own))

    def _ended(self, now: int) -> list[Event]:
        events = []
        while self.heap and self.heap[0][0] <= now:
            at_ns, order, event = heappop(self.heap)
            unit = (event.resource, event.unit)
            if event.kind == "back":
                events.append(event._replace(at_ns=now))
            elif self.running.get(unit) == order:  # else its unit was lost, or it was preempted
                del self.running[unit]
                events.append(event)
                if order in self.backs:
                    self._push(at_ns + self.backs[order], Event("back", 0, resource=unit[0], unit=unit[1]))
                if event.kind == "done":
                    self.depths[event.job] = self._depth(event.job, event.stage)
        return events

    def _fault(self, event: Event, now: int) -> Event:
        if event.kind == "lost":
            self.running.pop((event.resource, event.unit), None)
        return event._replace(at_ns=now, job=-1, stage=-1)

    def _push(self, at_ns: int, event: Event) -> None:
        self.order += 1
        heappush(self.heap, (at_ns, self.order, event))

    def _start(self, action: Action, now: int) -> None:
        job, unit = self.jobs[action.job], (action.resource, action.unit)
        key = (job, action.stage)
        attempt = self.attempts.get(key, 0)
        spell = self.world.spell(*key, attempt)
        if key in self.world.drawn:
            self.unknown.add(key)
            if job == self.world.target:
                self.own[action.stage] = spell.took_ns
        end_ns = max(self.begin_ns, now + self.left.pop(key, max(0, spell.took_ns)))
        value = self._value(action, job) if spell.kind == "done" else 0.0
        event = Event(spell.kind, max(now, end_ns + spell.lag_ns), -1, -1, action.job, action.stage, *unit, value)
        self._push(end_ns, event)
        self.running[unit], self.ends[self.order] = self.order, end_ns
        self.attempts[key] = attempt + 1
        if spell.kind == "abandoned" and spell.back_ns >= 0:
            self.backs[self.order] = spell.back_ns

    def _depth(self, number: int, stage: int) -> int:
        """The depth of a job's answer with a stage, also where a policy does not split."""
        return depth_after(self.engine.jobs[number].stream, self.depths.get(number, -1), stage)

    def _value(self, action: Action, job: int) -> float:
        """The confidence of the answer with a stage."""
        depth = self._depth(action.job, action.stage)
        value = self.world.confidence(job, self.depths.get(action.job, -1), depth)
        if (job, depth) in self.world.guessed:
            self.guesses.add((job, depth))
        return value

    def _preempt(self, action: Action, now: int) -> None:
        order = self.running.pop((action.resource, action.unit))
        key = (self.jobs[action.job], action.stage)
        self.left[key] = self.ends.pop(order) - now
        self.attempts[key] -= 1


# The search -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a search gave. `least`: the smallest step that suffices of those tried; `below`, the largest tried step below it, does not, and
    both were run. None: none of the `tried` steps up to `below` suffices; `unknown`: of those above nothing can be said."""

    least: int | None
    below: int
    tried: int
    unknown: bool = False


def smallest(suffices: Callable[[int], bool | None], most: int) -> Found:
    """Steps 1, 2, 4, ... up to `most`, then the gap below the first that suffices is halved; 0 is known not to. None: nobody knows.

    Where the answer is monotone that is the smallest; else one that suffices while the step below does not.
    """
    below, step, tried = 0, 1, 0
    while True:
        step = min(step, most)
        tried += 1
        known = suffices(step)
        if known or known is None:
            break
        if step == most:
            return Found(None, step, tried)
        below, step = step, 2 * step
    while step - below > 1:
        middle = (step + below) // 2
        tried += 1
        answer = suffices(middle)
        if answer or answer is None:
            step, known = middle, answer
        else:
            below = middle
    return Found(step, below, tried) if known else Found(None, below, tried, True)


def rank(stream: Stream, depth: int) -> int:
    """How good a depth is: -1 without an answer; a sieve's steps done, else the depth."""
    return -1 if depth < 0 else bin(depth).count("1") if stream.kind == "sieve" else depth


def tick_ns(deadline_ns: int) -> int:
    """The step of deadlines that are tried: a tenth of a millisecond, less for deadlines below 10 ms, never more than 1 %."""
    return int(min(100_000, 10 ** max(0, len(str(deadline_ns)) - 3)))


def stalls_of(view: View) -> list[Span]:
    """When the machine, or the dispatcher, stood still."""
    return [(start, end) for start, end, _ in view.stalls if end > start]


def _merged(spans: Sequence[Span]) -> list[Span]:
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out

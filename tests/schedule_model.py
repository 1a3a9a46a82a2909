"""What `schedule_check` keeps of a simulation: frames and their stages, windows of durations, what a policy said."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from imprecise.model import Stage, Stream
from imprecise.policies.base import Policy
from imprecise.scenario import Scenario

ATTEMPTS = 3  # of a mandatory stage
WINDOW = 64


class Asked(NamedTuple):
    """One call of a policy: when, after how many actions of that step, about which jobs, and what it said (`bad`: what it may not).

    `about`: {job: the stage that it would run next}. `said`: truth for questions, (job, stage) or None for a pick.
    """

    kind: str
    now: int
    after: int
    about: dict[int, int]
    said: Any
    bad: bool
    resource: str = ""


def watch(policy: Policy) -> list[Asked]:
    """Note every call of a policy in the list that is returned."""
    seen: list[Asked] = []

    def question(kind, ask):
        def asked(job, engine):
            after, said, bad = len(engine._actions), None, True
            try:
                said = ask(job, engine)
                bad = False
                return said
            finally:
                seen.append(Asked(kind, engine.now_ns, after, {job.id: job.next}, bool(said), bad))
        return asked

    def pick(ready, engine, ask=policy.pick):
        after, choice, found, bad = len(engine._actions), None, None, True
        about, place = {job.id: job.next for job in ready}, ready[0].next_stage.resource
        try:
            choice = ask(ready, engine)
            job, index = choice if type(choice) is tuple and len(choice) == 2 else (choice, getattr(choice, "next", None))
            bad = choice is not None and not (any(job is other for other in ready) and index in job.options)
            found = None if bad or choice is None else (job.id, index)
            return choice
        finally:
            seen.append(Asked("pick", engine.now_ns, after, about, found, bad, place))

    for kind in ("wants", "keeps", "closed"):
        setattr(policy, kind, question(kind, getattr(policy, kind)))
    policy.pick = pick
    return seen


class Window:
    """The last durations of a stage: its typical time stands in for those not yet seen."""

    def __init__(self, typical: int, quantile: float):
        self.last = deque([typical] * WINDOW, WINDOW)
        self.place = int(quantile * WINDOW)

    @property
    def high(self) -> int:
        """The quantile."""
        return sorted(self.last)[self.place]

    @property
    def median(self) -> int:
        """The middle one."""
        return sorted(self.last)[WINDOW // 2]

    @property
    def mean(self) -> float:
        """The mean."""
        return sum(self.last) / WINDOW

    def doubt(self) -> None:
        """The median stands in for the largest, as the latest one."""
        median = self.median
        self.last.remove(max(self.last))
        self.last.append(median)


@dataclass
class Frame:
    """A frame from its arrival on. `options`: optional stages that may come next; `fails`: of the stage at hand; `parts`: what the
    stage at hand has had before it was interrupted; `out`: no stage of it is started any more (given up, or not kept)."""

    id: int
    index: int
    stream: Stream
    number: int
    release: int
    required: list[int]
    guard: int
    done: int = 0
    next: int = 0
    depth: int = -1
    options: tuple[int, ...] = ()
    place: tuple[str, int] | None = None
    start: int = 0
    parts: list[int] = field(default_factory=list)
    fails: int = 0
    out: bool = False
    closed: bool = False
    completed: int = -1

    @property
    def due(self) -> int:
        return self.release + self.stream.deadline_ns

    @property
    def publish_at(self) -> int:
        return self.due - self.guard

    @property
    def answered(self) -> bool:
        return self.done >= len(self.required)

    @property
    def stage(self) -> Stage:
        return self.stream.stages[self.next]

    @property
    def waits(self) -> bool:
        """For a mandatory stage."""
        return not (self.closed or self.place or self.answered or self.out)

    def finish(self) -> None:
        """The stage at hand is done: what depth that gives, and what may come next."""
        first, kind, index = self.stream.mandatory, self.stream.kind, self.next
        self.done, self.fails, self.parts = self.done + 1, 0, []
        optional = range(first, len(self.stream.stages))
        if not self.answered:
            self.next = self.required[self.done]
        elif len(self.required) > first:  # not split: all or nothing
            self.depth = (1 << len(optional)) - 1 if kind == "sieve" else len(optional)
        elif self.done == len(self.required):
            self.depth = 0
            self.offer(tuple(optional)[:1] if kind == "milestone" else tuple(optional))
        elif kind == "milestone":
            self.depth += 1
            self.offer((index + 1,) if index + 1 in optional else ())
        elif kind == "sieve":
            self.depth += 1 << index - first
            self.offer(tuple(i for i in self.options if i > index))
        else:
            self.depth = 1 + index - first
            self.offer(())

    def fail(self) -> None:
        """The stage at hand gave nothing: another try of a mandatory one, up to ATTEMPTS; else what is left without it."""
        self.parts = []
        if not self.answered:
            self.fails += 1
            self.out = self.fails == ATTEMPTS
        else:
            self.offer(() if self.stream.kind == "milestone" else tuple(i for i in self.options if i != self.next))

    def offer(self, options: tuple[int, ...]) -> None:
        """These may come next."""
        self.options = options
        if options:
            self.next = options[0]


def ranks(scenario: Scenario) -> list[int]:
    """The place of each stream under fixed priorities; [] under EDF."""
    keys = {"edf": [], "listed": [0 for _ in scenario.streams], "rate-monotonic": [s.period_ns for s in scenario.streams],
            "deadline-monotonic": [s.deadline_ns for s in scenario.streams]}[scenario.order]
    return [sum((other, j) < (key, i) for j, other in enumerate(keys)) for i, key in enumerate(keys)]

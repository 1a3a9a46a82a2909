"""The task model: streams of frames, jobs, stages, and the reward of going deeper. All times are integer nanoseconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple


@dataclass(frozen=True)
class Stage:
    """A unit of work that is started and not interrupted.

    `name` identifies it in records and duration estimates: two streams that share a model share its stage names.
    `resource` names where it runs (`"fpga"`, `"cpu"`). `wcet_ns` is the worst case that admission counts (0: unknown).
    `typical_ns` seeds the on-line estimate of its duration until some have been seen. `units`: the units of its resource that may run
    it (machine eligibility; empty: all).
    """

    name: str
    resource: str
    mandatory: bool
    wcet_ns: int = 0
    typical_ns: int = 0
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A piecewise-linear function, flat outside its knots. `x` rises; `x` and `y` have equal length >= 1."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or not self.x:
            raise ValueError(f"a curve needs as many y as x, at least one: found {len(self.x)} and {len(self.y)}")
        if any(b <= a for a, b in zip(self.x, self.x[1:])):
            raise ValueError("the knots of a curve must rise")

    def __call__(self, value: float) -> float:
        """Interpolate at one point."""
        x, y = self.x, self.y
        if value <= x[0]:
            return y[0]
        if value >= x[-1]:
            return y[-1]
        i = bisect_right(x, value)
        share = (value - x[i - 1]) / (x[i] - x[i - 1])
        return y[i - 1] + share * (y[i] - y[i - 1])


@dataclass(frozen=True)
class Reward:
    """Expected correctness: what an answer is worth, and what going deeper would add, given the confidence so far.

    `correct[d]` maps the confidence at depth d to P(correct). `gain[(d, e)]` maps the confidence at depth d to the expected
    change of P(correct) when depth e > d is reached. `prior` is P(correct) at each depth where no confidence is known.
    """

    correct: tuple[Curve, ...] = ()
    gain: dict[tuple[int, int], Curve] = field(default_factory=dict)
    prior: tuple[float, ...] = ()

    def utility(self, depth: int, confidence: float) -> float:
        """Expected correctness of an answer of this depth (0 where nothing was published: depth < 0)."""
        if depth < 0:
            return 0.0
        if depth < len(self.correct):
            return self.correct[depth](confidence)
        return self.prior[depth] if depth < len(self.prior) else 1.0

    def gains(self, depth: int, confidence: float, deepest: int) -> list[float]:
        """Expected total gain of reaching depth + 1, ..., deepest, from here. May be negative."""
        out = []
        for target in range(depth + 1, deepest + 1):
            curve = self.gain.get((depth, target))
            if curve is not None:
                out.append(curve(confidence))
            elif target < len(self.prior):
                out.append(self.prior[target] - self.prior[depth])
            else:
                out.append(0.0)
        return out


@dataclass(frozen=True)
class Stream:
    """A source of frames: where each frame's release, deadline and stages come from.

    Mandatory stages come first. `period_ns` is the period (periodic) or the least distance of two releases (sporadic), 0 where
    releases are listed. A job's absolute deadline is its release (the scheduled capture time) + `deadline_ns`; its release
    event arrives at most `jitter_ns` later. `mk` = (m, k): of any k frames in a row at least m should be refined (answered with a
    depth above 0); (0, 0): no such wish. `quality`: the mean utility that the stream should have at least. Neither is guaranteed:
    policies may look at them and reports count.
    """

    name: str
    period_ns: int
    deadline_ns: int
    stages: tuple[Stage, ...]
    jitter_ns: int = 0
    weight: float = 1.0
    reward: Reward = Reward()
    mk: tuple[int, int] = (0, 0)
    quality: float = 0.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError(f"stream {self.name!r} has no stage")
        if self.deadline_ns <= 0 or self.period_ns < 0 or self.jitter_ns < 0:
            raise ValueError(f"stream {self.name!r}: the deadline must be positive, period and jitter not negative")
        if not (self.mk == (0, 0) or 1 <= self.mk[0] <= self.mk[1]):
            raise ValueError(f"stream {self.name!r}: (m, k) = {self.mk} must have 1 <= m <= k")
        flags = [stage.mandatory for stage in self.stages]
        if flags != sorted(flags, reverse=True):
            raise ValueError(f"stream {self.name!r}: its mandatory stages must come before its optional ones")

    @cached_property
    def mandatory(self) -> int:
        """How many of the stages are mandatory."""
        return sum(stage.mandatory for stage in self.stages)

    @cached_property
    def deepest(self) -> int:
        """The depth of a complete answer: the number of optional stages."""
        return len(self.stages) - self.mandatory


class Event(NamedTuple):
    """What happened. `at_ns`: when (for `release`: the scheduled capture time).

    kind       fields used besides `at_ns`
    release    stream, frame
    done       job, stage, resource, unit, value (confidence of the answer so far, 0..1)
    failed     job, stage, resource, unit: the stage gave no result, its unit is free again
    abandoned  job, stage, resource, unit: the stage was given up, its unit is gone until `back`
    lost       resource, unit: it takes no work, and what ran on it failed
    back       resource, unit
    """

    kind: str
    at_ns: int
    stream: int = -1
    frame: int = -1
    job: int = -1
    stage: int = -1
    resource: str = ""
    unit: int = -1
    value: float = 0.0


class Action(NamedTuple):
    """What to do now.

    kind      fields used
    start     job, stage, resource, unit: start this stage of this job there
    publish   job, depth: give this job's answer out
    miss      job, depth (-1: no mandatory result; else the answer came too late): nothing was given out in time
    wake      at_ns: call `step` at this time if nothing happens before
    """

    kind: str
    job: int = -1
    stage: int = -1
    resource: str = ""
    unit: int = -1
    depth: int = -1
    at_ns: int = -1


class Job:
    """One frame's inference in progress. Policies read it and never write it."""

    __slots__ = ("_gains", "_gains_of", "closed", "confidence", "deadline_ns", "done", "frame", "id", "last", "needed", "publish_ns",
                 "release_ns", "running", "stream", "stream_index")

    def __init__(self, id: int, stream_index: int, stream: Stream, frame: int, release_ns: int, guard_ns: int, needed: int):
        self.id = id
        self.stream_index = stream_index
        self.stream = stream
        self.frame = frame
        self.release_ns = release_ns
        self.deadline_ns = release_ns + stream.deadline_ns
        self.publish_ns = self.deadline_ns - guard_ns
        self.needed = needed  # stages without which there is no answer
        self.last = len(stream.stages)  # stages that may still be done (falls when an optional one fails)
        self.done = 0  # stages done so far, also the index of the next one
        self.confidence = 0.0
        self.running = False
        self.closed = False  # published or missed
        self._gains: list[float] = []
        self._gains_of = (-1, -1)

    @property
    def depth(self) -> int:
        """Depth of the answer so far; -1: none yet."""
        return self.done - self.stream.mandatory if self.done >= self.needed else -1

    @property
    def next_stage(self) -> Stage:
        """The stage that would run next."""
        return self.stream.stages[self.done]

    def gains(self) -> Sequence[float]:
        """Expected total gain of each deeper depth, weighted by the stream; negative gains as they are. Kept until a stage ends."""
        if self._gains_of != (self.done, self.last):
            weight, stream = self.stream.weight, self.stream
            deepest = self.last - stream.mandatory
            self._gains = [weight * g for g in stream.reward.gains(self.depth, self.confidence, deepest)]
            self._gains_of = (self.done, self.last)
        return self._gains

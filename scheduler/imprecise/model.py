"""The task model: streams of frames, jobs, stages, and the reward of going deeper. All times are integer nanoseconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

NEVER_NS = 1 << 62
KINDS = ("milestone", "sieve", "version")
MAX_SIEVE = 6  # steps of a sieve: rewards and outcomes are by subset


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

    def gain_of(self, depth: int, confidence: float, target: int) -> float:
        """Expected gain of reaching depth `target` from here. May be negative; 0 where nothing is known."""
        curve = self.gain.get((depth, target))
        if curve is not None:
            return curve(confidence)
        return self.prior[target] - self.prior[depth] if target < len(self.prior) else 0.0

    def gains(self, depth: int, confidence: float, deepest: int) -> list[float]:
        """Expected gain of reaching depth + 1, ..., deepest, from here."""
        return [self.gain_of(depth, confidence, target) for target in range(depth + 1, deepest + 1)]


@dataclass(frozen=True)
class Stream:
    """A source of frames: where each frame's release, deadline and stages come from.

    Mandatory stages come first. `period_ns` is the period (periodic) or the least distance of two releases (sporadic), 0 where
    releases are listed. A job's absolute deadline is its release (the scheduled capture time) + `deadline_ns`; its release
    event arrives at most `jitter_ns` later. `mk` = (m, k): of any k frames in a row at least m should be refined (answered with a
    depth above 0); (0, 0): no such wish. `quality`: the mean utility that the stream should have at least. Neither is guaranteed:
    policies may look at them and reports count.

    `kind` says what its optional stages are to each other (Liu et al., Proc. IEEE 82(1), 1994). "milestone": they follow each other and
    each result is usable; depth k has k of them. "sieve": steps in order, each done or skipped; the bits of the depth are the steps
    done (bit 0: the first optional stage). "version": one of several models; depth k has the k-th.
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
    kind: str = "milestone"

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
        if self.kind not in KINDS:
            raise ValueError(f"stream {self.name!r}: found kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        optional = {stage.resource for stage in self.stages if not stage.mandatory}
        if self.kind != "milestone" and len(optional) > 1:
            raise ValueError(f"stream {self.name!r}: the optional stages of a {self.kind} run on one resource, found {sorted(optional)}")
        if self.kind == "sieve" and flags.count(False) > MAX_SIEVE:
            raise ValueError(f"stream {self.name!r}: a sieve has at most {MAX_SIEVE} steps, found {flags.count(False)}")

    @cached_property
    def mandatory(self) -> int:
        """How many of the stages are mandatory."""
        return sum(stage.mandatory for stage in self.stages)

    @cached_property
    def deepest(self) -> int:
        """The depth of a complete answer: the number of optional stages, in a sieve 2^that - 1."""
        optional = len(self.stages) - self.mandatory
        return (1 << optional) - 1 if self.kind == "sieve" else optional

    def required(self, splits: bool) -> tuple[int, ...]:
        """The stages without which there is no answer: the mandatory ones, or where work is not split all (of versions, the last)."""
        last = len(self.stages)
        if splits or last == self.mandatory:
            return tuple(range(self.mandatory))
        return tuple(range(last)) if self.kind != "version" else (*range(self.mandatory), last - 1)


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
    preempt   job, stage, resource, unit: interrupt it; a later `start` goes on with it (simulation only)
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


def new_event(kind: str, at_ns: int, stream: int = -1, frame: int = -1, job: int = -1, stage: int = -1, resource: str = "", unit: int = -1,
              value: float = 0.0) -> Event:
    """`Event(...)` in half the time: a simulation makes millions."""
    return tuple.__new__(Event, (kind, at_ns, stream, frame, job, stage, resource, unit, value))


def new_action(kind: str, job: int = -1, stage: int = -1, resource: str = "", unit: int = -1, depth: int = -1, at_ns: int = -1) -> Action:
    """`Action(...)` in half the time."""
    return tuple.__new__(Action, (kind, job, stage, resource, unit, depth, at_ns))


class Job:
    """One frame's inference in progress. Policies read it and never write it.

    `done` counts its stages done; `next` is the index of `next_stage`, which runs or would run next; `options` are the indices of all
    optional stages that may run next (several in a `sieve` or `version` stream). `depth` is that of the answer so far, -1: none yet.
    """

    __slots__ = ("_gains", "_gains_of", "closed", "confidence", "deadline_ns", "depth", "done", "frame", "id", "needed", "next",
                 "next_stage", "options", "publish_ns", "release_ns", "required", "running", "spent_ns", "stream", "stream_index")

    def __init__(self, id: int, stream_index: int, stream: Stream, frame: int, release_ns: int, guard_ns: int, required: tuple[int, ...]):
        self.id = id
        self.stream_index = stream_index
        self.stream = stream
        self.frame = frame
        self.release_ns = release_ns
        self.deadline_ns = release_ns + stream.deadline_ns
        self.publish_ns = self.deadline_ns - guard_ns
        self.required = required  # stages without which there is no answer
        self.needed = len(required)
        self.done = 0
        self.next = required[0] if required else 0
        self.next_stage = stream.stages[self.next]
        self.options: tuple[int, ...] = ()
        self.depth = -1
        self.confidence = 0.0
        self.running = False
        self.closed = False  # published or missed
        self.spent_ns = 0  # on the stage `next`, before it was preempted
        self._gains: list[float] = []
        self._gains_of = (-1, -1)
        if not required:
            self._answered()

    def choose(self, index: int) -> None:
        """The stage of this index is the one that runs, or would run next."""
        self.next = index
        self.next_stage = self.stream.stages[index]

    def finish(self) -> None:
        """The stage `next` is done."""
        index, kind = self.next, self.stream.kind
        self.done += 1
        self.spent_ns = 0
        if self.done < self.needed:
            self.choose(self.required[self.done])
        elif self.done == self.needed:
            self._answered()
        elif kind == "milestone":
            self.depth += 1
            self._offer((index + 1,) if index + 1 < len(self.stream.stages) else ())
        elif kind == "sieve":
            self.depth |= 1 << (index - self.stream.mandatory)
            self._offer(tuple(i for i in self.options if i > index))
        else:
            self.depth = index - self.stream.mandatory + 1
            self._offer(())

    def give_up(self) -> None:
        """The optional stage `next` failed: milestones behind it are out of reach, a step is skipped, another version may do."""
        self.spent_ns = 0
        self._offer(() if self.stream.kind == "milestone" else tuple(i for i in self.options if i != self.next))

    def _answered(self) -> None:
        stream = self.stream
        if self.needed > stream.mandatory:  # a policy that does not split: all is done
            self.depth = stream.deepest
            return
        self.depth = 0
        first, last = stream.mandatory, len(stream.stages)
        if first < last:
            self._offer((first,) if stream.kind == "milestone" else tuple(range(first, last)))

    def _offer(self, options: tuple[int, ...]) -> None:
        self.options = options
        if options:
            self.choose(options[0])

    def ways(self) -> list[tuple[tuple[int, ...], int]]:
        """How it may go on: (stages to run in turn, the depth they lead to). Milestones: as far as each; a version: that one; a
        sieve: every choice of the steps left."""
        stream, first = self.stream, self.stream.mandatory
        if not self.options:
            return []
        if stream.kind == "milestone":
            behind = range(self.options[0], len(stream.stages))
            return [(tuple(behind[:n]), self.depth + n) for n in range(1, len(behind) + 1)]
        if stream.kind == "version":
            return [((i,), i - first + 1) for i in self.options]
        picks = [tuple(i for b, i in enumerate(self.options) if bits >> b & 1) for bits in range(1, 1 << len(self.options))]
        return [(pick, self.depth | sum(1 << (i - first) for i in pick)) for pick in picks]

    def gains(self) -> Sequence[float]:
        """Expected total gain of each of `ways()`, weighted by the stream; negative gains as they are. Kept until a stage ends."""
        key = (self.done, len(self.options))
        if self._gains_of != key:
            weight, reward = self.stream.weight, self.stream.reward
            if self.stream.kind == "milestone":
                ahead = len(self.stream.stages) - self.options[0] if self.options else 0
                targets: Iterable[int] = range(self.depth + 1, self.depth + 1 + ahead)
            else:
                targets = [depth for _, depth in self.ways()]
            self._gains = [weight * reward.gain_of(self.depth, self.confidence, depth) for depth in targets]
            self._gains_of = key
        return self._gains

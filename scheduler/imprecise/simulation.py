"""What a simulation gives: a row a frame, counters, and where asked for a log of every step and stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .model import Action, Event

BUCKETS = 6  # latency histogram: 2^BUCKETS buckets an octave, so a relative error below 1.6 %
ANSWERED, MISSED, DROPPED = 0, 1, 2

FRAME_DTYPE = np.dtype([
    ("stream", "i4"), ("frame", "i8"), ("item", "i8"), ("job", "i8"), ("release_ns", "i8"), ("arrival_ns", "i8"),
    ("deadline_ns", "i8"), ("completed_ns", "i8"), ("published_ns", "i8"), ("depth", "i2"), ("status", "i1"),
    ("confidence", "f8"), ("utility", "f8"), ("correct", "i1"),
])
"""A row a frame, as in the table `frames` of a run record: `completed_ns`, `published_ns`, `depth` and `item` are -1 where there
is none, `status` is ANSWERED, MISSED or DROPPED (never seen by the engine: `job` is -1), `correct` -1 without a label. Rows are in
order of arrival: those of two policies pair up."""


class StageRow(NamedTuple):
    """A stage that was started: a row of the table `stages` of a run record."""

    job: int
    stage: str
    resource: str
    unit: int
    start_ns: int
    end_ns: int
    status: str  # "done", "failed", "abandoned", "preempted", "late" (after its job was closed)
    confidence: float


class Log:
    """Every step and stage of a simulation, in memory. Subclass it to write them elsewhere as they come."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[Event], list[Action]]] = []
        self.stages: list[StageRow] = []

    def step(self, now_ns: int, events: list[Event], actions: list[Action]) -> None:
        """One call of the engine and its answer."""
        self.steps.append((now_ns, events, actions))

    def stage(self, row: StageRow) -> None:
        """One stage that ended."""
        self.stages.append(row)


@dataclass
class StreamTotals:
    """Counters of one stream: `answered[d]` by depth; sums over its answered frames."""

    name: str
    weight: float
    answered: list[int]
    missed: int = 0
    utility: float = 0.0
    correct: int = 0
    labelled: bool = False
    longest_misses: int = 0  # in a row
    dropped: int = 0  # captured, and never seen by the engine

    @property
    def delivered(self) -> int:
        """Frames that the engine saw; answered and missed add up to it."""
        return sum(self.answered) + self.missed

    @property
    def captured(self) -> int:
        """All frames: answered, missed and dropped."""
        return self.delivered + self.dropped


@dataclass
class Simulation:
    """What came out. `frames` (dtype FRAME_DTYPE, in order of arrival) is None in streaming mode; counters are always there."""

    scenario: str
    policy: str
    seed: int
    streams: list[StreamTotals]
    frames: NDArray[Any] | None
    end_ns: int = 0
    steps: int = 0
    discarded: int = 0  # stages that ended after their job was closed
    policy_fault: str = ""
    busy_ns: dict[str, int] = field(default_factory=dict)  # of each resource, all units together
    overruns: dict[str, int] = field(default_factory=dict)  # mandatory stages that took longer than their worst case, by name
    _latency: dict[int, int] = field(default_factory=dict, repr=False)  # histogram, in streaming mode

    @property
    def captured(self) -> int:
        """Frames captured in all streams: answered, missed and dropped."""
        return sum(stream.captured for stream in self.streams)

    @property
    def delivered(self) -> int:
        """Frames that the engine saw: answered and missed."""
        return sum(stream.delivered for stream in self.streams)

    @property
    def dropped(self) -> int:
        """Frames that the engine never saw."""
        return sum(stream.dropped for stream in self.streams)

    @property
    def missed(self) -> int:
        """Frames without an answer by their deadline."""
        return sum(stream.missed for stream in self.streams)

    @property
    def answered(self) -> list[int]:
        """Answered frames by depth, of all streams."""
        deepest = max(len(stream.answered) for stream in self.streams)
        return [sum(s.answered[d] for s in self.streams if d < len(s.answered)) for d in range(deepest)]

    @property
    def utility(self) -> float:
        """Expected correctness, the mean over delivered frames; a missed one counts 0."""
        return sum(stream.utility for stream in self.streams) / self.delivered if self.delivered else 0.0

    @property
    def weighted_utility(self) -> float:
        """The same with every frame weighted by its stream: what policies maximise."""
        weight = sum(stream.weight * stream.delivered for stream in self.streams)
        return sum(stream.weight * stream.utility for stream in self.streams) / weight if weight else 0.0

    @property
    def accuracy(self) -> float:
        """Share of the labelled, delivered frames that were answered right (a missed one is wrong); nan without labels."""
        labelled = sum(stream.delivered for stream in self.streams if stream.labelled)
        return sum(stream.correct for stream in self.streams) / labelled if labelled else float("nan")

    def latency_ns(self, share: float) -> float:
        """A quantile (nearest rank) of publication minus capture, a missed frame infinitely late; to 1.6 % in streaming mode.

        nan without a frame, inf where the quantile falls on the missed ones.
        """
        rank = max(0, math.ceil(share * self.delivered) - 1)
        if not sum(self.answered) > rank:
            return math.inf if self.delivered else math.nan
        if self.frames is not None:
            done = self.frames[self.frames["status"] == ANSWERED]
            return float(np.partition(done["published_ns"] - done["release_ns"], rank)[rank])
        for bucket in sorted(self._latency):
            rank -= self._latency[bucket]
            if rank < 0:
                break
        shift = max(0, (bucket >> BUCKETS) - 1)
        return (bucket - (shift << BUCKETS) + (0.5 if shift else 0.0)) * 2.0**shift

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return {
            "scenario": self.scenario, "policy": self.policy, "seed": self.seed, "captured": self.captured,
            "answered": self.answered, "missed": self.missed, "dropped": self.dropped, "utility": self.utility,
            "weighted_utility": self.weighted_utility,
            "accuracy": _none(self.accuracy),
            "latency_p50_ns": _none(self.latency_ns(0.5)), "latency_p99_ns": _none(self.latency_ns(0.99)),
            "longest_misses": max(stream.longest_misses for stream in self.streams), "discarded_stages": self.discarded,
            "overruns": dict(self.overruns), "policy_fault": self.policy_fault, "end_ns": self.end_ns, "busy_ns": dict(self.busy_ns),
        }


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None

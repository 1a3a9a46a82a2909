"""What admission of a run is asked, as one value, and how a scenario becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from .model import Stage, Stream

if TYPE_CHECKING:
    from .scenario import Scenario

FAR_NS = 1 << 40  # stands for the distance to a second frame that never comes


@dataclass(frozen=True)
class Question:
    """Its fields are the arguments of `admission.admit_run`, which see; times in ns."""

    streams: tuple[Stream, ...]
    resources: Mapping[str, int]
    guard_ns: int = 0
    wakeup_ns: int = 0
    shared: bool = False
    preempted: bool = False
    inline: tuple[str, ...] = ()
    overhead_ns: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)
    splits: bool = True
    preemptive: tuple[str, ...] = ()

    def needed(self, stream: Stream) -> tuple[int, ...]:
        """Indices of the stages without which a frame of a stream has no answer, as the engine counts them."""
        last = len(stream.stages)
        if self.splits or last == stream.mandatory:
            return tuple(range(stream.mandatory))
        return (*range(stream.mandatory), last - 1) if stream.kind == "version" else tuple(range(last))

    def optional(self, stream: Stream) -> tuple[Stage, ...]:
        """The other stages, where they may run at all."""
        return stream.stages[stream.mandatory:] if self.splits else ()

    def mandatory(self) -> dict[str, Stage]:
        """The needed stages by name, in order."""
        return {s.stages[i].name: s.stages[i] for s in self.streams for i in self.needed(s)}


def of_scenario(scenario: Scenario, splits: bool = True, sources: Mapping[str, str] | None = None) -> Question:
    """The question of a scenario: what the simulator does, where nothing is seen late. `splits` is the policy's.

    A stream whose releases are listed has the least distance in the list as its period.
    """
    streams = []
    for source in scenario.sources:
        stream, listed = source.stream, getattr(source.arrivals, "times_ns", ())
        if not stream.period_ns and listed:
            stream = replace(stream, period_ns=min((b - a for a, b in pairwise(listed)), default=FAR_NS))
        streams.append(stream)
    return Question(tuple(streams), dict(scenario.resources), scenario.guard_ns, sources=dict(sources or {}), splits=splits)


def longest_ns(stage: Stage) -> int:
    """How long an optional stage may take, as the engine's blocking limit counts it."""
    return max(stage.wcet_ns, stage.typical_ns)

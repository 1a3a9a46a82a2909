"""What admission of a run is asked, as one value; how a scenario becomes one, and what its simulation is told of the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .model import Stage, Stream

if TYPE_CHECKING:
    from .admission import RunAdmission
    from .scenario import Scenario

FAR_NS = 1 << 40  # stands for the distance to a second frame that never comes


@dataclass(frozen=True)
class Question:
    """Its fields are the arguments of `admission.admit_run`, which see; times in ns. A simulated machine may add:

    `decision_ns`: what choosing adds before an optional stage. `slower`: how many times longer than their worst case the stages of a
    resource may take, at most. `pauses`: {resource: other}: units of it stop while the other works. `breaks`: what breaks an
    assumption on purpose, in words.
    """

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
    priorities: tuple[int, ...] = ()
    decision_ns: int = 0
    slower: Mapping[str, float] = field(default_factory=dict)
    pauses: Mapping[str, str] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()

    def worst_ns(self, stage: Stage) -> int:
        """The worst case, on this machine, of a stage that counts as mandatory."""
        return math.ceil(stage.wcet_ns * self.slower.get(stage.resource, 1)) + (0 if stage.mandatory else self.decision_ns)

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
    machine = scenario.conditions
    slower = {name: max(1.0, *machine.beside.get(name, ()), 1.0)
              * (max(1.0, machine.hogs[name].factor) if name in machine.hogs else 1)
              * (max(1.0, machine.thermal[name].factor) if name in machine.thermal else 1) for name in scenario.resources}
    return Question(tuple(streams), dict(scenario.resources), scenario.guard_ns, overhead_ns=machine.overhead_ns,
                    sources={"": "as the scenario says", **(sources or {})}, splits=splits, preemptive=tuple(scenario.preemptive),
                    priorities=tuple(scenario.priorities() or ()), decision_ns=machine.decision_ns,
                    slower={name: factor for name, factor in slower.items() if factor > 1},
                    pauses={victim: other for other, victim in machine.takes_core.items()}, breaks=tuple(_breaks(scenario, streams)))


def engine_options(scenario: Scenario, found: RunAdmission | None) -> dict[str, Any]:
    """What the engine is told when a scenario is simulated: what admission `found` (None: not asked, as for a policy that does not split
    the work), and the scenario's own limits on optional stages where they are tighter."""
    options = found.engine_options() if found is not None and found.admitted else {}
    limits = dict(options.get("blocking_ns", {}))
    return {**options, "blocking_ns": {**limits, **{name: min(ns, limits.get(name, ns)) for name, ns in scenario.blocking_ns.items()}}}


def _breaks(scenario: Scenario, streams: list[Stream]) -> Iterator[str]:
    """Faults of the scenario that reach mandatory work."""
    needed = {stage.resource for stream in streams for stage in stream.stages if stage.mandatory}
    resource_of = {stage.name: stage.resource for stream in streams for stage in stream.stages}
    for fault in scenario.conditions.faults:
        if resource_of.get(fault.stage) in needed:
            yield f"the scenario lets {fault.share:g} of the executions of stage {fault.stage!r} fail: frames may miss then"
    for name in sorted({fault.resource for fault in scenario.conditions.resource_faults if fault.resource in needed}):
        yield f"the scenario takes a unit of {name!r} away for a while: frames may miss then"


def longest_ns(stage: Stage) -> int:
    """How long an optional stage may take, as the engine's blocking limit counts it."""
    return max(stage.wcet_ns, stage.typical_ns)

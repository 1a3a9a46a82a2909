"""What a simulated machine does to the schedule: overheads, slowdowns, shared cores, faults. All by scenario, all off by default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .draws import key_of, uniforms
from .model import Stage


class StageFault(NamedTuple):
    """The first `times` attempts of one stage of one frame go wrong.

    "failed": no result, the unit is free again; "abandoned": given up, the unit is gone, and back after `back_ns` (0: never).
    It happens `after_ns` after the start (0: when the stage would have ended). "hung": it never ends, and is given up.
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


class RandomFault(NamedTuple):
    """A share of a stage's executions goes wrong: kind "failed" (when it would have ended) or "hung"; in all streams or one."""

    stage: str
    kind: str
    share: float
    stream: str = ""


class Hog(NamedTuple):
    """Other work on the machine: a stage that starts in the first `length_ns` of each `every_ns` takes `factor` times as long."""

    every_ns: int
    length_ns: int
    factor: float


class Thermal(NamedTuple):
    """Heat: h follows the share of the resource that is busy, with time constant `time_ns` (first order); a stage takes
    1 + (factor - 1) * clip((h - threshold) / (1 - threshold), 0, 1) times as long as drawn."""

    factor: float
    time_ns: int
    threshold: float = 0.0


@dataclass(frozen=True)
class Conditions:
    """A machine that is not ideal. Times in ns.

    `overhead_ns`: dispatching takes so long before each stage, on its unit. `decision_ns`: so long more before an optional stage, which
    the policy chooses. `takes_core`: while a resource works, unit 0 of another pauses (the operating system gives its core away).
    `beside`: by what factor a stage is longer with 1, 2, ... other units of its resource busy when it starts (the last factor stands
    for more). A stage that is still running `give_up_ns` after its job's publication is given up, and its unit back after
    `restart_ns`; `give_up_ns` = 0: only a hung one, after a second.
    """

    overhead_ns: int = 0
    decision_ns: int = 0
    takes_core: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    hogs: Mapping[str, Hog] = field(default_factory=dict)
    thermal: Mapping[str, Thermal] = field(default_factory=dict)
    faults: tuple[RandomFault, ...] = ()
    resource_faults: tuple[ResourceFault, ...] = ()
    give_up_ns: int = 0
    restart_ns: int = 50_000_000

    @property
    def ideal(self) -> bool:
        """Whether nothing is set."""
        return self == Conditions(restart_ns=self.restart_ns)


class Machine:
    """The state of the conditions in one simulation: how much longer a stage takes that starts now, and whether it goes wrong."""

    def __init__(self, conditions: Conditions, units: Mapping[str, int], seed: int):
        self.conditions, self.units, self.seed = conditions, units, seed
        self.busy = dict.fromkeys(units, 0)
        self._heat = {name: (0.0, 0) for name in conditions.thermal}  # (h, since when)

    def takes_ns(self, stage: Stage, drawn_ns: int, now_ns: int) -> int:
        """The duration of a stage that starts now, with what the machine adds."""
        c, name = self.conditions, stage.resource
        factor = 1.0
        others = self.busy[name]
        if others and name in c.beside:
            factor *= c.beside[name][min(others, len(c.beside[name])) - 1]
        if name in c.hogs and now_ns % c.hogs[name].every_ns < c.hogs[name].length_ns:
            factor *= c.hogs[name].factor
        if name in c.thermal:
            law = c.thermal[name]
            share = (self._warm(name, now_ns) - law.threshold) / (1 - law.threshold)
            factor *= 1 + (law.factor - 1) * min(1.0, max(0.0, share))
        extra_ns = c.overhead_ns + (0 if stage.mandatory else c.decision_ns)
        return max(1, round(drawn_ns * factor)) + extra_ns if factor != 1.0 else drawn_ns + extra_ns

    def change(self, resource: str, by: int, now_ns: int) -> None:
        """A unit of a resource begins (1) or ends (-1) to work."""
        if resource in self._heat:
            self._heat[resource] = (self._warm(resource, now_ns), now_ns)
        self.busy[resource] += by

    def _warm(self, resource: str, now_ns: int) -> float:
        h, since_ns = self._heat[resource]
        share = self.busy[resource] / self.units[resource]
        return h + (share - h) * -math.expm1(-(now_ns - since_ns) / self.conditions.thermal[resource].time_ns)

    def fault(self, stream: str, frame: int, stage: str) -> str:
        """"failed", "hung" or "": what the dice say of this execution, the same for every policy."""
        for number, fault in enumerate(self.conditions.faults):
            if fault.stage == stage and fault.stream in ("", stream) and (
                    uniforms(key_of(self.seed, stream, stage, f"@fault{number}"), frame, 1)[0] < fault.share):
                return fault.kind
        return ""

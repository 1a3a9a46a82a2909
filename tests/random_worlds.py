"""Whole scenarios at random, in small integers, and policies to run in them: shipped ones, and ones that behave badly.

Everything is a function of one `random.Random`: a seeded one, or Hypothesis's, whose draws shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

from imprecise import policies
from imprecise.conditions import Conditions, Hog, RandomFault, ResourceFault, StageFault, Thermal
from imprecise.counterexample import Pattern
from imprecise.draws import (
    Arrivals,
    Constant,
    DurationModel,
    Empirical,
    Listed,
    Lognormal,
    Periodic,
    Quantiles,
    Releases,
    Sporadic,
    typical_ns,
)
from imprecise.model import Reward, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.scenario import ORDERS, Scenario, Source
from imprecise.workload import Outcomes, Workload, depths_of, synthetic_outcomes, synthetic_reward

SPECS = (*policies.names(), "threshold:theta=0.95", "threshold:theta=0", "depth-dp:idle=0", "depth-dp:jobs=1,plans=2,rate=1",
         "depth-dp:predictor=constant", "depth-dp:predictor=linear", "depth-dp:predictor=oracle", "monolithic:gate=0")
SPLITTING = tuple(spec for spec in SPECS if policies.make(spec).splits)


@dataclass(frozen=True)
class World:
    """A scenario and all that `simulate` is given with it. `policy()` makes a fresh policy, the same each time."""

    scenario: Scenario
    policy: Callable[[], Policy]
    spec: str
    seed: int
    frames: int
    options: dict[str, Any] = field(default_factory=dict)
    faults: tuple[StageFault | ResourceFault, ...] = ()

    def with_policy(self, spec: str) -> World:
        """The same under a shipped policy."""
        return replace(self, policy=lambda: policies.make(spec), spec=spec)


# Policies -------------------------------------------------------------------------------------------------------------


class Hostile(Policy):
    """Answers at random; with a share of `nasty` raises, answers nonsense, or names a job or stage that is not ready."""

    name = "hostile"

    def __init__(self, seed: int, nasty: float, splits: bool):
        self.random, self.nasty, self.splits = Random(seed), nasty, splits

    def wants(self, job, engine):
        self._maybe_raise()
        return self.random.choice([True, True, True, False, 1, None])

    def keeps(self, job, engine):
        self._maybe_raise()
        return self.random.random() < 0.9

    def closed(self, job, engine):
        self._maybe_raise()

    def pick(self, ready, engine):
        self._maybe_raise()
        job = self.random.choice([*ready, ready[0]])
        if self.random.random() < self.nasty:
            return self.random.choice([42, (job, -1), (job, 99), (job, job.next, 0), next(iter(engine.jobs.values()))])
        return self.random.choice([job, (job, self.random.choice(job.options)), (job, job.options[-1]), None])

    def _maybe_raise(self):
        if self.random.random() < self.nasty / 4:
            raise KeyError("nothing here")


def policy(random: Random) -> tuple[str, Callable[[], Policy]]:
    """A spec and what makes the policy: a shipped one, or one that behaves badly."""
    spec = random.choice([*SPECS, "hostile", "hostile", "nasty", "whole"])
    if spec in SPECS:
        return spec, lambda: policies.make(spec)
    seed, nasty = random.randrange(1000), random.choice([0.02, 0.3, 1.0]) if spec == "nasty" else 0.0
    return f"{spec} {seed} {nasty}", lambda: Hostile(seed, nasty, spec != "whole")


# Streams --------------------------------------------------------------------------------------------------------------


def chance(random: Random, one_in: int) -> bool:
    """True once in so many times; what shrinks away is True."""
    return random.randrange(one_in) == one_in - 1


def duration(random: Random, most: int) -> DurationModel:
    """One of the models, about 1 to `most`."""
    kind, worst = random.randrange(6), random.randint(1, most)
    if kind < 2:
        return Constant(worst)
    if kind == 2:
        return Listed(tuple(random.randint(1, worst) for _ in range(random.randint(1, 4))))
    if kind == 3:
        return Lognormal(max(1, worst // 2), random.choice([0.2, 0.8]), random.choice([worst, worst, 0]))
    some = tuple(sorted(random.randint(1, worst) for _ in range(random.randint(1, 4))))
    return Empirical(some) if kind == 4 else Quantiles(tuple((k + 1) / len(some) for k in range(len(some))), some)


def arrivals(random: Random, slow: int, frames: int, finite: bool) -> tuple[Arrivals, int]:
    """One of the laws, and the least distance of two frames; distances are multiplied by `slow`."""
    kind, jitter = 2 if finite else random.randrange(3), random.choice([0, 0, 0, 2, 9, 40])
    gap = random.randint(4, 60) * slow
    if kind == 0:
        drift = random.choice([0.0, 0.0, -30_000.0, 20_000.0])
        return Periodic(gap, random.choice([0, random.randint(0, gap), -1]), jitter, drift), max(1, gap + int(gap * drift * 1e-6 // 1))
    if kind == 1:
        burst = random.choice([(0, 0), (2, 3), (3, 8)])
        return Sporadic(gap, random.choice([0, gap // 2, 3 * gap]), jitter, burst), gap
    if chance(random, 3) or finite:
        least = gap if random.random() < 0.5 else 0
        at, times = random.randint(0, 30), []
        for _ in range(random.randint(1, frames)):
            times.append(at)
            at += least + random.choice([0, 0, random.randint(0, gap)])
        return Releases(tuple(times), jitter), least
    return Periodic(gap, 0, jitter), gap


def outcomes(random: Random, kind: str, optional: int, name: str) -> tuple[Outcomes | None, Reward]:
    """Calibrated ones, ones where deeper may be worse, or none with a prior."""
    depths, how = depths_of(kind, optional), random.randrange(4)
    if how < 2:
        accuracy = tuple(0.5 + 0.4 * d / (optional + 1) for d in range(optional + 1))
        return synthetic_outcomes(accuracy, 25, name, kind=kind), synthetic_reward(accuracy, kind)
    prior = tuple(random.choice([0.3, 0.6, 0.9]) if how == 2 else 0.4 + 0.5 * d / depths for d in range(depths))
    if how == 3:
        return None, Reward(prior=prior)
    some = np.random.default_rng(random.randrange(100))
    confidence = some.random((9, depths))
    return Outcomes(confidence, some.random((9, depths)) < confidence), Reward(prior=prior)


def source(random: Random, number: int, units: dict[str, int], slow: int, frames: int, plain: bool, finite: bool, mild: bool) -> Source:
    """A stream: 1 to 3 mandatory stages, up to 3 optional ones, of one of the three kinds (`plain`: milestones on any unit)."""
    kind = "milestone" if plain else random.choice(["milestone", "milestone", "sieve", "version"])
    names = sorted(units)
    path = [random.choice(names) for _ in range(random.choice([1, 1, 2, 3]))]
    place = random.choice(["cpu", "cpu", *names])
    beyond = [random.choice(["cpu", *names]) if kind == "milestone" and chance(random, 3) else place for _ in range(random.randint(0, 3))]
    stages, models = [], []
    for k, name in enumerate([*path, *beyond]):
        model = duration(random, 8 if k < len(path) else 25)
        some = tuple(sorted(random.sample(range(units[name]), random.randint(1, units[name]))))
        typical = random.choice([typical_ns(model), typical_ns(model), random.randint(1, 30)])
        wcet = model.worst_ns if k < len(path) or random.random() < 0.5 else 0
        stages.append(Stage(f"{'m' if k < len(path) else 'o'}{number}.{k}", name, k < len(path), wcet, typical,
                            () if plain or random.random() < 0.85 else some))
        models.append(model)
    found, reward = outcomes(random, kind, len(beyond), f"pictures{number}")
    law, least = arrivals(random, slow, frames, finite)
    deadline = 12 + (random.randint(0, 100) if slow == 1 else random.randint(40, 400))
    stream = Stream(f"s{number}", least, deadline, tuple(stages), law.jitter_ns, random.choice([1.0, 1.0, 0.25, 4.0]), reward,
                    random.choice([(0, 0), (0, 0), (1, 2), (3, 5)]), random.choice([0.0, 0.0, 0.7, 1.0]), kind)
    drop = 0.0 if mild or random.random() < 0.7 else 0.2
    return Source(stream, law, Workload(stream.stages, tuple(models), reward, found, kind=kind), drop)


# Machines -------------------------------------------------------------------------------------------------------------


def conditions(random: Random, units: dict[str, int], sources: list[Source]) -> Conditions:
    """Nothing, overheads only, or some of all that may be wrong with a machine."""
    level = random.randrange(4)
    if level == 0:
        return Conditions()
    overhead, decision = random.choice([0, 1, 2]), random.choice([0, 3])
    if level == 1:
        return Conditions(overhead, decision)
    names, stages = sorted(units), [stage.name for source in sources for stage in source.stream.stages]

    def some(what: Callable[[], Any]) -> dict[str, Any]:
        return {name: what() for name in names if chance(random, 4)}

    faults = tuple(RandomFault(random.choice(stages), random.choice(["failed", "hung"]), random.choice([0.1, 0.5]),
                               random.choice(["", sources[0].stream.name])) for _ in range(random.choice([0, 0, 1, 3])))
    gone = []
    for _ in range(random.choice([0, 0, 1, 3])):
        name, at = random.choice(names), random.randint(0, 400)
        unit = random.randrange(units[name])
        gone.append(ResourceFault(at, name, unit))
        if random.random() < 0.8:
            gone.append(ResourceFault(at + random.randint(0, 200), name, unit, "back"))
    taker, victim = random.sample(names, 2) if len(names) > 1 else (names[0], names[0])
    return Conditions(overhead, decision, {taker: victim} if chance(random, 4) and taker != victim else {},
                      some(lambda: random.choice([(1.5,), (1.2, 2.0)])), some(lambda: Hog(random.randint(20, 90), 20, 2.5)),
                      some(lambda: Thermal(2.0, random.randint(10, 300), random.choice([0.0, 0.4]))), faults, tuple(gone),
                      random.choice([0, 0, 5, 40]), random.choice([1, 30, 500]))


def planned(random: Random, units: dict[str, int], sources: list[Source]) -> tuple[StageFault | ResourceFault, ...]:
    """Faults of single stages, at times."""
    out = []
    for _ in range(random.choice([0, 0, 0, 2])):
        stream = random.choice(sources).stream
        stage, kind = random.choice(stream.stages).name, random.choice(["failed", "abandoned", "hung"])
        out.append(StageFault(stream.name, random.randint(0, 5), stage, kind, random.choice([0, 1, 9]), random.choice([0, 20]),
                              random.randint(1, 4)))
    return tuple(out)


def options(random: Random, units: dict[str, int], sources: list[Source]) -> dict[str, Any]:
    """What an engine may be told besides, at times."""
    out: dict[str, Any] = {}
    if chance(random, 4):
        out["blocking_ns"] = {name: random.randint(-1, 25) for name in sorted(units)}
    if chance(random, 6):
        out["yields"] = {"cpu": tuple(name for name in sorted(units) if name != "cpu")}
    if chance(random, 6):
        out["local_ns"] = {(i, k): random.randint(1, source.stream.deadline_ns) for i, source in enumerate(sources)
                           for k in range(source.stream.mandatory)}
    if chance(random, 6):
        out["quantile"] = random.choice([0.5, 0.8])
    return out


def world(random: Random, *, plain: bool = False, mild: bool = False, finite: bool = False, most: int = 5, frames: int = 40,
          slow: int = 0, units: dict[str, int] | None = None) -> World:
    """A world of at most so many streams and frames. `plain`: milestones on any unit, no disturbance but overheads; `mild`: nothing
    breaks or drops; `finite`: the streams end; `slow`: distances of frames are multiplied by it (0: at random); `units`: of each
    resource, "cpu" among them."""
    if units is None:
        units = {"cpu": random.choice([1, 1, 2, 3])}
        units |= {name: random.choice([1, 1, 2]) for name in ("dma", "fpga") if random.random() < 0.7}
    slow = slow or random.choice([1, 1, 1, 4])
    count = 1 + min(random.randrange(most), random.randrange(most))
    n = random.randint(1, frames)
    sources: list[Source] = []
    for i in range(count):
        if sources and chance(random, 6):  # another camera with the same model
            twin = random.choice(sources)
            law, least = arrivals(random, slow, n, finite)
            sources.append(replace(twin, stream=replace(twin.stream, name=f"s{i}", period_ns=least, jitter_ns=law.jitter_ns), arrivals=law))
        else:
            sources.append(source(random, i, units, slow, n, plain, finite, mild))
    rules = conditions(random, units, sources)
    if plain or mild:
        rules = Conditions(rules.overhead_ns, rules.decision_ns, {} if plain else rules.takes_core, {} if plain else rules.beside,
                           {} if plain else rules.hogs, {} if plain else rules.thermal)
    blocking = {"cpu": random.randint(0, 20)} if chance(random, 6) else {}
    made = Scenario("random", tuple(sources), units, random.choice([0, 0, 3, 11]), blocking, conditions=rules,
                    order=random.choice(["edf", "edf", *ORDERS]), preemptive=tuple(name for name in sorted(units) if chance(random, 4)))
    spec, make = policy(random)
    return World(made, make, spec, random.randrange(1000), n, {} if plain or mild else options(random, units, sources),
                 () if plain or mild else planned(random, units, sources))


# Worlds that can be proven --------------------------------------------------------------------------------------------


def provable(random: Random) -> World:
    """A world of the kind that admission may say yes to: known worst cases and distances of frames, units of a resource alike.

    Nothing fails, but overheads, other work, heat and shared cores are there, and every law of arrivals.
    """
    slow = random.choice([2, 4, 9])
    made = world(random, mild=True, most=4, frames=30, slow=slow)
    units = made.scenario.resources
    sources, known = [], dict[str, tuple[Stage, DurationModel]]()
    for source in made.scenario.sources:
        stages, models = [], []
        for stage, model in zip(source.stream.stages, source.work.durations):
            if stage.name not in known:
                capped = model if model.worst_ns else Constant(stage.typical_ns)
                known[stage.name] = replace(stage, wcet_ns=capped.worst_ns, units=() if stage.mandatory else stage.units), capped
            stages.append(known[stage.name][0])
            models.append(known[stage.name][1])
        law, period = source.arrivals, source.stream.period_ns
        if not period:
            law = Periodic(period := random.randint(4, 60) * slow, 0, law.jitter_ns)
        stream = replace(source.stream, stages=tuple(stages), period_ns=period)
        work = replace(source.work, stages=stream.stages, durations=tuple(models))
        sources.append(replace(source, stream=stream, arrivals=law, work=work))
    scenario = replace(made.scenario, sources=tuple(sources), blocking_ns={},
                       order=made.scenario.order if all(n == 1 for n in units.values()) else "edf",
                       preemptive=tuple(name for name in made.scenario.preemptive if units[name] == 1))
    return replace(made, scenario=scenario)


def another(random: Random, made: World, worst: bool = False) -> World:
    """The same streams with other arrivals and durations that they may have, under another policy that splits the work or treats it as
    one piece, as the first does: a shipped one, or one that behaves badly. `worst`: all at once, as late as they may, then as soon as
    they may, and as long as they may."""
    at_once = worst or random.random() < 0.4
    sources = []
    for source in made.scenario.sources:
        stream, models = source.stream, source.work.durations
        times = [100 - stream.jitter_ns if at_once else random.choice([0, random.randint(0, 50)])]
        for _ in range(random.randint(0, 9)):
            times.append(times[-1] + stream.period_ns + (0 if at_once or random.random() < 0.6 else random.randint(0, stream.period_ns)))
        law: Arrivals = Pattern(tuple(times), tuple(max(at, 100) for at in times)) if at_once else Releases(tuple(times), stream.jitter_ns)
        if at_once or random.random() < 0.5:
            models = tuple(Constant(stage.wcet_ns) for stage in stream.stages)
        elif random.random() < 0.5:
            models = tuple(Listed(tuple(random.randint(1, stage.wcet_ns) for _ in range(3))) for stage in stream.stages)
        sources.append(replace(source, arrivals=law, work=replace(source.work, durations=models)))
    made = replace(made, scenario=replace(made.scenario, sources=tuple(sources)), seed=random.randrange(1000), frames=10 * len(sources))
    if not made.policy().splits:
        return made
    seed, nasty = random.randrange(1000), random.choice([0.0, 0.02, 0.3, 1.0])
    spec = random.choice(SPLITTING)
    return made.with_policy(spec) if random.random() < 0.5 else replace(
        made, policy=lambda: Hostile(seed, nasty, True), spec=f"hostile {seed} {nasty}")

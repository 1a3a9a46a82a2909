"""What each policy is for shows over many frames; every shipped policy keeps the engine's rules and gives the same run again."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drive import drive, replayed
from imprecise import policies
from imprecise.draws import Constant, Listed, Periodic
from imprecise.engine import Engine
from imprecise.model import Curve, Reward, Stage, Stream
from imprecise.scenario import Outcomes, Scenario, Source, Workload, load
from imprecise.simulation import Log
from imprecise.simulator import simulate
from imprecise.statistics import mk_violations

MS = 10**6
SPECS = [*policies.names(), "monolithic:gate=0", "depth-dp:predictor=constant", "depth-dp:predictor=linear", "depth-dp:idle=0",
         "depth-dp:jobs=2,plans=3"]


def camera(name: str, period: int, deadline: int, refine: int, gain: float, **more) -> Source:
    """A camera whose mandatory stage takes 1 ms and is right at 0.5, and whose refinement of `refine` ms adds `gain`; all sure of 0.5."""
    stages = (Stage("m", "fpga", True, MS, MS), Stage(f"r{refine}", "cpu", False, refine * MS, refine * MS))
    flat = Curve((0.0,), (0.5,)), Curve((0.0,), (0.5 + gain,))
    reward = Reward(flat, {(0, 1): Curve((0.0,), (gain,))})
    work = Workload(stages, (Constant(MS), Constant(refine * MS)), reward, Outcomes(np.full((1, 2), 0.5), np.full((1, 2), True)))
    return Source(Stream(name, period * MS, deadline * MS, stages, reward=reward, **more), Periodic(period * MS), work)


def refined(scenario: Scenario, policy: str, frames: int = 600) -> dict[str, np.ndarray]:
    """For each stream, which of its frames were refined, in order."""
    result = simulate(scenario, policy, 0, frames)
    assert not result.policy_fault and not result.missed
    table = result.frames[np.lexsort((result.frames["frame"], result.frames["stream"]))]
    return {s.name: table["depth"][table["stream"] == i] > 0 for i, s in enumerate(scenario.streams)}


def test_dbp_keeps_mk_where_the_order_of_deadlines_breaks_it():
    """Each period holds one refinement, and `late` always has the later deadline: (1,2) for both needs them to take turns."""
    world = Scenario("turns", (camera("soon", 20, 16, 12, 0.1, mk=(1, 2)), camera("late", 20, 18, 12, 0.1, mk=(1, 2))),
                     {"fpga": 2, "cpu": 1})
    by_deadline = refined(world, "threshold:theta=1")
    assert by_deadline["soon"].all() and not by_deadline["late"].any()
    by_distance = refined(world, "dbp")
    for name in ("soon", "late"):
        assert by_distance[name].mean() >= 0.49
        assert mk_violations(~by_distance[name], 1, 2) == 0
        assert all(by_distance[name][i] or by_distance[name][i + 1] for i in range(len(by_distance[name]) - 1))


def test_dbp_gives_each_stream_what_its_mk_asks_for():
    """Three refinements in four periods to one stream and one in four to the other."""
    world = Scenario("shares", (camera("most", 20, 18, 12, 0.1, mk=(3, 4)), camera("some", 20, 18, 12, 0.1, mk=(1, 4))),
                     {"fpga": 2, "cpu": 1})
    found = refined(world, "dbp")
    for name, m in (("most", 3), ("some", 1)):
        windows = np.convolve(found[name], np.ones(4, dtype=int), "valid")
        assert windows.min() >= m, name


def test_min_quality_does_not_starve_the_rear_camera():
    """Front gains ten times as much per ms: what maximises utility leaves rear at 0.5, which wishes for 0.54 of at most 0.6."""
    front, rear = camera("front", 20, 18, 12, 0.4), camera("rear", 20, 18, 12, 0.1, quality=0.54)
    world = Scenario("starving", (front, rear), {"fpga": 2, "cpu": 1})
    assert not refined(world, "value-density")["rear"].any()
    assert refined(world, "depth-dp")["rear"].mean() < 0.1
    shares = refined(world, "min-quality")
    rear_quality = 0.5 + 0.1 * shares["rear"].mean()
    assert 0.539 <= rear_quality <= 0.545, "the wish, and not much more"
    assert shares["front"].mean() >= 0.58, "front has what is left"


def test_min_quality_without_wishes_is_value_density():
    world = load("made-up", load=2.0)
    runs = [simulate(world, policy, 3, 400).frames["depth"].tolist() for policy in ("min-quality", "value-density")]
    assert runs[0] == runs[1]


def test_knowing_more_about_gains_is_worth_more():
    """Oracle, calibrated curve, mean gain: on the same frames, in this order."""
    world = load("made-up", load=4.0)
    utility = {p: simulate(world, f"depth-dp:predictor={p}", 1, 1000, rows=False).utility
               for p in ("constant", "linear", "calibrated", "oracle")}
    assert utility["oracle"] > utility["calibrated"] + 0.001
    assert utility["calibrated"] > utility["constant"] + 0.01
    assert utility["linear"] == pytest.approx(utility["calibrated"], abs=0.001)  # made-up gains do fall linearly


def test_the_default_is_no_worse_than_any_other_policy():
    world = load("made-up", load=2.0)
    utility = {p: simulate(world, p, 2, 500, rows=False).utility for p in policies.names()}
    assert utility[policies.DEFAULT] > max(utility.values()) - 0.002, utility


@pytest.mark.parametrize("spec", SPECS)
def test_a_run_can_be_repeated(spec):
    world = replace(load("made-up", load=2.0), resources={"fpga": 1, "cpu": 1})
    one, two = (simulate(world, spec, 5, 150).frames for _ in range(2))
    assert one.tolist() == two.tolist()


# Rules ----------------------------------------------------------------------------------------------------------------

RANDOM = st.integers(0, 2**40).map(Random)
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(FEW, max_examples=200)


def streams(random: Random, kinds: tuple[str, ...]) -> list[Stream]:
    """Streams in small integers, with wishes and with rewards of any sign."""
    out = []
    for i in range(random.randint(1, 3)):
        kind, optional = random.choice(kinds), random.randint(0, 3)
        stages = [Stage(f"m{i}", "fpga", True, w := random.randint(1, 6), w)]
        stages += [Stage(f"o{i}.{k}", "cpu", False, w := random.randint(1, 15), random.randint(1, w)) for k in range(optional)]
        depths = 1 << optional if kind == "sieve" else optional + 1
        prior = tuple(random.random() for _ in range(depths)) if random.random() < 0.8 else ()
        m = random.randint(1, 4)
        out.append(Stream(f"s{i}", random.choice([0, random.randint(8, 60)]), random.randint(10, 90), tuple(stages), 0,
                          random.uniform(0.1, 4), Reward((), {}, prior), random.choice([(0, 0), (m, m + random.randint(0, 3))]),
                          random.choice([0.0, 0.6]), kind))
    return out


def check_rules(spec: str, random: Random) -> None:
    """With faults and late wake-ups: no fault of its own, every job closed once, the same actions from the same events."""
    set_, units, guard = streams(random, ("milestone",)), {"fpga": 1, "cpu": random.randint(1, 3)}, random.randint(0, 9)

    def make() -> Engine:
        return Engine(set_, units, policies.make(spec), guard)

    releases = []
    for i, stream in enumerate(set_):
        at = random.randint(0, 30)
        for frame in range(6):
            releases.append((at, at, i, frame))
            at += max(1, stream.period_ns) + random.choice([0, 0, 13])
    faulty, late, engine = random.choice([0.0, 0.0, 0.3]), random.choice([0, 3, 40]), make()
    run = drive(engine, sorted(releases), lambda job, stage: random.randint(0, stage.wcet_ns), lambda: random.randint(0, late),
                fault=lambda job, stage: random.choice(["failed", "abandoned"]) if random.random() < faulty else "")
    assert engine.policy_fault == ""
    assert sorted(run.closed) == list(range(len(releases))) and not engine.jobs
    assert [actions for _, _, actions in run.steps] == replayed(make, run)


def check_kinds(spec: str, random: Random) -> None:
    """No fault of its own, every frame closed, and no stage of a frame done twice."""
    sources = []
    for stream in streams(random, ("sieve", "version", "milestone")):
        stages = (Stage("shared", "cpu", True, 3, 3), *stream.stages[1:]) if random.random() < 0.5 else stream.stages
        work = Workload(stages, tuple(Listed((1, stage.wcet_ns)) for stage in stages), stream.reward, kind=stream.kind)
        sources.append(Source(replace(stream, stages=stages, period_ns=max(5, stream.period_ns)), Periodic(max(5, stream.period_ns)), work))
    world = Scenario("kinds", tuple(sources), {"fpga": 1, "cpu": random.randint(1, 2)}, preemptive=random.choice([(), ("cpu",)]))
    log = Log()
    result = simulate(world, spec, 0, 25, log=log)
    assert result.policy_fault == "" and result.captured == 25
    done = [(row.job, row.stage) for row in log.stages if row.status in ("done", "late")]
    assert len(done) == len(set(done))


@pytest.mark.parametrize("spec", SPECS)
@FEW
@given(RANDOM)
def test_every_policy_keeps_the_rules_and_can_be_replayed(spec: str, random: Random):
    check_rules(spec, random)


@pytest.mark.parametrize("spec", SPECS)
@FEW
@given(RANDOM)
def test_every_policy_handles_sieves_versions_and_interrupted_stages(spec: str, random: Random):
    check_kinds(spec, random)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_rules, check_kinds])
@pytest.mark.parametrize("spec", SPECS)
@MANY
@given(random=RANDOM)
def test_every_policy_over_many_scenarios(check, spec: str, random: Random):
    check(spec, random)

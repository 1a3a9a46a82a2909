"""`priced-density` chooses what a plain version of its rule chooses, dares what has a chance, and keeps the unit for what is worth more."""

from dataclasses import replace

import numpy as np
import pytest

from imprecise.draws import Empirical
from imprecise.durations import SlidingQuantile
from imprecise.engine import Engine
from imprecise.model import Curve, Job, Reward, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.policies.priced_density import PricedDensity
from imprecise.scenario import load
from imprecise.simulator import simulate

MS = 1_000_000


class Plain(Policy):
    """The rule from its words, for milestones: windows of 64 kept apart from the engine's."""

    quantile = PricedDensity.quantile

    def __init__(self, rate=0.02):
        self.rate, self.price = rate, 0.0

    def wants(self, job, engine):
        return max(job.gains()) > 0

    def pick(self, ready, engine):
        found = []
        for job in ready:
            took = [np.array(engine.estimates[stage.name]._order) for stage in job.stream.stages[job.next:]]
            chances, before = [], 0.0
            for times in took:
                chances.append(np.mean(times <= job.publish_ns - engine.now_ns - before))
                before += times.mean()
            reached = np.cumprod(chances)
            gained = np.diff([0.0, *job.gains()])
            spent = [times.mean() * share for times, share in zip(took, [1.0, *reached[:-1]])]
            for k in range(len(took)):
                value, cost = sum(reached[:k + 1] * gained[:k + 1]), sum(spent[:k + 1])
                if value > 0 and reached[k] > 0:
                    found.append((value / cost, -job.deadline_ns, -job.id, job))
        if not found or max(found)[0] <= self.price:
            return None
        return max(found)[3]

    def closed(self, job, engine):
        left = [0.0]
        time = 0.0
        if job.done < len(job.stream.stages):
            for stage, gain in zip(job.stream.stages[job.next:], job.gains()):
                time += np.mean(engine.estimates[stage.name]._order)
                left.append(gain / time)
        if job.depth >= 0:
            self.price = (1 - self.rate) * self.price + self.rate * max(left)


@pytest.mark.parametrize("load_", [0.7, 1.5, 4.0])
@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_the_choices_are_those_of_the_plain_rule(load_, rate):
    world = replace(load("made-up", load=load_), resources={"fpga": 1, "cpu": 1})
    seen = {}
    for base in (Plain, PricedDensity):
        def pick(self, ready, engine, base=base):
            choice = base.pick(self, ready, engine)
            seen.setdefault(base, []).append((engine.now_ns, choice and choice.id, self.price))
            return choice

        result = simulate(world, type("Seen", (base,), {"pick": pick})(rate), 3, 500)
        assert not result.policy_fault
    plain, ours = np.array(seen[Plain], float), np.array(seen[PricedDensity], float)
    assert len(plain) > 100 and np.isnan(plain[:, 1]).any() and len(np.unique(plain[:, 1])) > 100
    np.testing.assert_array_equal(plain[:, :2], ours[:, :2])
    np.testing.assert_allclose(plain[:, 2], ours[:, 2], rtol=1e-9)


def engine_with(now_ns, **times):
    """An engine at a time, whose windows hold these durations of its stages."""
    stages = (Stage("m", "fpga", True, MS), *(Stage(name, "cpu", False, MS) for name in times))
    engine = Engine([Stream("c", 33 * MS, 33 * MS, stages)], {"fpga": 1, "cpu": 1}, PricedDensity())
    engine.now_ns = now_ns
    for name, values in times.items():
        engine.estimates[name] = SlidingQuantile(values[0], 0.05, len(values))
        for value in values:
            engine.estimates[name].add(value)
    return engine


def job(id, gain, deadline_ms=33, stage="s"):
    """A job with its mandatory answer and one optional stage of a known gain."""
    reward = Reward(correct=(Curve((0.0, 1.0), (0.0, 1.0)),) * 2, gain={(0, 1): Curve((0.0,), (gain,))})
    stream = Stream("c", 33 * MS, deadline_ms * MS, (Stage("m", "fpga", True, MS), Stage(stage, "cpu", False, MS)), reward=reward)
    made = Job(id, 0, stream, id, 0, 0, (0,))
    made.finish()
    made.confidence = 0.5
    return made


def test_a_likely_gain_goes_before_a_larger_one_with_little_chance():
    policy = PricedDensity()
    world = engine_with(23 * MS, short=[8 * MS] * 10, long=[8 * MS] + [20 * MS] * 9)  # 10 ms are left
    assert policy.pick([job(0, 0.3, stage="long"), job(1, 0.1, stage="short")], world).id == 1
    assert policy.pick([job(0, 0.3, stage="long")], world).id == 0  # a chance of 1 in 10 is better than none


def test_the_unit_is_kept_where_time_is_worth_more_than_the_gain():
    policy = PricedDensity(rate=0.5)
    world = engine_with(0, s=[10 * MS] * 8)
    policy.closed(job(9, 0.4), world)
    assert policy.price == pytest.approx(0.5 * 0.4 / (10 * MS))
    assert policy.pick([job(0, 0.19)], world) is None and policy.pick([job(0, 0.21)], world).id == 0
    for id in range(3):
        full = job(id, 0.4)
        full.finish()
        policy.closed(full, world)
    assert policy.price == pytest.approx(0.5 ** 4 * 0.4 / (10 * MS))  # what lacks nothing brings the price down


def test_long_stages_of_unknown_length_are_dared_where_the_slack_test_at_95_percent_would_refuse_them():
    world = load("made-up", load=1.0)
    slow = Empirical((4 * MS, 40 * MS))  # of which only one is in time
    world = replace(world, sources=tuple(
        replace(source, work=replace(source.work, durations=(*source.work.durations[:-1], slow))) for source in world.sources))
    dares = simulate(world, PricedDensity(), 1, 2000, rows=False)
    timid = simulate(world, PricedDensity(), 1, 2000, rows=False, options={"quantile": 0.95})
    assert dares.utility > timid.utility and dares.missed == timid.missed == 0

"""`depth-dp` on one worker chooses, decision by decision, what a plain version of the same rule chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imprecise.policies.base import Policy
from imprecise.policies.depth_dp import DepthDP
from imprecise.scenario import load
from imprecise.simulator import simulate


class Plain(Policy):
    """The rule without any short cut: every plan written out, jobs as sets of ids, no fast path."""

    quantile = DepthDP.quantile

    def __init__(self, jobs=6, plans=12, rate=0.05, idle=False):
        self.jobs, self.plans, self.rate, self.idle, self.price = jobs, plans, rate, idle, 0.0

    def wants(self, job, engine):
        return any(gain > 0 or (self.idle and gain == 0) for gain in job.gains())

    def pick(self, ready, engine):
        options = []
        for job in ready:
            time, steps = 0, []
            for stage, gain in zip(job.stream.stages[job.next:], job.gains()):
                time += engine.estimate_ns(stage)
                if gain > 0 and engine.now_ns + time <= job.publish_ns:
                    steps.append((time, gain))
            if steps:
                options.append((max(gain / time for time, gain in steps), job, steps))
        if not options:
            return min(ready, key=lambda job: (job.confidence, job.deadline_ns, job.id)) if self.idle else None
        options.sort(key=lambda option: (-option[0], option[1].deadline_ns, option[1].id))
        chosen = self.plan(options[:self.jobs], engine.now_ns)
        left = [density for density, job, _ in options if job.id not in chosen]
        self.price += self.rate * (max(left, default=0.0) - self.price)
        return next((job for _, job, _ in options if job.id in chosen), options[0][1])

    def plan(self, options, now):
        plans = [(0, 0.0, frozenset())]
        for _, job, steps in sorted(options, key=lambda option: (option[1].publish_ns, option[1].id)):
            grown = [*plans, *((used + time, total + (gain - self.price * time), ids | {job.id})
                               for used, total, ids in plans for time, gain in steps
                               if gain - self.price * time > 0 and now + used + time <= job.publish_ns)]
            grown.sort(key=lambda plan: (plan[0], -plan[1]))
            plans = [plan for i, plan in enumerate(grown) if all(plan[1] > other[1] for other in grown[:i])]
            if len(plans) > self.plans:
                plans = [plans[round(i * (len(plans) - 1) / (self.plans - 1))] for i in range(self.plans)]
        return plans[-1][2]


def choices(base, world, seed, **parameters):
    """What a policy picked, when, and its price after it."""
    seen = []

    class Seen(base):
        def pick(self, ready, engine):
            choice = super().pick(ready, engine)
            seen.append((engine.now_ns, choice and choice.id, self.price))
            return choice

    result = simulate(world, Seen(**parameters), seed, 500)
    assert not result.policy_fault
    return seen


@pytest.mark.parametrize("load_", [0.7, 1.5, 4.0])
@pytest.mark.parametrize("parameters", [{}, {"jobs": 3, "plans": 4, "rate": 0.3}, {"jobs": 9, "plans": 3, "rate": 0.0, "idle": True}])
def test_the_choices_are_those_of_the_plain_rule_to_the_last_bit(load_, parameters):
    world = replace(load("made-up", load=load_), resources={"fpga": 1, "cpu": 1})
    plain = choices(Plain, world, 3, **parameters)
    assert len(plain) > 100 and len({choice for _, choice, _ in plain}) > 100
    assert choices(DepthDP, world, 3, **parameters) == plain


def test_equal_gains_are_told_apart_as_by_the_plain_rule():
    """Where all frames gain the same, plans tie all the time, and the first found must win in both."""
    world = replace(load("made-up", load=3.0), resources={"fpga": 1, "cpu": 1})
    sources = tuple(replace(source, stream=replace(source.stream, reward=replace(source.stream.reward, gain={})))
                    for source in world.sources)
    world = replace(world, sources=sources)
    plain = choices(Plain, world, 1)
    assert len(plain) > 100 and choices(DepthDP, world, 1) == plain

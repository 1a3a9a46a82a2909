"""The engine's rules under random streams, policies (hostile ones too), faults and late wake-ups; and that what is admitted is
never missed."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drive import Run, drive, replayed
from imprecise.admission import Certificate, admit_run, recheck
from imprecise.engine import Engine
from imprecise.model import Event, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.policies.fifo_gated import FifoGated
from imprecise.policies.least_confident import LeastConfident
from imprecise.policies.mandatory_only import MandatoryOnly
from imprecise.policies.monolithic import Monolithic

SLOW = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
RANDOM = st.integers(0, 2**40).map(Random)


class Hostile(Policy):
    """Picks at random, and now and then raises, answers nonsense, or names a job that is not ready."""

    name = "hostile"

    def __init__(self, seed: int, nasty: float):
        self.random = Random(seed)
        self.nasty = nasty

    def wants(self, job, engine):
        if self.random.random() < self.nasty / 4:
            raise RuntimeError("no")
        return self.random.choice([True, True, False, 1, None])

    def pick(self, ready, engine):
        if self.random.random() < self.nasty:
            return self.random.choice([self._raise, lambda: 42, lambda: next(iter(engine.jobs.values())), lambda: None])()
        return self.random.choice([*ready, None])

    def _raise(self):
        raise KeyError("nothing here")


def policy(random: Random) -> Policy:
    """A fresh policy, the same for the same state of `random`."""
    kind = random.randrange(6)
    seed = random.randrange(1000)
    return [FifoGated, LeastConfident, MandatoryOnly, lambda: Hostile(seed, 0.0), lambda: Hostile(seed, 0.2),
            lambda: Hostile(seed, 1.0)][kind]()


def streams(random: Random, mandatory: tuple[str, ...], most: int = 3) -> list[Stream]:
    """Some streams in small integers. The mandatory stages run on these resources in turn, optional ones on cpu."""
    out = []
    for i in range(random.randint(1, most)):
        needed = [Stage(f"m{i}.{k}", r, True, w := random.randint(1, 6), w) for k, r in enumerate(mandatory)]
        deeper = [Stage(f"o{i}.{k}", "cpu", False, w := random.randint(1, 15), random.randint(1, w))
                  for k in range(random.randint(0, 3))]
        period = random.randint(8, 60)
        out.append(Stream(f"s{i}", period, random.randint(10, 90), tuple(needed + deeper), random.choice([0, 0, 2, 5, 20])))
    return out


def releases(random: Random, streams: list[Stream], n: int, legal: bool = True) -> list[tuple[int, int, int, int]]:
    """Sporadic releases, often as early as they may, with arrivals within the jitter, in order."""
    out = []
    for i, stream in enumerate(streams):
        at, last = random.choice([0, random.randint(0, 40)]) + max(s.jitter_ns for s in streams) - stream.jitter_ns, 0
        for k in range(n):
            late = stream.jitter_ns if (k == 0 and random.random() < 0.7) else random.choice([0, random.randint(0, stream.jitter_ns)])
            arrives = max(last, at + late)
            arrives = arrives if legal else max(last, arrives + random.choice([0, 0, 0, 50]))
            out.append((at, arrives, i, k))
            last = arrives
            at += (stream.period_ns if legal else random.randint(1, stream.period_ns)) + random.choice([0, 0, random.randint(0, 20)])
    return out


def stage_time(random: Random, overrun: bool = False):
    """Up to the worst case, often all of it; with `overrun`, at times three times as long."""
    def duration(job, stage):
        worst = stage.wcet_ns * (3 if overrun and random.random() < 0.2 else 1)
        return worst if random.random() < 0.6 else random.randint(0, worst)

    return duration


def assert_all_closed(run: Run, engine: Engine, count: int) -> None:
    """Each job has exactly one publish or miss, in time where the engine was stepped in time, and nothing is left over."""
    assert sorted(run.closed) == list(range(count))
    assert not engine.jobs, "a job was never closed"
    published = sum(kind == "publish" for kind, _, _ in run.closed.values())
    assert published + len(run.missed) == count


# Rules ----------------------------------------------------------------------------------------------------------------


@SLOW
@given(RANDOM)
def test_rules_hold_under_any_policy_fault_and_lateness(random: Random) -> None:
    """One stage a unit, none before its release or predecessor, mandatory first, one end a job, and no job is ever stuck."""
    mandatory = random.choice([("fpga",), ("cpu",), ("cpu", "fpga"), ("cpu", "fpga", "cpu"), ("fpga", "fpga")])
    set_ = streams(random, mandatory)
    units = {"fpga": random.randint(1, 2), "cpu": random.randint(1, 3)}
    guard = random.randint(0, 9)
    blocking = random.choice([None, {"cpu": random.randint(-1, 20)}])
    yields = random.choice([None, {"cpu": ("fpga",)}])
    seed = random.randrange(10**9)
    splits = random.random() < 0.8

    def make() -> Engine:
        return Engine(set_, units, policy(Random(seed)) if splits else Monolithic(), guard, blocking, yields=yields)

    engine = make()
    n = random.randint(1, 8)
    arrivals = releases(random, set_, n, legal=False)
    faulty = random.choice([0.0, 0.1, 0.6])
    late = random.choice([0, 0, 3, 100])
    horizon = max(a[1] for a in arrivals) + 50
    extra = []
    for _ in range(random.choice([0, 0, 4])):
        resource = random.choice(sorted(units))
        unit, at = random.randrange(units[resource]), random.randrange(horizon)
        extra += [(at, Event("lost", at, resource=resource, unit=unit)),
                  (back := at + random.randint(0, 60), Event("back", back, resource=resource, unit=unit))]
    if random.random() < 0.3:  # a worker that was given up answers after all
        at = random.randrange(horizon)
        extra.append((at, Event(random.choice(["done", "failed", "abandoned"]), at, job=random.randrange(9), stage=7,
                                resource=random.choice(sorted(units)), unit=0)))
    run = drive(engine, arrivals, stage_time(random, overrun=True), lambda: random.randint(0, late),
                fault=lambda job, stage: random.choice(["failed", "abandoned"]) if random.random() < faulty else "", extra=extra)
    assert_all_closed(run, engine, len(arrivals))
    if not late:
        for id_, (_, _, when) in run.closed.items():
            job = run.jobs.get(id_)
            assert job is None or when <= job.deadline_ns
    assert [actions for _, _, actions in run.steps] == replayed(make, run)


# Guarantees -----------------------------------------------------------------------------------------------------------

SHAPES = {
    "own resource": (("fpga",), {"fpga": 1, "cpu": 2}, dict(shared=False, preempted=False)),
    "in line": (("fpga",), {"fpga": 1, "cpu": 2}, dict(shared=True, preempted=True, inline=("fpga",))),
    "one resource": (("cpu",), {"cpu": 1}, dict(shared=False, preempted=False)),
    "two workers": (("cpu",), {"cpu": 2}, dict(shared=False, preempted=False)),
    "two in a row": (("fpga", "fpga"), {"fpga": 1, "cpu": 1}, dict(shared=False, preempted=False)),
    "pipeline": (("cpu", "fpga", "cpu"), {"fpga": 1, "cpu": 1}, dict(shared=False, preempted=False, inline=("fpga",))),
    "pipeline of workers": (("pre", "fpga", "cpu"), {"pre": 1, "fpga": 1, "cpu": 2}, dict(shared=False, preempted=False)),
    "one core": (("fpga",), {"fpga": 1, "cpu": 2}, dict(shared=True, preempted=False, inline=("fpga",))),
}


def tightened(random: Random, set_: list[Stream], ask) -> list[Stream] | None:
    """The same streams with deadlines cut, one after the other, to the least with which `ask` still says yes."""
    if not ask(set_):
        return None
    for i in random.sample(range(len(set_)), len(set_)):
        low, high = 0, set_[i].deadline_ns
        while high - low > 1:
            middle = (low + high) // 2
            if ask([*set_[:i], replace(set_[i], deadline_ns=middle), *set_[i + 1:]]):
                high = middle
            else:
                low = middle
        set_ = [*set_[:i], replace(set_[i], deadline_ns=high), *set_[i + 1:]]
    return set_


def worst_releases(random: Random, set_: list[Stream], n: int) -> list[tuple[int, int, int, int]]:
    """All streams arrive together, as late as they may, then as soon as they may; at times one of them a little before."""
    lead = random.choice([1, random.randint(1, 25)])
    start, out = 50 + max(s.jitter_ns for s in set_), []
    first = random.choice([-1, *range(len(set_))])
    for i, stream in enumerate(set_):
        at = start - lead if i == first else start - stream.jitter_ns
        for k in range(n):
            out.append((at, at if i == first else max(at, start), i, k))
            at += stream.period_ns
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_an_admitted_set_misses_nothing_under_any_policy(shape: str) -> None:
    """Legal arrivals, times up to the worst case, wake-ups as late as assumed, any policy: no miss in any admitted set.

    Sets are tight: deadlines are the least that admission takes, with optional stages as long as it allows.
    """
    mandatory, units, how = SHAPES[shape]
    sets = jobs = deeper = 0
    for seed in range(400):
        if sets == 50:
            break
        random = Random(seed)
        set_ = [replace(s, deadline_ns=400, period_ns=s.period_ns * len(mandatory), jitter_ns=random.choice([0, s.jitter_ns]))
                for s in streams(random, mandatory, most=3 if len(mandatory) < 3 else 2)]
        wakeup = random.choice([0, 0, 1, 4])
        held = max(stage.wcet_ns for s in set_ for stage in s.stages if stage.mandatory) if "inline" in how else 0
        want = random.randint(1, 12)
        guard = wakeup + held + random.choice([0, 5]) + (2 * want if shape == "one core" else 0)

        def ask(set_: list[Stream], guard=guard, wakeup=wakeup, want=want) -> bool:
            answer = admit_run(set_, units, guard, wakeup, **how)
            return answer.admitted and all(limit >= want for limit in answer.blocking_ns.values())

        set_ = tightened(random, set_, ask if random.random() < 0.8 else lambda s: len({x.deadline_ns for x in s}) == 1 and ask(s))
        if set_ is None:
            continue
        sets += 1
        limit = max(1, *admit_run(set_, units, guard, wakeup, **how).blocking_ns.values(), 1)
        set_ = [replace(s, stages=tuple(st if st.mandatory else replace(st, wcet_ns=limit, typical_ns=random.randint(1, limit))
                                        for st in s.stages)) for s in set_]
        admission = admit_run(set_, units, guard, wakeup, **how)
        assert admission.admitted and all(isinstance(c, Certificate) and recheck(c) for c in admission.certificates.values())
        for pattern in range(12):
            engine = Engine(set_, units, policy(random), guard, **admission.engine_options())
            arrivals = worst_releases(random, set_, 6) if pattern % 2 else releases(random, set_, 8)
            full = pattern % 3 == 0
            run = drive(engine, arrivals, (lambda job, stage: stage.wcet_ns) if full else stage_time(random),
                        lambda r=random, w=wakeup, full=full: w if full else r.randint(0, w),
                        inline=how.get("inline", ()), one_core=shape == "one core")
            assert_all_closed(run, engine, len(arrivals))
            assert not run.missed, f"seed {seed}, pattern {pattern}: jobs {run.missed} of an admitted set missed"
            for id_, seen in run.done.items():
                assert seen <= run.jobs[id_].publish_ns, f"seed {seed}, pattern {pattern}: job {id_} was ready late"
            jobs += len(arrivals)
            deeper += sum(depth > 0 for _, depth, _ in run.closed.values())
    assert sets >= 40 and jobs > 5000, f"only {sets} sets were admitted: the test says little"
    assert deeper > 100, "optional stages hardly ran: the test says little"


def test_without_the_blocking_limit_an_admitted_set_can_miss() -> None:
    """The limit matters: the same runs on a shared resource, but without what admission gave the engine, do miss."""
    mandatory, units, how = SHAPES["one resource"]
    missed = 0
    for seed in range(600):
        random = Random(seed)
        set_ = streams(random, mandatory)
        if not admit_run(set_, units, 0, 0, **how).admitted:
            continue
        engine = Engine(set_, units, FifoGated())
        missed += len(drive(engine, releases(random, set_, 12), stage_time(random)).missed)
    assert missed > 0

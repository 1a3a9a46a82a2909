"""The engine, case by case. Rules under random load are in `tests/sim/test_engine_invariants.py`."""

from __future__ import annotations

import pytest

from imprecise.engine import ATTEMPTS, Engine
from imprecise.model import Action, Event, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.policies.fifo_gated import FifoGated
from imprecise.policies.mandatory_only import MandatoryOnly

M, O1, O2 = Stage("m", "fpga", True, 4, 4), Stage("o1", "cpu", False, 6, 6), Stage("o2", "cpu", False, 6, 6)


def engine(policy: Policy | None = None, stages: tuple[Stage, ...] = (M, O1), streams: int = 1, cpu: int = 1, **options) -> Engine:
    options = {"guard_ns": 2, **options}
    return Engine([Stream(f"s{i}", 50, 30, stages) for i in range(streams)], {"fpga": 1, "cpu": cpu}, policy or FifoGated(), **options)


def release(stream: int = 0, at: int = 0) -> Event:
    return Event("release", at, stream=stream, frame=0)


def ended(kind: str, at: int, job: int = 0, stage: int = 0, resource: str = "fpga", unit: int = 0) -> Event:
    return Event(kind, at, job=job, stage=stage, resource=resource, unit=unit, value=0.5)


def start(job: int, stage: int, resource: str, unit: int = 0) -> Action:
    return Action("start", job, stage, resource, unit)


def test_a_frame_goes_through_its_stages_and_is_published_when_nothing_is_left() -> None:
    e = engine()
    assert e.step(0, [release()]) == [start(0, 0, "fpga"), Action("wake", at_ns=28)]
    assert e.step(4, [ended("done", 4)]) == [start(0, 1, "cpu")]
    assert e.step(10, [ended("done", 10, 0, 1, "cpu")]) == [Action("publish", 0, depth=1)]
    assert not e.jobs


def test_the_answer_so_far_is_published_at_deadline_less_guard_and_a_late_stage_is_discarded() -> None:
    e = engine()
    e.step(0, [release()])
    e.step(4, [ended("done", 4)])
    assert e.step(28) == [Action("publish", 0, depth=0)]
    assert e.jobs and e.step(29, [ended("done", 29, 0, 1, "cpu")]) == [] and e.discarded == 1 and not e.jobs


def test_a_mandatory_part_that_ends_in_the_guard_still_makes_it_and_one_after_the_deadline_does_not() -> None:
    e = engine(MandatoryOnly())
    e.step(0, [release()])
    assert e.step(28) == [Action("wake", at_ns=30)]
    assert e.step(30, [ended("done", 30)]) == [Action("publish", 0, depth=0)]
    e = engine(MandatoryOnly())
    e.step(0, [release()])
    assert e.step(30) == [Action("miss", 0, depth=-1)]
    assert e.step(31, [ended("done", 31)]) == [] and not e.jobs


def test_an_answer_that_the_engine_sees_after_the_deadline_is_a_miss() -> None:
    e = engine()
    e.step(0, [release()])
    e.step(4, [ended("done", 4)])
    assert Action("miss", 0, depth=0) in e.step(31)


def test_mandatory_work_goes_by_local_deadline_where_there_is_one() -> None:
    stages = (Stage("pre", "cpu", True, 2, 2), M)
    streams = [Stream("a", 50, 40, stages), Stream("b", 50, 30, stages), Stream("c", 50, 35, stages)]
    for local, order in (({}, [1, 2, 0]), ({(0, 0): 5, (1, 0): 20, (2, 0): 10}, [0, 2, 1])):
        e = Engine(streams, {"fpga": 1, "cpu": 1}, MandatoryOnly(), local_ns=local)
        e.step(0, [Event("lost", 0, resource="cpu", unit=0), release(0), release(1), release(2)])
        got = [a.job for a in e.step(1, [Event("back", 1, resource="cpu", unit=0)]) if a.kind == "start"]
        for at in (3, 5):
            got += [a.job for a in e.step(at, [ended("done", at, got[-1], 0, "cpu")]) if a.kind == "start" and a.resource == "cpu"]
        assert got == order


def test_an_optional_stage_is_held_to_the_blocking_limit_by_its_worst_case_too() -> None:
    for limit, starts in ((5, False), (6, True)):
        e = engine(stages=(M, Stage("o", "cpu", False, wcet_ns=6, typical_ns=1)), blocking_ns={"cpu": limit})
        e.step(0, [release()])
        assert bool(e.step(4, [ended("done", 4)])) is starts


def test_no_optional_stage_starts_while_the_resource_it_yields_to_has_mandatory_work() -> None:
    e = engine(streams=2, yields={"cpu": ("fpga",)})
    e.step(0, [release(0), release(1)])
    assert e.step(4, [ended("done", 4)]) == [start(1, 0, "fpga")]
    assert e.step(8, [ended("done", 8, 1)]) == [start(0, 1, "cpu")]


def test_a_failed_mandatory_stage_is_tried_again_but_not_for_ever() -> None:
    e = engine(MandatoryOnly())
    starts = [a for a in e.step(0, [release()]) if a.kind == "start"]
    for at in range(1, 10):
        if not any(job.running for job in e.jobs.values()):
            break
        starts += [a for a in e.step(at, [ended("failed", at)]) if a.kind == "start"]
    assert starts == [start(0, 0, "fpga")] * ATTEMPTS
    e.step(28)
    assert e.step(30) == [Action("miss", 0, depth=-1)] and not e.jobs


def test_each_mandatory_stage_of_a_frame_has_attempts_of_its_own() -> None:
    e = engine(MandatoryOnly(), stages=(M, Stage("m1", "fpga", True, 4, 4)))
    starts = [a for a in e.step(0, [release()]) if a.kind == "start"]
    for at, kind in enumerate(("failed", "failed", "done", "failed", "failed", "done"), 1):
        starts += [a for a in e.step(at, [ended(kind, at, stage=starts[-1].stage)]) if a.kind == "start"]
    assert [a.stage for a in starts] == [0, 0, 0, 1, 1, 1] and not e.jobs


def test_a_failed_optional_stage_publishes_what_there_is() -> None:
    e = engine(stages=(M, O1, O2))
    e.step(0, [release()])
    e.step(4, [ended("done", 4)])
    assert e.step(6, [ended("failed", 6, 0, 1, "cpu")]) == [Action("publish", 0, depth=0)]


def test_an_abandoned_unit_takes_no_work_until_it_is_back() -> None:
    e = engine(streams=2)
    e.step(0, [release(0), release(1)])
    assert e.step(3, [ended("abandoned", 3)]) == []
    assert e.step(9, [Event("back", 9, resource="fpga", unit=0)]) == [start(0, 0, "fpga")]


def test_an_answer_from_a_stage_that_was_given_up_counts_for_nobody() -> None:
    """The unit was lost and is back with another job; then the old stage answers after all."""
    e = engine(streams=2)
    e.step(0, [release(0)])
    e.step(1, [Event("lost", 1, resource="fpga", unit=0)])
    e.step(2, [release(1, 2)])
    assert e.step(5, [Event("back", 5, resource="fpga", unit=0)]) == [start(0, 0, "fpga")]
    for event in (ended("done", 6, 1, 0), ended("done", 6, 0, 1), ended("failed", 6, 7), ended("abandoned", 6, 3),
                  ended("done", 6, 0, 0, "cpu")):
        assert e.step(6, [event]) == []
    assert e.stale == 5 and e.jobs[0].done == 0
    assert start(1, 0, "fpga") in e.step(9, [ended("done", 9)])


def test_what_is_interrupted_goes_on_at_once_on_another_unit() -> None:
    """The urgent stage may run on unit 0 only, where the other one runs; unit 1 is free."""
    streams = [Stream("a", 50, 40, (M,)), Stream("b", 50, 20, (Stage("b", "fpga", True, 4, 4, units=(0,)),))]
    e = Engine(streams, {"fpga": 2}, MandatoryOnly(), preemptive=("fpga",))
    assert start(0, 0, "fpga", 0) in e.step(0, [release(0)])
    actions = e.step(1, [release(1, 1)])
    assert actions[:3] == [Action("preempt", 0, 0, "fpga", 0), start(1, 0, "fpga", 0), start(0, 0, "fpga", 1)]


def test_a_step_of_a_sieve_is_waited_for_while_its_unit_is_busy_though_another_no_longer_fits() -> None:
    sieve = Stream("s", 50, 30, (M, Stage("o1", "cpu", False, 6, 6, units=(0,)), Stage("o2", "cpu", False, 99, 99)), kind="sieve")
    e = Engine([sieve, sieve], {"fpga": 1, "cpu": 2}, FifoGated(), 2)
    e.step(0, [release(0), release(1)])
    assert start(0, 1, "cpu", 0) in e.step(4, [ended("done", 4)])
    assert e.step(8, [ended("done", 8, 1)]) == []
    assert e.step(10, [ended("done", 10, 0, 1, "cpu")]) == [Action("publish", 0, depth=1), start(1, 1, "cpu", 0)]


def test_a_version_that_was_interrupted_goes_on_whatever_the_policy_would_rather_start() -> None:
    """What it has had belongs to it, and not to another version."""
    asked = [1, 2]
    streams = [Stream("v", 50, 40, (M, O1, O2), kind="version"), Stream("u", 50, 20, (Stage("u", "cpu", True, 3, 3),))]
    e = Engine(streams, {"fpga": 1, "cpu": 1}, Odd(lambda j: True, lambda r: (r[0], asked.pop(0))), preemptive=("cpu",))
    e.step(0, [release()])
    assert e.step(4, [ended("done", 4)]) == [start(0, 1, "cpu")]
    assert e.step(5, [release(1, 5)])[:2] == [Action("preempt", 0, 1, "cpu", 0), start(1, 0, "cpu")]
    assert start(0, 1, "cpu") in e.step(8, [ended("done", 8, 1, 0, "cpu")])
    assert Action("publish", 0, depth=1) in e.step(13, [ended("done", 13, 0, 1, "cpu")]) and e.estimate_ns(O1) == 6


class Odd(Policy):
    """Does what it is told to."""

    def __init__(self, wants, pick):
        self._wants, self._pick = wants, pick

    def wants(self, job, engine):
        return self._wants(job)

    def pick(self, ready, engine):
        return self._pick(ready)


def fail(*_):
    raise RuntimeError("boom")


@pytest.mark.parametrize(("wants", "pick", "fault"), [
    (fail, None, "RuntimeError: boom"),
    (lambda j: True, fail, "RuntimeError: boom"),
    (lambda j: True, lambda r: 42, "chose a int, which is not ready"),
    (lambda j: True, lambda r: "job", "not ready"),
])
def test_a_policy_at_fault_is_switched_off_and_mandatory_work_goes_on(wants, pick, fault) -> None:
    e = engine(Odd(wants, pick), streams=2)
    e.step(0, [release(0), release(1)])
    first = e.step(4, [ended("done", 4)])
    assert fault in e.policy_fault and start(1, 0, "fpga") in first
    e.step(8, [ended("done", 8, 1)])
    e.step(28)
    assert not e.jobs


def test_a_policy_that_wants_no_more_publishes_at_once_and_odd_truth_values_are_taken() -> None:
    e = engine(Odd(lambda j: 0, fail))
    e.step(0, [release()])
    assert e.step(4, [ended("done", 4)]) == [Action("publish", 0, depth=0)] and not e.policy_fault
    e = engine(Odd(lambda j: [1], lambda r: None))
    e.step(0, [release()])
    assert e.step(4, [ended("done", 4)]) == [] and e.step(28) == [Action("publish", 0, depth=0)]


def test_what_is_wrong_with_the_set_up_is_said() -> None:
    with pytest.raises(ValueError, match="guard"):
        engine(guard_ns=30)
    with pytest.raises(ValueError, match="dsp"):
        Engine([Stream("s", 1, 1, (Stage("m", "dsp", True),))], {"fpga": 1}, FifoGated())
    e = engine()
    e.step(5)
    with pytest.raises(ValueError, match="went back"):
        e.step(4)
    with pytest.raises(ValueError, match="'begun'"):
        e.step(5, [Event("begun", 5, resource="cpu", unit=0)])

"""Admission on one resource: against an exhaustive search, with certificates rechecked and counter-examples replayed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations_with_replacement
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drive import drive
from imprecise.admission import Certificate, CounterExample, NotProven, Task, admit, least_deadline, longest_optional_stage, recheck
from imprecise.engine import Engine
from imprecise.model import Stage, Stream
from imprecise.policies.mandatory_only import MandatoryOnly
from sporadic import can_miss

Tuple4 = tuple[int, int, int, int]


def random_set(random: Random, jitter: int, period: int = 6, heavy: bool = False) -> list[Tuple4]:
    """One to three small tasks (C, T, D, J)."""
    out = []
    n = random.choice([1, 2, 2, 3, 3])
    for _ in range(n):
        t = random.randint(1, period)
        c = random.randint(1, t if heavy or n == 1 else max(1, t // 2))
        out.append((c, t, random.randint(c, t + 4), random.randint(0, jitter)))
    return out


def replay(found: CounterExample) -> bool:
    """Whether the engine, with every stage at its worst case, misses a deadline in this pattern."""
    streams = [Stream(f"s{i}", t.period_ns, t.deadline_ns, (Stage(f"m{i}", "fpga", True, t.cost_ns, t.cost_ns),), t.jitter_ns)
               for i, t in enumerate(found.tasks)]
    frames: Counter[int] = Counter()
    releases = []
    last: dict[int, tuple[int, int]] = {}
    for task, release, arrival in found.arrivals:
        t = found.tasks[task]
        assert 0 <= release <= arrival <= release + t.jitter_ns, "an arrival outside its jitter"
        if task in last:
            assert release - last[task][0] >= t.period_ns and arrival >= last[task][1], "two releases too close"
        last[task] = release, arrival
        releases.append((release, arrival, task, frames[task]))
        frames[task] += 1
    engine = Engine(streams, {"fpga": 1}, MandatoryOnly())
    return bool(drive(engine, releases, lambda job, stage: stage.wcet_ns).missed)


# Against the search ---------------------------------------------------------------------------------------------------


def test_every_pair_of_small_tasks_is_decided_as_by_exhaustive_search() -> None:
    tasks = [(c, t, d, 0) for t in range(1, 5) for c in range(1, t + 1) for d in range(c, t + 3)]
    counts: Counter[bool] = Counter()
    for pair in combinations_with_replacement(tasks, 2):
        verdict = admit(pair)
        missed = can_miss(pair)
        assert missed is isinstance(verdict, CounterExample) and not isinstance(verdict, NotProven), (pair, verdict, missed)
        counts[missed] += 1
    assert counts[True] > 300 and counts[False] > 200


@pytest.mark.parametrize("resource", ["np-edf", "p-edf"])
@pytest.mark.parametrize("jitter", [0, 3])
def test_random_sets_are_decided_as_by_exhaustive_search(resource: str, jitter: int) -> None:
    random = Random(jitter)
    counts: Counter[bool] = Counter()
    for _ in range(700):
        tasks = random_set(random, jitter)
        verdict = admit(tasks, resource)
        missed = can_miss(tasks, resource == "p-edf", most=5000)
        if missed is None:
            continue
        assert missed is isinstance(verdict, CounterExample) and not isinstance(verdict, NotProven), (tasks, verdict, missed)
        counts[missed] += 1
    assert min(counts[True], counts[False]) > 150


def test_shorter_jobs_do_no_harm() -> None:
    random = Random(7)
    counts: Counter[bool | None] = Counter()
    for _ in range(300):
        tasks = random_set(random, 2, 5)
        if isinstance(admit(tasks), Certificate):
            missed = can_miss(tasks, shorter=True, most=5000)
            assert not missed, tasks
            counts[missed] += 1
    assert counts[False] > 80


def test_several_units_are_never_admitted_wrongly() -> None:
    random = Random(3)
    counts: Counter[bool | None] = Counter()
    for _ in range(800):
        tasks = random_set(random, 1, 5, heavy=True)
        verdict = admit(tasks, units=2)
        if isinstance(verdict, Certificate):
            assert recheck(verdict)
            missed = can_miss(tasks, units=2, most=4000)
            assert not missed, (tasks, verdict)
            counts[missed] += 1
            assert not recheck(replace(verdict, demand_ns=verdict.demand_ns - 1))
    assert counts[False] > 150


def test_the_longest_optional_stage_is_right_to_a_tick() -> None:
    """Foreign work of q ticks never harms, of q + 2 always may (the formula counts it whole, time is discrete)."""
    random = Random(11)
    seen = 0
    for _ in range(250):
        tasks = random_set(random, 2)
        q = longest_optional_stage(tasks)
        if q > 4 or not isinstance(admit(tasks), Certificate):
            continue
        assert not can_miss(tasks, other=q, most=20_000), (tasks, q)
        assert can_miss(tasks, other=q + 2, most=20_000) in (True, None), (tasks, q)
        seen += q > 0
    assert seen > 30


# Certificates and counter-examples ------------------------------------------------------------------------------------

LARGE = st.lists(st.tuples(st.integers(1, 20 * 10**6), st.integers(10**6, 10**8), st.integers(1, 2 * 10**8),
                           st.integers(0, 5 * 10**6)), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(LARGE, st.sampled_from(["np-edf", "p-edf"]))
def test_certificates_hold_and_mutated_ones_are_refused(tasks: list[Tuple4], resource: str) -> None:
    verdict = admit(tasks, resource, max_steps=50_000)
    if not isinstance(verdict, Certificate):
        return
    assert recheck(verdict) and verdict.slack_ns >= 0
    for name in ("t_ns", "demand_ns", "block_ns", "capacity_ns"):
        assert not recheck(replace(verdict, **{name: getattr(verdict, name) + 1}))
    assert not recheck(replace(verdict, horizon="word of honour"))
    assert not recheck(replace(verdict, blocking_ns=verdict.slack_ns + verdict.block_ns + 1))
    heavier = [t._replace(cost_ns=t.cost_ns + verdict.slack_ns + 1) for t in verdict.tasks]
    assert not recheck(replace(verdict, tasks=tuple(heavier)))
    if verdict.horizon == "busy period":
        assert not recheck(replace(verdict, horizon_ns=sum(t.cost_ns for t in verdict.tasks) - 1))


@settings(max_examples=150, deadline=None)
@given(LARGE)
def test_counter_examples_replay_to_a_miss(tasks: list[Tuple4]) -> None:
    verdict = admit(tasks, max_steps=50_000)
    if isinstance(verdict, CounterExample) and len(verdict.arrivals) < 3000:
        assert replay(verdict)


def test_counter_examples_of_small_sets_replay_to_a_miss() -> None:
    random, seen = Random(5), Counter()
    for _ in range(1500):
        verdict = admit(random_set(random, 3))
        if isinstance(verdict, CounterExample):
            assert replay(verdict), verdict
            seen["blocked" if verdict.block_ns else "demand"] += 1
    assert seen["blocked"] > 50 and seen["demand"] > 200


def test_blocking_by_a_long_job_is_seen() -> None:
    """Two tasks at 60 % load: preemptive EDF is in time, non-preemptive EDF is not."""
    tasks = [(1, 10, 2, 0), (5, 10, 10, 0)]
    assert isinstance(admit(tasks, "p-edf"), Certificate)
    verdict = admit(tasks, "np-edf")
    assert isinstance(verdict, CounterExample) and verdict.block_ns == 4 and replay(verdict)
    in_pieces = admit([(1, 10, 2, 0), Task(5, 10, 10, 0, piece_ns=2)])
    assert isinstance(in_pieces, Certificate) and recheck(in_pieces)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_load_near_one_is_answered_or_declined_in_bounded_work() -> None:
    full = admit([(1, 2), (1, 3), (1, 6)], "p-edf")
    assert isinstance(full, Certificate) and full.slack_ns == 0 and recheck(full)
    near = admit([(10**6, 2 * 10**6 + 3), (10**6, 2 * 10**6 - 1, 15 * 10**5)], "p-edf", max_steps=1000)
    assert isinstance(near, NotProven) and "1000" in near.reason
    over = admit([(10**6 + 1, 2 * 10**6, 10**9), (10**6, 2 * 10**6, 10**9)], max_steps=1000)
    assert isinstance(over, NotProven) and "load" in over.reason
    assert isinstance(admit([(3, 4), (2, 4)]), CounterExample)


def test_nothing_and_nonsense() -> None:
    nothing = admit([])
    assert isinstance(nothing, Certificate) and recheck(nothing)
    for bad in ((0, 5), (1, 0), (1, 5, -2), (1, 5, 5, -1), (1, 5, 5, 0, 2)):
        with pytest.raises(ValueError):
            admit([bad])
    with pytest.raises(ValueError, match="np-edf"):
        admit([(1, 5)], "rm")
    late = admit([(3, 10, 5, 4)])
    assert isinstance(late, CounterExample) and replay(late)


def test_other_work_in_the_way_makes_it_unproven_not_wrong() -> None:
    tasks = [(2, 10, 6, 0)]
    assert isinstance(admit(tasks, blocking_ns=4), Certificate)
    assert isinstance(admit(tasks, blocking_ns=5), NotProven)
    assert longest_optional_stage(tasks) == 4
    assert longest_optional_stage([(4, 5, 3, 0)]) == 0


def test_the_least_deadline_is_the_least() -> None:
    random = Random(2)
    for _ in range(60):
        tasks = [(c, t, 0, j) for c, t, _, j in random_set(random, 3)]
        least = least_deadline(tasks)
        load = sum(c / t for c, t, _, _ in tasks)
        if least is None:
            assert load > 1
            continue
        assert isinstance(admit([(c, t, least, j) for c, t, _, j in tasks]), Certificate)
        assert isinstance(admit([(c, t, least + 5, j) for c, t, _, j in tasks]), Certificate)
        if least > 1:
            assert not isinstance(admit([(c, t, least - 1, j) for c, t, _, j in tasks]), Certificate)

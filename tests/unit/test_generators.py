"""Random task sets: uniform where they say so, within their limits, whole numbers that make sense, the same from the same seed."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import generators
from imprecise.admission import Certificate, admit
from imprecise.simulator import simulate

DRAWS = 3000
REFUSE = 2.2 / math.sqrt(DRAWS)  # Kolmogorov-Smirnov: a distance above it has a probability below 0.02 %


def distance(values, cdf):
    """The Kolmogorov-Smirnov distance of values from a distribution."""
    x = np.sort(values)
    found = np.arange(len(x) + 1) / len(x)
    expected = np.array([cdf(v) for v in x])
    return max(np.abs(found[1:] - expected).max(), np.abs(found[:-1] - expected).max())


def two_samples(a, b):
    """The same between two samples."""
    points = np.concatenate((a, b))
    return np.abs(np.searchsorted(np.sort(a), points, "right") / len(a) - np.searchsorted(np.sort(b), points, "right") / len(b)).max()


def beta(k):
    """The distribution function of Beta(1, k)."""
    return lambda x: 1 - (1 - x) ** k


def worst_distance(sets):
    """How far sets are from uniform on the simplex: each value from Beta(1, n - 1), and the second of what the first leaves from
    Beta(1, n - 2), also among those whose first value is small."""
    n = sets.shape[1]
    rest = sets[:, 1] / (1 - sets[:, 0])
    small = rest[sets[:, 0] < np.median(sets[:, 0])]
    return max(*(distance(sets[:, i], beta(n - 1)) for i in range(n)), distance(rest, beta(n - 2)), distance(small, beta(n - 2)) / 1.42)


def test_uunifast_is_uniform_on_the_simplex():
    rng = np.random.default_rng(1)
    for n in (3, 6):
        assert worst_distance(np.array([generators.uunifast(n, 1.0, rng) for _ in range(DRAWS)])) < REFUSE


def test_the_test_of_uniformity_sees_the_usual_mistakes():
    rng = np.random.default_rng(1)
    scaled = rng.random((DRAWS, 4))
    assert worst_distance(scaled / scaled.sum(axis=1, keepdims=True)) > 2 * REFUSE
    broken = []
    for _ in range(DRAWS):  # each takes a uniform share of what is left
        left, values = 1.0, []
        for _ in range(3):
            values.append(left * rng.random())
            left -= values[-1]
        broken.append([*values, left])
    assert worst_distance(np.array(broken)) > 2 * REFUSE


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), total=st.floats(0.01, 30), seed=st.integers(0, 2**32))
def test_shares_are_positive_sum_exactly_and_come_again(n, total, seed):
    values = generators.uunifast(n, total, np.random.default_rng(seed))
    assert values.shape == (n,) and (values > 0).all()
    assert math.fsum(values) == pytest.approx(total, rel=1e-14)
    assert (values == generators.uunifast(n, total, np.random.default_rng(seed))).all()


def test_discarding_keeps_the_limit_and_the_rest_uniform():
    rng = np.random.default_rng(2)
    sets = np.array([generators.uunifast_discard(3, 1.8, 1.0, rng) for _ in range(DRAWS)])
    assert sets.max() <= 1.0 and np.allclose(sets.sum(axis=1), 1.8)
    u = np.random.default_rng(3).random((40 * DRAWS, 2))  # the same region by rejection: two values of a square, the third what is left
    third = 1.8 - u.sum(axis=1)
    region = np.column_stack((u, third))[(third >= 0) & (third <= 1)][:DRAWS]
    assert len(region) == DRAWS
    for i in range(3):
        assert two_samples(sets[:, i], region[:, i]) < REFUSE * math.sqrt(2)


@pytest.mark.parametrize(("call", "expected"), [
    (lambda r: generators.uunifast(0, 1.0, r), "at least one value"),
    (lambda r: generators.uunifast(3, math.nan, r), "finite sum above 0"),
    (lambda r: generators.uunifast(3, -1.0, r), "finite sum above 0"),
    (lambda r: generators.uunifast_discard(3, 3.1, 1.0, r), "cannot sum to 3.1"),
    (lambda r: generators.uunifast_discard(12, 11.9, 1.0, r, tries=20), "convolutionalfixedsum"),
    (lambda r: generators.convolutionalfixedsum(3, 1.0, r, high=[0.1, 0.2, 0.3]), "no 3 values"),
    (lambda r: generators.convolutionalfixedsum(2, 1.0, r, low=0.6, high=0.5), "no 2 values"),
    (lambda r: generators.log_uniform_periods(3, 15, 100, r, 10), "multiples of the granularity"),
    (lambda r: generators.log_uniform_periods(3, 200, 100, r, 10), "low <= high"),
    (lambda r: generators.task_set(3, 0.5, r, jitters=(0.0, 1.5)), "jitters: found 0 to 1.5"),
    (lambda r: generators.task_set(3, 0.5, r, deadlines=(1.0, 0.5)), "deadlines: found 1 to 0.5"),
    (lambda r: generators.task_set(3, 0.5, r, limit=1.5), "limit: found 1.5"),
    (lambda r: generators.task_set(3, 0.5, r, method="drs"), "method: found 'drs'"),
    (lambda r: generators.task_set(3, 0.5, r, accept=lambda tasks: False, tries=5), "none of 5 sets"),
    (lambda r: generators.scenario_of(generators.task_set(3, 0.5, r), 2.5, 0, limit=0.5), "cannot sum to 2.5"),
    (lambda r: generators.scenario_of(generators.task_set(3, 0.5, r), 1.0, 0, accuracy=(0.9, 0.8)), "rising numbers"),
    (lambda r: generators.scenario_of(generators.task_set(3, 0.5, r), 1.0, 0, guard_ns=10**9), "leaves nothing of the deadline"),
    (lambda r: generators.scenario_of([], 1.0, 0), "expected tasks"),
])
def test_what_cannot_be_drawn_is_refused(call, expected):
    with pytest.raises(ValueError, match=expected):
        call(np.random.default_rng(0))


def test_periods_are_log_uniform_multiples():
    periods = generators.log_uniform_periods(DRAWS, 10_000, 1_000_000, np.random.default_rng(4), 10)
    assert periods.dtype == np.int64 and periods.min() >= 10_000 and periods.max() <= 1_000_000 and not (periods % 10).any()
    assert distance(periods, lambda x: (math.log(x) - math.log(10_000)) / math.log(100)) < REFUSE
    few = generators.log_uniform_periods(2000, 2, 4, np.random.default_rng(5), 2)
    assert sorted(set(few.tolist())) == [2, 4]  # the last multiple has its share
    assert (few == 2).mean() == pytest.approx(math.log(2) / math.log(3), abs=0.05)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 12), utilisation=st.floats(0.05, 0.95), seed=st.integers(0, 2**32), low=st.floats(0, 1), span=st.floats(0, 0.5),
       jitter=st.floats(0, 1))
def test_task_sets_are_whole_numbers_that_make_sense(n, utilisation, seed, low, span, jitter):
    def make():
        return generators.task_set(n, utilisation, np.random.default_rng(seed), periods=(1000, 100_000), granularity=100,
                                   deadlines=(low, low + span), jitters=(0.0, jitter))

    tasks = make()
    assert tasks == make() and len(tasks) == n
    for task in tasks:
        assert all(type(value) is int for value in task)
        assert 1 <= task.cost_ns <= task.deadline_ns - task.jitter_ns and task.jitter_ns >= 0
        assert 1000 <= task.period_ns <= 100_000 and task.period_ns % 100 == 0 and task.cost_ns <= task.period_ns
        assert low + span > 1 or task.deadline_ns <= task.period_ns
    total = sum(task.cost_ns / task.period_ns for task in tasks)
    assert total <= utilisation + n / 1000 and total > utilisation - n / 1000  # a unit of cost at most each


def test_sets_that_are_not_accepted_are_drawn_again():
    def proven(tasks):
        return isinstance(admit(tasks), Certificate)

    rng = np.random.default_rng(6)
    plain = [generators.task_set(4, 0.8, rng) for _ in range(20)]
    assert not all(map(proven, plain))
    assert all(proven(generators.task_set(4, 0.8, rng, accept=proven)) for _ in range(20))


def test_a_scenario_has_the_tasks_as_mandatory_parts_and_the_load_on_the_cpus():
    tasks = generators.task_set(6, 0.5, np.random.default_rng(7), jitters=(0.0, 0.1))
    world = generators.scenario_of(tasks, 1.5, 7, cpus=2, accuracy=(0.8, 0.9, 0.95), fastest=0.5, guard_ns=1000)
    assert (world.resources, world.guard_ns, world.load) == ({"fpga": 1, "cpu": 2}, 1000, 1.5)
    work = 0.0
    for task, source in zip(tasks, world.sources):
        stream, (first, *rest) = source.stream, source.stream.stages
        assert (stream.period_ns, stream.deadline_ns, stream.jitter_ns) == (task.period_ns, task.deadline_ns, task.jitter_ns)
        assert first.mandatory and first.wcet_ns == task.cost_ns == source.work.durations[0].worst_ns and len(rest) == 2
        assert source.work.durations[0].mean_ns == pytest.approx(0.75 * task.cost_ns, rel=1e-6)
        work += sum(model.mean_ns for model in source.work.durations[1:]) / task.period_ns
    assert work == pytest.approx(3.0, rel=1e-6)
    names = [stage.name for stream in world.streams for stage in stream.stages]
    assert len(set(names)) == len(names)  # a name stands for one estimate of a duration
    results = {policy: simulate(world, policy, 1, 3000, rows=False) for policy in ("mandatory-only", "threshold:theta=0.9")}
    assert sum(results["mandatory-only"].answered[1:]) == 0 < results["threshold:theta=0.9"].answered[2]
    assert results["threshold:theta=0.9"].weighted_utility > results["mandatory-only"].weighted_utility
    again = generators.scenario_of(tasks, 1.5, 7, cpus=2, accuracy=(0.8, 0.9, 0.95), fastest=0.5, guard_ns=1000)
    assert [s.stream for s in again.sources] == [s.stream for s in world.sources]
    assert (again.sources[0].work.outcomes.confidence == world.sources[0].work.outcomes.confidence).all()
    other = generators.scenario_of(tasks, 1.5, 8, cpus=2, accuracy=(0.8, 0.9, 0.95))
    assert other.sources[0].work.durations[1] != world.sources[0].work.durations[1]
    assert world.on_validation().sources[0].work.outcomes is not world.sources[0].work.outcomes


def test_a_unit_of_time_scales_a_scenario():
    tasks = generators.task_set(3, 0.5, np.random.default_rng(8), periods=(1000, 9000), granularity=10)
    world = generators.scenario_of(tasks, 1.0, 0, unit_ns=1000)
    assert [s.period_ns for s in world.streams] == [1000 * t.period_ns for t in tasks]
    assert [s.stages[0].wcet_ns for s in world.streams] == [1000 * t.cost_ns for t in tasks]


def test_without_the_package_a_fixed_sum_with_bounds_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "convolutionalfixedsum", None)
    with pytest.raises(ImportError, match="pip install convolutionalfixedsum"):
        generators.convolutionalfixedsum(3, 1.0, np.random.default_rng(0), high=0.5)


def test_a_fixed_sum_with_bounds_asks_the_package_from_the_seed_and_leaves_the_global_generator_alone(monkeypatch):
    import random

    asked = []

    def cfsa(n, total, lower, upper, config):
        asked.append((n, total, lower, upper))
        return np.random.default_rng(config).random(n)

    def cfsn(n, total, lower, upper):
        asked.append((n, total, lower, upper))
        return [random.random() * total / n for _ in range(n)]

    package = types.SimpleNamespace(cfsa=cfsa, cfsn=cfsn, CFSAConfig=lambda seed: seed)
    monkeypatch.setitem(sys.modules, "convolutionalfixedsum", package)
    random.seed(5)
    before = random.getstate()
    for n, low, high, total in ((3, 0.1, [0.5, 0.6, 0.7], 1.0), (20, 0.1, 0.9, 4.0), (20, 0.1, 0.9, 17.0)):
        first, second, other = (generators.convolutionalfixedsum(n, total, np.random.default_rng(seed), low, high) for seed in (1, 1, 2))
        assert (first == second).all() and (first != other).any()
    assert random.getstate() == before
    assert asked[0] == (3, 0.7, [0.0] * 3, pytest.approx([0.4, 0.5, 0.6]))
    assert asked[3][:2] == (20, 2.0) and asked[3][3] == pytest.approx([0.8] * 20)
    assert asked[6][:2] == (20, pytest.approx(1.0)) and asked[6][3] == pytest.approx([0.8] * 20)  # 18 - 17: mirrored
    assert (first > 0.85).all()
    exact = generators.convolutionalfixedsum(3, 1.5, np.random.default_rng(1), 0.0, 0.5)  # a single point: no draw
    assert exact.tolist() == [0.5] * 3 and len(asked) == 9


@pytest.mark.slow
def test_the_package_draws_uniformly_within_bounds():
    pytest.importorskip("convolutionalfixedsum")
    rng, low, high = np.random.default_rng(9), np.array([0.1, 0.0, 0.2]), np.array([1.0, 0.9, 0.8])
    sets = np.array([generators.convolutionalfixedsum(3, 1.8, rng, low, high) for _ in range(DRAWS)])
    assert (sets >= low).all() and (sets <= high).all() and np.allclose(sets.sum(axis=1), 1.8, atol=1e-9)
    u = low[:2] + rng.random((40 * DRAWS, 2)) * (high - low)[:2]
    third = 1.8 - u.sum(axis=1)
    region = np.column_stack((u, third))[(third >= low[2]) & (third <= high[2])]
    for i in range(3):
        assert two_samples(sets[:, i], region[:, i]) < REFUSE * math.sqrt(1 + DRAWS / len(region))
    tasks = generators.task_set(8, 6.5, rng, method="convolutionalfixedsum")
    assert 6.4 < sum(task.cost_ns / task.period_ns for task in tasks) <= 6.5

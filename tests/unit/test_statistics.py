"""Intervals, bounds and tests: against committed reference values, by definition, and by how often they cover."""

from __future__ import annotations

from math import comb, isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imprecise import statistics as s
from imprecise.binomial import beta_quantile, betainc, binomial_cdf, t_quantile


def bursts(random: np.random.Generator, n: int, ratio: float, burst: float) -> np.ndarray:
    """Misses of a two-state Markov chain: a share `ratio` of the frames, in bursts of `burst` frames on average."""
    out = np.zeros(n, dtype=int)
    bad, at = random.random() < ratio, 0
    while at < n:
        length = random.geometric(1 / burst if bad else ratio / (1 - ratio) / burst)
        out[at : at + length] = bad
        at, bad = at + length, not bad
    return out


# Exact binomial arithmetic --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "x", "value"), [
    (2, 3, 0.4, 0.5248), (0.5, 0.5, 0.25, 1 / 3), (1, 7, 0.1, 1 - 0.9**7), (300, 700, 0.31, 0.756418683),
    (5, 1, 0.9, 0.9**5), (1, 1, 0.3, 0.3)])
def test_the_incomplete_beta_function_has_its_known_values(a, b, x, value) -> None:
    assert isclose(betainc(a, b, x), value, rel_tol=2e-6)
    assert isclose(betainc(a, b, x), 1 - betainc(b, a, 1 - x), rel_tol=1e-9)


def test_against_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for _ in range(500):
        a, b = 10 ** random.uniform(-1, 5, 2)
        x = random.beta(a, b) if random.random() < 0.8 else random.random()
        assert abs(betainc(a, b, x) - special.betainc(a, b, x)) < 1e-9
    for n, k in ((10, 3), (1000, 1), (5000, 4999), (100_000, 40)):
        found = s.clopper_pearson(k, n)
        assert isclose(found.low, stats.beta.ppf(0.025, k, n - k + 1), rel_tol=1e-8)
        assert isclose(found.high, stats.beta.ppf(0.975, k + 1, n - k), rel_tol=1e-8)
    for df in (1, 3.5, 40, 1e4):
        assert isclose(t_quantile(0.975, df), stats.t.ppf(0.975, df), rel_tol=1e-8)


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.01, 0.99))
def test_the_binomial_distribution_is_a_sum(n: int, k: int, p: float) -> None:
    total = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(n, k) + 1))
    assert isclose(binomial_cdf(k, n, p), total, rel_tol=1e-9, abs_tol=1e-12)


def test_known_intervals() -> None:
    exact = s.clopper_pearson(3, 100)
    assert (round(exact.low, 6), round(exact.high, 6)) == (0.00623, 0.085176)
    score = s.wilson(3, 100)
    assert (round(score.low, 6), round(score.high, 6)) == (0.010255, 0.084519)
    assert s.clopper_pearson(0, 50).low == 0 and isclose(s.clopper_pearson(0, 50).high, 1 - 0.025 ** (1 / 50))
    assert s.clopper_pearson(50, 50).high == 1 and s.wilson(0, 9).low == 0 and s.wilson(9, 9).high == 1
    assert isclose(t_quantile(0.975, 5), 2.570582, rel_tol=1e-6) and isclose(t_quantile(0.025, 5), -2.570582, rel_tol=1e-6)
    assert isclose(beta_quantile(0.5, 2, 2), 0.5)
    for bad in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError):
            s.wilson(*bad)
        with pytest.raises(ValueError):
            s.clopper_pearson(*bad)


@pytest.mark.parametrize(("ratio", "frames"), [(0.01, 299), (0.001, 2995), (0.0001, 29956)])
def test_frames_without_a_miss_that_show_a_ratio(ratio: float, frames: int) -> None:
    assert s.frames_needed(ratio) == frames
    assert s.zero_miss_bound(frames) <= ratio < s.zero_miss_bound(frames - 1)


# Misses in bursts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "ratio", "burst"), [(3000, 0.2, 30), (10_000, 0.05, 50), (6000, 0.1, 20)])
def test_the_interval_for_bursts_covers_where_wilson_does_not(n: int, ratio: float, burst: float) -> None:
    random = np.random.default_rng(4)
    naive = ours = 0
    runs = 250
    for _ in range(runs):
        misses = bursts(random, n, ratio, burst)
        a, b = s.wilson(int(misses.sum()), n), s.miss_ratio_interval(misses)
        naive += a.low <= ratio <= a.high
        ours += b.low <= ratio <= b.high
    assert ours / runs >= 0.88, ours / runs
    assert naive / runs <= 0.5, naive / runs


def test_the_interval_of_independent_misses_costs_little() -> None:
    random = np.random.default_rng(5)
    covered, width, exact = 0, 0.0, 0.0
    for _ in range(200):
        misses = random.random(2000) < 0.05
        found, plain = s.miss_ratio_interval(misses), s.clopper_pearson(int(misses.sum()), 2000)
        covered += found.low <= 0.05 <= found.high
        width += found.high - found.low
        exact += plain.high - plain.low
    assert covered >= 180 and width < 1.3 * exact


def test_no_miss_is_bounded_by_blocks_not_by_nothing() -> None:
    none = np.zeros(29_956)
    found = s.miss_ratio_interval(none)
    assert found.estimate == found.low == 0 and "936 blocks of 32" in found.method
    assert isclose(s.miss_ratio_interval(none, block=100).high, 1 - 0.025 ** (1 / 299), rel_tol=1e-9)
    assert s.miss_ratio_interval(np.ones(100), block=10).low < 1 == s.miss_ratio_interval(np.ones(100)).high
    boot = s.block_bootstrap(none, block=100)
    assert boot.low == 0 and isclose(boot.high, s.zero_miss_bound(299))
    pair = s.paired_difference(none, none, block=100)
    assert pair.interval.low == -pair.interval.high < 0 and pair.verdict == "no difference shown"
    with pytest.raises(ValueError, match="equal"):
        s.block_bootstrap(none, statistic=np.median)


def test_streams_in_parallel_share_their_blocks() -> None:
    """Two streams that always miss together tell no more than one."""
    misses = bursts(np.random.default_rng(1), 4000, 0.1, 20)
    one = s.miss_ratio_interval(misses)
    two = s.miss_ratio_interval(np.stack([misses, misses], axis=1))
    assert isclose(one.low, two.low, rel_tol=0.01) and isclose(one.high, two.high, rel_tol=0.01)
    assert s.miss_ratio_interval(misses[:1]).high <= 1
    for bad in ([], [2, 0], np.zeros((2, 2, 2)), [np.nan]):
        with pytest.raises(ValueError):
            s.miss_ratio_interval(bad)


def test_block_length_grows_with_the_bursts() -> None:
    random = np.random.default_rng(2)
    lengths = [s.block_length(bursts(random, 20_000, 0.1, burst)) for burst in (1.12, 10, 60)]
    assert lengths[0] <= 6 < lengths[1] < lengths[2]
    assert s.block_length(np.zeros(1000)) == 10 and s.block_length([1]) == 1 and s.block_length(np.arange(30) % 2) <= 3


def test_the_bootstrap_is_seeded_and_takes_any_statistic() -> None:
    x = np.random.default_rng(0).normal(3, 1, 800)
    assert s.block_bootstrap(x, seed=1) == s.block_bootstrap(x, seed=1) != s.block_bootstrap(x, seed=2)
    assert s.block_bootstrap(x, seed=np.random.default_rng(1)) == s.block_bootstrap(x, seed=1)
    median = s.block_bootstrap(x, np.median, block=5, resamples=300)
    assert median.low < 3.05 and median.high > 2.95 and median.high - median.low < 0.4


def test_runs_and_windows_of_misses() -> None:
    misses = [1, 1, 0, 0, 1, 0, 1, 1, 1]
    assert s.miss_runs(misses).tolist() == [2, 1, 3] and s.miss_runs([0, 0]).tolist() == []
    assert s.mk_violations(misses, 1, 3) == 1 and s.mk_violations(misses, 2, 3) == 4 and s.mk_violations([1, 1], 1, 3) == 0
    for m, k in ((0, 3), (4, 3)):
        with pytest.raises(ValueError):
            s.mk_violations(misses, m, k)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5), st.integers(0, 4))
def test_windows_by_definition(misses: list[bool], m: int, more: int) -> None:
    k = m + more
    slow = sum(sum(not x for x in misses[i : i + k]) < m for i in range(len(misses) - k + 1))
    assert s.mk_violations(misses, m, k) == slow
    assert sum(s.miss_runs(misses)) == sum(misses)


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_mcnemar_is_the_exact_sign_test() -> None:
    assert s.mcnemar(0, 0) == 1.0 and s.mcnemar(5, 5) == 1.0
    assert isclose(s.mcnemar(1, 9), 2 * (1 + 10) / 1024) and s.mcnemar(9, 1) == s.mcnemar(1, 9)
    assert isclose(s.mcnemar(0, 6), 2 / 64)


def test_pairs_on_the_same_frames_find_what_they_should() -> None:
    random = np.random.default_rng(8)
    covered = 0
    for _ in range(120):
        load = bursts(random, 4000, 0.3, 25)
        a, b = random.random(4000) < 0.9 - 0.3 * load, random.random(4000) < 0.88 - 0.2 * load
        interval = s.paired_difference(a, b).interval
        covered += interval.low <= 0.02 - 0.1 * 0.3 <= interval.high
    assert covered >= 0.88 * 120
    assert s.paired_difference(a, a - 0.1).verdict == "a is higher" and s.paired_difference(a - 0.1, a).verdict == "b is higher"
    with pytest.raises(ValueError, match="same frames"):
        s.paired_difference([1, 0], [1])


def test_equivalence_needs_an_interval_within_the_margin() -> None:
    random = np.random.default_rng(9)
    a = random.random(5000)
    b = a + random.normal(0, 0.02, 5000)
    assert s.equivalence(a, b, 0.01).verdict == "equivalent"
    assert s.equivalence(a, b + 0.1, 0.01).verdict == "different"
    assert s.equivalence(a[:40], random.random(40), 0.01).verdict == "not shown"
    with pytest.raises(ValueError):
        s.equivalence(a, b, 0)


# The rest -------------------------------------------------------------------------------------------------------------


def test_early_stopping_is_mlperfs_rule() -> None:
    """Queries in time that its rules ask for at the 90th, 95th and 99th percentile, 99 % confidence, without and with late ones."""
    assert [s.early_stopping(1, 0, p).needed_in_time for p in (0.9, 0.95, 0.99)] == [44, 90, 459]
    assert s.early_stopping(662, 1, 0.99).passes and not s.early_stopping(661, 1, 0.99).passes
    for late in (1, 3):
        needed = s.early_stopping(10, late, 0.9).needed_in_time
        tail = [sum(comb(h + late, i) * 0.1**i * 0.9 ** (h + late - i) for i in range(late + 1)) for h in (needed - 1, needed)]
        assert tail[1] <= 0.01 < tail[0]
    with pytest.raises(ValueError):
        s.early_stopping(10, 11, 0.9)


def test_quantile_intervals_cover() -> None:
    random = np.random.default_rng(3)
    truth = float(np.log(20))  # of the standard exponential at 0.95
    covered = sum((i := s.quantile_interval(random.exponential(size=400), 0.95)).low <= truth <= i.high for _ in range(400))
    assert covered >= 0.94 * 400
    few = s.quantile_interval([3, 1, 2], 0.5)
    assert few.low == -np.inf and few.high == np.inf and few.estimate == 2
    assert s.quantile_interval(range(1, 101), 0.5).low == 40 and s.quantile_interval(range(1, 101), 0.5).high == 61
    wide = s.quantile_interval(range(1, 101), 0.5, block=10)
    assert wide.low < 40 and wide.high > 61


def test_regret_is_a_share_of_what_could_be_gained() -> None:
    assert s.regret(0.9, 0.9, 0.8) == 0 and s.regret(0.8, 0.9, 0.8) == 1 and isclose(s.regret(0.85, 0.9, 0.8), 0.5)
    with pytest.raises(ValueError, match="undefined"):
        s.regret(0.8, 0.8, 0.8)

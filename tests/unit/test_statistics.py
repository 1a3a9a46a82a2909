"""Intervals, bounds and tests: against committed reference values, by definition, and by how often they cover."""

from __future__ import annotations

from itertools import product
from math import comb, isclose

import numpy as np
import pytest
from hypothesis import given, settings
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
        a, b = 10 ** random.uniform(-1, 6, 2)
        x = random.beta(a, b) if random.random() < 0.8 else random.random()
        assert abs(betainc(a, b, x) - special.betainc(a, b, x)) < 1e-11
    for _ in range(100):
        a, b = 10 ** random.uniform(-0.3, 5, 2)
        q = random.random() if random.random() < 0.5 else 10 ** random.uniform(-6, -1)
        assert isclose(beta_quantile(q, a, b), special.betaincinv(a, b, q), rel_tol=1e-10)
    for n in (1, 2, 7, 100, 5000, 100_000):
        for k in sorted({0, 1, n // 3, n // 2, n - 1, n} & set(range(n + 1))):
            for confidence in (0.5, 0.95, 0.999):
                found, tail = s.clopper_pearson(k, n, confidence), (1 - confidence) / 2
                ends = stats.beta.ppf(tail, k, n - k + 1) if k else 0, stats.beta.ppf(1 - tail, k + 1, n - k) if k < n else 1
                assert isclose(found.low, ends[0], rel_tol=1e-9) and isclose(found.high, ends[1], rel_tol=1e-9), (n, k)
                found, score = s.wilson(k, n, confidence), stats.binomtest(k, n).proportion_ci(confidence, "wilson")
                assert isclose(found.low, score.low, rel_tol=1e-9, abs_tol=1e-15) and isclose(found.high, score.high, rel_tol=1e-9)
    for df in (0.5, 1, 3.5, 40, 1e4, 1e6, 1e9):
        for q in (0.001, 0.025, 0.2, 0.8, 0.975, 0.9999):
            assert isclose(t_quantile(q, df), stats.t.ppf(q, df), rel_tol=1e-9)
    for a, b in ((0, 1), (3, 9), (40, 60), (1000, 1100), (5000, 4000)):
        assert isclose(s.mcnemar(a, b), stats.binomtest(a, a + b, 0.5).pvalue, rel_tol=1e-9)
    values = random.normal(1, 2, 12)
    interval, exact = s.replications_interval(values, 0.9), stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert isclose(interval.low, exact.low, rel_tol=1e-9) and isclose(interval.high, exact.high, rel_tol=1e-9)


@given(st.integers(1, 300), st.data())
def test_an_exact_interval_excludes_what_its_tail_says(n: int, data) -> None:
    """Clopper and Pearson's ends by their definition: each tail is (1 - confidence) / 2, from sums of integers."""
    k, confidence = data.draw(st.integers(0, n)), data.draw(st.sampled_from([0.8, 0.95, 0.99]))
    found, tail = s.clopper_pearson(k, n, confidence), (1 - confidence) / 2
    if k:
        assert isclose(sum(comb(n, i) * found.low**i * (1 - found.low) ** (n - i) for i in range(k, n + 1)), tail, rel_tol=1e-8)
    if k < n:
        assert isclose(sum(comb(n, i) * found.high**i * (1 - found.high) ** (n - i) for i in range(k + 1)), tail, rel_tol=1e-8)
    mirrored = s.clopper_pearson(n - k, n, confidence)
    assert isclose(mirrored.low, 1 - found.high, abs_tol=1e-11) and isclose(mirrored.high, 1 - found.low, abs_tol=1e-11)


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
    for _ in range(100):
        misses = random.random(2000) < 0.05
        found, plain = s.miss_ratio_interval(misses), s.clopper_pearson(int(misses.sum()), 2000)
        covered += found.low <= 0.05 <= found.high
        width += found.high - found.low
        exact += plain.high - plain.low
    assert covered >= 90 and width < 1.3 * exact


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


# Queries in time needed for 0, 1, 2, 5, 50 and 400 late ones at 99 % confidence, from mlcommons-loadgen 6.0.17's own early_stopping.cc.
LOADGEN = {0.9: (44, 63, 79, 122, 631, 4066), 0.95: (90, 129, 163, 254, 1322, 8557), 0.97: (152, 218, 275, 428, 2243, 14544),
           0.99: (459, 661, 836, 1302, 6848, 44481), 0.999: (4603, 6635, 8401, 13100, 69008)}


def test_early_stopping_is_mlperfs_rule() -> None:
    for percentile, needed in LOADGEN.items():
        assert tuple(s.early_stopping(10**6, late, percentile).needed_in_time for late in (0, 1, 2, 5, 50, 400)[: len(needed)]) == needed
    # LoadGen's least numbers of queries: 64 in single stream (90th percentile), 662 in multi-stream (99th), one of them late.
    for queries, percentile in ((64, 0.9), (662, 0.99)):
        assert s.early_stopping(queries, 1, percentile).passes and not s.early_stopping(queries - 1, 1, percentile).passes
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


# Several tests, replications, and windows -----------------------------------------------------------------------------


def test_holm_has_its_known_values_and_keeps_the_order_given() -> None:
    assert np.allclose(s.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert s.holm([0.7, 0.8]).tolist() == [1.0, 1.0] and s.holm([]).size == 0 and s.holm([0.2]).tolist() == [0.2]
    for bad in ([-0.1], [1.1], [np.nan]):
        with pytest.raises(ValueError):
            s.holm(bad)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.3))
def test_holm_rejects_what_its_steps_reject(p: list[float], alpha: float) -> None:
    rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
    while left and p[left[0]] * len(left) <= alpha:
        rejected.add(left.pop(0))
    assert {i for i, value in enumerate(s.holm(p)) if value <= alpha} == rejected


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_sign_flips_by_definition(differences: list[int]) -> None:
    sums = [abs(sum(sign * d for sign, d in zip(signs, differences))) for signs in product((1, -1), repeat=len(differences))]
    assert isclose(s.sign_flip(differences), sum(x >= abs(sum(differences)) for x in sums) / len(sums))
    assert s.sign_flip(differences) == s.sign_flip([-d for d in differences])


def test_sign_flips_beyond_enumeration_are_seeded_and_near_the_exact_value() -> None:
    x = np.random.default_rng(4).normal(0.3, 1, 20)
    exact = s.sign_flip(x)
    near = s.sign_flip(np.concatenate((x, [0.0])))  # 21: random signs; a zero changes nothing
    assert abs(near - exact) < 5 * np.sqrt(exact * (1 - exact) / 100_000) + 1e-5
    assert near == s.sign_flip(np.concatenate((x, [0.0])), seed=np.random.default_rng(0)) > 0
    assert s.sign_flip(np.ones(6)) == 2 / 64 and s.sign_flip(np.full(30, 2.0), resamples=999) == 1 / 1000
    for bad in ([], [np.nan], np.zeros((2, 2))):
        with pytest.raises(ValueError):
            s.sign_flip(bad)
    for bad in ([1.0], [1.0, np.inf]):
        with pytest.raises(ValueError):
            s.replications_interval(bad)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_the_frontier_by_definition(misses: list[bool], data) -> None:
    k_max = data.draw(st.integers(1, len(misses)))
    slow = [min(k - sum(misses[i : i + k]) for i in range(len(misses) - k + 1)) for k in range(1, k_max + 1)]
    assert s.mk_frontier(misses, k_max).tolist() == slow
    for k, m in enumerate(slow, 1):
        assert m == 0 or s.mk_violations(misses, m, k) == 0
        assert m == k or s.mk_violations(misses, m + 1, k) > 0


def test_a_frontier_needs_a_full_window() -> None:
    for bad in (0, 4):
        with pytest.raises(ValueError):
            s.mk_frontier([0, 1, 0], bad)


# Invariances ----------------------------------------------------------------------------------------------------------

SERIES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(deadline=None, max_examples=40)
@given(SERIES, st.integers(40, 300), st.sampled_from([1, 3, 10]))
def test_swapping_the_policies_mirrors_the_difference(random: np.random.Generator, n: int, burst: int) -> None:
    load = bursts(random, n, 0.3, max(2, burst))
    a, b = random.random(n) - 0.3 * load, random.random(n)
    one, two = s.paired_difference(a, b).interval, s.paired_difference(b, a).interval
    assert np.allclose([one.low, one.high], [-two.high, -two.low], rtol=1e-9, atol=1e-12)
    assert one.low <= one.estimate <= one.high


@settings(deadline=None, max_examples=40)
@given(SERIES, st.integers(20, 300), st.floats(0.001, 1000), st.floats(-50, 50))
def test_units_do_not_matter(random: np.random.Generator, n: int, scale: float, shift: float) -> None:
    x = random.exponential(1, n)
    one, two = s.mean_interval(x), s.mean_interval(scale * x + shift)
    assert np.allclose([scale * one.low + shift, scale * one.high + shift], [two.low, two.high], rtol=1e-6, atol=1e-6)
    one, two = (s.quantile_interval(v, 0.5, block=None) for v in (x, 2 * x))
    assert [2 * one.low, 2 * one.high] == [two.low, two.high]


@settings(deadline=None, max_examples=40)
@given(SERIES, st.integers(100, 400), st.floats(0.05, 0.5))
def test_twice_the_data_and_less_confidence_are_narrower(random: np.random.Generator, n: int, ratio: float) -> None:
    x = bursts(random, n, ratio, 4)
    twice = np.concatenate((x, x))
    for interval in (s.miss_ratio_interval, s.mean_interval):
        one, two, sure = interval(x, block=10), interval(twice, block=10), interval(x, 0.99, 10)
        assert two.high - two.low < one.high - one.low + 1e-12
        assert sure.low <= one.low + 1e-12 and one.high <= sure.high + 1e-12


@settings(deadline=None, max_examples=40)
@given(SERIES, st.integers(30, 300), st.floats(0.02, 0.9))
def test_misses_and_answers_mirror_each_other(random: np.random.Generator, n: int, ratio: float) -> None:
    x = bursts(random, n, min(ratio, 0.5), 4)
    one, two = s.miss_ratio_interval(x, block=5), s.miss_ratio_interval(1 - x, block=5)
    assert np.allclose([one.low, one.high], [1 - two.high, 1 - two.low], atol=1e-8)
    assert 0 <= one.low <= one.estimate <= one.high <= 1


def test_the_fast_bootstrap_has_the_law_of_the_loop() -> None:
    """Means of resampled blocks, drawn one at a time by a loop, against both ways of drawing them at once."""
    random = np.random.default_rng(6)
    misses = bursts(random, 600, 0.1, 6)
    for x, many in ((misses.astype(float), True), (misses + random.random(600), False)):
        for block in (2, 30):
            found = s.block_bootstrap(x, block=block, resamples=20_000)
            starts = random.integers(0, 600, (3000, 600 // block))
            draws = [x[np.add.outer(row, np.arange(block)) % 600].mean() for row in starts]
            t, z = t_quantile(0.975, 600 // block - 1), t_quantile(0.975, np.inf)
            wide = t / z * np.sqrt((600 // block) / (600 // block - 1))
            ends = [x.mean() + wide * (v - x.mean()) for v in np.percentile(draws, [2.5, 97.5])]
            error = 5 * np.std(draws) * wide * np.sqrt(0.025 * 0.975 / 3000) / 0.058  # of a 2.5 % quantile: density 0.058 / sd
            assert abs(found.low - ends[0]) < error and abs(found.high - ends[1]) < error, (many, block)
    by_hand = s.block_bootstrap(misses, lambda v: float(v.mean()), block=30, resamples=5000)
    assert abs(by_hand.high - s.block_bootstrap(misses, block=30).high) < 0.01

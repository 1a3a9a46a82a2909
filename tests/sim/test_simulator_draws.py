"""Draws are uniform, indexed, and the same everywhere; models give the distributions they name."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise.draws import (
    Constant,
    Empirical,
    Listed,
    Lognormal,
    Periodic,
    Quantiles,
    Releases,
    Sporadic,
    draw_items,
    key_of,
    normal_quantile,
    typical_ns,
    uniforms,
)

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The published algorithm, one number, in Python integers."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(st.integers(0, MASK), st.integers(0, 1 << 40), st.integers(1, 5))
def test_draws_are_splitmix64_at_their_index(key, first, count):
    expected = [(splitmix64(key + (first + i + 1) * 0x9E3779B97F4A7C15) >> 11) / 2**53 for i in range(count)]
    assert uniforms(key, first, count).tolist() == expected


def test_published_values_of_splitmix64():
    """The first outputs for seed 1234567, as given with the reference code."""
    assert [splitmix64(1234567 + i * 0x9E3779B97F4A7C15) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]


def test_keys_are_pinned():
    """The same in every Python and on every machine: recorded runs depend on them."""
    assert key_of(1, "front", "stage1") == 2128243972406120189
    assert draw_items(1, "front", 0, 6, 1000).tolist() == [236, 890, 658, 827, 80, 463]


def test_names_do_not_run_into_each_other():
    keys = {key_of(*names) for names in [(1, "a", "bc"), (1, "ab", "c"), (1, "abc"), (1, "a", "b", "c"), (11, "a", "bc"), (1, 'a","bc')]}
    assert len(keys) == 6


def test_uniforms_are_uniform_and_unrelated():
    a, b = (uniforms(key_of(0, name, "x"), 0, 100_000) for name in ("a", "b"))
    for u in (a, b):
        counts = np.histogram(u, 50, (0, 1))[0]
        assert ((counts - 2000) ** 2 / 2000).sum() < 100  # chi squared, 49 degrees: P about 2e-5
        assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.015
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.015


def test_items_are_drawn_from_all_pictures():
    items = draw_items(3, "s", 0, 20_000, 10)
    assert items.min() == 0 and items.max() == 9 and np.bincount(items).min() > 1800
    assert draw_items(3, "s", 100, 5, 10).tolist() == items[100:105].tolist()
    assert draw_items(3, "s", 0, 3, 0).tolist() == [-1, -1, -1]


def test_the_normal_quantile():
    u = np.array([2.0**-54, 1e-9, 0.001, 0.02, 0.0243, 0.3, 0.5, 0.7, 0.98, 1 - 1e-12])
    expected = [NormalDist().inv_cdf(float(v)) for v in u]
    assert normal_quantile(u) == pytest.approx(expected, rel=1e-7, abs=1e-9)


some_times = st.lists(st.integers(1, 10**9), min_size=1).map(tuple)
models = st.one_of(
    st.builds(Constant, st.integers(1, 10**9)), st.builds(Listed, some_times), st.builds(Empirical, some_times),
    st.builds(Lognormal, st.integers(1, 10**9), st.floats(0, 2)),
    st.lists(st.integers(1, 10**9), min_size=3, max_size=3).map(lambda v: Quantiles((0.5, 0.9, 1.0), tuple(sorted(v)))))


@settings(max_examples=80, deadline=None)
@given(models, st.integers(0, 10**6), st.integers(0, 50))
def test_a_duration_depends_on_its_frame_and_its_uniform_alone(model, first, skip):
    u = uniforms(first, 0, 60)
    whole = model.draw(first, u)
    assert whole.dtype == np.int64 and len(whole) == 60 and whole.min() >= 1
    assert model.draw(first + skip, u[skip:]).tolist() == whole[skip:].tolist()
    assert not model.worst_ns or whole.max() <= model.worst_ns


def test_durations_have_the_distribution_they_name():
    u = uniforms(key_of(0, "d"), 0, 50_000)
    assert Listed((3, 1, 2)).draw(4, u[:4]).tolist() == [1, 2, 3, 1]
    assert set(Empirical((30, 10, 20)).draw(0, u).tolist()) == {10, 20, 30}
    assert Empirical((30, 10, 20)).draw(0, np.array([0.0, 0.34, 0.999])).tolist() == [10, 20, 30]
    cut = Lognormal(1000, 0.5, 1500).draw(0, u)
    assert np.median(cut) == pytest.approx(1000, rel=0.02) and cut.max() == 1500
    log = np.log(Lognormal(10**6, 0.5).draw(0, u))
    assert log.std() == pytest.approx(0.5, rel=0.02) and log.mean() == pytest.approx(np.log(1e6), abs=0.01)
    quantiles = Quantiles((0.5, 0.9, 1.0), (100, 200, 400))
    assert quantiles.draw(0, np.array([0.1, 0.5, 0.7, 0.95])).tolist() == [100, 100, 150, 300]
    for model in (Constant(7), Listed((3, 1, 2)), Empirical((10, 20)), Lognormal(10**6, 0.5), quantiles):
        assert model.draw(0, u).mean() == pytest.approx(model.mean_ns, rel=0.02)
    assert (typical_ns(Constant(7)), typical_ns(Empirical(tuple(range(1, 101))))) == (7, 96)


@pytest.mark.parametrize("bad", [lambda: Empirical(()), lambda: Quantiles((0.9, 0.5), (1, 2)), lambda: Quantiles((0.5, 0.9), (2, 1)),
                                 lambda: Quantiles((0.5,), (1, 2)), lambda: Quantiles((), ())])
def test_impossible_models_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


arrival_kinds = st.one_of(st.builds(Periodic, st.integers(1, 100), st.integers(-1, 50), st.integers(0, 300)),
                          st.builds(Sporadic, st.integers(1, 100), st.integers(0, 100), st.integers(0, 300)),
                          st.builds(Releases, st.lists(st.integers(0, 10**4), min_size=1).map(lambda v: tuple(sorted(v))),
                                    st.integers(0, 300)))


@settings(max_examples=150, deadline=None)
@given(arrival_kinds, st.integers(0, 9), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_frames_are_seen_in_order_and_no_later_than_the_jitter(arrivals, seed, cuts):
    cursor, whole = arrivals.start(seed, "s"), arrivals.start(seed, "s").take(sum(cuts))
    parts = [cursor.take(count) for count in cuts]
    captured, seen = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assert captured.tolist() == whole[0].tolist() and seen.tolist() == whole[1].tolist()
    assert (captured >= 0).all() and (np.diff(seen) >= 0).all()
    assert (seen >= captured).all() and (seen <= captured + arrivals.jitter_ns).all()


def test_captures_come_at_the_times_that_the_law_says():
    assert Periodic(10, 3).start(0, "s").take(3)[0].tolist() == [3, 13, 23]
    assert Sporadic(10, 0).start(0, "s").take(3)[0].tolist() == [0, 10, 20]
    phases = [int(Periodic(100, -1).start(seed, "s").take(1)[0][0]) for seed in range(200)]
    assert 0 <= min(phases) < 10 and 90 <= max(phases) < 100
    gaps = np.diff(Sporadic(1000, 500).start(1, "s").take(50_000)[0]) - 1000
    assert gaps.min() >= 0 and gaps.mean() == pytest.approx(500, rel=0.02) and gaps.std() == pytest.approx(500, rel=0.03)
    late = np.subtract(*Periodic(1000, 0, 99).start(1, "s").take(50_000)[::-1])
    assert late.min() == 0 and late.max() == 99 and late.mean() == pytest.approx(49.5, rel=0.02)

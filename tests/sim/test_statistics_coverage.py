"""How often intervals hold the truth, in worlds of which it is known: a few here, more with the marker `slow`, all in bench/coverage.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench import coverage

LOW, HIGH = 0.90, 0.97  # of runs whose nominal 95 % interval holds the truth


def holds(row: coverage.Row, low: float = LOW, high: float = HIGH) -> bool:
    """Within the bounds, give or take three standard errors of so many runs."""
    return low - 3 * math.sqrt(low * (1 - low) / row.runs) <= row.share <= high + 3 * math.sqrt(high * (1 - high) / row.runs)


def test_the_markov_chain_has_its_ratio_and_its_bursts() -> None:
    random = np.random.default_rng(0)
    for ratio, burst in ((0.02, 30), (0.5, 2), (0.3, 5)):
        x = coverage.chain(random, 1_000_000, ratio, burst)
        runs = coverage.statistics.miss_runs(x)
        assert x.size == 1_000_000 and abs(x.mean() / ratio - 1) < 0.1 and abs(runs.mean() / burst - 1) < 0.1
    first = [coverage.chain(random, 3, 0.2, 4) for _ in range(20_000)]
    assert np.allclose(np.mean(first, axis=0), 0.2, atol=0.015)  # stationary from the first frame


def test_the_miss_ratio_is_held_where_independent_frames_are_not() -> None:
    row = coverage.misses(3000, 0.1, 10, 200, 1)
    assert holds(row) and row.plain < 0.6 * row.runs


def test_paired_differences_are_held() -> None:
    for kind in coverage.KINDS:
        assert holds(coverage.pairs(kind, 1000, 0.3, 10, 150, 1)), kind


def test_quantiles_are_held() -> None:
    row = coverage.quantiles(0.9, 1000, 0.3, 10, 60, 1)
    assert holds(row, high=0.99) and row.plain < 0.7 * row.runs


def test_a_run_without_a_miss_seldom_hides_more_than_its_bound() -> None:
    """Whatever the truth, where bursts are no longer than a block; and it does not hold for much longer ones."""
    for burst in (1.5, 10):
        found = coverage.zero(600, burst, 10, 400, 1)
        assert found.worst <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400) and found.given >= 0.92
    assert coverage.zero(600, 40, 10, 200, 1).worst > 0.2


def test_misses_of_the_simulator_are_held() -> None:
    rows = coverage.simulated("queue, load 0.9", 25, 1, sizes=(600,), long=20_000)
    assert all(holds(row, high=0.99) for row in rows), [coverage.line(row) for row in rows]
    assert rows[0].bursts > 5


@pytest.mark.slow
@pytest.mark.parametrize("n", [600, 3000])
def test_the_miss_ratio_is_held_over_lengths_and_ratios(n: int) -> None:
    """Where a run has six bursts or more on average; where it has fewer, among the runs that show a miss."""
    for ratio in (0.02, 0.1, 0.5):
        for burst in (2, 10, 30, 100):
            row = coverage.misses(n, ratio, burst, 300, 2)
            if row.bursts >= 6:
                assert holds(row), coverage.line(row)
            elif row.runs > row.nothing:
                seen = row.runs - row.nothing
                assert row.holds_seen / seen >= LOW - 3 * math.sqrt(LOW * (1 - LOW) / seen), coverage.line(row)


@pytest.mark.slow
@pytest.mark.parametrize("kind", coverage.KINDS)
def test_paired_differences_are_held_over_lengths_and_loads(kind: str) -> None:
    for ratio, burst in ((0.02, 2), (0.02, 5), (0.1, 2), (0.1, 10), (0.1, 30), (0.5, 10), (0.5, 50)):
        row = coverage.pairs(kind, 3000, ratio, burst, 400, 2)
        assert holds(row), coverage.line(row)


@pytest.mark.slow
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_quantiles_are_held_over_loads(q: float) -> None:
    for ratio, burst in ((0.02, 10), (0.1, 10), (0.1, 30)):
        row = coverage.quantiles(q, 3000, ratio, burst, 150, 2)
        assert holds(row, high=0.99), coverage.line(row)


@pytest.mark.slow
def test_overload_in_the_simulator_is_held() -> None:
    for world in ("queue, load 1", "made-up, load 1.5"):
        rows = coverage.simulated(world, 80, 2, sizes=(600,), long=150_000)
        assert all(holds(row, high=0.995) for row in rows), [coverage.line(row) for row in rows]

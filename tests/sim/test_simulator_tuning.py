"""Tuning takes the best on the pictures it is given; ranking sees all policies in the same worlds."""

from __future__ import annotations

import pytest

from imprecise import scenario, tuning
from imprecise.simulator import simulate


def test_the_tuned_threshold_is_the_best_of_the_grid():
    world = scenario.load("made-up", load=3.0).on_validation()
    grid = (0.2, 0.6, 0.85, 1.0)
    utilities = {theta: simulate(world, f"threshold:theta={theta}", 2, 600).weighted_utility for theta in grid}
    assert tuning.tune_threshold(world, 2, 600, grid) == max(utilities, key=utilities.__getitem__)
    assert [theta for theta, _ in tuning.threshold_curve(world, 2, 100, grid)] == list(grid)


def test_of_equal_thresholds_the_smallest_is_taken():
    world = scenario.load("ten-tasks")
    assert tuning.tune_threshold(world, 0, 50, (0.9, 0.3, 0.5)) == 0.3


def test_policies_are_ranked_by_what_they_lack():
    worlds = [scenario.load("made-up", load=load).on_validation() for load in (1.0, 2.0)]
    ranks = tuning.rank_policies(worlds, ["mandatory-only", "monolithic", "least-confident"], (0, 1), 300)
    assert [rank.policy for rank in ranks] == ["least-confident", "mandatory-only", "monolithic"]
    assert ranks[0].shortfall == ranks[0].worst_shortfall == 0 and ranks[0].missed == 0 < ranks[2].missed
    assert ranks[1].worst_shortfall >= ranks[1].shortfall > 0
    assert ranks[1].utility == pytest.approx(ranks[0].utility - ranks[1].shortfall)


@pytest.mark.parametrize("call", [lambda w: tuning.tune_threshold(w, grid=()), lambda w: tuning.tune_threshold(w, grid=(1.5,)),
                                  lambda w: tuning.rank_policies([], ["fifo-gated"]), lambda w: tuning.rank_policies([w], [])])
def test_nothing_to_choose_from_is_refused(call):
    with pytest.raises(ValueError):
        call(scenario.load("ten-tasks"))

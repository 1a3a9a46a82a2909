"""Tuning and choosing policies, on validation pictures only: what is reported later must not have chosen anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .scenario import Scenario
from .simulation import Simulation
from .simulator import simulate

GRID = tuple(i / 20 for i in range(1, 21))


def threshold_curve(scenario: Scenario, seed: int = 0, frames: int = 4000,
                    grid: Sequence[float] = GRID) -> list[tuple[float, Simulation]]:
    """`threshold` at each theta of the grid, every one on the same frames and draws, streaming mode."""
    return [(theta, simulate(scenario, f"threshold:theta={theta!r}", seed, frames, rows=False)) for theta in grid]


def tune_threshold(scenario: Scenario, seed: int = 0, frames: int = 4000, grid: Sequence[float] = GRID) -> float:
    """The theta of the grid with the best weighted utility; of equals the smallest, which refines least.

    Give it `scenario.on_validation()`. Raises ValueError for an empty grid or a theta outside 0..1.
    """
    if not grid:
        raise ValueError("the grid is empty")
    curve = threshold_curve(scenario, seed, frames, sorted(grid))
    return max(curve, key=lambda entry: (round(entry[1].weighted_utility, 12), -entry[0]))[0]


@dataclass(frozen=True)
class Rank:
    """How a policy did: its mean weighted utility, and by how much it fell short of the best policy of each world, mean and worst."""

    policy: str
    utility: float
    shortfall: float
    worst_shortfall: float
    missed: int


def rank_policies(scenarios: Sequence[Scenario], policies: Sequence[str], seeds: Sequence[int] = (0, 1, 2),
                  frames: int = 2000) -> list[Rank]:
    """Policies from best to worst by mean shortfall; a world is a scenario with a seed, and all policies see the same ones.

    Give it scenarios `on_validation()`, at the loads that matter. Raises ValueError where there is nothing to compare.
    """
    if not scenarios or not policies or not seeds:
        raise ValueError("ranking needs at least one scenario, policy and seed")
    worlds = [(scenario, seed) for scenario in scenarios for seed in seeds]
    results = {p: [simulate(scenario, p, seed, frames, rows=False) for scenario, seed in worlds] for p in dict.fromkeys(policies)}
    best = [max(runs[i].weighted_utility for runs in results.values()) for i in range(len(worlds))]
    ranks = []
    for policy, runs in results.items():
        short = [top - run.weighted_utility for top, run in zip(best, runs)]
        ranks.append(Rank(policy, sum(run.weighted_utility for run in runs) / len(runs), sum(short) / len(short), max(short),
                          sum(run.missed for run in runs)))
    return sorted(ranks, key=lambda rank: (round(rank.shortfall, 12), rank.policy))

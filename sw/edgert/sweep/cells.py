"""The kinds of cells that a sweep file makes: one simulation, and one tuning of a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from imprecise import question
from imprecise.admission import RunAdmission, answer
from imprecise.policies import make
from imprecise.scenario import Scenario
from imprecise.simulator import simulate as run
from imprecise.tuning import GRID, tune_threshold

TUNED = "=tuned"  # stands for a number in a policy's parameters: the cell's need of the name "theta" gives it


def simulate(params: Mapping[str, Any], inputs: Mapping[str, Any], needs: Mapping[str, Any]) -> dict[str, Any]:
    """`Simulation.summary()` of inputs["scenario"] under params["policy"], with params "seed" and "frames"; as `edgert simulate` does it.

    A tuned theta (a need) goes into the policy and stands in the result.
    Optional params: "rows" (exact quantiles of latency; memory grows with the frames) and "options" (for the engine; what admission
    found holds where they say nothing). Raises RuntimeError where the policy had to be switched off.
    """
    world: Scenario = inputs["scenario"]
    spec: str = params.get("spec", params["policy"])
    if TUNED in spec:
        spec = spec.replace(TUNED, f"={needs['theta']!r}")
    policy = make(spec)
    options = {**engine_options(world, policy.splits), **params.get("options", {})}
    result = run(world, policy, params["seed"], params["frames"], rows=params.get("rows", False), options=options)
    if result.policy_fault:
        raise RuntimeError(f"the policy was switched off: {result.policy_fault}")
    return {**result.summary(), "policy": params["policy"], **({"theta": needs["theta"]} if "theta" in needs else {})}


def tune(params: Mapping[str, Any], inputs: Mapping[str, Any], needs: Mapping[str, Any]) -> float:
    """The best theta of `threshold` on inputs["scenario"], a world of validation pictures; params "seed", "frames", "grid" (optional)."""
    world: Scenario = inputs["scenario"]
    limits = engine_options(world)["blocking_ns"]
    return tune_threshold(replace(world, blocking_ns=limits), params["seed"], params["frames"], params.get("grid", GRID))


def engine_options(world: Scenario, splits: bool = True) -> dict[str, Any]:
    """What the engine is told under a policy that splits the work, or does not; admission is asked once for each scenario."""
    return question.engine_options(world, _admission(_Same(world)) if splits else None)


class _Same:
    """A scenario as a key: the object itself."""

    def __init__(self, world: Scenario):
        self.world = world

    def __hash__(self) -> int:
        return id(self.world)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.world is self.world


@lru_cache(maxsize=8)
def _admission(same: _Same) -> RunAdmission:
    return answer(question.of_scenario(same.world))

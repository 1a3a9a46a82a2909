"""What the study computes, one cell at a time: a policy's figures in a world, and the bounds of that world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imprecise import ladder, policies
from imprecise.engine import Engine
from imprecise.model import Job
from imprecise.policies.base import Policy
from imprecise.scenario import Scenario
from imprecise.simulation import DROPPED, MISSED, Simulation
from imprecise.simulator import simulate
from imprecise.statistics import mk_frontier

from ..sweep.cells import engine_options

LONGEST_K = 20  # of the (m, k) frontier


def policy(params: Mapping[str, Any], inputs: Mapping[str, Any], needs: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of params["policy"] in inputs["scenario"] with params "seed", "frames", "decision_ns" (charged before each optional stage).

    `expected`: mean worth of the depths reached by the gains expected before each stage, the same for a policy as `utility` in
    expectation, and what the bounds bound frame set by frame set. `frontier[k - 1]`: the largest m with m answered in any k in a row.
    """
    world: Scenario = inputs["scenario"]
    charged = replace(world, conditions=replace(world.conditions, decision_ns=params["decision_ns"]))
    spec, seed, frames = params["policy"], params["seed"], params["frames"]
    options = engine_options(world) if policies.make(spec).splits else {}
    result = simulate(charged, spec, seed, frames, options=options)
    assert result.frames is not None
    rows = result.frames[result.frames["status"] != DROPPED]
    known = ladder.frames_of(world, seed, frames, expected=True)
    weight = sum(frame.weight for frame in known)
    depths = np.where(rows["status"] == MISSED, -1, rows["depth"]).tolist()
    missed = [rows["status"][rows["stream"] == s] == MISSED for s in range(len(world.sources))]
    frontier = np.min([mk_frontier(misses, LONGEST_K) for misses in missed if len(misses) >= LONGEST_K], axis=0).tolist()
    return {"expected": ladder.utility_of(known, depths) / weight, "utility": result.weighted_utility, "accuracy": result.accuracy,
            "captured": result.captured, "missed": result.missed, "longest": max(s.longest_misses for s in result.streams),
            "frontier": frontier, "answered": result.answered, "busy": _busy(world, result), "policy_fault": result.policy_fault}


def bounds(params: Mapping[str, Any], inputs: Mapping[str, Any], needs: Mapping[str, Any]) -> dict[str, Any]:
    """Means over frames, weighted, of both sides of B0, B1, B2 in inputs["scenario"] with params "seed", "frames"; decisions cost nothing.

    B1 and B2 by expected gains; `realised` is B2 that also knows what every stage's confidence will be.
    """
    world: Scenario = inputs["scenario"]
    known = ladder.frames_of(world, params["seed"], params["frames"])
    expected = ladder.frames_of(world, params["seed"], params["frames"], expected=True)
    out: dict[str, Any] = {"mandatory": ladder.mandatory_only_utility(expected, world.resources) / sum(f.weight for f in expected)}
    for name, frames, bound in (("B0", known, "B0"), ("B1", expected, "B1"), ("B2", expected, "B2"), ("realised", known, "B2")):
        found = ladder.clairvoyant(frames, world.resources, bound)
        out[name] = {"upper": found.mean_upper, "lower": found.mean_lower}
    return out


class _Timed(Policy):
    """Times what it is asked, and hands it on."""

    def __init__(self, inner: Policy):
        self.inner, self.splits, self.needs_oracle, self.name = inner, inner.splits, inner.needs_oracle, inner.name
        self.quantile = inner.quantile
        self.spent_ns: list[int] = []
        self._since_ns = 0

    def wants(self, job: Job, engine: Engine) -> bool:
        self.inner.oracle = self.oracle
        begin = time.process_time_ns()
        found = self.inner.wants(job, engine)
        self._since_ns += time.process_time_ns() - begin
        return found

    def closed(self, job: Job, engine: Engine) -> None:
        begin = time.process_time_ns()
        self.inner.closed(job, engine)
        self._since_ns += time.process_time_ns() - begin

    def pick(self, ready: Sequence[Job], engine: Engine) -> Any:
        begin = time.process_time_ns()
        found = self.inner.pick(ready, engine)
        self.spent_ns.append(self._since_ns + time.process_time_ns() - begin)
        self._since_ns = 0
        return found


def decision_ns(world: Scenario, spec: str, frames: int = 3000) -> int:
    """The 95 % quantile of what a policy's decision before an optional stage costs on this machine, with all it does since the last."""
    watched = _Timed(policies.make(spec))
    simulate(world, watched, 0, frames, rows=False)
    return int(np.quantile(watched.spent_ns, 0.95)) if watched.spent_ns else 0


def _busy(world: Scenario, result: Simulation) -> dict[str, float]:
    return {name: ns / max(1, result.end_ns * world.resources[name]) for name, ns in result.busy_ns.items()}

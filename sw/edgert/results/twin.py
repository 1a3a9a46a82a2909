"""The simulation of a recorded run: the same engine, streams, rates, seed and frames, with the durations that the run measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imprecise import policies
from imprecise.draws import DurationModel, Empirical, Periodic, Quantiles
from imprecise.scenario import Outcomes, Scenario, Source, Workload
from imprecise.simulator import simulate
from imprecise.tuning import tune_threshold

from ..errors import RecordError
from ..executive import reproduce
from .view import View

if TYPE_CHECKING:
    from ..bundle import Bundle

SOON_NS = 1_000_000  # a unit that starts its next stage sooner than this was waited for
LEAST = 20  # recorded durations of a stage; with fewer, what was measured before the run stands for them


def durations(view: View, stage: str) -> DurationModel:
    """How long a stage took in a run, as the dispatcher saw it; where it hardly ran, as measured before the run. Raises RecordError."""
    table = view.stages
    spent = (table["end_ns"] - table["start_ns"])[(table["name"] == stage) & np.isin(table["status"], ("done", "late"))]
    if len(spent) >= LEAST:
        extra_ns = 0 if bool((table["resource"][table["name"] == stage] == "fpga").all()) else handling_ns(view)
        return Empirical(tuple(int(ns) + extra_ns for ns in spent))
    measured = view.meta.get("measured", {}).get(stage.rpartition("/")[2])
    if not isinstance(measured, dict):
        raise RecordError(f"{view.path} has {len(spent)} durations of stage {stage}, too few to simulate it", "record a longer run")
    return Quantiles((0.5, 0.9, 0.99, 1.0), tuple(int(measured[k]) for k in ("p50_ns", "p90_ns", "p99_ns", "max_ns")))


def handling_ns(view: View) -> int:
    """What passes between two stages of a worker that has more to do: the dispatcher's part, which virtual time does not have.

    The median of the gaps below `SOON_NS`; a simulation adds it to a worker's stages. 0 where there are too few.
    """
    table, gaps = view.stages, []
    for unit in np.unique(table["unit"][table["resource"] == "cpu"]):
        mine = (table["resource"] == "cpu") & (table["unit"] == unit) & (table["end_ns"] >= 0)
        between = table["start_ns"][mine][1:] - table["end_ns"][mine][:-1]
        gaps.append(between[(between >= 0) & (between < SOON_NS)])
    found = np.concatenate(gaps) if gaps else np.zeros(0)
    return int(np.median(found)) if len(found) >= LEAST else 0


def world(view: View, bundle: Bundle) -> tuple[Scenario, dict[str, Any]]:
    """The scenario of a live run, and the engine options that admission found. Raises RecordError where the record lacks them."""
    description = view.meta.get("engine")
    if not isinstance(description, dict):
        raise RecordError(f"{view.path} does not say how its engine was made", "record the run again with this edgert")
    engine = reproduce.build(description)
    first = engine.streams[0]
    models = {stage.name: durations(view, stage.name) for stage in first.stages}
    outcomes, validation = (Outcomes(arrays["confidence"], arrays["correct"])
                            for arrays in (bundle.arrays("outcomes.npz"), bundle.arrays("validation.npz")))
    work = Workload(first.stages, tuple(models[stage.name] for stage in first.stages), first.reward, outcomes, validation)
    sources = tuple(Source(stream, Periodic(stream.period_ns, -1), replace(work, stages=stream.stages)) for stream in engine.streams)
    options = {"blocking_ns": dict(description["blocking_ns"]), "quantile": description["quantile"], "yields": description["yields"],
               "local_ns": {(i, k): ns for i, k, ns in description["local_ns"]}}
    return Scenario("twin", sources, dict(description["resources"]), int(description["guard_ns"]), options["blocking_ns"]), options


def twin(view: View, bundle: Bundle) -> View:
    """The simulation of a recorded run, as columns: as many frames as it captured.

    Raises RecordError where there is no twin: the record lacks what it takes, or names a policy that does not come with edgert (code
    that a record names is not run).
    """
    from ..cli.simulate import view_of

    try:
        policies.make(view.policy, own=False)
    except ValueError as error:
        raise RecordError(f"{view.path} has no twin: {error}", "simulate a policy that edgert has: edgert policies") from None
    scenario, options = world(view, bundle)
    result = simulate(scenario, view.policy, int(view.meta["seed"]), len(view.frames["frame"]), options=options)
    return view_of(scenario, result)


def tuned_threshold(view: View, bundle: Bundle, frames: int = 2000) -> float:
    """The confidence threshold that is best in simulations of this run on validation pictures."""
    scenario, _ = world(view, bundle)
    return tune_threshold(scenario.on_validation(), int(view.meta["seed"]) + 1, frames)


def full_utility(view: View, bundle: Bundle) -> np.ndarray:
    """Utility of a complete answer to each picture of the data set: float64 [pictures]."""
    stream = reproduce.build(view.meta["engine"]).streams[0]
    confidence = bundle.arrays("outcomes.npz")["confidence"][:, stream.deepest]
    return np.array([stream.reward.utility(stream.deepest, float(c)) for c in confidence])

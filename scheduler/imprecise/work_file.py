"""The part of a scenario file that says what a model costs and what its answers are worth: see `scenario` for the format."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .conditions_file import one_of
from .draws import Constant, DurationModel, Empirical, Listed, Lognormal, typical_ns
from .model import KINDS, Curve, Reward, Stage
from .tables import MAX_NS, Table, nearest
from .workload import Outcomes, Workload, depths_of, synthetic_outcomes, synthetic_reward

Resolver = Callable[[str], Workload]


def read_bundle(table: Table, resolve: Resolver | None) -> Workload:
    """The workload of a trained bundle; `times` may give its stages other durations. Raises ScenarioError, and what `resolve` raises."""
    name = table.text("bundle")
    for key in ("stage", "outcomes", "reward", "kind"):
        if key in table.data:
            raise table.error(key, "it beside bundle", "one or the other")
    if resolve is None:
        raise table.error("bundle", repr(name), "stages written out, as no bundles are at hand here")
    work = resolve(name)
    if "times" not in table.data:
        return work
    times = table.table("times")
    stages, durations = list(work.stages), list(work.durations)
    for i, stage in enumerate(stages):
        short = stage.name.rpartition("/")[2]
        if short in times.data:
            durations[i] = read_duration(times, short)
            wcet_ns = durations[i].worst_ns if stage.mandatory else stage.wcet_ns
            stages[i] = replace(stage, typical_ns=typical_ns(durations[i]), wcet_ns=wcet_ns)
    times.finish()
    return replace(work, stages=tuple(stages), durations=tuple(durations))


def read_work(table: Table, units: dict[str, int]) -> Workload:
    """A workload from `[[stream.stage]]`, `[stream.reward]` and `[stream.outcomes]`."""
    stages: list[Stage] = []
    durations: list[DurationModel] = []
    kind = one_of(table, "kind", list(KINDS), "milestone")
    for part in table.tables("stage"):
        name = part.name("name")
        if any(stage.name == name for stage in stages):
            raise part.error("name", repr(name), "a name that no other stage of the stream has")
        resource = part.text("resource")
        if resource not in units:
            raise part.error("resource", repr(resource), nearest(resource, sorted(units)))
        model = read_duration(part)
        wcet_ns = part.duration("wcet", model.worst_ns)
        some = part.take("units", [])
        if not isinstance(some, list) or not all(type(u) is int and 0 <= u < units[resource] for u in some) or some != sorted(set(some)):
            raise part.error("units", repr(some), f"a rising list of units of {resource}, 0 to {units[resource] - 1}")
        stages.append(Stage(name, resource, part.flag("mandatory", False), wcet_ns, typical_ns(model), tuple(some)))
        durations.append(model)
        part.finish()
    optional = [stage.mandatory for stage in stages].count(False)
    depths = depths_of(kind, optional)
    outcomes, validation, reward = _outcomes(table, optional + 1, depths, kind)
    if "reward" in table.data:
        reward = _reward(table.table("reward"), depths, outcomes is not None)
    return Workload(tuple(stages), tuple(durations), reward, outcomes, validation, kind)


def read_duration(part: Table, key: str = "time") -> DurationModel:
    """A duration: constant, a list by frame, lognormal, or samples. Raises ScenarioError."""
    value = part.data.get(key)
    if isinstance(value, list):
        return Listed(part.durations(key, least=1))
    if not isinstance(value, dict):
        return Constant(part.duration(key, least=1))
    model = part.table(key)
    if "samples" in model.data:
        samples = model.durations("samples", least=1)
        model.finish()
        return Empirical(samples)
    median_ns, sigma = model.duration("median", least=1), model.number("sigma")
    limit_ns = model.duration("max", 0, least=1)
    model.finish()
    if not 0 <= sigma <= 3:
        raise model.error("sigma", f"{sigma:g}", "a number from 0 to 3")
    if limit_ns and limit_ns < median_ns:
        raise model.error("max", f"{limit_ns} ns", f"at least the median ({median_ns} ns)")
    if not limit_ns and median_ns * math.exp(9 * sigma) > MAX_NS:
        raise model.error("median", f"{median_ns} ns", "less, or a max")
    return Lognormal(median_ns, sigma, limit_ns)


def _outcomes(table: Table, listed: int, depths: int, kind: str) -> tuple[Outcomes | None, Outcomes | None, Reward]:
    if "outcomes" not in table.data:
        return None, None, Reward()
    part = table.table("outcomes")
    if "accuracy" in part.data:
        accuracy = part.numbers("accuracy")
        count = part.integer("n", 1, 10**6, 4000)
        part.finish()
        if len(accuracy) != listed or list(accuracy) != sorted(accuracy) or not 0.05 <= accuracy[0] <= accuracy[-1] < 1:
            raise part.error("accuracy", repr(list(accuracy)), f"{listed} rising numbers from 0.05 to below 1: mandatory, then with each "
                             "optional stage")
        name = str(table.data.get("name"))
        made = [synthetic_outcomes(accuracy, count, name, which, kind) for which in (0, 1)]
        return made[0], made[1], synthetic_reward(accuracy, kind)
    confidence, correct = part.take("confidence", None), part.take("correct", None)
    part.finish()
    try:
        outcomes = Outcomes(np.asarray(confidence, dtype=np.float64), np.asarray(correct))
        if np.asarray(correct).dtype != np.bool_:
            raise ValueError("correct must be true or false")
    except (ValueError, TypeError) as error:
        raise part.error("confidence", "unfitting lists", f"accuracy, or confidence and correct a picture: {error}") from None
    if outcomes.depths != depths:
        raise part.error("confidence", f"{outcomes.depths} depths", f"{depths}, one more than there are optional stages")
    return outcomes, None, Reward()


def _reward(part: Table, depths: int, has_outcomes: bool) -> Reward:
    prior = part.numbers("prior", ())
    correct = tuple(_curve(entry) for entry in part.tables("correct", []))
    gain: dict[tuple[int, int], Curve] = {}
    for start, row in part.table("gain", {}).subtables():
        for end, entry in row.subtables():
            if not (start.isdigit() and end.isdigit() and int(start) < int(end) < depths):
                raise row.error(end, f"depths {start} to {end}", f"rising depths below {depths}")
            gain[int(start), int(end)] = _curve(entry)
    part.finish()
    if prior and len(prior) != depths:
        raise part.error("prior", f"{len(prior)} numbers", f"{depths}, one a depth")
    if correct and len(correct) != depths:
        raise part.error("correct", f"{len(correct)} curves", f"{depths}, one a depth")
    if (correct or gain) and not has_outcomes:
        raise part.error("correct", "curves of confidence without outcomes", "[stream.outcomes], or prior alone")
    return Reward(correct, gain, prior)


def _curve(part: Table) -> Curve:
    x, y = part.numbers("x"), part.numbers("y")
    part.finish()
    try:
        return Curve(x, y)
    except ValueError as error:
        raise part.error("x", "no curve", str(error)) from None

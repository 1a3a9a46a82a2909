"""What happened in a run, in numbers: `summarise` gives the dict of `docs/json.md`, `render` the text of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imprecise import statistics
from imprecise.binomial import Interval

from . import causes, text
from .record import Run
from .view import View, of

FORMAT = 1
CONFIDENCE = 0.95
BURST = 3  # deadlines: as long as a burst of misses may be expected to last
MAX_OVERSHOOT_RATIO = 0.001  # of the frames given to an emulated accelerator
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


def summarise(run: Run | View) -> dict[str, Any]:
    """Every figure of one run (an open record, or its columns), as described in `docs/json.md`; JSON types only."""
    view = run if isinstance(run, View) else of(run)
    meta, frames = view.meta, view.frames
    found = causes.causes(view)
    total = figures(view, np.ones(len(frames["frame"]), dtype=bool))
    streams = []
    for i, stream in enumerate(view.streams):
        streams.append({"name": stream.name, "source": stream.source, "period_ns": stream.period_ns, "deadline_ns": stream.deadline_ns,
                        "jitter_ns": stream.jitter_ns, "weight": stream.weight, **figures(view, frames["stream"] == i)})
    start_ns = int(frames["release_ns"].min()) if len(frames["frame"]) else 0
    end_ns = int(frames["deadline_ns"].max()) if len(frames["frame"]) else 0
    violations = sum(int(a["violations"]) for a in view.assumptions)
    return {
        "format": FORMAT, "run": view.path, "kind": meta.get("kind"), "edgert": meta.get("edgert"), "bundle": meta.get("bundle"),
        "model_id": meta.get("model_id"), "policy": view.policy, "splits": view.splits, "accelerator": meta.get("accelerator"),
        "emulated": bool(meta.get("emulated", False)), "load": meta.get("load"), "seed": meta.get("seed"),
        "started_utc": meta.get("started_utc"), "finished": meta.get("finished") is True, "duration_ns": end_ns - start_ns,
        "confidence": CONFIDENCE, "validity": validity(view, streams, total), "guarantee": guarantee(view, total, violations),
        "all": total, "streams": streams,
        "misses": [entry(c) for c in found if c.status == "missed"], "miss_causes": causes.count(found, "missed"),
        "drops": [entry(c) for c in found if c.status == "dropped"], "drop_causes": causes.count(found, "dropped"),
        "assumptions": [dict(a) for a in view.assumptions], "assumption_violations": violations,
        "stages": stages(view), "counters": dict(view.counters),
    }


def entry(cause: causes.Cause) -> dict[str, Any]:
    """One miss or drop."""
    return {"stream": cause.stream, "frame": cause.frame, "job": cause.job, "release_ns": cause.release_ns,
            "deadline_ns": cause.deadline_ns, "cause": cause.cause, "evidence": cause.evidence,
            "assumption_violated": cause.assumption_violated, "spent_ns": cause.parts_ns}


def figures(view: View, chosen: np.ndarray) -> dict[str, Any]:
    """The figures of the chosen frames (bool [frames]), which are in order of release."""
    frames = {name: column[chosen] for name, column in view.frames.items()}
    status = frames["status"]
    delivered = status != 2
    misses = (status[delivered] == 1).astype(np.int8)
    deepest = max((stream.deepest for stream in view.streams), default=0)
    out: dict[str, Any] = {
        "captured": len(status), "answered": int((status == 0).sum()),
        "answered_by_depth": {str(d): int(((status == 0) & (frames["depth"] == d)).sum()) for d in range(deepest + 1)},
        "missed": int(misses.sum()), "dropped": int((~delivered).sum())}
    out["sums_exactly"] = out["captured"] == sum(out["answered_by_depth"].values()) + out["missed"] + out["dropped"]
    late_ns = np.where(status == 0, (frames["published_ns"] - frames["release_ns"]).astype(np.float64), np.inf)[delivered]
    allowed_ns = (frames["deadline_ns"] - frames["release_ns"])[delivered]
    burst = None if misses.any() else burst_block(frames["release_ns"][delivered], allowed_ns)
    out.update(ratio("miss_ratio", statistics.miss_ratio_interval(misses, CONFIDENCE, burst) if len(misses) else None))
    out["unanswered_ratio"] = (out["missed"] + out["dropped"]) / out["captured"] if out["captured"] else None
    runs = [int(statistics.miss_runs(status[(frames["stream"] == s) & delivered] == 1).max(initial=0))
            for s in np.unique(frames["stream"])]
    out["longest_run_of_misses"] = max(runs, default=0)
    for name, q in QUANTILES.items():
        interval = statistics.quantile_interval(late_ns, q, CONFIDENCE, None) if len(late_ns) else None
        out[f"latency_{name}_ns"] = nanoseconds(interval.estimate) if interval else None
        out[f"latency_{name}_low_ns"] = nanoseconds(interval.low) if interval else None
        out[f"latency_{name}_high_ns"] = nanoseconds(interval.high) if interval else None
    answered = late_ns[np.isfinite(late_ns)]
    out["latency_max_ns"] = nanoseconds(float(answered.max())) if len(answered) else None
    labelled = frames["correct"][delivered & (frames["correct"] >= 0)]
    out["labelled"] = len(labelled)
    out.update(ratio("accuracy", mean(labelled)))
    out.update(ratio("utility", mean(frames["utility"][delivered])))
    return out


def burst_block(release_ns: np.ndarray, allowed_ns: np.ndarray) -> int:
    """How many consecutive frames count as one trial where nothing was missed: those of `BURST` deadlines, at least n^(1/3).

    A stall of the machine or a full queue makes misses for about so long; a run without one cannot tell how long. The bound holds
    where bursts last at most so long on average; for longer ones it is too low by as much.
    """
    n = len(release_ns)
    if n < 20:
        return 1
    span_ns = max(1, int(release_ns[-1] - release_ns[0]))
    wanted = max(BURST * int(allowed_ns.max()) * n / span_ns, n ** (1 / 3))
    return int(min(n // 10, np.ceil(wanted)))


def mean(values: np.ndarray) -> Interval | None:
    """The mean of values in 0..1 in time order, with an interval that holds for bursts."""
    return statistics.mean_interval(values, CONFIDENCE) if len(values) else None


def ratio(name: str, interval: Interval | None) -> dict[str, Any]:
    """A figure of 0..1 with the ends of its interval."""
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_method": ""}
    return {name: interval.estimate, f"{name}_low": max(0.0, interval.low), f"{name}_high": min(1.0, interval.high),
            f"{name}_method": interval.method}


def nanoseconds(value: float) -> int | None:
    """An integer, None for what lies beyond the answered frames."""
    return int(value) if np.isfinite(value) else None


def stages(view: View) -> list[dict[str, Any]]:
    """Durations of each stage that ran to its end, and how often it exceeded its worst case."""
    out = []
    worst = {str(s["name"]): int(s.get("wcet_ns", 0)) for stream in view.streams for s in stream.stages}
    table = view.stages
    spent = table["end_ns"] - table["start_ns"]
    for name in dict.fromkeys([*worst, *np.unique(table["name"]).tolist()]):
        mine = table["name"] == name
        done = spent[mine & np.isin(table["status"], ("done", "late")) & (spent >= 0)]
        out.append({
            "name": name, "resource": str(table["resource"][mine][0]) if mine.any() else None, "started": int(mine.sum()),
            "late": int((table["status"][mine] == "late").sum()), "failed": int((table["status"][mine] == "failed").sum()),
            "abandoned": int((table["status"][mine] == "abandoned").sum()),
            "p50_ns": int(np.quantile(done, 0.5)) if len(done) else None, "p99_ns": int(np.quantile(done, 0.99)) if len(done) else None,
            "max_ns": int(done.max()) if len(done) else None, "worst_case_ns": worst.get(name) or None,
            "over_worst_case": int((done > worst[name]).sum()) if worst.get(name) else None})
    return out


def validity(view: View, streams: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> dict[str, Any]:
    """Whether conclusions may be drawn, and why not."""
    reasons, notes = [], []
    lost = view.counters.get("records_lost", 0)
    if lost:
        reasons.append(f"{lost} records were lost")
    if not total["captured"]:
        reasons.append("no frame was recorded")
    if not all(part["sums_exactly"] for part in [total, *streams]):
        reasons.append("captured is not the sum of answered, missed and dropped")
    gaps = _gaps(view)
    if gaps:
        reasons.append(f"{gaps} frames between recorded ones are not in the record, or are in it twice")
    if view.meta.get("finished") is not True:
        reasons.append("the record was not closed in order: the run was killed, or still runs")
    overshoots, used = view.counters.get("overshoots", 0), int((view.stages["resource"] == "fpga").sum())
    if view.meta.get("emulated") and overshoots > MAX_OVERSHOOT_RATIO * used:
        reasons.append(f"the emulated accelerator was late {overshoots} times in {used}, more than {MAX_OVERSHOOT_RATIO:.1%}")
    elif overshoots:
        notes.append(f"the emulated accelerator was late {overshoots} times in {used}")
    if view.meta.get("policy_fault"):
        reasons.append(f"the policy was switched off: {view.meta['policy_fault']}")
    if view.meta.get("invalid") and not reasons:
        reasons.append(str(view.meta["invalid"]))
    return {"valid": not reasons, "reasons": reasons, "notes": notes}


def _gaps(view: View) -> int:
    out = 0
    for i in range(len(view.streams)):
        numbers = np.sort(view.frames["frame"][view.frames["stream"] == i])
        out += int(np.abs(np.diff(numbers) - 1).sum()) if len(numbers) else 0
    return out


def guarantee(view: View, total: Mapping[str, Any], violations: int) -> dict[str, Any]:
    """What was promised before the run, and whether it was kept."""
    admission = view.meta.get("admission")
    admission = admission if isinstance(admission, Mapping) else {}
    detail = str(admission.get("sentence", ""))
    if not view.splits:
        kind, words = "none", f"policy {view.policy} does not split the work: nothing is guaranteed"
    elif str(admission.get("answer", "")).lower() == "certificate":
        kind, words = "certificate", "every mandatory part is proven in time while the assumptions hold"
    else:
        kind, words = "best_effort", "the mandatory parts are not proven in time"
    missed = total["missed"]
    broken = kind == "certificate" and missed > 0 and violations == 0
    if kind == "certificate" and missed:
        words += (f"; missed without a violated assumption: {missed}; a bug, please report it" if broken else
                 f"; missed: {missed}, violations of assumptions: {violations}")
    return {"kind": kind, "text": words, "detail": detail, "kept": not broken}


def render(summary: Mapping[str, Any], width: int | None = None) -> str:
    """The summary as text, as wide as the terminal (or `width` characters), in colour where stdout is one."""
    return text.as_string(text.renderable(summary), width)

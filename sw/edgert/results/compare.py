"""Runs against a baseline on the same frames: paired differences with intervals that hold for bursts, and a plain verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imprecise import statistics

from ..errors import UsageError
from .summary import CONFIDENCE, summarise
from .text import points
from .view import View

FORMAT = 1
FIGURES = ("miss_ratio", "accuracy", "utility")
MAX_MARGIN = 1.0


def differences_of_setup(a: View, b: View) -> list[str]:
    """What makes two runs incomparable, each named with both values; empty where nothing does."""
    out = []
    for key, name in (("model_id", "model"), ("seed", "seed")):
        if a.meta.get(key) != b.meta.get(key):
            out.append(f"{name} ({_short(a.meta.get(key))} and {_short(b.meta.get(key))})")
    names = [[stream.name for stream in view.streams] for view in (a, b)]
    if names[0] != names[1]:
        return [*out, f"streams ({', '.join(names[0])} and {', '.join(names[1])})"]
    for left, right in zip(a.streams, b.streams):
        for field in ("source", "period_ns", "deadline_ns", "weight"):
            x, y = getattr(left, field), getattr(right, field)
            if x != y:
                out.append(f"{field.removesuffix('_ns')} of stream {left.name} ({x} and {y}{' ns' if field.endswith('_ns') else ''})")
    rows_a, rows_b = pairs(a, b)
    items_a, items_b = a.frames["item"][rows_a], b.frames["item"][rows_b]
    shown = (items_a >= 0) & (items_b >= 0) & (items_a != items_b)
    if shown.any():
        out.append(f"pictures ({int(shown.sum())} of {len(rows_a)} frames show another one)")
    return out


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12] + "..."


def pairs(a: View, b: View) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the frames (stream name, number) that both runs delivered, in the order of release in A."""
    index = {stream.name: i for i, stream in enumerate(b.streams)}
    codes = np.array([index.get(stream.name, -1) for stream in a.streams], dtype=np.int64)
    keep_a, keep_b = np.flatnonzero(a.delivered), np.flatnonzero(b.delivered)
    key_a = _keys(codes[a.frames["stream"][keep_a]], a.frames["frame"][keep_a])
    key_b = _keys(b.frames["stream"][keep_b], b.frames["frame"][keep_b])
    _, at_a, at_b = np.intersect1d(key_a, key_b, return_indices=True)
    order = np.argsort(at_a)  # keep_a is in order of release
    return keep_a[at_a[order]], keep_b[at_b[order]]


def _keys(stream: np.ndarray, frame: np.ndarray) -> np.ndarray:
    keys = stream.astype(np.int64) * (1 << 40) + frame
    keys[stream < 0] = -1 - frame[stream < 0]  # a stream that the other run does not have
    return np.asarray(keys)


def values(view: View, rows: np.ndarray, figure: str) -> np.ndarray:
    """One figure a frame, float64: a miss (0 or 1), right (0 or 1, nan without a label), or utility."""
    if figure == "miss_ratio":
        return np.asarray(view.missed[rows], dtype=np.float64)
    if figure == "accuracy":
        correct = view.frames["correct"][rows].astype(np.float64)
        return np.asarray(np.where(correct < 0, np.nan, correct))
    return np.asarray(view.frames["utility"][rows], dtype=np.float64)


def difference(base: View, other: View, figure: str, confidence: float) -> dict[str, Any]:
    """`other` minus `base` of one figure, with its interval; null where no pair has it."""
    rows_base, rows_other = pairs(base, other)
    a, b = values(other, rows_other, figure), values(base, rows_base, figure)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        nothing = dict.fromkeys(("baseline_value", "value", "difference", "difference_low", "difference_high"))
        return {"pairs": 0, **nothing, "verdict": "no pair", "method": ""}
    found = statistics.paired_difference(a[both], b[both], confidence=confidence)
    words = {"a is higher": "higher", "b is higher": "lower"}.get(found.verdict, "no difference shown")
    return {"pairs": int(both.sum()), "baseline_value": float(b[both].mean()), "value": float(a[both].mean()),
            "difference": found.interval.estimate, "difference_low": max(-1.0, found.interval.low),
            "difference_high": min(1.0, found.interval.high), "verdict": words, "method": found.interval.method}


def equivalent(base: View, other: View, margin: float, figure: str = "utility") -> dict[str, Any]:
    """Two one-sided tests that `other` and `base` differ by less than `margin` (0..1) in a figure. Raises UsageError for the margin."""
    if not 0 < margin < MAX_MARGIN:
        raise UsageError(f"a margin of {margin:g} makes no sense", "give one between 0 and 1, like 0.02, before looking at the runs")
    rows_base, rows_other = pairs(base, other)
    a, b = values(other, rows_other, figure), values(base, rows_base, figure)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return {"figure": figure, "margin": margin, "pairs": 0, "difference": None, "difference_low": None, "difference_high": None,
                "interval_confidence": round(2 * CONFIDENCE - 1, 9), "verdict": "no pair"}
    found = statistics.equivalence(a[both], b[both], margin, confidence=CONFIDENCE)
    return {"figure": figure, "margin": margin, "pairs": int(both.sum()), "difference": found.interval.estimate,
            "difference_low": found.interval.low, "difference_high": found.interval.high,
            "interval_confidence": round(found.interval.confidence, 9), "verdict": found.verdict}


def names_of(views: Sequence[View]) -> list[str]:
    """A short name for each run: its policy; with its parameters, kind and file where that is not enough."""
    out = [view.policy.partition(":")[0] for view in views]
    if len(set(out)) < len(out):
        out = [view.policy for view in views]
    for more in ([str(view.meta.get("kind")) for view in views], [Path(view.path).stem for view in views]):
        if len(set(out)) < len(out) and len(set(more)) > 1:
            out = [f"{name} {extra}" for name, extra in zip(out, more)]
    return [name if out.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(out)]


def compare(views: Sequence[View], baseline: int = 0, force: bool = False, margin: float | None = None,
            names: Sequence[str] | None = None, summaries: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Compare runs with `views[baseline]`; the dict of `docs/json.md`.

    Raises UsageError for fewer than two runs, and where runs differ in what must be equal, unless `force`.
    """
    if len(views) < 2:
        raise UsageError(f"found {len(views)} run to compare, expected at least two", "name two or more run records")
    base = views[baseline]
    names = list(names or names_of(views))
    others = [i for i in range(len(views)) if i != baseline]
    setup = {names[i]: differences_of_setup(base, views[i]) for i in others}
    wrong = {name: found for name, found in setup.items() if found}
    if wrong and not force:
        name, found = next(iter(wrong.items()))
        raise UsageError(f"{base.path} and {views[names.index(name)].path} are not comparable: they differ in {'; '.join(found)}",
                         "compare runs of one model, deadline and source, or add --force")
    # Bonferroni: all intervals of one figure hold together; simpler than Holm, and gives intervals and not only decisions.
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(others))
    summaries = list(summaries or [summarise(view) for view in views])
    compared = []
    for i in others:
        row: dict[str, Any] = {"name": names[i], "run": views[i].path, "differs_in": setup[names[i]]}
        row.update({figure: difference(base, views[i], figure, confidence) for figure in FIGURES})
        row["equivalence"] = None if margin is None else equivalent(base, views[i], margin)
        row["verdict"] = sentence(names[baseline], row)
        compared.append(row)
    return {"format": FORMAT, "baseline": names[baseline], "names": names, "forced": bool(wrong), "confidence": CONFIDENCE,
            "interval_confidence": confidence, "comparisons": len(others), "verdict": overall(names, summaries),
            "compared": compared, "runs": list(summaries)}


WORDS = {"miss_ratio": {"lower": "fewer misses", "higher": "more misses", "": "misses"},
         "utility": {"lower": "worse utility", "higher": "better utility", "": "utility"},
         "accuracy": {"lower": "worse accuracy", "higher": "better accuracy", "": "accuracy"}}


def _phrases(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For each figure what is shown, in words, and its numbers."""
    out = []
    for figure, words in WORDS.items():
        part = row[figure]
        if part["difference"] is None:
            continue
        span = f"{points(part['difference'])} points [{points(part['difference_low'])}, {points(part['difference_high'])}]"
        if figure == "miss_ratio" and part["value"] == part["baseline_value"] == 0:
            out.append(("neither missed a frame", ""))
        elif part["verdict"] == "no difference shown":
            out.append((f"no difference in {words['']} shown", span))
        else:
            out.append((words[part["verdict"]], span))
    return out


def in_short(row: Mapping[str, Any]) -> str:
    """One comparison in words without its numbers."""
    return ", ".join(words for words, _ in _phrases(row)) or "no frame in common"


def sentence(base: str, row: Mapping[str, Any]) -> str:
    """One comparison in words, with its numbers."""
    pairs_found = row["utility"]["pairs"]
    if not pairs_found:
        return f"{row['name']} and {base} have no frame in common."
    parts = [f"{words} ({span})" if span else words for words, span in _phrases(row)]
    text = f"{row['name']} against {base}, on the same {pairs_found:,} frames: {', '.join(parts)}."
    if row["equivalence"]:
        text += " " + equivalence_sentence(row["equivalence"])
    return text


def equivalence_sentence(part: Mapping[str, Any]) -> str:
    """An equivalence test in words."""
    if part["difference"] is None:
        return "Equivalence cannot be tested: no frame in common."
    span = (f"difference {points(part['difference'])} points [{points(part['difference_low'])}, {points(part['difference_high'])}], "
            f"margin {points(part['margin'], '')}")
    words = {"equivalent": f"{part['figure'].capitalize()} agrees within the margin",
             "different": f"{part['figure'].capitalize()} differs by more than the margin"}
    return f"{words.get(part['verdict'], 'Agreement within the margin is not shown')} ({span})."


def overall(names: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> str:
    """Who missed, and whose answers were best among those that missed least, in words."""
    invalid = [name for name, s in zip(names, summaries) if not s["validity"]["valid"]]
    late = [(name, s["all"]["miss_ratio"]) for name, s in zip(names, summaries) if s["all"]["missed"]]
    clean = [(name, s["all"]["utility"]) for name, s in zip(names, summaries) if not s["all"]["missed"] and s["all"]["utility"] is not None]
    parts = []
    if late:
        parts.append("Missed frames: " + ", ".join(f"{name} {100 * r:.3g} %" for name, r in sorted(late, key=lambda x: -x[1])) + ".")
    if clean:
        best = max(clean, key=lambda x: x[1])
        word = "No run missed a frame" if not late else f"Without a miss: {', '.join(name for name, _ in clean)}"
        parts.append(f"{word}; the best answers among them came from {best[0]} (utility {100 * best[1]:.1f} %)."
                     if len(clean) > 1 else f"{best[0]} missed none (utility {100 * best[1]:.1f} %).")
    if invalid:
        parts.append(f"INVALID, draw no conclusions from: {', '.join(invalid)}.")
    return " ".join(parts)

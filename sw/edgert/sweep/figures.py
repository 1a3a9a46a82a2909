"""What a sweep found: means and intervals over seeds, differences paired by seed, and every cell, as JSON, CSV and a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from imprecise.binomial import t_quantile

from .execute import Result
from .plan import DERIVED, Entry, Plan

if TYPE_CHECKING:
    from rich.console import Console

FORMAT = 1  # of the JSON
CONFIDENCE = 0.95
SHOWN = ("miss_ratio", "utility", "accuracy", "latency_p50_ns", "latency_p99_ns", "longest_misses")  # in the table, unless asked otherwise
LABELS = ("scenario", "policy", "seed", "policy_fault")  # of a result; no metrics
_SHARES = ("miss_ratio", "utility", "weighted_utility", "accuracy")


def metrics_of(value: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of one result by name, lists and dicts spread out: `answered.0`, `busy_ns.cpu`; and those derived from them."""
    found: dict[str, float | None] = {}
    for name, part in value.items():
        if name in LABELS:
            continue
        entries = enumerate(part) if isinstance(part, list) else part.items() if isinstance(part, Mapping) else [("", part)]
        for key, number in entries:
            if number is None or (isinstance(number, int | float) and not isinstance(number, bool)):
                found[f"{name}.{key}" if key != "" else name] = number
    if value.get("captured"):
        found[DERIVED[0]] = value["missed"] / value["captured"]
    return found


def interval(values: Sequence[float | None], confidence: float) -> dict[str, Any]:
    """Mean and Student's t interval of independent values: {n, mean, low, high}; None where there is none (a value that is None is
    a latency of a missed frame, or an accuracy without labels)."""
    numbers = [float(value) for value in values if value is not None]
    out: dict[str, Any] = {"n": len(values), "mean": None, "low": None, "high": None}
    if not numbers or len(numbers) < len(values):
        return out
    out["mean"] = fmean(numbers)
    if len(numbers) > 1:
        half = t_quantile(0.5 + confidence / 2, len(numbers) - 1) * stdev(numbers) / math.sqrt(len(numbers))
        out["low"], out["high"] = out["mean"] - half, out["mean"] + half
    return out


def figures(plan: Plan, results: Mapping[str, Result]) -> dict[str, Any]:
    """Everything, JSON types only: `settings` with a row a policy, and `cells`. The same results give the same text, however computed.

    `against_first`: differences to the first policy on the same seeds, whose intervals hold together for one metric (Bonferroni).
    """
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(plan.policies) - 1)
    rows: dict[tuple[int, str], dict[int, dict[str, float | None]]] = {}
    failed: dict[tuple[int, str], list[int]] = {}
    cells = []
    for entry in plan.entries:
        result = results[entry.cell.key]
        place = entry.setting, entry.policy
        found = metrics_of(result.value) if result.value is not None else None
        if found is None:
            failed.setdefault(place, []).append(entry.seed)
        else:
            rows.setdefault(place, {})[entry.seed] = found
        cells.append(_cell(plan, entry, result, found))
    settings = []
    for i, setting in enumerate(plan.settings):
        table = []
        first = rows.get((i, plan.policies[0]), {})
        for k, policy in enumerate(plan.policies):
            own = rows.get((i, policy), {})
            names = _names(plan, own.values())
            row: dict[str, Any] = {"policy": policy, "failed_seeds": failed.get((i, policy), []),
                                   "metrics": {name: interval([m.get(name) for m in own.values()], CONFIDENCE) for name in names}}
            pairs = [(first[seed], own[seed]) for seed in own if seed in first]
            row["against_first"] = {name: interval([_minus(b.get(name), a.get(name)) for a, b in pairs], confidence)
                                    for name in names} if k else None
            table.append(row)
        settings.append({"scenario": setting.scenario, "load": setting.load, "grid": dict(setting.grid), "policies": table})
    return {"format": FORMAT, "sweep": plan.name, "title": plan.title, "frames": plan.frames, "seeds": list(plan.seeds),
            "confidence": CONFIDENCE, "difference_confidence": confidence, "settings": settings, "cells": cells}


def _minus(b: float | None, a: float | None) -> float | None:
    return None if a is None or b is None else b - a


def _names(plan: Plan, found: Any) -> list[str]:
    """The metrics to give: those asked for, all otherwise."""
    names = list(dict.fromkeys(name for metrics in found for name in metrics))
    return names if not plan.metrics else [n for m in (*plan.metrics, "theta") for n in names if n == m or n.startswith(f"{m}.")]


def _cell(plan: Plan, entry: Entry, result: Result, found: Mapping[str, float | None] | None) -> dict[str, Any]:
    setting = plan.settings[entry.setting]
    theta = entry.cell.needs.get("theta")
    return {"key": entry.cell.key, "scenario": setting.scenario, "load": setting.load, "grid": dict(setting.grid), "policy": entry.policy,
            "seed": entry.seed, "tuned_by": None if theta is None else theta.key, "error": result.error or None,
            "metrics": None if found is None else {name: found[name] for name in _names(plan, [found])}}


def as_csv(found: Mapping[str, Any]) -> str:
    """A row a cell: what it stands for, then its metrics; empty where there is none."""
    grid = list(dict.fromkeys(key for cell in found["cells"] for key in cell["grid"]))
    names = list(dict.fromkeys(name for cell in found["cells"] for name in cell["metrics"] or ()))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["scenario", "load", *grid, "policy", "seed", *names, "error", "key"])
    for cell in found["cells"]:
        metrics = cell["metrics"] or {}
        values = [cell["scenario"], cell["load"], *(cell["grid"].get(key) for key in grid), cell["policy"], cell["seed"],
                  *(metrics.get(name) for name in names), cell["error"], cell["key"]]
        writer.writerow(["" if value is None else repr(value) if isinstance(value, float) else value for value in values])
    return out.getvalue()


# The table ------------------------------------------------------------------------------------------------------------


def show(plan: Plan, found: Mapping[str, Any], console: Console) -> None:
    """Print a table for each setting: metrics of each policy, then the differences to the first. As many metrics as are wide enough."""
    hidden = False
    for setting in found["settings"]:
        parts = [setting["scenario"], *([f"load {setting['load']:g}"] if setting["load"] is not None else []),
                 *(f"{key} = {value}" for key, value in setting["grid"].items())]
        seeds = len(found["seeds"])
        console.print(f"{', '.join(parts)}: {found['frames']:,} frames, {seeds} seed{'s' if seeds != 1 else ''}", style="bold")
        names = _shown(plan, setting)
        rows = [["policy", *map(_title, names)]]
        rows += [[row["policy"], *(_text(name, row["metrics"].get(name)) for name in names)] for row in setting["policies"]]
        if len(setting["policies"]) > 1 and seeds > 1:
            rows.append([f"less {setting['policies'][0]['policy']}:", *([""] * len(names))])
            rows += [[row["policy"], *(_text(name, row["against_first"].get(name), True) for name in names)]
                     for row in setting["policies"][1:]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(names) + 1)]
        while len(widths) > 2 and sum(widths) + 2 * (len(widths) - 1) > console.width:
            widths.pop()
            hidden = True
        for i, row in enumerate(rows):
            cells = [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))]
            console.print("  ".join(cells).rstrip(), style="dim" if i == 0 or row[0].endswith(":") else None, soft_wrap=True)
        for row in setting["policies"]:
            theta = row["metrics"].get("theta")
            if theta is not None and theta["mean"] is not None and "theta" not in names:
                console.print(f"{row['policy']}: theta {_text('theta', theta)}", style="dim")
            if row["failed_seeds"]:
                console.print(f"{row['policy']}: failed for seeds {', '.join(map(str, row['failed_seeds']))}", style="red")
    if len(found["seeds"]) > 1:
        many = ", together for all policies" if len(plan.policies) > 2 else ""
        console.print(f"±: half of the {100 * CONFIDENCE:.0f} % interval over seeds (Student's t); differences are paired by seed{many}; "
                      "* where 0 is outside.", style="dim")
    if hidden:
        console.print("More metrics on a wider terminal, or with --csv and --json.", style="dim")


def _shown(plan: Plan, setting: Mapping[str, Any]) -> list[str]:
    """The metrics of a table, in the order asked for."""
    wanted = list(plan.metrics) or list(SHOWN)
    there = list(dict.fromkeys(name for row in setting["policies"] for name in row["metrics"]))
    return [name for metric in wanted for name in there if name == metric or name.partition(".")[0] == metric]


def _title(name: str) -> str:
    return name.removeprefix("latency_").removesuffix("_ns").replace("_", " ")


def _text(name: str, part: Mapping[str, Any] | None, difference: bool = False) -> str:
    """`91.2 ±0.3 %`, `12.1 ±0.2 ms`, `-` where there is none."""
    if part is None or not part["n"]:
        return "-"
    if part["mean"] is None:
        return "missed" if "latency" in name and not difference else "-"
    scale, unit, digits = 1.0, "", 4
    if name in _SHARES:
        scale, unit = 100.0, " pt" if difference else " %"
    elif "_ns" in name:
        scale, unit = 1e-6, " ms"
    sign = "+" if difference else ""
    if part["low"] is None:
        return f"{part['mean'] * scale:{sign}.{digits}g}{unit}"
    half = (part["high"] - part["low"]) / 2 * scale
    if half == 0:
        return f"{part['mean'] * scale:{sign if part['mean'] else ''}.{digits}g}{unit}"
    places = max(0, min(6, 1 - math.floor(math.log10(half))))
    star = "*" if difference and (part["low"] > 0 or part["high"] < 0) else ""
    return f"{part['mean'] * scale:{sign}.{places}f} ±{half:.{places}f}{unit}{star}"

"""The page of the headline study: utility against load under the ladder of bounds, the price of each kind of not knowing, a table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import pairwise
from typing import Any

from ..results import report
from ..results.svg import WIDTH, Canvas, Scale, spread

LINES = {"default": "var(--c-green)", "threshold": "var(--c-blue)", "fifo-gated": "var(--c-amber)", "clockwork": "var(--c-pink)",
         "mandatory-only": "var(--c-grey)"}
PRICES = (("outcome", "B0", "B1", "var(--c-violet)"), ("atoms", "B1", "B2", "var(--c-amber)"),
          ("future and policy", "B2", "default", "var(--c-red)"),
          ("what the default gains", "default", "mandatory-only", "var(--d-1)"))


def page(numbers: Mapping[str, Any]) -> str:
    """The whole page, self-contained."""
    seeds, frames = len(numbers["seeds"]), numbers["frames"]
    total = seeds * frames * len(numbers["loads"]) * len(numbers["workloads"])
    parts = ["<h1>The price of not knowing</h1>",
             f'<p class="mute">{len(numbers["workloads"])} workloads at {len(numbers["loads"])} loads, '
             f"{len(numbers['policies'])} policies, "
             f"each on the same {seeds} replications of {frames:,} frames ({total:,} frames a policy). "
             "Simulated; a decision is charged to the CPU. "
             "Made by <code>make headline</code>; every number is in <code>results.json</code>.</p>",
             f'<div class="banner">{"".join(f"<p>{escape(line)}</p>" for line in verdict(numbers).splitlines())}</div>',
             "<h2>Utility against load</h2>", _ladder_text(), '<div class="columns">']
    for name, part in numbers["workloads"].items():
        parts.append(report.card(name, f"{_streams(part)}. Bands are 95 % intervals over {seeds} replications.", utility(numbers, part)))
    parts += ["</div>", "<h2>What each kind of not knowing costs</h2>", '<div class="columns">']
    for name, part in numbers["workloads"].items():
        parts.append(report.card(name, "From the mandatory answers up to those of one who knew everything.", prices(numbers, part)))
    parts += ["</div>", "<h2>Policies and workloads</h2>", *(_table(numbers, name) for name in numbers["workloads"]), _method(numbers)]
    return report.page("edgert: the price of not knowing", parts, "Written by edgert. Utility: expected correctness of what was published.")


def verdict(numbers: Mapping[str, Any]) -> str:
    """What came out against what was aimed at, a sentence a line."""
    parts = numbers["workloads"]
    split = [p for p in numbers["policies"] if p != "monolithic"]
    missed = sum(part["policies"][p]["missed"] for part in parts.values() for p in split)
    captured = sum(part["policies"][p]["captured"] for part in parts.values() for p in split)
    mean = sum(part["policies"]["default"]["mean_regret"] for part in parts.values()) / len(parts)
    worst_place = max(parts, key=lambda name: parts[name]["policies"]["default"]["worst_regret"])
    worst = parts[worst_place]["policies"]["default"]["worst_regret"]
    lines = [f"Policies that split the work missed {missed:,} of {captured:,} frames."
             + (f" No miss in {len(numbers['loads']) * len(numbers['seeds'])} independent replications of a workload bounds the share "
                f"of replications with a miss by {100 * numbers['zero_miss_bound']:.1f} % (95 %)." if not missed else ""),
             f"Regret of the default to B2: mean {100 * mean:.1f} % (aim 2 %: {'met' if mean <= 0.02 else 'missed'}), worst "
             f"{100 * worst:.1f} % ({worst_place}; aim 5 %: {'met' if worst <= 0.05 else 'missed'})."]
    for name, part in parts.items():
        row = part["policies"]["threshold"]
        gain, low, high = (100 * v for v in row["default_minus"])
        sure = row["p_holm"] < 0.05
        shown = "above" if sure and low > 0 else "below" if sure and high < 0 else "not shown to differ from"
        lines.append(f"{name}: the default is {shown} the tuned threshold ({gain:+.3f} points [{low:+.3f}, {high:+.3f}], "
                     f"Holm p = {row['p_holm']:.2g}).")
    return "\n".join(lines)


def utility(numbers: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Utility by load: the bounds as dashes, policies as lines with bands."""
    loads = numbers["loads"]
    canvas = Canvas(330, "utility against load, policies under the bounds")
    left, right, top, bottom = 52, WIDTH - 124, 16, 292
    curves = {p: part["policies"][p]["by_load"] for p in LINES}
    highs = [v[2] for v in part["bounds"]["B0"]["upper"]]
    lows = [v[1] for curve in curves.values() for v in curve]
    x, y = Scale(loads[0], loads[-1], left + 6, right), Scale(min(lows) - 0.002, max(highs) + 0.002, bottom, top)
    for tick in y.ticks():
        canvas.line(left, y(tick), right, y(tick))
        canvas.text(left - 8, y(tick) + 4, f"{100 * tick:.4g} %", "end", "tick")
    for load in loads:
        canvas.text(x(load), bottom + 18, f"{load:g}", "middle", "tick")
    canvas.line(left, bottom, right, bottom, "axis")
    canvas.text((left + right) / 2, 326, "load: what refining every frame would cost, in CPUs given", "middle")
    labels: list[tuple[float, str, str]] = []
    for bound, colour in (("B0", "var(--c-violet)"), ("B2", "var(--c-red)")):
        points = [(x(load), y(v[0])) for load, v in zip(loads, part["bounds"][bound]["upper"])]
        for a, b in pairwise(points):
            canvas.line(*a, *b, "deadline", colour)
        labels.append((points[-1][1], "B1, B2" if bound == "B2" and _close(part) else bound, colour))
    for policy, curve in curves.items():
        colour = LINES[policy]
        above = [(x(load), y(v[2])) for load, v in zip(loads, curve)]
        canvas.area(above + [(x(load), y(v[1])) for load, v in zip(loads[::-1], curve[::-1])], colour, 0.18)
        canvas.polyline([(x(load), y(v[0])) for load, v in zip(loads, curve)], colour, 2)
        labels.append((y(curve[-1][0]), policy, colour))
    for (_, text, colour), place in zip(labels, spread([at for at, _, _ in labels], 15, top + 6, bottom)):
        canvas.text(right + 8, place + 4, text, "start", "strong", colour)
    return str(canvas)


def _close(part: Mapping[str, Any]) -> bool:
    """Whether B1 and B2 cannot be told apart in a plot."""
    pairs = zip(part["bounds"]["B1"]["upper"], part["bounds"]["B2"]["upper"])
    return all(b1[0] - b2[0] < 0.001 for b1, b2 in pairs)


def _level(part: Mapping[str, Any], what: str, i: int) -> float:
    value = part["bounds"][what]["upper"][i][0] if what in part["bounds"] else part["policies"][what]["by_load"][i][0]
    return float(value)


def prices(numbers: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """A stacked bar a load: what is gained, and what is lost to what is not known, in points of utility."""
    loads, row, top = numbers["loads"], 34, 8
    canvas = Canvas(top + row * len(loads) + 92, "the price of not knowing, by load")
    left, right, bottom = 60, WIDTH - 16, top + row * len(loads)
    most = max(_level(part, "B0", i) - _level(part, "mandatory-only", i) for i in range(len(loads)))
    x = Scale(0, 100 * most, left, right)
    for i, load in enumerate(loads):
        canvas.text(left - 8, top + row * i + 21, f"load {load:g}", "end", "label")
        at = 0.0
        for title, upper, lower, colour in reversed(PRICES):
            size = 100 * max(0.0, _level(part, upper, i) - _level(part, lower, i))
            canvas.rect(x(at), top + row * i + 6, x(at + size) - x(at), row - 12, colour, f"load {load:g}: {title} {size:.2f} points")
            at += size
    for tick in x.ticks():
        canvas.text(x(tick), bottom + 16, f"{tick:.3g}", "middle", "tick")
    canvas.line(left, bottom, right, bottom, "axis")
    canvas.text((left + right) / 2, bottom + 34, "points of utility above the mandatory answers", "middle")
    for k, (title, _, _, colour) in enumerate(reversed(PRICES)):
        px, py = (left, bottom + 56 + 18 * (k // 2)) if k % 2 == 0 else (left + 200, bottom + 56 + 18 * (k // 2))
        canvas.rect(px, py - 9, 10, 10, colour)
        canvas.text(px + 15, py, title if k == 0 else f"price of {title}", "start", "label")
    return str(canvas)


def _table(numbers: Mapping[str, Any], name: str) -> str:
    rows = []
    found = numbers["workloads"][name]["policies"]
    for policy in sorted(found, key=lambda p: found[p]["mean_regret"]):
        row = found[policy]
        low, high = (100 * v for v in row["default_minus"][1:])
        chance = row.get("p_holm")
        mark = " <small>knows what it cannot</small>" if policy.endswith("oracle") else ""
        run = f"<small>longest run {row['longest']}</small>" if row["missed"] else ""
        p = "" if chance is None else f", p {chance:.2g}"
        rows.append([escape(policy) + mark, f"{100 * row['mean'][0]:.2f} %", f"{100 * row['accuracy']:.2f} %",
                     f"{100 * row['mean_regret']:.1f} %", f"{100 * row['worst_regret']:.1f} %",
                     f"{row['missed']:,} of {row['captured']:,}{run}", f"{row['frontier'][9]} of 10",
                     "" if policy == "default" else f"{100 * row['default_minus'][0]:+.3f}<small>{low:+.3f} to {high:+.3f}{p}</small>"])
    head = ["policy", "utility", "accuracy", "regret to B2", "at the worst load", "missed", "(m, 10) met", "default minus it, points"]
    return f"<h3>{escape(name)}</h3>" + report.table(head, rows)


def _streams(part: Mapping[str, Any]) -> str:
    first, last = part["streams"][0], part["streams"][-1]
    return f"{first} to {last} streams" if first != last else f"{first} streams"


def _ladder_text() -> str:
    return ("<p>B0 knows how every picture ends, B1 every arrival and duration and each frame's confidence so far, and may interrupt and "
            "divide stages; B2 is B1 with whole stages. Each is an upper bound, with a schedule below it: the gap is given below.</p>")


def _method(numbers: Mapping[str, Any]) -> str:
    gaps = [up[0] - low[0] for part in numbers["workloads"].values() for b in ("B0", "B1", "B2")
            for up, low in zip(part["bounds"][b]["upper"], part["bounds"][b]["lower"])]
    decisions = ", ".join(f"{escape(p)} {ns / 1000:.0f} us" for p, ns in numbers["settings"]["decision_ns"].items())
    return ("<h2>How</h2><ul>"
            "<li>Regret: (B2 - U) / (B2 - U of mandatory only), of means over replications, on the same frames. U counts each depth by the "
            "gains expected before its stages, which in expectation is the utility, and is what the bounds bound frame set by frame "
            "set.</li>"
            f"<li>The largest gap between the two sides of a bound is {100 * max(gaps):.4f} points of utility.</li>"
            "<li>Thresholds: the best of a grid of 20 on validation pictures, for each workload and load, before the study. The "
            "quantile of each policy's slack test: the best of 0.95, 0.5, 0.25 and 0.05 on validation pictures, one for all workloads.</li>"
            f"<li>A decision is charged before each optional stage, at the 95 % quantile measured at load 3: {decisions}. "
            "The bounds decide for nothing.</li>"
            f"{_confidence(numbers)}"
            "<li>p: sign-flip test of the difference to the default over replications, means over loads; Holm over all policies and "
            "workloads.</li>"
            "<li>Missed frames of all loads together. (m, 10) met: the largest m such that any 10 frames in a row of a stream had m "
            "answers.</li></ul>")


def _confidence(numbers: Mapping[str, Any]) -> str:
    """Where the calibrated confidence of what was published tells another story than the expected gains."""
    gaps = [(name, 100 * (part["policies"]["default"]["utility"] - part["policies"]["threshold"]["utility"]),
             100 * (part["policies"]["default"]["accuracy"] - part["policies"]["threshold"]["accuracy"]))
            for name, part in numbers["workloads"].items()]
    texts = [f"{escape(name)} {confidence:+.2f} (accuracy {right:+.2f})" for name, confidence, right in gaps]
    return ("<li>By the calibrated confidence of the answers published, which the calibration's own errors move, the default minus the "
            f"threshold is, in points: {', '.join(texts)}.</li>")

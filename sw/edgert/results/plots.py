"""The plots of a report, as SVG text. Every plot takes named runs (`Entry`), one colour each, and stands on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .causes import CAUSES
from .svg import WIDTH, Canvas, Scale, spread
from .text import TEXTS, duration, percent
from .view import View

MS = 1e6
COLOURS = {"monolithic": "var(--c-red)", "mandatory-only": "var(--c-grey)", "fifo-gated": "var(--c-amber)",
           "threshold": "var(--c-blue)", "depth-dp": "var(--c-pink)", "priced-density": "var(--c-green)",
           "default": "var(--c-green)", "least-confident": "var(--c-violet)"}
SPARE = ("var(--c-blue)", "var(--c-amber)", "var(--c-violet)", "var(--c-green)", "var(--c-pink)", "var(--c-grey)", "var(--c-red)")
CAUSE_COLOURS = {"unknown": "var(--c-pink)", "machine_stall": "var(--c-violet)", "accelerator": "var(--c-amber)",
                 "overrun": "var(--c-blue)", "source": "var(--c-grey)", "queueing": "var(--c-red)"}
MISS_COLOUR = "var(--c-red)"


@dataclass(frozen=True)
class Entry:
    """A run in a plot: what it is called, its summary, its columns, its colour."""

    name: str
    summary: Mapping[str, Any]
    view: View
    colour: str


def entries(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], views: Sequence[View]) -> list[Entry]:
    """Runs with colours: a policy's own where it is free, else a spare one."""
    out: list[Entry] = []
    for name, summary, view in zip(names, summaries, views):
        used = {entry.colour for entry in out}
        wanted = COLOURS.get(str(summary["policy"]).partition(":")[0], SPARE[0])
        free = [colour for colour in (wanted, *SPARE) if colour not in used]
        out.append(Entry(name, summary, view, free[0] if free else SPARE[len(out) % len(SPARE)]))
    return out


def depth_colour(depth: int, deepest: int) -> str:
    """From pale (mandatory) to full (deepest)."""
    return f"var(--d-{min(2, round(2 * depth / max(1, deepest)))})"


def trade(runs: Sequence[Entry], figure: str = "accuracy") -> str:
    """Accuracy (or utility) as published against the miss ratio, with both intervals; a missed frame counts 0."""
    canvas = Canvas(300, f"{figure} as published against miss ratio")
    left, right, top, bottom = 52, WIDTH - 14, 28, 258
    shown = [run for run in runs if run.summary["all"][figure] is not None]
    worst = max([run.summary["all"]["miss_ratio_high"] or 0 for run in shown], default=0)
    least = min([run.summary["all"][f"{figure}_low"] for run in shown], default=0)
    largest = max([run.summary["all"]["miss_ratio"] or 0 for run in shown], default=0)
    room = 2.5 if largest < 0.5 * worst else 1.05  # for the labels right of the dots, where all are on the left
    x = Scale(0, min(1.0, max(0.02, worst * room)), left + 8, right)
    y = Scale(max(0.0, least - 0.05 * (1 - least)), 1, bottom - 8, top)
    for tick in y.ticks():
        canvas.line(left, y(tick), right, y(tick))
        canvas.text(left - 8, y(tick) + 4, f"{100 * tick:.3g} %", "end", "tick")
    for tick in x.ticks():
        canvas.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        canvas.text(x(tick), bottom + 18, f"{100 * tick:.3g} %", "middle", "tick")
    canvas.line(left, bottom, right, bottom, "axis")
    canvas.text((left + right) / 2, 294, "miss ratio", "middle")
    canvas.text(4, 12, f"{figure} as published", "start", "label")
    middle = (left + right) / 2
    near = [run for run in shown if x(run.summary["all"]["miss_ratio"]) <= middle]
    wanted = [y(run.summary["all"][figure]) + 4 for run in shown]
    places = spread(wanted, min(17, (bottom - top - 12) / max(1, len(shown))), top + 10, bottom - 8)
    for run, place in zip(shown, places):  # labels right of what missed little, left of what missed much
        part = run.summary["all"]
        px, py, step = x(part["miss_ratio"]), y(part[figure]), 1 if run in near else -1
        canvas.line(px, y(part[f"{figure}_low"]), px, y(part[f"{figure}_high"]), "whisker", run.colour)
        canvas.line(x(part["miss_ratio_low"]), py, x(part["miss_ratio_high"]), py, "whisker", run.colour)
        start = max(x(r.summary["all"]["miss_ratio_high"]) for r in near) if run in near else x(part["miss_ratio_low"])
        canvas.line(start + 3 * step, py, start + 26 * step, place - 4, "leader")
        canvas.circle(px, py, 5, run.colour, f"{run.name}: {figure} {percent(part[figure])}, missed {percent(part['miss_ratio'])}")
        canvas.text(start + 30 * step, place, run.name, "start" if run in near else "end", "strong", run.colour)
    return str(canvas)


def forest(runs: Sequence[Entry], figure: str = "utility") -> str:
    """One figure of each run with its interval, a row a run, zoomed in on the runs that miss little."""
    shown = [run for run in runs if run.summary["all"][figure] is not None]
    row, top = 34, 12
    height = top + row * len(shown) + 44
    canvas = Canvas(height, f"{figure} of each run with its interval")
    calm = [r for r in shown if (r.summary["all"]["miss_ratio"] or 0) < 0.05] or shown
    low = min((r.summary["all"][f"{figure}_low"] for r in calm), default=0.0)
    high = max((r.summary["all"][f"{figure}_high"] for r in calm), default=1.0)
    pad = max(0.004, 0.12 * (high - low))
    left, right, bottom = 132, 404, top + row * len(shown)
    x = Scale(max(0.0, low - pad), min(1.0, high + pad), left + 10, right)
    for tick in x.ticks(4):
        canvas.line(x(tick), top, x(tick), bottom)
        canvas.text(x(tick), bottom + 18, f"{100 * tick:.4g} %", "middle", "tick")
    canvas.line(left, bottom, right, bottom, "axis")
    canvas.text((left + right) / 2, bottom + 38, f"{figure} as published (zoomed)" if calm != shown or x.low > 0 else figure, "middle")
    for i, run in enumerate(shown):
        part, py = run.summary["all"], top + row * i + row / 2
        canvas.text(left - 8, py + 4, run.name, "end", "strong", run.colour)
        value = part[figure]
        if value < x.low:
            canvas.text(left + 10, py + 4, "◂ far left", "start", "note")
        else:
            canvas.line(x(part[f"{figure}_low"]), py, x(part[f"{figure}_high"]), py, "whisker", run.colour)
            canvas.circle(x(value), py, 5, run.colour, f"{run.name}: {percent(value, 2)}")
        canvas.text(WIDTH - 4, py + 4, percent(value), "end", "label")
    return str(canvas)


def latencies(runs: Sequence[Entry]) -> str:
    """How late the answers came, a row a run, with the deadline; on the right what was missed."""
    row, top = 54, 30
    height = top + row * len(runs) + 44
    canvas = Canvas(height, "distribution of latency from scheduled capture, with the deadline")
    left, right, bottom = 12, 372, top + row * len(runs)
    deadlines = sorted({s["deadline_ns"] for run in runs for s in run.summary["streams"]})
    limit = max(deadlines, default=1) * 1.06
    x = Scale(0, limit / MS, left, right)
    for tick in x.ticks(5):
        canvas.line(x(tick), top, x(tick), bottom)
        canvas.text(x(tick), bottom + 18, f"{tick:.4g}", "middle", "tick")
    canvas.text((left + right) / 2, bottom + 38, "ms from scheduled capture to publication", "middle")
    canvas.text(WIDTH - 4, top - 12, "missed", "end", "note")
    for i, run in enumerate(runs):
        base = top + row * (i + 1) - 4
        frames = run.view.frames
        late_ms = (frames["published_ns"] - frames["release_ns"])[frames["status"] == 0] / MS
        bins = np.linspace(0, limit / MS, 91)
        counts, _ = np.histogram(late_ms, bins)
        if counts.max(initial=0):
            heights = counts / counts.max() * (row - 24)
            points = [(x(bins[0]), base)]
            for k, size in enumerate(heights):
                points += [(x(bins[k]), base - size), (x(bins[k + 1]), base - size)]
            canvas.area([*points, (x(bins[-1]), base)], run.colour, 0.75, f"{run.name}: {len(late_ms):,} answers")
        canvas.line(left, base, right, base, "axis")
        canvas.text(left, base - row + 20, run.name, "start", "strong", run.colour)
        ratio = run.summary["all"]["miss_ratio"] or 0.0
        canvas.rect(right + 18, base - 10, 48, 10, "var(--grid)", radius=2)
        canvas.rect(right + 18, base - 10, 48 * ratio, 10, MISS_COLOUR, radius=2)
        canvas.text(WIDTH - 4, base - 17, percent(ratio) if ratio else "0", "end", "label")
    for deadline in deadlines[:3]:
        canvas.line(x(deadline / MS), top - 6, x(deadline / MS), bottom, "deadline")
    if deadlines:
        canvas.text(x(deadlines[-1] / MS), top - 12, "deadline " + ", ".join(duration(d) for d in deadlines[:3]), "end", "note",
                    MISS_COLOUR)
    return str(canvas)


def depths(runs: Sequence[Entry]) -> str:
    """The share of frames answered at each depth, and missed, over the time of the run; a row a run."""
    row, top = 62, 30
    height = top + row * len(runs) + 40
    canvas = Canvas(height, "share of frames answered at each depth over time")
    left, right, bottom = 12, WIDTH - 12, top + row * len(runs)
    seconds = max((run.summary["duration_ns"] for run in runs), default=1) / 1e9
    x = Scale(0, seconds, left, right)
    for i, run in enumerate(runs):
        frames, y0 = run.view.frames, top + row * i + 20
        deepest = max((stream.deepest for stream in run.view.streams), default=0)
        at = (frames["release_ns"] - frames["release_ns"].min(initial=1 << 62)) / 1e9
        bins = max(1, min(60, len(at) // 12))
        edges = np.linspace(0, seconds, bins + 1)
        place = np.clip(np.digitize(at, edges) - 1, 0, bins - 1)
        kinds = np.where(frames["status"] == 0, frames["depth"], np.where(frames["status"] == 1, deepest + 1, deepest + 2))
        table = np.zeros((bins, deepest + 3))
        np.add.at(table, (place, np.clip(kinds, 0, deepest + 2)), 1)
        total = np.maximum(1, table.sum(axis=1))
        canvas.text(left, y0 - 5, run.name, "start", "strong", run.colour)
        size = row - 26
        for b in range(bins):
            y, wide = y0 + size, x(edges[b + 1]) - x(edges[b])
            for kind in range(deepest + 3):
                share = table[b, kind] / total[b]
                colour = depth_colour(kind, deepest) if kind <= deepest else MISS_COLOUR if kind == deepest + 1 else "var(--c-grey)"
                y -= size * share
                canvas.rect(x(edges[b]), y, wide, size * share, colour, kind="bar")
    for tick in x.ticks(6):
        canvas.text(x(tick), bottom + 14, f"{tick:g}", "middle", "tick")
    canvas.text((left + right) / 2, bottom + 34, "seconds since the start", "middle")
    deepest = max((stream.deepest for run in runs for stream in run.view.streams), default=0)
    legend = [("missed", MISS_COLOUR)] + [
        ("mandatory" if d == 0 else f"+ {d} stage{'s' * (d > 1)}", depth_colour(d, deepest)) for d in range(deepest + 1)]
    at_x: float = left
    for name, colour in legend:
        canvas.rect(at_x, 6, 11, 11, colour, radius=2)
        canvas.text(at_x + 16, 16, name, "start", "label")
        at_x += 34 + 7.2 * len(name)
    return str(canvas)


def miss_causes(runs: Sequence[Entry]) -> str:
    """Misses by cause, a row a run."""
    row, top = 34, 34
    canvas = Canvas(top + row * len(runs) + 12, "misses by cause")
    left, right = 132, WIDTH - 92
    counts = [run.summary["miss_causes"] for run in runs]
    x = Scale(0, max([sum(c.values()) for c in counts] + [1]), left, right)
    for i, (run, found) in enumerate(zip(runs, counts)):
        py, at = top + row * i, float(left)
        total = sum(found.values())
        canvas.text(left - 8, py + 17, run.name, "end", "strong", run.colour)
        canvas.line(left, py + 2, left, py + row - 4, "axis")
        for cause in CAUSES:
            wide = x(found[cause]) - left
            canvas.rect(at, py + 4, wide, row - 12, CAUSE_COLOURS[cause], f"{run.name}: {TEXTS[cause]} {found[cause]:,}", 2)
            at += wide
        canvas.text(at + 6, py + 17, "none" if not total else f"{total:,}", "start", "label")
    used = [cause for cause in CAUSES if any(found[cause] for found in counts)]
    at_x = 12.0
    for cause in used:
        canvas.rect(at_x, 8, 11, 11, CAUSE_COLOURS[cause], radius=2)
        canvas.text(at_x + 16, 18, TEXTS[cause], "start", "label")
        at_x += 34 + 7 * len(TEXTS[cause])
    if not used:
        canvas.text(12, 18, "no run missed a frame", "start", "note")
    return str(canvas)

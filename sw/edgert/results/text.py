"""Summaries as text: one renderable for a terminal, and the words and number formats that pages use too."""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from imprecise.units import format_ns

TEXTS = {"unknown": "unknown", "machine_stall": "machine stall", "accelerator": "accelerator", "overrun": "overrun",
         "source": "source", "queueing": "queueing"}  # causes of a miss
SHOWN, ASSUMPTIONS = 8, 8  # misses and assumptions listed in a terminal; JSON has all


def duration(value_ns: float) -> str:
    """A time for people, three significant digits."""
    return format_ns(float(f"{value_ns:.3g}"))


def percent(value: float | None, digits: int = 1) -> str:
    """A ratio for people: 12.3 %, with more digits for a small one."""
    return "-" if value is None else f"{100 * value:.{_digits(value, digits)}f} %"


def interval(part: Mapping[str, Any], name: str, digits: int = 1) -> str:
    """A ratio with its interval: 12.3 % [10.1, 14.9]."""
    value, low, high = (part[name + end] for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    digits = _digits(value or high, digits)
    return f"{100 * value:.{digits}f} % [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def points(value: float, sign: str = "+") -> str:
    """A difference of ratios in percentage points: +1.23."""
    return f"{100 * value + 0.0 if abs(value) >= 5e-5 else 0.0:{sign}.2f}"


def _digits(value: float, digits: int) -> int:
    size = abs(value)
    return digits if size >= 0.01 or size == 0 else max(digits, 2 if size >= 0.001 else 3)


def latency(value_ns: int | None) -> str:
    """A latency; beyond the answered frames it is a miss."""
    return "missed" if value_ns is None else duration(value_ns)


def verdict(summary: Mapping[str, Any]) -> str:
    """Who missed, how often, how sure, and why: one sentence or two."""
    total = summary["all"]
    delivered = total["captured"] - total["dropped"]
    if not delivered:
        return "No frame was delivered, so nothing can be said."
    if total["missed"]:
        why = ", ".join(f"{TEXTS[c]} {n}" for c, n in sorted(summary["miss_causes"].items(), key=lambda kv: -kv[1]) if n)
        verb = "was" if total["missed"] == 1 else "were"
        sentence = f"{total['missed']:,} of {delivered:,} frames {verb} missed: {interval(total, 'miss_ratio')}. Why: {why}."
    else:
        sentence = f"No miss in {delivered:,} frames; the true miss ratio is at most {percent(total['miss_ratio_high'])} (95 % sure)."
    return sentence + (f" {total['dropped']:,} frames were not delivered." if total["dropped"] else "")


def explain_hint(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    """What to ask of one frame, and the command: of the first miss that is listed, else of the worst answer that could have been deeper;
    None where every answer was complete, or there is no record to ask."""
    if not summary["run"]:
        return None
    command = f"edgert explain {shlex.quote(str(summary['run']))}"
    if summary["misses"]:
        first = summary["misses"][0]
        stream = f" --stream {shlex.quote(first['stream'])}" if len(summary["streams"]) > 1 else ""
        return "why a frame was missed, step by step, and what would have sufficed", f"{command} {first['frame']}{stream}"
    by_depth = list(summary["all"]["answered_by_depth"].values())
    if sum(by_depth[:-1]):
        return "why a frame was not refined to the end, step by step, and what would have sufficed", f"{command} worst"
    return None


def conditions(summary: Mapping[str, Any]) -> str:
    """Under which conditions a run was made."""
    parts = [str(summary["kind"] or "?"), f"policy {summary['policy']}", f"bundle {summary['bundle']}",
             f"accelerator {summary['accelerator']}" + (" (emulated)" if summary["emulated"] else "")]
    if summary["load"]:
        parts.append(f"load {summary['load']:g}")
    parts.append(f"{len(summary['streams'])} streams for {duration(summary['duration_ns'])}")
    return ", ".join(parts)


def renderable(summary: Mapping[str, Any]) -> RenderableType:
    """The whole summary, for a console."""
    name = f"{summary['run']}: " if summary["run"] else ""
    parts: list[RenderableType] = [Text(name + conditions(summary), style="bold")]
    state = summary["validity"]
    if not state["valid"]:
        parts.append(Text("INVALID: " + "; ".join(state["reasons"]), style="bold red"))
    parts.append(Text(verdict(summary), style="red" if summary["all"]["missed"] else "green"))
    promise = summary["guarantee"]
    parts.append(Text(f"Guarantee: {promise['kind'].replace('_', ' ')}; {promise['text']}.", style="" if promise["kept"] else "bold red"))
    parts += [Text(f"Note: {note}.") for note in state["notes"]]
    parts += [_figures(summary), _ratios(summary), _latencies(summary)]
    if summary["assumptions"]:
        parts.append(_assumptions(summary))
    parts += [Text(line) for line in _misses(summary)]
    if hint := explain_hint(summary):
        parts.append(Text(f"{hint[0][0].upper()}{hint[0][1:]}:\n  {hint[1]}"))
    counters = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in summary["counters"].items() if value)
    parts.append(Text(("VALID" if state["valid"] else "INVALID") + (f"; {counters}" if counters else ""), style="dim"))
    return Group(*parts)


def as_string(content: RenderableType, width: int | None = None) -> str:
    """What a console would show, without a line break at its end."""
    stream = io.StringIO()
    terminal = sys.stdout.isatty()
    size = width or shutil.get_terminal_size((100, 24)).columns
    Console(file=stream, highlight=False, force_terminal=terminal, width=size).print(content)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().split("\n"))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _rows(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    streams = [(str(part["name"]), part) for part in summary["streams"]]
    return [*streams, ("all", summary["all"])]


def _figures(summary: Mapping[str, Any]) -> Table:
    depths = list(summary["all"]["answered_by_depth"])
    table = _table("Frames", "stream", "captured", *(f"depth {d}" for d in depths), "missed", "dropped", "longest run of misses")
    for name, part in _rows(summary):
        table.add_row(name, f"{part['captured']:,}", *(f"{part['answered_by_depth'][d]:,}" for d in depths), f"{part['missed']:,}",
                      f"{part['dropped']:,}", str(part["longest_run_of_misses"]))
    return table


def _ratios(summary: Mapping[str, Any]) -> Table:
    table = _table("With 95 % intervals that hold for bursts", "stream", "miss ratio", "accuracy", "utility")
    for name, part in _rows(summary):
        table.add_row(name, *(interval(part, figure) for figure in ("miss_ratio", "accuracy", "utility")))
    return table


def _latencies(summary: Mapping[str, Any]) -> Table:
    table = _table("Latency from scheduled capture; a missed frame is later than any", "stream", "p50", "p90", "p99", "p99.9",
                   "max answered", "deadline")
    for name, part in _rows(summary):
        deadlines = sorted({s["deadline_ns"] for s in summary["streams"]}) if name == "all" else [part["deadline_ns"]]
        cells = [latency(part[f"latency_{q}_ns"]) for q in ("p50", "p90", "p99", "p99_9")]
        top = part["latency_max_ns"]
        table.add_row(name, *cells, "-" if top is None else duration(top), ", ".join(duration(d) for d in deadlines))
    return table


def _assumptions(summary: Mapping[str, Any]) -> Table:
    table = _table("Assumptions", "assumption", "limit", "checked", "violated", "worst")
    found = summary["assumptions"]
    shown = found if len(found) <= ASSUMPTIONS else [row for i, row in enumerate(found) if row["violations"] or i < ASSUMPTIONS // 2]
    for row in shown:
        broken = row["violations"]
        table.add_row(Text(f"{row['name']}: {row['text']}"), duration(row["limit_ns"]), f"{row['checked']:,}",
                      Text(f"{broken:,}", style="red" if broken else ""), duration(row["worst_ns"]))
    if len(found) > len(shown):
        checked = sum(row["checked"] for row in found if row not in shown)
        table.add_row(f"{len(found) - len(shown)} more, all in --json", "", f"{checked:,}", "0", "")
    return table


def _misses(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, title in (("misses", "missed"), ("drops", "dropped")):
        found = summary[kind]
        lines += [f"{title}: {m['stream']} frame {m['frame']}: {TEXTS[m['cause']]}: {m['evidence']}" for m in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"... and {len(found) - SHOWN:,} more {title} frames, all in --json")
    return lines

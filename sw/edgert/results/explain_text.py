"""An explanation as text: the sentence, what happened, what bound, what would have sufficed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .text import duration

ROWS = 24  # of the timeline in a terminal; JSON has all


def renderable(found: Mapping[str, Any]) -> RenderableType:
    """The whole explanation, for a console."""
    bound = found["constraint"]
    parts: list[RenderableType] = [Text(found["sentence"], style="bold red" if found["status"] != "answered" else "bold")]
    if found["cause"] and found["status"] == "missed":
        parts.append(Text(f"Cause: {found['cause']['cause'].replace('_', ' ')}: {found['cause']['evidence']}."))
    if found["timeline"]:
        parts.append(_timeline(found["timeline"]))
    parts.append(Text(f"Binding constraint: {bound['kind'].replace('_', ' ')}" + (f" ({bound['stage']})" if bound["stage"] else "") + ".",
                      style="bold"))
    parts += [Text(f"  {line}.") for line in bound["also"]]
    if found["counterfactuals"]:
        parts.append(Text(f"What would have sufficed for {found['counterfactuals'][0]['goal']}:", style="bold"))
        for row in found["counterfactuals"]:
            parts.append(Text(f"  {row['change']}: {row['text']}.", style="green" if row["suffices"] is not None else ""))
            parts += [Text(f"    where {line}", style="dim") for line in row["assumes"]]
    parts.append(Text(_replayed(found["replay"]), style="dim"))
    return Group(*parts)


def _timeline(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("since capture", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("", overflow="fold")
    shown, left_out = _shown(rows)
    for row in shown:
        if row is None:
            table.add_row("...", "", f"{left_out} more decisions and waits, all in --json", style="dim")
        else:
            table.add_row(duration(row["at_ns"]), row["what"], row["text"], style="dim" if row["what"] == "wait" else "")
    return table


def _shown(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any] | None], int]:
    """All rows, or the first and last of the decisions and waits and everything else; None stands where some were left out."""
    minor = [i for i, row in enumerate(rows) if row["what"] in ("decision", "wait")]
    spare = ROWS - (len(rows) - len(minor))
    if len(rows) <= ROWS or len(minor) <= 8:
        return list(rows), 0
    keep = max(8, spare)
    gone = set(minor[keep // 2:len(minor) - (keep - keep // 2)])
    out: list[Mapping[str, Any] | None] = []
    for i, row in enumerate(rows):
        if i not in gone:
            out.append(row)
        elif i == min(gone):
            out.append(None)
    return out, len(gone)


def _replayed(replay: Mapping[str, Any]) -> str:
    parts = []
    if replay["steps"]:
        parts.append(f"{replay['steps']:,} recorded steps replayed, the same action for action")
    if replay["frames"]:
        begin = "from the start of the run" if replay["from_start"] else "from the state that the record was in then"
        parts.append(f"changes were replayed over {replay['frames']:,} frames up to this one, {begin}")
    return "; ".join([*parts, *replay["notes"]]) + "."

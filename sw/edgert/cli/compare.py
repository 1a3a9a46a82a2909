"""`edgert compare`: runs on the same frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def compare(runs: list[Path] = typer.Argument(..., help="Two or more run records. Differences are from the first, unless --baseline."),
            baseline: Path | None = typer.Option(None, "--baseline", help="One of the runs, which the others are compared with."),
            equivalent: float | None = typer.Option(None, "--equivalent", metavar="MARGIN", help="Also test that the utility of each run "
                                                       "equals the baseline's within this margin (0.02: 2 points), stated beforehand."),
            force: bool = typer.Option(False, "--force", help="Compare runs that differ in model, deadline, streams, source or seed all "
                                                              "the same."),
            as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text."),
            output: Path | None = typer.Option(None, "-o", "--output", help="Write a self-contained HTML page here.")) -> None:
    """Who missed, how often, how sure, and why: runs compared on the same frames.

    Frames are paired by stream and number; differences of miss ratio, accuracy and utility come with intervals from blocks of frames
    in time across all streams, so that they hold for bursts, and all intervals of one figure hold together (Bonferroni). Runs of
    another model, deadline, source, set of streams or seed are refused, and what differs is named.

    Exit code 0: compared; 2: not comparable, or no such file; 3: a record cannot be read; 4: compared, but a run is INVALID.
    """
    from ..errors import UsageError
    from ..results import compare as comparing
    from ..results import report as pages
    from ..results.view import read

    paths = list(runs)
    if baseline is not None and baseline not in paths:
        paths.insert(0, baseline)
    if len(paths) < 2:
        raise UsageError(f"found {len(paths)} run to compare, expected at least two", "name two or more run records")
    views = [read(path) for path in paths]
    found = comparing.compare(views, paths.index(baseline) if baseline is not None else 0, force, equivalent)
    if output is not None:
        pages.write(output, pages.comparison(views, found))
    if as_json:
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
    else:
        show(found)
        if output is not None:
            typer.echo(f"page: {output}")
    if not all(summary["validity"]["valid"] for summary in found["runs"]):
        raise typer.Exit(4)


def show(found: dict[str, Any]) -> None:
    """Print a comparison as text."""
    from rich.console import Console
    from rich.table import Table

    from ..results.text import TEXTS, interval

    console = Console(highlight=False)
    console.print(found["verdict"], style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, title in enumerate(("run", "frames", "miss ratio", "accuracy", "utility", "why missed")):
        table.add_column(title, justify="left" if i in (0, 5) else "right", overflow="fold")
    for name, summary in zip(found["names"], found["runs"]):
        part = summary["all"]
        why = ", ".join(f"{TEXTS[c]} {n}" for c, n in summary["miss_causes"].items() if n) or "-"
        table.add_row(name, f"{part['captured']:,}", interval(part, "miss_ratio"), interval(part, "accuracy"), interval(part, "utility"),
                      why)
    console.print(table)
    for row in found["compared"]:
        if row["differs_in"]:
            console.print(f"{row['name']} differs from {found['baseline']} in: {'; '.join(row['differs_in'])}", style="red")
        console.print(row["verdict"])
    many = f"all {found['comparisons']} of one figure hold together at" if found["comparisons"] > 1 else "at"
    console.print(f"Intervals of single runs: {100 * found['confidence']:.0f} %. Differences: {many} {100 * found['confidence']:.0f} %"
                  f"{' (Bonferroni)' if found['comparisons'] > 1 else ''}, from blocks of frames in time.", style="dim")
    for name, summary in zip(found["names"], found["runs"]):
        if not summary["validity"]["valid"]:
            console.print(f"{name} is INVALID: {'; '.join(summary['validity']['reasons'])}", style="bold red")

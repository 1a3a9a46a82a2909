"""`edgert report`: the summary of one recorded run."""

from __future__ import annotations

import json
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def report(run: Path = typer.Argument(..., help="A run record, written by `edgert run --record` or `edgert simulate --record`."),
           as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text."),
           output: Path | None = typer.Option(None, "-o", "--output", help="Write a self-contained HTML page here.")) -> None:
    """Who missed, how often, how sure that is, and why: the summary of one run.

    Counts (captured = answered + missed + dropped), the miss ratio with an interval that holds for bursts and for zero misses, latency
    from the scheduled capture, accuracy and utility as published, every miss with its cause, every assumption with its violations.

    Exit code 0: the run is valid; 2: there is no such file; 3: it cannot be read; 4: it is INVALID, and the reason is printed.
    """
    from ..results import report as pages
    from ..results.summary import render, summarise
    from ..results.view import read

    view = read(run)
    summary = summarise(view)
    if output is not None:
        pages.write(output, pages.single(view, summary))
    if as_json:
        typer.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        typer.echo(render(summary))
        if output is not None:
            typer.echo(f"page: {output}")
    if not summary["validity"]["valid"]:
        raise typer.Exit(4)

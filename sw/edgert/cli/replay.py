"""`edgert replay`: the recorded events through the engine once more."""

from __future__ import annotations

import json
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def replay(run: Path = typer.Argument(..., help="A run record, written by `edgert run --record` or `edgert simulate --record`."),
           as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text.")) -> None:
    """Feed a recorded run's events to the engine again: the same actions must come out, action for action.

    This is what makes a recorded schedule evidence: the decisions in it are those of the engine that is simulated and proven, and
    nothing else. It needs a record with every step (no records lost).

    Exit code 0: the same actions; 3: a difference (the first is printed), or the record cannot be replayed; 2: there is no such file.
    """
    from ..executive.replay import replay as feed
    from ..results.record import Run

    with Run(run) as record:
        steps, actions, difference = feed(record)
    first = None
    if difference is not None:
        first = {"step": difference.step, "now_ns": difference.now_ns, "recorded": [action._asdict() for action in difference.recorded],
                 "replayed": [action._asdict() for action in difference.replayed]}
    if as_json:
        typer.echo(json.dumps({"format": 1, "run": str(run), "steps": steps, "actions": actions, "same": first is None,
                               "first_difference": first}, indent=1))
    elif first is None:
        typer.echo(f"{run}: the same, action for action: {steps:,} steps, {actions:,} actions")
    else:
        typer.echo(f"{run}: {actions:,} actions compared in {steps:,} steps; first difference: {difference}")
    if first is not None:
        raise typer.Exit(3)

"""`edgert doctor`: what of this machine a run depends on, with a fix beside each line that is not right."""

from __future__ import annotations

import json

import typer

from .. import __version__

app = typer.Typer(help="Check this machine: runtime, permissions, clock, accelerators.", rich_markup_mode=None, add_completion=False)


@app.command()
def doctor(
    bundle: str = typer.Option("fashion", help="Bundle that is loaded and self-tested: a name of the zoo, or a directory."),
    as_json: bool = typer.Option(False, "--json", help="Print the checks as JSON."),
) -> None:
    """Check what a run on this machine depends on.

    One line a check: `ok`; `warning` (runs are possible, but slower, less steady or less complete); `failed` (this part does not
    work). Beside each warning and failure, the fix. Looked at are Python, NumPy and the TFLite runtime; cores, clock source, governor and
    temperature; whether real-time priority and locked memory are permitted (tried, in a process of its own); whether there is a board
    with an FPGA; the bundle's files against its manifest; whether its models run wholly in the XNNPACK delegate; and every accelerator:
    its answers on the bundle's golden frames must equal the reference in every bit.

    Nothing is changed. Exit code: 0 a run is possible, 3 it is not, 2 there is no such bundle.

    Examples:

      edgert doctor

      edgert doctor --json --bundle ./my-bundle
    """
    from ..board.doctor import Check, examine

    def show(check: Check) -> None:
        if not as_json:
            typer.echo(f"{check.level:8} {check.name:20} {check.found}")
            if check.fix:
                typer.echo(f"{'':8} {'':20} fix: {check.fix}")

    report = examine(bundle, say=show)
    if as_json:
        typer.echo(json.dumps({"edgert": __version__, **report.as_json()}, indent=2))
    else:
        typer.echo(f"\n{report.verdict}")
    raise typer.Exit(0 if report.run_possible else 3)

"""`edgert board`: what runs on the board itself."""

from __future__ import annotations

import json

import typer

from .. import __version__

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def board() -> None:
    """The tests that run on the board itself, from an installed or deployed edgert."""


@app.command()
def selftest(
    bundle: str = typer.Option("fashion", help="A bundle of the zoo by name, or the directory of one."),
    accelerator: str = typer.Option("auto", help="Engine of the mandatory network; auto takes the best that works."),
    seconds: float = typer.Option(2.0, help="How long throughput is measured."),
    as_json: bool = typer.Option(False, "--json", help="Print the checks as JSON."),
) -> None:
    """Test this machine with a bundle; `edgert deploy` does so before it switches to a version.

    The bundle's files against its manifest; on an FPGA: fabric programmed, clock running, identification registers, the model's hash; the
    golden frames, equal in every bit; the same frames one after the other for a while, every answer compared; each TFLite stage.

    The part for an FPGA has never been run on silicon: it was tested on emulated hardware only.

    Exit code: 0 everything works (warnings aside), 3 something does not, 2 there is no such bundle or accelerator.

    Examples:

      edgert board selftest

      sudo bash -lc 'edgert/current/edgert board selftest --accelerator pynq'
    """
    from ..board.doctor import Check
    from ..board.selftest import selftest as test
    from ..errors import UsageError

    if not 0 <= seconds <= 3600:
        raise UsageError(f"--seconds {seconds:g}: expected 0 to 3600", "write it like --seconds 5")

    def show(check: Check) -> None:
        if not as_json:
            typer.echo(f"{check.level:8} {check.name:20} {check.found}")
            if check.fix:
                typer.echo(f"{'':8} {'':20} fix: {check.fix}")

    report = test(bundle, accelerator, seconds, show)
    if as_json:
        typer.echo(json.dumps({"edgert": __version__, **report.as_json()}))
    else:
        typer.echo(f"\n{report.verdict}")
    raise typer.Exit(0 if report.run_possible else 3)

"""`edgert remote`: run on another machine what was deployed there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import typer

from .deploy import FOLDER, IDENTITY, OPTIONS, PORT, SUDO, say, target

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def remote() -> None:
    """Run on another machine what `edgert deploy` put there, and bring the record back."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    host: str = typer.Argument(..., metavar="USER@HOST", help="The machine; then the flags of `edgert run`, without a bundle."),
    port: int = PORT,
    identity: Path | None = IDENTITY,
    options: list[str] = OPTIONS,
    folder: str = FOLDER,
    sudo: bool | None = SUDO,
) -> None:
    """Run the deployed bundle there, with the flags of `edgert run` (see `edgert run --help`).

    Its output comes here as it goes. --record FILE and --like RUN are files here: the record is brought back, the other sent along. What
    --source video:FILE and a policy's FILE name is there. Ctrl-C ends the run there in order, the record is brought back all the same;
    a second Ctrl-C does not wait for the frames in hand. A connection that is lost ends the run in order, and the record stays there:
    `edgert remote fetch`.

    Exit codes are those of `edgert run`; 3 also where the machine cannot be reached.

    Example:

      edgert remote run pi@raspberrypi.local --load 1.5 --duration 20s --record runs/pi.db
    """
    from ..board import remote as running

    arguments, record, like, as_json = split(context.args)
    out = io.StringIO()
    code = running.run(target(host, port, identity, options, folder), [*arguments, "--json"], say, record, like, sudo, out)
    print(running.shown(out.getvalue(), record, as_json), end="", flush=True)
    raise typer.Exit(code)


@app.command()
def fetch(
    host: str = typer.Argument(..., metavar="USER@HOST", help="The machine."),
    name: str = typer.Argument("", metavar="[RECORD]", help="Which one, where there are several. Default: the newest."),
    out: Path = typer.Option(..., "--output", "-O", metavar="FILE", help="Where it goes."),
    port: int = PORT,
    identity: Path | None = IDENTITY,
    options: list[str] = OPTIONS,
    folder: str = FOLDER,
    sudo: bool | None = SUDO,
) -> None:
    """Bring back the record of a run whose connection was lost."""
    from ..board import remote as running
    from ..results.record import check_target

    if "/" in name:
        from ..errors import UsageError

        raise UsageError(f"{name!r} is no name of a record", "leave it out for the newest")
    check_target(out, False)
    print(f"record: {running.fetch(target(host, port, identity, options, folder), name, out, sudo)}")


def split(given: list[str]) -> tuple[list[str], Path | None, Path | None, bool]:
    """Flags of `edgert run`, checked: the arguments for the run there, the record, the run to be like, and whether JSON is wanted.

    Raises UsageError, as `edgert run` would.
    """
    from ..errors import UsageError
    from ..results.record import check_target
    from . import run as running

    if not given or given[0].startswith("-"):
        given = ["fashion", *given]
    else:
        raise UsageError(f"the bundle that was deployed is run, found {given[0]!r}", "leave it out, or edgert deploy it")
    command: Any = typer.main.get_command(running.app)
    parsed = command.make_context("edgert remote run", list(given))
    record, like = (Path(parsed.params[name]) if parsed.params[name] else None for name in ("record", "like"))
    if record is not None:
        check_target(record, parsed.params["overwrite"])
    arguments: list[str] = []
    for parameter in command.params:
        name, value = parameter.name, parsed.params.get(parameter.name)
        if name in ("bundle", "record", "like", "overwrite", "as_json", "help") or parsed.get_parameter_source(name).name == "DEFAULT":
            continue
        flag = parameter.opts[0]
        for one in value if isinstance(value, (list, tuple)) else [value]:
            arguments += ([flag] if one is True else []) if isinstance(one, bool) else [flag, str(one)]
    return arguments, record, like, bool(parsed.params["as_json"])

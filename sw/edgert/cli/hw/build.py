"""`edgert hw build`: the vendor's tools on an hls4ml project."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ...errors import EdgertError, UsageError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

NEVER_SYNTHESISED = 5


@app.command()
def build(
    folder: Path = typer.Argument(..., metavar="DIR", help="A directory that `edgert hw hls` has written."),
    as_json: bool = typer.Option(False, "--json", help="Print what was made as JSON."),
) -> None:
    """Run Vitis HLS (or Vivado HLS) and Vivado on an hls4ml project, where they are on PATH, and collect what they make.

    DIR/results gets the bitstream and its .hwh under one name, and the reports; the tools' output is in DIR/build-1.log and build-2.log.
    Without the tools nothing is done: the commands are printed.

    Exit code: 0 there is a bitstream, 2 DIR is no such project, 3 a tool failed, 5 generated, never synthesised: a tool is not on PATH.

    Example: edgert hw build build/hls
    """
    try:
        from gateware.hls import project, vendor
    except ImportError as error:
        raise EdgertError(f"edgert hw build needs {error.name or error}", "pip install 'edgert[hw]'") from None
    try:
        record = project.load_record(folder)
    except ValueError as error:
        other = (folder / "build.json").is_file()
        raise UsageError(str(error), f"it is generated Verilog: edgert hw bitstream {folder}" if other
                         else f"make one: edgert hw hls fashion -o {folder}") from None
    steps, missing = vendor.steps(record["backend"])
    commands = [f"cd {folder}", *map(str, steps)]
    if missing:
        if as_json:
            typer.echo(json.dumps({"synthesised": False, "missing": missing, "commands": commands}, indent=1))
        else:
            typer.echo(f"generated, never synthesised: {' and '.join(missing)} not on PATH. Where they are ({folder / 'README.txt'}):")
            typer.echo("\n".join(f"    {line}" for line in commands))
        raise typer.Exit(NEVER_SYNTHESISED)
    changed = project.changed_sources(folder, record)
    if changed:
        typer.echo(f"changed since it was generated: {', '.join(changed)}", err=True)
    try:
        made = vendor.build(folder, record["backend"], project.NAME)
    except vendor.BuildError as error:
        raise EdgertError(str(error), "mend it and give the command again") from None
    record["synthesised"] = {"commands": commands[1:], "changed_sources": changed, **made}
    project.save_record(folder, record)
    if as_json:
        typer.echo(json.dumps({"synthesised": True, **record["synthesised"]}, indent=1))
    else:
        typer.echo(f"{folder / made['bit']}, {folder / made['hwh']}, {len(made['reports'])} reports beside them")

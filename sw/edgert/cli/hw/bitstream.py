"""`edgert hw bitstream`: from generated Verilog to a bitstream, as far as this machine's tools go."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ...errors import EdgertError, UsageError

NO_TOOLS = 4
app = typer.Typer(add_completion=False)


@app.command()
def bitstream(
    directory: Path = typer.Argument(..., help="What `edgert hw rtl` wrote."),
    tool: str = typer.Option("auto", help="open (yosys, nextpnr-xilinx, prjxray), vivado, auto (what is here), none (netlist only)."),
    check: int = typer.Option(0, min=0, help="Simulate the netlist, cell by cell, on this many golden frames."),
    as_json: bool = typer.Option(False, "--json", help="Print what was made as JSON."),
) -> None:
    """Make the bitstream, its .hwh and its manifest in DIRECTORY/bitstream, with open tools or Vivado.

    Where neither is here, yosys's netlist and the exact commands are left in DIRECTORY for a machine that has them.

    Exit code: 0 made, 3 a tool failed or an answer of the netlist is wrong, 4 netlist made, nothing here places and routes it.

    Example: edgert hw bitstream build/fashion --check 20
    """
    try:
        from gateware import bitstream as flow
        from gateware import netlist
        from gateware.shell_model import ModelError
    except ImportError as error:
        raise EdgertError(f"a bitstream needs {error.name}", "pip install 'edgert[hw]'") from None
    if tool not in ("auto", "open", "vivado", "none"):
        raise UsageError(f"--tool {tool!r}", "there are auto, open, vivado, none")
    if check and tool == "vivado":
        raise UsageError("--check simulates yosys's netlist, which --tool vivado does not make", "leave one of them out")
    try:
        made = flow.make(directory, tool)
        checked = _check(directory, check) if check else None
    except (flow.BitstreamError, netlist.NetlistError, ModelError) as error:
        raise EdgertError(str(error)) from None
    if as_json:
        facts = {"bit": str(made.bit) if made.bit else None, "tool": made.tool, "missing": made.missing, "commands": made.commands,
                 "cells": made.cells, "router_mhz": made.mhz, "netlist_frames": check, "netlist_wrong": checked}
        typer.echo(json.dumps(facts, indent=1))
    else:
        if made.cells:
            typer.echo("netlist: " + ", ".join(f"{count} {kind}" for kind, count in made.cells.items()))
        if checked is not None:
            typer.echo(f"netlist simulated: {check} golden frames, {checked} wrong")
        if made.bit:
            typer.echo(f"{made.bit} is made with {made.tool} tools" + (f"; the router estimates {made.mhz:g} MHz" if made.mhz else ""))
        else:
            typer.echo(f"not placed and routed; this machine lacks: {'; '.join(made.missing)}")
            typer.echo("where the tools are:")
            for command in made.commands:
                typer.echo(f"  {command}")
    if checked:
        raise typer.Exit(3)
    if not made.bit:
        raise typer.Exit(NO_TOOLS)


def _check(directory: Path, count: int) -> int:
    """Golden frames that the netlist answers wrongly, of `count`, repeated where there are fewer."""
    import numpy as np

    from gateware import netlist

    with np.load(directory / "golden.npz", allow_pickle=False) as golden:
        frames = np.resize(golden["frames"], (count, *golden["frames"].shape[1:]))
        logits = np.resize(golden["logits"], (count, golden["logits"].shape[1]))
    found = netlist.answers(netlist.netlist_model(directory), frames, logits.shape[1])
    return int((found != logits).any(axis=1).sum())

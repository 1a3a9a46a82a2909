"""`edgert hw rtl`: the Verilog of a bundle's network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ...errors import EdgertError, UsageError

app = typer.Typer(add_completion=False)


def hertz(text: str) -> int:
    """A clock such as `100MHz`, in Hz. Raises UsageError."""
    for unit, factor in (("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3), ("Hz", 1.0)):
        if text.lower().endswith(unit.lower()):
            try:
                value = float(text[: -len(unit)])
            except ValueError:
                break
            if 1e5 <= value * factor <= 1e9:
                return round(value * factor)
            break
    raise UsageError(f"--clock {text!r}: expected 100kHz to 1GHz with its unit", "write 100MHz")


@app.command()
def rtl(
    bundle: str = typer.Argument(..., help="A bundle's name (fashion) or directory."),
    out: Path = typer.Option(..., "--out", "-o", help="The directory to write; its Verilog of an earlier time is replaced."),
    board: str = typer.Option("pynq-z2", help="The board: pynq-z2, zcu102."),
    clock: str = typer.Option("100MHz", help="Clock of the fabric."),
    cycles: int | None = typer.Option(None, min=1, help="Cycles between frames at most; the fewest LUTs that keep it are taken."),
    luts: int | None = typer.Option(None, min=1, help="LUTs at most; the fewest cycles within them are taken. Without any: half the chip."),
    latency: int | None = typer.Option(None, min=1, help="Cycles from the first pixel to the answer at most."),
    as_json: bool = typer.Option(False, "--json", help="Print build.json instead of the table."),
) -> None:
    """Generate the accelerator core of a bundle's network, folded layer by layer to a budget, with its shell.

    Every layer is built folded (PE outputs x SIMD inputs a cycle, weights in memory), wide (whole windows) or unrolled (adders made for the
    weights). Predicted LUTs are within some 10 % of what yosys finds; `edgert hw report` runs yosys.

    Example: edgert hw rtl fashion --cycles 2000 -o build/fashion
    """
    from ...bundle import load

    try:
        from gateware.folding import CHIPS, NoFolding, Search
        from gateware.generate import generate
    except ImportError as error:
        raise EdgertError(f"generating hardware needs {error.name}", "pip install 'edgert[hw]'") from None
    if board not in CHIPS:
        raise UsageError(f"--board {board!r} is unknown", f"one of: {', '.join(CHIPS)}")
    if cycles is not None and luts is not None:
        raise UsageError("--cycles and --luts are two budgets; one is minimised for the other", "give one of them")
    clock_hz = hertz(clock)
    loaded = load(bundle)
    search = Search(loaded.network, CHIPS[board])
    try:
        found = search.least_luts(cycles, latency) if cycles is not None else search.least_cycles(luts or CHIPS[board].lut // 2, latency)
    except NoFolding as error:
        raise EdgertError(str(error), "give more cycles, LUTs or latency") from None
    golden = loaded.arrays("golden.npz")
    try:
        build = generate(found, out, board, clock_hz, golden)
    except ValueError as error:
        raise UsageError(str(error), "give another --clock") from None
    if as_json:
        typer.echo(json.dumps(build, indent=1))
        return
    _print(build)
    typer.echo(f"{out} is written; next: edgert hw sim {out}, edgert hw report {out}")


def _print(build: dict[str, Any]) -> None:
    from gateware.folding import CHIPS

    from ._columns import columns

    chip, clock = CHIPS[build["board"]], build["clock_hz"]
    rows: list[list[object]] = [["layer", "kind", "shape", "build", "PE x SIMD", "interval", "latency", "LUT", "FF", "BRAM18 by bits",
                                 "by ports"]]
    for entry in build["layers"]:
        said = entry["predicted"]
        shapes = " -> ".join("x".join(map(str, entry[key])) for key in ("shape", "out_shape"))
        rows.append([entry["name"], entry["kind"], shapes, entry["build"], f"{entry['pe']} x {entry['simd']}",
                     *(said[key] for key in ("interval", "latency", "lut", "ff", "bram18_bits", "bram18_ports"))])
    rest, total = build["outside_layers"], build["predicted_total"]
    rows.append(["rest", "", "", "", "", "", "", rest["lut"], rest["ff"], "", ""])
    rows.append(["core", "", "", "", "", build["interval_cycles"], build["latency_cycles"],
                 *(total[key] for key in ("lut", "ff", "bram18_bits", "bram18_ports"))])
    rows.append(["of the chip", "", "", "", "", "", "", f"{total['lut'] / chip.lut:.1%}", f"{total['ff'] / chip.ff:.1%}",
                 f"{total['bram18_bits'] / chip.bram18:.1%}", f"{total['bram18_ports'] / chip.bram18:.1%}"])
    typer.echo(columns(rows, left=4))
    typer.echo(f"predicted for {build['board']} at {clock / 1e6:g} MHz: {clock / build['interval_cycles']:,.0f} frames a second, "
               f"{build['latency_cycles'] / clock * 1e6:.1f} us from the first pixel to the answer; no DSP")

"""`edgert hw report`: what the generated core takes, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ...errors import EdgertError, UsageError

app = typer.Typer(add_completion=False)


@app.command()
def report(
    directory: Path = typer.Argument(..., help="What `edgert hw rtl` wrote."),
    again: bool = typer.Option(False, help="Run yosys even where its result for these sources is there."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """LUTs, registers, block RAM and DSPs of each layer by yosys, against the board's chip and what was predicted.

    Block RAM is told by the bits stored (the least that would hold them) and as placed. Cycles are those that `edgert hw sim` counted; a
    clock is told only where place and route ran (`edgert hw bitstream`): yosys knows none. LUTs count logic and memory made of LUTs.

    Example: edgert hw report build/fashion
    """
    try:
        from gateware.folding import CHIPS
        from gateware.generate import NotGenerated, read
        from gateware.synthesis import SynthesisError, utilisation
    except ImportError as error:
        raise EdgertError(f"the report needs {error.name}", "pip install 'edgert[hw]'") from None
    try:
        build = read(directory)
        if not as_json:
            typer.echo(f"yosys on {directory}: a minute for 5,000 LUTs, and several when it runs for the first time ...", err=True)
        used = utilisation(directory, build, again)
    except NotGenerated as error:
        raise UsageError(str(error), f"edgert hw rtl BUNDLE -o {directory}") from None
    except SynthesisError as error:
        raise EdgertError(str(error), "pip install 'edgert[hw]'") from None
    figures = _figures(directory, build, used, CHIPS[build["board"]])
    typer.echo(json.dumps(figures, indent=1) if as_json else _text(figures))


def _read(path: Path, build: dict[str, Any]) -> dict[str, Any] | None:
    """A result of another command, where it is there and of this model."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if content.get("model_id") == build["model_id"] else None


def _figures(directory: Path, build: dict[str, Any], used: dict[str, dict[str, int]], chip: Any) -> dict[str, Any]:
    layers = [{"name": entry["name"], "kind": entry["kind"], "build": entry["build"], "pe": entry["pe"], "simd": entry["simd"],
               "predicted": entry["predicted"], "measured": used[entry["name"]]} for entry in build["layers"]]
    layers.append({"name": "rest", "kind": "", "build": "", "pe": "", "simd": "", "predicted": {**build["outside_layers"], "interval": ""},
                   "measured": used["core"]})
    total = {key: sum(entry["measured"][key] for entry in layers) for key in used["core"]}
    share = {key: total[key] / getattr(chip, key) for key in ("lut", "ff", "bram18", "dsp")}
    simulated = _read(directory / "simulation.json", build)
    routed = _read(directory / "bitstream.json", build)
    return {"model_id": build["model_id"], "board": build["board"], "layers": layers, "total": total,
            "predicted_total": build["predicted_total"], "of_chip": share,
            "cycles": {key: simulated[key] for key in ("interval_cycles", "latency_cycles")} if simulated else None,
            "clock": {key: routed[key] for key in routed if key.endswith("_hz")} if routed else None, "clock_asked_hz": build["clock_hz"]}


def _text(figures: dict[str, Any]) -> str:
    from ._columns import columns

    rows: list[list[object]] = [["layer", "kind", "build", "PE x SIMD", "interval", "LUT", "predicted", "off", "FF", "predicted",
                                 "BRAM18", "by bits", "DSP"]]
    for entry in figures["layers"]:
        said, found = entry["predicted"], entry["measured"]
        off = f"{said['lut'] / max(found['lut'], 1) - 1:+.0%}"
        width = f"{entry['pe']} x {entry['simd']}" if entry["pe"] else ""
        rows.append([entry["name"], entry["kind"], entry["build"], width, said["interval"],
                     found["lut"], said["lut"], off, found["ff"], said["ff"], found["bram18"], said["bram18_bits"], found["dsp"]])
    total, said = figures["total"], figures["predicted_total"]
    rows.append(["core", "", "", "", "", total["lut"], said["lut"], f"{said['lut'] / total['lut'] - 1:+.0%}", total["ff"], said["ff"],
                 total["bram18"], said["bram18_bits"], total["dsp"]])
    share = figures["of_chip"]
    rows.append([f"of {figures['board']}", "", "", "", "", f"{share['lut']:.1%}", "", "", f"{share['ff']:.1%}", "", 
                 f"{share['bram18']:.1%}", "", f"{share['dsp']:.1%}"])
    cycles, clock = figures["cycles"], figures["clock"]
    told = (f"interval {cycles['interval_cycles']} cycles, latency {cycles['latency_cycles']} cycles, simulated" if cycles
            else "cycles: not simulated yet (edgert hw sim)")
    routed = f"place and route: {json.dumps(clock)}" if clock else "clock: no place and route yet (edgert hw bitstream); yosys knows none"
    return f"{columns(rows, left=4)}\n{told}; asked for {figures['clock_asked_hz'] / 1e6:g} MHz\n{routed}"

"""`edgert hw sim`: the generated core under Verilator against the reference."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import typer

from ...errors import EdgertError, UsageError

KEYS = ("name", "frames", "logits", "distinct", "wrong", "cycles")
app = typer.Typer(add_completion=False)


@app.command()
def sim(
    directory: Path = typer.Argument(..., help="What `edgert hw rtl` wrote."),
    frames: int = typer.Option(60, min=4, help="Random frames in each scenario, about."),
    stalls: float = typer.Option(0.4, min=0, max=0.99, help="Probability that source and sink stall in a cycle, where they do."),
    seeds: int = typer.Option(3, min=1, help="Random initial states of all registers that are tried."),
    waveform: Path | None = typer.Option(None, help="Write a .vcd of two golden frames here, and do nothing else."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Run the generated core under Verilator, and compare every logit with the integer reference.

    Golden frames, random frames from random initial states, random stalls on both sides, frames without a break, resets in the middle of a
    frame, tlast early and late. Interval and latency are counted in cycles and compared with what was predicted.

    Exit code: 0 every logit is right, 3 one is not.

    Example: edgert hw sim build/fashion --frames 200 --stalls 0.8
    """
    import numpy as np

    try:
        from gateware.generate import NotGenerated, read
        from gateware.scenarios import trial
        from gateware.simulate import SimulationError, build
        from modelkit.ternary import npz
    except ImportError as error:
        raise EdgertError(f"simulation needs {error.name}", "pip install 'edgert[hw]'") from None
    try:
        made = read(directory)
        network = npz.load(directory / "mandatory.npz")
        with np.load(directory / "golden.npz", allow_pickle=False) as stored:
            golden = {name: stored[name] for name in ("frames", "logits")}
        library = build(directory, trace=waveform is not None)
        tried = trial(directory, network, library, made["interval_cycles"], made["latency_cycles"], str(waveform or ""))
        if waveform is not None:
            two = tried.compare("golden frames", golden["frames"][:2], golden["logits"][:2])
            typer.echo(f"{waveform}: {two.frames} golden frames, {two.cycles} cycles, {two.wrong} logits wrong")
            raise typer.Exit(3 if two.wrong else 0)
        latency, interval = tried.cycles(golden["frames"][:8])
        started = time.perf_counter()
        outcomes = list(tried.all(golden, frames, stalls, seeds))
    except NotGenerated as error:
        raise UsageError(str(error), f"edgert hw rtl BUNDLE -o {directory}") from None
    except (SimulationError, OSError, ValueError, KeyError) as error:
        raise EdgertError(f"simulation of {directory} failed: {error}", "edgert hw rtl writes it anew") from None
    seconds = time.perf_counter() - started
    rate = sum(outcome.cycles for outcome in outcomes) / seconds
    wrong = sum(outcome.wrong for outcome in outcomes)
    report: dict[str, Any] = {
        "model_id": made["model_id"], "exact": wrong == 0, "interval_cycles": interval, "latency_cycles": latency,
        "predicted": {"interval_cycles": made["interval_cycles"], "latency_cycles": made["latency_cycles"]},
        "cycles_per_second": round(rate),
        "scenarios": [{name: getattr(outcome, name) for name in KEYS} for outcome in outcomes],
    }  # fmt: skip
    (directory / "simulation.json").write_text(json.dumps(report, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        _print(report)
    if wrong:
        raise typer.Exit(3)


def _print(report: dict[str, Any]) -> None:
    from ._columns import columns

    heading = ["scenario", "frames", "logits", "distinct outputs", "wrong", "cycles"]
    typer.echo(columns([heading, *([entry[key] for key in KEYS] for entry in report["scenarios"])]))
    predicted = report["predicted"]
    typer.echo(f"interval {report['interval_cycles']} cycles (predicted {predicted['interval_cycles']}), "
               f"latency {report['latency_cycles']} (predicted {predicted['latency_cycles']}); "
               f"simulated {report['cycles_per_second'] / 1e6:.2f} M cycles a second")

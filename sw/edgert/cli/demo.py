"""`edgert demo`: live runs at two loads, five policies, their simulations, one page."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..results.demo import Load

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

LOADS = (1.5, 3.0)
UNPROVEN = "50ms"  # the deadline where none is admitted
DEADLINES = ("33ms", "50ms", "66ms", "100ms", "200ms", "400ms", "1s", "3s")  # the first that half of is enough to refine one frame
SECONDS, QUICK_SECONDS, PROBE_SECONDS = 7.0, 3.0, 2.0

MANUAL = """What imprecise computation buys, in about two minutes: five policies live at two loads, and one page that explains them.

\b
WHAT IT DOES
  1. Measures this machine and makes as many streams of labelled pictures as would take 1.5 times, and 3 times, the CPU given to refine
     every frame. Streams, rates, deadline and frames are then the same for all policies.
  2. Runs live, 7 seconds each: monolithic (all or nothing, as most systems are), mandatory-only, fifo-gated, threshold (tuned on
     validation pictures), and the default policy.
  3. Simulates each of these runs: same engine, same frames, the durations that were recorded.
  4. Writes DIR/report.html, and prints which of the expected orderings were shown. The records stay in DIR for report, compare, replay.

\b
EXIT CODES
  0  all runs are valid, whether or not every ordering was shown (that is printed)
  2  something on the command line cannot be right
  3  a run could not be made, the reason is printed
  4  a run is INVALID, so nothing may be concluded
"""


@app.command(help=MANUAL)
def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", metavar="DIR", help="Where records and report.html go."),
    bundle: str = typer.Option("fashion", "--bundle", help="A bundle of the zoo by name, or the directory of one."),
    quick: bool = typer.Option(False, "--quick", help="3 seconds a run instead of 7: under a minute, with wider intervals."),
    accelerator: str = typer.Option("auto", "--accelerator", help="Engine of the mandatory network, as in edgert run."),
    seed: int = typer.Option(0, "--seed", help="Which pictures are drawn, and the phases of the streams."),
) -> None:
    """See MANUAL."""
    from ..bundle import load as load_bundle
    from ..results import demo as showing
    from ..results import report

    started = time.monotonic()
    loaded = load_bundle(bundle)
    seconds = QUICK_SECONDS if quick else SECONDS
    folder = _prepare(out)
    common = [bundle, "--accelerator", accelerator]
    probes = {load: _probe(folder, common, loaded.name, load, seed) for load in LOADS}
    policies = {load: _policies(probes[load], loaded) for load in LOADS}
    total, done = sum(len(p) for p in policies.values()), 0
    for name in showing.NAMES:  # interleaved, so that a machine that changes does not favour one load
        for load in LOADS:
            done += 1
            path = folder / f"{load:g}-{name}.db"
            _run([*common, "--like", str(probes[load]), "--policy", policies[load][name], "--duration", f"{seconds:g}s", "--record",
                  str(path)],
                 path, tries=3)
            _say(f"[{done}/{total}] load {load:g}, {policies[load][name]}: {_outcome(path)}")
    loads = [_load(folder, load, loaded) for load in LOADS]
    found = showing.checks(loads)
    page = folder / "report.html"
    report.write(page, showing.page(loads, found, _setting(loads, seconds)))
    _show(loads, found)
    _say(f"\n{page} explains it; everything took {time.monotonic() - started:.0f} s.")
    wrong = showing.invalid(loads)
    for line in wrong:
        _say(f"INVALID: {line}")
    if wrong:
        raise typer.Exit(4)


def _say(text: str) -> None:
    print(text, flush=True)


def _prepare(out: Path) -> Path:
    """The folder, without what an earlier demonstration left there. Raises UsageError where it cannot be written."""
    from ..errors import UsageError

    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in [*out.glob("*.db"), *out.glob("*.db-*"), out / "report.html"]:
            old.unlink(missing_ok=True)
        (out / "report.html").write_text("", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror})", "name another folder with --out") from None
    return out


def _run(argv: list[str], record: Path, tries: int = 1) -> None:
    """Run `edgert run` in a process of its own, as a user would. Raises EdgertError where it gives no record.

    Where it is not admitted it is tried again, `tries` times in all: each measures the network's worst case, which other work may disturb.
    After that it runs as best effort, and its record says so.
    """
    from ..errors import EdgertError

    done = subprocess.run([sys.executable, "-m", "edgert.cli", "run", *argv, "--json"], capture_output=True, text=True, check=False)
    if done.returncode == 3 and ": not admitted" in done.stderr and tries > 1:
        _say("not admitted: " + ("measured again" if tries > 2 else "it goes on as best effort, without a guarantee"))
        return _run(argv if tries > 2 else [*argv, "--best-effort"], record, tries - 1)
    if done.returncode not in (0, 4) or not record.exists():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EdgertError(f"edgert run {' '.join(argv)}: {last.removeprefix('edgert: ')}", "try edgert doctor")


def _probe(folder: Path, common: list[str], name: str, load: float, seed: int) -> Path:
    """A short run that fixes streams, rates and deadline for a load; the shortest deadline that this machine can hold."""
    from ..errors import EdgertError

    path = folder / f"{load:g}-probe.db"
    base = [*common, "--source", f"camera=dataset:{name}", "--load", f"{load:g}", "--policy", "fifo-gated", "--seed", str(seed),
            "--duration", f"{PROBE_SECONDS:g}s", "--record", str(path), "--overwrite"]
    for i, deadline in enumerate(DEADLINES):
        try:
            _run([*base, "--deadline", deadline], path)
            break
        except EdgertError:
            path.unlink(missing_ok=True)
            if i + 1 == len(DEADLINES):  # the mandatory parts alone may need more than this machine has
                _run([*base, "--deadline", UNPROVEN, "--best-effort"], path)
    from ..results.view import read

    streams = read(path).streams
    _say(f"load {load:g}: {len(streams)} streams of {1e9 / streams[0].period_ns:.1f} frames/s, deadline {streams[0].deadline_ns / 1e6:g} "
         f"ms")
    return path


def _policies(probe: Path, bundle: Bundle) -> dict[str, str]:
    """The policies by their names in the demonstration; `threshold` is tuned on validation pictures."""
    from ..results.twin import tuned_threshold
    from ..results.view import read

    theta = tuned_threshold(read(probe), bundle)
    return {"monolithic": "monolithic", "mandatory-only": "mandatory-only", "fifo-gated": "fifo-gated",
            "threshold": f"threshold:theta={theta:g}", "default": "default"}


def _outcome(path: Path) -> str:
    """What a run gave, in a few words."""
    from ..results.text import percent
    from ..results.view import read

    view = read(path)
    delivered = view.delivered
    return (f"missed {int(view.missed.sum()):,} of {int(delivered.sum()):,}, "
            f"utility {percent(float(view.frames['utility'][delivered].mean()) if delivered.any() else None)}")


def _load(folder: Path, load: float, bundle: Bundle) -> Load:
    """All runs at one load, read again, with their simulations."""
    from ..results import demo as showing
    from ..results.twin import full_utility, twin
    from ..results.view import read

    live = {name: read(folder / f"{load:g}-{name}.db") for name in showing.NAMES}
    return showing.Load(load, live, {name: twin(view, bundle) for name, view in live.items()}, full_utility(live["default"], bundle))


def _setting(loads: list[Load], seconds: float) -> dict[str, str]:
    """What ran where, in words."""
    view = loads[0].live["default"]
    machine: dict[str, Any] = dict(view.meta.get("machine", {}))
    emulated = " (emulated: no FPGA was used)" if view.meta.get("emulated") else ""
    return {
        "where": f"Live on {machine.get('cpu', 'this machine')}, {machine.get('cores', '?')} cores, Python {machine.get('python', '?')}; "
                 f"bundle "
                 f"{view.meta.get('bundle')}, mandatory part on {view.meta.get('accelerator')}{emulated}; default policy: {view.policy}.",
        "how": f"Each run lasted {seconds:g} s of scheduled captures and was a process of its own; loads were interleaved. The threshold "
               f"policy "
               f"was tuned on validation pictures, which are not among those shown: "
               + ", ".join(f"{load.live['threshold'].policy} at load {load.load:g}" for load in loads) + "."}


def _show(loads: list[Load], found: list[Any]) -> None:
    """The short table and the checks."""
    from rich.console import Console
    from rich.table import Table

    from ..results.text import interval

    console = Console(highlight=False, width=max(100, shutil.get_terminal_size().columns))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, title in enumerate(("load", "policy", "missed", "miss ratio", "accuracy", "utility")):
        table.add_column(title, justify="left" if i == 1 else "right")
    for load in loads:
        for name, summary in load.summaries.items():
            part = summary["all"]
            table.add_row(f"{load.load:g}", name, f"{part['missed']:,}", interval(part, "miss_ratio"), interval(part, "accuracy"),
                          interval(part, "utility"))
    console.print()
    console.print(table)
    console.print()
    for check in found:
        console.print(f"{'shown    ' if check.shown else 'NOT SHOWN'}  {check.claim}", style="green" if check.shown else "red")
        console.print(f"           {check.numbers}", style="dim")


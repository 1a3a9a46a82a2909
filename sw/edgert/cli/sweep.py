"""`edgert sweep`: many simulations, kept as they are finished."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..sweep import Result
    from ..sweep.plan import Plan

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

ERRORS_SHOWN = 8
MANUAL = """Simulate every combination of scenarios, loads, parameters, policies and seeds that a file asks for.

Each simulation is a cell, kept under the hash of all that determines its result: the scenario as read (bundles included), the policy
and its code, the seed, the frames, the simulator's code. A cell that is there is not computed again, whichever sweep asks for it. So
an interrupted sweep goes on where it was (Ctrl-C, kill -9, a power cut), and one that was made larger computes only what is new.
With one seed every policy sees the same frames: differences are paired by seed.

\b
EXAMPLES
  edgert sweep sweep.toml
  edgert sweep sweep.toml --jobs 8 -o results.db --csv > cells.csv
  edgert sweep sweep.toml --engine dask

\b
A SWEEP FILE
  scenarios = ["made-up", "my-scenario.toml"]
  policies = ["mandatory-only", "threshold:theta=tuned", "default"]
  loads = [0.5, 1.5, 3]
  seeds = 20
  frames = 5000
  [grid]
  guard = ["0ms", "1ms"]
  "stream.camera.jitter" = ["0ms", "2ms"]
  [[generate]]
  name = "random"
  streams = 8
  utilisation = 0.6
  All keys are listed at the top of edgert/sweep/plan.py.

\b
ENGINES
  local   processes on this machine, by joblib's loky (pip install 'edgert[sim]'); one job needs no package
  ray     pip install ray joblib; the cluster of RAY_ADDRESS, or one started here
  dask    pip install 'dask[distributed]' joblib; the cluster of DASK_SCHEDULER_ADDRESS, or one started here

\b
EXIT CODES
  0  all cells have results;  1  some cell failed, the others have theirs;  2  something in the file or on the command line cannot be right
  3  a bundle or the file of results cannot be used;  130, 143  interrupted: what was finished is kept
"""


class _Stopped(BaseException):
    """A signal asks to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@app.command(help=MANUAL)
def sweep(
    file: Path = typer.Argument(..., metavar="SWEEP.toml", help="What to simulate."),
    engine: str = typer.Option("local", "--engine", metavar="E", help="Where cells are computed: local, ray or dask."),
    jobs: int | None = typer.Option(None, "--jobs", metavar="N", help="Workers. Default: the CPUs at hand."),
    output: Path | None = typer.Option(None, "-o", "--output", metavar="FILE", help="The results, an SQLite file; several sweeps may share "
                                          "one. Default: SWEEP.db here."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md): all cells, and the figures of the table."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV, a row a cell."),
) -> None:
    """See MANUAL."""
    from ..errors import UsageError
    from ..sweep.execute import ENGINES

    if as_json and as_csv:
        raise UsageError("--json and --csv: found both", "give one")
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", f"there are {', '.join(ENGINES)}")
    if jobs is not None and not 1 <= jobs <= 4096:
        raise UsageError(f"--jobs {jobs}: expected 1 to 4096", "give a number of workers")
    from ..sweep import figures, plan

    try:
        asked = plan.read(file)
    except ValueError as error:
        raise UsageError(str(error), "") from None
    path = output or Path(f"{file.stem}.db")
    with _signals():
        results = _compute(asked, path, engine, jobs)
    found = figures.figures(asked, results)
    if as_json:
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
    elif as_csv:
        typer.echo(figures.as_csv(found), nl=False)
    else:
        from rich.console import Console

        figures.show(asked, found, Console(highlight=False))
    if _say_what_failed(asked, results):
        raise typer.Exit(1)


def _compute(asked: Plan, path: Path, engine: str, jobs: int | None) -> dict[str, Result]:
    """Every cell's result by key. Raises typer.Exit where a signal ends it, with what is finished kept."""
    from ..sweep import Store, run

    results: dict[str, Result] = {}
    cells = [entry.cell for entry in asked.entries]
    wanted = len({cell.key for cell in cells})
    with Store(path) as store:
        try:
            with _progress() as tell:
                for result in run(cells, store, jobs, tell, engine):
                    results[result.cell.key] = result
        except (KeyboardInterrupt, _Stopped) as stop:
            number = stop.number if isinstance(stop, _Stopped) else int(signal.SIGINT)
            done = sum(result.status != "failed" for result in results.values())
            print(f"edgert: interrupted; {done} of {wanted} results are in {path}, the same command computes the rest", file=sys.stderr)
            raise typer.Exit(128 + number) from None
    kept = sum(result.status == "kept" for result in results.values())
    print(f"{wanted} cells: {kept} were in {path}, {wanted - kept} computed", file=sys.stderr)
    return results


def _say_what_failed(asked: Plan, results: dict[str, Result]) -> bool:
    """Name the cells that failed; whether there are any."""
    failed = [entry for entry in asked.entries if results[entry.cell.key].status == "failed"]
    for entry in failed[:ERRORS_SHOWN]:
        setting = asked.settings[entry.setting]
        load = "" if setting.load is None else f", load {setting.load:g}"
        grid = "".join(f", {key} = {value}" for key, value in setting.grid.items())
        print(f"edgert: failed: {setting.scenario}{load}{grid}, {entry.policy}, seed {entry.seed}: {results[entry.cell.key].error}",
              file=sys.stderr)
    if len(failed) > ERRORS_SHOWN:
        print(f"edgert: and {len(failed) - ERRORS_SHOWN} more failed; --csv lists all", file=sys.stderr)
    return bool(failed)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a sweep as Ctrl-C does."""
    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = [signal.signal(number, stop) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before):
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, Result], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cells", total=None)

        def tell(done: int, total: int, result: Result) -> None:
            bar.update(task, completed=done, total=total, description="cells, some failed" if result.status == "failed" else None)

        yield tell

"""`edgert simulate`: many policies on the same frames, in virtual time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from imprecise.admission import RunAdmission
    from imprecise.scenario import Scenario, Workload
    from imprecise.simulation import Simulation

    from ..results.view import View

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

POLICIES = ("mandatory-only", "fifo-gated", "default")
FORMAT = 1

MANUAL = """Simulate the schedule that `edgert run` would make: the same engine, in virtual time.

Every policy sees the same frames: arrivals, durations and pictures are drawn by (seed, stream, frame, stage), whatever is done with
them. So the differences to the first policy are paired, and a few thousand frames tell policies apart.

\b
EXAMPLES
  edgert simulate made-up --policy default --policy threshold:theta=0.9 --policy monolithic
  edgert simulate two-cameras --frames 20000 --seed 7 --json
  edgert simulate overload-1.5 --load 2.5 --policy fifo-gated --policy default
  edgert simulate my-scenario.toml --policy default --record runs/simulated.db

\b
SCENARIOS
  A TOML file, or one that comes with edgert:
  ten-tasks       ten periodic tasks on one resource, one stage each, utilisation 0.9 (monolithic is the policy to use)
  two-cameras     front at 30 frames/s and rear at 15, with the bundle fashion
  overload-1.5    as many cameras as would keep the CPU 1.5 times busy were every answer refined to the end
  overload-3      the same, 3 times
  made-up         cameras with made-up, calibrated answers and lognormal times, at a load of 1.5: needs no bundle
  hard-day        a machine that is not ideal: other work, heat, crashes, lost frames, an accelerator that is gone for a second
  The keys of such a file are listed at the top of imprecise/scenario.py.

\b
WHAT THE TABLE SAYS
  missed      frames with no answer by their deadline
  miss ratio  with an interval that holds for bursts; without a miss, its exact upper bound
  utility     expected correctness of what was published, the mean over frames (a miss counts 0)
  accuracy    share of labelled frames answered right (a miss is wrong)
  depths      shares answered with 0, 1, ... refinement stages
  p50, p99    publication minus capture; a missed frame counts as infinitely late

\b
EXIT CODES
  0  simulated;  2  something on the command line or in the scenario cannot be right;  3  a bundle or record cannot be used
"""


@app.command(help=MANUAL)
def simulate(
    scenario: str = typer.Argument(..., help="A scenario by name, or a TOML file."),
    policy: list[str] = typer.Option([], "--policy", metavar="P", help="A policy, as NAME or NAME:PARAMETER=NUMBER; repeat it to compare. "
                                     f"Default: {', '.join(POLICIES)}."),
    seed: int = typer.Option(0, "--seed", help="Of all draws."),
    frames: int = typer.Option(5000, "--frames", help="Frames to simulate, of all streams together."),
    load: float | None = typer.Option(None, "--load", metavar="L", help="As many copies of the scenario's one stream as cost L times the "
                                         "capacity of the resource that refines; overrides the file."),
    validation: bool = typer.Option(False, "--validation", help="Show validation pictures: tune and choose policies on these only."),
    record: Path | None = typer.Option(None, "--record", metavar="FILE", help="Keep the run record of the one policy: every frame, "
                                          "stage and decision, for report, compare and replay."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a run record that is there."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of the table."),
) -> None:
    """See MANUAL."""
    from imprecise import policies as known
    from imprecise import scenario as scenarios
    from imprecise.admission import answer
    from imprecise.question import engine_options, of_scenario
    from imprecise.simulator import simulate as run

    from ..errors import UsageError
    from ..results.admission import sources

    specs = list(dict.fromkeys(policy)) or list(POLICIES)
    if record is not None and len(specs) != 1:
        raise UsageError(f"--record keeps the run of one policy, found {len(specs)}", "give exactly one --policy")
    if not 1 <= frames <= 10**8:
        raise UsageError(f"--frames {frames}: expected 1 to 100,000,000", "give a number of frames")
    if load is not None and not 0 < load <= 1000:
        raise UsageError(f"--load {load:g}: expected a number above 0, at most 1000", "write it like --load 1.5")
    labels: dict[str, Any] = {}
    bundles: dict[str, Any] = {}
    try:
        for spec in specs:
            known.make(spec)
        world = scenarios.load(scenario, lambda name: workload(name, bundles, labels), load)
        world = world.on_validation() if validation else world
    except ValueError as error:
        raise UsageError(str(error), "") from None
    admission = answer(of_scenario(world, sources=sources(world, bundles)))
    results = []
    with _progress(len(specs) * frames, not as_json) as advance:
        for i, spec in enumerate(specs):
            tell = None if advance is None else lambda done, before=i * frames: advance(before + done)
            own = engine_options(world, admission if known.make(spec).splits else None)
            try:
                if record is not None:
                    known_labels = {} if validation else labels
                    results.append(_recorded(record, overwrite, world, spec, seed, frames, own, admission, bundles, known_labels, tell))
                else:
                    results.append(run(world, spec, seed, frames, options=own, progress=tell))
            except ValueError as error:  # a time beyond what can be counted
                raise UsageError(f"{scenario}: {error}", "ask for fewer frames") from None
    found = figures(world, results, seed, frames, admission)
    if as_json:
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
    else:
        show(found)
        if record is not None:
            typer.echo(f"record: {record}")


def workload(name: str, bundles: dict[str, Any], labels: dict[str, Any]) -> Workload:
    """A bundle as a simulation wants it; it and the labels of its pictures are kept in the two dicts.

    Durations are the quantiles of `timing.json`, straight between them, the median below it.
    """
    from imprecise.draws import Quantiles
    from imprecise.scenario import Outcomes, Workload

    from ..bundle import load
    from ..errors import BundleError

    bundle = load(name)
    outcomes: list[Outcomes | None] = []
    try:
        for file in ("outcomes.npz", "validation.npz"):
            arrays = bundle.arrays(file) if file == "outcomes.npz" or file in bundle.contents else None
            outcomes.append(None if arrays is None else Outcomes(arrays["confidence"], arrays["correct"]))
        stages = bundle.stages()
        times = [bundle.timing["stages"][stage.name.rpartition("/")[2]] for stage in stages]
        models = tuple(Quantiles((0.5, 0.9, 0.99, 1.0), tuple(int(t[k]) for k in ("p50_ns", "p90_ns", "p99_ns", "max_ns"))) for t in times)
        work = Workload(stages, models, bundle.reward, outcomes[0], outcomes[1])
    except (KeyError, ValueError, TypeError) as error:
        raise BundleError(f"bundle {name!r} cannot be simulated ({type(error).__name__}: {error})", "fetch the bundle again") from None
    bundles[name] = bundle
    if "frames.npz" in bundle.contents:
        labels.update((stage.name, bundle.arrays("frames.npz").get("labels")) for stage in stages[:1])
    return work


# Figures --------------------------------------------------------------------------------------------------------------


def figures(world: Scenario, results: Sequence[Simulation], seed: int, frames: int, admission: RunAdmission) -> dict[str, Any]:
    """All figures of all policies, JSON types only; differences are to the first policy, on the same frames."""
    from ..results.compare import FIGURES, difference
    from ..results.summary import CONFIDENCE
    from ..results.summary import figures as of_view

    views = [view_of(world, result) for result in results]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(views) - 1)  # Bonferroni: all differences of one figure hold together
    rows = []
    for i, (result, view) in enumerate(zip(results, views)):
        row: dict[str, Any] = {"policy": result.policy, **of_view(view, view.delivered), "discarded_stages": result.discarded,
                               "policy_fault": result.policy_fault, "busy": _busy(world, result)}
        row["against_first"] = {f: difference(views[0], view, f, confidence) for f in FIGURES} if i else None
        rows.append(row)
    return {"format": FORMAT, "scenario": world.name, "seed": seed, "frames": frames, "load": world.load, "streams": len(world.sources),
            "period_ns": [s.period_ns for s in world.streams], "deadline_ns": [s.deadline_ns for s in world.streams],
            "resources": dict(world.resources), "guard_ns": world.guard_ns, "duration_ns": max(r.end_ns for r in results),
            "confidence": CONFIDENCE, "difference_confidence": confidence,
            "admission": {"answer": admission.answer, "text": admission.text, "notes": list(admission.notes)}, "policies": rows}


def _busy(world: Scenario, result: Simulation) -> dict[str, float]:
    """Share of its capacity that each resource was busy."""
    return {name: ns / max(1, result.end_ns * world.resources[name]) for name, ns in result.busy_ns.items()}


def view_of(world: Scenario, result: Simulation) -> View:
    """A simulation as the columns that summaries and comparisons read."""
    import numpy as np

    from ..results.view import INTEGERS, StreamInfo, View

    assert result.frames is not None
    table = result.frames[np.lexsort((result.frames["frame"], result.frames["stream"], result.frames["release_ns"]))]
    columns = {name: table[name].astype(np.int64) for name in INTEGERS if name in (table.dtype.names or ())}
    columns["label"] = columns["answer"] = np.full(len(table), -1, dtype=np.int64)
    columns.update({name: table[name].astype(np.int64) for name in ("stream", "status", "correct")})
    columns.update({name: table[name] for name in ("confidence", "utility")})
    streams = tuple(StreamInfo(s.name, "", s.period_ns, s.deadline_ns, s.jitter_ns, s.weight, tuple(asdict(stage) for stage in s.stages))
                    for s in world.streams)
    return View(result.policy, {"policy": result.policy, "kind": "simulated", "seed": result.seed}, streams, columns, {}, (), (), {})


def show(found: dict[str, Any]) -> None:
    """Print the figures as a table, and the differences to the first policy in words."""
    from rich.console import Console
    from rich.table import Table

    from ..results.compare import sentence
    from ..results.text import duration, interval, latency

    console = Console(highlight=False)
    streams = found["streams"]
    load = f", load {found['load']:g}" if found["load"] else ""
    console.print(f"{found['scenario']}: {streams} stream{'s' if streams != 1 else ''}{load}, {found['frames']:,} frames, "
                  f"{duration(found['duration_ns'])} of virtual time, seed {found['seed']}", style="bold")
    wide = console.width >= 110  # else intervals go below their figures, and some columns away
    titles = ["policy", *(["missed"] if wide else []), "miss ratio", "utility", "accuracy", "depths", "p50", "p99"]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2 if wide else 1, 0, 0))
    for title in titles:
        table.add_column(title, justify="left" if title == "policy" else "right", overflow="fold", no_wrap=title != "policy")
    for row in found["policies"]:
        shares = " ".join(f"{100 * n / max(1, row['captured']):.0f}" for n in row["answered_by_depth"].values())
        cells = {"policy": row["policy"], "missed": f"{row['missed']:,}", "depths": f"{shares} %",
                 "p50": latency(row["latency_p50_ns"]), "p99": latency(row["latency_p99_ns"])}
        for name in ("miss_ratio", "utility", "accuracy"):
            text = interval(row, name)
            cells[name.replace("_", " ")] = text if wide else text.partition(" [")[0] if name == "accuracy" else text.replace(" [", "\n[")
        table.add_row(*(cells[title] for title in titles))
    console.print(table)
    first = found["policies"][0]["policy"]
    for row in found["policies"]:
        if row["against_first"]:
            console.print(sentence(first, {"name": row["policy"], "equivalence": None, **row["against_first"]}))
        if row["policy_fault"]:
            console.print(f"{row['policy']} was switched off: {row['policy_fault']}", style="red")
    admission = found["admission"]
    console.print(f"Admission of the mandatory parts, for policies that split the work: {admission['answer']}: {admission['text']}.")
    for note in admission["notes"]:
        console.print(note)
    console.print(f"Intervals: {100 * found['confidence']:.0f} %, from blocks of frames in time.", style="dim")


@contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=total)
        yield lambda done: bar.update(task, completed=done)


# The run record -------------------------------------------------------------------------------------------------------


def _recorded(path: Path, overwrite: bool, world: Scenario, spec: str, seed: int, frames: int, options: dict[str, Any],
              admission: RunAdmission, bundles: dict[str, Any], labels: dict[str, Any],
              progress: Callable[[int], None] | None) -> Simulation:
    """Simulate one policy and write its run record as it goes."""
    import datetime

    from imprecise.simulation import ANSWERED, Log
    from imprecise.simulator import simulate as run

    from .. import __version__
    from ..executive.reproduce import describe
    from ..results.record import FrameRow, RecordWriter, StageRow

    class Recorded(Log):
        """Hands every step and stage on."""

        def __init__(self, writer: RecordWriter) -> None:
            super().__init__()
            self.writer = writer
            self.count = 0

        def step(self, now_ns: int, events: Any, actions: Any) -> None:
            self.writer.step(self.count, now_ns, events, actions)
            self.count += 1

        def stage(self, row: Any) -> None:
            self.writer.stage(StageRow(*row))

    streams = [{"name": s.name, "source": _source(s.stages[0].name, bundles), "period_ns": s.period_ns, "deadline_ns": s.deadline_ns,
                "jitter_ns": s.jitter_ns, "weight": s.weight, "stages": [asdict(stage) for stage in s.stages]} for s in world.streams]
    bundle = next(iter(bundles.values()), None)
    meta = {"kind": "simulated", "edgert": __version__, "argv": sys.argv[1:], "bundle": bundle and bundle.name,
            "model_id": bundle and bundle.model_id, "policy": spec, "accelerator": "simulated", "emulated": False, "load": world.load,
            "seed": seed, "deadline_ns": world.streams[0].deadline_ns, "guard_ns": world.guard_ns, "resources": dict(world.resources),
            "admission": admission.to_dict(), "machine": {}, "streams": streams, "scenario": world.name,
            "started_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
            "engine": describe(world.streams, world.resources, spec, world.guard_ns, options)}
    with RecordWriter(path, overwrite) as writer:
        for key, value in meta.items():
            writer.meta(key, value)
        result = run(world, spec, seed, frames, log=Recorded(writer), options=options, progress=progress)
        assert result.frames is not None
        of_stream = [labels.get(s.stages[0].name) for s in world.streams]
        for row in result.frames.tolist():
            values = dict(zip(result.frames.dtype.names or (), row))
            known, correct = of_stream[values["stream"]], values["correct"]
            values["label"] = -1 if known is None or values["item"] < 0 else int(known[values["item"]])
            values["stream"] = world.streams[values["stream"]].name
            values["status"] = "answered" if values["status"] == ANSWERED else "missed"
            values["correct"] = None if correct < 0 else correct
            writer.frame(FrameRow(answer=-1, **values))
        writer.counter("discarded_stages", result.discarded)
        writer.meta("policy_fault", result.policy_fault)
    return result


def _source(stage: str, bundles: dict[str, Any]) -> str:
    """Where a stream's pictures come from, as `edgert run` would name it."""
    name = stage.partition("/")[0]
    return f"dataset:{name}" if any(bundle.name == name for bundle in bundles.values()) else "made up"

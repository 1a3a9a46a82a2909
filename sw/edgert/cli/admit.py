"""`edgert admit`: can a frame miss its deadline? The proof, or the pattern; margins; and what would have to change."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy is imported: stages are measured as they will run

if TYPE_CHECKING:
    from imprecise.question import Question

    from ..executive.options import Options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

CORES = {"own": (False, False), "shared": (True, False), "preempted": (True, True)}
ASSUMED_OVERHEAD_NS = 500_000
ASSUMED_FROM = "assumed: 3 times the longest decision with 16 frames in hand on a two-core machine, tests/bench/decision_time.py"

MANUAL = """Say before a run or a simulation whether a frame can miss its deadline, and how far that is from changing.

There are three answers: a certificate (no frame misses while the listed assumptions hold), a counter-example (a legal pattern of frames
with which an answer is late if every stage takes its worst case), or not proven (something is unknown, or the analysis is not exact
there). Beside it: for every resource the demand at its tightest step and the longest optional stage that may start; for every stage its
worst case C, where that comes from, and by how much it may grow; for every stream by how much its deadline may shrink. A refusal comes with
the smallest change of each kind that would be admitted; each was admitted, and the next smaller one was not.

\b
EXAMPLES
  A scenario, as `edgert simulate` would run it:
    edgert admit two-cameras
    edgert admit overload-1.5 --load 40 --replay
  A run, with the options of `edgert run`; its stages are measured here:
    edgert admit fashion --source front=dataset:fashion --rate front=30 \\
      --source rear=dataset:fashion --rate rear=15 --deadline 33ms
  The same without measuring, from the bundle's timing.json:
    edgert admit fashion --rate 30 --deadline 33ms --wcet bundle
  What if the mandatory stage took 2 ms, on one core without SCHED_FIFO?
    edgert admit fashion --wcet bundle --wcet mandatory=2ms --cores shared

OF A RUN the times of the stages, the guard, the cores and SCHED_FIFO are those that `edgert run` would find on this machine. --duration,
--record, --overwrite, --seed and --best-effort are accepted and change nothing, so that the command line of a run can be used as it is.

\b
EXIT CODES
  0  certificate
  1  counter-example
  2  something on the command line or in the scenario cannot be right
  3  not proven; or nothing could be asked, as a bundle or an accelerator
     cannot be used
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measured(text: str) -> None:
    if not text.startswith(("admitted", "best effort")):  # that is answered here, and at length
        _say(text)


@app.command(help=MANUAL)
def admit(
    what: str = typer.Argument(..., help="A scenario by name or TOML file; or a bundle by name or directory, with options of a run."),
    policy: str | None = typer.Option(None, "--policy", metavar="P", help="Matters only where it does not split the work, as monolithic."),
    load: float | None = typer.Option(None, "--load", metavar="L", help="As for `edgert simulate` or `edgert run`."),
    wcet: list[str] = typer.Option([], "--wcet", metavar="[STAGE=]TIME", help="The worst case of a stage, or of the only mandatory one. "
                                   "`--wcet bundle`: of a run, take timing.json of the bundle instead of measuring."),
    wakeup: str | None = typer.Option(None, "--wakeup", metavar="TIME", help="The assumed worst wake-up latency. Default: 1 ms of a run, "
                                      "0 of a scenario."),
    overhead: str | None = typer.Option(None, "--overhead", metavar="TIME", help="What deciding and recording add to each stage. Default: "
                                        "measured of a run (500us with --wcet bundle), the scenario's own."),
    cores: str | None = typer.Option(None, "--cores", metavar="HOW", help="own, shared or preempted: whether optional stages have other "
                                     "cores than mandatory ones, or share them, interrupted (SCHED_FIFO) or not. Default: as it is here."),
    replay: bool = typer.Option(False, "--replay", help="Replay a counter-example in the simulator, and show the miss."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text."),
    source: list[str] = typer.Option([], "--source", metavar="[NAME=]SPEC", help="Of a run: a stream."),
    rate: list[str] = typer.Option([], "--rate", metavar="[NAME=]FPS", help="Of a run: frames a second. Default: 30."),
    deadline: str | None = typer.Option(None, "--deadline", metavar="TIME", help="Of a run. Default: 33ms."),
    accelerator: str = typer.Option("auto", "--accelerator", help="Of a run: auto, pynq, litert, numpy, rtl or emulated."),
    cpus: int = typer.Option(1, "--cpus", help="Of a run: worker processes for refinement."),
    guard: str | None = typer.Option(None, "--guard", metavar="TIME", help="Of a run: an answer goes out this long before its deadline."),
    like: Path | None = typer.Option(None, "--like", metavar="RUN", help="Of a run: streams, rates, deadline, load and seed of a record."),
    seed: int = typer.Option(0, "--seed", hidden=True),
    duration: str | None = typer.Option(None, "--duration", hidden=True),
    record: Path | None = typer.Option(None, "--record", hidden=True),
    overwrite: bool = typer.Option(False, "--overwrite", hidden=True),
    best_effort: bool = typer.Option(False, "--best-effort", hidden=True),
) -> None:
    """See MANUAL."""
    from imprecise import repair
    from imprecise.admission import CERTIFICATE, COUNTER_EXAMPLE, answer
    from imprecise.counterexample import replay as replayed

    from ..errors import UsageError
    from ..executive import admit as executive
    from ..executive import options
    from ..results import admission as results

    if cores is not None and cores not in CORES:
        raise UsageError(f"--cores {cores}: there are {', '.join(CORES)}", "")
    if load is not None and not 0 < load <= 1000:
        raise UsageError(f"--load {load:g}: expected a number above 0, at most 1000", "write it like --load 1.5")
    guard_of: Callable[[int], int] | None = None
    given = None
    if _is_scenario(what):
        _only_of_a_run({"--source": source, "--rate": rate, "--deadline": deadline, "--guard": guard, "--like": like,
                        "--cpus": cpus != 1, "--accelerator": accelerator != "auto"})
        if "bundle" in wcet:
            raise UsageError("--wcet bundle is for a run; a scenario says where its times come from", "leave it out")
        kind, spec = "scenario", policy or "default"
        asked = _of_scenario(what, spec, load)
    else:
        kind = "run"
        spec = options.policy_name(policy or "default")
        if not 1 <= cpus <= 64:
            raise UsageError(f"--cpus {cpus}: expected 1 to 64", "give the number of refinement workers")
        given = options.Options(bundle=what, streams=options.streams(source, rate, load or 0.0), policy=spec, accelerator=accelerator,
                                cpus=cpus, deadline_ns=options.duration(deadline, "--deadline") if deadline else 0,
                                guard_ns=options.duration(guard, "--guard") if guard else 0, load=load or 0.0, seed=seed, best_effort=True)
        if like is not None:
            if source or rate or load or deadline:
                raise UsageError("--like takes streams, rates, deadline and load from a run", "leave those out")
            given = options.like(given, like)
        asked = _of_run(given, "bundle" in wcet)
    asked = _what_if(asked, [text for text in wcet if text != "bundle"], wakeup, overhead, cores)
    if given is not None:  # unless it was given the guard follows from the rest
        guard_of = partial(executive.guard_of, asked, given.guard_ns)
        asked = replace(asked, guard_ns=guard_of(asked.streams[0].deadline_ns))
    found = answer(asked)
    changes = repair.unblocked(asked, found) if found.answer == CERTIFICATE else repair.smallest_changes(asked, guard_of)
    late = replayed(found.counter_example) if replay and found.counter_example else None
    figures = results.figures(what, kind, spec, asked, found, changes, repair.margins(asked), late)
    if as_json:
        typer.echo(json.dumps(figures, indent=1, allow_nan=False))
    else:
        results.show(figures, lambda change: _flag(change, given))
    if found.answer != CERTIFICATE:
        raise typer.Exit(1 if found.answer == COUNTER_EXAMPLE else 3)


def _is_scenario(what: str) -> bool:
    """Whether it names a scenario (else a bundle). Raises UsageError where it names neither."""
    from imprecise import scenario

    from ..errors import UsageError

    if what in scenario.names() or what.endswith(".toml") or Path(what).is_file():
        return True
    from ..bundle import zoo_names

    if what in zoo_names() or Path(what).is_dir():
        return False
    known = f"scenarios: {', '.join(scenario.names())}; bundles: {', '.join(zoo_names())}"
    raise UsageError(f"{what!r} is no scenario and no bundle", known)


def _only_of_a_run(given: dict[str, Any]) -> None:
    from ..errors import UsageError

    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag} is for a run; a scenario has its own", "change the scenario's file, or name a bundle")


def _of_scenario(what: str, policy: str, load: float | None) -> Question:
    """The question that `edgert simulate` asks."""
    from imprecise import policies, scenario
    from imprecise.question import of_scenario

    from ..errors import UsageError
    from ..results.admission import sources
    from .simulate import workload

    bundles: dict[str, Any] = {}
    try:
        splits = policies.make(policy).splits
        world = scenario.load(what, lambda name: workload(name, bundles, {}), load)
    except ValueError as error:
        raise UsageError(str(error), "") from None
    return of_scenario(world, splits, sources(world, bundles))


def _of_run(given: Options, from_bundle: bool) -> Question:
    """The question that `edgert run` asks."""
    from ..executive import live

    if from_bundle:
        return _from_bundle(given)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        return live.prepare(given, stack, _measured).admitted.question


def _from_bundle(given: Options) -> Question:
    """The same without measuring: the times are those of the bundle's timing.json."""
    from imprecise.model import Stream

    from ..bundle import load
    from ..executive import admit as executive
    from ..executive import options, profile, realtime
    from ..results.admission import from_timing

    bundle = load(given.bundle)
    stages = bundle.stages()
    wcet_from = from_timing(bundle.timing, "mandatory")
    if given.accelerator != "auto":
        from ..accelerators import choose

        accelerator, _ = choose(given.accelerator, bundle)
        try:
            if accelerator.emulated:
                ns, wcet_from = accelerator.wcet_ns()
                stages = (replace(stages[0], wcet_ns=ns), *stages[1:])
        finally:
            accelerator.close()
    deadline_ns = given.deadline_ns or options.DEFAULT_DEADLINE_NS
    wanted = list(given.streams)
    if given.load and not all(s.period_ns for s in wanted):
        keys = ("p50_ns", "p50_ns", "p90_ns", "p99_ns", "max_ns", "n")
        times = {name: profile.Times(*(entry[key] for key in keys)) for name, entry in bundle.timing["stages"].items()}
        wanted = profile.for_load(wanted[0], given.load, given.cpus, times, deadline_ns)
    streams = [Stream(s.name, s.period_ns, deadline_ns, stages, 0, 1.0, bundle.reward) for s in wanted]
    core, worker_cores = realtime.place(given.cpus)
    with realtime.urgent(core) as preempted:
        pass
    around = executive.Surroundings(executive.WAKE_LIMIT_NS, any(core in own for own in worker_cores), preempted, wcet_from,
                                    ASSUMED_OVERHEAD_NS, ASSUMED_FROM)
    guard_ns = executive.guard(given.guard_ns, deadline_ns, stages[0].wcet_ns, ASSUMED_OVERHEAD_NS)
    asked = executive.question(streams, {"fpga": 1, "cpu": given.cpus}, given.policy, guard_ns, around)
    later = {stage.name: from_timing(bundle.timing, stage.name.rpartition("/")[2]) for stage in stages[1:]}
    return replace(asked, sources={**asked.sources, **later})


def _what_if(asked: Question, wcet: list[str], wakeup: str | None, overhead: str | None, cores: str | None) -> Question:
    """The same with what the command line assumes. Raises UsageError for a stage that is not there."""
    from imprecise import repair

    from ..errors import UsageError
    from ..executive import options

    named = {stage.name: stage for s in asked.streams for stage in s.stages}
    short = {name.rpartition("/")[2]: name for name in named}
    for text in wcet:
        name, equals, time = text.rpartition("=")
        if not equals:
            if len(asked.mandatory()) != 1:
                raise UsageError(f"--wcet {text}: there are {len(asked.mandatory())} mandatory stages", "write it as --wcet STAGE=TIME")
            name = next(iter(asked.mandatory()))
        name = name if name in named else short.get(name, "")
        if not name:
            raise UsageError(f"--wcet {text}: there is no such stage", f"there are {', '.join(named)}")
        ns = options.duration(time, "--wcet")
        asked = replace(repair.with_costs(asked, {name: ns}), sources={**asked.sources, name: "assumed: --wcet"})
    if wakeup is not None:
        asked = replace(asked, wakeup_ns=options.duration(wakeup, "--wakeup"))
    if overhead is not None:
        asked = replace(asked, overhead_ns=options.duration(overhead, "--overhead"), sources={**asked.sources, "": "assumed: --overhead"})
    if cores is not None:
        shared, preempted = CORES[cores]
        asked = replace(asked, shared=shared, preempted=preempted)
    return asked


def _flag(change: dict[str, Any], given: Options | None) -> str:
    """What to type for a change of a run."""
    if given is None:
        return ""
    if change["kind"] in ("deadline", "guard"):
        return f"--{change['kind']} {change['value'] / 1e6:.6f}".rstrip("0").rstrip(".") + "ms"
    if change["kind"] == "rate" and not given.load:
        fastest = min(s.period_ns for s in given.streams)
        rates = {s.name: f"{int(1e13 / (s.period_ns * change['value'] / fastest)) / 1e4:.4f}" for s in given.streams}  # cut, not rounded
        if len(set(rates.values())) == 1:
            return f"--rate {next(iter(rates.values()))}"
        return " ".join(f"--rate {name}={rate}" for name, rate in rates.items())
    return "edgert doctor says what to permit" if change["kind"] == "preempted" else ""

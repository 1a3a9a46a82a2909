"""`edgert run`: answer frames live, each before its deadline."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import typer

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy is imported: the dispatcher has one thread

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

MANUAL = """Answer frames live, each before its deadline, and say how it went.

Every frame gets the mandatory answer of the ternary network, in time by proof under stated assumptions; what time is left before
the deadline goes to TFLite refinement stages in worker processes, in the order that the policy chooses. The answer goes out at the
deadline less the guard, with what is done by then.

\b
EXAMPLES
  Two cameras (here: labelled pictures, so that accuracy is measured):
    edgert run fashion --source front=dataset:fashion --rate front=30 \\
      --source rear=dataset:fashion --rate rear=15 --deadline 33ms \\
      --duration 20s --record runs/two.db
  As many streams as take 1.5 times the CPU given to refine everything:
    edgert run fashion --load 1.5 --duration 20s --record runs/a.db \\
      --policy threshold:theta=0.9
  The streams, rates, deadline and seed of that run, for a fair comparison:
    edgert run fashion --like runs/a.db --duration 20s --record runs/b.db \\
      --policy fifo-gated
    edgert compare runs/a.db runs/b.db
  A video, until Ctrl-C:
    edgert run fashion --source video:street.mp4 --rate 25 --deadline 40ms

POLICIES. `edgert policies` lists them with their rules and parameters; --policy threshold:theta=0.8 sets one, --policy ./mine.py is
one of your own. `default` is the one that won on validation scenarios; `monolithic` (all stages or no answer, as most systems do today)
guarantees nothing and runs as best effort.

ADMISSION. Before the start the mandatory parts are proven in time from their worst cases. What is not proven is refused (exit
code 3) with the reason and the least deadline that would be admitted; --best-effort runs all the same and says so. Each assumption
of the proof is watched, and its violations are counted in the summary.

STOPPING. --duration ends the run; so do SIGINT (Ctrl-C), SIGTERM and SIGHUP: the frames in hand are finished, the record is closed, the
summary is printed. After `kill -9` the record is readable up to the last finished frame, and no process stays behind.

REAL TIME. Where the machine permits it the dispatcher takes SCHED_FIFO, a core of its own and locked memory, and the workers nice
-15; what is refused is printed with the limit to raise, and the run goes on.

\b
EXIT CODES
  0    it ended as asked: after --duration or, without one, when stopped
  2    something on the command line cannot be right
  3    it could not run, or was not admitted
  4    it ran, but its figures do not count (INVALID: an emulated
       accelerator was late in more than 0.1 % of the frames)
  130  SIGINT, 143 SIGTERM, 129 SIGHUP: stopped before --duration was over;
       the record is complete up to there
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command(help=MANUAL)
def run(
    bundle: str = typer.Argument(..., help="A bundle of the zoo by name (fashion), or the directory of one."),
    source: list[str] = typer.Option([], "--source", metavar="[NAME=]SPEC", help="A stream and where its frames come from: "
                                     "dataset:NAME or video:FILE. Repeat it for more streams. Default: the bundle's own pictures."),
    rate: list[str] = typer.Option([], "--rate", metavar="[NAME=]FPS", help="Frames a second, of one stream or of all. Default: 30."),
    deadline: str | None = typer.Option(None, "--deadline", metavar="TIME", help="From capture to answer, with a unit. Default: 33ms."),
    policy: str | None = typer.Option(None, "--policy", metavar="P", help="Which optional stages run first; see POLICIES."),
    accelerator: str = typer.Option("auto", "--accelerator", help="Engine of the mandatory network: auto, pynq, litert, numpy, rtl or "
                                    "emulated. auto takes the best that passes its self-test, and says which and why."),
    cpus: int = typer.Option(1, "--cpus", help="Worker processes for refinement, each on a core of its own where there are enough."),
    duration: str | None = typer.Option(None, "--duration", metavar="TIME", help="How long frames come. Default: until stopped."),
    record: Path | None = typer.Option(None, "--record", metavar="FILE", help="Keep the run record: every frame, stage and decision."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a run record that is there."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON (keys: docs/json.md)."),
    load: float = typer.Option(0.0, "--load", metavar="L", help="Measure the stages, then make as many streams of at most 60 frames/s as "
                               "need L times the CPU given to refine everything. Takes one --source and no --rate."),
    like: Path | None = typer.Option(None, "--like", metavar="RUN", help="Streams, rates, deadline, load and seed of an earlier run."),
    seed: int = typer.Option(0, "--seed", help="Which pictures are drawn, and the phases of the streams."),
    guard: str | None = typer.Option(None, "--guard", metavar="TIME", help="An answer goes out this long before its deadline. Default: "
                                        "an eighth of it, and at least 1 ms (a late wake-up) and the worst case of the mandatory stage."),
    best_effort: bool = typer.Option(False, "--best-effort", help="Run without a proof that the mandatory parts are in time."),
) -> None:
    """See MANUAL."""
    from ..errors import EdgertError, UsageError
    from ..executive import options

    if cpus < 1 or cpus > 64:
        raise UsageError(f"--cpus {cpus}: expected 1 to 64", "give the number of refinement workers")
    if not 0 <= load <= 1000:
        raise UsageError(f"--load {load}: expected a number above 0", "write it like --load 1.5")
    given = options.Options(
        bundle=bundle, streams=options.streams(source, rate, load), policy=policy or "default", accelerator=accelerator, cpus=cpus,
        deadline_ns=options.duration(deadline, "--deadline") if deadline else 0,
        duration_ns=options.duration(duration, "--duration") if duration else 0,
        guard_ns=options.duration(guard, "--guard") if guard else 0, load=load, seed=seed, best_effort=best_effort, record=record,
        overwrite=overwrite, argv=tuple(sys.argv[1:]))
    if like is not None:
        if source or rate or load or deadline:
            raise UsageError("--like takes streams, rates, deadline and load from a run", "leave those out")
        given = options.like(given, like)

    from ..executive import live
    from ..results import summary
    from ..results.record import Run

    outcome = live.run(given, _say)
    try:
        with Run(outcome.record) as stored:
            figures = summary.summarise(stored)
        if not outcome.kept:
            figures["run"] = None
        print(json.dumps(figures, indent=1) if as_json else summary.render(figures))
        sys.stdout.flush()
    except EdgertError:
        if not outcome.records_lost:
            raise
        _say("there is no summary: too much of the record was lost")
    finally:
        outcome.clean()
    if outcome.records_lost:
        lost, counts = (", ".join(f"{n} {name}" for name, n in d.items()) for d in (outcome.records_lost, outcome.counts))
        _say(f"the record is incomplete, it could not be written: lost {lost}; the run itself went on: {counts}")
    if outcome.policy_fault:
        _say(f"the policy was switched off during the run: {outcome.policy_fault}")
    if outcome.stopped_by and given.duration_ns:
        raise typer.Exit(128 + outcome.stopped_by)
    if outcome.invalid:
        _say(f"INVALID: {outcome.invalid}")
        raise typer.Exit(4)

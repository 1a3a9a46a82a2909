"""Admission before a run: the proof that the mandatory parts are in time, or why there is none."""

from __future__ import annotations

import gc
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imprecise import policies, repair, watchdog
from imprecise.admission import Assumption, RunAdmission, answer, is_admitted
from imprecise.engine import Engine
from imprecise.model import Event, Stream
from imprecise.question import Question
from imprecise.units import format_ns

from ..bundle.loading import MARGIN
from ..errors import AdmissionRefused

if TYPE_CHECKING:
    from ..results.record import Recorder

BEST_EFFORT = "best effort"
WAKE_LIMIT_NS = 1_000_000  # the dispatcher wakes no later than this: an assumption, watched
GUARD_PART = 8  # the guard, unless given, is this part of the deadline or more: a shorter stall makes no miss
STEPS, FRAMES, ROUNDS, ODD = 200, 16, 3, 10  # engine steps measured, with so many frames in hand; again while the longest is odd


@dataclass(frozen=True)
class Surroundings:
    """What the machine gives: `wakeup_ns` is the assumed worst wake-up latency of the dispatcher, `shared` says that refinement workers
    use its core, `preempted` that the operating system interrupts them for it; `wcet_from` is where the worst case comes from.
    `overhead_ns` is what deciding and recording add to each stage, `overhead_from` where that comes from."""

    wakeup_ns: int
    shared: bool
    preempted: bool
    wcet_from: str
    overhead_ns: int = 0
    overhead_from: str = "assumed"


@dataclass(frozen=True)
class Admitted:
    """`answer` is "certificate" or "best effort"; `sentence` says it to people. `standby` is the answer for the stand-by accelerator.
    `question` is what was asked."""

    answer: str
    sentence: str
    found: RunAdmission
    assumptions: tuple[Assumption, ...]
    question: Question
    standby: str = ""

    @property
    def engine_options(self) -> dict[str, Any]:
        """What the engine must be told for the certificate to hold."""
        return self.found.engine_options()

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        own = {"answer": self.answer, "sentence": self.sentence, "analysis": self.found.answer, "standby": self.standby}
        return {**self.found.to_dict(), **own}


def guard(asked_ns: int, deadline_ns: int, wcet_ns: int, overhead_ns: int, wakeup_ns: int = WAKE_LIMIT_NS) -> int:
    """The guard of a run, ns: as asked for, or (0) so long that neither a late timer nor a stage in line makes a miss."""
    return asked_ns or max(wakeup_ns + overhead_ns + wcet_ns, deadline_ns // GUARD_PART)


def question(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, around: Surroundings) -> Question:
    """What a live run asks of admission: the mandatory network runs in the dispatcher itself."""
    optional = {stage.name: f"longest measured on this machine, times {MARGIN:g}" for s in streams for stage in s.stages[1:]}
    sources = {**optional, "": around.overhead_from, **{s.stages[0].name: around.wcet_from for s in streams}}
    return Question(tuple(streams), dict(resources), guard_ns, around.wakeup_ns, around.shared, around.preempted, ("fpga",),
                    around.overhead_ns, sources, policies.make(policy).splits)


def admit(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, around: Surroundings,
          best_effort: bool, standby_wcet_ns: int = 0, asked_guard_ns: int = 0, argv: Sequence[str] = ()) -> Admitted:
    """Admit the streams, or raise AdmissionRefused with the reason, the least deadline that would be admitted, and what to type for the
    details (`argv`: the command line of the run).

    A policy that guarantees nothing runs as best effort, and so does everything with `best_effort`. `asked_guard_ns`: the guard that was
    asked for; 0: it follows from the deadline.
    """
    asked = question(streams, resources, policy, guard_ns, around)
    found = answer(asked)
    if found.admitted:
        standby = answer(replace(asked, streams=tuple(_with_wcet(s, standby_wcet_ns) for s in streams))).answer if standby_wcet_ns else ""
        return Admitted("certificate", f"admitted: {found.text}", found, found.assumptions, asked, standby)
    if asked.splits and not best_effort:
        raise AdmissionRefused(f"not admitted ({found.answer}): {found.text}",
                               f"{_deadline_hint(asked, asked_guard_ns)}--best-effort runs without a guarantee{_details(argv)}")
    why = "asked for" if asked.splits else f"policy {policy!r} guarantees nothing"
    return Admitted(BEST_EFFORT, f"best effort ({why}); not admitted: {found.text}", RunAdmission(found.answer, found.text),
                    _assumed(streams, around), asked)


def guard_of(asked: Question, asked_guard_ns: int, deadline_ns: int) -> int:
    """The guard that a run would have with another deadline."""
    worst_ns = max(stage.wcet_ns for stage in asked.mandatory().values() if stage.resource in asked.inline)
    return guard(asked_guard_ns, deadline_ns, worst_ns, asked.overhead_ns, asked.wakeup_ns)


def _deadline_hint(asked: Question, asked_guard_ns: int) -> str:
    """`--deadline 35ms is admitted, or `: the least, rounded up to a tenth of a millisecond and asked again."""
    least = repair.least_deadline(asked, lambda ns: guard_of(asked, asked_guard_ns, ns))
    if least is None:
        return ""
    tenths = -(-least.value // 100_000)
    rounded = repair.with_deadline(asked, tenths * 100_000, lambda ns: guard_of(asked, asked_guard_ns, ns))
    return f"--deadline {tenths / 10:g}ms is admitted, or " if is_admitted(rounded) else ""


def _details(argv: Sequence[str]) -> str:
    return f"; for margins and other changes: edgert admit {shlex.join(argv[1:])}" if argv else ""


def _with_wcet(stream: Stream, wcet_ns: int) -> Stream:
    return replace(stream, stages=(replace(stream.stages[0], wcet_ns=wcet_ns), *stream.stages[1:]))


def _assumed(streams: Sequence[Stream], around: Surroundings) -> tuple[Assumption, ...]:
    """What is watched where nothing was proven: what a proof would have rested on."""
    first = streams[0].stages[0]
    found = [("stage", first.name, f"stage {first.name!r} takes at most {format_ns(first.wcet_ns)} ({around.wcet_from})", first.wcet_ns),
             ("overhead", "", f"deciding and recording take at most {format_ns(around.overhead_ns)} a stage ({around.overhead_from})",
              around.overhead_ns),
             ("wake-up", "", f"the dispatcher handles an event or a timer at most {format_ns(around.wakeup_ns)} late", around.wakeup_ns),
             ("fault", "", "no mandatory stage fails", 0)]
    return tuple(Assumption(f"A{n}", *entry) for n, entry in enumerate(found, 1))


# The engine's own time ------------------------------------------------------------------------------------------------


def overhead(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, recorder: Recorder) -> tuple[int, str]:
    """What deciding and recording add to each stage on this machine, in ns, and where that comes from.

    An engine like the run's decides in virtual time with up to 16 frames in hand; each step is timed together with the records of a
    step, a stage and a frame. As for stages, processor time counts, with a margin; where the machine was odd, the least of three tries.
    """
    tries: list[list[int]] = []
    gc.disable()
    try:
        while not tries or (len(tries) < ROUNDS and tries[-1][-1] > ODD * tries[-1][len(tries[-1]) // 2]):
            tries.append(sorted(_steps(streams, resources, policy, guard_ns, recorder)))
    finally:
        gc.enable()
    return int(min(took[-1] for took in tries) * MARGIN), f"longest processor time of {len(tries[0])} decisions measured, times {MARGIN:g}"


def _steps(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, recorder: Recorder) -> list[int]:
    """Times of at least STEPS engine steps in ns, the first few left out: they warm up."""
    from ..results.record import FrameRow, StageRow

    engine = Engine(streams, resources, watchdog.guard(policies.make(policy), watchdog.live_limit_ns(guard_ns)), guard_ns)
    took: list[int] = []
    now_ns, fault = 0, ""
    for number in range(STEPS):
        events = [Event("release", now_ns, stream=i, frame=number) for i in range(min(len(streams), FRAMES))]
        running: list[Event] = []
        while events or running:
            if not events:
                running.sort(key=lambda event: event.at_ns)
                events = [running.pop(0)]
                now_ns = max(now_ns, events[0].at_ns)
            begin_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
            actions = engine.step(now_ns, events)
            recorder.step(len(took), now_ns, events, actions)
            recorder.stage(StageRow(0, "stage", "fpga", 0, now_ns, now_ns, "done", 0.5))
            recorder.frame(FrameRow("stream", number, 0, 0, now_ns, now_ns, now_ns, now_ns, now_ns, 0, "answered", 0, 0, 0.5, 0.5, 1))
            if not engine.policy_fault or fault:  # a policy that was stopped took what a stopped one takes, once
                took.append(min(time.process_time_ns() - used_ns, time.monotonic_ns() - begin_ns))
            fault = engine.policy_fault
            events = []
            for action in actions:
                if action.kind == "start":
                    ends_ns = now_ns + engine.estimate_ns(engine.jobs[action.job].next_stage)
                    running.append(Event("done", ends_ns, job=action.job, stage=action.stage, resource=action.resource, unit=action.unit,
                                         value=0.5))
        now_ns += max(s.deadline_ns for s in streams)
        engine.step(now_ns)
        if len(took) > STEPS:
            break
    return took[STEPS // 10:]

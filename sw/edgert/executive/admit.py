"""Admission before a run: the proof that the mandatory parts are in time, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imprecise import policies
from imprecise.admission import Assumption, RunAdmission, admit_run
from imprecise.model import Stream
from imprecise.units import format_ns

from ..errors import AdmissionRefused

BEST_EFFORT = "best effort"


@dataclass(frozen=True)
class Surroundings:
    """What the machine gives: `wakeup_ns` is the assumed worst wake-up latency of the dispatcher, `shared` says that refinement workers
    use its core, `preempted` that the operating system interrupts them for it; `wcet_from` is where the worst case comes from."""

    wakeup_ns: int
    shared: bool
    preempted: bool
    wcet_from: str


@dataclass(frozen=True)
class Admitted:
    """`answer` is "certificate" or "best effort"; `sentence` says it to people. `standby` is the answer for the stand-by accelerator."""

    answer: str
    sentence: str
    found: RunAdmission
    assumptions: tuple[Assumption, ...]
    standby: str = ""

    @property
    def engine_options(self) -> dict[str, Any]:
        """What the engine must be told for the certificate to hold."""
        return self.found.engine_options()

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        own = {"answer": self.answer, "sentence": self.sentence, "analysis": self.found.answer, "standby": self.standby}
        return {**self.found.to_dict(), **own}


def admit(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, around: Surroundings,
          best_effort: bool, standby_wcet_ns: int = 0) -> Admitted:
    """Admit the streams, or raise AdmissionRefused with the reason and the least deadline that would be admitted.

    A policy that guarantees nothing runs as best effort, and so does everything with `best_effort`.
    """
    splits = policies.make(policy).splits

    def ask(asked: Sequence[Stream]) -> RunAdmission:
        sources = {s.stages[0].name: around.wcet_from for s in asked}
        return admit_run(asked, resources, guard_ns, around.wakeup_ns, around.shared, around.preempted, inline=("fpga",),
                         sources=sources, splits=splits)

    found = ask(streams)
    if found.admitted:
        standby = ask([_with_wcet(s, standby_wcet_ns) for s in streams]).answer if standby_wcet_ns else ""
        return Admitted("certificate", f"admitted: {found.text}", found, found.assumptions, standby)
    if splits and not best_effort:
        least = found.least_deadline_ns
        raise AdmissionRefused(f"not admitted ({found.answer}): {found.text}",
                               f"{_deadline_hint(least)}--best-effort runs without a guarantee")
    why = "asked for" if splits else f"policy {policy!r} guarantees nothing"
    return Admitted(BEST_EFFORT, f"best effort ({why}); not admitted: {found.text}", RunAdmission(found.answer, found.text),
                    _assumed(streams, around))


def _deadline_hint(least_ns: int | None) -> str:
    """`--deadline 35ms is admitted, or `, rounded up to a tenth of a millisecond."""
    return f"--deadline {-(-least_ns // 100_000) / 10:g}ms is admitted, or " if least_ns else ""


def _with_wcet(stream: Stream, wcet_ns: int) -> Stream:
    return replace(stream, stages=(replace(stream.stages[0], wcet_ns=wcet_ns), *stream.stages[1:]))


def _assumed(streams: Sequence[Stream], around: Surroundings) -> tuple[Assumption, ...]:
    """What is watched where nothing was proven: what a proof would have rested on."""
    first = streams[0].stages[0]
    found = [("stage", first.name, f"stage {first.name!r} takes at most {format_ns(first.wcet_ns)} ({around.wcet_from})", first.wcet_ns),
             ("wake-up", "", f"the dispatcher handles an event or a timer at most {format_ns(around.wakeup_ns)} late", around.wakeup_ns),
             ("fault", "", "no mandatory stage fails", 0)]
    return tuple(Assumption(f"A{n}", *entry) for n, entry in enumerate(found, 1))

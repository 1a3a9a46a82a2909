"""Optional stages that wait: which of them may start now, and which of those the policy wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .model import NEVER_NS, Job, Stage

if TYPE_CHECKING:
    from .engine import Engine

READY, NO_ROOM, TOO_LONG, TOO_LATE = 0, 1, 2, 3


class Refinement:
    """Jobs that have an answer and wait for a resource to make it better.

    The slack test: an optional stage starts only if a quantile of its duration still ends before the job's publication, and is no
    longer than what admission allows in the way of mandatory work (`blocking_ns`); none starts while a resource that theirs `yields`
    to has mandatory work.
    """

    def __init__(self, engine: Engine, names: Iterable[str], blocking_ns: Mapping[str, int], yields: Mapping[str, Sequence[str]]):
        self._engine = engine
        self._waiting: dict[str, dict[int, Job]] = {name: {} for name in names}
        self._limit_ns = {name: blocking_ns.get(name, NEVER_NS) for name in self._waiting}
        self._yields = {name: tuple(yields.get(name, ())) for name in self._waiting}

    def add(self, job: Job) -> None:
        """Wait."""
        self._waiting[job.next_stage.resource][job.id] = job

    def remove(self, job: Job) -> None:
        """Wait no more; a job that does not wait is ignored."""
        self._waiting[job.next_stage.resource].pop(job.id, None)

    def pick(self, resource: str) -> Job | None:
        """The job whose optional stage, `job.next`, starts now on a free unit. Those for which it is too late are published."""
        waiting, engine = self._waiting[resource], self._engine
        if not waiting or engine.guest.fault or any(map(engine.mandatory.busy, self._yields[resource])):
            return None
        ready, final = [], []
        for job in waiting.values():
            fit = self._fit(job, job.next_stage)
            if len(job.options) > 1 and not job.spent_ns and (fit != READY or job.stream.kind == "version"):
                fit = self._another(job)
            if fit == READY:
                ready.append(job)
            elif fit == TOO_LATE:
                final.append(job)
        for job in final:  # what no longer fits will not fit later: why wait
            self.doubt(job, (job.next_stage,))
            engine.close(job)
        found = engine.guest.pick(ready, engine) if ready else None
        if found is None:
            return None
        job, index = found
        if index != job.next and not job.spent_ns and self._fit(job, job.stream.stages[index]) == READY:  # else what may start now
            job.choose(index)
        del waiting[job.id]
        return job

    def _fit(self, job: Job, stage: Stage) -> int:
        """Whether an optional stage of a job may start now: READY; its units are busy; longer than admission allows; TOO_LATE."""
        engine = self._engine
        need_ns = engine.need_ns(job, stage) if job.spent_ns else engine.estimates[stage.name].value_ns
        if engine.now_ns + need_ns > job.publish_ns:
            return TOO_LATE
        if max(need_ns, stage.wcet_ns) > self._limit_ns[stage.resource]:
            return TOO_LONG
        return READY if not stage.units or engine.resources.has_room(stage) else NO_ROOM

    def _another(self, job: Job) -> int:
        """Of a sieve's steps the next that fits, of versions the one with most gain, becomes the job's next stage."""
        fits = [(self._fit(job, job.stream.stages[index]), index) for index in job.options]
        ready = [index for found, index in fits if found == READY]
        if not ready:
            return NO_ROOM if any(found == NO_ROOM for found, _ in fits) else max(found for found, _ in fits)  # a unit may get free
        gains = {stages: gain for (stages, _), gain in zip(job.ways(), job.gains())}
        job.choose(ready[0] if job.stream.kind == "sieve" else max(ready, key=lambda index: (gains[index,], -index)))
        return READY

    def doubt(self, job: Job, stages: Sequence[Stage]) -> None:
        """Stages did not start for lack of time. Where their medians would have fitted, their estimates must not keep them out for
        good (only what runs is measured): each refusal takes one long duration out of the window.
        """
        if self._engine.now_ns + sum(self._engine.estimates[stage.name].median_ns for stage in stages) <= job.publish_ns:
            for stage in stages:
                self._engine.estimates[stage.name].doubt()

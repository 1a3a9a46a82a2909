"""How far a waiting job may still go: what policies that look ahead share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class Step(NamedTuple):
    """A way to go on: what it takes in ns (estimated), what it is expected to gain, and its stages in turn."""

    time_ns: int
    gain: float
    stages: tuple[int, ...]


def steps(job: Job, engine: Engine, gains: Sequence[float] | None = None) -> list[Step]:
    """The ways to go on that end by the job's publication, as `job.ways()` has them; O(depths).

    `gains` stand in for `job.gains()`. A stage that was interrupted is gone on with.
    """
    room_ns, all_stages, out = job.publish_ns - engine.now_ns, job.stream.stages, []
    for (stages, _), gain in zip(job.ways(), job.gains() if gains is None else gains):
        time_ns = sum([engine.estimate_ns(all_stages[i]) for i in stages])
        if job.spent_ns:
            if stages[0] != job.next:
                continue
            time_ns = max(0, time_ns - job.spent_ns)
        if time_ns <= room_ns:
            out.append(Step(time_ns, gain, stages))
    return out


def start(job: Job, index: int) -> Choice:
    """The choice that starts stage `index` of a job."""
    return job if index == job.next else (job, index)

"""How far a waiting job may still go: what policies that look ahead share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


Step = tuple[int, float, int, int, int]
"""A way to go on: what it takes in ns (estimated), what it is expected to gain, its first stage, how many stages, its place in
`job.ways()`."""


def steps(job: Job, engine: Engine, gains: Sequence[float] | None = None) -> list[Step]:
    """The ways to go on that end by the job's publication; O(depths).

    `gains` stand in for `job.gains()`. A stage that was interrupted is gone on with.
    """
    gains, room_ns, all_stages, out = job.gains() if gains is None else gains, job.publish_ns - engine.now_ns, job.stream.stages, []
    if job.stream.kind == "milestone" and not job.spent_ns:
        time_ns, first = 0, job.next
        for way, gain in enumerate(gains):
            time_ns += engine.estimate_ns(all_stages[first + way])
            if time_ns > room_ns:
                break
            out.append((time_ns, gain, first, way + 1, way))
        return out
    for way, ((stages, _), gain) in enumerate(zip(job.ways(), gains)):
        time_ns = sum([engine.estimate_ns(all_stages[i]) for i in stages])
        if job.spent_ns:
            if stages[0] != job.next:
                continue
            time_ns = max(0, time_ns - job.spent_ns)
        if time_ns <= room_ns:
            out.append((time_ns, gain, stages[0], len(stages), way))
    return out


def start(job: Job, index: int) -> Choice:
    """The choice that starts stage `index` of a job."""
    return job if index == job.next else (job, index)

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


def risky(job: Job, engine: Engine) -> list[tuple[float, float, int]]:
    """(expected time in ns, above 0; expected gain, above 0; first stage) of each way to go on, weighed by the chance that it ends in time.

    After a stage that is too late none follows. What the stages before one take counts with its mean; O(depths log window).
    """
    gains, room_ns, stages, estimates, out = job.gains(), job.publish_ns - engine.now_ns, job.stream.stages, engine.estimates, []
    if job.stream.kind == "milestone" and not job.spent_ns:
        before_ns, cost_ns, value, chance, last, index = 0.0, 0.0, 0.0, 1.0, 0.0, job.next
        for gain in gains:
            estimate = estimates[stages[index].name]
            index += 1
            cost_ns += chance * estimate.mean_ns
            chance *= estimate.chance(room_ns - before_ns)
            if not chance:
                break
            value += chance * (gain - last)
            if value > 0:
                out.append((cost_ns or 1.0, value, job.next))
            before_ns += estimate.mean_ns
            last = gain
        return out
    for (ahead, _), gain in zip(job.ways(), gains):
        if gain <= 0 or (job.spent_ns and ahead[0] != job.next):
            continue
        before_ns, chance = float(-job.spent_ns), 1.0
        for i in ahead:
            chance *= estimates[stages[i].name].chance(room_ns - before_ns)
            before_ns += estimates[stages[i].name].mean_ns
        if chance > 0:
            out.append((max(1.0, before_ns), chance * gain, ahead[0]))
    return out


def densest_left(job: Job, engine: Engine) -> float:
    """The largest expected gain per ns, by mean times, among the ways to go on; 0 where none gains, in time or not."""
    left, gains = 0.0, job.gains()
    if gains and max(gains) > 0:
        estimates, stages = engine.estimates, job.stream.stages
        for (ahead, _), gain in zip(job.ways(), gains):
            if gain > 0:
                left = max(left, gain / (sum([estimates[stages[i].name].mean_ns for i in ahead]) or 1.0))
    return left


def start(job: Job, index: int) -> Choice:
    """The choice that starts stage `index` of a job."""
    return job if index == job.next else (job, index)

"""What is expected to come: how long stages take, what is left of a job, when units get free. Policies ask the engine this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .durations import SlidingQuantile
from .model import Job, Stage, Stream
from .resources import Resources


class Outlook:
    """The part of the engine that policies may ask. Estimates are the `quantile` of the latest durations of a stage, by its name."""

    def __init__(self, streams: Sequence[Stream], resources: Mapping[str, int], quantile: float):
        self.streams = list(streams)
        self.units = dict(resources)
        self.now_ns = 0
        self.resources = Resources(resources)
        self.estimates: dict[str, SlidingQuantile] = {}
        for stream in self.streams:
            for stage in stream.stages:
                self.estimates.setdefault(stage.name, SlidingQuantile(stage.typical_ns, quantile))

    def estimate_ns(self, stage: Stage) -> int:
        """The quantile of this stage's duration that the slack test takes, from the latest ones seen."""
        return self.estimates[stage.name].value_ns

    def need_ns(self, job: Job, stage: Stage) -> int:
        """What is expected to be left of a job's stage, in ns."""
        return max(0, self.estimates[stage.name].value_ns - job.spent_ns) if job.spent_ns else self.estimates[stage.name].value_ns

    def left_ns(self, job: Job) -> int:
        """What is expected to be left until a job has an answer, in ns."""
        total_ns = -job.spent_ns
        for index in job.required[job.done:]:
            total_ns += self.estimates[job.stream.stages[index].name].value_ns
        return max(0, total_ns)

    def free_in_ns(self, resource: str) -> list[int]:
        """For each working unit of a resource, how long it is still busy (estimated; 0: free), shortest first."""
        waits = [0] * len(self.resources.free[resource])
        for (name, _), (job, start_ns) in self.resources.running.items():
            if name == resource:
                waits.append(max(0, start_ns + self.need_ns(job, job.next_stage) - self.now_ns))
        return sorted(waits)

"""Which unit of which resource is free, lost, or runs what."""

from __future__ import annotations

from collections.abc import Mapping

from .model import Event, Job

Unit = tuple[str, int]


class Resources:
    """The units of each resource: `{"fpga": 1, "cpu": 2}` has the units ("fpga", 0), ("cpu", 0) and ("cpu", 1)."""

    def __init__(self, units: Mapping[str, int]):
        self.free: dict[str, list[int]] = {name: list(range(n)) for name, n in units.items()}
        self.running: dict[Unit, tuple[Job, int]] = {}  # unit -> (job, start in ns)
        self.lost: set[Unit] = set()

    def take(self, resource: str, job: Job, now_ns: int) -> int:
        """Start a job's next stage on the unit that has been free for longest, and return its number."""
        unit = self.free[resource].pop(0)
        self.running[resource, unit] = (job, now_ns)
        job.running = True
        return unit

    def runs(self, event: Event) -> bool:
        """Whether the stage that an event names runs on the unit that it names: a worker that was given up may still answer."""
        job = self.running.get((event.resource, event.unit), (None,))[0]
        return job is not None and job.id == event.job and job.done == event.stage

    def take_back(self, event: Event) -> tuple[Job, int]:
        """Free the unit that an event names, unless it is lost; the job that ran there and when it started, in ns."""
        unit = (event.resource, event.unit)
        job, start_ns = self.running.pop(unit)
        job.running = False
        if unit not in self.lost:
            self.free[event.resource].append(event.unit)
        return job, start_ns

    def lose(self, event: Event) -> bool:
        """Take a unit out of use; True where a stage runs on it, whose job is still to be taken back."""
        unit = (event.resource, event.unit)
        self.lost.add(unit)
        if unit in self.running:
            return True
        if event.unit in self.free[event.resource]:
            self.free[event.resource].remove(event.unit)
        return False

    def restore(self, event: Event) -> None:
        """Take a lost unit into use again."""
        unit = (event.resource, event.unit)
        if unit in self.lost:
            self.lost.remove(unit)
            self.free[event.resource].append(event.unit)

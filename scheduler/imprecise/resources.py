"""Which unit of which resource is free, lost, or runs what; and the mandatory stages that wait for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush

from .model import NEVER_NS, Event, Job, Stage, Stream

Unit = tuple[str, int]
Entry = tuple[int, int, int, Job]
"""A mandatory stage that waits: (due or rank, release, job id, job); the least goes first."""


def check(streams: Sequence[Stream], units: Mapping[str, int], guard_ns: int) -> None:
    """Raises ValueError for a stage on a resource or unit that does not exist, and a guard that leaves nothing of a deadline."""
    for stream in streams:
        if guard_ns >= stream.deadline_ns:
            raise ValueError(f"stream {stream.name!r}: the guard ({guard_ns} ns) leaves nothing of its deadline")
        for stage in stream.stages:
            if stage.resource not in units:
                raise ValueError(f"stage {stage.name!r} needs resource {stage.resource!r}; there is {sorted(units)}")
            if stage.units and not 0 <= min(stage.units) <= max(stage.units) < units[stage.resource]:
                raise ValueError(f"stage {stage.name!r} needs units {stage.units} of {stage.resource!r}; it has {units[stage.resource]}")


class Resources:
    """The units of each resource: `{"fpga": 1, "cpu": 2}` has the units ("fpga", 0), ("cpu", 0) and ("cpu", 1)."""

    def __init__(self, units: Mapping[str, int]):
        self.free: dict[str, list[int]] = {name: list(range(n)) for name, n in units.items()}
        self.running: dict[Unit, tuple[Job, int]] = {}  # unit -> (job, start in ns)
        self.lost: set[Unit] = set()

    def take(self, stage: Stage, job: Job, now_ns: int) -> int:
        """Start a stage of a job on the eligible unit that has been free for longest, and return its number."""
        free = self.free[stage.resource]
        unit = free.pop(0) if not stage.units else free.pop(next(i for i, u in enumerate(free) if u in stage.units))
        self.running[stage.resource, unit] = (job, now_ns)
        job.running = True
        return unit

    def has_room(self, stage: Stage) -> bool:
        """Whether a unit that may run this stage is free."""
        free = self.free[stage.resource]
        return bool(free) if not stage.units else any(unit in stage.units for unit in free)

    def runs(self, event: Event) -> bool:
        """Whether the stage that an event names runs on the unit that it names: a worker that was given up may still answer."""
        job = self.running.get((event.resource, event.unit), (None,))[0]
        return job is not None and job.id == event.job and job.next == event.stage

    def take_back(self, resource: str, unit: int) -> tuple[Job, int]:
        """Free a unit, unless it is lost; the job that ran there and when it started, in ns."""
        job, start_ns = self.running.pop((resource, unit))
        job.running = False
        if (resource, unit) not in self.lost:
            self.free[resource].append(unit)
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


class Waiting:
    """Mandatory stages that wait for a resource, least entry first. A closed job's entry is dropped when it is met."""

    def __init__(self, resources: Resources, names: Mapping[str, int]):
        self._resources = resources
        self._queues: dict[str, list[Entry]] = {name: [] for name in names}

    def add(self, resource: str, entry: Entry) -> None:
        """Wait."""
        heappush(self._queues[resource], entry)

    def busy(self, resource: str) -> bool:
        """Whether mandatory work waits or runs there."""
        self.tidy(resource)
        running = self._resources.running.items()
        return bool(self._queues[resource]) or any(name == resource and job.done < job.needed for (name, _), (job, _) in running)

    def pop(self, resource: str) -> Entry | None:
        """The least entry whose stage has a free unit, or None."""
        queue, skipped, found = self._queues[resource], [], None
        while queue:
            entry = heappop(queue)
            if entry[3].closed:
                continue
            if self._resources.has_room(entry[3].next_stage):
                found = entry
                break
            skipped.append(entry)
        for other in skipped:
            heappush(queue, other)
        return found

    def victim(self, resource: str, place: Callable[[Job], Entry]) -> int | None:
        """The unit whose work comes last, where a stage that may run there waits and comes before it; None: there is none.

        `place` is a running job's place in the queue; optional work comes after all.
        """
        running = [(place(job)[:3] if job.done < job.needed else (NEVER_NS,), unit)
                   for (name, unit), (job, _) in self._resources.running.items() if name == resource]
        for entry in sorted(entry for entry in self._queues[resource] if not entry[3].closed):
            eligible = entry[3].next_stage.units
            behind = [other for other in running if other[0] > entry[:3] and (not eligible or other[1] in eligible)]
            if behind:
                return max(behind)[1]
        return None

    def tidy(self, resource: str) -> None:
        """Drop closed jobs from the front, else they pile up while the resource is lost."""
        queue = self._queues[resource]
        while queue and queue[0][3].closed:
            heappop(queue)

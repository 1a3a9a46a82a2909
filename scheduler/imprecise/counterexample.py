"""A counter-example as a scenario: the simulator replays it to the miss that it claims.

Each task of the counter-example becomes a stream of one mandatory stage that takes all of its cost each time; frames come as the pattern
says. What admission added to a stage (how late its end is seen) is in its cost, and a task's deadline is the stream's less the guard,
so a miss here is an answer that is not ready when it has to go out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .admission import CounterExample
from .draws import Constant, Ints, Releases
from .model import Stage, Stream
from .scenario import Scenario, Source, Workload
from .simulation import MISSED, Log
from .simulator import simulate


@dataclass(frozen=True)
class Pattern:
    """Frames captured and seen at the listed times, both rising."""

    captured_ns: tuple[int, ...]
    seen_ns: tuple[int, ...]

    @property
    def period_ns(self) -> int:
        """The mean distance of two captures."""
        return max(1, (self.captured_ns[-1] - self.captured_ns[0]) // max(1, len(self.captured_ns) - 1))

    def start(self, seed: int, stream: str) -> PatternCursor:
        """A cursor at frame 0."""
        return PatternCursor(self)


class PatternCursor:
    """A position in a pattern."""

    def __init__(self, pattern: Pattern):
        self.captured, self.seen = np.asarray(pattern.captured_ns, dtype=np.int64), np.asarray(pattern.seen_ns, dtype=np.int64)

    def take(self, count: int) -> tuple[Ints, Ints]:
        """The next `count` frames, fewer at the end: capture times and the times they are seen, int64 `[n]` each."""
        out = self.captured[:count], self.seen[:count]
        self.captured, self.seen = self.captured[count:], self.seen[count:]
        return out


class Late(NamedTuple):
    """A job of the replay that was not ready when it was due: frame `frame` of task `task`; absolute times of the pattern, ns."""

    task: int
    frame: int
    release_ns: int
    due_ns: int
    ready_ns: int


def as_scenario(found: CounterExample) -> Scenario:
    """The pattern as a scenario; stream `task<i>` is task i. Tasks without a job in the pattern are left out."""
    sources = []
    for i, task in enumerate(found.tasks):
        jobs = [a for a in found.arrivals if a.task == i]
        if not jobs:
            continue
        captured, seen = tuple(a.release_ns for a in jobs), tuple(a.arrival_ns for a in jobs)
        stages = (Stage(f"stage{i}", "unit", True, task.cost_ns, task.cost_ns),)
        arrivals = Releases(captured) if seen == captured else Pattern(captured, seen)
        stream = Stream(f"task{i}", task.period_ns, task.deadline_ns, stages, task.jitter_ns)
        sources.append(Source(stream, arrivals, Workload(stages, (Constant(task.cost_ns),))))
    order = "listed" if found.resource.endswith("fp") else "edf"
    return Scenario("counter-example", tuple(sources), {"unit": 1}, order=order, preemptive=("unit",) if found.resource[0] == "p" else ())


def replay(found: CounterExample) -> list[Late]:
    """Simulate the pattern and list the jobs that were late, in order of their due times; never empty unless the analysis is wrong."""
    scenario, log = as_scenario(found), Log()
    table = simulate(scenario, "mandatory-only", frames=len(found.arrivals), log=log).frames
    assert table is not None
    ready_ns = {row.job: row.end_ns for row in log.stages}
    late = []
    for row in table[table["status"] == MISSED]:
        task = int(scenario.streams[row["stream"]].name[4:])
        due_ns = int(row["deadline_ns"])
        late.append(Late(task, int(row["frame"]), int(row["release_ns"]), due_ns, ready_ns.get(int(row["job"]), -1)))
    return sorted(late, key=lambda job: (job.due_ns, job.task))

"""`static-times`: a fixed depth for each stream, from the best use of the processor in the long run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._static import Depths, static_optimum
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class StaticTimes(Policy):
    """Rule: every frame of a stream goes to the depth that the optimal static times afford it, whatever its confidence; by deadline.

    Maximise sum f_i(t_i) / T_i under sum (m_i + t_i) / T_i <= units (Aydin, Melhem, Mosse and Mejia-Alvarez, IEEE Transactions on
    Computers 50(2), 2001): f_i is the concave envelope of the mean gain over time, so the densest segments are taken first. The
    one that fits in part goes to that share of the frames. Means are of the gains seen so far; it plans again when their
    number doubles, in O(streams depths^2), else O(n depths) a decision. What is not known to gain is not refined.
    """

    name = "static-times"
    quantile = 0.5

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, list[float], list[tuple[tuple[int, ...], int]]]] = {}  # by stream: frames, mean gains, ways
        self.plan: dict[int, tuple[int, int, float]] = {}  # by stream: a depth, a deeper one, and the share of frames that get it

    def wants(self, job: Job, engine: Engine) -> bool:
        """Until it is as deep as planned."""
        n, mean, ways = self._seen.get(job.stream_index, (0, [0.0] * len(job.gains()), job.ways()))
        if job.depth == 0 and len(mean) == len(job.gains()):
            self._seen[job.stream_index] = n + 1, [m + (g - m) / (n + 1) for m, g in zip(mean, job.gains())], ways
            if not n & (n + 1):
                used, streams, resource = 0.0, {}, job.next_stage.resource
                for index, (_, mean, ways) in self._seen.items():
                    stream, times = engine.streams[index], [engine.estimate_ns(stage) for stage in engine.streams[index].stages]
                    period_ns = stream.period_ns or stream.deadline_ns
                    used += sum(t for t, s in zip(times, stream.stages) if s.mandatory and s.resource == resource) / period_ns
                    streams[index] = Depths(period_ns, [(sum(times[i] for i in way), gain, d) for (way, d), gain in zip(ways, mean)])
                self.plan = static_optimum(streams, engine.units[resource] - used)
        return self._towards(job) >= 0

    def _towards(self, job: Job) -> int:
        """The next stage on the way to the planned depth; -1: it is there."""
        depth, deeper, share = self.plan.get(job.stream_index, (0, 0, 0.0))
        target = deeper if int((job.frame + 1) * share) > int(job.frame * share) else depth
        return next((stages[0] for stages, reached in job.ways() if reached == target), -1)

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The earliest deadline of those that are not yet as deep as planned (plans change while jobs wait)."""
        *_, index, job = min([(j.deadline_ns, j.id, at, j) for j in ready if (at := self._towards(j)) >= 0], default=(-1, None))
        return job and (job, index)


POLICY = StaticTimes

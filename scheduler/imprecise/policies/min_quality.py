"""`min-quality`: no camera starves: the stream that is owed most quality first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class MinQuality(Policy):
    """Rule: the job of the stream with the largest debt goes first; without debts, the best gain per unit of time.

    Largest debt first (Hou, Borkar and Kumar, A Theory of QoS for Wireless, INFOCOM 2009), with quality for delivered packets: a
    stream that wishes a mean utility of q is owed debt = max(0, q * frames closed - utility published), a missed frame
    being worth 0. The rule meets every vector of delivery ratios that can be met in their model; that is not proven
    here, where stages differ in length and gain. A wish that cannot be met grows a debt without end and takes all. O(n depths).
    """

    name = "min-quality"
    quantile = 0.05

    def __init__(self) -> None:
        self._debt: dict[int, float] = {}  # by stream, also below 0

    def debt(self, stream_index: int) -> float:
        """What a stream is owed: utility summed over frames."""
        return max(0.0, self._debt.get(stream_index, 0.0))

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is not expected to be worse."""
        return max(job.gains(), default=-1.0) >= 0

    def closed(self, job: Job, engine: Engine) -> None:
        """Charge the stream its wish, and credit what was published."""
        if job.stream.quality:
            worth = job.stream.reward.utility(job.depth, job.confidence) if engine.now_ns <= job.deadline_ns else 0.0
            self._debt[job.stream_index] = self._debt.get(job.stream_index, 0.0) + job.stream.quality - worth

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The densest job of the stream with the largest debt; of equals the earliest deadline."""
        found = [(-self.debt(job.stream_index), -gain / (time_ns or 1), job.deadline_ns, job.id, way, first, job)
                 for job in ready for time_ns, gain, first, _, way in steps(job, engine)]
        if not found:
            return None
        *_, first, job = min(found)
        return start(job, first)


POLICY = MinQuality

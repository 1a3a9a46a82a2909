"""`best-incremental`: mandatory parts first, then the stage that returns most per unit of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class BestIncremental(Policy):
    """Rule: start the single stage with the highest expected gain per unit of time, gain_i(d + 1) / time_i(d + 1).

    The best-incremental-return rule of mandatory-first schedules (Chung, Liu and Lin, IEEE Transactions on Computers 39(9),
    1990), which is the greedy on reward rates of Dey, Kurose and Towsley (IEEE Transactions on Computers 45(7), 1996) with
    stages for infinitesimal service. It looks one stage ahead: a poor stage before a rich one hides it (see `value-density`).
    A job whose next stage is expected to harm is published at once. O(n) a decision.
    """

    name = "best-incremental"
    quantile = 0.05

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some next stage is not expected to harm."""
        return any(gain >= 0 for (stages, _), gain in zip(job.ways(), job.gains()) if len(stages) == 1)

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The densest next stage; of equals the earliest deadline."""
        found = [(-gain / (time_ns or 1), job.deadline_ns, job.id, first, job)
                 for job in ready for time_ns, gain, first, count, _ in steps(job, engine) if count == 1]
        if not found:
            return None
        *_, index, job = min(found)
        return start(job, index)


POLICY = BestIncremental

"""`upgrade`: a light answer for all, the whole network for the one that needs it most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class Upgrade(Policy):
    """Rule: all run light; of the jobs whose whole upgrade still fits, the one with the largest expected improvement gets it.

    RT-MOT (Kang et al., Confidence-Aware Real-Time Scheduling Framework for Multi-Object Tracking Tasks, RTSS 2022): the least
    workload of every task is guaranteed off line; at run time a larger one is run where that is feasible for all, the choice
    being the scenario with the largest predicted gain in accuracy. Here the larger workload is the deepest answer, all stages
    or none: an upgrade once begun goes on before another begins. What is feasible for the mandatory parts of others is the
    engine's test. O(n depths) a decision.
    """

    name = "upgrade"
    quantile = 0.05

    def wants(self, job: Job, engine: Engine) -> bool:
        """While the deepest answer is not expected to be worse."""
        return bool(job.options) and job.gains()[-1] >= 0

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The begun upgrade, else the largest gain; of equals the least sure. None where no whole upgrade fits."""
        best: tuple[float | int, ...] | None = None
        choice: Choice = None
        for job in ready:
            found = steps(job, engine)
            if found and found[-1][4] == len(job.gains()) - 1:
                _, gain, first, _, _ = found[-1]
                key = (job.depth <= 0, -gain, job.confidence, job.deadline_ns, job.id)
                if best is None or key < best:
                    best, choice = key, start(job, first)
        return choice


POLICY = Upgrade

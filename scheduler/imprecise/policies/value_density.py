"""`value-density`: the densest segment of any job's concave envelope first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class ValueDensity(Policy):
    """Rule: start the job whose concave envelope of gain over time is steepest, max over e of gain_i(e) / time_i(e).

    Best-effort scheduling by value density (Jensen, Locke and Tokuda, RTSS 1985) on what LP dominance leaves of each job's depths
    (Sinha and Zoltners, The Multiple-Choice Knapsack Problem, Operations Research 27(3), 1979): the first segment of the
    envelope from here is the steepest chord to any depth that still ends in time. O(n depths) a decision.
    """

    name = "value-density"
    quantile = 0.05

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is not expected to be worse."""
        return max(job.gains(), default=-1.0) >= 0

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The first stage of the steepest chord; of equals the earliest deadline."""
        found = [(-gain / (time_ns or 1), job.deadline_ns, job.id, way, first, job)
                 for job in ready for time_ns, gain, first, _, way in steps(job, engine)]
        if not found:
            return None
        *_, first, job = min(found)
        return start(job, first)


POLICY = ValueDensity

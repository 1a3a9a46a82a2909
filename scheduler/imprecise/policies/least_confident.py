"""`least-confident`: refine the least sure answer first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class LeastConfident(Policy):
    """Rule: of the jobs whose next stage still fits, the one with the lowest confidence.

    Uncertainty sampling (Lewis and Gale, SIGIR 1994), here for computing instead of labelling. O(n) a decision.
    """

    name = "least-confident"
    quantile = 0.05

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The least confident job."""
        return min(ready, key=lambda job: (job.confidence, job.deadline_ns, job.id))


POLICY = LeastConfident

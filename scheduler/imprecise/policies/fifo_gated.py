"""`fifo-gated`: refine in order of arrival, behind the engine's slack test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class FifoGated(Policy):
    """Rule: of the jobs whose next stage still fits, the one released first.

    The gate is the engine's slack test. O(n) a decision.
    """

    name = "fifo-gated"

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The job released first."""
        return min(ready, key=lambda job: (job.release_ns, job.id))


POLICY = FifoGated

"""`rate-monotonic`: the fastest camera first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class RateMonotonic(Policy):
    """Rule: of the jobs whose next stage still fits, the one of the stream with the shortest period.

    Fixed priorities by rate (Liu and Layland, Journal of the ACM 20(1), 1973), for optional stages; mandatory ones keep the
    engine's order. A stream of listed releases has no period: its relative deadline stands in. Slow streams starve under
    overload, which is the point of comparing. O(n) a decision.
    """

    name = "rate-monotonic"

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The job with the shortest period; of one stream the first released."""
        return min(ready, key=lambda job: (job.stream.period_ns or job.stream.deadline_ns, job.stream_index, job.release_ns, job.id))


POLICY = RateMonotonic

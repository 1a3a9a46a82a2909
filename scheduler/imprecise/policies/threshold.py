"""`threshold`: refine what is less sure than a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class Threshold(Policy):
    """Rule: refine while confidence < theta, earliest deadline first; publish the rest at once.

    The rule of early-exit networks (Teerapittayanon et al., BranchyNet, ICPR 2016). `theta` is tuned on validation data for the
    load at hand (`imprecise.tuning`); tuned so, it is a strong rival. O(n) a decision.
    """

    name = "threshold"
    quantile = 0.25

    def __init__(self, theta: float = 0.8):
        if not 0 <= theta <= 1:
            raise ValueError("theta lies between 0 and 1")
        self.theta = theta

    def wants(self, job: Job, engine: Engine) -> bool:
        """While it is less sure than the threshold."""
        return job.confidence < self.theta

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The unsure job with the earliest deadline."""
        return min(ready, key=lambda job: (job.deadline_ns, job.id))


POLICY = Threshold

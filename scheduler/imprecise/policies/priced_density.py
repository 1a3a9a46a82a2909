"""`priced-density`: most expected gain per expected time, if time is not worth more than that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import densest_left, risky, start
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class PricedDensity(Policy):
    """Rule: start the job with most expected gain per expected time V/C, where that is above the price of time; else leave the unit idle.

    For each depth ahead V = sum_k P(stages 1..k end in time) (g_k - g_k-1), C = sum_k P(stages 1..k-1 end in time) E[time of k]. Stages
    cannot be interrupted, so time spent on a gain near 0 makes a later, needier frame wait. Hence the price: a running mean (step `rate`)
    of the densest gain that each closed job was left without. A reservation price, as in optimal search (Weitzman, Econometrica 47(3),
    1979), over value density (Jensen, Locke and Tokuda, RTSS 1985). O(n depths log window) a decision, n jobs.
    The chances are weighed here, so the slack test need only keep out what hardly ever fits (`quantile`).
    """

    name = "priced-density"
    quantile = 0.05

    def __init__(self, rate: float = 0.02):
        if not 0 <= rate <= 1:
            raise ValueError("rate lies between 0 and 1")
        self.rate = rate
        self.price = 0.0  # gain per ns

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is expected to be better."""
        return max(job.gains(), default=0.0) > 0

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The densest job; of equals the earliest deadline."""
        least, found, estimates = (-self.price, 0, 0), None, engine.estimates
        for job in ready:
            plain = job.stream.kind == "milestone" and not job.spent_ns
            if plain and max(job.gains()) < -least[0] * estimates[job.next_stage.name].mean_ns:
                continue  # not even if the next stage were all that it took
            for time_ns, gain, first in risky(job, engine):
                key = (-gain / time_ns, job.deadline_ns, job.id)
                if key < least:
                    least, found = key, (job, first)
        return start(*found) if found else None

    def closed(self, job: Job, engine: Engine) -> None:
        """Learn what the job was left without."""
        if job.depth >= 0:
            self.price += self.rate * (densest_left(job, engine) - self.price)


POLICY = PricedDensity

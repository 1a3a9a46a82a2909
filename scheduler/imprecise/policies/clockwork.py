"""`clockwork`: every depth has a window in which it may start; the window that shuts first goes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class Clockwork(Policy):
    """Rule: give each job the deepest answer whose window is open; start the job whose window shuts first.

    The window of depth e is [when its answer is there, publication - time(e)]: from the earliest to the latest start. A depth whose
    latest start has passed is dropped for a shallower one, as Clockwork drops a batch size whose required start time has
    passed for a smaller one, and never starts what would end late (Gujarati et al., Serving DNNs like Clockwork, OSDI 2020).
    Predictable times are all it looks at: gains only where they are negative. O(n depths) a decision.
    """

    name = "clockwork"

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is not expected to be worse."""
        return max(job.gains(), default=-1.0) >= 0

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The first stage of the deepest open window with the least latest start."""
        best: tuple[int, ...] | None = None
        choice: Choice = None
        for job in ready:
            open_ = [(count, time_ns, first) for time_ns, gain, first, count, _ in steps(job, engine) if gain >= 0]
            if open_:
                _, time_ns, first = max(open_)
                key = (job.publish_ns - time_ns, job.deadline_ns, job.id)
                if best is None or key < best:
                    best, choice = key, start(job, first)
        return choice


POLICY = Clockwork

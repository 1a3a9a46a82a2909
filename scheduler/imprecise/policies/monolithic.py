"""`monolithic`: the whole network or nothing, as most systems do today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class Monolithic(Policy):
    """Rule: all stages count as mandatory, earliest deadline first; no answer before the last stage.

    EDF (Liu and Layland, Journal of the ACM 20(1), 1973), not interrupted. With `gate=1` (the default) a frame that is expected to
    end after its deadline is dropped before it wastes time, which is kinder than the queues found in practice: plain EDF
    (`gate=0`) collapses under overload, since it works on what is nearly late. Nothing is guaranteed unless the full load is
    admitted. O(log n) a decision.
    """

    name = "monolithic"
    splits = False

    def __init__(self, gate: float = 1):
        self.gate = bool(gate)

    def keeps(self, job: Job, engine: Engine) -> bool:
        """Whether what is left of it still fits before its deadline."""
        return not self.gate or engine.now_ns + engine.left_ns(job) <= job.deadline_ns

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """Never asked: no stage is optional."""
        return None


POLICY = Monolithic

"""`monolithic`: the whole network or nothing, as most systems do today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class Monolithic(Policy):
    """Rule: all stages count as mandatory, earliest deadline first (Liu and Layland 1973); no answer before the last stage.

    A frame whose deadline has passed is dropped from the queue, which is kinder than the first-come-first-served queues found
    in practice. Nothing is guaranteed unless the full load is admitted. O(log n) a decision.
    """

    name = "monolithic"
    splits = False

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """Never asked: no stage is optional."""
        return None


POLICY = Monolithic

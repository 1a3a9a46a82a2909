"""`mandatory-only`: every answer is the mandatory one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


class MandatoryOnly(Policy):
    """Rule: publish as soon as the mandatory part is done.

    The floor of utility, and the ceiling of speed. O(1) a decision.
    """

    name = "mandatory-only"

    def wants(self, job: Job, engine: Engine) -> bool:
        """Never."""
        return False

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """None."""
        return None


POLICY = MandatoryOnly

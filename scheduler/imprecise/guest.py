"""A policy is a guest of the engine: its faults are reported, and mandatory work goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .model import Job
from .policies.base import Policy

if TYPE_CHECKING:
    from .engine import Engine


class Guest:
    """Asks a policy, and no more after its first fault: an exception, or a choice that it may not make. `fault` says which."""

    def __init__(self, policy: Policy):
        self.policy: Any = policy  # what it answers may be of any type
        self.fault = ""
        self.remembers = type(policy).closed is not Policy.closed

    def wants(self, job: Job, engine: Engine) -> bool:
        """Whether a job that has an answer might get more."""
        try:
            return not self.fault and bool(self.policy.wants(job, engine))
        except Exception as error:
            self._blame(error)
            return False

    def keeps(self, job: Job, engine: Engine) -> bool:
        """Whether to go on with a job of a policy that does not split."""
        try:
            return bool(self.fault) or bool(self.policy.keeps(job, engine))
        except Exception as error:
            self._blame(error)
            return True

    def closed(self, job: Job, engine: Engine) -> None:
        """Tell it of a job that was published or missed."""
        try:
            if not self.fault:
                self.policy.closed(job, engine)
        except Exception as error:
            self._blame(error)

    def pick(self, ready: Sequence[Job], engine: Engine) -> tuple[Job, int] | None:
        """The job whose optional stage starts now, and the index of that stage; None: none."""
        try:
            choice = None if self.fault else self.policy.pick(ready, engine)
        except Exception as error:
            self._blame(error)
            return None
        if choice is None:
            return None
        job, index = choice if isinstance(choice, tuple) and len(choice) == 2 else (choice, getattr(choice, "next", -1))
        if not any(job is other for other in ready) or index not in job.options:
            self.fault = f"{_named(choice)}, which is not ready"
            return None
        return job, index

    def _blame(self, error: Exception) -> None:
        self.fault = f"{type(error).__name__}: {error}"


def _named(choice: object) -> str:
    """A wrong choice in words, without asking it."""
    return f"chose job {choice.id}" if type(choice) is Job else f"chose a {type(choice).__name__}"

"""What a policy is: a ranking of optional stages. The engine keeps mandatory work, deadlines and the slack test to itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job

Choice: TypeAlias = "Job | tuple[Job, int] | None"
"""A job, perhaps with the index of the stage to start."""

Oracle = Callable[[int, int], Sequence[float]]
"""(stream index, frame) -> what an answer of each depth turns out to be worth: only a simulation knows."""


class Policy:
    """Ranks optional stages. Subclass it, set `name`, override `pick` and perhaps `wants`.

    `splits`: False treats the whole network as one piece (no answer before the last stage), for baselines.
    `guarantees`: whether an admitted set of mandatory parts is in time under it; a policy that splits always does.
    `quantile`: of a stage's durations, what must still fit before the publication for the stage to be started (the slack test). A high
    one avoids work that comes too late, a low one dares more: for policies that weigh the chance themselves.
    `needs_oracle`: it asks `oracle`, which a simulation sets before the first event and a live run cannot.
    """

    name = "policy"
    splits = True
    needs_oracle = False
    quantile = 0.95
    oracle: Oracle | None = None

    @property
    def guarantees(self) -> bool:
        """True where admission's certificate covers this policy."""
        return self.splits

    def wants(self, job: Job, engine: Engine) -> bool:
        """Whether this job, which has an answer, might get more; False publishes it at once."""
        return True

    def keeps(self, job: Job, engine: Engine) -> bool:
        """Whether to go on with a job at all; asked only of policies that do not split, before each of its stages."""
        return True

    def closed(self, job: Job, engine: Engine) -> None:
        """A job was published (`job.depth` >= 0) or missed (-1): for policies that remember."""

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The job of `ready` (never empty) whose next stage starts now on a free unit, or None to leave the unit idle.

        Every job in `ready` has an answer, waits, and passes the slack test. (job, index) starts another of its `options`, in
        streams whose stages are no milestones.
        """
        raise NotImplementedError

"""`depth-dp`: how deep each waiting job should go, planned anew at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._plans import Steps, best, options_of
from ._predict import NAMES, Means, Truth
from ._steps import start
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice


class DepthDP(Policy):
    """Rule: choose depths that maximise the expected gain, all in time; start the planned job with the densest next step.

    Dynamic programme over jobs by deadline (Yao et al., Scheduling Real-time Deep Learning Services as Imprecise Computations,
    RTCSA 2020): it holds the plans (finish time, gain) of the jobs so far
    that no other plan beats in both; a job adds its stages up to depth e, of time t_e and expected gain g_e, where it ends by
    its publication. With m workers a plan holds the time at which each is free, a job goes to the first one, and plans are
    compared by the sum. What comes later competes too, so time has a price: gain counts as g_e - price * t_e, the price
    following the gain per ns of what could not be done (sub-gradient step `rate`).
    `jobs` and `plans` bound the work: O(jobs * plans * depths * log) a decision. Where nothing is known to gain, `idle=1` gives
    the unit to the least sure job, `idle=0` publishes such answers at once: lower latency and load, a little less utility.
    `predictor` says where gains come from: constant, linear, calibrated or oracle (`_predict.py`).
    """

    name = "depth-dp"
    quantile = 0.05

    def __init__(self, jobs: float = 6, plans: float = 12, rate: float = 0.05, idle: float = 0, predictor: str = "calibrated"):
        if predictor not in NAMES:
            raise ValueError(f"predictor: found {predictor!r}, expected one of {', '.join(NAMES)}")
        if jobs < 1 or plans < 2 or not 0 <= rate <= 1:
            raise ValueError("jobs is at least 1, plans at least 2, rate from 0 to 1")
        self.jobs = int(jobs)
        self.plans = int(plans)
        self.rate = rate
        self.idle = bool(idle)
        self.needs_oracle = predictor == "oracle"
        self.price = 0.0  # gain per ns
        self._means = Means(predictor == "linear") if predictor in ("constant", "linear") else None
        self._truth = Truth() if self.needs_oracle else None

    def _gains(self, job: Job) -> Sequence[float]:
        """The predicted gain of each of `job.ways()`."""
        if self._truth is not None:
            return self._truth.gains(job, self.oracle)
        return job.gains() if self._means is None else self._means.gains(job)

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is expected to be better (with `idle`: not worse)."""
        if self._means is not None:
            self._means.learn(job)
        most = max(self._gains(job), default=-1.0)
        return most > 0 or (self.idle and most == 0)

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """The densest job of the best plan."""
        options = options_of(ready, engine, None if self._means is None and self._truth is None else self._gains)
        if not options:
            return None if not self.idle else min(ready, key=lambda job: (job.confidence, job.deadline_ns, job.id))
        options.sort()
        now_ns = engine.now_ns
        jobs: list[tuple[int, int, Steps]] = sorted([(job.publish_ns - now_ns, id, ahead) for _, _, id, job, ahead in options[:self.jobs]])
        waits = engine.free_in_ns(ready[0].next_stage.resource)
        ways = self.plan(jobs, waits)[1]
        left = next((option for option in options if option[2] not in ways), None)
        self.price += self.rate * ((-left[0] if left else 0.0) - self.price)
        _, _, id, job, ahead = next((option for option in options if option[2] in ways), options[0])
        return start(job, ahead[ways.get(id, 0)][2])

    def plan(self, jobs: Sequence[tuple[int, int, Steps]], waits: Sequence[int] = (0,)) -> tuple[float, dict[int, int]]:
        """The net gain of the best plan and, by job id, which of its steps it takes: `_plans.best` at the price."""
        return best(jobs, waits, self.price, self.plans)


POLICY = DepthDP

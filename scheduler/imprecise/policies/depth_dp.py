"""`depth-dp`: how deep each waiting job should go, planned anew at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ._predict import NAMES, Means, Truth
from ._steps import start, steps
from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job
    from .base import Choice

Steps = list[tuple[int, float, int]]
"""(time in ns, expected gain, first stage) of each way to go on that is worth something and ends in time."""
Option = tuple[float, int, int, "Job", Steps]
"""Least first: minus the best gain per ns, deadline, job id; then the job and its steps."""


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
        options = self._options(ready, engine)
        if not options:
            return None if not self.idle else min(ready, key=lambda job: (job.confidence, job.deadline_ns, job.id))
        options.sort()
        now_ns = engine.now_ns
        jobs = sorted([(job.publish_ns - now_ns, id, ahead) for _, _, id, job, ahead in options[:self.jobs]])
        waits = engine.free_in_ns(ready[0].next_stage.resource)
        ways = self.plan(jobs, waits)[1]
        left = next((option for option in options if option[2] not in ways), None)
        self.price += self.rate * ((-left[0] if left else 0.0) - self.price)
        _, _, id, job, ahead = next((option for option in options if option[2] in ways), options[0])
        return start(job, ahead[ways.get(id, 0)][2])

    def _options(self, ready: Sequence[Job], engine: Engine) -> list[Option]:
        """What can still be gained, by job; jobs with nothing to gain in time are left out."""
        now_ns, estimate_ns, calibrated = engine.now_ns, engine.estimate_ns, self._means is None and self._truth is None
        known: dict[tuple[int, int], list[int]] = {}  # the time to each depth from a place in some stages
        options: list[Option] = []
        for job in ready:
            stages, place, gains = job.stream.stages, (id(job.stream.stages), job.next), job.gains() if calibrated else self._gains(job)
            if job.spent_ns or job.stream.kind != "milestone":
                ahead = [(t, gain, first) for t, gain, first, _, _ in steps(job, engine, gains) if gain > 0]
            else:
                times = known.get(place)
                if times is None:
                    times = known[place] = list(accumulate([estimate_ns(stage) for stage in stages[job.next:]]))
                room_ns = job.publish_ns - now_ns
                ahead = [(t, gain, job.next) for t, gain in zip(times, gains) if gain > 0 and t <= room_ns]
            if ahead:
                best = max([gain / (t or 1) for t, gain, _ in ahead])
                options.append((-best, job.deadline_ns, job.id, job, ahead))
        return options

    def plan(self, jobs: Sequence[tuple[int, int, Steps]], waits: Sequence[int] = (0,)) -> tuple[float, dict[int, int]]:
        """The net gain of the best plan and, by job id, which of its steps it takes; for one worker exact while `plans` are enough.

        `jobs` by deadline: (time left in ns, id, steps, as in an option); `waits`: when each worker is free, in ns from now.
        """
        price = self.price
        worth = [[(t, net, s) for s, (t, gain, _) in enumerate(ahead) if (net := gain - price * t) > 0] for _, _, ahead in jobs]
        easy = _all_at_their_best(jobs, worth, waits)
        if easy is not None:
            return easy
        alone, number = len(waits) == 1, 0
        plans: list[_Plan] = [(sum(waits), 0.0, 0, None, 0, 0, tuple(waits))]
        for (room_ns, id, _), own in zip(jobs, worth):
            grown = plans[:]
            for plan in plans:
                used, loss, _, _, _, _, free = plan
                for t, net, way in own:
                    if free[0] + t <= room_ns:
                        number += 1
                        then = (used + t,) if alone else tuple(sorted((free[0] + t, *free[1:])))
                        grown.append((used + t, loss - net, number, plan, id, way, then))
            grown.sort()
            plans, least = [], 1.0
            for plan in grown:
                if plan[1] < least:
                    plans.append(plan)
                    least = plan[1]
            if len(plans) > self.plans:  # keep the best and an even sample of the cheaper ones
                step = (len(plans) - 1) / (self.plans - 1)
                plans = [plans[round(i * step)] for i in range(self.plans)]
        gain, ways, last = -plans[-1][1], {}, plans[-1]
        while last[3] is not None:
            ways[last[4]] = last[5]
            last = last[3]
        return gain, ways


_Plan = tuple[int, float, int, Any, int, int, tuple[int, ...]]
"""Least first: time used, minus the gain, a number (of equals the first found wins); the plan that it extends by a job's step, the
job's id, which step; when each worker is free, soonest first."""


def _all_at_their_best(jobs: Sequence[tuple[int, int, Any]], worth: Sequence[Sequence[tuple[int, float, int]]],
                       waits: Sequence[int]) -> tuple[float, dict[int, int]] | None:
    """The plan in which each job takes the step that it gains most from, where that fits: no other can be better. None: it does not."""
    free, total, least, ways = list(waits), 0.0, 1.0, {}
    for (room_ns, id, _), own in zip(jobs, worth):
        if own:
            t, net, way = own[0]
            for other in own[1:]:
                if other[1] > net:
                    t, net, way = other
            end_ns = free[0] + t
            if end_ns > room_ns:
                return None
            free[0] = end_ns
            if len(free) > 1:
                free.sort()
            total += net
            least = net if net < least else least
            ways[id] = way
    return (total, ways) if least > 1e-9 * total else None  # gains lost in rounding: let the programme decide


POLICY = DepthDP

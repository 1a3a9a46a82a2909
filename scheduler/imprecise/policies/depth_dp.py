"""`depth-dp`: how deep each waiting job should go, planned anew at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job


Option = tuple[float, "Job", list[tuple[int, float]]]
"""Best gain per ns, the job, and (time in ns, expected gain) of each depth that is worth something."""


class DepthDP(Policy):
    """Rule: choose depths that maximise the expected gain, all in time; start the planned job with the densest next step.

    Dynamic programme over jobs by deadline (Yao et al., RTCSA 2020): `P` holds the plans (finish time, gain) of the jobs so far
    that no other plan beats in both; a job adds its stages up to depth e, of time t_e and expected gain g_e, where it ends by
    its publication. m workers share the time (t / m). What comes later competes too, so time has a price: gain counts as
    g_e - price * t_e, the price following the gain per ns of what could not be done (sub-gradient step `rate`).
    `jobs` and `plans` bound the work: O(jobs * plans * depths) a decision. Where nothing is known to gain, `idle=1` gives the
    unit to the least sure job, `idle=0` publishes such answers at once: lower latency and load, a little less utility.
    """

    name = "depth-dp"

    def __init__(self, jobs: float = 6, plans: float = 12, rate: float = 0.05, idle: float = 1):
        self.jobs = int(jobs)
        self.plans = int(plans)
        self.rate = rate
        self.idle = bool(idle)
        self.price = 0.0  # gain per ns

    def wants(self, job: Job, engine: Engine) -> bool:
        """While some deeper answer is expected to be better (with `idle`: not worse)."""
        return any(gain > 0 or (self.idle and gain == 0) for gain in job.gains())

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The densest job of the best plan."""
        now_ns = engine.now_ns
        workers = max(1, len(engine.free_in_ns(ready[0].next_stage.resource)))
        options: list[Option] = []
        needs: dict[str, int] = {}
        for job in ready:
            time_ns, best = 0, 0.0
            room_ns = job.publish_ns - now_ns
            steps: list[tuple[int, float]] = []
            for stage, gain in zip(job.stream.stages[job.done:], job.gains()):
                need_ns = needs.get(stage.name)
                if need_ns is None:
                    need_ns = needs[stage.name] = engine.estimate_ns(stage)
                time_ns += need_ns
                if time_ns > room_ns:
                    break
                if gain > 0:
                    steps.append((time_ns, gain))
                    best = max(best, gain / time_ns)
            if steps:
                options.append((best, job, steps))
        if not options:
            return None if not self.idle else min(ready, key=lambda job: (job.confidence, job.deadline_ns, job.id))
        options.sort(key=lambda option: (-option[0], option[1].deadline_ns, option[1].id))
        chosen = self.plan(options[:self.jobs], now_ns, workers)[1]
        self._learn(options, chosen)
        planned = [option[1] for option in options if option[1].id in chosen]
        return planned[0] if planned else options[0][1]

    def plan(self, options: Sequence[Option], now_ns: int, workers: int = 1) -> tuple[float, set[int]]:
        """The net gain of the best plan and the ids of the jobs that it refines; exact while `plans` are enough."""
        price = self.price
        plans: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
        for _, job, steps in sorted(options, key=lambda option: (option[1].publish_ns, option[1].id)):
            room_ns = (job.publish_ns - now_ns) * workers
            grown = list(plans)
            for used_ns, gain, ids in plans:
                for time_ns, more in steps:
                    net = more - price * time_ns
                    if net > 0 and used_ns + time_ns <= room_ns:
                        grown.append((used_ns + time_ns, gain + net, (*ids, job.id)))
            grown.sort(key=lambda plan: (plan[0], -plan[1]))
            plans, top = [], -1.0
            for plan in grown:
                if plan[1] > top:
                    plans.append(plan)
                    top = plan[1]
            if len(plans) > self.plans:  # keep the best and an even sample of the cheaper ones
                step = (len(plans) - 1) / (self.plans - 1)
                plans = [plans[round(i * step)] for i in range(self.plans)]
        return plans[-1][1], set(plans[-1][2])

    def _learn(self, options: Sequence[Option], chosen: set[int]) -> None:
        """Move the price towards the densest job left out, or towards 0 when all were planned."""
        left = max((density for density, job, _ in options if job.id not in chosen), default=0.0)
        self.price += self.rate * (left - self.price)


POLICY = DepthDP

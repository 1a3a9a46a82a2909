"""How deep should each waiting job go: the best depths of jobs that are all there now, with stages as atoms.

Jobs in order of deadline, each on one worker (EDF is optimal for jobs that are all there). A partial plan of the first i jobs is
(time used on each worker, reward); of two plans the one that uses no less time for no more reward is dropped. In the transposed
form, P[i][R] is the least finish time of reward R (Yao et al., "Scheduling real-time deep learning services as imprecise
computations", RTCSA 2020). A plan is also dropped when the fraction of its remaining jobs' work that still fits, bought at the
best reward per time, cannot lift it above the best plan known: see `_Rest`.
"""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

MAX_PLANS = 100_000  # partial plans of several workers kept at once before `best_depths` gives up
WIDTHS = (64, 1024, 16_384)  # partial plans kept in the first attempts, which find good plans to compare with
COMPARED = 8  # plans that a plan of three workers or more is compared with


class _Option(NamedTuple):
    """Doing a job to a depth."""

    time: int
    reward: float
    depth: int


class _Job(NamedTuple):
    """A job that can be refined: options of rising time and reward, the first of time 0."""

    id: int
    deadline: int
    options: list[_Option]


_Chain = tuple[Any, int, int]
"""(chain before or None, index of a job, its depth): the refined jobs of a plan."""

_Plan = tuple[tuple[int, ...], float, "_Chain | None"]
"""Time used on each worker, sorted; reward; what is refined."""


def best_depths(jobs: Sequence[tuple[int, Sequence[int], Sequence[float]]], workers: int = 1,
                eps: float | None = None) -> tuple[float, list[int]]:
    """The largest reward of jobs that are all there at time 0, and the depth of each that gives it: (reward, depths).

    `jobs`: (deadline, stage times, cumulative rewards), integer times, one reward for each stage: `rewards[d - 1]` is what depth d
    is worth over depth 0, which costs and gives nothing; it may fall or be negative. Stages are not interrupted, a job stays on
    one worker, a depth counts if its last stage ends by the deadline. The reward is an int where all rewards are.

    `eps=None`: exact. One worker: the plans of a job are at most min(longest deadline, product of depths); pruned, usually few.
    Several: NP-hard even in the unit-reward case, exact up to MAX_PLANS partial plans, ValueError beyond.
    `eps` in (0, 1): at least (1 - eps) times the optimum. One worker: a full polynomial scheme, rewards in steps of
    eps * (lower bound) / n, so at most n^2 / eps plans a job and O(n^3 depths / eps) in all. Several: the same steps, but the plans of one
    reward are many (no full polynomial scheme exists unless P = NP: eps < 1/n would decide Partition): ValueError beyond MAX_PLANS.

    Raises ValueError also for a malformed job, workers < 1 or eps out of range.
    """
    if workers < 1:
        raise ValueError(f"workers: found {workers}, expected at least 1")
    if eps is not None and not 0 < eps < 1:
        raise ValueError(f"eps: found {eps}, expected a number between 0 and 1, or None for the exact optimum")
    parsed = sorted(filter(None, (_job(i, job) for i, job in enumerate(jobs))), key=lambda job: (job.deadline, job.id))
    workers = max(1, min(workers, len(parsed)))
    chain = _solve(parsed, workers) if eps is None else _approximate(parsed, workers, eps)
    depths = _depths(chain, len(jobs))
    rewards = {(job.id, option.depth): option.reward for job in parsed for option in job.options}
    return sum(rewards[i, depth] for i, depth in enumerate(depths) if depth), depths


def _job(index: int, job: tuple[int, Sequence[int], Sequence[float]]) -> _Job | None:
    """The options of a job that do not cost more for no more reward; None where nothing is worth anything."""
    if len(job) != 3 or len(job[1]) != len(job[2]):
        raise ValueError(f"job {index}: expected (deadline, stage times, cumulative rewards) with one reward for each stage")
    deadline = whole(job[0], f"job {index}")
    options = [_Option(0, 0, 0)]
    time = 0
    for depth, (stage_time, reward) in enumerate(zip(job[1], job[2]), 1):
        took = whole(stage_time, f"job {index}")
        if took < 0 or not finite(reward):
            raise ValueError(f"job {index}, stage {depth}: found time {took} and reward {reward!r}, expected time >= 0 and a finite reward")
        time += took
        if time <= deadline and reward > options[-1].reward:
            if time == options[-1].time:
                options.pop()
            options.append(_Option(time, operator.index(reward) if hasattr(reward, "__index__") else float(reward), depth))
    return _Job(index, deadline, options) if options[-1].depth else None


def _depths(chain: _Chain | None, count: int) -> list[int]:
    depths = [0] * count
    while chain is not None:
        chain, job, depth = chain
        depths[job] = depth
    return depths


# Search ---------------------------------------------------------------------------------------------------------------


def _solve(jobs: list[_Job], workers: int) -> _Chain | None:
    """An optimal plan. Raises ValueError where several workers need too many partial plans."""
    search = _Search(jobs, workers)
    for width in WIDTHS:
        if search.run(width):
            return search.chain
    if search.run(0, MAX_PLANS if workers > 1 else 0):
        return search.chain
    raise ValueError(f"{len(jobs)} jobs on {workers} workers need more than {MAX_PLANS} partial plans: take fewer jobs, one worker, "
                     "or a larger eps")


def _approximate(jobs: list[_Job], workers: int, eps: float) -> _Chain | None:
    """A plan of at least (1 - eps) times the optimum: the first one found, where it is near enough to the bound, or the best in
    coarse rewards. With L <= optimum and steps of eps L / n, rounding down costs less than a step a job, eps L in all.
    """
    search = _Search(jobs, workers)
    if search.run(WIDTHS[0]) or search.best >= (1 - eps) * search.upper:
        return search.chain
    lower = max(search.best, *(job.options[-1].reward for job in jobs))
    step = eps * (1 - 1e-9) * lower / len(jobs)
    coarse = []
    for job in jobs:
        options = [job.options[0]._replace(reward=0)]
        for option in job.options:
            reward = int(option.reward / step)
            if reward > options[-1].reward:
                if option.time == options[-1].time:
                    options.pop()
                options.append(option._replace(reward=reward))
        coarse.append(job._replace(options=options))
    return _solve(coarse, workers)


class _Search:
    """Breadth-first over jobs in order of deadline. `best` and `chain`: the best plan so far; `upper`: no plan is better."""

    def __init__(self, jobs: list[_Job], workers: int):
        self.jobs, self.workers = jobs, workers
        self.best: float = 0
        self.chain: _Chain | None = None
        self.plans = 0  # partial plans kept, at most, at once
        self.rests = _rests(jobs, workers)
        self.upper = self.rests[0].worth(0)
        whole_rewards = all(isinstance(option.reward, int) for job in jobs for option in job.options)
        margin = 1e-11 * self.upper  # rounding of sums of positive numbers, many times over
        self.gain = (1 - margin) if whole_rewards and margin < 0.5 else -margin  # a plan must promise this much more than the best

    def run(self, width: int, limit: int = 0) -> bool:
        """Keep the `width` most promising plans of each job (0: all), and stop where more than `limit` remain (0: never).

        True: none was left out for that, so `best` is the optimum.
        """
        complete = True
        plans: list[_Plan] = [((0,) * self.workers, 0, None)]
        for job, rest in zip(self.jobs, self.rests[1:]):
            plans = self._undominated(self._grow(plans, job, rest))
            if width and len(plans) > width:
                complete = False
                plans = sorted(plans, key=lambda plan: plan[1] + rest.worth(sum(plan[0])), reverse=True)[:width]
            self.plans = max(self.plans, len(plans))
            if limit and len(plans) > limit:
                return False
        return complete

    def _grow(self, plans: Iterable[_Plan], job: _Job, rest: _Rest) -> list[_Plan]:
        """Each plan with each option of the next job on each worker; of those that use the same time the best."""
        grown: dict[tuple[int, ...], _Plan] = {}
        for used, reward, chain in plans:
            total = sum(used)
            for time, more, depth in job.options:
                if used[0] + time > job.deadline:
                    break
                sum_ = reward + more
                if sum_ > self.best:
                    self.best, self.chain = sum_, (chain, job.id, depth)
                if sum_ + rest.worth(total + time) < self.best + self.gain:
                    continue
                link = (chain, job.id, depth) if depth else chain
                for k, own in enumerate(used):
                    if own + time > job.deadline:
                        break
                    if k and own == used[k - 1]:
                        continue
                    after = used if not time else _with(used, k, own + time)
                    if after not in grown or grown[after][1] < sum_:
                        grown[after] = (after, sum_, link)
                    if not time:
                        break
        return list(grown.values())

    def _undominated(self, plans: list[_Plan]) -> list[_Plan]:
        """Without plans that use at least as much time on every worker as a better one (beyond two workers: without some of them)."""
        plans.sort(key=lambda plan: (-plan[1], plan[0]))
        kept: list[_Plan] = []
        stairs: list[tuple[int, int]] = []  # least (time on the first worker, on the second) of the plans so far
        for plan in plans:
            used = plan[0]
            if self.workers <= 2:
                corner = (used[0], used[-1])
                at = bisect_right(stairs, corner)
                if at and stairs[at - 1][1] <= corner[1]:
                    continue
                end = at
                while end < len(stairs) and stairs[end][1] >= corner[1]:
                    end += 1
                stairs[at:end] = [corner]
            elif any(all(map(operator.le, other[0], used)) for other in kept[:COMPARED]):
                continue
            kept.append(plan)
        return kept


def _with(used: tuple[int, ...], k: int, time: int) -> tuple[int, ...]:
    """The sorted times with the k-th replaced by a larger one."""
    at = bisect_left(used, time, k + 1)
    return (*used[:k], *used[k + 1:at], time, *used[at:])


# Bound ----------------------------------------------------------------------------------------------------------------


class _Rest:
    """What the jobs from one on could add at most, by the total time left until the end of the last deadline (of m workers m times it).

    Work is taken as divisible between depths (the concave envelope of a job's rewards) and workers (each deadline d bounds the total
    of the jobs up to it by m d). The best reward by time left is then concave and made of the pieces of envelopes, steepest first:
    a job puts its pieces in; its deadline settles what must come after it. Exact for this relaxation, so always an upper bound.
    """

    def __init__(self, end: int, left: int, base: float, pieces: list[tuple[float, int]]):
        self.end = end
        self.pieces = pieces  # (reward per time, time), falling, beyond `left`
        self.at = [left]
        self.value = [base]
        for slope, time in pieces:
            self.value.append(self.value[-1] + slope * time)
            self.at.append(self.at[-1] + time)

    def worth(self, used: int) -> float:
        """The bound after `used` time of all workers together."""
        left = self.end - used
        k = bisect_right(self.at, left) - 1
        if k == len(self.pieces):
            return self.value[k]
        return self.value[k] + self.pieces[k][0] * (left - self.at[k])


def _rests(jobs: list[_Job], workers: int) -> list[_Rest]:
    """The bound of jobs[i:] for each i, and of none: O(n^2 depths)."""
    end = workers * jobs[-1].deadline if jobs else 0
    rests = [_Rest(end, 0, 0.0, [])]
    for job in reversed(jobs):
        last, left = rests[-1], end - workers * job.deadline
        k = max(0, bisect_right(last.at, left) - 1)
        later = last.pieces[k:]
        if later:
            later[0] = (later[0][0], last.at[k + 1] - left)
        base = last.worth(end - left) + job.options[0].reward
        rests.append(_Rest(end, left, base, sorted(later + _envelope(job.options), key=lambda piece: -piece[0])))
    return rests[::-1]


def _envelope(options: Sequence[_Option]) -> list[tuple[float, int]]:
    """The pieces (reward per time, time) of the least concave function above a job's options, steepest first."""
    corners: list[_Option] = []
    for option in options:
        while len(corners) > 1 and _density(corners[-2], corners[-1]) <= _density(corners[-1], option):
            corners.pop()
        corners.append(option)
    return [(_density(a, b), b.time - a.time) for a, b in itertools.pairwise(corners)]


def _density(a: _Option, b: _Option) -> float:
    return (b.reward - a.reward) / (b.time - a.time)


# Numbers --------------------------------------------------------------------------------------------------------------


_LARGEST = 10**300


def whole(value: int, where: str) -> int:
    """An integer of any size that a float can hold roughly. Raises ValueError for anything else, naming where."""
    try:
        number = operator.index(value)
        fits = abs(number) < _LARGEST
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"{where}: found {value!r:.40}, expected an integer below 1e300")
    return number


def finite(value: float) -> bool:
    """Whether something is a finite number that fits a float."""
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError):
        return False

"""The best that any schedule could do: classical optima of imprecise computation, in integer times of any one unit.

    minimum_total_error    one preemptive processor, optional parts cut anywhere       Algorithm F and LWF
    optimal_static_times   periodic tasks, one optional time a task, concave rewards   Aydin's static optimum
    best_depths            jobs waiting now, stages as atoms, m workers                depth DP (`depths.py`)
    clairvoyant            frames of a simulation, knowing all that comes              the ladder of bounds (`ladder.py`)

The first three are exact for their models; `depths.py` and `ladder.py` say how far off their approximations may be.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from .depths import best_depths, finite, whole
from .ladder import clairvoyant
from .model import Curve

__all__ = ["ConcaveReward", "Exponential", "Linear", "Logarithmic", "best_depths", "clairvoyant", "minimum_total_error",
           "optimal_static_times"]

Segment = tuple[int, int, int]
"""(start, end, job): the processor works for this job from start to end."""


# Jobs on one processor ------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    release: int
    deadline: int
    mandatory: int
    optional: int


def minimum_total_error(jobs: Sequence[Sequence[int]], weights: Sequence[float] | None = None) -> tuple[float, list[int], list[Segment]]:
    """The least total error on one preemptive processor: (total, error of each job, schedule).

    `jobs`: (release, deadline, mandatory, optional), integer times. A job's error is the part of its optional work that is not done;
    the total is the sum of errors, with `weights` (not negative) of weight x error. `schedule`: [(start, end, job)] in order, the
    first `mandatory` of each job's time being its mandatory part. Raises ValueError for a malformed job, and where the mandatory
    parts alone cannot all be in time.

    Algorithm F; with weights LWF: F with only the jobs of the largest weight optional, then what they execute is mandatory, and so on
    (Shih, Liu and Chung, "Algorithms for scheduling imprecise computations with timing constraints", SIAM J. Computing 20(3), 1991;
    LWF takes one job at a time, but amounts that can be executed form a polymatroid, so jobs of equal weight may go together).
    Works on intervals, so the size of a time does not matter: O(n log n), O(w n log n) with w different weights.
    """
    set_ = [_job(i, job) for i, job in enumerate(jobs)]
    order = sorted(range(len(set_)), key=lambda i: set_[i].release)
    done = [job.mandatory for job in set_]
    schedule = _edf(set_, order, done)
    for i, amount in enumerate(_amounts(schedule, len(set_))):
        if amount < done[i]:
            raise ValueError(f"the mandatory parts cannot all be in time: job {i} lacks {done[i] - amount} at its deadline "
                             f"{set_[i].deadline} under EDF")
    for group in _by_weight(len(set_), weights):
        wanted = list(done)
        for i in group:
            wanted[i] += set_[i].optional
        if wanted != done:
            schedule = _transform(_edf(set_, order, wanted), _edf(set_, order, done), len(set_))
            done = _amounts(schedule, len(set_))
    errors = [job.mandatory + job.optional - amount for job, amount in zip(set_, done)]
    return sum(errors) if weights is None else sum(w * e for w, e in zip(weights, errors)), errors, schedule


def _job(index: int, job: Sequence[int]) -> _Job:
    if len(job) != 4:
        raise ValueError(f"job {index}: found {len(job)} entries, expected (release, deadline, mandatory, optional)")
    made = _Job(*(whole(value, f"job {index}") for value in job))
    if made.deadline < made.release or made.mandatory < 0 or made.optional < 0:
        raise ValueError(f"job {index}: found {tuple(made)}, expected release <= deadline and no negative work")
    return made


def _by_weight(count: int, weights: Sequence[float] | None) -> list[list[int]]:
    """Indices of the jobs of each weight, the largest first; of weight 0 too, as their work costs nothing."""
    if weights is None:
        return [list(range(count))]
    if len(weights) != count or not all(finite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"expected {count} weights, one a job, finite and not negative, found {list(weights)!r:.60}")
    groups: dict[float, list[int]] = {}
    for i, weight in enumerate(weights):
        groups.setdefault(weight, []).append(i)
    return [groups[weight] for weight in sorted(groups, reverse=True)]


def _edf(jobs: Sequence[_Job], order: Sequence[int], amounts: Sequence[int]) -> list[Segment]:
    """The EDF schedule of so much work of each job, each cut at its deadline; `order`: jobs by release."""
    segments: list[Segment] = []
    ready: list[tuple[int, int]] = []
    left = list(amounts)
    now, coming = 0, 0
    while coming < len(order) or ready:
        if not ready:
            now = max(now, jobs[order[coming]].release) if segments else jobs[order[coming]].release
        while coming < len(order) and jobs[order[coming]].release <= now:
            heappush(ready, (jobs[order[coming]].deadline, order[coming]))
            coming += 1
        deadline, job = ready[0]
        until = min(now + left[job], deadline)
        if coming < len(order):
            until = min(until, jobs[order[coming]].release)
        if until > now:
            _append(segments, (now, until, job))
            left[job] -= until - now
            now = until
        if not left[job] or deadline <= now:
            heappop(ready)
    return segments


def _append(segments: list[Segment], segment: Segment) -> None:
    """Add a segment, as one with the last where it goes on."""
    if segments and segments[-1][1] == segment[0] and segments[-1][2] == segment[2]:
        segment = (segments.pop()[0], *segment[1:])
    segments.append(segment)


def _amounts(schedule: Sequence[Segment], count: int) -> list[int]:
    """How long each job works."""
    amounts = [0] * count
    for start, end, job in schedule:
        amounts[job] += end - start
    return amounts


def _transform(whole_work: list[Segment], template: Sequence[Segment], count: int) -> list[Segment]:
    """Give every job its template's time, without idling more: the step that turns St and Sm into Algorithm F's schedule.

    From the last instant to the first: where the template (EDF of the mandatory parts) works for job j, and j has no more time after
    it in St than in the template, j gets that instant of St, from whoever has it. St is busy wherever the template is.
    """
    ahead = [0] * count  # time after the current instant, in what is built less in the template
    built: list[Segment] = []  # from last to first
    rest = list(whole_work)
    for start, end, job in reversed(template):
        _take(rest, end, built, ahead)
        while rest and rest[-1][1] > start:
            other_start, until, other = rest.pop()
            since = max(other_start, start)
            if other_start < start:
                rest.append((other_start, start, other))
            kept = until - since if other == job else min(ahead[job], until - since)
            if kept:
                built.append((until - kept, until, other))
            if other != job:
                ahead[other] += kept
                ahead[job] -= kept
            if since < until - kept:
                built.append((since, until - kept, job))
    _take(rest, None, built, ahead)
    merged: list[Segment] = []
    for segment in reversed(built):
        _append(merged, segment)
    return merged


def _take(rest: list[Segment], since: int | None, built: list[Segment], ahead: list[int]) -> None:
    """Move what lies after `since` (None: all) from `rest` to `built` as it is."""
    while rest and (since is None or rest[-1][1] > since):
        start, end, job = rest.pop()
        if since is not None and start < since:
            rest.append((start, since, job))
            start = since
        built.append((start, end, job))
        ahead[job] += end - start


# Periodic tasks -------------------------------------------------------------------------------------------------------


class ConcaveReward(Protocol):
    """What optional time is worth: a reward, and its slope from the right, which never rises. `Curve` (concave) will do as well."""

    def __call__(self, time: float, /) -> float:
        """The reward of so much optional time."""

    def derivative(self, time: float, /) -> float:
        """Its slope just after `time`."""


class Linear(NamedTuple):
    """slope * t."""

    slope: float

    def __call__(self, time: float, /) -> float:
        """slope * t."""
        return self.slope * time

    def derivative(self, time: float, /) -> float:
        """slope."""
        return self.slope


class Exponential(NamedTuple):
    """scale * (1 - exp(-rate t)), `scale` and `rate` positive."""

    scale: float
    rate: float

    def __call__(self, time: float, /) -> float:
        """scale * (1 - exp(-rate t))."""
        return -self.scale * math.expm1(-self.rate * time)

    def derivative(self, time: float, /) -> float:
        """scale * rate * exp(-rate t)."""
        return self.scale * self.rate * math.exp(-self.rate * time)


class Logarithmic(NamedTuple):
    """scale * ln(1 + rate t), `scale` and `rate` positive."""

    scale: float
    rate: float

    def __call__(self, time: float, /) -> float:
        """scale * ln(1 + rate t)."""
        return self.scale * math.log1p(self.rate * time)

    def derivative(self, time: float, /) -> float:
        """scale * rate / (1 + rate t)."""
        return self.scale * self.rate / (1 + self.rate * time)


def optimal_static_times(tasks: Sequence[Sequence[int]], rewards: Sequence[ConcaveReward | Curve], per_second: bool = False) -> list[float]:
    """The optional time t_i that every job of each periodic task should get, in the unit of the tasks, for the greatest reward.

    `tasks`: (period, mandatory, optional), integers, deadlines equal to periods; `rewards`: what optional time is worth, concave. Maximises
    sum f_i(t_i), the mean reward of a job summed over tasks (with `per_second` sum f_i(t_i) / T_i, the reward in a unit of time)
    under sum (m_i + t_i) / T_i <= 1 and 0 <= t_i <= o_i, which preemptive EDF can schedule and no other schedule beats:
    a static optimum is an optimum (Aydin, Melhem, Mosse and Mejia-Alvarez, IEEE Trans. Computers 50(2), 2001). KKT: there is a price
    lambda of utilisation with t_i where f_i' crosses lambda / T_i (lambda), clipped; found by bisection down to adjacent floats,
    then what is left goes to tasks whose slope equals the price, so piecewise-linear ties are exact to rounding. Of optimal times the least
    where the processor is not full. Some 4,000 calls of `derivative` a task.

    Raises ValueError for a malformed task, a reward that is not concave, and mandatory parts of utilisation above 1.
    """
    set_ = [_task(i, task) for i, task in enumerate(tasks)]
    if len(rewards) != len(set_):
        raise ValueError(f"found {len(rewards)} rewards, expected one for each of {len(set_)} tasks")
    left = 1 - sum((Fraction(mandatory, period) for period, mandatory, _ in set_), Fraction(0))
    if left < 0:
        raise ValueError(f"the mandatory parts use {float(1 - left):.6g} of the processor, expected at most 1")
    falls = [_falls(i, reward, float(task[2])) for i, (reward, task) in enumerate(zip(rewards, set_))]

    def times(price: float) -> list[float]:
        """For each task the least time from which its slope is at most the price of its time."""
        return [falls_to(price if per_second else price / period) for falls_to, (period, _, _) in zip(falls, set_)]

    def used(at: Sequence[float]) -> float:
        return sum(time / period for time, (period, _, _) in zip(at, set_))

    room = float(left)
    price = _first(lambda price: used(times(price)) <= room, _HUGE)
    chosen = times(price)
    if price > 0:
        room = max(0.0, room - used(chosen))
        for i, (more, (period, _, _)) in enumerate(zip(times(math.nextafter(price, 0.0)), set_)):
            extra = min(more - chosen[i], room * period)
            chosen[i] += extra
            room = max(0.0, room - extra / period)
    return chosen


_HUGE = 1.7976931348623157e308


def _task(index: int, task: Sequence[int]) -> tuple[int, int, int]:
    if len(task) != 3:
        raise ValueError(f"task {index}: found {len(task)} entries, expected (period, mandatory, optional)")
    period, mandatory, optional = (whole(value, f"task {index}") for value in task)
    if period < 1 or mandatory < 0 or optional < 0:
        raise ValueError(f"task {index}: found {(period, mandatory, optional)}, expected a positive period and no negative work")
    return period, mandatory, optional


def _falls(index: int, reward: ConcaveReward | Curve, longest: float) -> Callable[[float], float]:
    """The least time in 0..longest from which a reward's slope is at most a given one; `longest` where it never is.

    The slope is checked to fall: a curve's between all knots, any other at some points.
    """
    if isinstance(reward, Curve):
        at = [0.0, *(x for x in reward.x if 0 < x < longest)]
        slopes = [(reward(b) - reward(a)) / (b - a) if b > a else 0.0 for a, b in zip(at, [*at[1:], longest])]
    else:
        at = [longest * k / 16 for k in range(17)]
        slopes = [reward.derivative(time) for time in at]
    for time, slope, following in zip(at[1:], slopes, slopes[1:]):
        if not following <= slope + 1e-9 * abs(slope):
            raise ValueError(f"reward {index} is not concave: its slope rises from {slope:.6g} to {following:.6g} by {time:.6g}")
    if isinstance(reward, Curve):
        return lambda own: next((time for time, slope in zip(at, slopes) if slope <= own), longest)
    derivative = reward.derivative
    return lambda own: _first(lambda time: derivative(time) <= own, longest)


def _first(test: Callable[[float], bool], longest: float) -> float:
    """The least float in 0..longest from which a test holds that stays true once it is; `longest` where it never does."""
    low, high = 0, int(struct.unpack("<q", struct.pack("<d", longest))[0])  # floats >= 0 are ordered as their bits are
    while low < high:
        middle = (low + high) // 2
        if test(struct.unpack("<d", struct.pack("<q", middle))[0]):
            high = middle
        else:
            low = middle + 1
    return float(struct.unpack("<d", struct.pack("<q", high))[0])

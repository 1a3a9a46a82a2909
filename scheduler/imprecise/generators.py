"""Random task sets: utilisations, periods, and scenarios made of them. A given seed makes the same set everywhere.

    tasks = task_set(8, 0.7, np.random.default_rng(1))            # [Task(cost, period, deadline, jitter), ...]
    world = scenario_of(tasks, load=1.5, seed=1)                  # mandatory parts of them, and optional ones, to be simulated

Every function takes a `numpy.random.Generator` and advances it; nothing else is random.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .draws import Constant, DurationModel, Lognormal, Periodic, Quantiles, typical_ns
from .model import Stage, Stream
from .scenario import Scenario, Source, Workload, synthetic_outcomes, synthetic_reward
from .verdicts import Task

if TYPE_CHECKING:
    from numpy.random import Generator

Floats = NDArray[np.float64]
MS = 1_000_000
ANALYTICAL = 15  # values up to which the analytical form is fast
TRIES = 10_000  # draws before a constraint is given up
PICTURES = 1000  # made-up ones that a generated scenario shows
CUT = 3  # an optional stage takes at most this many times its median


# Shares of a sum ------------------------------------------------------------------------------------------------------


def uunifast(n: int, total: float, rng: Generator) -> Floats:
    """`n` values above 0 that sum to `total`, uniform on that simplex: float64 `[n]`. O(n).

    UUniFast: what is left for i tasks is what is left for i + 1 times u^(1/i) (Bini and Buttazzo, Real-Time Systems 30, 2005).
    Each value is `total` times a Beta(1, n - 1) variable. Raises ValueError unless n >= 1 and total > 0.
    """
    _check_sum(n, total)
    left, values = float(total), []
    for i in range(n - 1, 0, -1):
        rest = left * (1.0 - rng.random()) ** (1.0 / i)  # 1 - [0, 1): never 0
        values.append(left - rest)
        left = rest
    return np.array([*values, left])


def uunifast_discard(n: int, total: float, limit: float, rng: Generator, tries: int = TRIES) -> Floats:
    """The same with no value above `limit`: sets that break it are drawn again, which keeps the rest uniform. float64 `[n]`.

    UUniFast-Discard (Davis and Burns, RTSS 2009). Raises ValueError where total > n * limit, or where `tries` sets all broke it:
    that happens where total is near n * limit, and `convolutionalfixedsum` draws there at once.
    """
    _check_sum(n, total)
    if not total <= n * limit:
        raise ValueError(f"{n} values of at most {limit:g} cannot sum to {total:g}")
    for _ in range(tries):
        values = uunifast(n, total, rng)
        if values.max() <= limit:
            return values
    raise ValueError(f"{tries} sets of {n} values with sum {total:g} all had one above {limit:g}; ask for more values, a smaller sum, "
                     "or method 'convolutionalfixedsum'")


def convolutionalfixedsum(n: int, total: float, rng: Generator, low: float | Sequence[float] = 0.0,
                          high: float | Sequence[float] | None = None) -> Floats:
    """`n` values with the given sum, each between its `low` and `high` (default: `total`), uniform where both hold: float64 `[n]`.

    ConvolutionalFixedSum (Griffin and Davis, RTAS 2025) of the package of this name, which is optional: its analytical form up to
    15 values, its numerical one, accurate to about total / 10,000, beyond. Raises ImportError naming the package, ValueError where
    no such values exist.
    """
    _check_sum(n, total)
    least, most = ([float(v) for v in np.broadcast_to(np.asarray(bound, dtype=np.float64), (n,))]
                   for bound in (low, total if high is None else high))
    if any(a > b for a, b in zip(least, most)) or min(least) < 0 or not math.fsum(least) <= total <= math.fsum(most):
        raise ValueError(f"no {n} values between {least} and {most} sum to {total:g}")
    if n == 1 or total == math.fsum(least):
        return np.array([float(total)]) if n == 1 else np.array(least)
    if total == math.fsum(most):
        return np.array(most)
    try:
        from convolutionalfixedsum import CFSAConfig, cfsa, cfsn
    except ImportError:
        raise ImportError("this draw needs the package convolutionalfixedsum (Python 3.10 or later, NumPy 2.2.5 or later); "
                          "install it with: pip install convolutionalfixedsum") from None
    seed = int(rng.integers(1, 1 << 62))
    base, room = np.array(least), [b - a for a, b in zip(least, most)]  # version 2.0.1 is not uniform where a lower bound is given
    above = total - math.fsum(least)
    if n <= ANALYTICAL:
        return np.asarray(base + np.minimum(cfsa(n, above, [0.0] * n, room, CFSAConfig(seed=seed)), room), dtype=np.float64)
    below = math.fsum(room) - above
    state = random.getstate()  # the numerical form draws from the global generator
    try:
        random.seed(seed)
        for _ in range(TRIES):
            with contextlib.suppress(IndexError):  # at a corner, where what is left must fill all that may be filled; rare when mirrored
                values = base + cfsn(n, above, None, room) if above <= below else np.array(most) - cfsn(n, below, None, room)
                return np.asarray(values, dtype=np.float64)
    finally:
        random.setstate(state)
    raise ValueError(f"{n} values with sum {total:g} could not be drawn")


def _check_sum(n: int, total: float) -> None:
    if n < 1 or not (math.isfinite(total) and total > 0):
        raise ValueError(f"expected at least one value and a finite sum above 0; found n = {n}, sum {total}")


# Periods and task sets ------------------------------------------------------------------------------------------------


def log_uniform_periods(n: int, low: int, high: int, rng: Generator, granularity: int = 1) -> NDArray[np.int64]:
    """`n` periods from `low` to `high`, multiples of `granularity`, whose logarithms are uniform: int64 `[n]`.

    floor(e^r / g) * g with r uniform in [ln low, ln(high + g)) (Emberson, Stafford and Davis, WATERS 2010, section 4). Raises
    ValueError unless 0 < granularity <= low <= high, all multiples of the granularity.
    """
    if n < 1 or not 0 < granularity <= low <= high or low % granularity or high % granularity:
        raise ValueError(f"expected multiples of the granularity with 0 < granularity <= low <= high; found low {low}, high {high}, "
                         f"granularity {granularity}, for {n} periods")
    exponents = rng.uniform(math.log(low), math.log(high + granularity), n)
    steps = (np.exp(exponents) / granularity).astype(np.int64)
    return np.asarray(np.clip(steps, low // granularity, high // granularity) * granularity)


def task_set(n: int, utilisation: float, rng: Generator, *, periods: tuple[int, int] = (10 * MS, 100 * MS), granularity: int = MS,
             deadlines: tuple[float, float] = (1.0, 1.0), jitters: tuple[float, float] = (0.0, 0.0), limit: float = 1.0,
             method: str = "uunifast", accept: Callable[[list[Task]], bool] | None = None, tries: int = 1000) -> list[Task]:
    """`n` tasks of integers (C, T, D, J) with sum C / T as close to `utilisation` as whole costs allow from below.

    Periods are log-uniform in `periods`. D = C + d (T - C) with d uniform in `deadlines` (1: implicit; within 0..1: constrained;
    above 1: D may exceed T), J = j (D - C) with j uniform in `jitters` (within 0..1). No task has more than `limit` of the
    utilisation; `method` draws the shares: "uunifast" (discarding where the limit is broken) or "convolutionalfixedsum".
    C = max(1, floor(u T)): choose a unit of time that makes periods large (the default is nanoseconds).
    `accept`: sets for which it is False are drawn again (up to `tries` times): the rest is then uniform among those it accepts.
    Always 1 <= C <= D - J and J >= 0. Raises ValueError for arguments out of range, or where nothing was accepted.
    """
    if method not in ("uunifast", "convolutionalfixedsum"):
        raise ValueError(f"method: found {method!r}, expected 'uunifast' or 'convolutionalfixedsum'")
    if not 0 < limit <= 1:
        raise ValueError(f"limit: found {limit:g}, expected above 0, at most 1")
    for name, (low, high), most in (("deadlines", deadlines, math.inf), ("jitters", jitters, 1.0)):
        if not 0 <= low <= high <= most or not math.isfinite(high):
            raise ValueError(f"{name}: found {low:g} to {high:g}, expected two rising shares from 0" + (" to 1" if most == 1 else ""))
    for _ in range(max(1, tries) if accept is not None else 1):
        if method == "uunifast":
            shares = uunifast_discard(n, utilisation, limit, rng)
        else:
            shares = convolutionalfixedsum(n, utilisation, rng, 0.0, min(limit, utilisation))
        lengths = log_uniform_periods(n, *periods, rng, granularity)
        where, late = rng.uniform(*deadlines, n), rng.uniform(*jitters, n)
        tasks = []
        for u, period, d, j in zip(shares.tolist(), lengths.tolist(), where.tolist(), late.tolist()):
            cost = min(period, max(1, math.floor(u * period)))
            deadline = cost + math.floor(d * (period - cost))
            tasks.append(Task(cost, period, deadline, math.floor(j * (deadline - cost))))
        if accept is None or accept(tasks):
            return tasks
    raise ValueError(f"none of {tries} sets of {n} tasks with utilisation {utilisation:g} was accepted; ask for less")


# Scenarios ------------------------------------------------------------------------------------------------------------


def scenario_of(tasks: Sequence[Task], load: float, seed: int, *, name: str = "generated", cpus: int = 1,
                accuracy: Sequence[float] = (0.86, 0.91, 0.94), limit: float = 1.0, sigma: float = 0.25, fastest: float = 1.0,
                guard_ns: int = 0, unit_ns: int = 1) -> Scenario:
    """A scenario whose streams have these tasks as mandatory parts on one `fpga`, and optional stages on `cpus` CPUs.

    `accuracy` has one number a depth, so one optional stage fewer than numbers; outcomes and rewards are made up and calibrated
    (`scenario.synthetic_outcomes`), with validation pictures. The optional work of a frame, all stages to the end, takes o_i of
    CPU in the mean with sum o_i / T_i = load * cpus, shared by UUniFast-Discard so that o_i <= limit * T_i, and within a frame by
    UUniFast; its times are lognormal with `sigma`, cut at 3 times the median. Mandatory stages take C, or uniformly from
    `fastest` * C to C. Phases are random. `unit_ns`: length of the tasks' unit of time. Raises ValueError for what does not fit.
    """
    if not tasks or cpus < 1 or unit_ns < 1 or not 0 < fastest <= 1 or not (math.isfinite(load) and load > 0) or not 0 <= sigma <= 3:
        raise ValueError(f"expected tasks, load > 0, cpus >= 1, 0 < fastest <= 1, 0 <= sigma <= 3 and unit_ns >= 1; found {len(tasks)} "
                         f"tasks, load {load:g}, cpus {cpus}, fastest {fastest:g}, sigma {sigma:g}, unit_ns {unit_ns}")
    levels = tuple(float(a) for a in accuracy)
    if len(levels) < 2 or list(levels) != sorted(levels) or not 0.05 <= levels[0] <= levels[-1] < 1:
        raise ValueError(f"accuracy: found {list(levels)}, expected at least two rising numbers from 0.05 to below 1")
    rng = np.random.default_rng([seed, 1])
    shares = uunifast_discard(len(tasks), load * cpus, limit, rng)
    outcomes, validation = (synthetic_outcomes(levels, PICTURES, f"{name}/{seed}", which) for which in (0, 1))
    reward = synthetic_reward(levels)
    width, sources = len(str(len(tasks) - 1)), []
    for i, (task, share) in enumerate(zip(tasks, shares.tolist())):
        label = f"task{i:0{width}d}"
        cost_ns, period_ns, deadline_ns, jitter_ns = (int(v) * unit_ns for v in task[:4])
        deadline_ns = deadline_ns or period_ns
        if guard_ns >= deadline_ns:
            raise ValueError(f"the guard ({guard_ns} ns) leaves nothing of the deadline of task {i} ({deadline_ns} ns)")
        first: DurationModel = Constant(cost_ns)
        if fastest < 1:
            first = Quantiles((0.0, 1.0), (max(1, math.floor(fastest * cost_ns)), cost_ns))
        stages = [Stage(f"{label}/mandatory", "fpga", True, cost_ns, typical_ns(first))]
        models = [first]
        for k, part in enumerate(uunifast(len(levels) - 1, share * period_ns, rng).tolist(), 1):
            median_ns = max(1, round(part / math.exp(sigma**2 / 2)))
            model = Lognormal(median_ns, sigma, CUT * median_ns) if sigma else Constant(median_ns)
            stages.append(Stage(f"{label}/optional{k}", "cpu", False, model.worst_ns, typical_ns(model)))
            models.append(model)
        stream = Stream(label, period_ns, deadline_ns, tuple(stages), jitter_ns, 1.0, reward)
        sources.append(Source(stream, Periodic(period_ns, -1, jitter_ns), Workload(stream.stages, tuple(models), reward, outcomes,
                                                                                   validation)))
    return Scenario(name, tuple(sources), {"fpga": 1, "cpu": cpus}, guard_ns, load=load)

"""How often the intervals of `imprecise.statistics` hold the truth. Prints tables; tests/sim/test_statistics_coverage.py asserts.

    python tests/bench/coverage.py [--replications 1000] [--seed 1] [--jobs 2] [--only misses|pairs|quantiles|zero|simulator]

Each row is a world of which the truth is known, and each replication a run of it with a seed of its own. "Holds" is the share of
runs whose nominal 95 % interval holds the truth, with the standard error of that share; "below" and "above" say on which side the
truth lay. "Bursts" is how many a run has on average: where they are few, many runs see none, and no interval can know of them
(see "no miss"). Wilson's interval of independent frames stands beside it.

Worlds: `misses` are 0/1 Markov chains; `pairs` are differences of two policies under a load that comes in bursts; `quantiles` are
response times that are correlated and grow under such a load; `zero` asks about runs that show no miss; `simulator` are misses,
differences and quantiles of the real simulator, the truth from long runs in streaming mode.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import exp, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("scheduler", "sw")]

from imprecise import scenario, simulator, statistics  # noqa: E402

Random = np.random.Generator


def chain(random: Random, n: int, ratio: float, burst: float) -> np.ndarray:
    """A stationary two-state Markov chain, int8 [n]: a share `ratio` of ones, in runs of `burst` on average."""
    calm = burst * (1 - ratio) / ratio
    if calm < 1:
        raise ValueError(f"a ratio of {ratio} in bursts of {burst} leaves less than a frame between them")
    bad = bool(random.random() < ratio)
    parts, total = [], 0
    while total < n:
        count = int(n / (burst + calm)) + 16
        lengths = np.empty(2 * count, dtype=np.int64)
        lengths[0::2] = random.geometric(1 / burst if bad else 1 / calm, count)
        lengths[1::2] = random.geometric(1 / calm if bad else 1 / burst, count)
        parts.append(lengths)
        total += int(lengths.sum())
    lengths = np.concatenate(parts)
    states = (np.arange(lengths.size) % 2 == (0 if bad else 1)).astype(np.int8)
    return np.repeat(states, lengths)[:n]


class Row(NamedTuple):
    """One world and what was counted."""

    name: str
    bursts: float
    runs: int
    holds: int
    below: int  # the interval lay above the truth
    above: int
    plain: int  # of those that take frames as independent
    nothing: int  # runs without a miss (or a difference)
    holds_seen: int  # of the other runs
    width: float  # median, in units of the truth where that is not 0

    @property
    def share(self) -> float:
        """Of the runs whose interval holds the truth."""
        return self.holds / self.runs


class Count:
    """Adds up intervals of one world."""

    def __init__(self, name: str, truth: float, bursts: float = float("nan")):
        self.name, self.truth, self.bursts = name, truth, bursts
        self.seen: list[tuple[bool, bool, bool, bool, float]] = []

    def add(self, low: float, high: float, plain: tuple[float, float], nothing: bool = False) -> None:
        """One run's interval, and the plain one."""
        self.seen.append((low > self.truth, high < self.truth, plain[0] <= self.truth <= plain[1], nothing, high - low))

    def row(self) -> Row:
        """The counts."""
        too_high, too_low, plain, nothing, width = (np.array(column) for column in zip(*self.seen))
        good = ~too_high & ~too_low
        return Row(self.name, self.bursts, good.size, int(good.sum()), int(too_high.sum()), int(too_low.sum()), int(plain.sum()),
                   int(nothing.sum()), int((good & ~nothing).sum()), float(np.median(width) / (abs(self.truth) or 1)))


def independent(d: np.ndarray) -> tuple[float, float]:
    """The normal interval of a mean of independent values."""
    half = 1.96 * float(d.std()) / sqrt(d.size)
    return float(d.mean()) - half, float(d.mean()) + half


# Worlds ---------------------------------------------------------------------------------------------------------------


def misses(n: int, ratio: float, burst: float, runs: int, seed: int) -> Row:
    """The miss ratio of a Markov chain."""
    random = np.random.default_rng([seed, n, int(1e6 * ratio), int(burst)])
    count = Count(f"n {n}, ratio {100 * ratio:g} %, bursts of {burst:g}", ratio, n * ratio / burst)
    for _ in range(runs):
        x = chain(random, n, ratio, burst)
        found, plain = statistics.miss_ratio_interval(x), statistics.wilson(int(x.sum()), n)
        count.add(found.low, found.high, (plain.low, plain.high), not x.any())
    return count.row()


KINDS = ("right or wrong", "gain under load", "miss or not", "both signs")


def pairs(kind: str, n: int, ratio: float, burst: float, runs: int, seed: int) -> Row:
    """The mean difference of two policies on the same frames, the load a Markov chain."""
    random = np.random.default_rng([seed, n, int(1e6 * ratio), int(burst), KINDS.index(kind)])
    truth = {"right or wrong": 0.02 - 0.1 * ratio, "gain under load": 0.25 * ratio, "miss or not": ratio, "both signs": 0.25 * ratio}[kind]
    count = Count(f"{kind}: n {n}, load {100 * ratio:g} %, bursts of {burst:g}", truth, n * ratio / burst)
    for _ in range(runs):
        load = chain(random, n, ratio, burst)
        b = np.zeros(n)
        if kind == "right or wrong":
            a, b = 1.0 * (random.random(n) < 0.9 - 0.3 * load), 1.0 * (random.random(n) < 0.88 - 0.2 * load)
        elif kind == "gain under load":
            a, b = load * (0.2 + 0.1 * random.random(n)) + 0.9, 0.9 + 0.02 * random.standard_normal(n)
        elif kind == "miss or not":
            a = 1.0 * load
        else:
            a, b = load * (0.5 + 0.5 * random.random(n)), chain(random, n, ratio, burst) * random.random(n)
        found = statistics.paired_difference(a, b).interval
        count.add(found.low, found.high, independent(a - b), not load.any())
    return count.row()


def quantiles(q: float, n: int, ratio: float, burst: float, runs: int, seed: int) -> Row:
    """A quantile of lognormal times with autocorrelation 0.8, three times as long under a load that is a Markov chain."""
    random = np.random.default_rng([seed, n, int(1e6 * ratio), int(burst), int(1e4 * q)])
    sigma, slow, keep, normal = 0.3, 3.0, 0.8, NormalDist()
    low, high = -10.0, 10.0  # of the logarithm
    for _ in range(100):
        middle = (low + high) / 2
        below = (1 - ratio) * normal.cdf(middle / sigma) + ratio * normal.cdf((middle - np.log(slow)) / sigma)
        low, high = (middle, high) if below < q else (low, middle)
    count = Count(f"p{100 * q:g}: n {n}, load {100 * ratio:g} %, bursts of {burst:g}", exp(low), n * ratio / burst)
    weights = keep ** np.arange(60)
    weights /= sqrt(float(np.square(weights).sum()))
    for _ in range(runs):
        z = np.convolve(random.standard_normal(n + 59), weights, "valid")
        load = chain(random, n, ratio, burst)
        x = np.exp(sigma * z) * np.where(load, slow, 1.0)
        found, plain = statistics.quantile_interval(x, q, block=None), statistics.quantile_interval(x, q)
        count.add(found.low, found.high, (plain.low, plain.high), not load.any())
    return count.row()


class Zero(NamedTuple):
    """Runs without a miss and their one-sided 95 % bound on blocks: with a fixed truth, and with the truth drawn at random."""

    name: str
    bound: float
    worst: float  # over truths: P(no miss, and the truth above the bound)
    at: float  # the truth where it was
    given: float  # P(the truth at most the bound | no miss), the truth uniform
    runs: int


def zero(n: int, burst: float, block: int, runs: int, seed: int) -> Zero:
    """What the zero-miss bound on n / block blocks does where bursts last `burst` frames on average."""
    random = np.random.default_rng([seed, n, int(burst), block])
    bound = statistics.zero_miss_bound(n // block)
    worst, at = 0.0, 0.0
    for factor in (1.0001, 1.1, 1.3, 1.6, 2.0):  # truths above the bound, the worst is near it
        wrong = sum(not chain(random, n, min(0.5, factor * bound), burst).any() for _ in range(runs)) / runs
        if wrong > worst:
            worst, at = wrong, factor * bound
    truths = np.sort(random.uniform(0, min(0.5, 8 * bound), 8 * runs))
    clean = [float(truth) for truth in truths if truth == 0 or not chain(random, n, float(truth), burst).any()]
    return Zero(f"n {n}, blocks of {block}, bursts of {burst:g}", bound, worst, at, sum(x <= bound for x in clean) / len(clean), runs)


# The simulator --------------------------------------------------------------------------------------------------------


def queue(load: float) -> scenario.Scenario:
    """Two cameras whose frames come at random (sporadic) on one CPU, so that queues, and misses, come in bursts."""
    gap_ms = 2 * 8.5 / load
    stage = {"resource": "cpu"}
    camera = {"min_gap": "2ms", "mean_gap": f"{gap_ms:.3f}ms", "deadline": "50ms",
              "stage": [{**stage, "name": "first", "mandatory": True, "time": {"median": "3ms", "sigma": 0.3, "max": "8ms"}},
                        {**stage, "name": "second", "time": {"median": "5ms", "sigma": 0.3, "max": "20ms"}}],
              "outcomes": {"accuracy": [0.86, 0.92], "n": 2000}}
    data = {"resources": {"cpu": 1}, "stream": [{**camera, "name": name} for name in ("left", "right")]}
    return scenario.parse(data, Path("queue.toml"))


def overload() -> scenario.Scenario:
    """The shipped `made-up`, its cameras' phases fixed: drawn for each seed they make each run a world of its own."""
    made = scenario.load("made-up")
    count = len(made.sources)
    sources = [replace(source, arrivals=replace(source.arrivals, offset_ns=i * source.arrivals.period_ns // count))
               for i, source in enumerate(made.sources)]
    return replace(made, sources=type(made.sources)(sources))


WORLDS: dict[str, Callable[[], scenario.Scenario]] = {
    "queue, load 0.8": lambda: queue(0.8), "queue, load 0.9": lambda: queue(0.9), "queue, load 1": lambda: queue(1.0),
    "made-up, load 1.5": overload}
LONG, WARM = 300_000, 1000  # frames of the long run; frames left out at the start of the others, whose queues begin empty


def simulated(world: str, runs: int, seed: int, sizes: tuple[int, ...] = (600, 3000), long: int = LONG) -> list[Row]:
    """Misses of `monolithic`, the utility that `fifo-gated` gains on it, and its median response, in the real simulator.

    An interval made within a run speaks of that run's phases only. The shorter runs are the first frames of the longest,
    after `WARM`. The response's truth comes from a histogram of 1.6 % wide buckets.
    """
    made = WORLDS[world]()
    truth = [simulator.simulate(made, policy, seed + 1000, long, rows=False) for policy in ("monolithic", "fifo-gated")]
    counts = {}
    for n in sizes:
        counts[n] = [Count(f"{world}: n {n}, misses of monolithic", truth[0].missed / truth[0].captured),
                     Count(f"{world}: n {n}, utility gained by fifo-gated", truth[1].utility - truth[0].utility),
                     Count(f"{world}: n {n}, median response of monolithic", truth[0].latency_ns(0.5))]
    bursts: dict[int, list[int]] = {n: [] for n in sizes}
    for i in range(runs):
        rows = [simulator.simulate(made, policy, seed + 2000 + i, WARM + max(sizes)).frames for policy in ("monolithic", "fifo-gated")]
        for n in sizes:
            frames, other = rows[0][WARM : WARM + n], rows[1][WARM : WARM + n]
            x = (frames["status"] == 1).astype(np.int8)
            bursts[n].append(statistics.miss_runs(x).size)
            found, plain = statistics.miss_ratio_interval(x), statistics.wilson(int(x.sum()), n)
            counts[n][0].add(found.low, found.high, (plain.low, plain.high), not x.any())
            found = statistics.paired_difference(other["utility"], frames["utility"]).interval
            counts[n][1].add(found.low, found.high, independent(other["utility"] - frames["utility"]), not x.any())
            times = np.where(x == 1, np.inf, (frames["published_ns"] - frames["release_ns"]).astype(np.float64))
            found, plain = statistics.quantile_interval(times, 0.5, block=None), statistics.quantile_interval(times, 0.5)
            counts[n][2].add(found.low / 1.008, found.high * 1.008, (plain.low / 1.008, plain.high * 1.008), not x.any())
    for n in sizes:
        for count in counts[n]:
            count.bursts = float(np.mean(bursts[n]))
    return [count.row() for n in sizes for count in counts[n]]


# Tables ---------------------------------------------------------------------------------------------------------------


def grid(runs: int, seed: int, only: str) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """(table, function, arguments) of every world."""
    sizes = ((600, runs), (3000, runs), (20_000, max(1, runs // 2)))
    cells = [(n, ratio, burst, some) for n, some in sizes for ratio in (0.005, 0.02, 0.1, 0.5) for burst in (2, 10, 30, 100)
             if burst * (1 - ratio) >= ratio]
    for n, ratio, burst, some in cells:
        if only in ("", "misses"):
            yield "misses", misses, (n, ratio, burst, some, seed)
    for kind in KINDS:
        for n, ratio, burst, some in cells:
            if only in ("", "pairs") and n < 20_000 and ratio > 0.005 and n * ratio >= 2 * burst:
                yield "pairs", pairs, (kind, n, ratio, burst, some, seed)
    for q in (0.5, 0.9, 0.99):
        for n, ratio, burst, some in cells:
            if only in ("", "quantiles") and n < 20_000 and ratio in (0.02, 0.1) and burst in (10, 30) and n * ratio >= 2 * burst:
                yield "quantiles", quantiles, (q, n, ratio, burst, some, seed)
    for n, block in ((600, 9), (3000, 15), (20_000, 28), (3000, 45)):
        for burst in (1.2, 5, block, 3 * block):
            if only in ("", "zero"):
                yield "zero", zero, (n, burst, block, runs, seed)
    for world in WORLDS:
        if only in ("", "simulator"):
            yield "simulator", simulated, (world, max(1, runs // 4), seed)


def _call(work: tuple[str, Callable[..., Any], tuple[Any, ...]]) -> tuple[str, list[Any]]:
    table, function, arguments = work
    found = function(*arguments)
    return table, found if isinstance(found, list) else [found]


def line(row: Row) -> str:
    """One row in fixed columns."""
    seen = row.runs - row.nothing
    given = f"{100 * row.holds_seen / seen:6.1f}" if seen else "     -"
    error = 100 * sqrt(max(row.share * (1 - row.share), 0.25 / row.runs) / row.runs)
    below, above, nothing, plain = (100 * part / row.runs for part in (row.below, row.above, row.nothing, row.plain))
    return (f"{row.name:66} {row.bursts:7.1f} {row.runs:5} {100 * row.share:6.1f} +- {error:3.1f} {below:6.1f} {above:6.1f} "
            f"{nothing:7.1f} {given} {row.width:8.2f} {plain:7.1f}")


HEAD = (f"{'world':66} {'bursts':>7} {'runs':>5} {'holds %':>13} {'below':>6} {'above':>6} {'no miss':>7} {'seen':>6} "
        f"{'width':>8} {'plain':>7}")


def main() -> None:
    """Run the chosen worlds and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", choices=("misses", "pairs", "quantiles", "zero", "simulator"), default="")
    given = parser.parse_args()
    start, last, rows = time.perf_counter(), "", []
    print(f"replications {given.replications}, seed {given.seed}, nominal 95 %\n")
    print("holds: % of runs whose interval holds the truth; below, above: % where the truth lay below, above it; no miss: % of runs that\n"
          "showed none; seen: holds among the others; width: median, in truths; plain: holds where frames are taken as independent")
    with multiprocessing.Pool(given.jobs) as pool:
        for table, found in pool.imap(_call, grid(given.replications, given.seed, given.only)):
            if table != last:
                print(f"\n{table}\n{HEAD if table != 'zero' else ''}")
                last = table
            for row in found:
                if isinstance(row, Zero):
                    print(f"{row.name:40} bound {100 * row.bound:7.3f} %   P(no miss, truth above) at most {100 * row.worst:5.1f} % "
                          f"(at {100 * row.at:.3g} %)   P(truth within | no miss), uniform: {100 * row.given:5.1f} %", flush=True)
                else:
                    print(line(row), flush=True)
                    rows.append((table, row))
    for table in dict.fromkeys(table for table, _ in rows):
        many = [row for found, row in rows if found == table and not row.bursts < 6]
        if many:
            shares, plain = [100 * row.share for row in many], [100 * row.plain / row.runs for row in many]
            print(f"\n{table}, the {len(many)} worlds with 6 bursts or more a run: holds {min(shares):.1f} to {max(shares):.1f} %, mean "
                  f"{np.mean(shares):.1f} %; frames taken as independent: {min(plain):.1f} to {max(plain):.1f} %")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

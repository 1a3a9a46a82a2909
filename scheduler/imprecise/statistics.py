"""What may be concluded from a run: intervals and tests that hold for bursts, for pairs and for zero misses.

Frames of one run are not independent: misses come in bursts, and two policies see the same frames. So the unit here is the
**block**: consecutive frames, across all streams (give the values in order of release, or an array [time slot, stream]).
A block is taken longer than the bursts; then blocks are nearly independent. Where misses are few or none an exact binomial
bound on blocks speaks, because a bootstrap of zeros says [0, 0].
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, log10, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .binomial import (
    Interval,
    betainc,
    binomial_cdf,
    clopper_pearson,
    frames_needed,
    t_quantile,
    wilson,
    zero_miss_bound,
)

__all__ = ["Difference", "EarlyStopping", "Interval", "block_bootstrap", "block_length", "clopper_pearson", "early_stopping",
           "equivalence", "frames_needed", "mcnemar", "miss_ratio_interval", "miss_runs", "mk_violations",
           "paired_difference", "quantile_interval", "regret", "wilson", "zero_miss_bound"]

Array = NDArray[Any]
Seed = int | np.random.Generator


class Difference(NamedTuple):
    """A minus B with its interval, and the verdict in words."""

    interval: Interval
    verdict: str


class EarlyStopping(NamedTuple):
    """Whether so many frames suffice, and how many frames in time would (given the misses so far)."""

    passes: bool
    needed_in_time: int


# Blocks ---------------------------------------------------------------------------------------------------------------


def _slots(values: Any, what: str = "values") -> Array:
    """One number a time slot: the mean over streams where the array has two axes."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 2 and x.shape[1]:
        x = x.mean(axis=1)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"{what}: an array [frames] or [slots, streams] with at least one entry; found shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{what} must be finite")
    return x


def block_length(values: Any) -> int:
    """The block length that suits a series, from its autocorrelation, between 1 and n / 10 (but 1 where n < 20).

    The automatic choice of Politis and White (2004, corrected by Patton, Politis and White, 2009) for circular blocks, the
    optimal one for the variance of a mean: (2 G^2 / D)^(1/3) n^(1/3) with a flat-top lag window. Where the series is constant
    there is nothing to learn from: ceil(n^(1/3)), its rate of growth (Kuensch, 1989).
    """
    x = _slots(values)
    n = int(x.size)
    most = max(1, n // 10) if n >= 20 else 1
    x = x - x.mean()
    if not x.any():
        return int(min(most, ceil(float(n) ** (1 / 3))))
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), size)[:n] / n
    correlation = covariance / covariance[0]
    run = max(5, ceil(sqrt(log10(n)))) if n > 1 else 1
    limit = 2 * sqrt(log10(n) / n) if n > 1 else 1.0
    quiet = np.abs(correlation[1:]) < limit
    last = next((k for k in range(int(quiet.size) - run + 1) if quiet[k : k + run].all()), int(quiet.size))
    width = max(1, min(2 * max(1, last), n - 1))  # lags of the flat-top window
    lags = np.arange(1, width + 1)
    window = np.minimum(1.0, 2 * (1 - lags / width))
    weighted = window * covariance[lags] if n > width else np.zeros(width)
    g = 2 * float((lags * weighted).sum())
    d = 4 / 3 * (covariance[0] + 2 * float(weighted.sum())) ** 2
    if d <= 0:
        return most
    return int(min(most, max(1, ceil((2 * g * g / d) ** (1 / 3) * n ** (1 / 3)))))


def _default_block(x: Array) -> int:
    """Three times `block_length` (what a variance between blocks lacks falls as 1 / length), at least ten blocks if 20 slots."""
    length = block_length(x)
    return length if x.max() == x.min() else min(max(1, x.size // 10), 3 * length)


def _block_means(x: Array, block: int) -> Array:
    """Means of all circular blocks, one a starting point."""
    total = np.concatenate(([0.0], np.cumsum(np.concatenate((x, x[: block - 1])))))
    means: Array = (total[block:] - total[:-block]) / block
    return means


def block_bootstrap(values: Any, statistic: Callable[[Array], float] | None = None, block: int | None = None,
                    confidence: float = 0.95, resamples: int = 2000, seed: Seed = 0, span: float = 1.0) -> Interval:
    """A percentile interval from circular blocks drawn with replacement (Politis and Romano, 1992).

    Its ends are moved out by t / z and sqrt(blocks / (blocks - 1)), since few blocks know their spread badly (Hesterberg, 2015).
    `values`: in time order, [frames], or [slots, streams], or [slots, columns] given to `statistic` as they are (default: the
    mean of all). `block`: its length in slots (default: three times `block_length` of the slot means, so that they
    are nearly independent, and at least ten blocks where there are twenty slots). `seed`: a number or a Generator.
    Where all values are equal the bootstrap knows nothing; then the answer is the exact bound on independent blocks: another
    value may come in at most a share `zero_miss_bound(n / block)` of the slots, and move a mean by that times `span` (the
    largest possible change of one value). That fall-back needs `statistic` None and raises ValueError otherwise.
    """
    raw = np.asarray(values, dtype=np.float64)
    x = _slots(raw)
    n = x.size
    block = min(n, _default_block(x) if block is None else block)
    if block < 1 or resamples < 100:
        raise ValueError("a block has at least one frame, and a bootstrap at least 100 resamples")
    if raw.max() == raw.min():
        if statistic is not None:
            raise ValueError("all values are equal: a bootstrap of them says nothing")
        high = zero_miss_bound(max(1, n // block), confidence) * span
        value = float(raw.flat[0])
        low_end = value if value == 0 and span == 1 and (raw >= 0).all() else value - high
        return Interval(value, low_end, value + high, confidence, f"exact bound on {max(1, n // block)} blocks of {block}")
    random = np.random.default_rng(seed) if isinstance(seed, int) else seed
    count = ceil(n / block)
    drawn = np.empty(resamples)
    if statistic is None:
        means = _block_means(x, block)
        for i in range(resamples):
            drawn[i] = means[random.integers(0, n, count)].mean()
        estimate = float(x.mean())
    else:
        offsets = np.arange(block)
        for i in range(resamples):
            starts = random.integers(0, n, count)
            drawn[i] = statistic(raw[((starts[:, None] + offsets) % n).ravel()[:n]])
        estimate = float(statistic(raw))
    tail = 50 * (1 - confidence)
    low, high = (float(v) for v in np.percentile(drawn, [tail, 100 - tail]))
    blocks = max(2, n // block)
    wide = t_quantile(0.5 + confidence / 2, blocks - 1) / t_quantile(0.5 + confidence / 2, inf) * sqrt(blocks / (blocks - 1))
    low, high = estimate - wide * (estimate - low), estimate + wide * (high - estimate)
    return Interval(estimate, low, high, confidence, f"block bootstrap, {blocks} blocks of {block}")


# Misses ---------------------------------------------------------------------------------------------------------------


def miss_ratio_interval(misses: Any, confidence: float = 0.95, block: int | None = None) -> Interval:
    """The miss ratio with an interval that holds for bursts and for zero misses.

    `misses`: 0 or 1 a frame, in order of release across all streams, or [slots, streams]. Korn and Graubard (1998): the exact
    Clopper-Pearson interval with an effective number of frames n* = p (1 - p) / Var(mean), the variance taken between blocks
    (never below that of independent frames), shrunk by (t_n / t_blocks)^2 since few blocks know their variance badly. Without
    a miss, and with misses only, n* is the number of blocks. The default block is three times `block_length`, with at least
    ten blocks where there are twenty slots; without a miss it is ceil(n^(1/3)): give one learnt from another series of the
    run, like response times, if there is one.
    """
    raw = np.asarray(misses)
    x = _slots(raw, "misses")
    if not ((raw == 0) | (raw == 1)).all():
        raise ValueError("a miss is 0 or 1")
    n, total = x.size, raw.size
    p = float(x.mean())
    block = _default_block(x) if block is None else block
    if not 1 <= block <= n:
        raise ValueError(f"a block has 1 to {n} slots; found {block}")
    blocks = max(1, n // block)
    name = f"effective Clopper-Pearson, {blocks} blocks of {block}"
    if p in (0.0, 1.0):
        return clopper_pearson(p * blocks, blocks, confidence)._replace(method=name)
    if blocks < 2:
        return clopper_pearson(p, 1, confidence)._replace(method=name)
    means = _block_means(x, block)
    variance = float(((means - p) ** 2).mean()) * block / n * blocks / (blocks - 1)
    effective = min(float(total), p * (1 - p) / variance) if variance > 0 else float(total)
    tail = 0.5 + confidence / 2
    effective *= min(1.0, (t_quantile(tail, max(1, total - 1)) / t_quantile(tail, blocks - 1)) ** 2)
    effective = max(effective, 1.0)
    return clopper_pearson(p * effective, effective, confidence)._replace(estimate=p, method=name)


def miss_runs(misses: Any) -> Array:
    """Lengths of the runs of consecutive misses, in time order (int64, empty without a miss), for one stream."""
    x = np.concatenate(([0], (np.asarray(misses) != 0).astype(np.int8), [0]))
    edges = np.diff(x)
    lengths: Array = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return lengths


def mk_violations(misses: Any, m: int, k: int) -> int:
    """Windows of `k` consecutive frames of one stream with fewer than `m` in time.

    The (m,k)-firm constraint of Hamdaoui and Ramanathan (1995): at least m of any k consecutive deadlines are met. Raises
    ValueError unless 1 <= m <= k.
    """
    if not 1 <= m <= k:
        raise ValueError(f"(m,k) needs 1 <= m <= k; found ({m},{k})")
    total = np.concatenate(([0], np.cumsum(np.asarray(misses) != 0)))
    if total.size <= k:
        return 0
    return int(((total[k:] - total[:-k]) > k - m).sum())


def early_stopping(n: int, misses: int, percentile: float, confidence: float = 0.99, tolerance: float = 0.0) -> EarlyStopping:
    """Whether `n` frames with `misses` show that at least `percentile` of all frames are in time (MLPerf LoadGen's rule).

    Passes where P(at most `misses` of n late | a frame is in time with probability percentile - tolerance) <= 1 - confidence
    (MLPerf inference rules, "early stopping"; loadgen/early_stopping.cc: odds(h, t, p, d) = I_{p-d}(h, t + 1)). Frames are
    taken as independent, as there. Raises ValueError for impossible arguments.
    """
    q = percentile - tolerance
    if not 0 <= misses <= n or not 0 < q < 1 or not 0 < confidence < 1:
        raise ValueError(f"found {misses} misses of {n}, percentile {percentile}, tolerance {tolerance}, confidence {confidence}")

    def enough(in_time: int) -> bool:
        return in_time > 0 and betainc(in_time, misses + 1, q) <= 1 - confidence

    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return EarlyStopping(n - misses >= high, high)


def quantile_interval(values: Any, q: float, confidence: float = 0.95, block: int = 1) -> Interval:
    """A quantile with a distribution-free interval from order statistics.

    Ranks l < u with P(l <= Binomial(n, q) < u) >= confidence, each tail at most (1 - confidence) / 2 (David and Nagaraja,
    Order Statistics, 7.1). An end that no order statistic reaches is -inf or inf: too few values. With `block` > 1 the ranks
    are those of n / block independent values, stretched to n. Values are in any unit.
    """
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not 0 < q < 1 or not 0 < confidence < 1 or not x.size or not 1 <= block <= x.size:
        raise ValueError(f"found {x.size} values, q {q}, confidence {confidence}, block {block}")
    n = x.size // block
    tail = (1 - confidence) / 2
    lower = _largest_rank(n, q, tail)  # P(B < lower) = P(B <= lower - 1) <= tail
    upper = n + 1 - _largest_rank(n, 1 - q, tail)  # P(B >= upper) <= tail
    low = -np.inf if lower == 0 else x[(lower - 1) * x.size // n]
    high = np.inf if upper == n + 1 else x[ceil(upper * x.size / n) - 1]
    estimate = x[min(x.size - 1, max(0, ceil(q * x.size) - 1))]
    return Interval(float(estimate), float(low), float(high), confidence, "order statistics")


def _largest_rank(n: int, q: float, tail: float) -> int:
    """The largest r <= n with P(Binomial(n, q) <= r - 1) <= tail (0: none)."""
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_cdf(middle - 1, n, q) <= tail else (low, middle)
    return low


# Two policies on the same frames --------------------------------------------------------------------------------------


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): `only_a` frames were missed (or wrong) under A alone, `only_b` under B.

    min(1, 2 P(Binomial(only_a + only_b, 1/2) <= the smaller)). Frames are taken as independent pairs. 1.0 where both are 0.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError("counts are not negative")
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * binomial_cdf(min(only_a, only_b), n, 0.5))


def _difference(a: Any, b: Any, block: int | None, confidence: float, resamples: int, seed: Seed, span: float) -> Interval:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"pairs need the same frames on both sides: found shapes {x.shape} and {y.shape}")
    d = x - y
    interval = block_bootstrap(d, None, block, confidence, resamples, seed, span)
    if interval.method.startswith("exact") and interval.estimate == 0:
        return interval._replace(low=-interval.high)
    return interval


def paired_difference(a: Any, b: Any, block: int | None = None, confidence: float = 0.95, resamples: int = 2000,
                      seed: Seed = 0, span: float = 1.0) -> Difference:
    """The mean of `a - b` on the same frames, with a block-bootstrap interval and a verdict.

    `a`, `b`: per frame, in time order, [frames] or [slots, streams], any unit (utility, miss, correct). `span` is the largest
    possible difference of one frame (1 for 0..1 values); it is used where all frames agree. The verdict is "a is higher", "b
    is higher" or "no difference shown": the last does not say that they are equal, `equivalence` does.
    """
    interval = _difference(a, b, block, confidence, resamples, seed, span)
    verdict = "a is higher" if interval.low > 0 else "b is higher" if interval.high < 0 else "no difference shown"
    return Difference(interval, verdict)


def equivalence(a: Any, b: Any, margin: float, block: int | None = None, confidence: float = 0.95, resamples: int = 2000,
                seed: Seed = 0, span: float = 1.0) -> Difference:
    """Whether A and B differ by less than `margin`, which is stated before looking.

    Two one-sided tests (Schuirmann, 1987): equivalent at level 1 - confidence where the interval of a - b at 2 confidence - 1
    lies within (-margin, margin). The verdict is "equivalent", "different" (the interval lies outside) or "not shown".
    """
    if margin <= 0 or not 0.5 < confidence < 1:
        raise ValueError("a margin is positive, and the confidence above 0.5")
    interval = _difference(a, b, block, 2 * confidence - 1, resamples, seed, span)
    if -margin < interval.low and interval.high < margin:
        return Difference(interval, "equivalent")
    if interval.low >= margin or interval.high <= -margin:
        return Difference(interval, "different")
    return Difference(interval, "not shown")


def regret(utility: float, bound: float, mandatory_only: float) -> float:
    """(U* - U) / (U* - U of mandatory only), on the same frames: 0 reaches the bound, 1 gains nothing.

    Raises ValueError where the bound is no better than mandatory only: there is nothing to lose.
    """
    if bound <= mandatory_only:
        raise ValueError(f"the bound ({bound}) is no better than mandatory only ({mandatory_only}): regret is undefined")
    return (bound - utility) / (bound - mandatory_only)

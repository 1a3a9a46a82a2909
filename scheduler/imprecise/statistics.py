"""What may be concluded from a run: intervals and tests that hold for bursts, for pairs and for zero misses.

Frames of one run are not independent: misses come in bursts, and two policies see the same frames. So the unit here is the
**block**: consecutive frames, across all streams (give the values in order of release, or an array [time slot, stream]).
A block is taken longer than the bursts; then blocks are nearly independent. Where misses are few or none an exact binomial
bound on blocks speaks, because a bootstrap of zeros says [0, 0].

How often these intervals hold the truth is measured by `tests/bench/coverage.py`. No interval can know bursts that its run did
not show: below about five bursts a run the miss ratio's is wide, and without a miss it holds for bursts of up to a block's
length, on average.
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
from .multiple import holm, replications_interval, sign_flip

__all__ = ["Difference", "EarlyStopping", "Interval", "block_bootstrap", "block_length", "clopper_pearson", "early_stopping",
           "equivalence", "frames_needed", "holm", "mcnemar", "mean_interval", "miss_ratio_interval", "miss_runs",
           "mk_frontier", "mk_violations", "paired_difference", "quantile_interval", "regret", "replications_interval",
           "sign_flip", "wilson", "zero_miss_bound"]

Array = NDArray[Any]
Seed = int | np.random.Generator
CHUNK = 1 << 20  # numbers drawn at once by a bootstrap


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


def _bootstrap_block(x: Array) -> int:
    """Three times `block_length` (what a variance between blocks lacks falls as 1 / length), at least ten blocks if 20 slots."""
    length = block_length(x)
    return length if x.max() == x.min() else min(max(1, x.size // 10), 3 * length)


def _blocks(x: Array, block: int | None) -> list[int]:
    """The block lengths that an interval looks at: the given one; or three times `block_length`, at least five blocks if 20 slots,
    and a twentieth of the run, in case noise hides a slow change.
    """
    n = x.size
    if block is not None:
        if not 1 <= block <= n:
            raise ValueError(f"a block has 1 to {n} slots; found {block}")
        return [block]
    length = min(3 * block_length(x), max(1, n // 5)) if n >= 20 else 1
    return [length, n // 20] if n // 20 > length else [length]


def _block_means(x: Array, block: int) -> Array:
    """Means of all circular blocks, one a starting point."""
    total = np.concatenate(([0.0], np.cumsum(np.concatenate((x, x[: block - 1])))))
    means: Array = (total[block:] - total[:-block]) / block
    return means


class _Spread(NamedTuple):
    """What blocks of one length say of the mean of a series: its variance, skewness, and what its variance is worth."""

    block: int
    variance: float
    skewness: float
    freedom: float


def _spread(x: Array, block: int) -> _Spread:
    """Var(mean) between overlapping circular blocks; they know it as well as 1.5 n / block apart ones (Kuensch, 1989)."""
    blocks = x.size / block
    if blocks < 2:
        return _Spread(block, inf, 0.0, 1.0)
    off = _block_means(x, block) - x.mean()
    second = float(np.square(off).mean())
    third = float((off * off * off).mean())
    skewness = third / second**1.5 / sqrt(blocks) if second > 0 else 0.0
    return _Spread(block, second / (blocks - 1), skewness, 1.5 * blocks - 1)


def _all_equal(value: float, n: int, block: int, confidence: float, span: float) -> Interval:
    """Where all values are equal: at most a share `zero_miss_bound` of the slots may differ, each by `span`."""
    blocks = max(1, n // block)
    high = zero_miss_bound(blocks, confidence) * span
    low = value if value == 0 and span == 1 else value - high
    return Interval(value, low, value + high, confidence, f"exact bound on {blocks} blocks of {block}")


def mean_interval(values: Any, confidence: float = 0.95, block: int | None = None, span: float = 1.0) -> Interval:
    """The mean of values of any unit, with an interval that holds for bursts and for skewed values.

    `values`: [frames] in time order, or [slots, streams]. The interval spans three: Student's t on the variance between blocks;
    the same with Hall's correction for skewness (1992, cubic transform); and t on blocks of a twentieth of the run, in case noise
    hides a slow change. `block`: its length in slots, then the third is left out (default: three times `block_length`, at least
    five blocks). Where all values are equal, as `block_bootstrap`. Raises ValueError for an empty series, or a block not in it.
    """
    x = _slots(values)
    lengths = _blocks(x, block)
    raw = np.asarray(values)
    value = float(x.mean())
    if raw.max() == raw.min():
        return _all_equal(float(raw.flat[0]), x.size, block_length(x) if block is None else block, confidence, span)
    low, high = value, value
    for i, length in enumerate(lengths):
        found = _spread(x, length)
        t = t_quantile(0.5 + confidence / 2, found.freedom)
        error = sqrt(found.variance)
        ends = [-t, t] if i else [-t, t, _hall(-t, found.skewness), _hall(t, found.skewness)]
        low, high = min(low, *(value - error * end for end in ends)), max(high, *(value - error * end for end in ends))
    return Interval(value, low, high, confidence, f"skew-corrected t, {max(1, x.size // lengths[0])} blocks of {lengths[0]}")


def _hall(t: float, skewness: float) -> float:
    """The inverse of Hall's transform t + s t^2 / 3 + s^2 t^3 / 27 + s / 6 of a studentised mean with skewness s."""
    if abs(skewness) < 1e-6:
        return t
    return 3 / skewness * float(np.cbrt(1 + skewness * (t - skewness / 6)) - 1)


def block_bootstrap(values: Any, statistic: Callable[[Array], float] | None = None, block: int | None = None,
                    confidence: float = 0.95, resamples: int = 2000, seed: Seed = 0, span: float = 1.0) -> Interval:
    """A percentile interval of any statistic from circular blocks drawn with replacement (Politis and Romano, 1992).

    Its ends are moved out by t / z and sqrt(blocks / (blocks - 1)), since few blocks know their spread badly (Hesterberg, 2015).
    For a plain mean `mean_interval` covers better where bursts are few. Memory does not grow with `resamples` times frames.
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
    block = min(n, _bootstrap_block(x) if block is None else block)
    if block < 1 or resamples < 100:
        raise ValueError("a block has at least one frame, and a bootstrap at least 100 resamples")
    if raw.max() == raw.min():
        if statistic is not None:
            raise ValueError("all values are equal: a bootstrap of them says nothing")
        return _all_equal(float(raw.flat[0]), n, block, confidence, span)
    random = np.random.default_rng(seed) if isinstance(seed, int) else seed
    if statistic is None:
        drawn = _means_of_resamples(_block_means(x, block), ceil(n / block), resamples, random)
        estimate = float(x.mean())
    else:
        wrapped = np.concatenate((raw, raw[: block - 1]))
        windows = np.lib.stride_tricks.sliding_window_view(wrapped, block, axis=0)  # [start, (column,) offset]
        order = (0, 1) if raw.ndim == 1 else (0, 2, 1)
        drawn = np.empty(resamples)
        for i in range(resamples):
            picked = windows[random.integers(0, n, ceil(n / block))].transpose(order)
            drawn[i] = statistic(picked.reshape(-1, *raw.shape[1:])[:n])
        estimate = float(statistic(raw))
    tail = 50 * (1 - confidence)
    low, high = (float(v) for v in np.percentile(drawn, [tail, 100 - tail]))
    blocks = max(2, n // block)
    wide = t_quantile(0.5 + confidence / 2, blocks - 1) / t_quantile(0.5 + confidence / 2, inf) * sqrt(blocks / (blocks - 1))
    low, high = estimate - wide * (estimate - low), estimate + wide * (high - estimate)
    return Interval(estimate, low, high, confidence, f"block bootstrap, {blocks} blocks of {block}")


def _means_of_resamples(means: Array, count: int, resamples: int, random: np.random.Generator) -> Array:
    """Means of `count` block means drawn with replacement, `resamples` times: float64 [resamples].

    Where few values are distinct (misses: at most block + 1), how often each is drawn is multinomial, which is the same law.
    """
    distinct, times = np.unique(means, return_counts=True)
    drawn = np.empty(resamples)
    width = distinct.size if 4 * distinct.size < count else count
    rows = max(1, CHUNK // width)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if width == count:
            drawn[start : start + size] = means[random.integers(0, means.size, (size, count), dtype=np.int32)].mean(axis=1)
        else:
            drawn[start : start + size] = random.multinomial(count, times / means.size, size) @ distinct / count
    return drawn


# Misses ---------------------------------------------------------------------------------------------------------------


def _effective(x: Array, total: int, block: int | None, confidence: float) -> tuple[float, int]:
    """How many independent trials a series of 0, 1 (or their slot means) is worth, and the length of its blocks.

    The least over the block lengths of p (1 - p) / Var(mean), at most `total`, times (z / t)^2 since few blocks know their
    variance badly, less what makes half an event of the rarer kind.
    """
    p = float(x.mean())
    lengths = _blocks(x, block)
    if p in (0.0, 1.0):
        length = block_length(x) if block is None else block
        return float(max(1, x.size // length)), length
    trials = float(total)
    tail = 0.5 + confidence / 2
    for length in lengths:
        found = _spread(x, length)
        worth = min(float(total), p * (1 - p) / found.variance) if found.variance > 0 else float(total)
        trials = min(trials, worth * min(1.0, (t_quantile(tail, max(1, total - 1)) / t_quantile(tail, found.freedom)) ** 2))
    rarer = trials * min(p, 1 - p)
    return max(1.0, trials * max(0.5, 1 - 0.5 / rarer)) if rarer else 1.0, lengths[0]


def miss_ratio_interval(misses: Any, confidence: float = 0.95, block: int | None = None) -> Interval:
    """The miss ratio with an interval that holds for bursts and for zero misses.

    `misses`: 0 or 1 a frame, in order of release across all streams, or [slots, streams]. Korn and Graubard (1998): the exact
    Clopper-Pearson interval with an effective number of frames n* = p (1 - p) / Var(mean), the variance taken between blocks
    (never below that of independent frames, and none below that of a twentieth of the run), shrunk by (z / t)^2 since few
    blocks know their variance badly. One half is taken off the effective misses: K bursts of exponential lengths are worth
    K / 2 of them, but (sum L)^2 / sum L^2 of few says up to a half more.

    Without a miss, and with misses only, n* is the number of blocks: then P(no miss seen, and the ratio above the bound) is at
    most (1 - confidence) / 2 for any world whose bursts last at most a block, on average. The default block is three times
    `block_length`, with at least five blocks where there are twenty slots; without a miss it is ceil(n^(1/3)): give one learnt
    from another series of the run, like response times, if there is one. Raises ValueError for values other than 0 and 1.
    """
    raw = np.asarray(misses)
    x = _slots(raw, "misses")
    if not ((raw == 0) | (raw == 1)).all():
        raise ValueError("a miss is 0 or 1")
    p = float(x.mean())
    trials, length = _effective(x, raw.size, block, confidence)
    found = clopper_pearson(p * trials, trials, confidence)
    return found._replace(estimate=p, method=f"effective Clopper-Pearson, {max(1, x.size // length)} blocks of {length}")


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


def mk_frontier(misses: Any, k_max: int) -> Array:
    """For each k = 1..k_max the largest m such that any k consecutive frames of one stream have at least m in time.

    `misses`: 0 or 1 a frame in time order. Gives int64 [k_max]: entry k - 1 is m, 0 where all of some window are missed; the
    run meets (m,k)-firm (Hamdaoui and Ramanathan, 1995) for every m up to it. j misses fit into k frames where the closest
    j of them span at most k: O(misses times the most in a window), memory O(frames). Raises ValueError unless 1 <= k_max <= frames.
    """
    missed = np.asarray(misses) != 0
    if missed.ndim != 1 or not 1 <= k_max <= missed.size:
        raise ValueError(f"a frontier needs 1 <= k_max <= frames of one stream; found {k_max} and shape {missed.shape}")
    at = np.flatnonzero(missed)
    worst = np.zeros(k_max + 1, dtype=np.int64)  # most misses in a window of k frames
    for j in range(1, min(k_max, at.size) + 1):
        span = int((at[j - 1 :] - at[: at.size - j + 1]).min()) + 1
        if span > k_max:
            break
        worst[span] = j
    frontier: Array = np.arange(1, k_max + 1) - np.maximum.accumulate(worst)[1:]
    return frontier


def early_stopping(n: int, misses: int, percentile: float, confidence: float = 0.99, tolerance: float = 0.0) -> EarlyStopping:
    """Whether `n` frames with `misses` show that at least `percentile` of all frames are in time (MLPerf LoadGen's rule).

    Passes where P(at most `misses` of n late | a frame is in time with probability percentile - tolerance) <= 1 - confidence
    (MLPerf inference rules, appendix "Early Stopping Criterion"; loadgen/early_stopping.cc: I_{p-d}(h, t + 1) <= 1 - c for h in
    time and t late). `needed_in_time` is the least such h. Frames are taken as independent, as there. Raises ValueError for
    impossible arguments.
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


def quantile_interval(values: Any, q: float, confidence: float = 0.95, block: int | None = 1) -> Interval:
    """A quantile with a distribution-free interval from order statistics.

    Ranks l < u with P(l <= Binomial(n, q) < u) >= confidence, each tail at most (1 - confidence) / 2 (David and Nagaraja,
    Order Statistics, 7.1). An end that no order statistic reaches is -inf or inf: too few values. Values are in any unit, and
    may be inf. `block`: 1 for independent values; with more the ranks are those of n / block independent values, stretched to n;
    None for values in time order that may come in bursts: the ranks are those of the effective number of frames of the series
    "at most the quantile", as in `miss_ratio_interval` (Woodruff's interval, 1952). Raises ValueError for impossible arguments.
    """
    raw = np.asarray(values, dtype=np.float64).ravel()
    x = np.sort(raw)
    if not 0 < q < 1 or not 0 < confidence < 1 or not x.size or (block is not None and not 1 <= block <= x.size) or np.isnan(x[-1]):
        raise ValueError(f"found {x.size} values (none may be nan), q {q}, confidence {confidence}, block {block}")
    estimate = float(x[min(x.size - 1, max(0, ceil(q * x.size) - 1))])
    if block is not None:
        low, high = _order_ends(x, q, x.size // block, confidence)
        return Interval(estimate, low, high, confidence, "order statistics")
    ends, lengths = [estimate, estimate], []
    for side in (0, 1):  # an end knows no more than the series "at most that end" does
        trials = inf
        for _ in range(3):
            worth, length = _effective((raw <= ends[side]).astype(np.float64), x.size, None, confidence)
            lengths.append(length)
            if worth >= trials:
                break
            trials = min(trials, worth)
            ends[side] = _order_ends(x, q, max(1, int(trials)), confidence)[side]
            if not np.isfinite(ends[side]):
                break
    return Interval(estimate, ends[0], ends[1], confidence, f"order statistics, {max(1, x.size // lengths[0])} blocks of {lengths[0]}")


def _order_ends(x: Array, q: float, n: int, confidence: float) -> tuple[float, float]:
    """The ends of `quantile_interval` in sorted values that are worth `n` independent ones."""
    tail = (1 - confidence) / 2
    lower = _largest_rank(n, q, tail)  # P(B < lower) = P(B <= lower - 1) <= tail
    upper = n + 1 - _largest_rank(n, 1 - q, tail)  # P(B >= upper) <= tail
    low = -inf if lower == 0 else float(x[(lower - 1) * x.size // n])
    high = inf if upper == n + 1 else float(x[ceil(upper * x.size / n) - 1])
    return low, high


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


def _difference(a: Any, b: Any, block: int | None, confidence: float, span: float) -> Interval:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"pairs need the same frames on both sides: found shapes {x.shape} and {y.shape}")
    interval = mean_interval(x - y, confidence, block, span)
    if interval.method.startswith("exact") and interval.estimate == 0:
        return interval._replace(low=-interval.high)
    return interval


def paired_difference(a: Any, b: Any, block: int | None = None, confidence: float = 0.95, span: float = 1.0) -> Difference:
    """The mean of `a - b` on the same frames, with the interval of `mean_interval` and a verdict.

    `a`, `b`: per frame, in time order, [frames] or [slots, streams], any unit (utility, miss, correct). `span` is the largest
    possible difference of one frame (1 for 0..1 values); it is used where all frames agree. The verdict is "a is higher", "b
    is higher" or "no difference shown": the last does not say that they are equal, `equivalence` does. Raises ValueError for
    different shapes or no frame.
    """
    interval = _difference(a, b, block, confidence, span)
    verdict = "a is higher" if interval.low > 0 else "b is higher" if interval.high < 0 else "no difference shown"
    return Difference(interval, verdict)


def equivalence(a: Any, b: Any, margin: float, block: int | None = None, confidence: float = 0.95, span: float = 1.0) -> Difference:
    """Whether A and B differ by less than `margin`, which is stated before looking.

    Two one-sided tests (Schuirmann, 1987): equivalent at level 1 - confidence where the interval of a - b at 2 confidence - 1
    lies within (-margin, margin). The verdict is "equivalent", "different" (the interval lies outside) or "not shown". Raises
    ValueError for a margin that is not positive, and as `paired_difference`.
    """
    if margin <= 0 or not 0.5 < confidence < 1:
        raise ValueError("a margin is positive, and the confidence above 0.5")
    interval = _difference(a, b, block, 2 * confidence - 1, span)
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

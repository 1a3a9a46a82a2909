"""Exact binomial arithmetic without SciPy: the incomplete beta function, its inverse, and the intervals made of it.

Everything here takes trials as independent. Frames of one run are not (misses come in bursts): `statistics` puts blocks or
an effective number of frames in.
"""

from __future__ import annotations

from math import ceil, exp, expm1, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate with its two-sided confidence interval, and how that was made."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: str


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, like 0.95; found {confidence}")


def betainc(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), a, b > 0, to about 1e-9 (better for a, b below 10,000).

    Continued fraction of DLMF 8.17.22 by Lentz's method (Numerical Recipes 6.4), on the side where it converges fast.
    """
    if a <= 0 or b <= 0:
        raise ValueError(f"betainc needs a, b > 0; found {a}, {b}")
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _fraction(b, a, 1.0 - x)
    return _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    front = exp(a * log(x) + b * log1p(-x) - (lgamma(a) + lgamma(b) - lgamma(a + b))) / a
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 100 + int(10 * sqrt(a + b))):
        for top in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                    -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1.0 + top * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + top / c
            c = c if abs(c) > tiny else tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return min(1.0, max(0.0, front * result))


def beta_quantile(q: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = q, by bisection (to a relative 1e-12 also near 0)."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if betainc(a, b, middle) < q:
            low = middle
        else:
            high = middle
        if high - low <= 1e-13 * high:
            break
    return 0.5 * (low + high)


def t_quantile(q: float, df: float) -> float:
    """Quantile of Student's t with `df` > 0 degrees of freedom (infinite: the normal's)."""
    if df == inf:
        return NormalDist().inv_cdf(q)
    if q < 0.5:
        return -t_quantile(1 - q, df)
    x = beta_quantile(2 * (1 - q), df / 2, 0.5)
    return sqrt(df * (1 - x) / x)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(at most k successes of n), success having probability p."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return betainc(n - k, k + 1, 1.0 - p)


def wilson(misses: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (1927) of a ratio of **independent** trials.

    On bursty misses it covers far less than it says: use `statistics.miss_ratio_interval` there. Raises ValueError unless
    0 <= misses <= n and n > 0.
    """
    _check(confidence)
    if not 0 <= misses <= n or n == 0:
        raise ValueError(f"found {misses} misses of {n} frames")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = misses / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if misses == 0 else max(0.0, centre - half)
    high = 1.0 if misses == n else min(1.0, centre + half)
    return Interval(p, low, high, confidence, "wilson")


def clopper_pearson(misses: float, n: float, confidence: float = 0.95) -> Interval:
    """The exact interval of a ratio of independent trials (Clopper and Pearson, 1934): covers at least `confidence`.

    Real `misses` and `n` are taken too, for effective numbers (Korn and Graubard, 1998). Raises ValueError unless
    0 <= misses <= n and n > 0.
    """
    _check(confidence)
    if not 0 <= misses <= n or n <= 0:
        raise ValueError(f"found {misses} misses of {n} frames")
    tail = (1 - confidence) / 2
    low = 0.0 if misses == 0 else beta_quantile(tail, misses, n - misses + 1)
    high = 1.0 if misses == n else beta_quantile(1 - tail, misses + 1, n - misses)
    return Interval(misses / n, low, high, confidence, "clopper-pearson")


def zero_miss_bound(n: int, confidence: float = 0.95) -> float:
    """The upper bound on the miss ratio after `n` independent trials (frames, or blocks of frames) without a miss.

    One-sided and exact: (1 - p)^n = 1 - confidence, so p = 1 - (1 - confidence)^(1/n), about 3/n at 95 %. Given a number
    of blocks, it bounds P(a block has a miss), and the frames' miss ratio is no larger. Raises ValueError for n < 1.
    """
    _check(confidence)
    if n < 1:
        raise ValueError("a bound needs at least one trial")
    return -expm1(log1p(-confidence) / n)


def frames_needed(miss_ratio: float, confidence: float = 0.95) -> int:
    """How many independent trials without a miss show that the miss ratio is at most `miss_ratio` (299 for 1 % at 95 %)."""
    _check(confidence)
    if not 0 < miss_ratio < 1:
        raise ValueError(f"a miss ratio to be shown lies between 0 and 1; found {miss_ratio}")
    return ceil(log1p(-confidence) / log1p(-miss_ratio))

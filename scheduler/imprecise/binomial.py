"""Exact binomial arithmetic without SciPy: the incomplete beta function, its inverse, and the intervals made of it.

Everything here takes trials as independent. Frames of one run are not (misses come in bursts): `statistics` puts blocks or
an effective number of frames in.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp, expm1, inf, lgamma, log, log1p, pi, sqrt
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
    """Regularised incomplete beta function I_x(a, b), a, b > 0, to about 1e-12 (1e-9 where a or b nears 1e8).

    Continued fraction of DLMF 8.17.22 by Lentz's method (Numerical Recipes 6.4), on the side where it converges fast. Raises
    ValueError unless a and b are positive.
    """
    if not (a > 0 and b > 0):
        raise ValueError(f"betainc needs a, b > 0; found {a}, {b}")
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _fraction(b, a, 1.0 - x, x)
    return _fraction(a, b, x, 1.0 - x)


def _stirling(z: float) -> float:
    """What Stirling's formula lacks of lgamma(z), z >= 10 (DLMF 5.11.1)."""
    w = 1 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z


def _log_kernel(a: float, b: float, x: float, y: float) -> float:
    """log(x^a y^b / B(a, b)) for y = 1 - x, without the cancellation of three large lgamma (as TOMS 708 does)."""
    if a > b:
        return _log_kernel(b, a, y, x)
    log_x, log_y = log(x) if x < 0.5 else log1p(-y), log(y) if y < 0.5 else log1p(-x)
    if b < 10:
        return a * log_x + b * log_y - (lgamma(a) + lgamma(b) - lgamma(a + b))
    if a < 10:
        log_beta = lgamma(a) - a * log(b) - (a + b - 0.5) * log1p(a / b) + a + _stirling(b) - _stirling(a + b)
        return a * log_x + b * log_y - log_beta
    off = a * y - b * x  # a - (a + b) x
    u, v = -off / a, off / b
    bent = a * (u - log1p(u)) + b * (v - log1p(v)) if u > -1 and v > -1 else inf
    return 0.5 * log(a * b / (2 * pi * (a + b))) - bent + _stirling(a + b) - _stirling(a) - _stirling(b)


def _fraction(a: float, b: float, x: float, y: float) -> float:
    front = exp(_log_kernel(a, b, x, y)) / a
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
        if abs(c * d - 1.0) < 1e-15:
            break
    return min(1.0, max(0.0, front * result))


def beta_quantile(q: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = q, to a relative 1e-11 also near 0.

    Newton's method within a shrinking bracket, bisected (in the logarithm, near 0) where a step leaves it. Raises ValueError
    unless 0 <= q <= 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile's level lies between 0 and 1; found {q}")
    if q in (0.0, 1.0):
        return float(q)
    q, a, b = float(q), float(a), float(b)
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(400):
        miss = betainc(a, b, x) - q
        if miss < 0:
            low = x
        else:
            high = x
        if high - low <= 1e-15 * high or not miss:
            break
        slope = exp(_log_kernel(a, b, x, 1 - x)) / (x * (1 - x)) if 0 < x < 1 else 0.0
        step = x - miss / slope if slope > 1e-290 else -1.0
        if low < step < high:
            if abs(step - x) <= 1e-13 * x:
                return step
        else:
            step = sqrt(low * high) if low > 0 else high * 1e-3 if high < 1e-2 else 0.5 * (low + high)
        x = step
        if x < 1e-290:
            break
    return x


@lru_cache(maxsize=4096)
def t_quantile(q: float, df: float) -> float:
    """Quantile of Student's t with `df` > 0 degrees of freedom (infinite: the normal's).

    Raises ValueError unless 0 < q < 1 and df > 0.
    """
    if not (0 < q < 1 and df > 0):
        raise ValueError(f"a quantile of Student's t needs 0 < q < 1 and df > 0; found {q}, {df}")
    if q < 0.5:
        return -t_quantile(1 - q, df)
    z = NormalDist().inv_cdf(q)
    if df > 1e7:  # Cornish and Fisher's first term; the next is below 1e-13
        return z + (z**3 + z) / (4 * df)
    x = beta_quantile(2 * (1 - q), df / 2, 0.5)
    return sqrt(df * (1 - x) / x) if x < 0.9 else sqrt(df * beta_quantile(2 * q - 1, 0.5, df / 2) / x)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(at most k of n independent trials succeed), each with probability p: I_{1-p}(n - k, k + 1) (DLMF 8.17.5)."""
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

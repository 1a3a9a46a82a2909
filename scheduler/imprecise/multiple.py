"""Several tests at once, and several paired replications: what independent runs say, without any assumption on bursts.

A replication is a whole run with a seed of its own; two policies are paired on the same seed. Then the differences are
independent whatever happens within a run, which is the safest ground there is.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .binomial import Interval, t_quantile

Array = NDArray[Any]
EXACT = 20  # replications whose 2^n signs are all enumerated


def holm(p_values: Any) -> Array:
    """Adjusted p-values of Holm's step-down procedure (1979), float64, shape and order as given.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j): a hypothesis rejected where its value is at most
    alpha keeps the chance of any false rejection at alpha, for any dependence. Raises ValueError unless all are in 0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie between 0 and 1; found {p_values}")
    flat = p.ravel()
    order = np.argsort(flat, kind="stable")
    out = np.empty(flat.size)
    out[order] = np.minimum(1.0, np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1)))
    return out.reshape(p.shape)


def replications_interval(values: Any, confidence: float = 0.95) -> Interval:
    """Student's t interval (1908) of the mean of one value a replication, [replications], any unit.

    Give differences of paired replications to compare two policies. Equal values give an interval of no width: it then says
    only that they were equal. Raises ValueError for fewer than two values, or one that is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or not np.isfinite(x).all() or not 0 < confidence < 1:
        raise ValueError(f"an interval needs at least two finite values and a confidence in 0..1; found {values}, {confidence}")
    half = t_quantile(0.5 + confidence / 2, x.size - 1) * float(x.std(ddof=1)) / sqrt(x.size) if x.max() > x.min() else 0.0
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, confidence, f"t, {x.size} replications")


def sign_flip(differences: Any, resamples: int = 100_000, seed: int | np.random.Generator = 0) -> float:
    """Two-sided p-value that paired differences, [replications], are symmetric about 0 (Fisher's randomisation test, 1935).

    The share of the 2^n choices of signs whose sum is at least as far from 0 as the one found: exact up to 20 replications;
    beyond, `resamples` random ones and (1 + hits) / (1 + resamples) (Phipson and Smyth, 2010), same `seed` same answer. 1.0 where
    all are 0. The least possible value is 2^(1 - n): six replications can show something at 5 %, five cannot. Raises ValueError
    for no value, one that is not finite, or no resample.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not d.size or not np.isfinite(d).all() or resamples < 1:
        raise ValueError(f"sign flips need at least one finite difference, and a resample; found {differences}, {resamples}")
    seen = abs(float(d.sum())) - 1e-12 * float(np.abs(d).sum())  # sums that differ by rounding are equal
    if d.size <= EXACT:
        sums = d[:1]  # the other half mirrors it
        for value in d[1:]:
            sums = np.concatenate((sums + value, sums - value))
        return float((np.abs(sums) >= seen).mean())
    random = np.random.default_rng(seed) if isinstance(seed, int) else seed
    hits, rows = 0, max(1, (1 << 20) // d.size)
    for start in range(0, resamples, rows):
        signs = random.integers(0, 2, (min(rows, resamples - start), d.size), dtype=np.int8)
        hits += int((np.abs((2.0 * signs - 1) @ d) >= seen).sum())
    return (1 + hits) / (1 + resamples)

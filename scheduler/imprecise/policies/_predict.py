"""Gain predictors of `depth-dp`: what going deeper is worth, from more or less knowledge.

    constant    the mean gain, whatever the confidence
    linear      falls linearly with the confidence, from the mean gain at the mean confidence to 0 at 1
    calibrated  the bundle's curve at this confidence: `job.gains()`
    oracle      what this very frame will gain; only in a simulation

Means are those over the frames of the stream seen so far at that depth, learnt on line: a replay learns the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model import Job
    from .base import Oracle

NAMES = ("constant", "linear", "calibrated", "oracle")


class Means:
    """Means of confidence and gains by (stream, depth, number of ways to go on)."""

    def __init__(self, linear: bool):
        self.linear = linear
        self._means: dict[tuple[int, int, int], tuple[int, list[float]]] = {}

    def learn(self, job: Job) -> None:
        """Take one answer in; O(ways)."""
        values = [job.confidence, *job.gains()]
        key = (job.stream_index, job.depth, len(values))
        n, means = self._means.get(key, (0, values))
        self._means[key] = n + 1, [m + (v - m) / (n + 1) for m, v in zip(means, values)]

    def gains(self, job: Job) -> Sequence[float]:
        """The gain of each of `job.ways()`."""
        found = self._means.get((job.stream_index, job.depth, 1 + len(job.gains())))
        if found is None:
            return job.gains()
        mean, *gains = found[1]
        if not self.linear:
            return gains
        factor = (1 - job.confidence) / (1 - mean) if mean < 1 else 1.0
        return [gain * factor for gain in gains]


class Truth:
    """What frames turn out to be worth, asked of an oracle and kept while they are recent."""

    def __init__(self) -> None:
        self._worth: dict[tuple[int, int], Sequence[float]] = {}

    def gains(self, job: Job, oracle: Oracle | None) -> Sequence[float]:
        """The gain of each of `job.ways()` as it will turn out. Raises ValueError where nobody knows."""
        if oracle is None:
            raise ValueError("predictor=oracle knows what each frame would gain, and only a simulation can tell it")
        key = (job.stream_index, job.frame)
        worth = self._worth.get(key)
        if worth is None:
            if len(self._worth) >= 1024:
                self._worth.clear()
            worth = self._worth[key] = oracle(*key)
        return [job.stream.weight * (worth[depth] - worth[job.depth]) for _, depth in job.ways()]

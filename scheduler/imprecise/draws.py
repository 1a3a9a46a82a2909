"""Random draws that are the same for every policy, and the models of durations and arrivals that use them.

A draw is a uniform in [0, 1) *indexed* by (seed, stream name, frame, stage name): no generator is advanced, so a policy that
starts fewer stages, or one more stream, changes nothing for the others (common random numbers; Law, Simulation Modeling and
Analysis, section 11.2). It is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) at position `frame`, from a start that is the
BLAKE2 hash of seed and names. A duration is the quantile of its uniform; a model that depends on context (the gap before,
what else runs) takes its conditional quantile of the same uniform, so that two policies still see one world.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def key_of(seed: int, *names: str) -> int:
    """The start, an unsigned 64-bit integer, of the draws named so; the same in every process and Python."""
    text = json.dumps([int(seed), *names], ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniforms(key: int, first: int, count: int) -> Floats:
    """Draws `first` to `first + count - 1` under a key: float64 `[count]`, multiples of 2^-53 in [0, 1)."""
    z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GAMMA + np.full(count, key, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normal_quantile(u: Floats) -> Floats:
    """The standard normal quantile of each u in (0, 1), relative error about 1e-9 (Acklam's rational approximation)."""
    a = (-3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02, 1.383577518672690e02,
         -3.066479806614716e01, 2.506628277459239e00)
    b = (-5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01,
         -1.328068155288572e01, 1.0)
    c = (-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00, -2.549732539343734e00,
         4.374664141464968e00, 2.938163982698783e00)
    d = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)
    tail = np.minimum(u, 1 - u)
    far = tail < 0.02425
    q = np.where(far, 0.0, u - 0.5)
    middle = q * np.polyval(a, q * q) / np.polyval(b, q * q)
    t = np.sqrt(-2 * np.log(np.where(far, tail, 0.5)))
    outer = np.polyval(c, t) / np.polyval(d, t)
    return np.asarray(np.where(far, np.where(u < 0.5, outer, -outer), middle))


# Durations ------------------------------------------------------------------------------------------------------------


class DurationModel(Protocol):
    """How long a stage takes, from its frame and its uniform. Never less than 1 ns."""

    @property
    def mean_ns(self) -> float:
        """Its mean, which loads are counted with."""

    @property
    def worst_ns(self) -> int:
        """The longest it can give; 0: no limit."""

    def draw(self, first: int, u: Floats) -> Ints:
        """Durations, int64 `[n]`, of frames `first` to `first + n - 1` from their uniforms `u`, float64 `[n]`."""


@dataclass(frozen=True)
class Constant:
    """Always `ns`."""

    ns: int

    @property
    def mean_ns(self) -> float:
        """`ns`."""
        return float(self.ns)

    @property
    def worst_ns(self) -> int:
        """`ns`."""
        return self.ns

    def draw(self, first: int, u: Floats) -> Ints:
        """`ns` for each."""
        return np.full(len(u), max(1, self.ns), dtype=np.int64)


@dataclass(frozen=True)
class Listed:
    """Frame f takes `ns[f % len(ns)]`: a recorded or constructed sequence, repeated."""

    ns: tuple[int, ...]

    @property
    def mean_ns(self) -> float:
        """The mean of the list."""
        return sum(self.ns) / len(self.ns)

    @property
    def worst_ns(self) -> int:
        """The longest of the list."""
        return max(self.ns)

    def draw(self, first: int, u: Floats) -> Ints:
        """The entries in turn; the uniforms are not used."""
        frames = np.arange(first, first + len(u)) % len(self.ns)
        return np.asarray(np.maximum(1, np.asarray(self.ns, dtype=np.int64)[frames]))


@dataclass(frozen=True)
class Lognormal:
    """`median_ns * exp(sigma * z)`, z standard normal, cut at `max_ns` (0: not cut)."""

    median_ns: int
    sigma: float
    max_ns: int = 0

    @property
    def mean_ns(self) -> float:
        """`median * exp(sigma^2 / 2)`, as if it were not cut."""
        return self.median_ns * math.exp(self.sigma**2 / 2)

    @property
    def worst_ns(self) -> int:
        """`max_ns`."""
        return self.max_ns

    def draw(self, first: int, u: Floats) -> Ints:
        """The quantile of each uniform."""
        value = self.median_ns * np.exp(self.sigma * normal_quantile(np.maximum(u, 2.0**-54)))
        limit = float(self.max_ns or 1 << 60)
        return np.asarray(np.maximum(1, np.rint(np.minimum(value, limit))).astype(np.int64))


@dataclass(frozen=True)
class Empirical:
    """The quantile function of measured durations: `sorted_ns[floor(u * n)]`, int64, rising (sorted here)."""

    sorted_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sorted_ns:
            raise ValueError("an empirical duration needs at least one sample")
        object.__setattr__(self, "sorted_ns", tuple(sorted(int(v) for v in self.sorted_ns)))

    @property
    def mean_ns(self) -> float:
        """The mean of the samples."""
        return sum(self.sorted_ns) / len(self.sorted_ns)

    @property
    def worst_ns(self) -> int:
        """The longest sample."""
        return self.sorted_ns[-1]

    def draw(self, first: int, u: Floats) -> Ints:
        """The sample at each uniform."""
        samples = np.asarray(self.sorted_ns, dtype=np.int64)
        return np.asarray(np.maximum(1, samples[(u * len(samples)).astype(np.int64)]))


@dataclass(frozen=True)
class Quantiles:
    """A quantile function through known points, linear between them and flat outside: `p` rises in [0, 1], `ns` with it."""

    p: tuple[float, ...]
    ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.p) != len(self.ns) or not self.p or list(self.p) != sorted(self.p) or list(self.ns) != sorted(self.ns):
            raise ValueError("quantiles need as many durations as shares, both rising, at least one")

    @property
    def mean_ns(self) -> float:
        """The integral of the quantile function."""
        p, ns = (0.0, *self.p, 1.0), (self.ns[0], *self.ns, self.ns[-1])
        return sum((b - a) * (x + y) / 2 for a, b, x, y in zip(p, p[1:], ns, ns[1:]))

    @property
    def worst_ns(self) -> int:
        """The last point."""
        return self.ns[-1]

    def draw(self, first: int, u: Floats) -> Ints:
        """The interpolated quantile of each uniform."""
        return np.maximum(1, np.rint(np.interp(u, self.p, self.ns))).astype(np.int64)


def typical_ns(model: DurationModel, share: float = 0.95) -> int:
    """The `share` quantile of a model: what a profile would hand the engine to begin with."""
    grid = (np.arange(1000) + 0.5) / 1000
    return int(np.sort(model.draw(0, grid))[min(999, int(share * 1000))])


# Arrivals -------------------------------------------------------------------------------------------------------------


class Arrivals(Protocol):
    """When frames are captured and seen. `period_ns` is the mean distance, which sizes chunks."""

    @property
    def period_ns(self) -> int:
        """The mean distance of two frames."""

    def start(self, seed: int, stream: str) -> ArrivalCursor:
        """A cursor at frame 0."""


class ArrivalCursor(Protocol):
    """A position in an arrival sequence."""

    def take(self, count: int) -> tuple[Ints, Ints]:
        """The next `count` frames (fewer at the end): capture times and the times they are seen, int64 `[n]` each, rising."""


@dataclass(frozen=True)
class Periodic:
    """Frame k is captured at `offset_ns + k * period_ns` and seen up to `jitter_ns` later, in order.

    `offset_ns` below 0: a phase drawn uniformly in [0, period), as cameras that nobody synchronised have. `drift_ppm`: the camera's clock
    makes each period longer (below 0: shorter) by so many millionths.
    """

    period_ns: int
    offset_ns: int = 0
    jitter_ns: int = 0
    drift_ppm: float = 0.0

    def start(self, seed: int, stream: str) -> ArrivalCursor:
        """A cursor at frame 0."""
        offset = self.offset_ns
        if offset < 0:
            offset = int(uniforms(key_of(seed, stream, "@phase"), 0, 1)[0] * self.period_ns)
        cursor = _Cursor(self.jitter_ns, key_of(seed, stream, "@jitter"), offset, self.period_ns)
        cursor.drift_ns = self.period_ns * self.drift_ppm * 1e-6
        return cursor


@dataclass(frozen=True)
class Sporadic:
    """Two captures are at least `min_gap_ns` apart, plus an exponential time of mean `extra_ns`; seen up to `jitter_ns` later.

    `burst` = (length, every): of `every` frames in a row the last `length` - 1 follow each other at `min_gap_ns`.
    """

    min_gap_ns: int
    extra_ns: int
    jitter_ns: int = 0
    burst: tuple[int, int] = (0, 0)

    @property
    def period_ns(self) -> int:
        """The mean distance of two captures."""
        length, every = self.burst
        return self.min_gap_ns + (self.extra_ns * (every - length + 1) // every if every else self.extra_ns)

    def start(self, seed: int, stream: str) -> ArrivalCursor:
        """A cursor at frame 0, which is captured after one exponential time."""
        origin_ns = -self.min_gap_ns if self.extra_ns else 0
        cursor = _Cursor(self.jitter_ns, key_of(seed, stream, "@jitter"), origin_ns, self.min_gap_ns)
        cursor.extra_ns, cursor.gap_key, cursor.burst = self.extra_ns, key_of(seed, stream, "@gap"), self.burst
        return cursor


@dataclass(frozen=True)
class Releases:
    """Captures at the listed times (rising), seen up to `jitter_ns` later; the stream ends after the last."""

    times_ns: tuple[int, ...]
    jitter_ns: int = 0

    @property
    def period_ns(self) -> int:
        """The mean distance of two captures."""
        return max(1, (self.times_ns[-1] - self.times_ns[0]) // max(1, len(self.times_ns) - 1))

    def start(self, seed: int, stream: str) -> ArrivalCursor:
        """A cursor at frame 0."""
        cursor = _Cursor(self.jitter_ns, key_of(seed, stream, "@jitter"), 0, 0)
        cursor.listed = np.asarray(self.times_ns, dtype=np.int64)
        return cursor


class _Cursor:
    """A position in any of the three sequences."""

    def __init__(self, jitter_ns: int, jitter_key: int, origin_ns: int, step_ns: int):
        self.jitter_ns, self.jitter_key = jitter_ns, jitter_key
        self.origin_ns, self.step_ns = origin_ns, step_ns
        self.extra_ns, self.gap_key = 0, 0
        self.burst = (0, 0)
        self.drift_ns = 0.0  # per period
        self.listed: Ints | None = None
        self.frame = 0
        self.seen_ns = 0

    def take(self, count: int) -> tuple[Ints, Ints]:
        """The next `count` frames; see `ArrivalCursor`."""
        first = self.frame
        if self.listed is not None:
            captured = self.listed[first:first + count]
        elif self.extra_ns:
            extra = -self.extra_ns * np.log1p(-uniforms(self.gap_key, first, count))
            length, every = self.burst
            if every:
                extra[np.arange(first, first + count) % every > every - length] = 0
            captured = self.origin_ns + np.cumsum(self.step_ns + np.rint(extra).astype(np.int64))
            self.origin_ns = int(captured[-1])
        else:
            turns = np.arange(first, first + count, dtype=np.int64)
            captured = self.origin_ns + self.step_ns * turns
            if self.drift_ns:
                captured = captured + np.floor(turns * self.drift_ns).astype(np.int64)
        self.frame += len(captured)
        seen = captured
        if self.jitter_ns and len(captured):
            late = (uniforms(self.jitter_key, first, len(captured)) * (self.jitter_ns + 1)).astype(np.int64)
            seen = np.maximum(np.maximum.accumulate(captured + late), self.seen_ns)
            self.seen_ns = int(seen[-1])
        return captured, seen


def draw_items(seed: int, stream: str, first: int, count: int, size: int) -> Ints:
    """Which of `size` labelled pictures each frame shows: int64 `[count]`, -1 where there are none; with replacement."""
    if size <= 0:
        return np.full(count, -1, dtype=np.int64)
    return np.asarray((uniforms(key_of(seed, stream, "@item"), first, count) * size).astype(np.int64))


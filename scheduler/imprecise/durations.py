"""On-line quantiles of stage durations: they drift (heat, governor, idle gaps, other load), so a short window is kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque


class SlidingQuantile:
    """The `quantile` of the last `window` durations, each insertion O(window) in C.

    Until `window` values have been seen, `typical_ns` stands in for the missing ones, so one odd first value does not rule.
    """

    __slots__ = ("_order", "_rank", "_sorted", "_sum_ns", "mean_ns", "value_ns")

    def __init__(self, typical_ns: int, quantile: float = 0.95, window: int = 64):
        if not 0 < quantile < 1 or window < 1:
            raise ValueError("0 < quantile < 1 and window >= 1")
        self._order = deque([typical_ns] * window)
        self._sorted = [typical_ns] * window
        self._rank = min(window - 1, int(quantile * window))
        self._sum_ns = typical_ns * window
        self.mean_ns = float(typical_ns)  # the mean now
        self.value_ns = typical_ns  # the quantile now

    def add(self, duration_ns: int) -> None:
        """Take one more duration in and forget the oldest."""
        old = self._order.popleft()
        del self._sorted[bisect_left(self._sorted, old)]
        insort(self._sorted, duration_ns)
        self._order.append(duration_ns)
        self._sum_ns += duration_ns - old
        self.mean_ns = self._sum_ns / len(self._sorted)
        self.value_ns = self._sorted[self._rank]

    def doubt(self) -> None:
        """Let the median stand in for the largest value, as if that had been chance."""
        self._order.remove(self._sorted[-1])
        self._order.append(self.median_ns)
        self._sum_ns += self._order[-1] - self._sorted[-1]
        self.mean_ns = self._sum_ns / len(self._sorted)
        del self._sorted[-1]
        insort(self._sorted, self._order[-1])
        self.value_ns = self._sorted[self._rank]

    @property
    def median_ns(self) -> int:
        """The median of the window."""
        return self._sorted[len(self._sorted) // 2]

    def chance(self, room_ns: float) -> float:
        """The share of the window that took `room_ns` at most; O(log window)."""
        order = self._sorted
        return 1.0 if order[-1] <= room_ns else bisect_right(order, room_ns) / len(order)

"""What is watched while a run goes on: the assumptions a guarantee rests on, and how long things take."""

from __future__ import annotations

from collections.abc import Iterable

from imprecise import admission

from ..results.record import AssumptionRow

SUB_BITS = 4  # buckets an octave: 2^SUB_BITS, so a quantile is at most 7 % too high


class Histogram:
    """Counts of durations in ns, in logarithmic buckets: constant memory, quantiles never too low, the worst exact."""

    __slots__ = ("_counts", "count", "worst_ns")

    def __init__(self) -> None:
        self._counts = [0] * (64 << SUB_BITS)
        self.count = 0
        self.worst_ns = 0

    def add(self, value_ns: int) -> None:
        """Take one in; below 0 counts as 0."""
        value_ns = max(value_ns, 0)
        self.count += 1
        self.worst_ns = max(self.worst_ns, value_ns)
        shift = max(0, value_ns.bit_length() - 1 - SUB_BITS)
        self._counts[(shift << SUB_BITS) + (value_ns >> shift)] += 1

    def quantile_ns(self, share: float) -> int:
        """The upper end of the bucket in which the `share` quantile lies; 0 where nothing was added."""
        left = share * self.count
        for index, number in enumerate(self._counts):
            left -= number
            if number and left <= 0:
                shift = max(0, (index >> SUB_BITS) - 1)
                return min(self.worst_ns, ((index - (shift << SUB_BITS) + 1) << shift) - 1)
        return 0

    def summary(self) -> dict[str, int]:
        """`n`, `p50_ns`, `p99_ns`, `p99_9_ns` and `max_ns`."""
        return {"n": self.count, "p50_ns": self.quantile_ns(0.5), "p99_ns": self.quantile_ns(0.99),
                "p99_9_ns": self.quantile_ns(0.999), "max_ns": self.worst_ns}


class Monitor:
    """Watches one assumption: `text` says it, a value above `limit_ns` violates it."""

    __slots__ = ("checked", "limit_ns", "name", "text", "violations", "worst_ns")

    def __init__(self, name: str, text: str, limit_ns: int):
        self.name, self.text, self.limit_ns = name, text, limit_ns
        self.checked = self.violations = self.worst_ns = 0

    def check(self, value_ns: int) -> bool:
        """Count one observation; True where it holds."""
        self.checked += 1
        self.worst_ns = max(self.worst_ns, value_ns)
        if value_ns > self.limit_ns:
            self.violations += 1
            return False
        return True

    def row(self) -> AssumptionRow:
        """As the record has it."""
        return AssumptionRow(self.name, self.text, self.limit_ns, self.checked, self.violations, self.worst_ns)


class Period(Monitor):
    """Watches the least distance of two releases; `worst_ns` is the least seen."""

    def check(self, value_ns: int) -> bool:
        """Count one distance; True where it is long enough."""
        self.checked += 1
        self.worst_ns = min(self.worst_ns or value_ns, value_ns)
        self.violations += value_ns < self.limit_ns
        return value_ns >= self.limit_ns


class Watch:
    """The monitors of a run by what they look at, and histograms of what the executive itself costs, in ns.

    `assumptions` are those of the admission (or `ASSUMED` without one). What none of them looks at is not counted.
    """

    def __init__(self, assumptions: Iterable[admission.Assumption]):
        self.monitors: list[Monitor] = []
        self._by: dict[tuple[str, str], Monitor] = {}
        for a in assumptions:
            monitor = (Period if a.kind == "period" else Monitor)(a.name, a.text, a.limit_ns)
            self.monitors.append(monitor)
            self._by[a.kind, a.subject] = monitor
        self.waking, self.deciding, self.to_worker, self.from_worker = Histogram(), Histogram(), Histogram(), Histogram()

    def check(self, kind: str, subject: str, value_ns: int) -> bool:
        """Count an observation of one kind; True where the assumption holds, or none was made."""
        monitor = self._by.get((kind, subject))
        return monitor is None or monitor.check(value_ns)

    def limit(self, kind: str, subject: str, limit_ns: int) -> None:
        """Another limit from now on (a stand-by has another worst case)."""
        if (kind, subject) in self._by:
            self._by[kind, subject].limit_ns = limit_ns

    def overhead(self) -> dict[str, dict[str, int]]:
        """The histograms, for the record."""
        return {name: getattr(self, name).summary() for name in ("waking", "deciding", "to_worker", "from_worker")}

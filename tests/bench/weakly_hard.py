"""How far `most_misses` is from exact: random periodic sets against a simulation of all their offsets.

Of tasks of 2 or 3 (T <= 12, load above 0.6) that miss at all, how many get the exact figure, by the number of cells.
Usage: weakly_hard.py [TASKS]   (300; with 1500, two minutes a line)
"""

import sys
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from imprecise.admission import most_misses
from sporadic import most_late

LINES = [("p-fp", 1 << 14), ("p-fp", 36), ("p-fp", 16), ("p-fp", 9), ("np-fp", 1 << 14)]


def compare(resource: str, cells: int, count: int) -> Counter:
    """{bound - exact: tasks}; raises AssertionError where the bound is below."""
    random, gaps = Random(5), Counter()
    while sum(gaps.values()) < count:
        tasks = []
        for _ in range(random.choice([2, 3, 3])):
            period = random.randint(2, 12)
            cost = random.randint(1, period)
            tasks.append((cost, period, random.randint(cost, period + 3)))
        if not 0.6 < sum(c / t for c, t, _ in tasks) <= 1:
            continue
        k = random.randint(2, 6)
        exact, bounds = most_late(tasks, k, resource), most_misses(tasks, k, resource, cells)
        assert all(b >= e for b, e in zip(bounds, exact, strict=True)), (tasks, k, resource)
        gaps.update(b - e for b, e in zip(bounds, exact, strict=True) if e)
    return gaps


if __name__ == "__main__":
    for resource, cells in LINES:
        gaps = compare(resource, cells, int(sys.argv[1]) if len(sys.argv) > 1 else 300)
        total = sum(gaps.values())
        print(f"{resource:5} {cells:6} cells: {total} tasks, exact for {gaps[0] / total:.1%}, bound - exact {dict(sorted(gaps.items()))}")

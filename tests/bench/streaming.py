"""A long simulation in streaming mode: jobs a second and resident memory at 10 %, 50 % and 100 % of its frames.

    python tests/bench/streaming.py [--frames 10000000] [--scenario ten-tasks] [--policy monolithic] [--most-mb 4]

Exit code 1 where more than `--most-mb` MB were resident at the end beyond those at 10 %: memory that grows with the frames. Rates are
by CPU time of this process, so that other load disturbs little.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import imprecise.engine
from edgert.cli.simulate import workload
from imprecise import scenario
from imprecise.simulator import simulate

MB = 1e6


def resident_mb() -> float:
    """What this process has in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


class Marks:
    """Frames, CPU seconds and resident memory when so much was done."""

    def __init__(self, frames: int):
        self.due = [frames // 10, frames // 2]
        self.seen = [(0, time.process_time(), resident_mb())]

    def __call__(self, frames: int) -> None:
        if self.due and frames >= self.due[0]:
            del self.due[0]
            self.note(frames)

    def note(self, frames: int) -> None:
        """One more mark, and its line."""
        seconds, memory = time.process_time(), resident_mb()
        before = self.seen[-1]
        self.seen.append((frames, seconds, memory))
        print(f"{frames:12,} frames {(frames - before[0]) / (seconds - before[1]):10,.0f} jobs/s since the line before "
              f"{memory:8.1f} MB resident", flush=True)


def main() -> int:
    """Simulate, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--scenario", default="ten-tasks")
    parser.add_argument("--policy", default="monolithic")
    parser.add_argument("--most-mb", type=float, default=4.0)
    given = parser.parse_args()
    world = scenario.load(given.scenario, lambda bundle: workload(bundle, {}, {}))
    built = "plain" if imprecise.engine.__file__.endswith(".py") else "compiled"
    print(f"{given.scenario}, {given.policy}, {given.frames:,} frames, {built}")
    marks = Marks(given.frames)
    result = simulate(world, given.policy, 1, given.frames, rows=False, progress=marks)
    marks.note(result.captured)
    (_, start, _), (_, _, early), *_, (_, end, late) = marks.seen
    grown = late - early
    print(f"{result.captured / (end - start):,.0f} jobs/s in all; {grown:+.2f} MB from 10 % to the end, at most {given.most_mb:g} expected")
    return int(grown > given.most_mb or result.captured != given.frames)


if __name__ == "__main__":
    sys.exit(main())

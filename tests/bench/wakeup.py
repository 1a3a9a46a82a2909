"""How late the dispatcher's way of waiting wakes up, beside `cyclictest` on the same core in the same window.

    PYTHONPATH=scheduler:sw python tests/bench/wakeup.py [seconds]

Alternates, a second each, so that both see the same machine: this process with the dispatcher's real-time measures, waiting in
select() for a release every millisecond; and `cyclictest` (Debian package rt-tests) at the same priority. Prints microseconds.
"""

import os
import re
import select
import shutil
import subprocess
import sys
import time

from edgert.executive import realtime

PERIOD_NS = 1_000_000


def own(seconds: float, fd: int) -> list[int]:
    """Lateness in ns of each wake-up."""
    late = []
    due = time.monotonic_ns() + PERIOD_NS
    end = due + int(seconds * 1e9)
    while due < end:
        select.select([fd], [], [], max(0, due - time.monotonic_ns()) / 1e9)
        now = time.monotonic_ns()
        late.append(now - due)
        due = max(due + PERIOD_NS, now)
    return late


def cyclictest(seconds: int, core: int, real_time: bool) -> list[int]:
    """The same by cyclictest, from its histogram."""
    options = ["-m", f"-p{realtime.PRIORITY}"] if real_time else []
    command = ["cyclictest", *options, "-t1", f"-a{core}", "-i1000", f"-D{seconds}", "-q", "-h100000"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = re.findall(r"^(\d{6}) (\d+)", result.stdout, re.MULTILINE)
    late = [int(us) * 1000 for us, count in rows for _ in range(int(count))]
    worst = re.search(r"Max Latencies: (\d+)", result.stdout)
    return [*late, int(worst[1]) * 1000] if worst else late


def show(name: str, late: list[int]) -> None:
    """One row of the table."""
    late = sorted(late)
    cells = "".join(f"{late[min(len(late) - 1, int(share * len(late)))] / 1e3:10.0f}" for share in (0.5, 0.99, 0.999))
    print(f"{name:34}{len(late):8}{cells}{late[-1] / 1e3:10.0f}")


def main(seconds: int) -> None:
    """Print the table."""
    core, _ = realtime.place(1)
    measures = realtime.take_all(core)
    for measure in measures:
        print(measure)
    real_time = any(m.name == "SCHED_FIFO" and m.taken for m in measures)
    fd, _ = os.pipe()
    ours: list[int] = []
    theirs: list[int] = []
    for _ in range(seconds):
        ours += own(1.0, fd)
        if shutil.which("cyclictest"):
            theirs += cyclictest(1, core, real_time)
    print(f"{'us late':34}{'n':>8}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    show("dispatcher: select()", ours)
    if theirs:
        show("cyclictest: clock_nanosleep()", theirs)
    else:
        print("cyclictest is not installed (package rt-tests)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)

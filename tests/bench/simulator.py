"""Jobs a second and peak memory of the simulator, beside a bare event loop, and SimSo 0.8.5 where it is at hand. Asserts nothing.

    python tests/bench/simulator.py [--simso PYTHON] [--rounds 5] [--jobs 20000]

Both simulate the shipped scenario `ten-tasks` (ten periodic tasks on one resource, utilisation 0.9): we with non-preemptive EDF
(`monolithic`, counters only, and with a row a frame), SimSo with its preemptive `EDF_mono`, as it has no other. `a bare loop` is the
least that plain Python does for the same schedule: two heaps and a counter, nothing else can be asked of it. Rounds alternate, each in a
process of its own; times are CPU seconds of that process, so that other load on the machine disturbs little. SimSo needs a Python
of its own, since it runs on 3.11 at most: `python3.11 -m venv V && V/bin/pip install simso==0.8.5`, then `--simso V/bin/python`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OURS = """
import json, resource, sys, time
from imprecise import scenario
from imprecise.simulator import simulate
name, policy, jobs, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "rows"
world = scenario.load(name)
simulate(world, policy, 0, 500, rows=rows)
start = time.process_time()
result = simulate(world, policy, 1, jobs, rows=rows)
print(json.dumps({"jobs": result.captured, "s": time.process_time() - start, "virtual_ms": result.end_ns / 1e6,
                  "kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""

BARE = """
import json, resource, sys, time
from heapq import heappop, heappush
tasks, jobs = json.loads(sys.argv[1]), int(sys.argv[2])
start = time.process_time()
coming = [(0, i, 0) for i in range(len(tasks))]
waiting, free, released, missed, now = [], True, 0, 0, 0
ends = []
while released < jobs or waiting or ends:
    now = min(coming[0][0] if released < jobs else 1 << 62, ends[0][0] if ends else 1 << 62)
    while ends and ends[0][0] == now:
        _, deadline = heappop(ends)
        free = True
        missed += now > deadline
    while released < jobs and coming[0][0] == now:
        _, i, k = heappop(coming)
        period = int(tasks[i][0] * 1e6)
        heappush(coming, (now + period, i, k + 1))
        heappush(waiting, (now + period, now, i))
        released += 1
    if free and waiting:
        deadline, _, i = heappop(waiting)
        heappush(ends, (now + int(tasks[i][1] * 1e6), deadline))
        free = False
print(json.dumps({"jobs": released, "s": time.process_time() - start, "kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""

SIMSO = """
import json, resource, sys, time
from simso.configuration import Configuration
from simso.core import Model
tasks, horizon_ms = json.loads(sys.argv[1]), float(sys.argv[2])
config = Configuration()
config.duration = int(horizon_ms * config.cycles_per_ms)
for i, (period_ms, wcet_ms) in enumerate(tasks):
    config.add_task(name=f"t{i}", identifier=i + 1, period=period_ms, activation_date=0, wcet=wcet_ms, deadline=period_ms)
config.add_processor(name="cpu", identifier=1)
config.scheduler_info.clas = "simso.schedulers.EDF_mono"
config.check_all()
model = Model(config)
start = time.process_time()
model.run_model()
print(json.dumps({"jobs": sum(len(task.jobs) for task in model.results.tasks.values()), "s": time.process_time() - start,
                  "kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def run(python: str, code: str, *args: str) -> dict[str, float]:
    """One process, its figures."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("scheduler", "sw", "hw", "models"))
    environment = {**os.environ, "PYTHONPATH": paths if code is OURS else ""}
    done = subprocess.run([python, "-c", code, *args], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simso", help="a Python that has SimSo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "scheduler"))
    from imprecise import scenario

    tasks = [(s.stream.period_ns / 1e6, s.work.durations[0].mean_ns / 1e6) for s in scenario.load("ten-tasks").sources]
    horizon_ms = given.jobs / 4 / sum(1 / period for period, _ in tasks)  # a quarter of the jobs: it is slower
    ways = {
        "ten-tasks, monolithic, counters": (sys.executable, OURS, "ten-tasks", "monolithic", str(given.jobs), "counters"),
        "ten-tasks, monolithic, ten times the jobs": (sys.executable, OURS, "ten-tasks", "monolithic", str(10 * given.jobs), "counters"),
        "ten-tasks, monolithic, rows": (sys.executable, OURS, "ten-tasks", "monolithic", str(given.jobs), "rows"),
        "made-up, fifo-gated, counters": (sys.executable, OURS, "made-up", "fifo-gated", str(given.jobs), "counters"),
        "made-up, default, counters": (sys.executable, OURS, "made-up", "default", str(given.jobs // 4), "counters"),
        "ten-tasks, a bare loop": (sys.executable, BARE, json.dumps(tasks), str(given.jobs)),
    }
    if given.simso:
        ways["ten-tasks, SimSo EDF_mono"] = (given.simso, SIMSO, json.dumps(tasks), str(horizon_ms))
        ways["ten-tasks, SimSo EDF_mono, twice the jobs"] = (given.simso, SIMSO, json.dumps(tasks), str(2 * horizon_ms))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, (python, code, *args) in ways.items():
            found[name].append(run(python, code, *args))
    print(f"{'':42} {'jobs':>8} {'jobs/s median':>14} {'best':>9} {'peak MB':>8}")
    for name, rounds in found.items():
        rates = [entry["jobs"] / entry["s"] for entry in rounds]
        print(f"{name:42} {rounds[0]['jobs']:8.0f} {statistics.median(rates):14,.0f} {max(rates):9,.0f} "
              f"{max(entry['kB'] for entry in rounds) / 1024:8.1f}")
    for name in ("ten-tasks, a bare loop", "ten-tasks, SimSo EDF_mono"):
        if name in found:
            ratios = [a["jobs"] / a["s"] / (b["jobs"] / b["s"]) for a, b in zip(found["ten-tasks, monolithic, counters"], found[name])]
            print(f"ratio to {name}, paired rounds: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    if not given.simso:
        print("SimSo: not measured; give --simso PYTHON (see --help)")


if __name__ == "__main__":
    main()

"""How much sooner the compiled scheduler simulates than its own source. That both give the same is tested in `tests/compiled`.

    .venv/compiled/bin/python tests/bench/compiled.py [ROUNDS]       (`make test-compiled` makes that environment and runs this)

Each world is simulated under each policy by both in turn, ROUNDS times (3), each round in a process of its own; rates are by CPU time.
Exit code 1 where nothing is compiled here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import json, sys, time
import imprecise.engine
from imprecise import scenario
from imprecise.simulator import simulate
from edgert.cli.simulate import workload

out = {"compiled": not imprecise.engine.__file__.endswith(".py"), "rates": {}}
for name, policies, jobs in json.loads(sys.argv[1]):
    world = scenario.load(name, lambda bundle: workload(bundle, {}, {}))
    for policy in policies:
        simulate(world, policy, 0, 500, rows=False)
        start = time.process_time()
        simulate(world, policy, 1, jobs, rows=False)
        out["rates"][name + ", " + policy] = jobs / (time.process_time() - start)
print(json.dumps(out))
"""
WORLDS = [("ten-tasks", ["monolithic"], 100_000), ("two-cameras", ["default", "fifo-gated", "monolithic"], 20_000),
          ("overload-3", ["default", "threshold:theta=0.8", "least-confident", "monolithic:gate=0"], 10_000),
          ("made-up", ["default", "depth-dp:predictor=linear", "depth-dp:predictor=oracle", "dbp"], 10_000),
          ("hard-day", ["default", "fifo-gated"], 10_000)]


def rates(path: str) -> dict[str, dict[str, float]]:
    """One round in a process that looks for the scheduler under `path` first; whether it is compiled, and jobs a second."""
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(WORLDS)], capture_output=True, text=True, check=False, cwd="/",
                          env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def main() -> int:
    """Compare and print."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import digests

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        found = [[rates(path) for path in (str(digests.source_only(Path(folder) / str(k))), "")] for k in range(rounds)]
    if any(plain["compiled"] or not compiled["compiled"] for plain, compiled in found):
        print("nothing is compiled here, or all is; run: make test-compiled")
        return 1
    print(f"{'':44} {'plain':>9} {'compiled':>9} jobs/s, median of {rounds}   ratio")
    for name in found[0][0]["rates"]:
        plain, compiled = (statistics.median(pair[side]["rates"][name] for pair in found) for side in (0, 1))
        print(f"{name:44} {plain:9,.0f} {compiled:9,.0f} {compiled / plain:27.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

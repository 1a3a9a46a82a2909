"""The compiled scheduler against the plain one: the same results bit for bit, and how much sooner.

Usage: python tests/bench/compiled.py PYTHON-WITH-PLAIN PYTHON-WITH-COMPILED [ROUNDS]       (`make test-compiled` makes both)

Each world is simulated under each policy in both, in turn, ROUNDS times (3). Exit code 1 where a digest of all rows, counters, steps and
actions differs, or where the second does not run compiled code.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

CODE = """
import hashlib, json, sys, time
import imprecise.engine
from imprecise import scenario
from imprecise.simulation import Log
from imprecise.simulator import ResourceFault, StageFault, simulate
from edgert.cli.simulate import workload

class Digest(Log):
    def __init__(self):
        self.sum = hashlib.sha256()
    def step(self, now_ns, events, actions):
        self.sum.update(repr((now_ns, [tuple(e) for e in events], [tuple(a) for a in actions])).encode())
    def stage(self, row):
        self.sum.update(repr(tuple(row)).encode())

out = {"compiled": not imprecise.engine.__file__.endswith(".py"), "digests": {}, "rates": {}}
resolve = lambda name: workload(name, {}, {})
for name, policies, jobs in json.loads(sys.argv[1]):
    world = scenario.load(name, resolve)
    for policy in policies:
        log = Digest()
        result = simulate(world, policy, 7, 1500, log=log)
        log.sum.update(result.frames.tobytes() + repr([result.steps, result.discarded, result.busy_ns, result.policy_fault]).encode())
        start = time.process_time()
        simulate(world, policy, 1, jobs, rows=False)
        out["digests"][name + ", " + policy] = log.sum.hexdigest()
        out["rates"][name + ", " + policy] = jobs / (time.process_time() - start)
print(json.dumps(out))
"""
WORLDS = [("ten-tasks", ["monolithic"], 30_000), ("two-cameras", ["default", "fifo-gated", "monolithic"], 10_000),
          ("overload-3", ["default", "threshold:theta=0.8", "least-confident", "monolithic:gate=0"], 5_000),
          ("made-up", ["default", "depth-dp:predictor=linear", "depth-dp:predictor=oracle", "dbp"], 5_000),
          ("hard-day", ["default", "fifo-gated"], 5_000)]


def main() -> int:
    """Compare and print."""
    plain, compiled = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    found: list[list[dict]] = [[], []]
    for _ in range(rounds):
        for side, python in enumerate((plain, compiled)):
            done = subprocess.run([python, "-c", CODE, json.dumps(WORLDS)], capture_output=True, text=True, check=False, cwd=Path("/"))
            if done.returncode:
                print(done.stderr)
                return 1
            found[side].append(json.loads(done.stdout))
    wrong = [] if found[1][0]["compiled"] and not found[0][0]["compiled"] else ["the second Python must run compiled code, the first plain"]
    print(f"{'':44} {'plain':>9} {'compiled':>9} jobs/s, median of {rounds}   ratio")
    for name, digest in found[0][0]["digests"].items():
        if any(entry["digests"][name] != digest for side in found for entry in side):
            wrong.append(f"{name}: the results differ")
        rates = [statistics.median(entry["rates"][name] for entry in side) for side in found]
        print(f"{name:44} {rates[0]:9,.0f} {rates[1]:9,.0f} {rates[1] / rates[0]:27.1f}")
    print("\n".join(wrong) or f"{len(found[0][0]['digests'])} simulations, {rounds} times each: equal bit for bit")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

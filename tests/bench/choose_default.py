"""Which policy should be the default: all of them on validation pictures, on the same frames and durations.

Usage: python tests/bench/choose_default.py [SEEDS [FRAMES]]
"""

import math
import sys

from edgert.cli.simulate import workload
from imprecise import scenario
from imprecise.simulator import simulate
from imprecise.tuning import tune_threshold

LOADS = (1.0, 1.5, 2.0, 3.0, 4.0)
POLICIES = ("mandatory-only", "fifo-gated", "least-confident", "threshold", "depth-dp")


def main() -> None:
    """Print mean utility and accuracy of each load, and each policy's difference to depth-dp over seeds (t interval, 95 %)."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    frames = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    print(f"bundle fashion, validation pictures, 1 CPU, {seeds} seeds x {frames} frames a load; points against depth-dp")
    print(f"{'load':>5} {'policy':22} {'utility':>8} {'accuracy':>9} {'missed':>7}   utility - depth-dp     accuracy - depth-dp")
    for load in LOADS:
        world = scenario.load("overload-1.5", lambda name: workload(name, {}, {}), load).on_validation()
        theta = tune_threshold(world, seed=999, frames=frames)
        runs = {p: [simulate(world, f"threshold:theta={theta}" if p == "threshold" else p, seed, frames, rows=False)
                    for seed in range(seeds)] for p in POLICIES}
        for policy, results in runs.items():
            texts = []
            for figure in ("utility", "accuracy"):
                gaps = [100 * (getattr(a, figure) - getattr(b, figure)) for a, b in zip(results, runs["depth-dp"])]
                mean = sum(gaps) / seeds
                spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) / max(1, seeds - 1) / seeds) * 2.4
                texts.append(f"{mean:+6.2f} +- {spread:4.2f}")
            name = f"{policy} {theta:.2f}" if policy == "threshold" else policy
            utility = sum(r.utility for r in results) / seeds
            accuracy = sum(r.accuracy for r in results) / seeds
            missed = sum(r.missed for r in results)
            print(f"{load:5} {name:22} {utility:8.4f} {accuracy:9.4f} {missed:7}   {texts[0]:20}   {texts[1]}", flush=True)


if __name__ == "__main__":
    main()

"""How long the engine takes to decide, for each policy, with 2 and with 16 jobs that wait for refinement.

    PYTHONPATH=scheduler python tests/bench/decision_time.py [trials]

One step is timed: a refinement stage ends on the only CPU unit while `n` jobs wait, so the engine takes the result in, asks the
policy, and starts the next stage (`monolithic`: the next stage of the earliest deadline). Prints microseconds, p50 and p99.
"""

import random
import sys
import time

from imprecise import policies
from imprecise.engine import Engine
from imprecise.model import Curve, Event, Reward, Stage, Stream

MS = 1_000_000
GAIN = {(0, 1): Curve((0.1, 1.0), (0.08, 0.0)), (0, 2): Curve((0.1, 0.6, 1.0), (0.2, 0.1, 0.0)), (1, 2): Curve((0.1, 1.0), (0.12, 0.0))}
REWARD = Reward((Curve((0.1, 1.0), (0.2, 0.99)),) * 3, GAIN)
STAGES = (Stage("mandatory", "fpga", True, MS, MS // 5), Stage("small", "cpu", False, 0, MS // 3), Stage("large", "cpu", False, 0, 4 * MS))


def prepared(policy: str, jobs: int, rng: random.Random) -> tuple[Engine, int, Event]:
    """An engine in which one job runs on the CPU and `jobs` wait; the time and the event that frees the CPU."""
    streams = [Stream(f"s{i}", 33 * MS, (200 + 7 * i) * MS, STAGES, reward=REWARD) for i in range(jobs + 1)]
    engine = Engine(streams, {"fpga": 1, "cpu": 1}, policies.make(policy), MS)
    now, busy = 0, None
    for i in range(jobs + 1):
        actions = engine.step(now, [Event("release", now, stream=i, frame=0)])
        start = next(a for a in actions if a.kind == "start" and a.resource == "fpga")
        now += MS // 5
        done = Event("done", now, job=start.job, stage=0, resource="fpga", unit=0, value=rng.uniform(0.2, 0.7))
        busy = next((a for a in engine.step(now, [done]) if a.kind == "start"), busy)
        now += 1000
    if busy is None:  # a policy that never refines: the mandatory stage of one more job ends
        engine.step(now, [Event("release", now, stream=0, frame=1)])
        return engine, now + 1000, Event("done", now + 1000, job=jobs + 1, stage=0, resource="fpga", unit=0, value=0.5)
    return engine, now, Event("done", now, job=busy.job, stage=1, resource="cpu", unit=0, value=rng.uniform(0.3, 0.9))


def main(trials: int) -> None:
    """Print the table."""
    rng = random.Random(0)
    print(f"{'policy':18}{'ready':>6}{'p50 us':>9}{'p99 us':>9}")
    for name in policies.names():
        for jobs in (2, 16):
            times = []
            for _ in range(trials):
                engine, now, event = prepared(name, jobs, rng)
                start = time.perf_counter_ns()
                engine.step(now, [event])
                times.append(time.perf_counter_ns() - start)
            times.sort()
            print(f"{name:18}{jobs:6}{times[trials // 2] / 1e3:9.1f}{times[trials * 99 // 100] / 1e3:9.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)

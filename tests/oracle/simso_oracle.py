"""What SimSo 0.8.5 says: finish times of random task sets on one processor, written to `simso.json` for Pythons that cannot run it.

Usage: PYTHON-WITH-SIMSO tests/oracle/simso_oracle.py [FILE]      (pip install simso==0.8.5; Python 3.11)

200 periodic sets (constant times) and 80 driven by traces (listed releases and times), each under preemptive EDF, preemptive rate-monotonic
priorities and non-preemptive EDF. SimSo's own schedulers for the first two; it has no non-preemptive one, so `NonPreemptive` below adds it.
No job is aborted when it misses its deadline. One cycle is one unit of time. Two jobs that are due together on different tasks would be
served in an order that is SimSo's own affair (the order of activation): such sets are drawn anew.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

POLICIES = ("edf", "rm", "np-edf")
PERIODIC, TRACES, JOBS = 200, 80, 40


def draw(seed: int, traced: bool) -> list[dict[str, Any]]:
    """A set of tasks: `releases` and `durations` of each job, relative `deadline`, `period` (of its priority)."""
    rng = random.Random(seed)
    while True:
        tasks = []
        count = rng.randint(2, 5)
        horizon = 60 * count
        load = rng.uniform(0.5, 1.3)
        for period in sorted(rng.sample(range(8, 60), count)):
            worst = max(1, round(load / count * period * rng.uniform(0.4, 1.6)))
            at, releases = rng.randrange(period), []
            while at < horizon and len(releases) < JOBS // count:
                releases.append(at)
                at += period + (rng.choice([0, 0, rng.randint(1, period)]) if traced else 0)
            durations = [rng.randint(1, worst) if traced else worst for _ in releases]
            deadline = rng.randint(max(2, period // 2), 2 * period)
            tasks.append({"releases": releases, "durations": durations, "deadline": deadline, "period": period})
        due = [r + t["deadline"] for t in tasks for r in t["releases"]]
        if len(due) == len(set(due)) and all(t["releases"] for t in tasks):
            return tasks


def finish_times(tasks: list[dict[str, Any]], policy: str) -> list[list[int]]:
    """When each job of each task ends under SimSo."""
    from simso.configuration import Configuration
    from simso.core import Model
    from simso.core.etm import execution_time_models
    from simso.core.etm.WCET import WCET
    from simso.schedulers.EDF_mono import EDF_mono
    from simso.schedulers.RM_mono import RM_mono

    class Trace(WCET):
        """The listed times of each task's jobs."""

        def on_activate(self, job: Any) -> None:
            super().on_activate(job)
            number = int(job.name.rpartition("_")[2]) - 1
            self.listed = {**getattr(self, "listed", {}), job: job.task.data["durations"][number]}

        def get_ret(self, job: Any) -> int:
            return int(self.listed[job] - self.get_executed(job))

    class NonPreemptive(EDF_mono):
        """EDF that lets a job end which has begun; of those that arrive at one instant the earliest deadline begins."""

        def schedule(self, cpu: Any) -> Any:
            if cpu.running is not None and cpu.running.is_active() and cpu.running.computation_time_cycles > 0:
                return cpu.running, cpu
            return super().schedule(cpu)

    execution_time_models["trace"] = Trace
    cycles = 1024  # so that times in ms are exact
    config = Configuration()
    config.cycles_per_ms = cycles
    config.etm = "trace"
    config.duration = 4 * cycles * 1000
    for i, task in enumerate(tasks):
        config.add_task(name=f"t{i}", identifier=i + 1, task_type="Sporadic", abort_on_miss=False, deadline=task["deadline"] / cycles,
                        period=task["period"] / cycles, wcet=max(task["durations"]) / cycles, data=task,
                        list_activation_dates=[r / cycles for r in task["releases"]])
    config.add_processor(name="cpu", identifier=1)
    config.scheduler_info.clas = {"edf": EDF_mono, "rm": RM_mono, "np-edf": NonPreemptive}[policy]
    config.check_all()
    model = Model(config)
    model.run_model()
    return [[job.end_date for job in task.jobs] for task in model.task_list]


def main() -> None:
    """Write the file."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("simso.json")
    sets = []
    for number in range(PERIODIC + TRACES):
        tasks = draw(number, number >= PERIODIC)
        sets.append({"tasks": tasks, **{policy: finish_times(tasks, policy) for policy in POLICIES}})
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in sets)
    path.write_text(f'{{"simso":"0.8.5","sets":[\n{lines}\n]}}\n', encoding="utf-8")
    jobs = sum(len(t["releases"]) for entry in sets for t in entry["tasks"])
    print(f"{path}: {len(sets)} sets, {jobs} jobs, {len(POLICIES)} policies")


if __name__ == "__main__":
    main()

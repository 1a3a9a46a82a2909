"""Run records of small scenarios, hand-made so that what binds a frame is known; written as `edgert simulate --record` does."""

from dataclasses import asdict
from pathlib import Path

from edgert.executive.reproduce import describe
from edgert.results.record import FrameRow, RecordWriter, StageRow
from imprecise.scenario import parse
from imprecise.simulation import ANSWERED, MISSED, Log
from imprecise.simulator import simulate
from imprecise.tables import read_toml

MS = 1_000_000
STAGES = """
[[stream.stage]]
name = "first"
resource = "fpga"
mandatory = true
time = "{first}"
[[stream.stage]]
name = "second"
resource = "{where}"
time = "{second}"
[[stream.stage]]
name = "third"
resource = "{where}"
time = "{third}"
[stream.reward]
prior = [0.6, 0.7, 0.8]
"""


def stream(name="a", period="40ms", deadline="30ms", first="1ms", second="5ms", third="10ms", where="cpu", more=""):
    """One stream as TOML: a mandatory stage of 1 ms, and 5 ms and 10 ms to refine. `period` may be a list of releases."""
    when = f'period = "{period}"' if isinstance(period, str) else f"releases = {list(period)}"
    stages = STAGES.format(first=first, second=second, third=third, where=where)
    return f'[[stream]]\nname = "{name}"\n{when}\ndeadline = "{deadline}"\n{more}{stages}'


def world(tmp_path, *streams, top='guard = "2ms"', cpu=1):
    """A scenario of those streams on one accelerator and some CPUs."""
    path = tmp_path / "made.toml"
    path.write_text(f"{top}\n[resources]\nfpga = 1\ncpu = {cpu}\n" + "\n".join(streams))
    return parse(read_toml(path), path)


def record(path: Path, scenario, policy="fifo-gated", frames=8, faults=(), options=None, seed=0, meta=None):
    """Simulate and write the record."""
    log, given = Log(), {"blocking_ns": scenario.blocking_ns, **(options or {})}
    result = simulate(scenario, policy, seed, frames, log=log, faults=faults, options=given)
    streams = [{"name": s.name, "source": "made up", "period_ns": s.period_ns, "deadline_ns": s.deadline_ns, "jitter_ns": s.jitter_ns,
                "weight": s.weight, "stages": [asdict(stage) for stage in s.stages]} for s in scenario.streams]
    with RecordWriter(path) as writer:
        values = {"kind": "simulated", "edgert": "test", "policy": policy, "seed": seed, "guard_ns": scenario.guard_ns,
                  "resources": dict(scenario.resources), "streams": streams, "accelerator": "simulated", "emulated": False, "load": 0.0,
                  "engine": describe(scenario.streams, scenario.resources, policy, scenario.guard_ns, given), **(meta or {})}
        for key, value in values.items():
            writer.meta(key, value)
        for number, (now_ns, events, actions) in enumerate(log.steps):
            writer.step(number, now_ns, events, actions)
        for row in log.stages:
            writer.stage(StageRow(*row))
        for row in result.frames.tolist():
            fields = dict(zip(result.frames.dtype.names, row))
            fields["stream"] = scenario.streams[fields["stream"]].name
            fields["status"] = {ANSWERED: "answered", MISSED: "missed"}.get(fields["status"], "dropped")
            fields["correct"] = None if fields["correct"] < 0 else fields["correct"]
            writer.frame(FrameRow(label=-1, answer=-1, **fields))
    return path

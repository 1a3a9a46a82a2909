"""Parts of the executive by themselves: monitors, the description of an engine, replay, placement, the stand-by."""

import json
import os
import random

import numpy as np
import pytest

from edgert.errors import AcceleratorError, AcceleratorTimeout, RecordError
from edgert.executive import realtime, reproduce
from edgert.executive.fallback import FIRST_BACKOFF_NS, MandatoryEngine
from edgert.executive.replay import replay
from edgert.executive.watch import Histogram, Watch
from edgert.results.record import RecordWriter, Run
from imprecise.admission import Assumption
from imprecise.engine import Engine
from imprecise.model import Curve, Event, Reward, Stage, Stream
from imprecise.policies import make

MS = 1_000_000

# Monitors -------------------------------------------------------------------------------------------------------------


def test_quantiles_of_a_histogram_are_never_too_low_and_at_most_a_sixteenth_too_high():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.integers(0, 40, 500), rng.lognormal(12, 3, 5000).astype(np.int64)])
    histogram = Histogram()
    for value in values.tolist():
        histogram.add(value)
    for share in (0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0):
        true = int(np.quantile(values, share, method="inverted_cdf"))
        assert true <= histogram.quantile_ns(share) <= true * (1 + 1 / 16) + 1
    assert histogram.summary()["max_ns"] == values.max() and histogram.summary()["n"] == len(values)


def test_an_empty_histogram_and_values_below_zero():
    histogram = Histogram()
    assert histogram.summary() == {"n": 0, "p50_ns": 0, "p99_ns": 0, "p99_9_ns": 0, "max_ns": 0}
    histogram.add(-5)
    assert histogram.quantile_ns(0.5) == 0 and histogram.count == 1


def test_a_monitor_counts_what_is_beyond_its_limit_and_keeps_the_worst():
    watch = Watch([Assumption("A1", "stage", "s", "at most 10", 10), Assumption("A2", "period", "cam", "at least 30", 30)])
    assert [watch.check("stage", "s", value) for value in (3, 10, 11, 7)] == [True, True, False, True]
    assert [watch.check("period", "cam", value) for value in (30, 29, 50)] == [True, False, True]
    assert watch.check("stage", "another", 99)  # nobody assumed anything about it
    stage, period = (monitor.row() for monitor in watch.monitors)
    assert (stage.checked, stage.violations, stage.worst_ns) == (4, 1, 11)
    assert (period.checked, period.violations, period.worst_ns) == (3, 1, 29)
    watch.limit("stage", "s", 20)
    assert watch.check("stage", "s", 15)


# Reproducing an engine ------------------------------------------------------------------------------------------------


def _streams():
    gain = {(0, 1): Curve((0.0,), (0.1,)), (0, 2): Curve((0.1, 0.2), (0.3, 0.0))}
    reward = Reward((Curve((0.1, 1 / 3, 0.9), (0.2, 0.7, 0.99)),) * 3, gain)
    stages = (Stage("m/mandatory", "fpga", True, 2 * MS, MS), Stage("m/1", "cpu", False, 0, 3 * MS), Stage("m/2", "cpu", False, 0, 9 * MS))
    return [Stream("a", 33 * MS, 33 * MS, stages, 0, 1.0, reward), Stream("b", 20 * MS, 40 * MS, stages, MS, 2.5, reward)]


def _drive(engine, seed, steps=300):
    """Random but possible events; (now, events, actions) of each step."""
    rng = random.Random(seed)
    now, frame, running, log = 0, 0, {}, []
    for _ in range(steps):
        now += rng.randrange(1, 5 * MS)
        events = []
        if rng.random() < 0.5:
            events.append(Event("release", now - rng.randrange(1000), stream=rng.randrange(2), frame=frame))
            frame += 1
        for unit in list(running):
            if rng.random() < 0.5:
                job, stage = running.pop(unit)
                kind = "done" if rng.random() < 0.9 else "failed"
                events.append(Event(kind, now, job=job, stage=stage, resource=unit[0], unit=unit[1], value=rng.random()))
        actions = engine.step(now, events)
        running.update({(a.resource, a.unit): (a.job, a.stage) for a in actions if a.kind == "start"})
        log.append((now, events, actions))
    return log


@pytest.mark.parametrize("policy", ["fifo-gated", "threshold:theta=0.7", "depth-dp", "monolithic"])
def test_an_engine_made_from_its_description_in_json_does_the_same(policy):
    options = {"blocking_ns": {"cpu": 12 * MS}, "local_ns": {(0, 0): 20 * MS, (1, 0): 30 * MS}, "yields": {"cpu": ("fpga",)}}
    made = Engine(_streams(), {"fpga": 1, "cpu": 2}, make(policy), MS, options["blocking_ns"], 0.95, options["local_ns"], options["yields"])
    text = json.dumps(reproduce.describe(_streams(), {"fpga": 1, "cpu": 2}, policy, MS, options))
    again = reproduce.build(json.loads(text))
    assert again.streams == made.streams
    log = _drive(made, 7)
    assert sum(len(actions) for _, _, actions in log) > 100
    assert [again.step(now, events) for now, events, _ in log] == [actions for _, _, actions in log]


def _record(path, log, skip=()):
    with RecordWriter(path) as writer:
        writer.meta("engine", reproduce.describe(_streams(), {"fpga": 1, "cpu": 2}, "fifo-gated", MS))
        for number, (now, events, actions) in enumerate(log):
            if number not in skip:
                writer.step(number, now, events, actions)


def test_replay_of_what_was_recorded_is_equal_and_names_the_first_difference_otherwise(tmp_path):
    engine = reproduce.build(reproduce.describe(_streams(), {"fpga": 1, "cpu": 2}, "fifo-gated", MS))
    log = _drive(engine, 3)
    _record(tmp_path / "same.db", log)
    with Run(tmp_path / "same.db") as run:
        steps, actions, difference = replay(run)
    assert (steps, difference) == (300, None) and actions == sum(len(a) for _, _, a in log)
    changed = next(i for i, (_, _, a) in enumerate(log) if i > 50 and any(x.kind == "start" for x in a))
    now, events, acts = log[changed]
    log[changed] = (now, events, [a._replace(unit=7) if a.kind == "start" else a for a in acts])
    _record(tmp_path / "other.db", log)
    with Run(tmp_path / "other.db") as run:
        steps, _, difference = replay(run)
    assert difference is not None and difference.step == changed == steps - 1


def test_a_record_that_lacks_a_step_cannot_be_replayed(tmp_path):
    engine = reproduce.build(reproduce.describe(_streams(), {"fpga": 1, "cpu": 2}, "fifo-gated", MS))
    _record(tmp_path / "run.db", _drive(engine, 3), skip=(17,))
    with Run(tmp_path / "run.db") as run, pytest.raises(RecordError, match="lacks step 17"):
        replay(run)


# Placement ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "cpus", "expected"), [
    ({0, 1, 2, 3}, 3, (3, [[0], [1], [2]])),
    ({0, 1, 2, 3}, 1, (3, [[0]])),
    ({2, 5}, 2, (5, [[2], [2]])),
    ({0, 1, 2}, 4, (2, [[0, 1]] * 4)),
    ({4}, 1, (4, [[4]])),
])
def test_workers_keep_off_the_dispatchers_core_where_there_is_another(monkeypatch, cores, cpus, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert realtime.place(cpus) == expected


def test_a_measure_says_why_it_was_refused():
    assert str(realtime.pin([100_000])).startswith("affinity: refused, ")


# The stand-by ---------------------------------------------------------------------------------------------------------


class _Engine:
    """Fails with what is in `faults`, in turn (None: works)."""

    emulated = False

    def __init__(self, name, faults=(), broken_open=0):
        self.name, self.faults, self.broken_open, self.opened = name, list(faults), broken_open, 0

    def open(self, bundle):
        self.opened += 1
        if self.opened <= self.broken_open:
            raise AcceleratorError("does not open")

    def infer(self, frame, deadline_ns):
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return self.name

    def close(self):
        pass


def _infer(mandatory):
    try:
        return mandatory.infer(None, 0)
    except AcceleratorError:
        return "failed"


def test_two_failures_in_a_row_or_one_timeout_are_enough():
    fail, late = AcceleratorError("no"), AcceleratorTimeout("late")
    mandatory = MandatoryEngine(_Engine("first", [fail, None, fail, fail, None, late]), _Engine("standby"), None, lambda *_: 1, 0)
    seen = [(_infer(mandatory), mandatory.broken) for _ in range(4)]
    assert seen == [("failed", False), ("first", False), ("failed", False), ("failed", True)]
    assert mandatory.take_over(0) and _infer(mandatory) == "standby" and mandatory.degraded
    other = MandatoryEngine(_Engine("first", [late]), None, None, lambda *_: 1, 0)
    assert _infer(other) == "failed" and other.broken
    assert not other.take_over(0)  # there is nothing to take over


def test_a_reset_waits_for_its_back_off_and_for_a_gap_and_each_failure_doubles_it():
    first = _Engine("first", [AcceleratorTimeout("late")], broken_open=1)
    mandatory = MandatoryEngine(first, _Engine("standby"), None, lambda *_: 1, 10 * MS)
    _infer(mandatory)
    mandatory.take_over(0)
    assert not mandatory.may_repair(FIRST_BACKOFF_NS - 1, 1 << 62)
    assert not mandatory.may_repair(FIRST_BACKOFF_NS, FIRST_BACKOFF_NS + 10 * MS)
    assert mandatory.may_repair(FIRST_BACKOFF_NS, FIRST_BACKOFF_NS + 11 * MS)
    assert not mandatory.repair() and mandatory.degraded and mandatory.failed_resets == 1
    assert mandatory.repair() and not mandatory.degraded and _infer(mandatory) == "first"


def test_where_nothing_else_computes_the_reset_does_not_wait():
    mandatory = MandatoryEngine(_Engine("first", [AcceleratorTimeout("late")]), None, None, lambda *_: 1, 10 * MS)
    _infer(mandatory)
    mandatory.take_over(5)
    assert mandatory.may_repair(5, 6)

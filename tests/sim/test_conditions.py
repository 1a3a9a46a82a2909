"""Machines that are not ideal, kinds of optional stages, eligible units, preemption: each against a schedule worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import scenario
from imprecise.conditions import Conditions, Hog, Machine, RandomFault, ResourceFault, StageFault, Thermal
from imprecise.draws import Constant, Periodic, Releases, Sporadic
from imprecise.model import Reward, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.scenario import Scenario, ScenarioError, Source, Workload
from imprecise.simulation import DROPPED, Log
from imprecise.simulator import simulate
from imprecise.workload import synthetic_outcomes, synthetic_reward

MS = 1_000_000


def stage(name: str, resource: str, mandatory: bool, ns: int, units: tuple[int, ...] = ()) -> Stage:
    return Stage(name, resource, mandatory, ns if mandatory else 0, ns, units)


def world(streams: list[tuple[tuple[int, ...], int, list[Stage]]], cpu: int = 1, kind: str = "milestone", reward: Reward | None = None,
          **options) -> Scenario:
    """Streams of (release times, deadline, stages), constant durations, on one fpga and `cpu` units."""
    sources = []
    for i, (times, deadline, stages) in enumerate(streams):
        own = tuple(replace(s, name=f"{s.name}{i}") for s in stages)
        stream = Stream(f"s{i}", 0, deadline, own, kind=kind, reward=reward or Reward())
        work = Workload(own, tuple(Constant(s.typical_ns) for s in own), stream.reward, kind=kind)
        sources.append(Source(stream, Releases(times), work))
    return Scenario("by hand", tuple(sources), {"fpga": 1, "cpu": cpu, "dma": 1}, **options)


def schedule(made: Scenario, policy: str | Policy = "fifo-gated", **options) -> dict[str, list[tuple[int, int, str]]]:
    """{stage: [(start, end, status)]} of a simulation."""
    log = Log()
    simulate(made, policy, frames=99, log=log, **options)
    out: dict[str, list[tuple[int, int, str]]] = {}
    for row in log.stages:
        out.setdefault(row.stage, []).append((row.start_ns, row.end_ns, row.status))
    return out


M = stage("m", "fpga", True, 10)
O = stage("o", "cpu", False, 40)  # noqa: E741


def test_overhead_and_decision_time_are_spent_on_the_unit_before_the_stage() -> None:
    made = world([((0,), 100, [M, O])], conditions=Conditions(overhead_ns=3, decision_ns=4))
    assert schedule(made) == {"m0": [(0, 13, "done")], "o0": [(13, 60, "done")]}


def test_work_that_takes_a_core_pauses_what_runs_there_and_what_starts_there_waits() -> None:
    shared = Conditions(takes_core={"fpga": "cpu"})
    made = world([((0, 30), 200, [M, O])], conditions=shared)
    assert schedule(made)["o0"] == [(10, 60, "done"), (60, 100, "done")]  # 40 of its own and the 10 of the second frame
    two = world([((0,), 200, [M, O]), ((15,), 200, [replace(M, typical_ns=30, wcet_ns=30)])], conditions=shared)
    assert schedule(two)["o0"] == [(10, 80, "done")]
    late = world([((0,), 300, [M, O]), ((0,), 300, [replace(M, typical_ns=50, wcet_ns=50)])], conditions=shared)
    assert schedule(late)["o0"] == [(10, 100, "done")]  # it starts at 10, and the core is back at 60


def test_stages_slow_each_other_by_how_many_run_when_they_start() -> None:
    made = world([((0,), 300, [M, O]), ((0,), 300, [M, O]), ((0,), 300, [M, O])], cpu=3, conditions=Conditions(beside={"cpu": (1.5, 2.0)}))
    assert [end - start for name in ("o0", "o1", "o2") for start, end, _ in schedule(made)[name]] == [40, 60, 80]


def test_a_hog_slows_what_starts_while_it_runs() -> None:
    made = world([((0, 100), 90, [M, O])], conditions=Conditions(hogs={"cpu": Hog(200, 50, 1.5)}))
    assert [end - start for start, end, _ in schedule(made)["o0"]] == [60, 40]


def test_heat_rises_while_a_resource_works_and_falls_while_it_rests() -> None:
    machine = Machine(Conditions(thermal={"cpu": Thermal(2.0, 1000)}), {"cpu": 1}, 0)
    work = stage("o", "cpu", False, 100)
    assert machine.takes_ns(work, 100, 0) == 100
    machine.change("cpu", 1, 0)
    machine.change("cpu", -1, 1000)
    hot = 1 - np.exp(-1)
    assert machine.takes_ns(work, 100, 1000) == round(100 * (1 + hot))
    assert machine.takes_ns(work, 100, 3000) == round(100 * (1 + hot * np.exp(-2)))
    cold = Machine(Conditions(thermal={"cpu": Thermal(2.0, 1000, threshold=0.7)}), {"cpu": 1}, 0)
    cold.change("cpu", 1, 0)
    cold.change("cpu", -1, 1000)
    assert cold.takes_ns(work, 100, 1000) == 100, "63 % of the way is below the threshold"


def test_a_hung_stage_is_given_up_and_its_unit_comes_back() -> None:
    made = world([((0, 100), 80, [M, O])], conditions=Conditions(give_up_ns=5, restart_ns=40))
    assert schedule(made, faults=[StageFault("s0", 0, "o0", "hung")])["o0"] == [(10, 85, "abandoned"), (125, 165, "done")]


def test_an_overrunning_stage_is_given_up_only_after_its_time() -> None:
    slow = Conditions(hogs={"cpu": Hog(1000, 20, 3.0)}, give_up_ns=30, restart_ns=10)
    assert schedule(world([((0,), 80, [M, O])], conditions=slow))["o0"] == [(10, 110, "abandoned")]
    assert schedule(world([((0,), 80, [M, O])], conditions=replace(slow, give_up_ns=60)))["o0"] == [(10, 130, "late")]


def test_random_faults_are_the_same_for_every_policy_and_of_their_share() -> None:
    made = world([(tuple(range(0, 200_000, 100)), 90, [M, O])], conditions=Conditions(faults=(RandomFault("o0", "failed", 0.2),)))
    runs = [schedule(made, policy)["o0"] for policy in ("fifo-gated", "least-confident")]
    assert runs[0] == runs[1]
    assert 0 < sum(status == "failed" for _, _, status in runs[0]) < 99  # of 99 frames
    share = np.mean([Machine(made.conditions, {}, 1).fault("s0", k, "o0") == "failed" for k in range(4000)])
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_an_accelerator_that_is_lost_and_back_misses_in_between_only() -> None:
    made = world([(tuple(range(0, 1000, 100)), 90, [M])],
                 conditions=Conditions(resource_faults=(ResourceFault(205, "fpga", 0), ResourceFault(450, "fpga", 0, "back"))))
    result = simulate(made, "fifo-gated", frames=10)
    assert result.frames["status"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]


def test_dropped_frames_are_counted_and_never_reach_the_engine() -> None:
    made = world([(tuple(range(0, 100_000, 100)), 90, [M, O]), (tuple(range(50, 100_000, 100)), 90, [M])])
    made = replace(made, sources=(replace(made.sources[0], drop=0.3), made.sources[1]))
    result = simulate(made, "fifo-gated", frames=2000)
    first = result.streams[0]
    assert first.captured == 1000 and sum(first.answered) + first.missed + first.dropped == 1000
    assert 300 - 60 < first.dropped < 300 + 60 and result.streams[1].dropped == 0
    dropped = result.frames["status"] == DROPPED
    assert dropped.sum() == first.dropped and (result.frames["job"][dropped] == -1).all()
    assert simulate(made, "fifo-gated", frames=2000, rows=False).streams == result.streams
    lossless = simulate(replace(made, sources=(replace(made.sources[0], drop=0.0), made.sources[1])), "fifo-gated", frames=2000)
    assert lossless.streams[1].answered == result.streams[1].answered, "one stream's losses change nothing for the other"


def test_a_clock_that_drifts_and_bursts_stay_within_what_the_stream_promises() -> None:
    captured, _ = Periodic(1000, 0, 0, drift_ppm=-2000.0).start(0, "a").take(1001)
    assert captured[-1] == 998_000 and set(np.diff(captured)) == {998}
    captured, _ = Sporadic(10, 90, burst=(4, 20)).start(0, "a").take(2000)
    gaps = np.diff(captured)
    tight = (np.arange(1, 2000) % 20) > 16
    assert (gaps[tight] == 10).all() and gaps.min() >= 10 and gaps[~tight].mean() > 60
    assert abs(np.diff(captured).mean() - Sporadic(10, 90, burst=(4, 20)).period_ns) < 10


# Kinds, units, preemption ---------------------------------------------------------------------------------------------


def test_a_version_stream_runs_the_best_one_version_that_fits() -> None:
    kinds = [M, stage("small", "cpu", False, 20), stage("large", "cpu", False, 60)]
    reward = Reward(prior=(0.5, 0.7, 0.9))
    for deadline, name, depth in ((100, "large0", 2), (60, "small0", 1), (25, "", 0)):
        made = world([((0,), deadline, kinds)], kind="version", reward=reward)
        result = simulate(made, "fifo-gated", frames=1)
        assert result.frames["depth"].tolist() == [depth]
        assert [n for n in schedule(made) if n != "m0"] == ([name] if name else [])


def test_a_sieve_skips_a_step_that_does_not_fit_and_its_depth_tells_the_steps() -> None:
    steps = [M, stage("a", "cpu", False, 50), stage("b", "cpu", False, 20)]
    reward = Reward(prior=(0.5, 0.8, 0.6, 0.9))
    for deadline, depth, ran in ((100, 3, ["a0", "b0"]), (70, 1, ["a0"]), (40, 2, ["b0"])):
        made = world([((0,), deadline, steps)], kind="sieve", reward=reward)
        assert simulate(made, "fifo-gated", frames=1).frames["depth"].tolist() == [depth]
        assert [n for n in schedule(made) if n != "m0"] == ran


def test_a_policy_may_choose_among_the_options_and_no_others() -> None:
    class Last(Policy):
        name = "last"

        def pick(self, ready, engine):
            return ready[0], ready[0].options[-1]

    class Beyond(Last):
        def pick(self, ready, engine):
            return ready[0], 0

    steps = [M, stage("a", "cpu", False, 20), stage("b", "cpu", False, 20)]
    made = world([((0,), 100, steps)], kind="sieve")
    assert list(schedule(made, Last())) == ["m0", "b0"], "steps in order: what lies before a step that was done is skipped"
    assert "not ready" in simulate(made, Beyond(), frames=1).policy_fault


def test_a_choice_that_may_not_start_now_gives_way_to_one_that_may() -> None:
    class Last(Policy):
        name = "last"

        def pick(self, ready, engine):
            return ready[0], ready[0].options[-1]

    kinds = [M, stage("small", "cpu", False, 20), stage("large", "cpu", False, 40, units=(1,))]
    made = world([((0, 0), 200, kinds)], cpu=2, kind="version", reward=Reward(prior=(0.5, 0.7, 0.9)))
    ran = schedule(made, Last())
    assert ran == {"m0": [(0, 10, "done"), (10, 20, "done")], "large0": [(10, 50, "done")], "small0": [(20, 40, "done")]}


def test_a_failed_version_leaves_the_others_and_a_failed_step_is_skipped() -> None:
    kinds = [M, stage("small", "cpu", False, 20), stage("large", "cpu", False, 40)]
    made = world([((0,), 200, kinds)], kind="version", reward=Reward(prior=(0.5, 0.7, 0.9)))
    ran = schedule(made, faults=[StageFault("s0", 0, "large0", "failed")])
    assert ran["large0"] == [(10, 50, "failed")] and ran["small0"] == [(50, 70, "done")]
    made = world([((0,), 200, kinds)], kind="sieve", reward=Reward(prior=(0.5, 0.7, 0.9, 0.95)))
    assert simulate(made, "fifo-gated", frames=1, faults=[StageFault("s0", 0, "small0", "failed")]).frames["depth"].tolist() == [2]


def test_made_up_outcomes_of_each_kind_are_calibrated() -> None:
    for kind, depths in (("milestone", 3), ("version", 3), ("sieve", 4)):
        accuracy = (0.7, 0.8, 0.9)
        found, reward = synthetic_outcomes(accuracy, 40_000, "x", 0, kind), synthetic_reward(accuracy, kind)
        assert found.depths == depths == len(reward.prior) == len(reward.correct)
        assert np.allclose(found.correct.mean(axis=0), reward.prior, atol=0.01)
        assert np.allclose(found.confidence.mean(axis=0), reward.prior, atol=0.01)
        for (d, e), curve in reward.gain.items():
            expected = np.interp(found.confidence[:, d], curve.x, curve.y).mean()
            assert abs((found.confidence[:, e] - found.confidence[:, d]).mean() - expected) < 0.01


def test_a_stage_runs_on_its_eligible_units_only_and_others_pass_it() -> None:
    only = [M, replace(O, units=(1,))]
    made = world([((0,), 300, only), ((0,), 300, only), ((0,), 300, [M, O])], cpu=2)
    log = Log()
    simulate(made, "fifo-gated", frames=3, log=log)
    cpu = {row.stage: (row.unit, row.start_ns) for row in log.stages if row.resource == "cpu"}
    assert cpu == {"o0": (1, 10), "o1": (1, 50), "o2": (0, 30)}


def test_preemptive_edf_interrupts_the_later_deadline_and_goes_on_with_it() -> None:
    slow, quick = replace(M, typical_ns=50, wcet_ns=50), replace(M, typical_ns=10, wcet_ns=10)
    made = world([((0,), 200, [slow]), ((20,), 50, [quick])], preemptive=("fpga",))
    assert schedule(made) == {"m0": [(0, 20, "preempted"), (30, 60, "done")], "m1": [(20, 30, "done")]}
    made = world([((0,), 200, [slow]), ((20,), 50, [quick])])
    assert schedule(made) == {"m0": [(0, 50, "done")], "m1": [(50, 60, "done")]}


def test_mandatory_work_interrupts_an_optional_stage_that_goes_on_if_it_still_fits() -> None:
    shared = [replace(M, resource="cpu"), O]
    made = world([((0,), 100, shared), ((30,), 40, [replace(M, resource="cpu")])], preemptive=("cpu",))
    assert schedule(made)["o0"] == [(10, 30, "preempted"), (40, 60, "done")]
    tight = world([((0,), 55, shared), ((30,), 40, [replace(M, resource="cpu")])], preemptive=("cpu",))
    assert schedule(tight)["o0"] == [(10, 30, "preempted")]
    assert simulate(tight, "fifo-gated", frames=2).frames["depth"].tolist() == [0, 0]


def test_fixed_priority_orders_by_rank_not_by_deadline() -> None:
    streams = [((0,), 300, [M]), ((1,), 30, [M]), ((1,), 200, [M])]
    first = [name for name, _ in sorted(schedule(world(streams, order="listed")).items(), key=lambda item: item[1])]
    assert first == ["m0", "m1", "m2"]
    made = world([((0,), 99, [M]), ((1,), 90, [M]), ((1,), 50, [M])])
    assert [n for n, _ in sorted(schedule(made).items(), key=lambda item: item[1])] == ["m0", "m2", "m1"]
    assert [n for n, _ in sorted(schedule(replace(made, order="listed")).items(), key=lambda item: item[1])] == ["m0", "m1", "m2"]


def test_a_transfer_is_a_stage_on_the_dma() -> None:
    move = [stage("in", "dma", True, 5), M, stage("out", "dma", True, 5), O]
    made = world([((0,), 100, move), ((0,), 100, move)])
    found = schedule(made)
    assert found["in0"] == [(0, 5, "done")] and found["in1"] == [(5, 10, "done")] and found["m1"] == [(15, 25, "done")]
    assert found["out0"] == [(15, 20, "done")] and found["o0"] == [(20, 60, "done")]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["milestone", "sieve", "version"]),
       st.sampled_from(["fifo-gated", "least-confident", "threshold"]))
def test_streaming_equals_rows_under_all_conditions_at_once(seed: int, kind: str, policy: str) -> None:
    """Counters sum, and a fresh simulation with the same seed gives the same rows."""
    rules = Conditions(2, 3, {"fpga": "cpu"}, {"cpu": (1.2,)}, {"cpu": Hog(300, 60, 1.7)}, {"cpu": Thermal(1.5, 200)},
                       (RandomFault("o0", "failed", 0.1), RandomFault("p1", "hung", 0.05), RandomFault("m1", "failed", 0.05)),
                       (ResourceFault(700, "cpu", 1), ResourceFault(1100, "cpu", 1, "back")), 20, 60)
    stages = [M, O, stage("p", "cpu", False, 25)]
    made = world([(tuple(range(0, 4000, 45)), 110, stages), (tuple(range(seed % 40, 4000, 70)), 90, stages)], cpu=2, kind=kind,
                 conditions=rules, preemptive=("fpga",) if seed % 2 else ())
    result = simulate(made, policy, seed, 130)
    assert not result.policy_fault
    again = simulate(made, policy, seed, 130, rows=False)
    assert [s for s in again.streams] == result.streams and (again.busy_ns, again.overruns) == (result.busy_ns, result.overruns)
    assert sum(s.captured for s in result.streams) == 130


# The file -------------------------------------------------------------------------------------------------------------

FILE = """
order = "rate-monotonic"
preemptive = ["fpga"]
overhead = "30us"
decision = "40us"
takes_core = { fpga = "cpu" }
[resources]
fpga = 1
cpu = 2
[slowdown.cpu]
beside = [1.1, 1.3]
hog = { every = "10s", length = "3s", factor = 1.8 }
heat = { factor = 1.5, time = "20s", threshold = 0.5 }
[[fault]]
stage = "second"
kind = "hang"
share = 0.001
[[fault]]
resource = "fpga"
lost = "2s"
back = "2.5s"
[give_up]
after = "20ms"
restart = "50ms"
[[stream]]
name = "camera"
rate = 30
drift = -50
drop = 0.01
kind = "sieve"
mk = [2, 5]
quality = 0.8
[[stream.stage]]
name = "first"
resource = "fpga"
mandatory = true
time = "1ms"
[[stream.stage]]
name = "second"
resource = "cpu"
time = "4ms"
units = [1]
[[stream.stage]]
name = "third"
resource = "cpu"
time = "4ms"
[stream.outcomes]
accuracy = [0.8, 0.85, 0.9]
"""


def test_a_scenario_file_says_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(FILE)
    made = scenario.load(path)
    assert made.conditions == Conditions(
        30_000, 40_000, {"fpga": "cpu"}, {"cpu": (1.1, 1.3)}, {"cpu": Hog(10**10, 3 * 10**9, 1.8)}, {"cpu": Thermal(1.5, 20 * 10**9, 0.5)},
        (RandomFault("second", "hung", 0.001),), (ResourceFault(2 * 10**9, "fpga", 0), ResourceFault(2500 * MS, "fpga", 0, "back")),
        20 * MS, 50 * MS)
    stream = made.streams[0]
    assert (stream.kind, stream.mk, stream.quality, stream.deepest, stream.stages[1].units) == ("sieve", (2, 5), 0.8, 3, (1,))
    assert made.order == "rate-monotonic" and made.preemptive == ("fpga",) and made.sources[0].drop == 0.01
    assert stream.period_ns == 33_333_333 - 1667
    result = simulate(made, "fifo-gated", frames=300)
    assert result.missed == 15 and not result.overruns, "half a second without the accelerator"


@pytest.mark.parametrize(("old", "new", "says"), [
    ('stage = "second"\nkind', 'stage = "secund"\nkind', "did you mean 'second'"),
    ('kind = "hang"', 'kind = "hung"', "did you mean 'hang'"),
    ('back = "2.5s"', 'back = "1s"', "after it was lost"),
    ("share = 0.001", "share = 2", "from 0 to 1"),
    ("units = [1]", "units = [2]", "units"),
    ("units = [1]", "units = [true]", "units"),
    ("beside = [1.1, 1.3]", "beside = [0.5]", "factors"),
    ("threshold = 0.5", "threshold = 1", "threshold"),
    ("mk = [2, 5]", "mk = [6, 5]", "mk"),
    ('kind = "sieve"', 'kind = "seive"', "did you mean 'sieve'"),
    ('order = "rate-monotonic"', 'order = "rm"', "order"),
    ('preemptive = ["fpga"]', 'preemptive = ["gpu"]', "preemptive"),
    ("[slowdown.cpu]", "[slowdown.cup]", "cup"),
    ("drop = 0.01", "drop = 1", "drop"),
    ("quality = 0.8", "quality = 80", "quality"),
    ('takes_core = { fpga = "cpu" }', 'takes_core = { fpga = "fpga" }', "takes_core.fpga"),
    ("drift = -50", "drift = 1e9", "drift"),
    ("factor = 1.8", "factor = 0.1", "factor"),
])
def test_what_cannot_be_right_is_refused_in_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "a.toml"
    assert old in FILE
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(ScenarioError) as found:
        scenario.load(path)
    assert says in str(found.value) and str(path) in str(found.value) and "\n" not in str(found.value)
    line = int(str(found.value).split("line ")[1].split(":")[0])
    changed = next(i for i, (a, b) in enumerate(zip(FILE.splitlines(), path.read_text().splitlines()), 1) if a != b)
    assert abs(line - changed) <= 1, "the line of the key, or of its table"

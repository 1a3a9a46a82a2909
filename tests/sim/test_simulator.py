"""The simulator delivers what happens, all of it, once, and the same to every policy."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import simulator, worlds
from imprecise.draws import Constant, Empirical, Listed, Lognormal, Periodic, Releases, Sporadic, typical_ns
from imprecise.engine import Engine
from imprecise.model import Reward, Stage, Stream
from imprecise.policies import make
from imprecise.scenario import Outcomes, Scenario, Source, Workload, load, synthetic_outcomes, synthetic_reward
from imprecise.simulation import ANSWERED, MISSED, Log
from imprecise.simulator import ResourceFault, StageFault, simulate

SPLITTING = ("mandatory-only", "fifo-gated", "least-confident", "threshold:theta=0.9", "depth-dp")
ALL = (*SPLITTING, "monolithic", "monolithic:gate=0")
ACCURACY = (0.8, 0.9, 0.95)


def source(name: str, arrivals, times, resources=("fpga", "cpu", "cpu"), deadline_ns: int = 100, mandatory: int = 1,
           weight: float = 1.0, labelled: bool = True) -> Source:
    """A stream with one stage a duration model, the first `mandatory` of them mandatory."""
    stages = tuple(Stage(f"{name}.{i}", r, i < mandatory, 0, typical_ns(model)) for i, (r, model) in enumerate(zip(resources, times)))
    depths = len(times) - mandatory + 1
    outcomes = synthetic_outcomes(ACCURACY[:depths], 50, name) if labelled else None
    reward = synthetic_reward(ACCURACY[:depths]) if labelled else Reward(prior=ACCURACY[:depths])
    work = Workload(stages, tuple(times), reward, outcomes, None)
    return Source(Stream(name, arrivals.period_ns, deadline_ns, stages, arrivals.jitter_ns, weight, reward), arrivals, work)


def cameras(count: int = 3, seed: int = 0) -> Scenario:
    """Streams of all kinds of arrivals and durations that overload one accelerator and two workers now and then."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        arrivals = (Periodic(40 + 7 * i, -1, 5 * (i % 2)), Sporadic(30, 20 + i, 3),
                    Releases(tuple(sorted(rng.randrange(20_000) for _ in range(300)))))[i % 3]
        times = (Empirical((6, 7, 8, 12)), Lognormal(14 + i, 0.4), Listed((11, 25, 18)))
        made.append(source(f"s{i}", arrivals, times, deadline_ns=70 + 10 * i, weight=1 + i))
    return Scenario("cameras", tuple(made), {"fpga": 1, "cpu": 2}, guard_ns=3)


# Against an independent simulator --------------------------------------------------------------------------------------


def naive_edf(tasks: list[tuple[int, int, int, list[int]]], frames: int) -> list[tuple[int, int, int]]:
    """Non-preemptive EDF on one unit, by looking at every instant: (task, frame, time answered or -1), in order of release.

    `tasks`: (period, offset, deadline, durations by frame, cyclic). A job waits in the queue until its deadline.
    """
    jobs = sorted((offset + k * period, i, k) for i, (period, offset, _, _) in enumerate(tasks) for k in range(frames))[:frames]
    answered = {job: -1 for job in jobs}
    queue: list[tuple[int, int, int]] = []
    running, ends, now, coming = None, 0, 0, 0
    while coming < len(jobs) or queue or running:
        if running and ends == now:
            if now <= running[0] + tasks[running[1]][2]:
                answered[running] = now
            running = None
        while coming < len(jobs) and jobs[coming][0] == now:
            queue.append(jobs[coming])
            coming += 1
        queue = [job for job in queue if job[0] + tasks[job[1]][2] > now]
        if not running and queue:
            running = min(queue, key=lambda job: (job[0] + tasks[job[1]][2], job))
            queue.remove(running)
            durations = tasks[running[1]][3]
            ends = now + durations[running[2] % len(durations)]
        now += 1
    return [(i, k, answered[release, i, k]) for release, i, k in jobs]


durations = st.lists(st.integers(1, 8), min_size=1, max_size=4)
task_sets = st.lists(st.tuples(st.integers(2, 15), st.integers(0, 9), st.integers(1, 20), durations), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(task_sets, st.sampled_from(["monolithic:gate=0", "mandatory-only", "fifo-gated"]))
def test_one_resource_equals_a_naive_edf_simulator(tasks, policy):
    sources = tuple(source(f"t{i}", Periodic(period, offset), [Listed(tuple(durations))], ("cpu",), deadline)
                    for i, (period, offset, deadline, durations) in enumerate(tasks))
    result = simulate(Scenario("tasks", sources, {"cpu": 1}), policy, 0, 60)
    found = [(row["stream"], row["frame"], row["published_ns"]) for row in result.frames]
    assert [tuple(map(int, row)) for row in found] == naive_edf(tasks, 60)


def test_a_stage_that_ends_when_a_frame_arrives_is_seen_with_it():
    """At 10 the unit gets free and an urgent frame arrives: it must start before the patient one that waits since 5."""
    patient = source("patient", Releases((0, 5)), [Constant(10)], ("cpu",), 90)
    urgent = source("urgent", Releases((10,)), [Constant(10)], ("cpu",), 12)
    log = Log()
    simulate(Scenario("tie", (patient, urgent), {"cpu": 1}), "monolithic:gate=0", 0, 10, log=log)
    assert [(row.job, row.start_ns) for row in log.stages] == [(0, 0), (2, 10), (1, 20)]
    assert [now for now, events, _ in log.steps if len(events) == 2] == [10]


# What every policy sees is the same -------------------------------------------------------------------------------------


def test_all_policies_see_the_same_frames_and_durations():
    world, seen, took = cameras(), [], {}
    for policy in ALL:
        log = Log()
        table = simulate(world, policy, 4, 300, log=log).frames
        seen.append(table[["stream", "frame", "item", "job", "release_ns", "arrival_ns", "deadline_ns"]].tolist())
        for row in log.stages:
            assert took.setdefault((row.job, row.stage), row.end_ns - row.start_ns) == row.end_ns - row.start_ns
    assert all(rows == seen[0] for rows in seen)
    assert len(took) > 600


def test_another_stream_changes_nothing_for_the_others():
    """Streams on resources of their own: one more leaves every figure of the first as it is."""
    one = source("one", Sporadic(20, 15, 4), (Empirical((3, 5, 9)), Lognormal(9, 0.5)), ("a", "b"), 30)
    two = source("two", Periodic(11, -1, 2), (Empirical((2, 4)), Lognormal(5, 0.5)), ("c", "d"), 20)
    resources = {"a": 1, "b": 1, "c": 1, "d": 1}
    alone = simulate(Scenario("alone", (one,), resources), "fifo-gated", 7, 200).frames
    both = simulate(Scenario("both", (two, one), resources), "fifo-gated", 7, 1000).frames
    columns = ["frame", "item", "release_ns", "arrival_ns", "completed_ns", "published_ns", "depth", "status", "utility", "correct"]
    mine = both[both["stream"] == 1][columns][:200]
    assert len(mine) == 200 and mine.tolist() == alone[columns].tolist()


def test_draws_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch):
    """Nor does the order of frames that are seen at one instant, by (stream, frame)."""
    bursts = tuple(t for t in range(0, 4000, 40) for _ in range(5))
    tied = tuple(source(f"s{i}", Releases(bursts), (Empirical((2, 3)), Constant(4), Constant(4)), deadline_ns=90) for i in range(2))
    worlds = [cameras(), Scenario("tied", tied, {"fpga": 1, "cpu": 2})]
    before = [simulate(world, "depth-dp", 3, 500).frames for world in worlds]
    for size in (3, 7, 64):
        monkeypatch.setattr(simulator, "CHUNK", size)
        for world, frames in zip(worlds, before):
            assert simulate(world, "depth-dp", 3, 500).frames.tolist() == frames.tolist()
    order = before[1][["arrival_ns", "stream", "frame"]].tolist()
    assert order == sorted(order)


def test_the_seed_decides_everything():
    world = cameras()
    a, b, c = (simulate(world, "least-confident", seed, 400) for seed in (1, 1, 2))
    assert a.frames.tolist() == b.frames.tolist() and a.summary() == b.summary()
    assert a.frames.tolist() != c.frames.tolist()


# Counters ---------------------------------------------------------------------------------------------------------------


faults_on = st.lists(st.builds(
    lambda s, f, k, kind, after, back, times: StageFault(f"s{s}", f, f"s{s}.{k}", kind, after, back, times),
    st.integers(0, 2), st.integers(0, 30), st.integers(0, 2), st.sampled_from(["failed", "abandoned"]), st.integers(0, 40),
    st.integers(0, 300), st.integers(1, 4)) | st.builds(
    ResourceFault, st.integers(0, 1500), st.just("cpu"), st.integers(0, 1), st.sampled_from(["lost", "back"])) | st.builds(
    ResourceFault, st.integers(0, 1500), st.just("fpga"), st.just(0), st.sampled_from(["lost", "back"])), max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ALL), st.integers(0, 99), faults_on)
def test_counters_sum_and_streaming_equals_rows_whatever_fails(policy, seed, faults):
    world = cameras()
    log = Log()
    full = simulate(world, policy, seed, 120, faults=faults, log=log)
    lean = simulate(world, policy, seed, 120, faults=faults, rows=False)
    table = full.frames
    assert lean.frames is None and lean.streams == full.streams and lean.busy_ns == full.busy_ns and lean.steps == full.steps
    assert len(table) == full.captured == sum(full.answered) + full.missed == 120
    assert table["job"].tolist() == list(range(120)) and (np.diff(table["arrival_ns"]) >= 0).all()
    for i, totals in enumerate(full.streams):
        mine = table[table["stream"] == i]
        assert len(mine) == totals.captured and sorted(mine["frame"].tolist()) == list(range(len(mine)))
        assert totals.answered == [int(((mine["depth"] == d) & (mine["status"] == ANSWERED)).sum()) for d in range(3)]
        assert totals.utility == pytest.approx(mine["utility"].sum())
        assert totals.correct == (mine["correct"] == 1).sum()
        runs = "".join("x" if row["status"] == MISSED else " " for row in np.sort(mine, order="frame")).split()
        assert totals.longest_misses == max(map(len, runs), default=0)
    answered, missed = table[table["status"] == ANSWERED], table[table["status"] == MISSED]
    assert (answered["published_ns"] <= answered["deadline_ns"]).all() and (answered["completed_ns"] <= answered["published_ns"]).all()
    assert (answered["completed_ns"] >= answered["release_ns"]).all() and (missed["depth"] == -1).all() and not missed["utility"].any()
    assert full.busy_ns == {r: sum(row.end_ns - row.start_ns for row in log.stages if row.resource == r) for r in full.busy_ns}
    assert full.discarded == sum(row.status == "late" for row in log.stages)
    assert not full.policy_fault


def test_utility_and_correctness_are_those_of_the_published_depth():
    world = cameras()
    for policy in ALL:
        for row in simulate(world, policy, 2, 200).frames:
            work = world.sources[row["stream"]].work
            if row["status"] == MISSED:
                assert (row["correct"], row["utility"], row["published_ns"]) == (0, 0.0, -1)
                continue
            assert row["confidence"] == work.outcomes.confidence[row["item"], row["depth"]]
            assert row["correct"] == work.outcomes.correct[row["item"], row["depth"]]
            assert row["utility"] == pytest.approx(work.reward.utility(int(row["depth"]), float(row["confidence"])))


def test_without_outcomes_utility_is_the_prior_and_nothing_is_labelled():
    world = Scenario("plain", (source("s", Periodic(50), (Constant(5), Constant(9)), labelled=False),), {"fpga": 1, "cpu": 1})
    result = simulate(world, "fifo-gated", 0, 20)
    assert set(result.frames["correct"]) == {-1} and set(result.frames["item"]) == {-1}
    assert result.utility == pytest.approx(0.9) and result.summary()["accuracy"] is None


def test_weights_count_in_the_weighted_utility_only():
    result = simulate(cameras(), "mandatory-only", 1, 300)
    table, weight = result.frames, np.array([1.0, 2.0, 3.0])
    assert result.utility == pytest.approx(table["utility"].mean())
    assert result.weighted_utility == pytest.approx(np.average(table["utility"], weights=weight[table["stream"]]))
    assert result.utility != pytest.approx(result.weighted_utility, abs=1e-6)


@pytest.mark.parametrize("policy", ["fifo-gated", "monolithic:gate=0"])
def test_the_streaming_latency_is_within_its_precision(policy):
    world = load("made-up", load=2.0)
    full, lean = simulate(world, policy, 5, 600), simulate(world, policy, 5, 600, rows=False)
    for share in (0.01, 0.2, 0.5, 0.9, 0.99, 1.0):
        assert lean.latency_ns(share) == pytest.approx(full.latency_ns(share), rel=0.016)
    late = np.where(full.frames["status"] == ANSWERED, full.frames["published_ns"] - full.frames["release_ns"], np.inf)
    assert full.latency_ns(0.2) == np.sort(late)[119]
    assert full.latency_ns(1.0) == late.max()  # infinite where a frame was missed


# The log ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ALL)
def test_logged_events_fed_to_a_new_engine_give_the_same_actions(policy):
    world, log = cameras(), Log()
    faults = (StageFault("s0", 3, "s0.0"), StageFault("s1", 2, "s1.1", "abandoned", 4, 60), ResourceFault(700, "cpu", 0),
              ResourceFault(900, "cpu", 0, "back"))
    simulate(world, policy, 8, 200, log=log, faults=faults)
    engine = Engine(world.streams, world.resources, make(policy), world.guard_ns, world.blocking_ns)
    for now_ns, events, actions in log.steps:
        assert engine.step(now_ns, events) == actions
    times = [now_ns for now_ns, _, _ in log.steps]
    assert times == sorted(set(times))  # all events of one instant in one step


def test_options_reach_the_engine():
    world = Scenario("shared", (source("s", Periodic(50), (Constant(5), Constant(9)), ("cpu", "cpu")),), {"cpu": 1})
    assert simulate(world, "fifo-gated", 0, 20).answered == [0, 20]
    assert simulate(world, "fifo-gated", 0, 20, options={"blocking_ns": {"cpu": 8}}).answered == [20, 0]


# Faults -----------------------------------------------------------------------------------------------------------------


def one_camera() -> Scenario:
    """Mandatory 10 on the accelerator, optional 20 and 20 on one worker, a frame every 100, deadline 100."""
    return Scenario("one", (source("s", Periodic(100), (Constant(10), Constant(20), Constant(20))),), {"fpga": 1, "cpu": 1})


def outcome(*faults) -> list[tuple[int, int]]:
    """(depth, completed) of each frame of `one_camera`, times from the frame's release; -1 where it was missed."""
    table = simulate(one_camera(), "fifo-gated", 0, 3, faults=faults).frames
    return [(int(r["depth"]), int(r["completed_ns"] - r["release_ns"]) if r["depth"] >= 0 else -1) for r in table]


def test_without_faults_everything_is_refined():
    assert outcome() == [(2, 50)] * 3


def test_a_failed_mandatory_stage_is_tried_again():
    assert outcome(StageFault("s", 1, "s.0")) == [(2, 50), (2, 60), (2, 50)]
    assert outcome(StageFault("s", 1, "s.0", times=2, after_ns=3)) == [(2, 50), (2, 56), (2, 50)]


def test_a_mandatory_stage_that_always_fails_is_a_miss():
    assert outcome(StageFault("s", 1, "s.0", times=3)) == [(2, 50), (-1, -1), (2, 50)]


def test_a_failed_optional_stage_leaves_the_depth_before_it():
    assert outcome(StageFault("s", 1, "s.2", after_ns=5)) == [(2, 50), (1, 30), (2, 50)]
    assert outcome(StageFault("s", 1, "s.1")) == [(2, 50), (0, 10), (2, 50)]


def test_an_abandoned_stage_takes_its_unit_until_it_is_back():
    assert outcome(StageFault("s", 0, "s.1", "abandoned", 5)) == [(0, 10), (0, 10), (0, 10)]
    assert outcome(StageFault("s", 0, "s.1", "abandoned", 5, back_ns=120)) == [(0, 10), (2, 75), (2, 50)]


def test_a_lost_unit_fails_what_runs_there():
    assert outcome(ResourceFault(115, "cpu", 0)) == [(2, 50), (0, 10), (0, 10)]
    assert outcome(ResourceFault(115, "cpu", 0), ResourceFault(205, "cpu", 0, "back")) == [(2, 50), (0, 10), (2, 50)]
    assert outcome(ResourceFault(105, "fpga", 0), ResourceFault(130, "fpga", 0, "back")) == [(2, 50), (2, 80), (2, 50)]
    assert outcome(ResourceFault(105, "fpga", 0)) == [(2, 50), (-1, -1), (-1, -1)]


@pytest.mark.parametrize(("fault", "rows"), [
    (StageFault("s", 0, "s.0"), [(0, 5, "preempted"), (8, 13, "failed"), (13, 23, "done")]),
    (StageFault("s", 0, "s.0", "abandoned", 7, 6), [(0, 5, "preempted"), (8, 10, "abandoned"), (16, 26, "done")]),
    (StageFault("s", 0, "s.0", "hung"), [(0, 5, "preempted"), (8, 10**9 + 100, "abandoned")]),
    (StageFault("s", 0, "s.0", times=2), [(0, 5, "preempted"), (8, 13, "failed"), (13, 23, "failed"), (23, 33, "done")]),
])
def test_a_stage_that_is_interrupted_goes_on_to_the_end_that_it_was_to_have(fault, rows):
    """10 on the CPU, interrupted after 5 by 3 of another; one attempt, so one fault."""
    streams = (source("s", Releases((0,)), (Constant(10),), ("cpu",)), source("t", Releases((5,)), (Constant(3),), ("cpu",), 20))
    log = Log()
    simulate(Scenario("two", streams, {"cpu": 1}, preemptive=("cpu",)), "mandatory-only", 0, 2, faults=[fault], log=log)
    assert [(row.start_ns, row.end_ns, row.status) for row in log.stages if row.stage == "s.0"] == rows


@pytest.mark.parametrize("fault", [StageFault("nobody", 0, "s.0"), StageFault("s", 0, "nothing"), StageFault("s", 0, "s.0", "burnt"),
                                   ResourceFault(5, "gpu", 0), ResourceFault(5, "cpu", 1), ResourceFault(5, "cpu", 0, "burnt")])
def test_a_fault_that_names_nothing_is_refused(fault):
    with pytest.raises(ValueError, match="no such fault"):
        simulate(one_camera(), "fifo-gated", 0, 3, faults=[fault])


# Limits -----------------------------------------------------------------------------------------------------------------


def test_streaming_memory_does_not_grow_with_the_frames(monkeypatch):
    monkeypatch.setattr(simulator, "CHUNK", 256)
    monkeypatch.setattr(worlds, "CHUNK", 256)
    world = load("made-up", load=3.0)

    def peak(frames: int) -> int:
        tracemalloc.start()
        simulate(world, "monolithic:gate=0", 1, frames, rows=False)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(200)
    assert peak(6000) < 1.2 * peak(1500)


def test_listed_releases_may_end_before_the_frames_do():
    world = Scenario("short", (source("s", Releases((5, 5, 9)), (Constant(2),), ("cpu",)),), {"cpu": 1})
    result = simulate(world, "monolithic", 0, 1000)
    assert result.captured == 3 and result.frames["release_ns"].tolist() == [5, 5, 9]


def test_no_frames_and_times_beyond_the_clock_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        simulate(one_camera(), "fifo-gated", 0, 0)
    slow = Scenario("slow", (source("s", Periodic(1 << 60), (Constant(5),), ("cpu",)),), {"cpu": 1})
    with pytest.raises(ValueError, match="beyond"):
        simulate(slow, "fifo-gated", 0, 100)


def test_progress_is_told():
    told: list[int] = []
    simulate(one_camera(), "fifo-gated", 0, 50, progress=told.append)
    assert told and told == sorted(told) and told[-1] == 50


def test_outcomes_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        Outcomes(np.zeros((3, 2)), np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Outcomes(np.full((3, 2), np.nan), np.zeros((3, 2), dtype=bool))
    stage = Stage("s", "cpu", True)
    with pytest.raises(ValueError, match="depths"):
        Workload((stage,), (Constant(1),), Reward(), Outcomes(np.zeros((3, 2)), np.zeros((3, 2), dtype=bool)))

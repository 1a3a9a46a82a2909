"""The ladder of clairvoyant bounds: against every schedule there is, a programme over single instants, and all policies."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from imprecise import ladder_exact, ladder_program, ladder_relax, scenario
from imprecise.conditions import Conditions, Hog
from imprecise.draws import Constant, Empirical, Listed, Lognormal, Periodic, Sporadic
from imprecise.ladder import LadderFrame, Segment, clairvoyant, frames_of, mandatory_only_utility, utility_of, worth_of
from imprecise.ladder_model import item_of, pool_of
from imprecise.model import Curve, Reward, Stage, Stream
from imprecise.policies import names
from imprecise.scenario import Scenario, Source, Workload
from imprecise.simulation import ANSWERED, DROPPED
from imprecise.simulator import simulate
from imprecise.workload import Outcomes, synthetic_outcomes, synthetic_reward

RANDOM = st.integers(0, 2**40).map(random.Random)
EPS = 1e-6
SHAPES = (("fpga", "cpu", "cpu"), ("fpga", "cpu"), ("cpu", "cpu", "cpu"), ("cpu", "fpga", "cpu"), ("fpga", "cpu", "gpu"))


def tiny(rng: random.Random, n: int, shapes=SHAPES, most: int = 6, spread: int = 12) -> list[LadderFrame]:
    """A few frames in small integers; worth may fall with depth."""
    out = []
    for _ in range(n):
        shape = rng.choice(shapes)
        mandatory = 2 if shape[1] == "fpga" else 1
        arrival, durations = rng.randint(0, spread), [rng.randint(0 if rng.random() < 0.1 else 1, most) for _ in shape]
        publish = arrival + rng.randint(1, 3 * most)
        worth = [rng.random()]
        while len(worth) <= len(shape) - mandatory:
            worth.append(min(1.0, max(0.0, worth[-1] + rng.uniform(-0.1, 0.4))))
        right = tuple(int(rng.random() < w) for w in worth)
        out.append(LadderFrame(arrival - rng.randint(0, 2), publish, tuple(zip(shape, durations)), mandatory, tuple(worth), right,
                               rng.choice([1.0, 1.0, 2.0, 0.5]), arrival, publish + rng.choice([0, 2])))
    return out


# Every schedule there is ----------------------------------------------------------------------------------------------


def best_of_all(frames: list[LadderFrame], resources: dict[str, int]) -> float:
    """The most value of any schedule of whole stages: every order, every unit, every depth.

    Whatever a schedule's idle times, its stages in order of their starts, each as early as that order allows, are no later.
    """
    names_ = sorted(resources)
    best, seen = 0.0, set()
    stack = [((0,) * len(frames), tuple(f.arrival_ns for f in frames), tuple((0,) * resources[name] for name in names_))]
    while stack:
        state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        done, at, free = state
        best = max(best, sum(f.weight * f.worth[k - f.mandatory] for f, k in zip(frames, done) if k >= f.mandatory))
        for i, f in enumerate(frames):
            if done[i] == len(f.stages):
                continue
            name, took = f.stages[done[i]]
            r = names_.index(name)
            for unit in set(free[r]):
                end = max(unit, at[i]) + took
                if end <= (f.due_ns if done[i] < f.mandatory else f.publish_ns):
                    units = list(free[r])
                    units[units.index(unit)] = end
                    stack.append(((*done[:i], done[i] + 1, *done[i + 1:]), (*at[:i], end, *at[i + 1:]),
                                  (*free[:r], tuple(sorted(units)), *free[r + 1:])))
    return best


def same_as_all_schedules(rng: random.Random, n: int) -> None:
    frames = tiny(rng, n)
    resources = {"fpga": 1, "cpu": rng.choice([1, 2]), "gpu": 1}
    truth = best_of_all(frames, resources)
    two, one = (clairvoyant(frames, resources, name, tolerance=0.0) for name in ("B2", "B1"))
    assert two.lower <= truth + 1e-12
    assert two.upper >= truth - EPS
    assert one.upper >= truth - EPS
    assert one.upper >= two.lower - EPS
    if all(window.n * 3 <= 12 for window in two.windows):
        assert two.lower == pytest.approx(truth, abs=1e-5)
        assert two.upper == pytest.approx(truth, abs=1e-5)
    pool = pool_of(frames, resources)
    items = [item_of(i, frame, pool, "B2") for i, frame in enumerate(frames)]
    base, rivals = sum(item.base for item in items), [item for item in items if item.options]
    assert base + ladder_relax.atomic(rivals, pool.units) >= truth - EPS
    assert base + ladder_relax.atomic(rivals, pool.units, bins=5) >= base + ladder_relax.atomic(rivals, pool.units) - EPS
    assert base + ladder_relax.fractional(rivals, pool.units)[0] >= truth - EPS
    prices = np.arange(20, dtype=np.int64), rng.random() * np.array([rng.random() for _ in range(19)])  # whatever the prices
    assert base + ladder_relax.priced(rivals, pool.units, prices, True) >= truth - EPS
    assert base + ladder_relax.priced(rivals, pool.units, prices, False) >= one.lower - EPS


@settings(max_examples=100, deadline=None)
@given(RANDOM, st.integers(1, 4))
def test_b2_is_the_best_of_all_schedules_of_a_few_frames(rng: random.Random, n: int) -> None:
    same_as_all_schedules(rng, n)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(RANDOM, st.integers(2, 5))
def test_b2_is_the_best_of_all_schedules_of_more_frames(rng: random.Random, n: int) -> None:
    same_as_all_schedules(rng, n)


def test_the_exact_programme_inserts_idle_time_where_that_pays() -> None:
    """A long stage is ready first; starting it at once would make the frame that matters late."""
    frames = [LadderFrame(0, 20, (("fpga", 0), ("cpu", 10)), 1, (0.5, 0.6), (1, 1), 1.0, 0),
              LadderFrame(1, 4, (("fpga", 0), ("cpu", 3)), 1, (0.5, 0.9), (1, 1), 1.0, 1)]
    bound = clairvoyant(frames, {"fpga": 1, "cpu": 1}, "B2")
    assert bound.exact and bound.upper == pytest.approx(1.5)
    assert [(s.frame, s.start_ns) for s in bound.schedule if s.resource == "cpu"] == [(1, 1), (0, 4)]
    late = [frames[0]._replace(publish_ns=12, deadline_ns=12), frames[1]]
    assert clairvoyant(late, {"fpga": 1, "cpu": 1}, "B2").upper == pytest.approx(1.4)  # only one of them: the other's 0.1 is lost
    assert clairvoyant(late, {"fpga": 1, "cpu": 1}, "B1").upper == pytest.approx(1.4 + 0.1 * 0.9)  # nine tenths of it are not


def test_what_preemption_could_do_is_not_denied_where_resources_are_preemptive() -> None:
    frames = [LadderFrame(0, 13, (("fpga", 0), ("cpu", 10)), 1, (0.5, 0.6), (1, 1), 1.0, 0),
              LadderFrame(1, 4, (("fpga", 0), ("cpu", 3)), 1, (0.5, 0.9), (1, 1), 1.0, 1)]
    assert clairvoyant(frames, {"fpga": 1, "cpu": 1}, "B2").upper == pytest.approx(1.4)
    assert clairvoyant(frames, {"fpga": 1, "cpu": 1}, "B2", preemptive=("cpu",)).upper == pytest.approx(1.5)


# A programme over single instants -------------------------------------------------------------------------------------


def instant_by_instant(frames: list[LadderFrame], resources: dict[str, int], bound: str) -> float:
    """The fractional optimum in steps of one time unit: x[frame, instant] in 0..1, all depths mixed; mandatory lead without waiting."""
    cost, columns, rows, work = [], [], [], []
    horizon = max(f.due_ns for f in frames) + 1
    room = {t: {} for t in range(-5, horizon)}
    shares = []
    for f in frames:
        value = f.right if bound == "B0" else f.worth
        shared = any(name == "cpu" for name, _ in f.stages[:f.mandatory])
        ready = f.arrival_ns + sum(took for name, took in f.stages[:f.mandatory] if name != "cpu")
        mix, load = {}, {}
        for depth in range(len(value)):
            need = sum(took for name, took in f.stages[:f.mandatory + depth] if name == "cpu")
            if ready + need <= (f.publish_ns if depth else f.due_ns):
                mix[len(cost)], load[len(cost)] = 1.0, float(need)
                cost.append(-f.weight * value[depth])
                columns.append((0.0, 1.0))
        shares.append(mix)
        for t in range(ready, f.due_ns if shared else f.publish_ns):
            room[t][len(cost)] = 1.0
            load[len(cost)] = -1.0
            cost.append(0.0)
            columns.append((0.0, 1.0))
        work.append(load)
    limits = [1.0] * len(shares) + [0.0] * len(work) + [resources["cpu"]] * len(room)
    for entries, limit in zip([*shares, *work, *room.values()], limits):
        row = np.zeros(len(cost))
        for c, value in entries.items():
            row[c] = value
        rows.append((row, limit))
    found = linprog(cost, A_ub=np.array([r for r, _ in rows]), b_ub=[limit for _, limit in rows], bounds=columns) if cost else None
    return -found.fun if found is not None else 0.0


@settings(max_examples=80, deadline=None)
@given(RANDOM, st.integers(1, 12), st.sampled_from(["B0", "B1"]))
def test_fractional_bounds_are_the_programme_of_single_instants_and_windows_never_go_below(rng: random.Random, n: int, name: str) -> None:
    frames = tiny(rng, n, SHAPES[:3], spread=25)
    resources = {"fpga": n, "cpu": rng.choice([1, 2, 3])}
    truth = instant_by_instant(frames, resources, name)
    for window in (10, 40, 10_000):
        bound = clairvoyant(frames, resources, name, tolerance=0.0, window=window)
        assert bound.upper >= truth - EPS
        assert bound.lower <= truth + EPS
        if window == 10_000 and all(f.due_ns == f.publish_ns for f in frames):
            assert bound.upper == pytest.approx(truth, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(RANDOM, st.integers(1, 10), st.integers(1, 3))
def test_relaxations_are_exact_for_what_they_assume(rng: random.Random, n: int, units: int) -> None:
    """Frames of one relative deadline: on one unit the table is the best of all schedules, the greedy is the programme."""
    window = rng.randint(3, 12)
    frames = [f._replace(publish_ns=f.arrival_ns + window, deadline_ns=-1, stages=(("fpga", 0), *f.stages[1:]))
              for f in tiny(rng, n, SHAPES[:2], spread=25)]
    pool = pool_of(frames, resources := {"fpga": n, "cpu": units})
    items = [item_of(i, frame, pool, "B1") for i, frame in enumerate(frames)]
    base, rivals = sum(item.base for item in items), [item for item in items if item.options]
    greedy, programme = base + ladder_relax.fractional(rivals, units)[0], instant_by_instant(frames, resources, "B1")
    assert greedy == pytest.approx(programme, abs=EPS) if units == 1 else greedy >= programme - EPS
    if n <= 5 and units == 1:
        assert base + ladder_relax.atomic(rivals, 1) == pytest.approx(best_of_all(frames, resources), abs=EPS)
    if rivals:
        prices, pieces = ladder_program.solve(rivals, units)
        assert base + ladder_relax.priced(rivals, units, prices, False) == pytest.approx(programme, abs=1e-5)
        assert all(end > start and 0 <= unit < units for start, end, unit, _ in pieces)


def test_windows_of_the_programme_cost_little_on_a_long_timeline() -> None:
    rng = random.Random(1)
    frames = long_run(rng, 400, 2)
    bounds = [clairvoyant(frames, {"fpga": 1, "cpu": 2}, "B1", tolerance=0.0, window=window) for window in (300, 1500, 10**9)]
    gain = bounds[-1].upper - mandatory_only_utility(frames)
    assert bounds[-1].gap < 1e-3 * gain
    for bound in bounds:
        assert bounds[-1].lower - EPS <= bound.upper <= bounds[-1].upper + 0.02 * gain
        assert bound.gap < 0.03 * gain


# Schedules ------------------------------------------------------------------------------------------------------------


def long_run(rng: random.Random, n: int, units: int, mixed: bool = True) -> list[LadderFrame]:
    """Frames of several streams that ask for 1.5 times what the units can do; times as of a real machine."""
    out, at = [], 0
    for _ in range(n):
        at += int(rng.expovariate(1.5 * units / 11e6))
        window = rng.choice([20, 33, 66]) * 1_000_000 if mixed else 33_000_000
        worth = [1 - rng.random() ** 5]
        for _ in range(2):
            worth.append(max(0.0, worth[-1] + (1 - worth[-1]) * rng.uniform(-0.2, 0.9)))
        durations = [int(rng.lognormvariate(0, 0.2) * mean) for mean in (4e5, 4e6, 7e6)]
        u = rng.random()
        out.append(LadderFrame(at, at + window - 500_000, tuple(zip(("fpga", "cpu", "cpu"), durations)), 1, tuple(worth),
                               tuple(int(u < w) for w in worth), rng.choice([1.0, 2.0]), at + rng.randrange(10**6), at + window))
    return out


def value_by_looking(frames: list[LadderFrame], resources: dict[str, int], schedule: tuple[Segment, ...], whole: bool) -> float:
    """Check a schedule pair by pair; the value of the depths that are complete."""
    for a, b in itertools.combinations(schedule, 2):
        apart = a.end_ns <= b.start_ns or b.end_ns <= a.start_ns
        assert apart or ((a.resource, a.unit) != (b.resource, b.unit) and a.frame != b.frame), f"{a} and {b} at once"
        if a.frame == b.frame and a.stage < b.stage:
            assert a.end_ns <= b.start_ns
    total = 0.0
    for i, f in enumerate(frames):
        ran = [[s for s in schedule if (s.frame, s.stage) == (i, k)] for k in range(len(f.stages))]
        for k, (name, took) in enumerate(f.stages):
            assert all(s.resource == name and 0 <= s.unit < resources[name] and s.start_ns >= f.arrival_ns for s in ran[k])
            assert all(s.end_ns <= (f.due_ns if k < f.mandatory else f.publish_ns) for s in ran[k])
            assert sum(s.end_ns - s.start_ns for s in ran[k]) <= took
            assert not whole or len(ran[k]) <= 1
        complete = [bool(s) and sum(x.end_ns - x.start_ns for x in s) == took for s, (_, took) in zip(ran, f.stages)]
        count = [*complete, False].index(False)
        assert not any(ran[k] for k in range(count + 1, len(ran)))
        assert not (whole and count < len(ran) and ran[count])
        total += f.weight * f.worth[count - f.mandatory] if count >= f.mandatory else 0.0
    return total


@settings(max_examples=30, deadline=None)
@given(RANDOM, st.integers(1, 25), st.sampled_from(["B0", "B1", "B2"]))
def test_schedules_are_feasible_and_worth_the_lower_side(rng: random.Random, n: int, name: str) -> None:
    frames = tiny(rng, n, spread=3 * n) if rng.random() < 0.5 else long_run(rng, n, 2)
    resources = {"fpga": rng.choice([1, 2]), "cpu": rng.choice([1, 2, 3]), "gpu": 1}
    bound = clairvoyant(frames, resources, name, tolerance=rng.choice([0.0, 1.0]), states=rng.choice([2, 50]),
                        window=rng.choice([20, 1000]))
    complete = value_by_looking(frames, resources, bound.schedule, name == "B2")
    if name == "B2":
        assert complete == pytest.approx(bound.lower)
    elif name == "B1":
        assert bound.lower >= complete - EPS or any(a > b for f in frames for a, b in itertools.pairwise(f.worth))
    assert worth_of(frames, resources, bound.schedule, name) == bound.lower
    assert bound.n == n and sum(window.n for window in bound.windows) == n
    assert bound.upper == pytest.approx(max(bound.lower, sum(window.upper for window in bound.windows)))
    assert bound.mean_upper == pytest.approx(bound.upper / sum(f.weight for f in frames))


def test_the_checker_rejects_what_is_not_a_schedule() -> None:
    frames = [LadderFrame(0, 20, (("fpga", 2), ("cpu", 4), ("cpu", 5)), 1, (0.5, 0.7, 0.9), (0, 1, 1), 2.0, 1, 22),
              LadderFrame(0, 20, (("fpga", 2), ("cpu", 4)), 1, (0.5, 0.6), (0, 1), 1.0, 0)]
    resources = {"fpga": 1, "cpu": 2}
    good = [Segment(1, 0, "fpga", 0, 0, 2), Segment(0, 0, "fpga", 0, 2, 4), Segment(0, 1, "cpu", 0, 4, 8), Segment(0, 2, "cpu", 1, 8, 13)]
    assert worth_of(frames, resources, good, "B2") == pytest.approx(2 * 0.9 + 0.5)
    assert worth_of(frames, resources, good, "B0") == pytest.approx(2.0)
    half = [*good[:2], Segment(0, 1, "cpu", 0, 4, 6)]
    assert worth_of(frames, resources, half, "B1") == pytest.approx(2 * (0.5 + 0.2 * 2 / 4) + 0.5)
    assert worth_of(frames, resources, half, "B0") == pytest.approx(2 * 2 / 4)
    poor = [frames[0]._replace(worth=(0.5, 0.4, 0.9)), frames[1]]
    assert worth_of(poor, resources, half, "B1") == pytest.approx(2 * (0.5 + 0.4 * 2 / 9) + 0.5)  # on the way to depth 2
    for at, bad, message in [
        (0, {"start_ns": 1, "end_ns": 3}, "two things at once"), (1, {"unit": 1}, "no such piece"), (2, {"end_ns": 7}, "not the whole"),
        (2, {"start_ns": 3, "end_ns": 7}, "not between"), (3, {"start_ns": 16, "end_ns": 21}, "not between"),
        (2, {"resource": "fpga", "start_ns": 4, "end_ns": 8}, "not between"), (3, {"stage": 1, "end_ns": 12}, "ran for"),
        (3, {"end_ns": 7}, "no such piece"),
    ]:
        broken = [*good[:at], good[at]._replace(**bad), *good[at + 1:]]
        with pytest.raises(ValueError, match=message):
            worth_of(frames, resources, broken, "B2")
    with pytest.raises(ValueError, match="before stage 1"):
        worth_of(frames, resources, [*good[:2], good[3]], "B1")


def test_gaps_are_small_on_long_runs() -> None:
    for units, mixed in ((1, False), (2, False), (1, True), (3, True)):
        frames = long_run(random.Random(units), 300, units, mixed)
        least = mandatory_only_utility(frames, resources := {"fpga": 1, "cpu": units})
        for name, most in (("B0", 0.01), ("B1", 0.01), ("B2", 0.03)):
            bound = clairvoyant(frames, resources, name)
            assert bound.gap <= most * (bound.upper - least), (units, mixed, name)
            assert bound.lower > least


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 1.5, 3, 4])
def test_the_sandwich_is_tight_for_the_shipped_bundle(load: float) -> None:
    from edgert.cli.simulate import workload

    world = scenario.load("overload-3", lambda bundle: workload(bundle, {}, {}), load)
    for expected in (False, True):
        frames = frames_of(world, 1, 4000, expected=expected)
        least = mandatory_only_utility(frames, world.resources)
        two, one = (clairvoyant(frames, world.resources, name) for name in ("B2", "B1"))
        assert two.gap <= 1e-3 * (two.upper - least) and one.gap <= 1e-3 * (one.upper - least)
        assert two.lower <= one.upper + EPS


# Policies -------------------------------------------------------------------------------------------------------------


def a_world(rng: random.Random) -> Scenario:
    """Streams of several kinds that overload their resources now and then."""
    made, shape = [], rng.choice(SHAPES[:4])
    mandatory = 2 if shape[1] == "fpga" else 1
    for i in range(rng.randint(1, 4)):
        accuracy = (0.7, 0.85, 0.95)[:len(shape) - mandatory + 1]
        times = [rng.choice([Constant(rng.randint(1, 12)), Empirical((3, 5, 9)), Lognormal(9, 0.4), Listed((2, 14, 6))]) for _ in shape]
        stages = tuple(Stage(f"s{i}.{k}", name, k < mandatory, 0, 6) for k, name in enumerate(shape))
        period, jitter = rng.randint(25, 60), rng.choice([0, 4])
        arrivals = rng.choice([Periodic(period, -1, jitter), Sporadic(period, 15, jitter)])
        reward = synthetic_reward(accuracy)
        stream = Stream(f"s{i}", period, rng.randint(30, 80), stages, jitter, rng.choice([1.0, 3.0]), reward)
        drop = rng.choice([0.0, 0.1])
        made.append(replace(Source(stream, arrivals, Workload(stages, tuple(times), reward, synthetic_outcomes(accuracy, 60, f"s{i}"))),
                            drop=drop))
    overheads = rng.choice([Conditions(), Conditions(overhead_ns=1, decision_ns=1)])
    return Scenario("random", tuple(made), {"fpga": 1, "cpu": rng.choice([1, 2])}, rng.choice([0, 2]), conditions=overheads,
                    preemptive=rng.choice([(), ("cpu",)]))


def nobody_beats_the_bounds(rng: random.Random, policies: list[str]) -> None:
    world, seed, n = a_world(rng), rng.randrange(10**6), rng.choice([5, 40])
    known, expected = frames_of(world, seed, n), frames_of(world, seed, n, expected=True)
    two, one, zero = (clairvoyant(known, world.resources, name, preemptive=world.preemptive) for name in ("B2", "B1", "B0"))
    penalised = clairvoyant(expected, world.resources, "B2", preemptive=world.preemptive)
    assert one.upper >= two.lower - EPS
    for policy in policies:
        if policy == "monolithic" and world.guard_ns:
            continue  # it may publish within the guard
        result = simulate(world, policy, seed, n)
        rows = result.frames[result.frames["status"] != DROPPED]
        assert len(rows) == len(known)
        total = sum(stream.weight * stream.utility for stream in result.streams)
        assert utility_of(known, rows["depth"]) == pytest.approx(total)
        assert total <= two.upper + EPS, policy
        assert total <= one.upper + EPS, policy
        assert sum(stream.weight * stream.correct for stream in result.streams) <= zero.upper + EPS, policy
        assert utility_of(expected, rows["depth"]) <= penalised.upper + EPS, policy


@settings(max_examples=30, deadline=None)
@given(RANDOM)
def test_no_policy_beats_a_bound(rng: random.Random) -> None:
    nobody_beats_the_bounds(rng, rng.sample(names(), min(4, len(names()))))


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(RANDOM)
def test_none_of_all_policies_beats_a_bound(rng: random.Random) -> None:
    nobody_beats_the_bounds(rng, names())


@settings(max_examples=40, deadline=None)
@given(RANDOM)
def test_the_frames_are_those_that_a_simulation_closes(rng: random.Random) -> None:
    world, seed = a_world(rng), rng.randrange(10**6)
    frames = frames_of(world, seed, 30)
    result = simulate(world, rng.choice(["fifo-gated", "mandatory-only"]), seed, 30)
    rows = result.frames[result.frames["status"] != DROPPED]
    assert len(frames) == len(rows)
    for frame, row in zip(frames, rows):
        assert (frame.release_ns, frame.arrival_ns, frame.due_ns) == (row["release_ns"], row["arrival_ns"], row["deadline_ns"])
        assert frame.publish_ns == frame.due_ns - world.guard_ns
        assert frame.weight == world.streams[row["stream"]].weight
        if row["status"] == ANSWERED:
            assert (frame.worth[row["depth"]], frame.right[row["depth"]]) == (row["utility"], row["correct"])
            took = sum(ns for _, ns in frame.stages[:frame.mandatory + row["depth"]])
            assert row["completed_ns"] >= frame.arrival_ns + took
    if result.policy == "mandatory-only" and not result.missed:
        assert mandatory_only_utility(frames, world.resources) == pytest.approx(utility_of(frames, rows["depth"]))


def test_durations_are_those_of_a_simulation() -> None:
    """Alone on its resources, a frame is done when its stages' durations have passed."""
    stages = (Stage("m", "fpga", True, 0, 5), Stage("o", "cpu", False, 0, 5))
    reward = synthetic_reward((0.7, 0.9))
    work = Workload(stages, (Lognormal(50, 0.5), Lognormal(70, 0.5)), reward, synthetic_outcomes((0.7, 0.9), 50, "x"))
    world = Scenario("alone", (Source(Stream("x", 10_000, 9_000, stages, 0, 1.0, reward), Periodic(10_000), work),), {"fpga": 1, "cpu": 1},
                     conditions=Conditions(overhead_ns=7, decision_ns=4))
    frames, result = frames_of(world, 5, 50), simulate(world, "fifo-gated", 5, 50)
    assert [f.arrival_ns + sum(ns for _, ns in f.stages) for f in frames] == result.frames["completed_ns"].tolist()
    assert set(result.frames["depth"]) == {1}


# In expectation -------------------------------------------------------------------------------------------------------


def test_b0_is_above_b1_in_expectation_where_worth_is_calibrated() -> None:
    rng = random.Random(3)
    frames = long_run(rng, 60, 1)
    one = clairvoyant(frames, resources := {"fpga": 1, "cpu": 1}, "B1", tolerance=0.0)
    found = []
    for _ in range(60):
        draws = [f._replace(right=tuple(int(rng.random() < w) for w in f.worth)) for f in frames]
        found.append(clairvoyant(draws, resources, "B0").upper)
    assert np.mean(found) - 3 * np.std(found) / len(found) ** 0.5 > one.upper  # far above, as it picks what turns out right
    assert min(found) < sum(f.weight for f in frames)


def test_expected_worth_is_realised_worth_in_the_mean() -> None:
    """The difference is a martingale: a policy gets the same from both worths, up to chance."""
    world = scenario.load("made-up", load=2.0)
    for policy in ("fifo-gated", "depth-dp"):
        differences = []
        for seed in range(3):
            known, expected = frames_of(world, seed, 500), frames_of(world, seed, 500, expected=True)
            depths = simulate(world, policy, seed, 500).frames["depth"]
            differences += [a.worth[d] - b.worth[d] for a, b, d in zip(known, expected, depths)]
            assert all(a.worth[0] == b.worth[0] for a, b in zip(known, expected))
        assert abs(np.mean(differences)) < 4 * np.std(differences) / len(differences) ** 0.5
        assert np.std(differences) > 0


def test_a_bound_on_expected_worth_does_not_reward_foresight_of_results() -> None:
    """Refinement makes 0.7 to 0.5 or 0.9, evenly: who knows which has 0.8, who does not has 0.7 whatever is done."""
    outcomes = Outcomes(np.array([[0.7, 0.5], [0.7, 0.9]]), np.array([[True, False], [True, True]]))
    reward = Reward((same := Curve((0.0, 1.0), (0.0, 1.0)), same), {(0, 1): Curve((0.0,), (0.0,))}, (0.7, 0.7))
    stages = (Stage("m", "fpga", True, 0, 5), Stage("o", "cpu", False, 0, 5))
    work = Workload(stages, (Constant(5), Constant(5)), reward, outcomes)
    world = Scenario("coin", (Source(Stream("x", 100, 90, stages, 0, 1.0, reward), Periodic(100), work),), {"fpga": 1, "cpu": 1})
    assert clairvoyant(frames_of(world, 0, 1000), world.resources).mean_upper == pytest.approx(0.8, abs=0.02)
    assert clairvoyant(frames_of(world, 0, 1000, expected=True), world.resources).mean_upper == pytest.approx(0.7)
    assert simulate(world, "fifo-gated", 0, 1000).utility == pytest.approx(0.7, abs=0.02)


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_input_says_what_is_wrong() -> None:
    frame = LadderFrame(0, 20, (("fpga", 2), ("cpu", 4)), 1, (0.5, 0.6), (0, -1), 1.0, 0)
    resources = {"fpga": 1, "cpu": 1}
    for frames, name, message in [
        ([frame], "B3", "expected one of B0, B1, B2"), ([frame], "B0", "frame 0 has no label"),
        ([frame._replace(worth=(0.5,))], "B1", "one worth and result for each"),
        ([frame._replace(stages=(("fpga", 1), ("x", 1)))], "B1", "'x'"),
        ([frame._replace(stages=(("fpga", -1), ("cpu", 1)))], "B1", "duration of -1"),
        ([frame._replace(weight=float("nan"))], "B1", "finite"),
        ([frame._replace(deadline_ns=19)], "B2", "lies before"),
    ]:
        with pytest.raises(ValueError, match=message):
            clairvoyant(frames, resources, name)
    with pytest.raises(ValueError, match="expected one for each"):
        utility_of([frame], [0, 0])
    empty = clairvoyant([], resources, "B1")
    assert (empty.upper, empty.lower, empty.mean_upper, empty.n, empty.exact) == (0.0, 0.0, 0.0, 0, True)


def test_frames_are_refused_where_durations_depend_on_the_schedule() -> None:
    world = scenario.load("made-up")
    hogged = replace(world, conditions=Conditions(hogs={"cpu": Hog(100, 50, 2.0)}))
    with pytest.raises(ValueError, match=r"depends on the schedule.*hogs"):
        frames_of(hogged, 0, 10)
    assert frames_of(hogged, 0, 10, relaxed=True) == frames_of(world, 0, 10)
    source = world.sources[0]
    sieve = replace(world, sources=(replace(source, stream=replace(source.stream, kind="version")),))
    with pytest.raises(ValueError, match="milestones only"):
        frames_of(sieve, 0, 10)


def test_the_exact_programme_gives_up_gracefully(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no node to spend, what is left is still a bound."""
    monkeypatch.setattr(ladder_exact, "NODES", 0)
    for seed in range(10):
        frames = tiny(random.Random(seed), 4)
        resources = {"fpga": 1, "cpu": 1, "gpu": 1}
        bound = clairvoyant(frames, resources, "B2")
        assert bound.lower - EPS <= best_of_all(frames, resources) <= bound.upper + EPS

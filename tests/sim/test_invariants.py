"""What holds in every world, over more than ten thousand of them: whatever the machine, the arrivals, the faults and the policy.

The worlds are drawn by Hypothesis (`random_worlds.py`); what a schedule must be is said by a checker of its own (`schedule_check.py`, which
`test_schedule_check.py` shows to see what is wrong). `EXAMPLES` says how many worlds each property is held to, and each test that it was.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imprecise import policies, repair, worlds
from imprecise.admission import Certificate, admit, answer, recheck
from imprecise.bounds import minimum_total_error
from imprecise.draws import Constant, Periodic
from imprecise.engine import Engine
from imprecise.ladder import LadderFrame, clairvoyant, frames_of, utility_of, worth_of
from imprecise.model import Reward, Stage, Stream
from imprecise.question import of_scenario
from imprecise.scenario import Scenario, Source
from imprecise.simulation import DROPPED, Log, Simulation
from imprecise.simulator import simulate
from imprecise.workload import Workload
from random_worlds import World, another, chance, provable, world
from schedule_check import check, watch

EXAMPLES = {  # property: worlds in `make test`, and more in `make test-sim`
    "schedules": (160, 8000),
    "certificates": (50, 2000),
    "sets": (60, 1000),
    "bounds": (40, 1500),
    "total error": (40, 1000),
    "outcomes": (30, 300),
}
EPS = 1e-6

Property = Callable[[Random], Counter[str]]


@pytest.fixture(autouse=True)
def few_frames_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds have tens of frames: drawing thousands ahead would take most of the time."""
    monkeypatch.setattr(worlds, "CHUNK", 256)


def test_these_are_ten_thousand_worlds() -> None:
    assert sum(many for _, many in EXAMPLES.values()) >= 10_000


def explore(name: str, holds: Property, slow: bool, record: Callable[[str, object], None]) -> Counter[str]:
    """Hold a property to as many worlds as `EXAMPLES` says; what was met in them, all together.

    Half of the worlds are Hypothesis's draws, which tend to extremes and shrink; half are drawn evenly from seeds of its choice. The
    draws are the same in each run.
    """
    met: Counter[str] = Counter()
    examples = EXAMPLES[name][slow]
    for draws, count in ((st.randoms(use_true_random=False), examples // 2), (st.integers(0, 2**60).map(Random), examples - examples // 2)):
        # a world takes some hundreds of draws, slow to make and large for Hypothesis: that is what is wanted here
        @settings(max_examples=count, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
        @given(draws)
        def run(random: Random) -> None:
            met.update(holds(random))
            met["worlds"] += 1

        run()
    record(name, dict(met))
    print(f"\n{name}: {', '.join(f'{count} {what}' for what, count in sorted(met.items(), key=lambda item: -item[1]))}")
    assert met["worlds"] >= examples, "fewer worlds than it says"
    return met


def both(name: str, holds: Property, interesting: Callable[[Counter[str]], dict[str, bool]]) -> tuple[Callable[..., None], ...]:
    """The quick test of a property and the slow one. `interesting`: what many worlds must have met, else they say little."""

    def quick(record_property):
        explore(name, holds, False, record_property)

    @pytest.mark.slow
    def slow(record_property):
        met = explore(name, holds, True, record_property)
        rare = [what for what, often in interesting(met).items() if not often]
        assert not rare, f"hardly ever met: {', '.join(rare)}"

    return quick, slow


# Schedules ------------------------------------------------------------------------------------------------------------


def settings_of(made: World) -> dict[str, object]:
    """What the engine of a world is told, as `simulate` says: the scenario's, and over it the options."""
    scenario = made.scenario
    return {"blocking_ns": scenario.blocking_ns, "preemptive": scenario.preemptive, "priorities": scenario.priorities(), **made.options}


def watched(made: World) -> tuple[Simulation, Counter[str]]:
    """Simulate a world and check its log."""
    policy, log = made.policy(), Log()
    asked = watch(policy)
    result = simulate(made.scenario, policy, made.seed, made.frames, log=log, faults=made.faults, options=made.options)
    model = check(made, asked, result, log)
    fresh = made.policy()
    fresh.oracle = policy.oracle
    engine = Engine(made.scenario.streams, made.scenario.resources, fresh, made.scenario.guard_ns, **settings_of(made))
    for now, events, actions in log.steps:
        assert engine.step(now, events) == actions, f"replayed, the step at {now} ns is another"
    assert not engine.jobs and not engine.stale and engine.discarded == result.discarded
    assert bool(engine.policy_fault) == bool(result.policy_fault)
    windows = {name: (window.high, window.median, window.mean) for name, window in model.windows.items()}
    estimates = {name: (found.value_ns, found.median_ns, found.mean_ns) for name, found in engine.estimates.items()}
    assert estimates == windows, "estimates of other durations"
    return result, model.met


def same_without_rows(made: World, full: Simulation) -> None:
    """The streaming mode counts what the rows say."""
    lean = simulate(made.scenario, made.policy(), made.seed, made.frames, rows=False, faults=made.faults, options=made.options)
    assert lean.frames is None
    assert lean.streams == full.streams
    assert [getattr(lean, name) for name in ("end_ns", "steps", "discarded", "policy_fault", "busy_ns", "overruns")] == [
        getattr(full, name) for name in ("end_ns", "steps", "discarded", "policy_fault", "busy_ns", "overruns")]
    for share in (0.1, 0.5, 0.99):
        assert lean.latency_ns(share) == pytest.approx(full.latency_ns(share), rel=0.016, abs=0.5, nan_ok=True)


def schedules_are_right(random: Random) -> Counter[str]:
    """Any machine, arrivals, faults and policy: the log keeps all rules, its events replay to the same actions, and counters add up."""
    made = world(random)
    result, met = watched(made)
    same_without_rows(made, result)
    met["frames"] += result.captured
    met["faults of policies"] += bool(result.policy_fault)
    return met


KINDS = ("mandatory", "milestone", "sieve", "version")
ENDS = [f"{what} {kind}" for what in ("done", "late", "failed", "abandoned", "preempted") for kind in KINDS]
test_schedules_are_right, test_schedules_are_right_in_many_worlds = both(
    "schedules", schedules_are_right, lambda met: {
        **{what: 500 * met[what] > met["worlds"] - 500 for what in ENDS},
        **{what: 100 * met[what] > met["worlds"] for what in ("miss", "too late for more", "doubts", "in pieces", "faults of policies")}})


# Certificates ---------------------------------------------------------------------------------------------------------


def certificates_hold(random: Random) -> Counter[str]:
    """What is admitted misses nothing: as drawn, and with other legal arrivals, other times within the worst case, any policy."""
    made = provable(random)
    if not made.policy().splits:
        made = made.with_policy("monolithic:gate=0")
    asked = of_scenario(made.scenario, made.policy().splits)
    if random.random() < 0.8:  # deadlines just long enough
        short = [made.scenario.guard_ns + 1 if random.random() < 0.7 else stream.deadline_ns for stream in asked.streams]
        asked = replace(asked, streams=tuple(replace(stream, deadline_ns=ns) for stream, ns in zip(asked.streams, short)))
        change = repair.least_deadline(asked)
        asked = change.question if change is not None and change.value < 10_000 else asked
        made = with_deadlines(made, [stream.deadline_ns for stream in asked.streams])
        asked = of_scenario(made.scenario, made.policy().splits)  # deadlines may set priorities
    admission = answer(asked)
    if not admission.admitted:
        return Counter({admission.answer: 1})
    assert not asked.breaks
    assert all(isinstance(found, Certificate) and recheck(found) for found in (admission.certificates or {}).values())
    made, met = replace(made, options=admission.engine_options()), Counter[str](admitted=1)
    for course in [made, *(another(random, made) for _ in range(3))]:
        result, seen = watched(course) if chance(random, 4) else (plainly(course), Counter[str]())
        assert result.missed == 0, f"{course.spec} misses {result.missed} of {result.captured} frames of an admitted world"
        assert not result.overruns or asked.slower or asked.pauses, "a stage beyond its worst case"
        met += seen
        met.update({"courses": 1, "frames": result.captured, "refined": sum(result.answered[1:]),
                    "faults of policies": bool(result.policy_fault)})
    half = [max(made.scenario.guard_ns + 1, stream.deadline_ns // 2) for stream in made.scenario.streams]
    met["missed in half the time"] += plainly(another(random, with_deadlines(made, half), worst=True)).missed > 0
    return met


def with_deadlines(made: World, deadlines_ns: list[int]) -> World:
    """The same world with these deadlines."""
    streams = [replace(stream, deadline_ns=ns) for stream, ns in zip(made.scenario.streams, deadlines_ns)]
    sources = tuple(replace(source, stream=stream) for source, stream in zip(made.scenario.sources, streams))
    return replace(made, scenario=replace(made.scenario, sources=sources))


def plainly(made: World) -> Simulation:
    """Simulate a world."""
    return simulate(made.scenario, made.policy(), made.seed, made.frames, faults=made.faults, options=made.options)


test_certificates_hold, test_certificates_hold_in_many_worlds = both(
    "certificates", certificates_hold, lambda met: {
        "admitted": 2 * met["admitted"] > met["worlds"], "tight": 5 * met["missed in half the time"] > met["admitted"],
        "refined": 10 * met["refined"] > met["frames"], "faults": 5 * met["faults of policies"] > met["admitted"]})


def sets_hold(random: Random) -> Counter[str]:
    """A set of tasks that `admit` certifies misses nothing on its resource, with optional stages there as long as it allows."""
    rule = random.choice(["np-edf", "np-edf", "p-edf", "np-fp", "p-fp"])
    units = random.choice([1, 2, 3]) if rule == "np-edf" else 1
    count = random.randint(1, 4)
    tasks = []
    for _ in range(count):
        period = random.randint(4, 40)
        cost = random.randint(1, max(1, min(period, units * period // count)))
        deadline, jitter = random.randint(period // 2, 2 * period), random.choice([0, 0, random.randint(0, period // 2)])
        tasks.append((cost, period, max(cost, deadline), jitter))
    allowed = random.choice([0, 1, random.randint(1, 20)])
    found = admit(tasks, rule, units, allowed)
    if not isinstance(found, Certificate):
        return Counter({type(found).__name__: 1})
    assert recheck(found)
    sources = []
    for i, (cost, period, deadline, jitter) in enumerate(tasks):
        stages = (Stage(f"m{i}", "fpga", True, cost, cost), Stage(f"o{i}", "fpga", False, worst := random.randint(1, allowed + 2), worst))
        stream = Stream(f"s{i}", period, deadline, stages, jitter, 1.0, reward := Reward(prior=(0.5, 0.9)))
        work = Workload(stages, tuple(Constant(stage.wcet_ns) for stage in stages), reward)
        sources.append(Source(stream, Periodic(period, 0, jitter), work))
    scenario = Scenario("tasks", tuple(sources), {"fpga": units}, blocking_ns={} if rule.startswith("p-") else {"fpga": allowed},
                        order="edf" if rule.endswith("edf") else "listed", preemptive=("fpga",) if rule.startswith("p-") else ())
    made, met = World(scenario, lambda: policies.make("fifo-gated"), "fifo-gated", 0, 40), Counter[str](admitted=1)
    for course in [made, *(another(random, made, worst) for worst in (True, True, False))]:
        result = plainly(course)
        assert result.missed == 0, f"{course.spec} misses {result.missed} of {result.captured} frames of an admitted set: {rule} {tasks}"
        met.update({"courses": 1, "frames": result.captured, "refined": sum(result.answered[1:])})
    return met


test_sets_hold, test_many_sets_hold = both("sets", sets_hold, lambda met: {
    "admitted": 4 * met["admitted"] > met["worlds"], "refused": 20 * met["CounterExample"] > met["worlds"],
    "refined": 20 * met["refined"] > met["frames"]})


# Bounds ---------------------------------------------------------------------------------------------------------------


def depths_of(result: Simulation) -> list[int]:
    """The depths of the frames that were seen, -1: missed."""
    assert result.frames is not None
    return result.frames["depth"][result.frames["status"] != DROPPED].tolist()


def no_schedule_beats_a_bound(random: Random) -> Counter[str]:
    """Realised worth <= B2 <= B1, realised rightness <= B0; with expected worth the same; and each bound lies above its own schedule."""
    made = world(random, plain=True, frames=25, slow=1)
    scenario = made.scenario
    frames, expected = (frames_of(scenario, made.seed, made.frames, expected=how) for how in (False, True))
    labelled = all(min(frame.right) >= 0 for frame in frames)
    bound = {name: clairvoyant(frames, scenario.resources, name, preemptive=scenario.preemptive)
             for name in (("B0", "B1", "B2") if labelled else ("B1", "B2"))}
    for name, found in bound.items():
        assert found.lower <= found.upper + EPS
        assert worth_of(frames, scenario.resources, found.schedule, name) == pytest.approx(found.lower)
    assert bound["B1"].upper >= bound["B2"].lower - EPS
    fair = clairvoyant(expected, scenario.resources, "B2", preemptive=scenario.preemptive)
    met: Counter[str] = Counter()
    for spec in (made.spec, random.choice(["fifo-gated", "depth-dp", "depth-dp:predictor=oracle", "least-confident", "monolithic:gate=0"])):
        course = made if spec == made.spec else made.with_policy(spec)
        if scenario.guard_ns and not course.policy().splits:
            continue  # it may publish within the guard, where no refinement counts
        result = plainly(course)
        depths, total = depths_of(result), sum(stream.weight * stream.utility for stream in result.streams)
        assert utility_of(frames, depths) == pytest.approx(total), "the frames of a bound are not those of the simulation"
        assert total <= bound["B2"].upper + EPS, "a schedule beats B2"
        assert total <= bound["B1"].upper + EPS, "a schedule beats B1"
        assert not labelled or sum(stream.weight * stream.correct for stream in result.streams) <= bound["B0"].upper + EPS, "beats B0"
        assert utility_of(expected, depths) <= fair.upper + EPS, "a schedule beats B2 of expected worth"
        met.update({"schedules": 1, "below B2": total < bound["B2"].upper - EPS, "refined": any(depth > 0 for depth in depths),
                    "B2 below B1": bound["B2"].upper < bound["B1"].upper - EPS})
    return met


test_no_schedule_beats_a_bound, test_no_schedule_of_many_beats_a_bound = both(
    "bounds", no_schedule_beats_a_bound, lambda met: {
        what: 20 * met[what] > met["schedules"] for what in ("below B2", "refined", "B2 below B1")})


def total_error_is_least(random: Random) -> Counter[str]:
    """On one processor the optional work that a schedule leaves undone is at least what Algorithm F (with weights LWF) leaves.

    Of the frames that were answered: their mandatory parts were in time, so the model covers them.
    """
    made = world(random, plain=True, frames=25, slow=random.choice([1, 3]), units={"cpu": 1})
    frames = frames_of(made.scenario, made.seed, made.frames)
    result, met = plainly(made), Counter[str]()
    answered = [(frame, depth) for frame, depth in zip(frames, depths_of(result)) if depth >= 0]
    jobs = [(frame.arrival_ns, frame.due_ns, sum(ns for _, ns in frame.stages[:frame.mandatory]),
             sum(ns for _, ns in frame.stages[frame.mandatory:])) for frame, _ in answered]
    left = [sum(ns for _, ns in frame.stages[frame.mandatory + depth:]) for frame, depth in answered]
    for weights in (None, [frame.weight for frame, _ in answered]):
        least, errors, _ = minimum_total_error(jobs, weights)
        realised = sum(left) if weights is None else sum(weight * error for weight, error in zip(weights, left))
        assert realised >= least - EPS, "a schedule leaves less undone than Algorithm F"
        assert all(0 <= error <= job[3] for error, job in zip(errors, jobs))
        met.update({"more": realised > least + EPS, "least": least > 0, "compared": 1})
    return met


test_total_error_is_least, test_total_error_of_many_is_least = both(
    "total error", total_error_is_least, lambda met: {what: 5 * met[what] > met["compared"] for what in ("more", "least")})


def knowing_outcomes_is_worth_something(random: Random) -> Counter[str]:
    """Where worth is calibrated the mean of B0 over all outcomes is at least B1: exactly, over every outcome of a few frames.

    A frame is right at a depth where one uniform of its own is below the worth there, so each depth is right as often as it says.
    """
    frames = []
    for _ in range(random.choice([1, 2, 3, 3])):
        at, optional = random.randint(0, 4), random.choice([0, 1, 2, 2])
        stages = tuple((random.choice(["fpga", "cpu"]) if k == 0 else "cpu", random.randint(2, 8)) for k in range(1 + optional))
        worth = tuple(random.choice([0.0, 0.25, 0.5, 0.75, 1.0]) for _ in range(1 + optional))
        publish = at + sum(ns for _, ns in stages) + random.choice([0, 0, 1])
        due = publish + random.choice([0, 2])
        frames.append(LadderFrame(at, publish, stages, 1, worth, (0,) * len(worth), random.choice([1.0, 2.0]), at, due))
    resources = {"fpga": 1, "cpu": random.choice([1, 1, 2])}
    cases = []
    for frame in frames:
        cuts = [0.0, *sorted({w for w in frame.worth if 0 < w < 1}), 1.0]
        cases.append([(b - a, tuple(int((a + b) / 2 < w) for w in frame.worth)) for a, b in itertools.pairwise(cuts)])
    mean = 0.0
    for outcome in itertools.product(*cases):
        share, drawn = 1.0, []
        for frame, (part, right) in zip(frames, outcome):
            share *= part
            drawn.append(frame._replace(right=right))
        mean += share * clairvoyant(drawn, resources, "B0", tolerance=0.0).upper
    one = clairvoyant(frames, resources, "B1", tolerance=0.0)
    assert mean >= one.lower - EPS, "knowing the outcome is worth less than nothing"
    return Counter({"worth more": mean > one.upper + EPS})


test_knowing_outcomes_is_worth_something, test_knowing_outcomes_of_many_is_worth_something = both(
    "outcomes", knowing_outcomes_is_worth_something, lambda met: {"worth more": 20 * met["worth more"] > met["worlds"]})

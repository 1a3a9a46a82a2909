"""Each policy picks what its rule says; depth-dp's plan is the best there is."""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import policies
from imprecise.bounds import optimal_static_times
from imprecise.engine import Engine
from imprecise.model import Curve, Event, Job, Reward, Stage, Stream
from imprecise.policies._static import Depths, static_optimum

MS = 10**6
STAGES = (Stage("m", "fpga", True, MS, MS), Stage("one", "cpu", False, 0, 2 * MS), Stage("two", "cpu", False, 0, 10 * MS))
FALLING = Reward(
    correct=(Curve((0.0, 1.0), (0.1, 1.0)),) * 3,
    gain={(0, 1): Curve((0.0, 1.0), (0.2, -0.05)), (0, 2): Curve((0.0, 1.0), (0.5, -0.1)), (1, 2): Curve((0.0, 1.0), (0.3, -0.1))},
)
STREAM = Stream("camera", 33 * MS, 33 * MS, STAGES, reward=FALLING)


def engine_with(policy, streams=(STREAM,), now_ns=0, cpus=1):
    engine = Engine(streams, {"fpga": 1, "cpu": cpus}, policy)
    engine.now_ns = now_ns
    return engine


def answered(stream, id=0, confidence=0.5, release_ns=0, depth=0, index=0, frame=None):
    """A job of a stream with an answer of this depth."""
    job = Job(id, index, stream, id if frame is None else frame, release_ns, 0, tuple(range(stream.mandatory)))
    for _ in range(stream.mandatory + depth):
        job.finish()
    job.confidence = confidence
    return job


def waiting(id, confidence, release_ns=0):
    """A job with its mandatory answer."""
    return answered(STREAM, id, confidence, release_ns)


def stream(name="camera", times=(2, 10), gains=(0.1, 0.3), period=33, deadline=33, **more):
    """A stream with refinement stages of these times (ms) and total gains from depth 0, whatever the confidence."""
    stages = (Stage("m", "fpga", True, MS, MS), *(Stage(f"{name}{i}", "cpu", False, 0, t * MS) for i, t in enumerate(times)))
    level = (0.0, *gains)
    gain = {(d, e): Curve((0.0,), (level[e] - level[d],)) for d in range(len(level)) for e in range(d + 1, len(level))}
    return Stream(name, period * MS, deadline * MS, stages, reward=Reward((Curve((0.0, 1.0), (0.0, 1.0)),) * len(level), gain), **more)


def chosen(policy, jobs, now_ns=0):
    """The id of the job that a policy picks among jobs of any streams, all milestones; None: none."""
    policy = policies.make(policy) if isinstance(policy, str) else policy
    by_index = {job.stream_index: job.stream for job in jobs}
    engine = engine_with(policy, [by_index.get(i, STREAM) for i in range(max(by_index) + 1)], now_ns)
    found = policy.pick(jobs, engine)
    job, index = found if isinstance(found, tuple) else (found, found and found.next)
    assert job is None or index == job.next
    return job and job.id


def pick(spec, jobs):
    policy = policies.make(spec)
    return policy.pick(jobs, engine_with(policy)).id


def test_every_policy_of_the_folder_can_be_made_and_says_its_name():
    assert [policies.make(name).name for name in policies.names()] == policies.names()
    assert policies.make("default").name == policies.DEFAULT


@pytest.mark.parametrize("spec, hint", [("fifo-gatet", "fifo-gated"), ("threshold:theta=2", "between 0 and 1"),
                                        ("threshold:thta=0.5", "did you mean 'theta'"), ("threshold:theta=x", "name:parameter=number"),
                                        ("threshold:theta=nan", "expected a number"), ("threshold:theta", "name:parameter=value"),
                                        ("threshold:theta=0.5,theta=0.6", "twice"), ("fifo-gated:a=1", "it has none"),
                                        ("depth-dp:predictor=linaer", "constant, linear, calibrated, oracle"),
                                        ("depth-dp:plans=1", "plans at least 2"), ("depth-dp:jobs=1e999", "expected a number"),
                                        ("", "unknown policy"), (":theta=1", "unknown policy")])
def test_a_wrong_policy_names_what_was_meant(spec, hint):
    with pytest.raises(ValueError, match=hint):
        policies.make(spec)


def test_fifo_takes_the_first_released_and_least_confident_the_least_sure():
    jobs = [waiting(0, 0.9, 5), waiting(1, 0.2, 7), waiting(2, 0.5, 3)]
    assert pick("fifo-gated", jobs) == 2
    assert pick("least-confident", jobs) == 1


def test_threshold_wants_only_what_is_less_sure_than_theta():
    policy = policies.make("threshold:theta=0.6")
    wants = [policy.wants(waiting(0, c), engine_with(policy)) for c in (0.59, 0.6, 0.61)]
    assert wants == [True, False, False]
    assert policy.pick([waiting(0, 0.5, 9), waiting(1, 0.5, 4)], engine_with(policy)).id == 1


def test_depth_dp_leaves_alone_what_is_expected_to_get_worse():
    policy = policies.make("depth-dp")
    assert policy.wants(waiting(0, 0.5), engine_with(policy))
    sure = waiting(1, 1.0)
    assert not policy.wants(sure, engine_with(policy))


def test_depth_dp_gives_an_idle_unit_to_the_least_sure_where_nothing_is_known_to_gain():
    flat = Reward(correct=FALLING.correct, gain={pair: Curve((0.0,), (0.0,)) for pair in FALLING.gain})
    stream = Stream("camera", 33 * MS, 33 * MS, STAGES, reward=flat)
    jobs = [Job(i, 0, stream, i, 0, 0, (0,)) for i in range(3)]
    for job, sure in zip(jobs, (0.9, 0.4, 0.7)):
        job.finish()
        job.confidence = sure
    policy = policies.make("depth-dp:idle=1")
    assert all(policy.wants(job, engine_with(policy)) for job in jobs)
    assert policy.pick(jobs, engine_with(policy)).id == 1
    quick = policies.make("depth-dp")
    assert not any(quick.wants(job, engine_with(quick)) for job in jobs)


def value_of(jobs, waits, taken):
    """Gain of taking these steps {id: step}, jobs in order on the worker that is free first; None where one is late."""
    free, total = sorted(waits), 0.0
    for room, id, steps in jobs:
        if id in taken:
            time, gain, _ = steps[taken[id]]
            if free[0] + time > room:
                return None
            free, total = sorted([free[0] + time, *free[1:]]), total + gain
    return total


def best_of_all(jobs, waits):
    """The greatest gain of any choice of steps, by enumeration."""
    choices = itertools.product(*(range(-1, len(steps)) for _, _, steps in jobs))
    return max(value_of(jobs, waits, {j[1]: c for j, c in zip(jobs, choice) if c >= 0}) or 0.0 for choice in choices)


ROWS = st.lists(st.tuples(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 15), st.integers(1, 9)), min_size=1, max_size=2)),
                min_size=1, max_size=5)


def planned(rows, waits):
    """The plan of depth-dp for rows (deadline, [(more time, more gain) a depth]), and the jobs as it gets them."""
    jobs = []
    for id, (deadline, steps) in enumerate(rows):
        times, gains = (itertools.accumulate(column) for column in zip(*steps))
        jobs.append((deadline, id, [(t, float(g), 1) for t, g in zip(times, gains)]))
    jobs.sort()
    return policies.make("depth-dp:plans=1000").plan(jobs, waits), jobs


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_the_plan_of_depth_dp_equals_enumeration_on_one_worker(rows):
    (gain, taken), jobs = planned(rows, [0])
    assert gain == best_of_all(jobs, [0]) == value_of(jobs, [0], taken)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.lists(st.integers(0, 12), min_size=2, max_size=3).map(sorted))
def test_the_plan_of_depth_dp_on_many_workers_can_be_kept_and_is_never_above_the_best(rows, waits):
    (gain, taken), jobs = planned(rows, waits)
    assert gain == value_of(jobs, waits, taken) <= best_of_all(jobs, waits)


def test_the_plan_of_depth_dp_on_two_workers_is_close_to_the_best():
    """Plans are compared by the sum of the workers' times, so it is no optimum; it may lose little."""
    random, got, best = Random(5), 0.0, 0.0
    for _ in range(150):
        rows = [(random.randint(5, 40), [(random.randint(1, 15), random.randint(1, 9)) for _ in range(2)]) for _ in range(5)]
        waits = sorted(random.randint(0, 10) for _ in range(2))
        (gain, _), jobs = planned(rows, waits)
        got, best = got + gain, best + best_of_all(jobs, waits)
    assert got >= 0.98 * best


# The other rules ------------------------------------------------------------------------------------------------------


def test_best_incremental_looks_one_stage_ahead_and_value_density_to_every_depth():
    """Behind a poor stage of 2 ms (gain 0.01) lies a rich one; the other job has a middling stage and no more."""
    hidden, plain = stream("hidden", (2, 1), (0.01, 0.6)), stream("plain", (2,), (0.2,))
    jobs = [answered(hidden, 0), answered(plain, 1, index=1)]
    assert chosen("best-incremental", jobs) == 1
    assert chosen("value-density", jobs) == 0
    assert chosen("value-density", [answered(hidden, 0, depth=1), answered(plain, 1, index=1)]) == 0


def test_value_density_counts_only_what_still_ends_in_time():
    hidden, plain = stream("hidden", (2, 10), (0.01, 5.0)), stream("plain", (2,), (0.2,))
    jobs = [answered(hidden, 0), answered(plain, 1, index=1)]
    assert chosen("value-density", jobs) == 0
    assert chosen("value-density", jobs, now_ns=22 * MS) == 1  # 11 ms are left, 12 were needed


def test_best_incremental_prefers_gain_per_time_to_gain():
    assert chosen("best-incremental", [answered(stream("long", (10,), (0.3,)), 0),
                                       answered(stream("short", (2,), (0.1,)), 1, index=1)]) == 1


@pytest.mark.parametrize("name", ["best-incremental", "value-density", "upgrade", "clockwork", "min-quality"])
def test_what_is_expected_to_harm_is_published_at_once(name):
    policy = policies.make(name)
    worse, flat = stream("worse", (2,), (-0.1,)), stream("flat", (2,), (0.0,))
    assert not policy.wants(answered(worse), engine_with(policy, [worse]))
    assert policy.wants(answered(flat), engine_with(policy, [flat]))


def test_upgrade_gives_the_whole_network_to_the_largest_gain_that_fits():
    needy, mild = stream("needy", (2, 10), (0.1, 0.4)), stream("mild", (2, 5), (0.2, 0.3))
    jobs = [answered(needy, 0), answered(mild, 1, index=1)]
    assert chosen("upgrade", jobs) == 0
    assert chosen("upgrade", jobs, now_ns=25 * MS) == 1  # 8 ms are left: 12 do not fit, 7 do
    assert chosen("upgrade", jobs, now_ns=27 * MS) is None  # 6 ms: a first stage would fit, a whole upgrade does not
    assert chosen("upgrade", [jobs[0], answered(mild, 1, depth=1, index=1)]) == 1  # what is begun is finished


def test_rate_monotonic_takes_the_shortest_period_whatever_the_deadline():
    slow, fast = stream("slow", period=66, deadline=20), stream("fast", period=33, deadline=60)
    assert chosen("rate-monotonic", [answered(slow, 0), answered(fast, 1, index=1)]) == 1
    assert chosen("threshold:theta=1", [answered(slow, 0), answered(fast, 1, index=1)]) == 0


def test_clockwork_starts_the_window_that_shuts_first():
    """The long stage of 10 ms due in 33 must start by 21 (2 more before it), the short one due in 30 by 28."""
    long, short = stream("long", (2, 10), (0.1, 0.3), deadline=33), stream("short", (2,), (0.1,), deadline=30)
    jobs = [answered(long, 0), answered(short, 1, index=1)]
    assert chosen("clockwork", jobs) == 0
    assert chosen("threshold:theta=1", jobs) == 1
    assert chosen("clockwork", jobs, now_ns=22 * MS) == 1  # the deepest window has shut: by 31 the shallow one may start


def test_dbp_takes_the_stream_nearest_to_failing_and_the_deadline_among_equals():
    policy = policies.make("dbp")
    one, two, none = stream("one", mk=(1, 3)), stream("two", mk=(2, 3)), stream("none", deadline=10)
    engine = engine_with(policy, [one, two, none])
    assert [policy.distance(0, one), policy.distance(1, two)] == [3, 2]
    jobs = [answered(one, 0), answered(two, 1, index=1), answered(none, 2, index=2)]
    assert policy.pick(jobs, engine).id == 1
    for _ in range(2):
        policy.closed(answered(one, 7), engine)  # not refined, twice: one failure left
    assert policy.distance(0, one) == 1 and policy.pick(jobs, engine).id == 0
    assert policy.pick([answered(one, 0, depth=1), *jobs[1:]], engine).id == 1  # refined already: its outcome is settled
    policy.closed(answered(one, 8), engine)
    assert policy.distance(0, one) == 0
    late = answered(one, 9, depth=1)
    engine.now_ns = late.deadline_ns + 1
    policy.closed(late, engine)
    assert policy.distance(0, one) == 0, "a refined answer that comes after its deadline is a failure"


@given(st.integers(1, 6), st.data())
def test_dbps_distance_is_the_number_of_failures_that_break_it(k, data):
    m = data.draw(st.integers(1, k))
    camera, policy = stream("camera", mk=(m, k)), policies.make("dbp")
    engine, past = engine_with(policy, [camera]), [True] * k
    for refined in data.draw(st.lists(st.booleans(), max_size=12)):
        policy.closed(answered(camera, depth=int(refined)), engine)
        past.append(refined)
    failures = 0
    while sum((past + [False] * failures)[-k:]) >= m:
        failures += 1
    assert policy.distance(0, camera) == failures


def test_min_quality_takes_the_largest_debt_and_without_debts_the_best_gain_per_time():
    policy = policies.make("min-quality")
    front, rear = stream("front", (2,), (0.3,)), stream("rear", (2,), (0.1,), quality=0.8)
    engine = engine_with(policy, [front, rear])
    jobs = [answered(front, 0), answered(rear, 1, index=1)]
    assert policy.pick(jobs, engine).id == 0
    policy.closed(answered(rear, 2, confidence=0.6, index=1), engine)  # worth 0.6, owed 0.8
    assert policy.debt(1) == pytest.approx(0.2) and policy.pick(jobs, engine).id == 1
    policy.closed(answered(rear, 3, confidence=1.0, index=1), engine)
    assert policy.debt(1) == pytest.approx(0.0) and policy.pick(jobs, engine).id == 0
    late = answered(rear, 4, confidence=1.0, index=1)
    engine.now_ns = late.deadline_ns + 1
    policy.closed(late, engine)
    assert policy.debt(1) == pytest.approx(0.8), "a missed frame is worth nothing"


def test_static_times_gives_each_stream_a_depth_and_a_share_of_frames_a_deeper_one():
    """One CPU. Rich takes all its 12 of 33 ms; of poor's stage of 20 ms fits (1 - 12 / 33) / (20 / 25) = 79.5 %."""
    policy = policies.make("static-times")
    rich, poor = stream("rich", (2, 10), (0.2, 0.5)), stream("poor", (20,), (0.1,), period=25)
    engine = engine_with(policy, [rich, poor])
    jobs = {0: [], 1: []}
    for frame in range(200):
        for index, camera in enumerate((rich, poor)):
            job = answered(camera, 2 * frame + index, frame=frame, index=index)
            if policy.wants(job, engine) and frame >= 64:
                jobs[index].append(job)
    assert policy.plan[0] == (2, 2, 0.0) and policy.plan[1][:2] == (0, 1)
    assert policy.plan[1][2] == pytest.approx((1 - 12 / 33) / (20 / 25))
    assert len(jobs[0]) == 136 and len(jobs[1]) == pytest.approx(136 * policy.plan[1][2], abs=1)
    assert policy.pick([jobs[0][0], jobs[1][0]], engine)[0] is jobs[0][0]
    deep = answered(rich, 999, depth=2, frame=70)
    assert not policy.wants(deep, engine)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(20, 60), st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=3)),
                min_size=1, max_size=4), st.integers(0, 100))
def test_the_static_optimum_equals_aydins(rows, percent):
    """Against the general optimum on the same concave envelopes, whose slopes this makes fall."""
    room, streams, tasks, curves = percent / 100, {}, [], []
    for index, (period, steps) in enumerate(rows):
        slopes = sorted((gain / time for time, gain in steps), reverse=True)
        times = list(itertools.accumulate(time for time, _ in steps))
        gains = list(itertools.accumulate(slope * time for slope, (time, _) in zip(slopes, steps)))
        streams[index] = Depths(period, [(t, g, depth) for depth, (t, g) in enumerate(zip(times, gains), 1)])
        tasks.append((period, 0, times[-1]))
        curves.append(Curve((0.0, *map(float, times)), (0.0, *gains)))
    plan, value = static_optimum(streams, room), 0.0
    used = 0.0
    for index, (depth, deeper, share) in plan.items():
        period, points = streams[index]
        at = {0: (0, 0.0)} | {d: (t, g) for t, g, d in points}
        used += (at[depth][0] * (1 - share) + at[deeper][0] * share) / period
        value += (at[depth][1] * (1 - share) + at[deeper][1] * share) / period
    assert used <= room + 1e-9
    blocker = (1000, 1000 - 10 * percent, 0)  # takes what is not there
    times = optimal_static_times([*tasks, blocker], [*curves, Curve((0.0, 1.0), (0.0, 0.0))], per_second=True)
    best = sum(curve(time) / task[0] for curve, time, task in zip(curves, times, tasks))
    assert value == pytest.approx(best, abs=1e-6)


# The gain predictors of depth-dp --------------------------------------------------------------------------------------


def test_constant_and_linear_predictors_learn_the_mean_gain_and_how_sure_answers_are():
    """Gains of the bundle at confidences 0.2 and 0.6: to depth 1 0.15 and 0.05, to depth 2 0.38 and 0.14."""
    sure, unsure = waiting(0, 0.6), waiting(1, 0.2)
    for name, expected in (("constant", {0.2: (0.1, 0.26), 0.6: (0.1, 0.26)}),
                           ("linear", {0.2: (0.1 * 0.8 / 0.6, 0.26 * 0.8 / 0.6), 0.6: (0.1 * 0.4 / 0.6, 0.26 * 0.4 / 0.6)}),
                           ("calibrated", {0.2: (0.15, 0.38), 0.6: (0.05, 0.14)})):
        policy = policies.make(f"depth-dp:predictor={name}")
        engine = engine_with(policy)
        for job in (sure, unsure):
            assert policy.wants(job, engine)
        for job in (sure, unsure):
            assert policy._gains(job) == pytest.approx(expected[job.confidence]), name


def test_the_oracle_predictor_asks_for_the_frame_and_says_so_where_nobody_knows():
    policy = policies.make("depth-dp:predictor=oracle")
    engine = engine_with(policy)
    assert policy.needs_oracle and not policies.make("depth-dp").needs_oracle
    with pytest.raises(ValueError, match="only a simulation"):
        policy.wants(waiting(0, 0.5), engine)
    worth = {0: (0.5, 0.4, 0.9), 1: (0.5, 0.8, 0.9), 2: (0.5, 0.5, 0.6)}
    policy.oracle = lambda stream, frame: worth[frame]
    jobs = [waiting(frame, 0.5) for frame in worth]
    assert [policy.wants(job, engine) for job in jobs] == [True, True, True]
    assert policy._gains(jobs[0]) == pytest.approx([-0.1, 0.4])
    assert policy.pick(jobs, engine).id == 1  # 0.3 in 2 ms, not 0.4 in 12


# The engine with them -------------------------------------------------------------------------------------------------


def drive(spec, arrivals, mandatory_ns, stage_ns):
    """Frames by release time through the engine with fixed times; the depth of each, -1: missed."""
    engine, pending, out, now = engine_with(policies.make(spec)), [(t, 0, i) for i, t in enumerate(arrivals)], {}, 0
    wake = None
    while pending or wake is not None:
        pending.sort(key=lambda p: (p[0], p[1] == 0))
        now = min([p[0] for p in pending[:1]] + ([wake] if wake is not None else []))
        events = []
        while pending and pending[0][0] == now:
            _, kind, what = pending.pop(0)
            events.append(Event("release", now, stream=0, frame=what) if kind == 0 else what)
        if wake is not None and wake <= now:
            wake = None
        for a in engine.step(now, events):
            if a.kind == "start":
                took = mandatory_ns if a.stage == 0 else stage_ns[a.stage - 1]
                done = Event("done", now + took, job=a.job, stage=a.stage, resource=a.resource, unit=a.unit, value=0.5)
                pending.append((now + took, 1, done))
            elif a.kind == "wake":
                wake = a.at_ns
            else:
                out[a.job] = a.depth if a.kind == "publish" else -1
    return [out[i] for i in range(len(arrivals))]


def test_under_overload_monolithic_misses_and_the_split_policies_do_not():
    arrivals = [i * 5 * MS for i in range(60)]  # 12 ms of work every 5 ms
    gated = drive("monolithic", arrivals, MS, (2 * MS, 10 * MS))
    plain = drive("monolithic:gate=0", arrivals, MS, (2 * MS, 10 * MS))
    assert gated.count(-1) > 20 and plain.count(-1) >= gated.count(-1)
    for spec in sorted(set(policies.names()) - {"monolithic"}):
        assert -1 not in drive(spec, arrivals, MS, (2 * MS, 10 * MS)), spec


def test_a_policy_that_raises_or_cheats_is_switched_off_and_mandatory_work_goes_on():
    class Raises(policies.Policy):
        name = "raises"

        def pick(self, ready, engine):
            raise RuntimeError("boom")

    class Cheats(policies.Policy):
        name = "cheats"

        def pick(self, ready, engine):
            return waiting(99, 0.1)

    for policy, fault in ((Raises(), "RuntimeError: boom"), (Cheats(), "not ready")):
        engine = engine_with(policy)
        engine.step(0, [Event("release", 0, stream=0, frame=0)])
        engine.step(MS, [Event("done", MS, job=0, stage=0, resource="fpga", unit=0, value=0.5)])
        actions = engine.step(33 * MS)
        assert fault in engine.policy_fault
        assert [(a.kind, a.depth) for a in actions] == [("publish", 0)]


@pytest.mark.parametrize("spec", ["fifo-gated", "monolithic"])
def test_a_burst_of_long_stages_does_not_lock_refinement_out_for_good(spec):
    """Eight stages of 40 ms against a deadline of 33 ms; what comes later takes 5 ms and must be refined again."""
    engine, now = engine_with(policies.make(spec)), 0
    depths = []
    for frame in range(80):
        now = frame * 100 * MS
        events, done = [Event("release", now, stream=0, frame=frame)], False
        while not done:
            actions = engine.step(now, events)
            events = []
            wake = None
            for a in actions:
                if a.kind == "start":
                    now += 40 * MS if frame < 8 and a.stage == 2 else 2 * MS
                    events = [Event("done", now, job=a.job, stage=a.stage, resource=a.resource, unit=a.unit, value=0.5)]
                elif a.kind == "wake":
                    wake = a.at_ns
                else:
                    depths.append(a.depth if a.kind == "publish" else -1)
                    done = True
            if not events and not done:
                now = wake
    assert depths[-20:] == [2] * 20

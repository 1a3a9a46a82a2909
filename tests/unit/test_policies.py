"""Each policy picks what its rule says; depth-dp's plan is the best there is."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import policies
from imprecise.engine import Engine
from imprecise.model import Curve, Event, Job, Reward, Stage, Stream

MS = 10**6
STAGES = (Stage("m", "fpga", True, MS, MS), Stage("one", "cpu", False, 0, 2 * MS), Stage("two", "cpu", False, 0, 10 * MS))
FALLING = Reward(
    correct=(Curve((0.0, 1.0), (0.1, 1.0)),) * 3,
    gain={(0, 1): Curve((0.0, 1.0), (0.2, -0.05)), (0, 2): Curve((0.0, 1.0), (0.5, -0.1)), (1, 2): Curve((0.0, 1.0), (0.3, -0.1))},
)
STREAM = Stream("camera", 33 * MS, 33 * MS, STAGES, reward=FALLING)


def engine_with(policy):
    return Engine([STREAM], {"fpga": 1, "cpu": 1}, policy)


def waiting(id, confidence, release_ns=0):
    """A job with its mandatory answer."""
    job = Job(id, 0, STREAM, id, release_ns, 0, (0,))
    job.finish()
    job.confidence = confidence
    return job


def pick(spec, jobs):
    policy = policies.make(spec)
    return policy.pick(jobs, engine_with(policy)).id


def test_every_policy_of_the_folder_can_be_made_and_says_its_name():
    assert [policies.make(name).name for name in policies.names()] == policies.names()
    assert policies.make("default").name == policies.DEFAULT


@pytest.mark.parametrize("spec, hint", [("fifo-gatet", "fifo-gated"), ("threshold:theta=2", "between 0 and 1"),
                                        ("threshold:thta=0.5", "thta"), ("threshold:theta=x", "name:parameter=number")])
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
    policy = policies.make("depth-dp")
    assert all(policy.wants(job, engine_with(policy)) for job in jobs)
    assert policy.pick(jobs, engine_with(policy)).id == 1
    quick = policies.make("depth-dp:idle=0")
    assert not any(quick.wants(job, engine_with(quick)) for job in jobs)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 15), st.integers(1, 9)), min_size=1, max_size=2)),
                min_size=1, max_size=5))
def test_the_plan_of_depth_dp_equals_enumeration(rows):
    """Rows are (deadline, [(more time, more gain) a depth]); one worker; every choice of depths in order of deadlines."""
    options = []
    for id, (deadline, steps) in enumerate(rows):
        job = waiting(id, 0.5, deadline - STREAM.deadline_ns)
        times = list(itertools.accumulate(t for t, _ in steps))
        gains = list(itertools.accumulate(g for _, g in steps))
        options.append((0.0, job, [(t, float(g)) for t, g in zip(times, gains)]))
    policy = policies.make("depth-dp:plans=1000")
    gain, _ = policy.plan(options, 0)
    best = 0.0
    for depths in itertools.product(*(range(len(steps) + 1) for _, _, steps in options)):
        finish, total, fits = 0, 0.0, True
        for (_, job, steps), depth in sorted(zip(options, depths), key=lambda p: (p[0][1].publish_ns, p[0][1].id)):
            if depth:
                finish += steps[depth - 1][0]
                total += steps[depth - 1][1]
                fits = fits and finish <= job.publish_ns
        if fits:
            best = max(best, total)
    assert gain == best


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
    for spec in ("mandatory-only", "fifo-gated", "threshold", "least-confident", "depth-dp"):
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

"""What `edgert explain` claims to suffice does in a simulation of the changed scenario, and what it says fails does not."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import explain_records
from edgert.results import explain as explaining
from edgert.results.explain_bound import KINDS
from edgert.results.explain_search import Change, Rerun
from edgert.results.explain_watch import follow
from edgert.results.explain_world import world_of
from edgert.results.record import Run
from edgert.results.view import of
from imprecise.conditions import ResourceFault, StageFault
from imprecise.draws import Releases
from imprecise.simulator import simulate

POLICIES = ("fifo-gated", "least-confident", "threshold:theta=0.95", "depth-dp", "monolithic")
TIMED = '{ median = "%dus", sigma = 0.4 }'
SETTINGS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@st.composite
def scenarios(draw):
    """One to three streams with made-up outcomes, durations constant or lognormal, on one or two CPUs."""
    constant = draw(st.booleans())
    times = [draw(st.integers(low, high)) for low, high in ((200, 3000), (1000, 8000), (2000, 16_000))]
    parts = []
    for name in "abc"[:draw(st.integers(1, 3))]:
        part = explain_records.stream(name, f"{draw(st.integers(10, 40))}ms", f"{draw(st.integers(8, 50))}ms",
                                      more=f'offset = "{draw(st.integers(0, 20))}ms"\n')
        kind = draw(st.sampled_from(("milestone", "milestone", "sieve", "version")))
        part = part.replace('\ndeadline', f'\nkind = "{kind}"\ndeadline')
        for default, us in zip(("1ms", "5ms", "10ms"), times):
            part = part.replace(f'time = "{default}"', f'time = "{us}us"' if constant else "time = " + TIMED % us)
        outcomes = "[stream.outcomes]\naccuracy = [0.7, 0.8, 0.9]\nn = 500\n"
        worth = "[stream.reward]\nprior = [0.6, 0.7, 0.75, 0.8]\n" if kind == "sieve" else "[stream.reward]\nprior = [0.6, 0.7, 0.8]\n"
        parts.append(part.partition("[stream.reward]")[0] + (outcomes if kind == "milestone" else worth))
    return parts, draw(st.integers(1, 2)), draw(st.sampled_from(POLICIES)), draw(st.integers(0, 5)), draw(st.floats(0, 1))


def changed(scenario, found, releases, what, value):
    """The scenario with a change, its frames released as the record has them."""
    begin, sources = min(times[0] for times in releases.values() if times), []
    for source in scenario.sources:
        times = releases[source.stream.name]
        if what == "rate":
            times = [begin + (r - begin) * round(1000 * value) // 1000 for r in times]
        mine_too = what == "deadline" and source.stream.name == found["stream"]
        stream = replace(source.stream, deadline_ns=int(value)) if mine_too else source.stream
        sources.append((replace(source, stream=stream), times))
    moved = tuple(replace(source, arrivals=Releases(tuple(times))) for source, times in sources if times)
    units = {found["constraint"]["resource"]: int(value)} if what == "units" else {}
    return replace(scenario, sources=moved, resources={**scenario.resources, **units})


def worth(depth, stream):
    """How good a depth is: of a sieve the number of steps done."""
    return sum(int(depth) >> bit & 1 for bit in range(8)) if stream.kind == "sieve" and depth >= 0 else int(depth)


def held(scenario, found, releases, policy, seed, frames):
    """How many claims were held to simulations of the changed scenario; each is checked on both sides, and unchanged."""
    checked, stream = 0, next(s for s in scenario.streams if s.name == found["stream"])
    for row in found["counterfactuals"]:
        assert not any("drawn" in line or "never ran" in line or "alike" in line for line in row["assumes"])
        for value, wanted in ((row["suffices"], True), (row["fails"], False), (row["recorded"], False)):
            if value is None:
                continue
            world = changed(scenario, found, releases, row["change"], value)
            table = simulate(world, policy, seed, frames, options={"blocking_ns": {}}).frames
            index = [s.name for s in world.streams].index(found["stream"])
            (depth,) = table["depth"][(table["stream"] == index) & (table["frame"] == found["frame"])]
            assert (worth(depth, stream) > worth(found["depth"], stream)) == wanted, (row, depth)
            checked += 1
    return checked


def explained(path, scenario, frame, stream):
    """The explanation, and the releases by stream."""
    with Run(path) as run:
        found = explaining.explain(run, str(frame), stream)
        releases = {s.name: sorted(int(r["release_ns"]) for r in run.frames if r["stream"] == s.name) for s in scenario.streams}
    return found, releases


def hold(folder, drawn):
    """Explain one frame of a simulated run and hold its claims to simulations of the changed scenario."""
    parts, cpu, policy, seed, place = drawn
    frames, path = 40, folder / "r.db"
    scenario = explain_records.world(folder, *parts, cpu=cpu, top='guard = "1ms"')
    explain_records.record(path, scenario, policy, frames, seed=seed,
                           meta={"argv": ["simulate", str(folder / "made.toml")], "scenario": "made", "seed": seed})
    with Run(path) as run:
        chosen = run.frames[int(place * (len(run.frames) - 1))]
    found, releases = explained(path, scenario, chosen["frame"], str(chosen["stream"]))
    assert found["constraint"]["kind"] in KINDS and found["replay"]["same"] and found["depth"] == chosen["depth"]
    assert (found["constraint"]["kind"] == "complete") == (found["depth"] == found["deepest"]) == (found["counterfactuals"] == [])
    assert (found["status"] == "missed") == (found["constraint"]["kind"] in ("mandatory_late", "given_up"))
    if found["constraint"]["short_ns"] >= 0:
        assert found["constraint"]["estimate_ns"] - found["constraint"]["left_ns"] == found["constraint"]["short_ns"] > 0
    held(scenario, found, releases, policy, seed, frames)


@given(scenarios())
@settings(max_examples=12, **SETTINGS)
def test_claims_hold_in_simulations_of_the_changed_scenario(tmp_path_factory, drawn):
    hold(tmp_path_factory.mktemp("claims"), drawn)


@pytest.mark.slow
@given(scenarios())
@settings(max_examples=300, **SETTINGS)
def test_claims_hold_in_many_scenarios(tmp_path_factory, drawn):
    hold(tmp_path_factory.mktemp("claims"), drawn)


def test_changes_from_the_state_before_a_late_frame_do_what_they_do_from_the_start(tmp_path):
    """Frames of three streams come together and are gone before the next ones, so that what came before makes no difference."""
    streams = [explain_records.stream(name, "60ms", "23ms", more=f'offset = "{i}ms"\n') for i, name in enumerate("abc")]
    scenario = explain_records.world(tmp_path, *streams)
    path = explain_records.record(tmp_path / "r.db", scenario, "fifo-gated", 400)
    for name in "bc":
        found, releases = explained(path, scenario, 90, name)
        found["counterfactuals"] = [{**row, "assumes": []} for row in found["counterfactuals"]]  # durations are constant
        assert not found["replay"]["from_start"] and found["replay"]["same"] and found["depth"] < 2
        assert held(scenario, found, releases, "fifo-gated", 0, 400) >= 8


@pytest.mark.parametrize(("policy", "top"), [("depth-dp", ""), ("threshold:theta=0.9", ""), ("monolithic", ""),
                                             ("fifo-gated", 'preemptive = ["cpu"]\n')])
def test_a_run_goes_on_from_a_state_in_its_middle_as_it_did(tmp_path, policy, top):
    """Under overload, with stages that fail, units given up and lost: every frame ends at the same time and depth."""
    streams = [explain_records.stream(name, "11ms", "32ms", more=f'offset = "{i}ms"\n').replace('time = "10ms"', "time = " + TIMED % 9000)
               for i, name in enumerate("abc")]
    if top:  # mandatory work on the CPU too, which interrupts refinement
        streams = [part.replace('resource = "fpga"', 'resource = "cpu"') for part in streams]
    scenario = explain_records.world(tmp_path, *streams, cpu=1 if top else 2, top=f'{top}guard = "1ms"')
    if top:
        scenario = replace(scenario, preemptive=("cpu",))
    faults = [StageFault("abc"[i % 3], i // 3, "second", ("failed", "abandoned")[i % 2], back_ns=40_000_000) for i in range(0, 240, 7)]
    faults += [ResourceFault(at * 1_000_000, "cpu", 0, what) for at, what in ((400, "lost"), (450, "back"), (620, "lost"), (640, "back"))]
    options = {"preemptive": ["cpu"]} if top else {}
    path = explain_records.record(tmp_path / "r.db", scenario, policy, 240, [] if policy == "monolithic" else faults, options)
    with Run(path) as run:
        view, steps, description = of(run), list(run.replay()), run.meta["engine"]
        if top:
            assert any(action.kind == "preempt" for _, _, _, actions in steps for action in actions)
        for target in range(100, 240, 9):
            history = follow(description, steps, target, target - 20, "")
            assert history.state is not None
            world = world_of(view, history.engine.streams, steps, target)
            rows = view.frames["job"] == target
            published, depth = int(view.frames["published_ns"][rows][0]), int(view.frames["depth"][rows][0])
            for state in (history.state, None):
                outcome = Rerun(world, description, state).run(Change())
                assert outcome.depth == depth
                assert depth < 0 or outcome.late_ns == published - int(view.frames["release_ns"][rows][0])

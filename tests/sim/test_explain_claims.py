"""What `edgert explain` claims to suffice does in a simulation of the changed scenario, and what it says fails does not."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import explain_records
from edgert.results import explain as explaining
from edgert.results.explain_bound import KINDS
from edgert.results.record import Run
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
        for default, us in zip(("1ms", "5ms", "10ms"), times):
            part = part.replace(f'time = "{default}"', f'time = "{us}us"' if constant else "time = " + TIMED % us)
        parts.append(part.partition("[stream.reward]")[0] + "[stream.outcomes]\naccuracy = [0.7, 0.8, 0.9]\nn = 500\n")
    return parts, draw(st.integers(1, 2)), draw(st.sampled_from(POLICIES)), draw(st.integers(0, 5)), draw(st.floats(0, 1))


def changed(scenario, found, releases, what, value):
    """The scenario with a change, its frames released as the record has them."""
    mine, sources = found["release_ns"], []
    for source in scenario.sources:
        times = releases[source.stream.name]
        if what == "rate":
            times = [mine + (r - mine) * round(1000 * value) // 1000 for r in times]
        if what == "deadline" and source.stream.name == found["stream"]:
            source = replace(source, stream=replace(source.stream, deadline_ns=int(value)))
        sources.append((source, times))
    begin = min(0, *(min(times, default=0) for _, times in sources))
    moved = tuple(replace(source, arrivals=Releases(tuple(t - begin for t in times))) for source, times in sources if times)
    units = {found["constraint"]["resource"]: int(value)} if what == "units" else {}
    return replace(scenario, sources=moved, resources={**scenario.resources, **units})


def hold(folder, drawn):
    """Explain one frame of a simulated run and hold its claims to simulations of the changed scenario."""
    parts, cpu, policy, seed, place = drawn
    frames, path = 40, folder / "r.db"
    path.unlink(missing_ok=True)
    scenario = explain_records.world(folder, *parts, cpu=cpu, top='guard = "1ms"')
    explain_records.record(path, scenario, policy, frames, seed=seed,
                           meta={"argv": ["simulate", str(folder / "made.toml")], "scenario": "made", "seed": seed})
    with Run(path) as run:
        table = run.frames
        chosen = table[int(place * (len(table) - 1))]
        found = explaining.explain(run, str(chosen["frame"]), str(chosen["stream"]))
        releases = {s.name: sorted(int(r["release_ns"]) for r in table if r["stream"] == s.name) for s in scenario.streams}
    assert found["constraint"]["kind"] in KINDS and found["replay"]["same"]
    assert (found["constraint"]["kind"] == "complete") == (found["depth"] == 2) == (found["counterfactuals"] == [])
    assert (found["status"] == "missed") == (found["constraint"]["kind"] in ("mandatory_late", "given_up"))
    if found["constraint"]["short_ns"] >= 0:
        assert found["constraint"]["estimate_ns"] - found["constraint"]["left_ns"] == found["constraint"]["short_ns"] > 0
    checked = 0
    for row in found["counterfactuals"]:
        assert not any("drawn" in line or "never ran" in line or "alike" in line for line in row["assumes"])
        for value, wanted in ((row["suffices"], True), (row["fails"], False), (row["recorded"], False)):
            if value is None:
                continue
            world = changed(scenario, found, releases, row["change"], value)
            table = simulate(world, policy, seed, frames, options={"blocking_ns": {}}).frames
            index = [s.name for s in world.streams].index(found["stream"])
            (depth,) = table["depth"][(table["stream"] == index) & (table["frame"] == found["frame"])]
            assert (depth > found["depth"]) == wanted, (row, depth)
            checked += 1
    return checked


@given(scenarios())
@settings(max_examples=12, **SETTINGS)
def test_claims_hold_in_simulations_of_the_changed_scenario(tmp_path_factory, drawn):
    hold(tmp_path_factory.mktemp("claims"), drawn)


@pytest.mark.slow
@given(scenarios())
@settings(max_examples=300, **SETTINGS)
def test_claims_hold_in_many_scenarios(tmp_path_factory, drawn):
    hold(tmp_path_factory.mktemp("claims"), drawn)


def test_a_long_record_is_run_again_from_some_frames_before_and_the_claims_hold_from_the_start(tmp_path):
    """The learnt durations and the policy's state of the record stand for what came before."""
    streams = [explain_records.stream(name, "11ms", "32ms", more=f'offset = "{i}ms"\n').replace('time = "10ms"', "time = " + TIMED % 9000)
               for i, name in enumerate("abc")]
    scenario = explain_records.world(tmp_path, *streams)
    path = explain_records.record(tmp_path / "r.db", scenario, "depth-dp", 900, seed=3,
                                  meta={"argv": ["simulate", str(tmp_path / "made.toml")], "scenario": "made", "seed": 3})
    with Run(path) as run:
        table = run.frames
        shallow = next(int(row["frame"]) for row in table if row["stream"] == "b" and row["frame"] > 250 and row["depth"] < 2)
        found = explaining.explain(run, str(shallow), "b")
        releases = {name: sorted(int(r["release_ns"]) for r in table if r["stream"] == name) for name in "abc"}
    assert not found["replay"]["from_start"] and found["replay"]["frames"] < 500 and found["replay"]["same"]
    row = next(r for r in found["counterfactuals"] if r["change"] == "units")
    world = changed(scenario, found, releases, "units", row["suffices"])
    table = simulate(world, "depth-dp", 3, 900).frames
    (depth,) = table["depth"][(table["stream"] == 1) & (table["frame"] == found["frame"])]
    assert depth > found["depth"]

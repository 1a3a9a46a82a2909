"""Scenario files: what they mean, and one clear line for every way in which they can be wrong."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import scenario
from imprecise.draws import Constant, Empirical, Listed, Lognormal, Periodic, Releases, Sporadic
from imprecise.model import Curve, Reward, Stage
from imprecise.scenario import Outcomes, ScenarioError, Workload, streams_for_load, synthetic_outcomes, synthetic_reward
from imprecise.simulator import simulate

GOOD = """
guard = "1ms"
[resources]
fpga = 1
cpu = 2
[[stream]]
name = "front"
rate = 25
deadline = "33ms"
jitter = "1ms"
weight = 2.0
[[stream.stage]]
name = "first"
resource = "fpga"
mandatory = true
time = "2ms"
[[stream.stage]]
name = "second"
resource = "cpu"
time = { median = "8ms", sigma = 0.2, max = "20ms" }
wcet = "25ms"
[stream.outcomes]
accuracy = [0.8, 0.9]
n = 100
"""


def bundle(name: str) -> Workload:
    """What a bundle is resolved to: one mandatory and one optional stage."""
    assert name == "fashion"
    stages = (Stage("fashion/mandatory", "fpga", True, 900_000, 300_000), Stage("fashion/stage1", "cpu", False, 9_000_000, 2_000_000))
    outcomes = synthetic_outcomes((0.8, 0.9), 30, "x")
    return Workload(stages, (Constant(300_000), Empirical((1_500_000, 2_500_000))), synthetic_reward((0.8, 0.9)), outcomes, outcomes)


def read(tmp_path: Path, text: str, load: float | None = None, resolve=bundle):
    """A scenario from text."""
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    return scenario.load(path, resolve, load)


def change(old: str, new: str) -> str:
    """The good file with one thing changed."""
    assert GOOD.count(old) >= 1
    return GOOD.replace(old, new, 1)


# What is read -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_written(tmp_path):
    found = read(tmp_path, GOOD)
    stream, work = found.streams[0], found.sources[0].work
    assert (found.name, found.resources, found.guard_ns, found.load) == ("a", {"fpga": 1, "cpu": 2}, 10**6, 0)
    assert (stream.name, stream.period_ns, stream.deadline_ns) == ("front", 40 * 10**6, 33 * 10**6)
    assert (stream.jitter_ns, stream.weight) == (10**6, 2)
    assert stream.stages[0] == Stage("first", "fpga", True, 2 * 10**6, 2 * 10**6)
    assert (stream.stages[1].mandatory, stream.stages[1].wcet_ns) == (False, 25 * 10**6)
    assert work.durations == (Constant(2 * 10**6), Lognormal(8 * 10**6, 0.2, 20 * 10**6))
    assert work.outcomes.confidence.shape == work.validation.confidence.shape == (100, 2)
    assert not np.array_equal(work.outcomes.confidence, work.validation.confidence)
    assert found.on_validation().sources[0].work.outcomes is work.validation


def test_every_kind_of_time_and_arrival_is_read(tmp_path):
    ms = 10**6
    for text, model in (('["1ms", "3ms"]', Listed((ms, 3 * ms))), ('{ samples = ["3ms", "1ms"] }', Empirical((ms, 3 * ms))),
                        ('{ median = "4ms", sigma = 0 }', Lognormal(4 * ms, 0.0))):
        assert read(tmp_path, change('time = "2ms"', f"time = {text}")).sources[0].work.durations[0] == model
    for text, arrivals in (('period = "20ms"\noffset = "3ms"', Periodic(20 * ms, 3 * ms, ms)), ("rate = 50", Periodic(20 * ms, 0, ms)),
                           ('rate = 50\noffset = "random"', Periodic(20 * ms, -1, ms)),
                           ('min_gap = "10ms"\nmean_gap = "15ms"', Sporadic(10 * ms, 5 * ms, ms)),
                           ('min_gap = "10ms"', Sporadic(10 * ms, 0, ms)),
                           ('releases = ["1ms", "1ms", "9ms"]', Releases((ms, ms, 9 * ms), ms))):
        assert read(tmp_path, change("rate = 25", text)).sources[0].arrivals == arrivals


def test_a_deadline_left_out_is_the_period(tmp_path):
    assert read(tmp_path, change('deadline = "33ms"\n', "")).streams[0].deadline_ns == 40 * 10**6


def test_written_outcomes_and_rewards_are_read(tmp_path):
    text = change("accuracy = [0.8, 0.9]\nn = 100", "confidence = [[0.5, 0.9], [0.7, 1.0]]\ncorrect = [[true, true], [false, true]]")
    curve = "{ x = [0.1, 0.9], y = [0.2, 1] }"
    text += f'[stream.reward]\nprior = [0.8, 0.9]\ncorrect = [{curve}, {curve}]\ngain = {{ "0" = {{ "1" = {curve} }} }}\n'
    work = read(tmp_path, text).sources[0].work
    assert work.outcomes.confidence.tolist() == [[0.5, 0.9], [0.7, 1.0]] and work.outcomes.correct.tolist() == [[True, True], [False, True]]
    same = Curve((0.1, 0.9), (0.2, 1.0))
    assert work.reward == Reward((same, same), {(0, 1): same}, (0.8, 0.9)) and work.validation is None
    with pytest.raises(ScenarioError, match="no validation outcomes"):
        read(tmp_path, text).on_validation()


def test_a_bundle_is_resolved_once_by_its_name(tmp_path):
    asked = []
    text = '[resources]\nfpga = 1\ncpu = 1\n' + "".join(
        f'[[stream]]\nname = "{n}"\nrate = 10\nbundle = "fashion"\n' for n in ("a", "b"))
    found = read(tmp_path, text, resolve=lambda name: asked.append(name) or bundle(name))
    assert asked == ["fashion"] and found.sources[0].work is found.sources[1].work


@pytest.mark.parametrize("name", scenario.names())
def test_shipped_scenarios_run(name):
    found = scenario.load(name, bundle)
    result = simulate(found, "fifo-gated", 0, 50)
    assert result.captured == 50 and not result.policy_fault
    for stream in found.streams:
        assert all(stage.wcet_ns for stage in stream.stages if stage.mandatory)


def test_the_shipped_scenarios_are_what_their_names_say():
    tasks = scenario.load("ten-tasks")
    assert len(tasks.streams) == 10 and all(len(stream.stages) == 1 == stream.mandatory for stream in tasks.streams)
    assert sum(s.work.durations[0].mean_ns / s.stream.period_ns for s in tasks.sources) == pytest.approx(0.9)
    front, rear = scenario.load("two-cameras", bundle).streams
    assert (front.name, rear.name, round(1e9 / front.period_ns), round(1e9 / rear.period_ns)) == ("front", "rear", 30, 15)
    assert [scenario.load(name, bundle).load for name in ("overload-1.5", "overload-3")] == [1.5, 3]


# Loads ------------------------------------------------------------------------------------------------------------------


@given(st.floats(1e5, 1e8), st.floats(0.05, 20), st.integers(1, 16), st.floats(1, 1000))
def test_streams_for_load_cost_what_was_asked_for(cost_ns, load, cpus, max_rate):
    try:
        found = streams_for_load(cost_ns, load, cpus, max_rate)
    except ValueError as error:
        assert "more than" in str(error)
        return
    assert found.streams * cost_ns / found.period_ns == pytest.approx(load * cpus, rel=1e-3)
    assert 1e9 / found.period_ns <= max_rate * (1 + 1e-6) + 1e-3
    assert found.streams == 1 or (found.streams - 1) * max_rate < load * cpus * 1e9 / cost_ns  # no fewer would do
    assert found.deadline_ns >= 2 * cost_ns and found.deadline_ns >= found.period_ns


def test_a_deadline_below_twice_the_refinement_is_refused():
    assert streams_for_load(5e6, 1.5, 1, deadline_ns=10_000_000).deadline_ns == 10_000_000
    with pytest.raises(ValueError, match="at least 2 times the whole refinement"):
        streams_for_load(5e6, 1.5, 1, deadline_ns=9_999_999)


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, float("nan"), 1)])
def test_a_load_of_nothing_is_refused(bad):
    with pytest.raises(ValueError, match="positive"):
        streams_for_load(*bad)


def test_a_load_keeps_the_cpu_that_busy():
    """Refining everything at load 0.8 keeps the two workers 80 % busy, whatever the number of streams."""
    found = scenario.load("made-up", load=0.8)
    result = simulate(found, "monolithic:gate=0", 0, 4000, rows=False)
    assert len(found.streams) == 5 and result.missed < 40
    assert result.busy_ns["cpu"] / (2 * result.end_ns) == pytest.approx(0.8, abs=0.03)


def test_a_load_given_overrides_the_file_and_spreads_the_phases(tmp_path):
    found = read(tmp_path, "load = 1\n" + change("rate = 25", "rate = 30"), load=2.0)
    assert found.load == 2 and len(found.streams) == 17  # 2 * 2 workers / 8.16 ms / 30 a second
    assert found.streams[0].name == "front-00" and all(source.arrivals.offset_ns == -1 for source in found.sources)
    assert len({stream.name for stream in found.streams}) == 17 and all(1e9 / stream.period_ns <= 30 for stream in found.streams)


# What can be wrong ------------------------------------------------------------------------------------------------------


WRONG = {
    "unknown key": (change("jitter", "jiter"), r"stream\[0\].jiter: found an unknown key, expected did you mean 'jitter'"),
    "unknown top key": ("gard = 1\n" + GOOD, r"gard: found an unknown key, expected did you mean 'guard'"),
    "unknown stage key": (change("wcet", "wcett"), r"stage\[1\].wcett: .*'wcet'"),
    "unknown time key": (change("sigma = 0.2,", "sigma = 0.2, mean = 3,"), r"time.mean: found an unknown key"),
    "negative time": (change('"2ms"', '"-2ms"'), r"stage\[0\].time: found '-2ms', expected a duration that is not negative"),
    "zero time": (change('"2ms"', '"0ms"'), r"time: found '0ms', expected a duration above 0"),
    "no unit": (change('"2ms"', '"2"'), r"time: found '2', expected .*no unit.*like 2ms"),
    "unknown unit": (change('"2ms"', '"2 parsec"'), r"unknown unit 'parsec'"),
    "bare number": (change('"2ms"', "2"), r"time: found 2, expected a duration with its unit in quotes, like \"2ms\""),
    "endless time": (change('"2ms"', '"99999h"'), r"unknown unit 'h'"),
    "too long a time": (change('"2ms"', '"99999999s"'), r"at most 24 hours"),
    "unknown resource": (change('"fpga"', '"fpgaa"'), r"stage\[0\].resource: found 'fpgaa', expected did you mean 'fpga'"),
    "no resources": (re.sub(r"fpga = 1\ncpu = 2", "", GOOD), r"resources: found none, expected at least one"),
    "no resource table": (GOOD.replace("[resources]\nfpga = 1\ncpu = 2", ""), r"resources: found nothing"),
    "no units": (change("cpu = 2", "cpu = 0"), r"resources.cpu: found 0, expected an integer from 1"),
    "true is no number": (change("cpu = 2", "cpu = true"), r"resources.cpu: found True"),
    "twice the name": (GOOD + GOOD[GOOD.index("[[stream]]"):],
        r"stream\[1\].name: found 'front', expected a name that no other stream has"),
    "two stages of one name": (change('name = "second"', 'name = "first"'), r"stage\[1\].name: found 'first'"),
    "no deadline": (change('deadline = "33ms"', 'deadline = "0ms"'), r"deadline: found '0ms', expected a duration above 0"),
    "deadline within the guard": (change('deadline = "33ms"', 'deadline = "1ms"'),
        r"deadline: found 1000000 ns, expected more than the guard"),
    "releases without deadline": (GOOD.replace('deadline = "33ms"\n', "").replace("rate = 25", 'releases = ["1ms"]'),
        r"deadline: found none"),
    "no arrivals": (change("rate = 25", ""), r"rate: found nothing, expected exactly one of rate, period"),
    "two arrivals": (change("rate = 25", 'rate = 25\nperiod = "40ms"'), r"rate: found rate and period, expected exactly one"),
    "no rate": (change("rate = 25", "rate = 0"), r"rate: found 0, expected frames per second above 0"),
    "endless rate": (change("rate = 25", "rate = inf"), r"rate: found inf, expected a finite number"),
    "falling releases": (change("rate = 25", 'releases = ["2ms", "1ms"]'), r"releases: found times that fall, expected rising"),
    "no releases": (change("rate = 25", "releases = []"), r"releases: found an empty list"),
    "gaps": (change("rate = 25", 'min_gap = "3ms"\nmean_gap = "2ms"'), r"mean_gap: found 2000000 ns, expected at least min_gap"),
    "no stage": (GOOD[:GOOD.index("[[stream.stage]]")], r"stream\[0\].stage: found nothing"),
    "empty stages": (GOOD[:GOOD.index("[[stream.stage]]")] + "stage = []", r"stage: found \[\], expected at least one"),
    "no stream": (GOOD[:GOOD.index("[[stream]]")], r"stream: found nothing"),
    "empty streams": (GOOD[:GOOD.index("[resources]")] + "stream = []\n[resources]\ncpu = 1",
        r"stream: found \[\], expected at least one"),
    "empty file": ("", r"resources: found nothing"),
    "optional before mandatory": (change("mandatory = true", "").replace('wcet = "25ms"', "mandatory = true"),
        r"mandatory stages must come before"),
    "weight": (change("weight = 2.0", "weight = 0"), r"weight: found 0, expected a number above 0"),
    "accuracies": (change("[0.8, 0.9]", "[0.8]"), r"accuracy: found \[0.8\], expected 2 rising numbers"),
    "falling accuracies": (change("[0.8, 0.9]", "[0.9, 0.8]"), r"accuracy: .*expected 2 rising numbers"),
    "outcomes that do not fit": (change("accuracy = [0.8, 0.9]\nn = 100", "confidence = [[0.5, 0.9]]\ncorrect = [[true]]"),
        r"one shape"),
    "correct that is no truth": (change("accuracy = [0.8, 0.9]\nn = 100", "confidence = [[0.5, 0.9]]\ncorrect = [[2, 3]]"),
        r"true or false"),
    "confidence above 1": (change("accuracy = [0.8, 0.9]\nn = 100", "confidence = [[5, 0.9]]\ncorrect = [[true, true]]"),
        r"between 0 and 1"),
    "outcome depths": (change("accuracy = [0.8, 0.9]\nn = 100", "confidence = [[0.5]]\ncorrect = [[true]]"),
        r"found 1 depths, expected 2"),
    "priors": (GOOD + "[stream.reward]\nprior = [0.8]", r"reward.prior: found 1 numbers, expected 2"),
    "a curve that falls back": (GOOD + "[stream.reward]\ncorrect = [{ x = [1, 0], y = [0, 1] }]", r"correct\[0\].x: .*must rise"),
    "gain backwards": (GOOD + '[stream.reward]\ngain = { "1" = { "0" = { x = [0], y = [1] } } }', r"found depths 1 to 0"),
    "a bundle and stages": (change("rate = 25", 'rate = 25\nbundle = "fashion"'), r"stage: found it beside bundle"),
    "wrong type": (change('name = "front"', "name = 3"), r"stream\[0\].name: found 3, expected a text"),
    "a name kept for draws": (change('name = "front"', 'name = "@front"'), r"does not begin with @"),
    "a table for a text": (change('resource = "fpga"', "resource = { a = 1 }"), r"expected a text"),
    "a text for a table": ('resources = "cpu"\n' + GOOD.replace("[resources]\nfpga = 1\ncpu = 2", ""),
        r"resources: found 'cpu', expected a table"),
    "blocking": (GOOD + '[blocking]\ngpu = "1ms"', r"blocking.gpu: found a resource that \[resources\] does not have"),
    "load": ("load = -1\n" + GOOD, r"load: found -1, expected a number above 0"),
    "load of two": ("load = 999\n" + GOOD + GOOD[GOOD.index("[[stream]]"):].replace('"front"', '"rear"'),
        r"load: found 999, expected at most 4096 streams"),
    "load and a short deadline": ("load = 1\n" + change('deadline = "33ms"', 'deadline = "9ms"'),
        r"load: found 1, expected what can be made: the deadline"),
    "load and a period": ("load = 1\n" + change("rate = 25", 'period = "3ms"'), r"period: found an unknown key"),
    "no toml": (GOOD + "]", r"is no TOML: .*line 25"),
    "one name, two times": (GOOD + GOOD[GOOD.index("[[stream]]"):].replace('"front"', '"rear"').replace('"2ms"', '"3ms"'),
                            r"stage 'first': found two different stages"),
    "sigma": (change("sigma = 0.2", "sigma = 9"), r"time.sigma: found 9, expected a number from 0 to 3"),
    "max below median": (change('max = "20ms"', 'max = "2ms"'), r"time.max: .*at least the median"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_malformed_scenario_gives_one_line_that_says_what_and_where(tmp_path, case):
    text, expected = WRONG[case]
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert re.search(expected, message), message
    assert "\n" not in message and re.match(rf"{re.escape(str(tmp_path / 'a.toml'))}(, line \d+)?: ", message) and len(message) < 600


def test_a_bundle_needs_someone_who_knows_bundles(tmp_path):
    with pytest.raises(ScenarioError, match="no bundles are at hand"):
        read(tmp_path, '[resources]\ncpu = 1\nfpga = 1\n[[stream]]\nname = "a"\nrate = 1\nbundle = "fashion"', resolve=None)
    with pytest.raises(ScenarioError, match="found stage 'fashion/mandatory' on resource 'fpga', expected one of cpu"):
        read(tmp_path, '[resources]\ncpu = 1\n[[stream]]\nname = "a"\nrate = 1\nbundle = "fashion"')


def test_an_unknown_name_offers_the_nearest(tmp_path):
    with pytest.raises(ScenarioError, match="did you mean 'two-cameras'"):
        scenario.load("two-camera")
    with pytest.raises(ScenarioError, match="no such file"):
        scenario.load(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"guard = \xff\xfe")
    with pytest.raises(ScenarioError, match="is no TOML"):
        scenario.load(tmp_path / "b.toml")


VALUES = ["", "x", "'a'", "-1", "0", "1e999", "nan", "true", "[]", "{}", "[[1]]",
          '"5ms"', '"-5ms"', '"9e9s"', "99999999999999999999", '["1ms"]']


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9))
def test_a_mangled_file_is_read_or_refused_in_one_line(tmp_path_factory, seed):
    rng = random.Random(seed)
    lines = GOOD.splitlines()
    for _ in range(rng.randrange(1, 3)):
        i = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            del lines[i]
        elif kind == 1:
            lines.insert(i, rng.choice(lines))
        elif "=" in lines[i]:
            lines[i] = lines[i].partition("=")[0] + "= " + rng.choice(VALUES)
    load = rng.choice([None, None, 0.5, 2.0])
    try:
        found = read(tmp_path_factory.mktemp("m"), "\n".join(lines), load)
        simulate(found, "fifo-gated", 0, 5)
    except ScenarioError as error:
        assert "\n" not in str(error)


# Made-up outcomes -------------------------------------------------------------------------------------------------------


def test_made_up_outcomes_are_calibrated():
    accuracy = (0.8, 0.9, 0.95)
    outcomes, reward = synthetic_outcomes(accuracy, 200_000, "x"), synthetic_reward(accuracy)
    assert outcomes.correct.mean(axis=0) == pytest.approx(accuracy, abs=0.004)
    assert (np.diff(outcomes.confidence, axis=1) >= 0).all() and (np.diff(outcomes.correct.astype(int), axis=1) >= 0).all()
    for depth in range(3):
        for low in np.arange(0.05, 1, 0.1):
            here = np.abs(outcomes.confidence[:, depth] - low) < 0.05
            if here.sum() > 3000:
                mean = float(outcomes.confidence[here, depth].mean())
                assert outcomes.correct[here, depth].mean() == pytest.approx(reward.utility(depth, mean), abs=0.03)
                for deeper, gain in enumerate(reward.gains(depth, mean, 2), depth + 1):
                    found = outcomes.correct[here, deeper].mean() - outcomes.correct[here, depth].mean()
                    assert found == pytest.approx(gain, abs=0.03)


def test_outcomes_of_one_dimension_are_refused():
    with pytest.raises(ValueError, match="pictures, depths"):
        Outcomes(np.zeros(3), np.zeros(3, dtype=bool))


def test_a_load_copies_several_streams_together(tmp_path):
    """The same set of cameras again and again, slower by one factor, so that the load is what was asked for."""
    text = """
[resources]
cpu = 2
[[stream]]
name = "front"
rate = 40
deadline = "50ms"
[[stream.stage]]
name = "m"
resource = "cpu"
mandatory = true
time = "1ms"
[[stream.stage]]
name = "o"
resource = "cpu"
time = "4ms"
[[stream]]
name = "rear"
rate = 20
drift = -100
[[stream.stage]]
name = "m2"
resource = "cpu"
mandatory = true
time = "2ms"
"""
    for load, copies in ((0.1, 1), (0.12, 1), (0.13, 2), (3.0, 25)):
        made = read(tmp_path, text, load=load)
        assert len(made.sources) == 2 * copies and len({s.name for s in made.streams}) == 2 * copies
        cost = {"m": 1e6, "o": 4e6, "m2": 2e6}
        busy = sum(cost[stage.name] / source.arrivals.period_ns for source in made.sources for stage in source.stream.stages)
        assert busy / 2 == pytest.approx(load, rel=1e-6)
        assert {s.deadline_ns for s in made.streams if s.name.startswith("front")} == {50_000_000}
        assert all(source.arrivals.period_ns >= 25_000_000 for source in made.sources)


def test_a_bundle_may_be_given_other_times(tmp_path):
    text = """
[resources]
fpga = 1
cpu = 1
[[stream]]
name = "a"
rate = 30
bundle = "fashion"
times = { mandatory = { samples = ["1ms", "3ms"] } }
"""
    made = read(tmp_path, text).sources[0]
    plain = read(tmp_path, text.replace("times =", "#")).sources[0]
    assert made.work.durations[0].mean_ns == 2e6 and made.stream.stages[0].wcet_ns == 3_000_000
    assert made.work.durations[1:] == plain.work.durations[1:] and made.stream.stages[1:] == plain.stream.stages[1:]
    with pytest.raises(ScenarioError, match=r"times.nothing: found an unknown key, expected there are"):
        read(tmp_path, text.replace("mandatory", "nothing"))

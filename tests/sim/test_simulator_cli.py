"""`edgert simulate`: one table of policies on the same frames, the same as JSON, and a record that replays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from edgert.cli import simulate as command
from edgert.errors import BundleError, UsageError
from imprecise import scenario
from imprecise.model import Curve, Reward, Stage
from imprecise.simulator import simulate


def run(*args: str) -> str:
    """The output of the command; its errors are raised."""
    result = CliRunner().invoke(command.app, list(args), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(*args: str) -> dict:
    """Its JSON."""
    return json.loads(run(*args, "--json"))


def test_the_figures_are_those_of_the_simulator():
    found = figures("made-up", "--policy", "fifo-gated", "--policy", "monolithic", "--seed", "3", "--frames", "800")
    assert (found["scenario"], found["seed"], found["streams"], found["load"]) == ("made-up", 3, 9, 1.5)
    for row, name in zip(found["policies"], ("fifo-gated", "monolithic")):
        direct = simulate(scenario.load("made-up"), name, 3, 800)
        assert row["policy"] == name and row["sums_exactly"] and row["captured"] == 800
        assert list(row["answered_by_depth"].values()) == direct.answered and row["missed"] == direct.missed
        assert row["utility"] == pytest.approx(direct.utility) and row["accuracy"] == pytest.approx(direct.accuracy)
        assert row["miss_ratio_low"] <= row["miss_ratio"] <= row["miss_ratio_high"]
        assert row["utility_low"] < row["utility"] < row["utility_high"]
        for name_of, share in (("latency_p50_ns", 0.5), ("latency_p99_ns", 0.99)):
            expected = direct.latency_ns(share)
            assert row[name_of] == (expected if np.isfinite(expected) else None)
        assert 0 < row["busy"]["cpu"] <= 1


def test_differences_are_to_the_first_policy_on_the_same_frames():
    found = figures("made-up", "--policy", "mandatory-only", "--policy", "least-confident", "--frames", "1000")
    first, second = found["policies"]
    part = second["against_first"]["utility"]
    assert first["against_first"] is None and part["pairs"] == 1000 and part["verdict"] == "higher"
    assert part["difference"] == pytest.approx(second["utility"] - first["utility"])
    alone = [simulate(scenario.load("made-up"), name, 0, 1000).frames for name in ("mandatory-only", "least-confident")]
    assert part["difference"] == pytest.approx((alone[1]["utility"] - alone[0]["utility"]).mean())
    assert part["difference_high"] - part["difference_low"] < (second["utility_high"] - second["utility_low"]) * 1.5


def test_the_table_names_policies_and_says_the_difference():
    text = run("made-up", "--policy", "monolithic", "--policy", "fifo-gated", "--frames", "500")
    assert "made-up: 9 streams, load 1.5, 500 frames" in text and "utility" in text
    assert "fifo-gated against monolithic, on the same 500 frames" in " ".join(text.split())


def test_a_load_and_validation_pictures_may_be_asked_for():
    plain = figures("made-up", "--policy", "fifo-gated", "--frames", "300")
    heavy = figures("made-up", "--policy", "fifo-gated", "--frames", "300", "--load", "3")
    other = figures("made-up", "--policy", "fifo-gated", "--frames", "300", "--validation")
    assert (heavy["streams"], heavy["load"]) == (18, 3.0)
    assert other["policies"][0]["utility"] != plain["policies"][0]["utility"]
    assert other["policies"][0]["answered_by_depth"] == plain["policies"][0]["answered_by_depth"]  # the same times


def test_a_record_holds_the_simulation_and_replays(tmp_path):
    from edgert.executive.replay import replay
    from edgert.results.record import Run

    path = tmp_path / "a.db"
    run("made-up", "--policy", "threshold:theta=0.9", "--frames", "400", "--record", str(path))
    direct = simulate(scenario.load("made-up"), "threshold:theta=0.9", 0, 400)
    with Run(path) as record:
        assert record.finished and record.meta["kind"] == "simulated" and record.meta["policy"] == "threshold:theta=0.9"
        steps, actions, difference = replay(record)
        assert difference is None and steps == direct.steps and actions > 400
        assert record.frames["published_ns"].tolist() == direct.frames["published_ns"].tolist()
        assert record.frames["depth"].tolist() == direct.frames["depth"].tolist()
        assert len(record.stages) == sum(direct.answered[d] * (d + 1) for d in range(3)) + direct.discarded
    with pytest.raises(UsageError, match="holds a finished run"):
        run("made-up", "--policy", "threshold:theta=0.9", "--frames", "400", "--record", str(path))
    run("made-up", "--policy", "fifo-gated", "--frames", "50", "--record", str(path), "--overwrite")
    with Run(path) as record:
        assert len(record.frames) == 50


@pytest.mark.parametrize(("args", "expected"), [
    (["nothing"], "no such file or scenario"),
    (["made-up", "--policy", "fifo-gate"], "did you mean 'fifo-gated'"),
    (["made-up", "--policy", "threshold:teta=1"], "teta"),
    (["made-up", "--frames", "0"], "--frames 0"),
    (["made-up", "--load", "-2"], "--load -2"),
    (["two-cameras", "--load", "999"], "at most 4096 streams"),
    (["made-up", "--load", "100000"], "at most 1000"),
    (["ten-tasks", "--validation"], "no validation outcomes"),
    (["made-up", "--record", "x.db", "--policy", "fifo-gated", "--policy", "monolithic"], "keeps the run of one policy, found 2"),
])
def test_what_cannot_be_right_is_one_line(args, expected):
    with pytest.raises(UsageError) as caught:
        run(*args)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_help_is_a_manual():
    text = run("--help")
    for part in ("EXAMPLES", "SCENARIOS", "EXIT CODES", *scenario.names()):
        assert part in text


def test_admission_tells_the_engine_and_the_reader():
    """A shared core: with its blocking limit the optional stages that are too long never start, and nothing is missed."""
    found = figures("made-up", "--policy", "fifo-gated", "--frames", "200")
    assert found["admission"]["answer"] == "certificate" and found["policies"][0]["missed"] == 0
    assert figures("made-up", "--policy", "fifo-gated", "--frames", "200", "--load", "20")["admission"]["answer"] == "counter-example"


def test_a_long_optional_stage_does_not_block_admitted_mandatory_work(tmp_path):
    stage = '[[stream.stage]]\nname = "{}"\nresource = "cpu"\ntime = "{}ms"\n{}'
    text = "[resources]\ncpu = 1\n"
    for name, period, optional in (("slow", 100, 30), ("fast", 10, 3)):
        text += f'[[stream]]\nname = "{name}"\nperiod = "{period}ms"\n' + stage.format(f"{name}-first", 4, "mandatory = true\n")
        text += stage.format(f"{name}-second", optional, "") + "[stream.reward]\nprior = [0.5, 0.9]\n"
    path = tmp_path / "core.toml"
    path.write_text(text)
    found = figures(str(path), "--policy", "fifo-gated", "--policy", "monolithic", "--frames", "300")
    split, whole = found["policies"]
    assert found["admission"]["answer"] == "certificate" and split["missed"] == 0 < whole["missed"]
    direct = simulate(scenario.load(path), "fifo-gated", 0, 300)
    assert direct.missed > 0  # without what admission found


class SmallBundle:
    """What `edgert.bundle.load` gives, as far as a simulation reads it: two depths; pictures 0, 1, 2 with labels 5, 6, 7."""

    name, model_id = "small", "abc"
    reward = Reward((Curve((0.0, 1.0), (0.5, 1.0)),) * 2, {(0, 1): Curve((0.0, 1.0), (0.5, 1.0))})

    def __init__(self, without: str = "") -> None:
        factors = {"p50_ns": 1.0, "p90_ns": 1.1, "p99_ns": 1.2, "max_ns": 1.3}
        self.timing = {"stages": {stage: {key: int(ms * 10**6 * factor) for key, factor in factors.items()}
                                  for stage, ms in (("mandatory", 1), ("stage1", 5))}}
        outcomes = {"confidence": np.array([[0.2, 0.9], [0.5, 0.6], [0.9, 1.0]]), "correct": np.array([[0, 1], [1, 0], [1, 1]], bool)}
        self.contents = {"outcomes.npz": outcomes, "validation.npz": {key: rows[:2] for key, rows in outcomes.items()},
                         "frames.npz": {"labels": np.array([5, 6, 7], np.uint8)}}
        self.contents.pop(without, None)

    def arrays(self, file: str) -> dict:
        if file not in self.contents:
            raise BundleError(f"bundle {self.name!r} has no {file}")
        return self.contents[file]

    def stages(self) -> tuple[Stage, ...]:
        return Stage("small/mandatory", "fpga", True, 2 * 10**6, 10**6), Stage("small/stage1", "cpu", False, 9 * 10**6, 5 * 10**6)


@pytest.fixture
def small_scenario(tmp_path):
    """One stream of the bundle."""
    path = tmp_path / "small.toml"
    path.write_text('[resources]\nfpga = 1\ncpu = 1\n[[stream]]\nname = "s"\nrate = 50\nbundle = "small"\n')
    return path


def test_a_bundle_is_simulated_with_its_times_outcomes_and_labels(small_scenario, tmp_path, monkeypatch):
    from edgert.results.record import Run

    monkeypatch.setattr("edgert.bundle.load", lambda name: SmallBundle())
    record = tmp_path / "b.db"
    run(str(small_scenario), "--policy", "fifo-gated", "--frames", "200", "--record", str(record))
    with Run(record) as found:
        frames, stages = found.frames, found.stages
        assert (found.meta["bundle"], found.meta["streams"][0]["source"]) == ("small", "dataset:small")
        assert set(frames["depth"]) == {1} and frames["label"].tolist() == [5 + item for item in frames["item"]]
        assert frames["correct"].tolist() == [(1, 0, 1)[item] for item in frames["item"]]
        assert frames["utility"] == pytest.approx([0.5 + 0.5 * (0.9, 0.6, 1.0)[item] for item in frames["item"]])
        took = (stages["end_ns"] - stages["start_ns"])[stages["stage"] == "small/stage1"]
        assert len(took) == 200 and took.min() == 5_000_000 and took.max() <= 6_500_000
        assert np.median(took) == pytest.approx(5_000_000, rel=0.01) and (took > 5_500_000).mean() == pytest.approx(0.1, abs=0.06)
    heavy = figures(str(small_scenario), "--policy", "mandatory-only", "--validation", "--frames", "200")["policies"][0]
    assert 0.6 < heavy["utility"] < 0.75  # pictures 0 and 1 alone: 0.6 and 0.75


@pytest.mark.parametrize(("missing", "option", "error", "expected"), [
    ("outcomes.npz", "--json", BundleError, "has no outcomes.npz"),
    ("validation.npz", "--validation", UsageError, "no validation outcomes"),
])
def test_a_bundle_without_outcomes_is_refused(small_scenario, monkeypatch, missing, option, error, expected):
    monkeypatch.setattr("edgert.bundle.load", lambda name: SmallBundle(missing))
    with pytest.raises(error, match=expected):
        run(str(small_scenario), option)

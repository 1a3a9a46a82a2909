"""`edgert sweep`: what a file asks for, what is wrong with one, and the figures that come out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from edgert.cli import sweep as command
from edgert.errors import UsageError
from edgert.sweep import figures, plan
from imprecise import generators, scenario
from imprecise.simulator import simulate
from imprecise.tuning import tune_threshold

SCENARIO = """
[resources]
fpga = 1
cpu = 1
[[stream]]
name = "a"
rate = 100
deadline = "30ms"
[[stream.stage]]
name = "first"
resource = "fpga"
mandatory = true
time = "1ms"
[[stream.stage]]
name = "second"
resource = "cpu"
time = { median = "8ms", sigma = 0.3 }
[stream.outcomes]
accuracy = [0.7, 0.9]
n = 50
"""
SWEEP = """
scenarios = ["one.toml"]
policies = ["mandatory-only", "fifo-gated"]
seeds = 3
frames = 60
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.toml").write_text(SCENARIO)
    return tmp_path


def read(here, text):
    (here / "s.toml").write_text(text)
    return plan.read("s.toml")


def sweep(here, text, *options, code=0):
    """(stdout, stderr) of the command in this process."""
    (here / "s.toml").write_text(text)
    result = CliRunner().invoke(command.app, ["s.toml", "--jobs", "1", *options], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def as_json(here, text, *options, code=0):
    return json.loads(sweep(here, text, "--json", *options, code=code)[0])


# What a file asks for -------------------------------------------------------------------------------------------------


def test_a_file_gives_every_combination_on_the_same_worlds_for_all_policies(here):
    asked = read(here, SWEEP + 'loads = [0.5, 2.0]\n[grid]\nguard = ["0ms", "1ms"]\n"stream.a.deadline" = ["20ms", "30ms", "40ms"]\n')
    assert len(asked.settings) == 2 * 2 * 3 and len(asked.entries) == 2 * 2 * 3 * 2 * 3
    assert len({entry.cell.key for entry in asked.entries}) == len(asked.entries)
    for i, setting in enumerate(asked.settings):
        cells = [entry for entry in asked.entries if entry.setting == i]
        world, = {id(entry.cell.inputs["scenario"]): entry.cell.inputs["scenario"] for entry in cells}.values()
        assert world.load == setting.load and world.guard_ns == {"0ms": 0, "1ms": 10**6}[setting.grid["guard"]]
        assert {s.deadline_ns for s in world.streams} == {int(setting.grid["stream.a.deadline"][:-2]) * 10**6}
        assert [(e.policy, e.seed) for e in cells] == [(p, s) for p in ("mandatory-only", "fifo-gated") for s in range(3)]
        assert {e.cell.params["frames"] for e in cells} == {60}


def test_a_key_of_the_grid_is_what_the_file_would_say(here):
    world = read(here, SWEEP + '[grid]\n"stream.*.stage.second.time" = ["3ms"]\n"stream.a.weight" = [2.5]\n"resources.cpu" = [2]\n'
                 ).entries[0].cell.inputs["scenario"]
    text = SCENARIO.replace('{ median = "8ms", sigma = 0.3 }', '"3ms"').replace("cpu = 1", "cpu = 2")
    (here / "one.toml").write_text(text.replace('name = "a"', 'name = "a"\nweight = 2.5'))
    edited = read(here, SWEEP).entries[0].cell.inputs["scenario"]
    assert (world.streams, world.resources) == (edited.streams, edited.resources) and world.streams[0].weight == 2.5


def test_seeds_metrics_options_and_rows(here):
    text = SWEEP.replace("seeds = 3", "seeds = [7, 5]") + 'rows = true\nmetrics = ["missed"]\n[options]\nquantile = 0.5\n'
    asked = read(here, text)
    assert asked.seeds == [7, 5] and asked.entries[0].cell.params["options"] == {"quantile": 0.5} and asked.metrics == ["missed"]
    assert asked.entries[0].cell.key != read(here, text.replace("0.5", "0.6")).entries[0].cell.key
    assert asked.entries[0].cell.key == read(here, text.replace('["missed"]', '["utility"]')).entries[0].cell.key
    found = as_json(here, text)
    assert set(found["cells"][0]["metrics"]) == {"missed"} and set(found["settings"][0]["policies"][0]["metrics"]) == {"missed"}
    exact = as_json(here, text.replace("missed", "latency_p50_ns"))["cells"][2]["metrics"]["latency_p50_ns"]
    assert exact == simulate(scenario.load("one.toml"), "fifo-gated", 7, 60, options={"quantile": 0.5}).latency_ns(0.5)


def test_a_scenario_lies_beside_the_sweep_file_too(here, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "two.toml").write_text(SCENARIO.replace('"100"', '"50"'))
    (other / "s.toml").write_text(SWEEP.replace("one.toml", "two.toml"))
    assert plan.read(other / "s.toml").settings[0].scenario == "two"


def test_validation_pictures(here):
    plain, other = (as_json(here, SWEEP + extra)["cells"][0]["metrics"] for extra in ("", "validation = true\n"))
    assert plain["utility"] != other["utility"] and plain["end_ns"] == other["end_ns"]


def test_a_generated_set_is_another_one_for_each_seed_and_the_same_for_every_policy_and_load(here):
    text = SWEEP.replace('scenarios = ["one.toml"]', "loads = [0.5, 1.0]") + '[[generate]]\nname = "g"\nstreams = 4\nutilisation = 0.5\n'
    asked = read(here, text + '[grid]\n"generate.g.cpus" = [1, 2]\n')
    worlds = {}
    for entry in asked.entries:
        worlds.setdefault(entry.seed, {})[id(entry.cell.inputs["scenario"])] = entry.cell.inputs["scenario"]
    first = {}
    for seed, some in worlds.items():
        assert {(w.load, w.resources["cpu"]) for w in some.values()} == {(0.5, 1), (0.5, 2), (1.0, 1), (1.0, 2)} and len(some) == 4
        firsts = {tuple((s.period_ns, s.deadline_ns, s.stages[0].wcet_ns) for s in w.streams) for w in some.values()}
        first[seed], = firsts
    assert len(set(first.values())) == 3
    tasks = generators.task_set(4, 0.5, np.random.default_rng([1, 0]))
    assert first[1] == tuple((t.period_ns, t.deadline_ns, t.cost_ns) for t in tasks)
    found = as_json(here, text)
    assert [s["load"] for s in found["settings"]] == [0.5, 1.0]
    assert found["settings"][0]["policies"][1]["against_first"]["utility"]["mean"] > 0


def test_admitted_sets_have_a_certificate(here):
    from imprecise.admission import answer
    from imprecise.question import of_scenario

    text = SWEEP.replace('scenarios = ["one.toml"]', "") + '[[generate]]\nname = "g"\nstreams = 4\nutilisation = 0.8\n'
    plain, admitted = ([answer(of_scenario(entry.cell.inputs["scenario"])).admitted for entry in read(here, text + extra).entries
                        if entry.policy == "fifo-gated"] for extra in ("", "admitted = true\n"))
    assert not all(plain) and all(admitted)


# Results --------------------------------------------------------------------------------------------------------------


def test_cells_are_simulations_and_figures_are_those_of_scipy(here):
    found = as_json(here, SWEEP.replace("seeds = 3", "seeds = 5").replace('"fifo-gated"]', '"fifo-gated", "monolithic"]'))
    direct = {(p, s): simulate(scenario.load("one.toml"), p, s, 60, rows=False).summary()
              for p in ("mandatory-only", "fifo-gated", "monolithic") for s in range(5)}
    for cell in found["cells"]:
        summary = direct[cell["policy"], cell["seed"]]
        metrics = cell["metrics"]
        assert (metrics["utility"], metrics["missed"], metrics["end_ns"]) == tuple(summary[k] for k in ("utility", "missed", "end_ns"))
        assert [metrics[f"answered.{d}"] for d in (0, 1)] == summary["answered"] and metrics["busy_ns.cpu"] == summary["busy_ns"]["cpu"]
        assert metrics["miss_ratio"] == summary["missed"] / 60
    assert found["difference_confidence"] == pytest.approx(0.975)
    columns = {p: np.array([direct[p, s]["utility"] for s in range(5)]) for p in ("mandatory-only", "fifo-gated", "monolithic")}
    for row in found["settings"][0]["policies"]:
        values = columns[row["policy"]]
        part = row["metrics"]["utility"]
        low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
        assert (part["n"], part["mean"], part["low"], part["high"]) == (5, *map(pytest.approx, (values.mean(), low, high)))
        if row["policy"] == "mandatory-only":
            assert row["against_first"] is None
        else:
            test = stats.ttest_rel(values, columns["mandatory-only"]).confidence_interval(0.975)
            part = row["against_first"]["utility"]
            assert (part["low"], part["high"]) == (pytest.approx(test.low), pytest.approx(test.high))


def test_csv_and_json_say_the_same_and_a_second_run_computes_nothing(here):
    text = SWEEP + 'loads = [0.5]\n[grid]\nguard = ["0ms", "1ms"]\n'
    first, told = sweep(here, text, "--json")
    assert told == "12 cells: 0 were in s.db, 12 computed\n"
    second, told = sweep(here, text, "--json", "-o", "s.db")
    assert second == first and told == "12 cells: 12 were in s.db, 0 computed\n"
    rows = list(csv.DictReader(io.StringIO(sweep(here, text, "--csv")[0])))
    found = json.loads(first)
    assert len(rows) == 12 == len(found["cells"])
    for row, cell in zip(rows, found["cells"]):
        assert (row["scenario"], row["load"], row["guard"], row["policy"], row["seed"], row["key"], row["error"]) == (
            "one", "0.5", cell["grid"]["guard"], cell["policy"], str(cell["seed"]), cell["key"], "")
        assert all(row[name] == ("" if value is None else repr(value)) for name, value in cell["metrics"].items())
    _, told = sweep(here, text.replace("seeds = 3", "seeds = 4"), "--json")
    assert told == "16 cells: 12 were in s.db, 4 computed\n"


def test_the_table_names_policies_metrics_and_differences(here):
    out, _ = sweep(here, SWEEP)
    lines = out.splitlines()
    assert lines[0] == "one: 60 frames, 3 seeds" and lines[1].split()[:4] == ["policy", "miss", "ratio", "utility"]
    assert lines[2].startswith("mandatory-only  ") and lines[3].startswith("fifo-gated  ") and "less mandatory-only:" in out
    assert max(map(len, lines)) <= 80 and "0 %" in lines[2] and "*" in lines[5] and "±" in lines[5]
    alone, _ = sweep(here, SWEEP.replace("seeds = 3", "seeds = [4]"))
    assert "±" not in alone and "less" not in alone


def test_a_tuned_threshold_is_tuned_on_the_validation_world_of_its_load_once(here):
    text = SWEEP.replace('"fifo-gated"', '"threshold:theta=tuned", "threshold"') + "loads = [0.5, 3.0]\n[tune]\nframes = 50\nseed = 9\n"
    found = as_json(here, text)
    cells = [cell for cell in found["cells"] if cell["policy"] == "threshold:theta=tuned"]
    for load in (0.5, 3.0):
        world = scenario.load("one.toml", None, load)
        theta = tune_threshold(world.on_validation(), 9, 50)
        some = [cell for cell in cells if cell["load"] == load]
        assert len({cell["tuned_by"] for cell in some}) == 1
        for cell in some:
            direct = simulate(world, f"threshold:theta={theta}", cell["seed"], 60, rows=False)
            assert (cell["metrics"]["theta"], cell["metrics"]["utility"]) == (theta, direct.utility)
    assert len({cell["tuned_by"] for cell in cells}) == 2
    assert "theta" not in next(c for c in found["cells"] if c["policy"] == "threshold")["metrics"]
    out, told = sweep(here, text)
    assert "threshold:theta=tuned: theta 0." in out and "18 were" in told


MINE = """
from imprecise.policies.base import Policy

class Mine(Policy):
    name = "mine"
    def __init__(self, fail: float = 0.0):
        self.fail = fail
    def pick(self, ready, engine):
        if self.fail:
            raise RuntimeError("lost my way")
        return ready[0]

POLICY = Mine
"""


def test_a_users_policy_counts_by_what_its_file_says_and_not_by_where_it_lies(here):
    (here / "mine.py").write_text(MINE)
    text = SWEEP.replace('"fifo-gated"', '"mine.py"')
    assert "6 computed" in sweep(here, text)[1]
    (here / "sub").mkdir()
    (here / "sub" / "mine.py").write_text(MINE)
    assert "6 were" in sweep(here, text.replace("mine.py", "sub/mine.py"))[1]
    (here / "mine.py").write_text(MINE.replace("ready[0]", "ready[-1]"))
    assert "3 were in s.db, 3 computed" in sweep(here, text)[1]


def test_cells_that_fail_are_named_and_the_others_have_their_results(here):
    (here / "mine.py").write_text(MINE)
    text = SWEEP.replace('"fifo-gated"', '"mine.py:fail=1", "fifo-gated"')
    out, told = sweep(here, text, code=1)
    assert "edgert: failed: one, mine.py:fail=1, seed 0: RuntimeError: the policy was switched off" in told and "lost my way" in told
    assert "mine.py:fail=1: failed for seeds 0, 1, 2" in out and "fifo-gated  " in out
    found = as_json(here, text, code=1)
    errors = {cell["policy"] for cell in found["cells"] if cell["error"]}
    assert errors == {"mine.py:fail=1"} and all((cell["metrics"] is None) == bool(cell["error"]) for cell in found["cells"])
    rows = list(csv.DictReader(io.StringIO(sweep(here, text, "--csv", code=1)[0])))
    assert [bool(row["error"]) for row in rows] == [row["policy"] == "mine.py:fail=1" for row in rows]
    assert "6 were in s.db, 3 computed" in told.replace("0 were in s.db, 9", "6 were in s.db, 3")  # the first time: 9
    assert "6 were in s.db, 3 computed" in sweep(here, text, code=1)[1]


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "line", "expected"), [
    ("seeds = 3", "sedes = 3", 4, "sedes: found an unknown key, expected did you mean 'seeds'?"),
    ("seeds = 3", "seeds = 0", 4, "seeds: found 0"),
    ("seeds = 3", "seeds = [1, 1]", 4, "each seed once"),
    ("seeds = 3", "seeds = true", 4, "seeds: found True"),
    ("frames = 60", "frames = 1.5", 5, "frames: found 1.5"),
    ("frames = 60", "loads = [0]", 5, "loads: found [0.0]"),
    ("frames = 60", 'loads = [1, 900]\n[grid]\n"stream.a.rate" = [10]', 5, "loads: one with load 900"),
    ("frames = 60", 'metrics = ["utility", "acuracy"]', 5, "metrics: found 'acuracy', expected did you mean 'accuracy'?"),
    ("frames = 60", 'metrics = [\n "utility",\n "acuracy",\n]', 7, "did you mean 'accuracy'?"),
    ('"fifo-gated"', '"fifo-gate"', 3, "policies: unknown policy 'fifo-gate'; did you mean 'fifo-gated'?"),
    ('"fifo-gated"', '"threshold:teta=1"', 3, "teta"),
    ('"fifo-gated"', '"depth-dp:idle=tuned"', 3, "only as in 'threshold:theta=tuned'"),
    ('["mandatory-only", "fifo-gated"]', "[]", 3, "policies: found []"),
    ('["mandatory-only", "fifo-gated"]', '[\n "mandatory-only",\n # one more\n "fifo-gate"\n]', 6, "did you mean 'fifo-gated'?"),
    ("one.toml", "two-camera", 2, "scenarios: two-camera: no such file or scenario; did you mean 'two-cameras'?"),
    ('["one.toml"]', '["one.toml", "./one.toml"]', 2, "two of the name 'one'"),
    ('scenarios = ["one.toml"]', "", 0, "scenarios: found nothing"),
    ('scenarios = ["one.toml"]', 'scenario = "one.toml"\nscenarios = ["one.toml"]', 2, "one or the other"),
    ("frames = 60", '[grid]\n"stream.a.dedline" = ["20ms"]', 6, "did you mean 'deadline'?"),
    ("frames = 60", '[grid]\nguard = ["0ms"]\n\n"stream.b.deadline" = ["20ms"]', 8, "no entry 'b' with a key behind it"),
    ("frames = 60", '[grid]\nguard = [\n  "0ms",\n  "1mz",\n]', 8, "unknown unit 'mz'"),
    ("frames = 60", '[grid]\nguard = "0ms"', 6, "a list of values"),
    ("frames = 60", '[grid]\nguard.x = ["0ms"]', 5, "a dotted key stands in quotes"),
    ("frames = 60", '[grid]\n"generate.g.streams" = [2]', 6, "a key of no scenario"),
    ("frames = 60", '[grid]\n"guard" = ["12ms"]\n"stream.a.deadline" = ["10ms"]', 5, "grid: one with"),
    ("frames = 60", "[options]\nquantle = 0.5", 6, "did you mean 'quantile'?"),
    ("frames = 60", "[options]\nquantile = 2", 6, "options.quantile: found 2"),
    ("frames = 60", "[tune]\ngrid = [0.5, 2]", 6, "tune.grid"),
    ("frames = 60", '[[generate]]\nname = "g"\nstreems = 3', 7, "did you mean 'streams'?"),
    ("frames = 60", '[[generate]]\nname = "g"\n[[generate]]\nname = "h"\nutilisation = "x"', 9, "utilisation: found 'x'"),
    ("frames = 60", '[[generate]]\nname = "g"\nstreams = 3\nload = 50.0', 6, "cannot sum to 50"),
    ("frames = 60", '[[generate]]\nname = "one"', 6, "two of the name 'one'"),
    ("frames = 60", "frames = ", 5, "is no TOML"),
    ("frames = 60", 'grid = ["a"]', 0, "expected a table"),
])
def test_a_mistake_is_one_line_with_file_line_and_key(here, old, new, line, expected):
    (here / "s.toml").write_text(SWEEP.replace(old, new))
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(command.app, ["s.toml"], catch_exceptions=False)
    message = str(caught.value)
    assert expected in message and "\n" not in message
    place = f"s.toml, line {line}: " if line else "s.toml: "
    assert message.startswith(place) or ("no TOML" in message and f"line {line}" in message), message
    assert not (here / "s.db").exists()  # nothing was computed


def test_a_scenario_that_cannot_be_read_is_named_with_its_own_key(here):
    (here / "one.toml").write_text(SCENARIO.replace("rate = 100", "rate = 100\nraet = 5"))
    with pytest.raises(ValueError, match=r"s.toml, line 2: scenarios: one.toml, line 8: stream\[0\].*raet.*"):
        read(here, SWEEP)
    outcomes = "[stream.outcomes]\naccuracy = [0.7, 0.9]\nn = 50"
    (here / "one.toml").write_text(SCENARIO.replace(outcomes, "[stream.reward]\nprior = [0.5, 0.9]"))
    with pytest.raises(ValueError, match=r"s.toml, line 3: policies: one: .*no validation outcomes"):
        read(here, SWEEP.replace("fifo-gated", "threshold:theta=tuned"))
    with pytest.raises(ValueError, match=r"s.toml, line 6: validation: one: .*no validation outcomes"):
        read(here, SWEEP + "validation = true\n")


@pytest.mark.parametrize(("options", "expected"), [
    (["--engine", "slurm"], "unknown engine 'slurm'; there are local, ray, dask"),
    (["--jobs", "0"], "--jobs 0"),
    (["--json", "--csv"], "give one"),
])
def test_wrong_options_are_one_line(here, options, expected):
    (here / "s.toml").write_text(SWEEP)
    with pytest.raises(UsageError, match=expected):
        CliRunner().invoke(command.app, ["s.toml", *options], catch_exceptions=False)


def test_help_is_a_manual():
    text = CliRunner().invoke(command.app, ["--help"]).stdout
    assert all(part in text for part in ("EXAMPLES", "A SWEEP FILE", "ENGINES", "EXIT CODES", "--engine"))


def test_an_interval_of_what_is_not_there():
    assert figures.interval([], 0.95) == {"n": 0, "mean": None, "low": None, "high": None}
    assert figures.interval([1.0, None], 0.95)["mean"] is None  # a missed quantile is no number, and leaves no mean
    assert figures.interval([2.0], 0.95) == {"n": 1, "mean": 2.0, "low": None, "high": None}


def test_the_example_can_be_read():
    asked = plan.read(Path(__file__).parents[2] / "docs" / "sweep.toml")
    assert [(s.scenario, s.load) for s in asked.settings] == [(n, load) for n in ("made-up", "random") for load in (0.5, 1.5, 3.0)]
    assert len(asked.entries) == 6 * 4 * 10

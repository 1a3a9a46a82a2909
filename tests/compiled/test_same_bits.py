"""The compiled scheduler decides, counts and records what its source does, bit for bit. Run by `make test-compiled`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import digests
from imprecise import scenario

ROOT = Path(__file__).resolve().parents[2]
FRAMES, WORLDS = 1500, 400


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with the installed scheduler's source and nothing compiled."""
    return digests.source_only(tmp_path_factory.mktemp("plain"))


def environment(path=None):
    """One in which `path` is searched before all that is installed."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ({"PYTHONPATH": str(path)} if path else {})


def found(what, one, two, path=None):
    """What `tests/digests.py` says, in a process of its own."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "digests.py", what, str(one), str(two)], cwd=ROOT / "tests",
                          env=environment(path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_hot_files_are_compiled_here_and_only_here(plain):
    source = ast.parse((ROOT / "setup.py").read_text())
    hot = next(ast.literal_eval(node.value) for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == "HOT")
    here, there = found("random", 0, 1)["modules"], found("random", 0, 1, plain)["modules"]
    assert here.keys() == there.keys()
    assert {name for name, file in here.items() if not file.endswith(".py")} == {
        f"imprecise.{name.replace('/', '.')}" for name in hot} & here.keys()
    assert all(file.endswith(".py") for file in there.values())


@pytest.mark.parametrize("name", scenario.names())
def test_shipped_scenarios_give_the_same_records_under_every_shipped_policy(plain, name):
    here, there = (found("shipped", name, FRAMES, path)["digests"] for path in (None, plain))
    assert len(set(here.values())) > 1
    assert here == there


def test_random_worlds_with_faults_and_hostile_policies_give_the_same_records(plain):
    here, there = (found("random", 0, WORLDS, path)["digests"] for path in (None, plain))
    assert len(set(here.values())) == len(here) == WORLDS
    assert here == there


def test_a_live_run_of_compiled_code_replays_action_for_action_in_its_source(plain, tmp_path):
    record = tmp_path / "live.db"
    run = [sys.executable, "-m", "edgert.cli", "run", "fashion", "--best-effort", "--duration", "2s", "--record", record]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr
    for path in (None, plain):
        replay = [sys.executable, "-m", "edgert.cli", "replay", record]
        done = subprocess.run(replay, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(path))
        assert done.returncode == 0 and "the same, action for action" in done.stdout, done.stdout + done.stderr


def test_the_digests_see_another_unit_taken_and_another_counter(tmp_path):
    """Else equal digests would say little."""
    for file, old, new in (("resources.py", "free.pop(0)", "free.pop()"), ("simulator.py", "steps += 1", "steps += 2")):
        changed = digests.source_only(tmp_path / file) / "imprecise" / file
        assert old in changed.read_text()
        changed.write_text(changed.read_text().replace(old, new))
        here, there = (found("random", 0, 20, path)["digests"] for path in (None, tmp_path / file))
        assert here != there

"""A policy of the user's own: found by file or entry point, and refused in one line with file and line."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest

from edgert.cli import main
from edgert.errors import UsageError
from edgert.executive import options, reproduce
from imprecise import policies, watchdog
from imprecise.model import Stage, Stream
from imprecise.scenario import load
from imprecise.simulator import simulate

MS = 10**6
GOOD = """
    from imprecise.policies import Policy

    class Mine(Policy):
        \"\"\"Rule: the youngest first.

        More about it.
        \"\"\"

        name = "mine"

        def __init__(self, theta: float = 0.25, word: str = "a"):
            self.theta, self.word = theta, word

        def pick(self, ready, engine):
            return max(ready, key=lambda job: job.id)

    POLICY = Mine
"""


@pytest.fixture
def written(tmp_path):
    """Writes a policy file and returns its name."""
    def write(text: str | bytes, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode())
        return str(path)

    return write


# Files and entry points -----------------------------------------------------------------------------------------------


def test_a_file_is_a_policy_with_parameters(written, monkeypatch, tmp_path):
    spec = written(GOOD)
    policy = policies.make(f"{spec}:theta=0.5,word=b")
    assert (policy.name, policy.theta, policy.word) == ("mine", 0.5, "b") and not policies.is_shipped(policy)
    assert simulate(load("made-up", load=2.0), spec, 0, 60).policy_fault == ""
    monkeypatch.chdir(tmp_path)
    assert policies.make("mine.py").theta == policies.make("./mine.py:").theta == 0.25
    assert policies.full_name("./mine.py:theta=1") == f"{spec}:theta=1" and policies.full_name("default") == policies.DEFAULT
    assert options.policy_name("mine.py:theta=1") == f"{spec}:theta=1"


def test_a_file_is_read_anew_each_time_and_leaves_nothing_beside_it(written, tmp_path):
    spec = written(GOOD)
    assert policies.make(spec).theta == 0.25
    written(GOOD.replace("0.25", "0.75"))
    assert policies.make(spec).theta == 0.75
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_dataclass_with_postponed_annotations_is_a_policy(written):
    spec = written("""
        from __future__ import annotations
        from dataclasses import dataclass
        from imprecise.policies import Policy

        @dataclass
        class Mine(Policy):
            theta: float = 0.5

            def pick(self, ready, engine):
                return ready[0]

        POLICY = Mine
    """)
    assert policies.make(f"{spec}:theta=0.1").theta == 0.1


@pytest.mark.parametrize(("text", "line", "told"), [
    ("x = 1\ndef f(:\n    pass\n", 2, "SyntaxError: invalid syntax"),
    ("x = 1\n  y = 2\n", 2, "IndentationError"),
    ("import no_such_module_at_all\n", 1, "ModuleNotFoundError"),
    ("x = 1\n\nraise RuntimeError('two\\nlines')\n", 3, "RuntimeError: two lines"),
    ("import sys\nsys.exit(4)\n", 2, "SystemExit: 4"),
    ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError"),
    ("x = 1\n", 2, "found no POLICY"),
    ("", 1, "found no POLICY"),
    ("from imprecise.policies import Policy\nclass Mine(Policy):\n    pass\n", 4, "expected `POLICY = Mine`"),
    ("x = 1\nPOLICY = 42\n", 2, "POLICY is the int 42, expected a subclass of imprecise.policies.Policy"),
    ("class Mine:\n    pass\nPOLICY = Mine\n", 3, "POLICY is the class Mine, expected a subclass"),
    ("from imprecise.policies.threshold import POLICY as A\n\nPOLICY = A()\n", 3, "POLICY is the Threshold"),
    ("from imprecise.policies import Policy\nclass Mine(Policy):\n    pass\nPOLICY = Mine\n", 4, "Mine has no method pick"),
    ("raise ValueError('x')\n", 1, "ValueError: x"),
])
def test_a_file_that_makes_no_policy_is_one_line_with_file_and_line(written, text, line, told):
    spec, before = written(text), set(sys.modules)
    with pytest.raises(ValueError) as refused:
        policies.make(spec)
    said = str(refused.value)
    assert said.startswith(f"{spec}:{line}: ") and told in said and "\n" not in said
    assert not [name for name in set(sys.modules) - before if name.startswith("policy_file")]
    assert len(policies.names()) >= 14 and policies.make("default").name == policies.DEFAULT  # others are as they were


@pytest.mark.parametrize("text", [b"\0\0\0", b"x = '\xff'\n", b"\x89PNG\r\n"])
def test_a_file_that_is_no_text_is_one_line(written, text):
    spec = written(text)
    with pytest.raises(ValueError) as refused:
        policies.make(spec)
    assert str(refused.value).startswith(spec) and "\n" not in str(refused.value)


def test_a_missing_file_or_a_directory_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"policy file .*gone\.py: No such file or directory"):
        policies.make(str(tmp_path / "gone.py"))
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ValueError, match="Is a directory"):
        policies.make(str(tmp_path / "folder.py"))


def test_a_file_named_without_its_ending_is_offered(written, monkeypatch, tmp_path):
    written(GOOD, "special.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\./special\.py"):
        policies.make("special")


@pytest.mark.parametrize(("parameters", "told"), [
    ("theta=x", "theta is 'x', expected a number"), ("thta=1", "did you mean 'theta'"), ("theta=1,theta=2", "twice"),
    ("theta", "name:parameter=value")])
def test_wrong_parameters_of_a_file_are_named(written, parameters, told):
    with pytest.raises(ValueError, match=told):
        policies.make(f"{written(GOOD)}:{parameters}")


def test_a_constructor_that_raises_is_named_with_its_line(written):
    spec = written("""
        from imprecise.policies import Policy

        class Mine(Policy):
            def __init__(self, theta: float = 1):
                raise KeyError("boom")

            def pick(self, ready, engine):
                return None

        POLICY = Mine
    """)
    with pytest.raises(ValueError, match=r"mine\.py:5: KeyError: 'boom'"):
        policies.make(spec)


def test_entry_points_are_policies_too_and_a_broken_one_breaks_only_itself(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(textwrap.dedent(GOOD))
    (tmp_path / "broken_one.py").write_text("import nothing_of_that_name\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgert.policies]\nyoungest = theirs:POLICY\nbroken = broken_one:POLICY\n"
                                           "missing = theirs:GONE\nnumber = theirs:Mine.name\nthreshold = theirs:POLICY\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert policies.make("youngest:theta=0.5").theta == 0.5
    assert type(policies.make("threshold")).__module__.startswith("imprecise."), "a shipped name cannot be taken"
    with pytest.raises(ValueError, match="did you mean 'youngest'"):
        policies.make("youngst")
    for name, told in (("broken", "ModuleNotFoundError"), ("missing", "AttributeError"), ("number", "expected a subclass")):
        with pytest.raises(ValueError, match=told) as refused:
            policies.make(name)
        assert f"policy {name!r}" in str(refused.value)
    listed = {row.name: row for row in policies.describe() if row.source != "shipped"}
    assert listed["youngest"].source == "entry point theirs" and listed["youngest"].error == ""
    assert "ModuleNotFoundError" in listed["broken"].error


def test_what_comes_from_a_record_runs_no_code_of_others(written):
    spec = written("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    with pytest.raises(ValueError):
        policies.make(spec, own=False)
    assert policies.make("threshold:theta=0.5", own=False).theta == 0.5
    assert policies.full_name(spec) == spec and len(policies.file_sha256(spec)) == 64


# The command line -----------------------------------------------------------------------------------------------------


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["edgert", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, *capsys.readouterr()


def test_policies_are_listed_with_rule_parameters_and_source(monkeypatch, capsys, written):
    code, out, err = command(monkeypatch, capsys, "policies", "--json", written(GOOD))
    rows = {row["name"]: row for row in json.loads(out)["policies"]}
    assert code == 0 and err == ""
    assert set(policies.names()) < set(rows)
    listed = rows["depth-dp"]
    assert rows["priced-density"]["default"] and not listed["default"] and listed["parameters"]["predictor"] == "calibrated"
    assert not rows["monolithic"]["guarantees"] and rows["threshold"]["parameters"] == {"theta": 0.8}
    assert all(row["source"] == "shipped" and 20 < len(row["rule"]) < 140 and row["error"] is None
               for name, row in rows.items() if name in policies.names())
    own = next(row for row in rows.values() if row["source"].startswith("file "))
    assert own["rule"] == "the youngest first." and own["parameters"] == {"theta": 0.25, "word": "a"}


def test_the_list_as_text_names_every_policy_and_says_what_is_wrong_with_a_file(monkeypatch, capsys, written):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = command(monkeypatch, capsys, "policies", written("x = [1\n", "bad.py"))
    assert code == 2 and all(name in out for name in policies.names()) and "SyntaxError" in out


def test_simulate_takes_a_file_and_refuses_a_wrong_one_in_one_line(monkeypatch, capsys, written):
    code, out, _ = command(monkeypatch, capsys, "simulate", "made-up", "--frames", "40", "--json", "--policy", f"{written(GOOD)}:theta=1")
    assert code == 0 and json.loads(out)["policies"][0]["policy_fault"] == ""
    spec = written("POLICY = 1\n", "one.py")
    code, out, err = command(monkeypatch, capsys, "simulate", "made-up", "--policy", spec)
    assert code == 2 and out == "" and err.startswith(f"edgert: {spec}:1: POLICY is") and err.count("\n") == 1


def test_a_policy_that_knows_the_future_is_no_policy_for_a_live_run():
    with pytest.raises(UsageError, match="only a simulation"):
        options.policy_name("depth-dp:predictor=oracle")


def test_a_replay_finds_the_very_file_again_or_says_so(written, tmp_path):
    stages = (Stage("m", "fpga", True, MS, MS), Stage("o", "cpu", False, MS, MS))
    spec = written(GOOD)
    description = json.loads(json.dumps(reproduce.describe([Stream("s", 9 * MS, 9 * MS, stages, mk=(1, 2), quality=0.5)],
                                                           {"fpga": 1, "cpu": 1}, spec, MS)))
    engine = reproduce.build(description)
    assert isinstance(engine.policy, watchdog.Watched) and engine.policy.limit_ns == watchdog.LEAST_LIMIT_NS
    assert engine.streams[0].mk == (1, 2) and engine.streams[0].quality == 0.5
    written(GOOD + "\n# changed\n")
    with pytest.raises(ValueError, match="has changed since"):
        reproduce.build(description)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ValueError, match=r"mine\.py: No such file"):
        reproduce.build(description)

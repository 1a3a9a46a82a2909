"""A policy of the user's own: found by file or entry point, refused in one line with file and line, and watched while it is asked."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from edgert.cli import main
from edgert.errors import UsageError
from edgert.executive import options, reproduce
from imprecise import policies, watchdog
from imprecise.engine import Engine
from imprecise.model import Event, Stage, Stream
from imprecise.policies.base import Policy
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
    assert rows["depth-dp"]["default"] and rows["depth-dp"]["parameters"]["predictor"] == "calibrated"
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


# The watchdog ---------------------------------------------------------------------------------------------------------

LIMIT_NS = 20 * MS


class First(Policy):
    name = "first"

    def pick(self, ready, engine):
        return ready[0]


class Remembers(First):
    def closed(self, job, engine):
        self.last = job.id


def line_of(text):
    """The line of this file that holds a text, this call aside."""
    return next(i for i, line in enumerate(open(__file__), 1) if text in line and "line_of" not in line)


class Spins(First):
    def pick(self, ready, engine):
        while True:  # spins here
            pass


class Sleeps(First):
    def pick(self, ready, engine):
        time.sleep(60)  # sleeps here


class Stubborn(First):
    def pick(self, ready, engine):
        while True:
            with contextlib.suppress(BaseException):
                sum(range(1000))


class StubbornBare(First):
    def pick(self, ready, engine):
        while True:
            try:
                sum(range(1000))
            except:  # noqa: E722
                self.nothing = True


class Late(First):
    def pick(self, ready, engine):
        try:
            time.sleep(60)
        except BaseException:
            return ready[0]


class Elsewhere(First):
    def pick(self, ready, engine):
        return min(range(10**12), key=lambda number: number)  # elsewhere here


class SpinsInWants(First):
    def wants(self, job, engine):
        while True:  # wants here
            pass


class SpinsInClosed(First):
    def closed(self, job, engine):
        while True:  # closed here
            pass


class SpinsInKeeps(First):
    splits = False

    def keeps(self, job, engine):
        while True:  # keeps here
            pass


class SpinsInBool(First):
    def wants(self, job, engine):
        return self

    def __bool__(self):
        while True:  # bool here
            self.nothing = True
        return True


@pytest.mark.parametrize(("policy", "method", "place"), [
    (Spins, "pick", "# spins here"), (Sleeps, "pick", "# sleeps here"), (Stubborn, "pick", ""), (StubbornBare, "pick", ""),
    (Late, "pick", ""),
    (Elsewhere, "pick", "# elsewhere here"), (SpinsInWants, "wants", "# wants here"), (SpinsInClosed, "closed", "# closed here"),
    (SpinsInKeeps, "keeps", "# keeps here"), (SpinsInBool, "wants", "# bool here")])
def test_what_never_returns_is_ended_and_named_and_mandatory_work_goes_on(policy, method, place):
    world = load("made-up", load=2.0)
    before = time.monotonic()
    result = simulate(world, watchdog.guard(policy(), LIMIT_NS), 0, 60)
    assert time.monotonic() - before < 30
    found = re.fullmatch(rf"PolicyFault: policy 'first' \((.*):(\d+)\) did not return from {method} within 20 ms", result.policy_fault)
    assert found and found[1] == __file__, result.policy_fault
    if place:
        assert abs(int(found[2]) - line_of(place)) <= 1  # a loop's body is the line below
    if policy.splits:
        assert result.missed == 0 and result.answered[0] > 40
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class Raises(First):
    def pick(self, ready, engine):
        raise RuntimeError("one\ntwo")  # raises here


class Exits(First):
    def pick(self, ready, engine):
        sys.exit(3)  # exits here


class Deep(First):
    def pick(self, ready, engine):
        return self.pick(ready, engine)


class Mute(First):
    def pick(self, ready, engine):
        class Unspeakable(Exception):
            def __str__(self):
                raise RuntimeError("no")

        raise Unspeakable


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        return True

    __hash__ = None


class ChoosesNonsense(First):
    def pick(self, ready, engine):  # nonsense here
        return Unprintable()


class ChoosesForgery(First):
    def pick(self, ready, engine):
        ready.append(object.__new__(type(ready[0])))
        ready[-1].id, ready[-1].options = 77, ()
        return ready[-1]


class ChoosesStage(First):
    def pick(self, ready, engine):
        return ready[0], 99


@pytest.mark.parametrize(("policy", "told", "place"), [
    (Raises, "raised RuntimeError: one two in pick", "# raises here"), (Exits, "raised SystemExit: 3 in pick", "# exits here"),
    (Deep, "raised RecursionError", ""), (Mute, "raised Unspeakable in pick", ""),
    (ChoosesNonsense, "chose a value of type Unprintable, which is not ready in pick", "# nonsense here"),
    (ChoosesForgery, "chose job 77, which is not ready", ""), (ChoosesStage, "stage 99, which is not ready", "")])
def test_what_raises_or_chooses_what_it_may_not_is_named_and_mandatory_work_goes_on(policy, told, place):
    result = simulate(load("made-up", load=2.0), watchdog.guard(policy(), LIMIT_NS), 0, 60)
    assert told in result.policy_fault and f"policy 'first' ({__file__}:" in result.policy_fault and "\n" not in result.policy_fault
    if place:
        assert f"({__file__}:{line_of(place)})" in result.policy_fault
    assert result.missed == 0 and result.answered[0] > 40


def test_a_stall_of_the_machine_is_not_the_policys_fault():
    """A process of its own is stopped for a second while its policy computes for 0.1 s: longer than the limit, and no fault."""
    code = textwrap.dedent(f"""
        import os, signal, sys, time
        sys.path[:0] = {sys.path!r}
        from imprecise import watchdog
        from imprecise.policies.base import Policy
        from imprecise.scenario import load
        from imprecise.simulator import simulate

        class Stalled(Policy):
            asked = 0
            def pick(self, ready, engine):
                self.asked += 1
                if self.asked == 5:
                    if os.fork() == 0:
                        time.sleep(0.02); os.kill(os.getppid(), signal.SIGSTOP); time.sleep(1); os.kill(os.getppid(), signal.SIGCONT)
                        os._exit(0)
                    end = time.process_time() + 0.05
                    while time.process_time() < end: pass
                return ready[0]

        policy = Stalled()
        result = simulate(load("made-up", load=2.0), watchdog.guard(policy, 800_000_000), 0, 60)
        assert policy.asked > 10 and result.policy_fault == "", result.policy_fault
    """)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_shipped_policies_are_not_wrapped_and_a_watched_one_is_seen_through():
    shipped = policies.make("threshold")
    assert watchdog.guard(shipped, LIMIT_NS) is shipped
    watched = watchdog.guard(First(), LIMIT_NS)
    assert watchdog.guard(watched, LIMIT_NS) is watched and watched.note == ""
    assert (watched.name, watched.splits, watched.guarantees, watched.needs_oracle) == ("first", True, True, False)
    watched.oracle = len
    assert watched.policy.oracle is len
    assert watchdog.guard(SpinsInKeeps(), LIMIT_NS).guarantees is False
    with pytest.raises(ValueError, match="limit_ns"):
        watchdog.guard(First(), 0)


def test_a_watched_policy_decides_as_it_would_unwatched():
    world = load("made-up", load=2.0)
    for policy in (First, Remembers):
        plain, watched = (simulate(world, p, 1, 80).frames.tolist() for p in (policy(), watchdog.guard(policy(), LIMIT_NS)))
        assert plain == watched
    remembers = Remembers()
    simulate(world, watchdog.guard(remembers, LIMIT_NS), 1, 80)
    assert remembers.last > 70


def test_where_nothing_can_be_timed_the_policy_runs_unwatched_and_it_is_said():
    notes = []

    def elsewhere():
        watched = watchdog.guard(First(), LIMIT_NS)
        notes.append((watched.note, simulate(load("made-up", load=2.0), watched, 0, 30).policy_fault))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert notes == [("policies are not timed: this is not the main thread", "")]
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        assert watchdog.guard(First(), LIMIT_NS).note == "policies are not timed: SIGALRM is in use"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_live_limit_leaves_half_the_guard():
    assert [watchdog.live_limit_ns(ns) for ns in (0, 4 * MS, 100 * MS)] == [MS, 2 * MS, 5 * MS]


def test_an_unguarded_engine_names_a_fault_too():
    engine = Engine([Stream("s", 33 * MS, 33 * MS, (Stage("m", "fpga", True, MS, MS), Stage("o", "cpu", False, MS, MS)))],
                    {"fpga": 1, "cpu": 1}, Raises())
    engine.step(0, [Event("release", 0, stream=0, frame=0)])
    engine.step(MS, [Event("done", MS, job=0, stage=0, resource="fpga", unit=0, value=0.5)])
    assert "RuntimeError" in engine.policy_fault
    assert [(a.kind, a.depth) for a in engine.step(33 * MS)] == [("publish", 0)]

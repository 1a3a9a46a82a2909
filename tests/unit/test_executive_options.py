"""The command line of `edgert run`: what cannot be right is one line with the next thing to type, before anything is started."""

import pytest

from edgert.cli import main
from edgert.errors import UsageError
from edgert.executive import options


def _refused(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["edgert", "run", "no-such-bundle", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and err.startswith("edgert: ")
    return left.value.code, err


@pytest.mark.parametrize(("arguments", "told"), [
    (["--rate", "0"], "--rate 0"),
    (["--rate", "-3"], "--rate -3"),
    (["--rate", "fast"], "'fast' is no number"),
    (["--rate", "nan"], "--rate nan"),
    (["--rate", "rear=30"], "no source 'rear'"),
    (["--deadline", "33"], "no unit"),
    (["--deadline", "0ms"], "not above 0"),
    (["--deadline", "-5ms"], "--deadline"),
    (["--duration", "ten"], "--duration"),
    (["--guard", "1"], "no unit"),
    (["--policy", "fifo-gatd"], "did you mean 'fifo-gated'?"),
    (["--policy", "threshold:theta=7"], "theta"),
    (["--cpus", "0"], "--cpus 0"),
    (["--cpus", "two"], "--cpus"),
    (["--load", "-1"], "--load"),
    (["--load", "nan"], "--load"),
    (["--load", "1.5", "--rate", "30"], "--rate"),
    (["--load", "1.5", "--source", "a=x:y", "--source", "b=x:y"], "--load"),
    (["--source", "a=dataset:x", "--source", "a=dataset:x"], "two sources"),
    (["--source", "dataset:x", "--source", "dataset:x"], "two sources"),
    (["--like", "no-such-run.db"], "no-such-run.db"),
    (["--like", "no-such-run.db", "--rate", "30"], "--like"),
    (["--frobnicate"], "--frobnicate"),
    ([], "no-such-bundle"),
])
def test_a_command_line_that_cannot_be_right(monkeypatch, capsys, arguments, told):
    code, line = _refused(monkeypatch, capsys, *arguments)
    assert code == 2 and told in line


def test_rates_go_to_the_streams_they_name_and_the_rest_gets_the_common_one():
    made = options.streams(["front=dataset:a", "rear=video:b=c.mp4", "top=dataset:a"], ["50", "rear=12.5"], 0)
    assert [(s.name, s.source, s.period_ns) for s in made] == [
        ("front", "dataset:a", 20_000_000), ("rear", "video:b=c.mp4", 80_000_000), ("top", "dataset:a", 20_000_000)]


def test_one_source_needs_no_name_and_a_load_leaves_its_rate_open():
    assert [(s.name, s.source, s.period_ns) for s in options.streams(["video:a=b.mp4"], [], 0)] == [("camera", "video:a=b.mp4", 33_333_333)]
    assert options.streams(["dataset:a"], [], 1.5)[0].period_ns == 0


def test_a_policy_is_recorded_by_its_full_name():
    assert options.policy_name("default") == options.policies.DEFAULT
    assert options.policy_name("threshold:theta=0.5") == "threshold:theta=0.5"
    with pytest.raises(UsageError, match="did you mean"):
        options.policy_name("treshold")


def test_checking_a_record_leaves_nothing_behind(tmp_path):
    options.check_record(tmp_path / "new" / "run.db")
    assert list((tmp_path / "new").iterdir()) == []

"""Reports say what to type for the story of one frame, and what they say works."""

import re
import shlex
import sys
from html import unescape

import pytest

from edgert.cli import main
from edgert.results import report, view
from edgert.results.summary import render, summarise
from edgert.results.text import explain_hint


def run(monkeypatch, capsys, *argv):
    """The output of a command that ends with 0."""
    monkeypatch.setattr("sys.argv", ["edgert", *map(str, argv)])
    monkeypatch.setattr("sys.meta_path", [*sys.meta_path])  # explain adds to it
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 0, err
    return out


@pytest.fixture
def recorded(tmp_path, monkeypatch, capsys):
    def make(policy, load):
        path = tmp_path / "my runs" / f"{policy}.db"
        run(monkeypatch, capsys, "simulate", "made-up", "--policy", policy, "--load", load, "--frames", 300, "--record", path)
        return path

    (tmp_path / "my runs").mkdir()
    return make


@pytest.mark.parametrize(("policy", "load", "told", "name"), [("monolithic", 3, "Why a frame was missed", "got no answer"),
                                                              ("fifo-gated", 3, "Why a frame was not refined to the end", "depth")])
def test_the_command_that_a_summary_and_a_page_name_explains_a_frame(recorded, monkeypatch, capsys, policy, load, told, name):
    path = recorded(policy, load)
    summary = summarise(view.read(path))
    words, command = explain_hint(summary)
    assert told in render(summary, 400) and command in render(summary, 400)
    page = unescape(report.single(view.read(path), summary))
    assert command in re.findall(r"<code>(.*?)</code>", page) and words in page
    program, *argv = shlex.split(command)
    assert program == "edgert" and name in run(monkeypatch, capsys, *argv)


def test_where_every_answer_was_complete_or_there_is_no_record_nothing_is_to_be_asked(recorded):
    summary = summarise(view.read(recorded("fifo-gated", 0.1)))
    assert explain_hint(summary) is None and "edgert explain" not in render(summary, 400)
    assert "edgert explain" not in report.single(view.read(summary["run"]), summary)
    missed = summarise(view.read(recorded("monolithic", 3)))
    assert explain_hint(missed) and explain_hint({**missed, "run": None}) is None


def test_a_comparison_has_a_command_for_each_run_that_has_something_to_explain(recorded):
    from edgert.results.compare import compare

    views = [view.read(recorded(policy, 3)) for policy in ("monolithic", "fifo-gated")]
    page = unescape(report.comparison(views, compare(views)))
    assert [path.split()[-1] for path in re.findall(r"<code>(edgert explain .*?)</code>", page)][-1] == "worst"
    assert page.count("<code>edgert explain '") == 2

"""docs/json.md: what commands print has no key that its section does not name."""

import json
import re
from pathlib import Path

import pytest

from edgert.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
SWEEP = """
scenarios = ["{scenario}"]
policies = ["mandatory-only", "threshold:theta=tuned"]
loads = [1.5]
seeds = 2
frames = 60
[tune]
frames = 60
[grid]
guard = ["1ms"]
"""


def documented(title):
    """The names in backticks in the section of docs/json.md whose title begins so; of `answered.0` what comes before the dot."""
    section = next(part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:] if part.startswith(title))
    section += TEXT.partition("### Figures")[2].partition("### Misses")[0] if "figures of a run" in section else ""
    return {name.partition(".")[0] for name in re.findall(r"`([a-z0-9_]+(?:\.[A-Z0-9]+)?)`", section)}


def names(value, leave=()):
    """All keys of nested JSON; what is below one of `leave` is named by data and not by us."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from () if key in leave else names(inner, leave)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner, leave)


def printed(monkeypatch, capsys, *argv, code=0):
    monkeypatch.setattr("sys.argv", ["edgert", *map(str, argv), "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == code, err
    return json.loads(out)


def test_an_admission(monkeypatch, capsys):
    named = documented("An admission:")
    admitted = printed(monkeypatch, capsys, "admit", "made-up")
    refused = printed(monkeypatch, capsys, "admit", "made-up", "--load", "120", "--replay", code=1)
    assert refused["replay"] and refused["changes"] and admitted["margins"] and admitted["assumptions"]
    assert {*names(admitted), *names(refused)} - named == set()
    assert {*admitted, *refused["counter_example"], *admitted["stages"][0]} <= named


def test_a_sweep_and_every_metric_in_it(monkeypatch, capsys, tmp_path):
    named = documented("A sweep:")
    (tmp_path / "sweep.toml").write_text(SWEEP.format(scenario="hard-day").replace("loads = [1.5]\n", ""))
    found = printed(monkeypatch, capsys, "sweep", tmp_path / "sweep.toml", "--jobs", "1", "-o", tmp_path / "sweep.db")
    rows = found["settings"][0]["policies"]
    assert set(names(found, ("metrics", "against_first", "grid"))) - named == set()
    metrics = {name.partition(".")[0] for cell in found["cells"] for name in cell["metrics"]}
    assert "theta" in metrics and metrics - named == set() and set(rows[1]["metrics"]["utility"]) <= named


def test_the_policies(monkeypatch, capsys):
    assert set(names(printed(monkeypatch, capsys, "policies"), ("parameters",))) - documented("The policies:") == set()


def test_a_simulation(monkeypatch, capsys):
    found = printed(monkeypatch, capsys, "simulate", "made-up", "--policy", "mandatory-only", "--policy", "default", "--frames", "60")
    difference = found["policies"][1].pop("against_first")
    assert set(names(found, ("resources", "busy", "answered_by_depth"))) - documented("A simulation:") == set()
    assert set(names(difference)) - documented("A comparison:") == set()

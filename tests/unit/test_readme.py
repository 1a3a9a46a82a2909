"""README.md does what it says: its Python runs, its commands and options exist, its lists are those of the program."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgert.cli import main
from imprecise import scenario

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
COMMANDS = [shlex.split(line, comments=True) for kind, block in BLOCKS if kind == "" for line in block.replace("\\\n", " ").splitlines()]
EDGERT = [words[1:] for words in COMMANDS if words[:1] == ["edgert"]]


def run(monkeypatch, capsys, *argv):
    """What a command that ends with 0 prints."""
    monkeypatch.setattr("sys.argv", ["edgert", *argv])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 0, err
    return out


def test_its_policy_is_one_and_the_commands_below_it_run(monkeypatch, capsys, tmp_path):
    policy = next(code for code in PYTHON if "POLICY" in code)
    assert len([line for line in policy.splitlines() if line]) <= 15
    (tmp_path / "mine.py").write_text(policy)
    monkeypatch.chdir(tmp_path)
    (command,) = [words for words in EDGERT if any("mine.py" in word for word in words)]
    out = run(monkeypatch, capsys, *command, "--frames", "400")
    assert "mine.py:theta=0.9 against fifo-gated" in " ".join(out.split()) and "switched off" not in out
    assert "the most doubt per millisecond" in run(monkeypatch, capsys, "policies", "./mine.py", "--json")


@pytest.mark.parametrize("code", [code for code in PYTHON if "POLICY" not in code])
def test_its_other_python_prints_what_the_comments_say(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT / "scheduler")
    assert done.stdout.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE) != []


@pytest.mark.parametrize("words", EDGERT, ids=lambda words: " ".join(words[:3]))
def test_every_command_and_option_that_it_shows_exists(monkeypatch, capsys, words):
    name = words[:2] if words[0] in ("board", "hw", "model", "remote") else words[:1]
    pages = [run(monkeypatch, capsys, *part, "--help") for part in (name, ["run"])[:2 if name == ["remote", "run"] else 1]]  # it hands on
    known = re.findall(r"(?<!\w)--?[a-z][a-z-]*", "".join(pages))
    used = [word.partition("=")[0] for word in words if word.startswith("-")]
    assert [option for option in used if option not in known] == []


def test_the_cheap_commands_that_it_shows_work_as_they_stand(monkeypatch, capsys, tmp_path):
    assert ["admit", "two-cameras"] in EDGERT and ["doctor"] in EDGERT
    assert run(monkeypatch, capsys, "admit", "two-cameras").startswith("Certificate")
    from edgert.sweep import plan

    (sweep,) = [words for words in EDGERT if words[0] == "sweep"]
    assert plan.read(ROOT / sweep[1]).entries


def test_its_scenarios_are_those_that_come_with_the_package():
    listed = re.search(r"Scenarios come with the package \((.*?)\)", TEXT)[1]
    assert re.findall(r"`(.*?)`", listed) == scenario.names()


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert target.startswith("http") or (ROOT / target).exists(), target
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "assumptions.md").read_text(), re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert [a for a in re.findall(r"assumptions\.md#([\w-]+)", TEXT) if a not in anchors] == []


def test_its_make_targets_exist():
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    used = {word for words in re.findall(r"`make ([a-z -]+)`", TEXT) for word in words.split()}
    assert {"headline", "test-sim"} <= used and used - targets == set()


def test_the_architecture_names_every_file_of_the_scheduler_and_no_other():
    text = (ROOT / "docs" / "architecture.md").read_text().partition("file by file")[2].partition("\n## ")[0]
    there = {path.name for path in (ROOT / "scheduler" / "imprecise").glob("[a-z]*.py")}
    assert {name for name in re.findall(r"`([a-z]\w*\.py)`", text) if name != "base.py"} == there

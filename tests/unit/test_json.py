"""What `edgert report`, `compare` and `replay` print: JSON per schema and documentation, and one-line errors with exit codes."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import run_records

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "sw" / "edgert" / "results"
MS = run_records.MS


def edgert(*argv, code=0):
    """Run the command; returns stdout and stderr."""
    path = os.pathsep.join(str(ROOT / room) for room in ("scheduler", "sw", "hw", "models"))
    done = subprocess.run([sys.executable, "-m", "edgert.cli", *map(str, argv)], capture_output=True, text=True, timeout=120,
                          check=False, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"})
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done.stdout, done.stderr


def check(name, content):
    """Hold content to a schema of the package; the one refers to the other."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((RESULTS / f"{name}.schema.json").read_text())
    summary = json.loads((RESULTS / "summary.schema.json").read_text())
    if name == "comparison":  # in place of a registry: the summaries are checked one by one
        schema["properties"]["runs"]["items"] = True
        for run in content["runs"]:
            jsonschema.Draft202012Validator(summary).validate(run)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)


def keys(schema):
    """Every property name that a schema declares."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "properties":
                yield from value
            yield from keys(value)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return {"monolithic": run_records.make(folder / "monolithic.db", "monolithic", streams=6, seconds=1.0, drop={(0, 2)}),
            "fifo-gated": run_records.make(folder / "fifo.db", "fifo-gated", streams=6, seconds=1.0, stall=(300 * MS, 50 * MS))}


@pytest.mark.parametrize("name", ["monolithic", "fifo-gated"])
def test_the_summary_of_a_real_record_follows_the_schema(records, name):
    out, _ = edgert("report", records[name], "--json")
    content = json.loads(out)
    check("summary", content)
    assert content["all"]["missed"] > 0 and content["misses"]


def test_the_schema_refuses_what_it_does_not_know_and_what_is_missing(records):
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads(edgert("report", records["monolithic"], "--json")[0])
    with pytest.raises(jsonschema.ValidationError):
        check("summary", {**content, "surprise": 1})
    for key in content:
        with pytest.raises(jsonschema.ValidationError):
            check("summary", {k: v for k, v in content.items() if k != key})


def test_a_comparison_follows_the_schema(records):
    out, _ = edgert("compare", records["monolithic"], records["fifo-gated"], "--equivalent", "0.02", "--json")
    content = json.loads(out)
    check("comparison", content)
    assert content["compared"][0]["equivalence"]["margin"] == 0.02


@pytest.mark.parametrize("name", ["summary", "comparison"])
def test_every_key_of_the_schemas_is_documented(name):
    text = (ROOT / "docs" / "json.md").read_text()
    named = set(re.findall(r"`\"?([a-z0-9_]+)\"?`", text))
    assert set(keys(json.loads((RESULTS / f"{name}.schema.json").read_text()))) - named == set()


def test_times_end_in_their_unit_and_are_integers(records):
    content = json.loads(edgert("report", records["fifo-gated"], "--json")[0])

    def walk(value, key=""):
        if isinstance(value, dict):
            for k, v in value.items():
                assert re.fullmatch(r"[a-z0-9_]+", k), k
                walk(v, k)
        elif isinstance(value, list):
            for v in value:
                walk(v)
        elif key.endswith("_ns"):
            assert value is None or (isinstance(value, int) and not isinstance(value, bool)), key

    walk({k: v for k, v in content.items() if k != "counters"})


def test_the_baseline_may_be_named_and_need_not_be_first(records):
    out, _ = edgert("compare", records["monolithic"], records["fifo-gated"], "--baseline", records["fifo-gated"])
    assert "monolithic against fifo-gated" in " ".join(out.split())


def test_a_page_is_written_and_needs_nothing_from_outside(records, tmp_path):
    for argv in (["report", records["monolithic"]], ["compare", records["monolithic"], records["fifo-gated"]]):
        page = tmp_path / "sub" / f"{argv[0]}.html"
        edgert(*argv, "-o", page)
        text = page.read_text()
        assert text.startswith("<!DOCTYPE html>") and text.count("<svg") >= 3
        assert not re.search(r"(src|href)\s*=|@import|url\(", text)


def corrupt(path, kind, source):
    data = source.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[:len(data) // 3])
    elif kind == "text":
        path.write_text("hello\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "another database":
        sqlite3.connect(path).executescript("create table t (a); insert into t values (1);")
    elif kind == "another format":
        path.write_bytes(data)
        db = sqlite3.connect(path)
        db.execute("update meta set value = '99' where key = 'format'")
        db.commit()
        db.close()
    elif kind == "garbled":
        path.write_bytes(data[:8192] + bytes(255 - b for b in data[8192:60000]) + data[60000:])
    return path


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "another database", "another format", "garbled"])
@pytest.mark.parametrize("command", ["report", "compare", "replay"])
def test_a_file_that_is_no_readable_record_is_one_line_and_exit_code_3(records, tmp_path, kind, command):
    path = corrupt(tmp_path / "bad.db", kind, records["monolithic"])
    argv = [records["monolithic"], path] if command == "compare" else [path]
    _, err = edgert(command, *argv, code=3)
    assert len(err.strip().splitlines()) == 1 and err.startswith("edgert: ") and str(path) in err


@pytest.mark.parametrize("command", ["report", "compare", "replay"])
def test_a_file_that_is_not_there_is_exit_code_2(records, tmp_path, command):
    argv = [records["monolithic"], tmp_path / "none.db"] if command == "compare" else [tmp_path / "none.db"]
    _, err = edgert(command, *argv, code=2)
    assert len(err.strip().splitlines()) == 1 and "none.db" in err


def test_incomparable_runs_are_refused_with_exit_code_2_and_forced_where_asked(records, tmp_path):
    other = run_records.make(tmp_path / "o.db", "fifo-gated", streams=6, seconds=0.5, deadline_ns=30 * MS)
    _, err = edgert("compare", records["monolithic"], other, code=2)
    assert "deadline" in err and "--force" in err
    edgert("compare", records["monolithic"], other, "--force")


def test_an_invalid_run_is_exit_code_4(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.3, lost=2)
    out, _ = edgert("report", path, code=4)
    assert "INVALID: 2 records were lost" in out


def test_a_page_that_cannot_be_written_is_one_line(records, tmp_path):
    (tmp_path / "file").write_text("")
    _, err = edgert("report", records["monolithic"], "-o", tmp_path / "file" / "page.html", code=3)
    assert len(err.strip().splitlines()) == 1 and "cannot be written" in err


@pytest.mark.parametrize(("argv", "word"), [(["--out", "{file}/demo"], "cannot be written"), (["--bundle", "fashoin"], "fashoin")])
def test_a_demonstration_that_cannot_be_is_refused_before_any_run(tmp_path, argv, word):
    (tmp_path / "file").write_text("")
    _, err = edgert("demo", "--out", tmp_path / "demo", *[a.format(file=tmp_path / "file") for a in argv], code=2)
    assert len(err.strip().splitlines()) == 1 and word in err

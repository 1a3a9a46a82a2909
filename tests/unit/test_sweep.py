"""Cells, their keys, the store, and computing what it lacks."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgert.errors import EdgertError, RecordError, UsageError
from edgert.sweep import Cell, Store, hashing, run
from imprecise import scenario

SQUARE, ADD, FAIL = "sweep_kinds:square", "sweep_kinds:add", "sweep_kinds:fail"


def squares(numbers, calls, **more):
    return [Cell(SQUARE, {"x": x, **more}, local={"calls": str(calls)}) for x in numbers]


def compute(cells, path, **options):
    """{x or name: (status, value)} of cells, and how many lines `calls` has."""
    with Store(path) as store:
        return {result.cell.key: result for result in run(cells, store, **options)}


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "calls"
    path.write_text("")
    return path


# Computing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_what_is_missing_is_computed(tmp_path, calls, jobs):
    first = compute(squares(range(6), calls), tmp_path / "r.db", jobs=jobs)
    assert sorted(r.value["y"] for r in first.values()) == [0, 1, 4, 9, 16, 25]
    assert {r.status for r in first.values()} == {"done"} and len(calls.read_text().split()) == 6
    second = compute(squares(range(4, 8), calls), tmp_path / "r.db", jobs=jobs)  # another sweep shares two cells
    assert sorted((r.value["y"], r.status) for r in second.values()) == [(16, "kept"), (25, "kept"), (36, "done"), (49, "done")]
    assert len(calls.read_text().split()) == 8
    twice = squares([1, 1], calls)
    assert len(compute(twice, tmp_path / "other.db", jobs=jobs)) == 1 and len(calls.read_text().split()) == 9


def test_values_are_the_same_bit_for_bit_in_this_process_in_others_and_from_the_store(tmp_path, calls):
    cells = squares(range(1, 40, 7), calls)
    here, others = (compute(cells, tmp_path / f"{jobs}.db", jobs=jobs) for jobs in (1, 2))
    kept = compute(cells, tmp_path / "2.db")
    for key, result in here.items():
        assert json.dumps(result.value) == json.dumps(others[key].value) == json.dumps(kept[key].value)


def test_a_cell_gets_the_values_that_it_needs(tmp_path, calls):
    two, three = squares([2, 3], calls)
    total = Cell(ADD, {}, {"numbers": (100,)}, {"a": two, "b": three})
    last = Cell(ADD, {}, {}, {"c": total, "a": two})
    found = compute([last], tmp_path / "r.db", jobs=1)
    assert [r.value["y"] for r in found.values()] == [117]  # only what was asked for is given
    assert len(calls.read_text().split()) == 2
    assert compute([total], tmp_path / "r.db")[total.key].status == "kept"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cell_that_raises_is_kept_as_failed_and_tried_again(tmp_path, calls, jobs):
    flag = tmp_path / "flag"
    bad = Cell(FAIL, {"unless": str(flag)})
    after = Cell(ADD, {}, {}, {"bad": bad})
    cells = [bad, after, Cell("sweep_kinds:no_json"), Cell("sweep_kinds:nothing"), *squares(range(5), calls)]
    found = compute(cells, tmp_path / "r.db", jobs=jobs)
    assert [found[cell.key].status for cell in cells] == ["failed"] * 4 + ["done"] * 5
    assert found[bad.key].error == "ValueError: no such luck" and found[bad.key].value is None
    assert found[after.key].error == "its bad failed: ValueError: no such luck"
    assert "JSON" in found[cells[2].key].error and "nothing" in found[cells[3].key].error
    with Store(tmp_path / "r.db") as store:
        rows = {row["key"]: row for row in store.rows()}
    assert rows[bad.key]["status"] == "failed" and rows[bad.key]["error"] == "ValueError: no such luck"
    flag.touch()
    again = compute(cells, tmp_path / "r.db", jobs=jobs)
    assert [again[cell.key].status for cell in cells] == ["done"] * 2 + ["failed"] * 2 + ["kept"] * 5
    assert again[after.key].value == {"y": 1}


def test_a_worker_that_dies_takes_only_its_own_cell_with_it(tmp_path, calls):
    bad = Cell("sweep_kinds:die")
    cells = [*squares(range(3), calls), bad, *squares(range(3, 12), calls)]
    found = compute(cells, tmp_path / "r.db", jobs=2)
    assert "process died" in found[bad.key].error
    assert sorted(r.value["y"] for r in found.values() if r.value) == [x * x for x in range(12)]


def test_what_was_finished_when_the_iteration_is_given_up_is_kept(tmp_path, calls):
    cells = squares(range(8), calls, sleep=0.02)
    with Store(tmp_path / "r.db") as store:
        outcomes = run(cells, store, jobs=2)
        begun = [next(outcomes) for _ in range(3)]
        outcomes.close()
        assert len(store.get(cells)) == 3 == len(begun)
    after = compute(cells, tmp_path / "r.db", jobs=1)
    assert sorted(r.status for r in after.values()) == ["done"] * 5 + ["kept"] * 3


def test_progress_counts_every_cell_once(tmp_path, calls):
    cells = [Cell(ADD, {}, {}, {"a": cell}) for cell in squares(range(3), calls)]
    told = []
    compute(cells, tmp_path / "r.db", jobs=1, progress=lambda done, total, result: told.append((done, total, result.status)))
    assert told == [(i, 6, "done") for i in range(1, 7)]
    compute(cells[:2], tmp_path / "r.db", jobs=1, progress=lambda done, total, result: told.append((done, total, result.status)))
    assert told[6:] == [(i, 4, "kept") for i in range(1, 5)]


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_other_engines_give_the_same_or_one_line_with_the_command_that_installs_them(tmp_path, calls, engine):
    cells = squares(range(5), calls)
    try:
        __import__("dask.distributed" if engine == "dask" else "ray")
    except ImportError:
        with pytest.raises(UsageError, match=f"'{engine}' is not installed; install it with: pip install '{engine}") as caught:
            compute(cells, tmp_path / "r.db", engine=engine, jobs=2)
        assert "\n" not in str(caught.value)
    else:
        found = compute(cells, tmp_path / "r.db", engine=engine, jobs=2)
        assert sorted(r.value["y"] for r in found.values()) == [x * x for x in range(5)]


def test_one_job_needs_no_package_and_more_name_it(tmp_path, calls, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(UsageError, match=r"pip install 'edgert\[sim\]'"):
        compute(squares(range(3), calls), tmp_path / "r.db", jobs=2)
    assert len(compute(squares(range(3), calls), tmp_path / "r.db", jobs=1)) == 3


@pytest.mark.parametrize(("options", "expected"), [({"engine": "slurm"}, "unknown engine"), ({"jobs": 0}, "at least 1")])
def test_wrong_options_are_refused(tmp_path, calls, options, expected):
    with pytest.raises(UsageError, match=expected):
        compute(squares([1], calls), tmp_path / "r.db", **options)


# The store ------------------------------------------------------------------------------------------------------------


def test_a_store_leaves_one_file_and_says_what_each_cell_was(tmp_path, calls):
    world = scenario.load("ten-tasks")
    cell = Cell(ADD, {"b": 1, "a": [2.5]}, {"numbers": (1,), "world": world})
    compute([cell], tmp_path / "r.db", jobs=1)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("r.db")] == ["r.db"]
    with Store(tmp_path / "r.db") as store:
        row, = store.rows()
    assert (row["key"], row["kind"], row["params"], row["status"]) == (cell.key, ADD, '{"a":[2.5],"b":1}', "done")
    assert json.loads(row["inputs"])["world"] == hashing.digest(world) and "NumPy" in row["made_with"]


def other_database(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (x)")


def other_format(path):
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


def cut(path):
    with Store(path) as store:
        for x in range(50):
            store.put(Cell(SQUARE, {"x": x, "pad": "0" * 500}), "1", "", 0.0)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


@pytest.mark.parametrize(("spoil", "error", "expected"), [
    (lambda path: path.write_text("precious notes"), UsageError, "is not a file of results"),
    (other_database, UsageError, "is not a file of results"),
    (other_format, RecordError, "format 99"),
    (cut, RecordError, "is damaged"),
    (lambda path: path.mkdir(), UsageError, "is no file"),
])
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path, calls, spoil, error, expected):
    path = tmp_path / "r.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(error, match=expected) as caught:
        compute(squares([1], calls), path, jobs=1)
    assert "\n" not in str(caught.value) and calls.read_text() == ""
    assert not path.is_file() or path.read_bytes() == before


def test_a_store_that_cannot_be_written_says_so_and_keeps_what_it_has(tmp_path, calls):
    cells = squares(range(40), calls, pad="0" * 4000)
    with Store(tmp_path / "r.db") as store:
        store._db.execute("PRAGMA max_page_count = 12")
        with pytest.raises(EdgertError, match=r"r.db cannot be used .*full.*finished results are kept"):
            list(run(cells, store, jobs=1))
        kept = len(store.get(cells))
    assert 0 < kept < 40
    assert sum(r.status == "kept" for r in compute(cells, tmp_path / "r.db", jobs=1).values()) == kept
    with pytest.raises(UsageError, match="no directory"):
        Store(tmp_path / "nowhere" / "r.db")


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_key_depends_on_all_that_determines_the_value_and_on_nothing_else():
    def cell(**changed):
        given = {"kind": ADD, "params": {"a": 1, "b": {"c": [1, 2.0]}}, "inputs": {"numbers": (1, 2)},
                 "needs": {"x": Cell(SQUARE, {"x": 1})}}
        return Cell(**{**given, **changed}).key

    keys = [cell(), cell(kind="sweep_kinds:fail"), cell(params={"a": 2, "b": {"c": [1, 2.0]}}), cell(params={"a": 1, "b": {"c": [2.0, 1]}}),
            cell(inputs={"numbers": (1, 3)}), cell(inputs={"number": (1, 2)}), cell(needs={"x": Cell(SQUARE, {"x": 2})}), cell(needs={})]
    assert len(set(keys)) == len(keys)
    assert cell() == cell(local={"path": "/elsewhere"}) == cell(params={"b": {"c": [1, 2.0]}, "a": 1})


def test_a_scenario_counts_by_its_content_in_every_process():
    world = scenario.load("made-up")
    again = scenario.load("made-up")
    assert hashing.digest(world) == hashing.digest(again)
    code = "from edgert.sweep import hashing; from imprecise import scenario; print(hashing.digest(scenario.load('made-up')))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert other.stdout.strip() == hashing.digest(world)
    source, = {id(s.work): s for s in world.sources}.values()
    outcomes = source.work.outcomes
    correct = outcomes.correct.copy()
    correct[0, 0] ^= True
    changed = [dataclasses.replace(world, guard_ns=world.guard_ns + 1), dataclasses.replace(world, resources={**world.resources, "cpu": 3})]
    for work in (dataclasses.replace(source.work, outcomes=dataclasses.replace(outcomes, correct=correct)),
                 dataclasses.replace(source.work, validation=None),
                 dataclasses.replace(source.work, durations=source.work.durations[::-1])):
        changed.append(dataclasses.replace(world, sources=(dataclasses.replace(source, work=work), *world.sources[1:])))
    changed.append(dataclasses.replace(world, sources=world.sources[1:]))
    assert len({hashing.digest(w) for w in [world, *changed]}) == 1 + len(changed)


def test_values_of_different_types_differ_and_equal_arrays_agree():
    values = [1, 1.0, True, "1", None, (1,), (1.0,), {1: 2}, {"1": 2}, {1}, np.array([1]), np.array([1.0]), np.array([[1]]),
              ("float", "0x1p+0"), os.path.join, Path("1")]
    assert len({hashing.digest(v) for v in values}) == len(values)
    array = np.arange(6).reshape(2, 3)
    assert hashing.digest(array.T) == hashing.digest(np.ascontiguousarray(array.T)) != hashing.digest(array)
    assert hashing.digest({"a": 1, "b": 2}) == hashing.digest({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="cannot be told from another"):
        hashing.digest(lambda: 0)


def test_a_result_is_not_reused_once_the_code_behind_it_reads_differently(tmp_path, monkeypatch):
    package = tmp_path / "tinypack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("value = 1\n")
    (package / "lazy.py").write_text("def f():\n    from . import deep\n    return deep\n")
    (package / "top.py").write_text('"""Doc."""\nfrom .lazy import f\n')
    (package / "apart.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hashing, "OURS", ("tinypack",))

    def now():
        for function in (hashing.code_of, hashing._source):
            function.cache_clear()
        return hashing.code_of("tinypack.top")

    first = now()
    (package / "top.py").write_text('"""Another text."""\n# and a comment\nfrom .lazy   import f\n')
    (package / "apart.py").write_text("value = 2\n")
    assert now() == first
    (package / "deep.py").write_text("value = 2\n")
    assert now() != first
    hashing.code_of.cache_clear()
    hashing._source.cache_clear()
    with pytest.raises(ModuleNotFoundError):
        hashing.code_of("tinypack.none")


def test_the_code_behind_a_simulation_is_the_scheduler_and_not_the_command_line():
    hashing.code_of("edgert.sweep.cells")
    seen, waiting = set(), ["edgert.sweep.cells"]
    while waiting:
        name = waiting.pop()
        if name not in seen and (found := hashing._source(name)) is not None:
            seen.add(name)
            waiting += found[1]
    assert {"imprecise.engine", "imprecise.simulator", "imprecise.model", "imprecise.draws", "imprecise.admission"} <= seen
    assert not {name for name in seen if name.startswith("edgert.cli") or name.startswith("edgert.executive")}


def test_many_cells_that_share_a_scenario_hash_it_once():
    world = scenario.load("made-up")
    cells = [Cell(ADD, {"seed": seed}, {"scenario": world}) for seed in range(300)]
    start = time.process_time()
    _ = cells[0].key
    once = time.process_time() - start
    start = time.process_time()
    assert len({cell.key for cell in cells}) == 300
    assert time.process_time() - start < 20 * max(once, 0.01)

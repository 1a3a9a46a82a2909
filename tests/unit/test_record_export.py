"""Export of a run record: other programs read back what the record holds."""

import csv
import importlib.util
import json

import pytest
from test_record import fill, frame

from edgert.errors import EdgertError, UsageError
from edgert.results import record
from edgert.results.export import export
from edgert.results.record import RecordWriter, Run


@pytest.fixture
def run(tmp_path):
    with RecordWriter(tmp_path / "r.db") as writer:
        fill(writer, 5)
        writer.frame(frame(5, stream='a "quoted", name\nof two lines ä', correct=None, confidence=None, label=-1))
    with Run(tmp_path / "r.db") as opened:
        yield opened


def expected(run, table):
    rows = [dict(zip(run.table(table).dtype.names, row)) for row in run.table(table).tolist()]
    if table == "frames":
        rows[5].update(correct=None, confidence=None)
    return rows


def test_json_lines_hold_every_row_of_every_table(run, tmp_path):
    files = export(run, tmp_path / "out", "jsonl")
    assert {path.stem for path in files} == set(record.TABLES)
    for path in files:
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == expected(run, path.stem)
    assert len(expected(run, "events")) == 10


def test_csv_holds_every_row_and_nothing_for_what_has_no_value(run, tmp_path):
    for path in export(run, tmp_path / "out", "csv"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows == [{key: "" if value is None else str(value) for key, value in row.items()} for row in expected(run, path.stem)]


def test_only_the_tables_named_are_written(run, tmp_path):
    assert [path.name for path in export(run, tmp_path, "csv", ["frames", "stages"])] == ["frames.csv", "stages.csv"]
    assert not (tmp_path / "events.csv").exists()


def test_a_file_that_exists_is_kept_unless_told(run, tmp_path):
    (tmp_path / "stages.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"stages.csv exists"):
        export(run, tmp_path, "csv", ["frames", "stages"])
    assert (tmp_path / "stages.csv").read_text() == "mine" and not (tmp_path / "frames.csv").exists()
    export(run, tmp_path, "csv", ["stages"], overwrite=True)
    assert (tmp_path / "stages.csv").read_text().startswith("job,")


@pytest.mark.parametrize(("kind", "tables", "said"), [("xml", [], "jsonl, csv, parquet"), ("csv", ["frame"], "frames")])
def test_an_unknown_format_or_table_names_those_there_are(run, tmp_path, kind, tables, said):
    with pytest.raises(UsageError, match=said):
        export(run, tmp_path, kind, tables)


def test_a_folder_that_cannot_be_is_an_error_of_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgertError, match="cannot be written"):
        export(run, tmp_path / "file" / "out", "csv")


def test_parquet_without_pyarrow_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install pyarrow"):
        export(run, tmp_path, "parquet")


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_holds_every_row(run, tmp_path):
    from pyarrow import parquet

    for path in export(run, tmp_path / "out", "parquet"):
        assert parquet.read_table(path).to_pylist() == expected(run, path.stem)

"""A run record's tables as files for other programs: JSON lines, CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgertError, UsageError
from .record import TABLES, PathLike, Run

FORMATS = ("jsonl", "csv", "parquet")


def export(run: Run, folder: PathLike, kind: str = "csv", tables: Sequence[str] = (), overwrite: bool = False) -> list[Path]:
    """Write each table (all where none is named) to `folder/TABLE.KIND`, and return the files.

    What has no value is empty in CSV and null in the others: `correct` of a frame without a label, NaN. Raises UsageError for an unknown
    format or table, a file that exists, or Parquet without pyarrow; EdgertError where a file cannot be written; RecordError where the
    record cannot be read.
    """
    if kind not in FORMATS:
        raise UsageError(f"unknown export format {kind!r}", f"choose one of {', '.join(FORMATS)}")
    for name in tables:
        if name not in TABLES:
            raise UsageError(f"a run record has no table {name!r}", f"choose among {', '.join(TABLES)}")
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow, which is not installed", "pip install pyarrow, or choose jsonl or csv")
    target = Path(folder)
    files = {name: target / f"{name}.{kind}" for name in tables or TABLES}
    for path in files.values():
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists", "name another folder, or add --overwrite")
    write = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}[kind]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            write(path, name, run.table(name))
    except OSError as error:
        raise EdgertError(f"{error.filename or target} cannot be written ({error.strerror})", "name another folder") from None
    return list(files.values())


def _values(table: str, rows: np.ndarray) -> Iterator[list[Any]]:
    """Rows as plain values, None for what has none."""
    names = rows.dtype.names or ()
    unlabelled = names.index("correct") if table == "frames" else -1
    reals = [i for i, name in enumerate(names) if rows.dtype[name].kind == "f"]
    for row in rows.tolist():
        values = list(row)
        for i in reals:
            if values[i] != values[i]:
                values[i] = None
        if unlabelled >= 0 and values[unlabelled] == -1:
            values[unlabelled] = None
        yield values


def _write_jsonl(path: Path, table: str, rows: np.ndarray) -> None:
    names = rows.dtype.names or ()
    with path.open("w", encoding="utf-8") as file:
        for values in _values(table, rows):
            file.write(json.dumps(dict(zip(names, values)), ensure_ascii=False) + "\n")


def _write_csv(path: Path, table: str, rows: np.ndarray) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows.dtype.names or ())
        writer.writerows(_values(table, rows))


def _write_parquet(path: Path, table: str, rows: np.ndarray) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {"i": pyarrow.int64(), "f": pyarrow.float64(), "U": pyarrow.string()}
    names = rows.dtype.names or ()
    columns = list(zip(*_values(table, rows))) or [()] * len(names)
    arrays = [pyarrow.array(column, kinds[rows.dtype[name].kind]) for name, column in zip(names, columns)]
    parquet.write_table(pyarrow.table(arrays, names=list(names)), path)

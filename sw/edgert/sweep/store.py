"""Cells, and where their results are kept: one SQLite file, written by one process, a row a cell under the cell's hash."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .. import __version__
from ..errors import EdgertError, RecordError, UsageError
from .hashing import canonical, code_of, digest, sha256

FORMAT = 1  # of what a cell's value means and how it is kept; part of every key
APPLICATION = 0x65645377  # SQLite's application_id of such a file
SCHEMA = """CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, kind TEXT NOT NULL, params TEXT NOT NULL, inputs TEXT NOT NULL,
 status TEXT NOT NULL, value TEXT, error TEXT, seconds REAL, made_with TEXT) WITHOUT ROWID"""
MADE_WITH = f"edgert {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}"


@dataclass(frozen=True, eq=False)
class Cell:
    """One computation: a function of its parameters, inputs and needs, and of nothing else.

    `kind` is "module:function"; it is called as `function(params, inputs, needs)` and returns what JSON can hold. `params`: plain
    JSON values. `inputs`: objects, like a Scenario, that count by their content and are pickled to where the function runs.
    `needs`: cells computed before, whose values it gets under the same names. `local`: what it needs to know of this machine and
    must not change its value (a file's path); merged into `params` when called, and no part of the key.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Cell] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digests(self) -> dict[str, str]:
        """The hash of each input."""
        return {name: _digest(value) for name, value in self.inputs.items()}

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical JSON of all that determines its value, code included."""
        module = self.kind.partition(":")[0]
        return sha256(canonical({"format": FORMAT, "kind": self.kind, "code": code_of(module), "params": dict(self.params),
                                 "inputs": self.digests, "needs": {name: cell.key for name, cell in self.needs.items()}}))


_DIGESTS: dict[int, tuple[Any, str]] = {}  # by identity; holds the object, so that its id is not used again


def _digest(value: Any) -> str:
    """The hash of an input, computed once for the many cells that share the object."""
    if id(value) not in _DIGESTS:
        if len(_DIGESTS) >= 1024:
            _DIGESTS.clear()
        _DIGESTS[id(value)] = value, digest(value)
    return _DIGESTS[id(value)][1]


class Store:
    """Results by key. Every `put` is on disk when it returns, whatever happens to the machine after it.

    Use it in one process only: workers hand their results to it. Raises UsageError for a file that is no such store, RecordError
    for one that is damaged or of another format, EdgertError where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir() or (self.path.exists() and not self.path.is_file()):
            raise UsageError(f"{path} is no file", "name a file for the results, like -o results.db")
        if not self.path.parent.is_dir():
            raise UsageError(f"{path}: there is no directory {self.path.parent}", "make it, or name another file")
        self._path_check()
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=60.0)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.DatabaseError as error:
            raise self._error(error) from None

    def _path_check(self) -> None:
        try:
            with self.path.open("rb") as file:
                magic = file.read(16)
        except FileNotFoundError:
            return
        except OSError as error:
            raise EdgertError(f"{self.path} cannot be read ({error.strerror})", "name another file") from None
        if magic and magic != b"SQLite format 3\x00":
            raise UsageError(f"{self.path} is not a file of results", "name another file: this one is left as it is")

    def _open(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        empty = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and application in (0, APPLICATION):
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute(SCHEMA)
            self._db.execute("COMMIT")
        elif application != APPLICATION:
            raise UsageError(f"{self.path} is not a file of results", "name another file: this one is left as it is")
        elif version != FORMAT:
            raise RecordError(f"{self.path} has results of format {version}, this edgert has format {FORMAT}", "name another file")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("SELECT count(*) FROM cells").fetchone()

    def _error(self, error: sqlite3.Error) -> EdgertError:
        if isinstance(error, sqlite3.OperationalError):
            return EdgertError(f"{self.path} cannot be used ({error})", "finished results are kept; free space or name another file")
        return RecordError(f"{self.path} is damaged ({error})", "delete it, or name another file")

    def get(self, cells: Iterable[Cell]) -> dict[str, Any]:
        """The values of those cells that are done, by key."""
        found: dict[str, Any] = {}
        try:
            for key in {cell.key for cell in cells}:
                row = self._db.execute("SELECT value FROM cells WHERE key = ? AND status = 'done'", (key,)).fetchone()
                if row is not None:
                    found[key] = json.loads(row[0])
        except sqlite3.Error as error:
            raise self._error(error) from None
        except ValueError as error:
            raise RecordError(f"{self.path} is damaged ({error})", "delete it, or name another file") from None
        return found

    def put(self, cell: Cell, text: str | None, error: str, seconds: float) -> None:
        """Keep the value (JSON) of a cell, or why it has none (`text` None)."""
        row = (cell.key, cell.kind, canonical(dict(cell.params)), canonical(cell.digests), "failed" if text is None else "done", text,
               error or None, seconds, MADE_WITH)
        try:
            self._db.execute(f"INSERT OR REPLACE INTO cells VALUES ({','.join('?' * len(row))})", row)
        except sqlite3.Error as problem:
            raise self._error(problem) from None

    def rows(self) -> list[dict[str, Any]]:
        """Every row, as a dict: for looking at what a file holds."""
        names = ("key", "kind", "params", "inputs", "status", "value", "error", "seconds", "made_with")
        try:
            found = self._db.execute(f"SELECT {', '.join(names)} FROM cells ORDER BY key").fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None
        return [dict(zip(names, row)) for row in found]

    def close(self) -> None:
        """Close the file: one file is left, no log beside it."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

"""The record of a run: one SQLite file (WAL) that survives a kill at any byte; `docs/architecture.md` lists its tables.

`RecordWriter` writes it, in batches; `RingRecorder` has the same methods and puts the rows into a ring instead, for a process that
may not wait (the writer process takes them out); `Run` reads it, also while it is written and after its writer was killed.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Union, get_type_hints

import numpy as np

from imprecise.model import Action, Event

from ..errors import RecordError, UsageError
from .ring import Ring

FORMAT = 1
RESERVE_BYTES = 1 << 20  # room kept free on the disk, so that the counters can still be written when it is full
_BATCH = 2000  # rows buffered by RecordWriter before it writes by itself
PathLike = Union[str, "os.PathLike[str]"]


class FrameRow(NamedTuple):
    """One captured frame and what became of it; see `docs/architecture.md`. `job` is -1 where it was dropped."""

    stream: str
    frame: int
    item: int
    job: int
    release_ns: int
    arrival_ns: int
    deadline_ns: int
    completed_ns: int
    published_ns: int
    depth: int
    status: str
    label: int
    answer: int
    confidence: float
    utility: float
    correct: int | None


class StageRow(NamedTuple):
    """One stage that was started and how it ended."""

    job: int
    stage: str
    resource: str
    unit: int
    start_ns: int
    end_ns: int
    status: str
    confidence: float


class StallRow(NamedTuple):
    """A wake-up at `at_ns` that came `late_ns` too late, seen by `source` ("witness" or "dispatcher")."""

    at_ns: int
    late_ns: int
    source: str


class AssumptionRow(NamedTuple):
    """What a guarantee rests on, how often it was checked and violated, and the worst value seen."""

    name: str
    text: str
    limit_ns: int
    checked: int
    violations: int
    worst_ns: int


def _columns(row: Any) -> dict[str, str]:
    kinds = {int: "INTEGER", float: "REAL", str: "TEXT", int | None: "INTEGER"}
    return {name: kinds[hint] for name, hint in get_type_hints(row).items()}


# kinds of record in a ring, and the tables behind them
META, FRAME, STAGE, STEP, STALL, ASSUMPTION, COUNTER = range(7)
KIND_NAMES = ("meta", "frames", "stages", "steps", "stalls", "assumptions", "counters")
TABLES: dict[str, dict[str, str]] = {
    "meta": {"key": "TEXT PRIMARY KEY", "value": "TEXT"},
    "frames": _columns(FrameRow),
    "stages": _columns(StageRow),
    "steps": {"step": "INTEGER", "now_ns": "INTEGER"},
    "stalls": _columns(StallRow),
    "assumptions": {**_columns(AssumptionRow), "name": "TEXT PRIMARY KEY"},
    "counters": {"name": "TEXT PRIMARY KEY", "value": "INTEGER"},
    "events": {"step": "INTEGER", "seq": "INTEGER", "kind": "TEXT", "at_ns": "INTEGER", "stream": "INTEGER", "frame": "INTEGER",
               "job": "INTEGER", "stage": "INTEGER", "resource": "TEXT", "unit": "INTEGER", "value": "REAL"},
    "actions": {"step": "INTEGER", "seq": "INTEGER", "kind": "TEXT", "job": "INTEGER", "stage": "INTEGER", "resource": "TEXT",
                "unit": "INTEGER", "depth": "INTEGER", "at_ns": "INTEGER"},
}
_INSERT = {name: f"INSERT OR REPLACE INTO {name} VALUES ({','.join('?' * len(columns))})" for name, columns in TABLES.items()}
_WIDTH = [len(TABLES[name]) for name in KIND_NAMES]


class Recorder:
    """What may be recorded; `_add` takes one record. A step is one engine step with its events and actions."""

    def _add(self, kind: int, fields: tuple[Any, ...]) -> None:
        raise NotImplementedError

    def meta(self, key: str, value: Any) -> None:
        """Set one entry of `meta`; `value` becomes JSON."""
        self._add(META, (key, json.dumps(value)))

    def frame(self, row: FrameRow) -> None:
        """Add one frame, once it is answered, missed or dropped."""
        self._add(FRAME, tuple(row))

    def stage(self, row: StageRow) -> None:
        """Add one stage that ended."""
        self._add(STAGE, tuple(row))

    def step(self, step: int, now_ns: int, events: Sequence[Event], actions: Sequence[Action]) -> None:
        """Add one engine step: what it was told, and what it answered."""
        self._add(STEP, (step, now_ns, [tuple(event) for event in events], [tuple(action) for action in actions]))

    def stall(self, at_ns: int, late_ns: int, source: str) -> None:
        """Add one late wake-up."""
        self._add(STALL, (at_ns, late_ns, source))

    def assumption(self, row: AssumptionRow) -> None:
        """Set the state of one assumption."""
        self._add(ASSUMPTION, tuple(row))

    def counter(self, name: str, value: int) -> None:
        """Set one counter."""
        self._add(COUNTER, (name, value))


class RingRecorder(Recorder):
    """Records into a ring, without ever waiting; what does not fit is dropped and counted by the ring."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def _add(self, kind: int, fields: tuple[Any, ...]) -> None:
        self.ring.put(kind, fields)


def check_target(path: PathLike, overwrite: bool = False) -> None:
    """Raise UsageError where `path` holds something that a new run must not replace: any file, or with `overwrite` no run record."""
    if not os.path.lexists(path) or (os.path.isfile(path) and os.path.getsize(path) == 0):
        return
    try:
        with Run(path) as run:
            state = "a finished run" if run.finished else "a run that did not finish"
    except (RecordError, UsageError):
        raise UsageError(f"{path} exists and is no run record", "name another file with --record") from None
    if not overwrite:
        raise UsageError(f"{path} holds {state}", "name another file with --record, or add --overwrite")


def _token(path: PathLike) -> int:
    """Token of the run record at `path`; 0: none."""
    try:
        with Run(path) as run:
            return int(run.meta.get("token", 0))
    except (RecordError, UsageError):
        return 0


class RecordWriter(Recorder):
    """Writes a new run record, or goes on with one whose writer was killed: one that bears the same `token` (not 0).

    Raises UsageError where `path` must not be replaced (`check_target`) and sqlite3.Error where it cannot be written. Nothing is lost
    in silence: a `write` that raises has written none of its records.
    """

    def __init__(self, path: PathLike, overwrite: bool = False, token: int = 0) -> None:
        self.path = Path(path)
        self._buffer: list[tuple[int, tuple[Any, ...]]] = []
        if not token or _token(path) != token:
            check_target(path, overwrite)
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing, a power cut the last moments
            self._db.execute("BEGIN IMMEDIATE")
            for name, columns in TABLES.items():
                self._db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(f'{c} {t}' for c, t in columns.items())})")
            self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", [("format", str(FORMAT)), ("token", str(token))])
            self._db.execute("COMMIT")
        except BaseException:
            self._db.close()
            raise

    def _add(self, kind: int, fields: tuple[Any, ...]) -> None:
        self._buffer.append((kind, fields))
        if len(self._buffer) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        batch, self._buffer = self._buffer, []
        self.write(batch)

    def write(self, batch: Iterable[tuple[int, tuple[Any, ...]]], note: Mapping[str, Any] | None = None) -> None:
        """Write records (kind, fields), and `note` into `meta`, in one transaction: all or none. Raises sqlite3.Error."""
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for kind, fields in batch:
            if kind == STEP:
                number, now_ns, events, actions = fields
                rows.setdefault("steps", []).append((number, now_ns))
                rows.setdefault("events", []).extend((number, i, *event) for i, event in enumerate(events))
                rows.setdefault("actions", []).extend((number, i, *action) for i, action in enumerate(actions))
            else:
                rows.setdefault(KIND_NAMES[kind], []).append(fields)
        if note:
            rows.setdefault("meta", []).extend((key, json.dumps(value)) for key, value in note.items())
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for table, values in rows.items():
                self._db.executemany(_INSERT[table], values)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def read_meta(self, key: str) -> Any:
        """One entry of `meta`, None where there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def free_bytes(self) -> int:
        """Bytes that the record may still grow by: free on its disk, and under this process's file size limit."""
        stat = os.statvfs(self.path)
        free = stat.f_bavail * stat.f_frsize
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY:
            pages, size = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            wal = self.path.with_name(self.path.name + "-wal")
            free = min(free, limit - pages * size, limit - (wal.stat().st_size if wal.exists() else 0))
        return free

    def close(self, finished: bool = True) -> None:
        """Write what is buffered and `finished`; the record is then one file. Raises sqlite3.Error where that fails."""
        try:
            self._buffer.append((META, ("finished", json.dumps(finished))))
            self.flush()
        finally:
            self._db.close()

    def close_file(self) -> None:
        """Close the file and leave `finished` as it is."""
        self._db.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(finished=error is None)


def check_fields(kind: int, fields: Any) -> str:
    """Why a record out of a ring cannot be written, or "" where it can: number and type of its fields."""
    if not 0 <= kind < len(KIND_NAMES) or not isinstance(fields, tuple):
        return f"unknown kind {kind}"
    parts: list[tuple[Any, ...]] = [fields]
    if kind == STEP:
        if len(fields) != 4 or not isinstance(fields[2], list) or not isinstance(fields[3], list):
            return "a step has other than four fields"
        parts = [fields[:2], *fields[2], *fields[3]]
        if any(len(e) != len(Event._fields) for e in fields[2]) or any(len(a) != len(Action._fields) for a in fields[3]):
            return "a step has an event or an action of another width"
    elif len(fields) != _WIDTH[kind]:
        return f"{KIND_NAMES[kind]} has {_WIDTH[kind]} columns, found {len(fields)}"
    for value in (value for part in parts for value in part):
        if not isinstance(value, (int, float, str, type(None))) or (isinstance(value, int) and not -1 << 63 <= value < 1 << 63):
            return f"{KIND_NAMES[kind]} has a field of type {type(value).__name__} or out of range"
    return ""


class Run:
    """Reads a run record and changes nothing in it.

    `meta` is a dict; `frames`, `stages`, `steps`, `events`, `actions`, `stalls` and `assumptions` are NumPy structured arrays, one field
    a column (int64, float64 with NaN for NULL, str; `correct` is -1 for NULL), read when first used. Raises UsageError where there is
    no such file and RecordError where it is not a run record, is of another format or is damaged.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._tables: dict[str, np.ndarray] = {}
        if not self.path.is_file():
            raise UsageError(f"no run record at {path}", "record one with: edgert run ... --record FILE")
        try:
            with self.path.open("rb") as file:
                magic = file.read(16)
        except OSError as error:
            raise RecordError(f"{path} cannot be read ({error.strerror})") from None
        if magic != b"SQLite format 3\x00":
            raise RecordError(f"{path} is not a run record", "name a file written by edgert run or simulate --record")
        self._db = self._open()
        try:
            self.meta: dict[str, Any] = {key: json.loads(value) for key, value in self._select("SELECT key, value FROM meta")}
            if self.meta.get("format") != FORMAT:
                raise RecordError(f"{path} has record format {self.meta.get('format')}, this edgert reads {FORMAT}",
                                  "read it with the edgert that wrote it")
        except (ValueError, TypeError) as error:
            self.close()
            raise RecordError(f"{path} is damaged ({error})") from None
        except RecordError:
            self.close()
            raise

    def _open(self) -> sqlite3.Connection:
        """Read-only. A record without a log, closed in order, is opened as it is, which makes no files beside it."""
        uri = self.path.absolute().as_uri() + "?mode=ro"
        if not self.path.with_name(self.path.name + "-wal").exists():
            uri += "&immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)

    def _select(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            foreign = "no such table" in str(error) or "no such column" in str(error)
            what = "is not a run record" if foreign else "cannot be read or is damaged"
            raise RecordError(f"{self.path} {what} ({error})", "name a file written by edgert run or simulate --record") from None

    def table(self, name: str) -> np.ndarray:
        """One table as a structured array [rows]."""
        if name not in self._tables:
            columns = TABLES[name]
            rows = self._select(f"SELECT {', '.join(columns)} FROM {name} ORDER BY rowid")
            try:
                parts = [_column(kind, [row[i] for row in rows]) for i, kind in enumerate(columns.values())]
            except (ValueError, TypeError, OverflowError) as error:
                raise RecordError(f"{self.path} is damaged: table {name} ({error})") from None
            out = np.empty(len(rows), dtype=[(column, part.dtype) for column, part in zip(columns, parts)])
            for column, part in zip(columns, parts):
                out[column] = part
            self._tables[name] = out
        return self._tables[name]

    frames = property(lambda self: self.table("frames"), doc="Every captured frame, in the order in which they were closed.")
    stages = property(lambda self: self.table("stages"), doc="Every stage that was started.")
    steps = property(lambda self: self.table("steps"), doc="Every engine step: its number and time.")
    events = property(lambda self: self.table("events"), doc="What the engine was told.")
    actions = property(lambda self: self.table("actions"), doc="What the engine answered.")
    stalls = property(lambda self: self.table("stalls"), doc="Late wake-ups.")
    assumptions = property(lambda self: self.table("assumptions"), doc="What the guarantee rested on.")

    @property
    def counters(self) -> dict[str, int]:
        """Counters by name."""
        return {str(name): int(value) for name, value in zip(self.table("counters")["name"], self.table("counters")["value"])}

    @property
    def finished(self) -> bool:
        """The run was closed in order; False: it was killed, or still runs."""
        return self.meta.get("finished") is True

    def replay(self) -> Iterator[tuple[int, int, list[Event], list[Action]]]:
        """Engine steps in order: number, now_ns, events, actions."""
        events = self._grouped("events", Event)
        actions = self._grouped("actions", Action)
        for number, now_ns in self._select("SELECT step, now_ns FROM steps ORDER BY step"):
            yield number, now_ns, events.get(number, []), actions.get(number, [])

    def _grouped(self, table: str, make: Any) -> dict[int, list[Any]]:
        out: dict[int, list[Any]] = {}
        for number, *fields in self._select(f"SELECT step, {', '.join(make._fields)} FROM {table} ORDER BY step, seq"):
            out.setdefault(number, []).append(make(*fields))
        return out

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _column(kind: str, values: list[Any]) -> np.ndarray:
    if kind.startswith("INTEGER"):
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)
    if kind.startswith("REAL"):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a text column holds something else")
    return np.array(values, dtype=str) if values else np.empty(0, dtype="U1")

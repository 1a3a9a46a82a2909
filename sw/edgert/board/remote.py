"""`edgert remote`: run what is deployed on another machine, and bring the record back."""

from __future__ import annotations

import codecs
import contextlib
import datetime
import hashlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import ConnectionLost, HashMismatch, RecordError, RemoteError, UsageError
from .deploy import look, needs_root
from .ssh import AGAIN, Link, Session, Target

FETCH_S = 120.0
TRIES = 2
STOPPED = (129, 130, 143)


def run(target: Target, arguments: list[str], say: Callable[[str], None], record: Path | None = None, like: Path | None = None,
        sudo: bool | None = None, out: IO[str] | None = None) -> int:
    """Run `edgert run ARGUMENTS` there, its output on `out` (default: stdout) and stderr; its exit code.

    `record` gets its record, whatever the exit code. The first Ctrl-C ends the run in order, the second at once. Raises RemoteError.
    """
    content = _read(like) if like else b""
    with Link(target) as link:
        facts = look(link)
        if not facts["current"]:
            raise RemoteError(f"nothing is deployed in {target.host}:{target.folder}", f"edgert deploy fashion {target.flags()}")
        root = needs_root(facts, sudo)
        now = datetime.datetime.now(datetime.timezone.utc)
        name = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}.db" if record else ""
        try:
            with link.ask("run", sudo=root, through=True, base=facts["base"], arguments=arguments, record=name,
                          like=len(content)) as session:
                session.send(content)
                say(f"{target.host}: {session.answer()['started']}")
                with _passed_on(session):
                    _copy(session, out or sys.stdout)
                code = session.end()
        except ConnectionLost as error:
            back = f"; its record is kept: edgert remote fetch {target.flags()} {name} -O {record}" if record else ""
            raise ConnectionLost(error.message, f"the run there is ended in order{back}") from None
        if record and code in (0, 4, *STOPPED):
            try:
                _bring(link, facts["base"], name, record, root)
                say(f"record: {record}")
            except RecordError:
                if code not in STOPPED:
                    raise
                say("it was stopped before it began: there is no record")
    return code


def _read(path: Path) -> bytes:
    """A run record as the bytes of one file. Raises UsageError."""
    if not path.is_file():
        raise UsageError(f"--like {path}: no such file", "name a run recorded with --record")
    with tempfile.TemporaryDirectory(prefix="edgert-") as folder:
        copy = Path(folder) / "like.db"
        try:
            with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise UsageError(f"--like {path}: it is no run record ({error})", "name a run recorded with --record") from None
        return copy.read_bytes()


def fetch(target: Target, name: str, path: Path, sudo: bool | None = None) -> Path:
    """Bring a record back that is still there ("": the newest). Raises RemoteError."""
    with Link(target) as link:
        facts = look(link)
        _bring(link, facts["base"], name, path, needs_root(facts, sudo))
    return path


def _bring(link: Link, base: str, name: str, path: Path, root: bool) -> None:
    part = path.with_name(path.name + ".part")
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(TRIES)):
        with link.ask("fetch", sudo=root, base=base, record=name) as session:
            answer = session.answer(FETCH_S)
            state = hashlib.sha256()
            with open(part, "wb") as file:
                rest = int(answer["size"])
                while rest:
                    data = session.read(FETCH_S)
                    if not data:
                        raise ConnectionLost(f"the connection to {link.target.host} ended before the record was here",
                                             f"edgert remote fetch {link.target.flags()} {answer['record']} -O {path}")
                    file.write(data)
                    state.update(data)
                    rest -= len(data)
            if state.hexdigest() == answer["sha256"]:
                os.replace(part, path)
                session.signal(b"D")
                session.end()
                return
        if not left:
            part.unlink()
            raise HashMismatch(f"the record {answer['record']} arrived altered {TRIES} times; expected sha256 "
                               f"{answer['sha256'][:12]}...", AGAIN)


@contextlib.contextmanager
def _passed_on(session: Session) -> Iterator[None]:
    """SIGINT and SIGTERM go to the run there, which ends in order; the second one ends it at once."""
    heard = 0

    def handle(number: int, _: Any) -> None:
        nonlocal heard
        heard += 1
        session.signal(b"K" if heard > 2 else b"T" if number == signal.SIGTERM or heard == 2 else b"I")

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


def _copy(session: Session, out: IO[str]) -> None:
    """Its stdout as it comes, until it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := session.read(None):
        out.write(decoder.decode(data))
        out.flush()


def shown(text: str, record: Path | None, as_json: bool) -> str:
    """The summary of a run there, as `edgert run` would print it here; as it came where it is no summary that this edgert knows."""
    from ..results import summary

    try:
        figures = json.loads(text)
        figures["run"] = str(record) if record else None
        return (json.dumps(figures, indent=1) if as_json else summary.render(figures)) + "\n"
    except (ValueError, KeyError, TypeError):
        return text

"""The writer process: takes records out of rings and writes them into the run record.

    python -m edgert.executive.writer --dispatcher PID [--overwrite] [--cores 0,1] PATH RING_FD [RING_FD ...]

It lives in a session of its own, ignores SIGINT and SIGTERM, and ends when the first ring was closed or the dispatcher is gone, and all
rings are empty: whatever kills the dispatcher, what was recorded until then is written. Rows are written in batches, one transaction
each, together with the position reached in every ring, so that a writer that was killed and started again neither loses nor repeats a
row. Where the record cannot be written (unwritable, disk full) it goes on: it keeps records while the rings have room and tries again; then
it gives them up and counts them exactly, by kind, in the rings and at the end in `counters`: `records_lost`, and
`records_lost_frames`, `records_lost_stages`, ... A megabyte of the disk is left free for that.

`WriterProcess` starts, watches and ends one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import EdgertError, RecordError
from ..results.record import COUNTER, KIND_NAMES, META, RESERVE_BYTES, PathLike, RecordWriter, check_fields, check_target
from ..results.ring import Ring

PERIOD_S = 0.05  # between two looks at empty rings
RETRY_S = 0.2  # between two tries to write
LAST_TRIES_S = 1.0  # how long a record that cannot be written is tried again once the run is over
STUCK_S = 1.0  # a published record that does not verify for so long is damaged
BATCH = 2000

Records = list[tuple[int, tuple[Any, ...]]]


class Writer:
    """Drains `rings` into the record at `path` until the run is over."""

    def __init__(self, rings: Sequence[Ring], path: PathLike, overwrite: bool = False) -> None:
        self.rings = rings
        self.path = path
        self._overwrite = overwrite
        self._record: RecordWriter | None = None
        self._pending: list[Records] = [[] for _ in rings]  # read from each ring, not yet written
        self._said = ""  # the last complaint
        self._damaged = 0  # bytes of rings skipped because they did not verify
        self._stuck_since: dict[int, float] = {}

    def run(self, dispatcher: Dispatcher) -> bool:
        """Drain until the run is over and write the counters; True where every record was written."""
        over_since = 0.0
        while True:
            over = self.rings[0].closed or not dispatcher.alive()
            if over and not over_since:
                over_since = time.monotonic()
            if not self._drain(hopeless=over and time.monotonic() - over_since > LAST_TRIES_S):
                time.sleep(RETRY_S)
            elif all(ring.used == 0 for ring in self.rings):
                if over:
                    return self._finish()
                time.sleep(PERIOD_S)

    def _drain(self, hopeless: bool) -> bool:
        """Take one batch from each ring. False: the record cannot be written now, try again."""
        try:
            self._open()
            self._read()
            self._write()
        except (sqlite3.Error, OSError, EdgertError) as error:
            self._say(f"{self.path} cannot be written: {error}")
            if not hopeless and all(ring.used <= ring.capacity // 2 for ring in self.rings):
                return False
            self._give_up()
        return True

    def _open(self) -> None:
        """Make the record, or find the one that a writer killed before had begun and the position that it had reached."""
        if self._record is None:
            record = RecordWriter(self.path, self._overwrite, token=self.rings[0].token)
            for index, ring in enumerate(self.rings):
                position = record.read_meta(f"ring_{index}")
                if isinstance(position, int):
                    ring.seek(position)
            self._record = record

    def _read(self) -> None:
        for index, ring in enumerate(self.rings):
            if self._pending[index]:
                continue
            for kind, fields in ring.read(BATCH):
                fault = check_fields(kind, fields)
                if fault:
                    ring.count_lost(kind, 1)
                    self._say(f"a record was refused: {fault}")
                else:
                    self._pending[index].append((kind, fields))
            self._watch_damage(index, ring)

    def _watch_damage(self, index: int, ring: Ring) -> None:
        """Skip what was published and still does not verify after a second."""
        if self._pending[index] or ring.empty:
            self._stuck_since.pop(index, None)
        elif time.monotonic() - self._stuck_since.setdefault(index, time.monotonic()) > STUCK_S:
            self._damaged += ring.skip()
            self._say(f"a ring was damaged; {self._damaged} bytes of it were skipped")

    def _write(self) -> None:
        """Write what is pending, all or nothing."""
        assert self._record is not None
        if any(self._pending):
            need = RESERVE_BYTES + 3 * sum(ring.used for ring in self.rings if ring.used)
            if self._record.free_bytes() < need:
                raise OSError("the disk or the file size limit is full")
            batch = [entry for records in self._pending for entry in records]
            self._record.write(batch, {f"ring_{index}": ring.position for index, ring in enumerate(self.rings)})
        self._release()

    def _give_up(self) -> None:
        """Count what is pending as lost."""
        self._read()
        for ring, records in zip(self.rings, self._pending):
            for kind, number in Counter(kind for kind, _ in records).items():
                ring.count_lost(kind, number)
        self._release()

    def _release(self) -> None:
        for ring, records in zip(self.rings, self._pending):
            records.clear()
            ring.release_read()

    def _finish(self) -> bool:
        """Write the counters, and `finished` where the run was closed in order."""
        lost = lost_records(self.rings)
        total = sum(lost.values())
        rows: Records = [(COUNTER, ("records_lost", total)), (COUNTER, ("ring_bytes_damaged", self._damaged))]
        rows += [(COUNTER, (f"records_lost_{name}", number)) for name, number in lost.items()]
        rows.append((META, ("finished", "true" if self.rings[0].closed else "false")))
        written = True
        try:
            self._open()
            assert self._record is not None
            self._record.write(rows)
            self._record.close_file()
        except (sqlite3.Error, OSError, EdgertError) as error:
            written = False
            self._say(f"the counters cannot be written to {self.path}: {error}")
        if total:
            self._say(f"{total} records were lost: " + ", ".join(f"{number} {name}" for name, number in lost.items() if number))
        return written and not total and not self._damaged

    def _say(self, text: str) -> None:
        """One line on stderr, the same only once in a row."""
        if text != self._said:
            self._said = text
            with contextlib.suppress(OSError):  # the terminal may be gone; the counters tell it too
                print(f"edgert: {text}", file=sys.stderr, flush=True)


def lost_records(rings: Sequence[Ring]) -> dict[str, int]:
    """Records lost so far, by the name of their table: they did not fit into a ring, or could not be written."""
    return {name: sum(ring.lost()[kind] for ring in rings) for kind, name in enumerate(KIND_NAMES)}


class Dispatcher:
    """Whether the process whose records are written still lives; it need not be this one's parent."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd = -1
        self._poll = select.poll()
        try:
            self._fd = os.pidfd_open(pid)
            self._poll.register(self._fd, select.POLLIN)
        except ProcessLookupError:
            self._pid = 0
        except OSError:  # a kernel before 5.3, or an emulator
            self._fd = -1

    def alive(self) -> bool:
        """True until it has ended, even as a zombie."""
        if self._pid == 0:
            return False
        if self._fd >= 0:
            return not self._poll.poll(0)
        try:
            with open(f"/proc/{self._pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
        except FileNotFoundError:
            return False


class WriterProcess:
    """Starts a writer for `rings` (the first is the dispatcher's own) and the calling process, and ends it.

    `cores`: where it may run (empty: anywhere that the caller may). Raises UsageError, before anything starts, where `path` holds something
    that must not be replaced.
    """

    def __init__(self, rings: Sequence[Ring], path: PathLike, overwrite: bool = False, cores: Sequence[int] = ()) -> None:
        check_target(path, overwrite)
        self.rings = list(rings)
        self.restarts = 0
        options = ["--dispatcher", str(os.getpid())] + ["--overwrite"] * overwrite
        options += ["--cores", ",".join(map(str, cores))] if cores else []
        self._arguments = [sys.executable, "-m", "edgert.executive.writer", *options, os.fspath(path)]
        self._arguments += [str(ring.fd) for ring in self.rings]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join([root, *sys.path])  # a source tree that is not installed
        return subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                                pass_fds=[ring.fd for ring in self.rings], env={**os.environ, "PYTHONPATH": path})

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """It still runs."""
        return self._process.poll() is None

    def restart(self) -> None:
        """Start it again after it died; nothing is lost or repeated while the rings had room. Takes milliseconds: never between frames."""
        if not self.alive():
            self.restarts += 1
            self._process = self._start()

    def finish(self, timeout_s: float = 30.0) -> dict[str, int]:
        """Close the first ring, wait until everything is written, and return the records lost by table.

        A writer that had died is started once more. Raises RecordError where it does not end in time; it is left to its work.
        """
        self.rings[0].close()
        end = time.monotonic() + timeout_s
        try:
            if self._process.wait(timeout_s) not in {0, 1}:
                self.restart()
                self._process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise RecordError(f"the record is not written after {timeout_s:g} s", f"the writer goes on as process {self.pid}") from None
        return lost_records(self.rings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process: 0 where every record was written, else 1."""
    parser = argparse.ArgumentParser(prog="python -m edgert.executive.writer", description="Write a run record from rings.")
    parser.add_argument("--dispatcher", type=int, required=True, help="process whose end ends the run")
    parser.add_argument("--overwrite", action="store_true", help="replace the run record that is there")
    parser.add_argument("--cores", default="", help="cores to run on, like 0,1")
    parser.add_argument("path", help="the run record")
    parser.add_argument("rings", type=int, nargs="+", help="file descriptors of the rings, the dispatcher's first")
    options = parser.parse_args(arguments)
    dispatcher = Dispatcher(options.dispatcher)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # disk work must not disturb what is in time
    if options.cores:
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    return 0 if Writer([Ring(fd) for fd in options.rings], options.path, options.overwrite).run(dispatcher) else 1


if __name__ == "__main__":
    sys.exit(main())

"""An interrupted sweep goes on where it was: nothing finished is lost or computed again, and the results are the same bit for bit."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from live_runs import _hear_signals

SWEEP = """
scenarios = ["made-up"]
policies = ["mandatory-only", "threshold:theta=tuned"]
seeds = 8
frames = 250
[tune]
frames = 50
"""
CELLS = 16  # and one tuning


class Sweep:
    """`edgert sweep` in the background, in a process group of its own, as from a terminal."""

    def __init__(self, folder, store, jobs):
        self.store = folder / store
        arguments = ["sweep", str(folder / "s.toml"), "-o", str(self.store), "--jobs", str(jobs), "--json"]
        self.process = subprocess.Popen([sys.executable, "-m", "edgert.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, start_new_session=True, preexec_fn=_hear_signals, cwd=folder,  # noqa: PLW1509
                                        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})

    def rows(self):
        """{key: the whole row} of what is on disk now."""
        try:
            db = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10)
            try:
                return {row[0]: row for row in db.execute("SELECT * FROM cells")}
            finally:
                db.close()
        except sqlite3.OperationalError:
            return {}

    def wait_rows(self, number):
        """Until that many results are on disk."""
        limit = time.monotonic() + 90
        while len(self.rows()) < number:
            assert self.process.poll() is None and time.monotonic() < limit, self.end()
            time.sleep(0.02)

    def end(self):
        """(stdout, stderr) when it has ended."""
        return self.process.communicate(timeout=120)

    def left(self):
        """Processes of its group."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, _, group = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(int(name))
        return found

    def assert_nothing_left(self):
        """No process stays behind for long."""
        limit = time.monotonic() + 30
        while self.left():
            assert time.monotonic() < limit, self.left()
            time.sleep(0.1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "s.toml").write_text(SWEEP)
    return tmp_path


def test_a_sweep_that_is_interrupted_and_killed_ends_with_the_same_results(folder):
    jobs = 2
    whole = Sweep(folder, "whole.db", 1)
    expected, told = whole.end()
    assert whole.process.returncode == 0 and f"{CELLS} cells: 0 were in" in told

    first = Sweep(folder, "parts.db", jobs)
    first.wait_rows(4)
    os.killpg(first.process.pid, signal.SIGINT)  # as Ctrl-C on a terminal: workers are told too
    out, told = first.end()
    kept = first.rows()
    assert first.process.returncode == 130 and out == "" and 4 <= len(kept) < CELLS
    assert told.startswith("edgert: interrupted; ") and f"of {CELLS} results are in {first.store}" in told and told.count("\n") == 1
    first.assert_nothing_left()

    second = Sweep(folder, "parts.db", jobs)
    second.wait_rows(len(kept) + 3)
    second.process.kill()  # as a power cut: nobody tidies up
    second.end()
    more = second.rows()
    assert second.process.returncode == -signal.SIGKILL and len(kept) + 3 <= len(more) < CELLS
    second.assert_nothing_left()

    third = Sweep(folder, "parts.db", jobs)
    out, told = third.end()
    assert third.process.returncode == 0 and out == expected
    finished = sum(row[1].endswith(":simulate") for row in more.values())  # the tuning is no cell of the file's
    assert told == f"{CELLS} cells: {finished} were in {third.store}, {CELLS - finished} computed\n"
    rows = third.rows()
    assert {key: rows[key] for key in more} == more and {key: more[key] for key in kept} == kept  # none computed again
    assert len(rows) == CELLS + 1
    again = Sweep(folder, "parts.db", jobs)
    assert again.end() == (expected, f"{CELLS} cells: {CELLS} were in {again.store}, 0 computed\n")
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("parts")) == ["parts.db"]


def test_a_sweep_that_is_terminated_keeps_what_it_has(folder):
    sweep = Sweep(folder, "r.db", 1)
    sweep.wait_rows(2)
    sweep.process.terminate()
    out, told = sweep.end()
    assert sweep.process.returncode == 143 and out == "" and told.startswith("edgert: interrupted; ")
    assert 2 <= len(sweep.rows()) < CELLS


@pytest.mark.slow
def test_two_sweeps_at_once_share_a_file_of_results(folder):
    both = [Sweep(folder, "r.db", 1) for _ in range(2)]
    (one, _), (other, _) = [sweep.end() for sweep in both]
    assert [sweep.process.returncode for sweep in both] == [0, 0] and one == other
    assert len(both[0].rows()) == CELLS + 1

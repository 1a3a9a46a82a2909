"""The run record and its writer process: nothing is lost in silence, whatever is killed or full."""

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from edgert.errors import RecordError, UsageError
from edgert.executive.writer import Dispatcher, WriterProcess
from edgert.results import record
from edgert.results.record import AssumptionRow, FrameRow, RecordWriter, RingRecorder, Run, StageRow
from edgert.results.ring import Ring
from imprecise.model import Action, Event

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
EVENTS = [Event("release", 5, stream=0, frame=1), Event("done", 5, job=3, stage=1, resource="cpu", unit=0, value=0.75)]
ACTIONS = [Action("start", job=4, stage=0, resource="fpga", unit=0), Action("wake", at_ns=1 << 60)]


def frame(number, **changes):
    row = FrameRow("front", number, number % 7, number, 10 * number, 10 * number + 1, 10 * number + 33, 10 * number + 5,
                   10 * number + 6, 2, "answered", 3, 3, 0.5, 0.875, 1)
    return row._replace(**changes)


def fill(writer, frames=10):
    writer.meta("kind", "live")
    writer.meta("streams", [{"name": "front", "period_ns": 33}])
    for number in range(frames):
        writer.frame(frame(number))
        writer.stage(StageRow(number, "toy/stage1", "cpu", 0, 10 * number, 10 * number + 4, "done", 0.5))
        writer.step(number, 10 * number, EVENTS, ACTIONS)
    writer.stall(17, 4, "witness")
    writer.assumption(AssumptionRow("wake", "the dispatcher wakes in time", 1000, 50, 1, 1700))
    writer.counter("overshoots", 1)
    writer.counter("overshoots", 2)


def check_filled(path, frames=10):
    with Run(path) as run:
        assert run.meta["kind"] == "live" and run.meta["streams"][0]["period_ns"] == 33
        assert run.frames["frame"].tolist() == list(range(frames))
        assert run.frames[3].item() == frame(3)
        assert run.stages["end_ns"].tolist() == [10 * n + 4 for n in range(frames)]
        assert [tuple(step) for step in run.replay()] == [(n, 10 * n, EVENTS, ACTIONS) for n in range(frames)]
        assert run.stalls[0].item() == (17, 4, "witness")
        assert run.assumptions[0]["worst_ns"] == 1700
        assert run.counters["overshoots"] == 2
        return run.counters


# RecordWriter and Run -------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_the_record_is_one_file(tmp_path):
    path = tmp_path / "r.db"
    with RecordWriter(path) as writer:
        fill(writer)
    check_filled(path)
    assert [p.name for p in tmp_path.iterdir()] == ["r.db"]
    assert Run(path).finished


def test_null_is_minus_one_or_nan_and_an_empty_table_keeps_its_columns(tmp_path):
    with RecordWriter(tmp_path / "r.db") as writer:
        writer.frame(frame(0, correct=None, confidence=None, status="missed", depth=-1))
    run = Run(tmp_path / "r.db")
    assert run.frames["correct"].tolist() == [-1]
    assert np.isnan(run.frames["confidence"]).all()
    assert len(run.stages) == 0 and run.stages["end_ns"].dtype == np.int64
    assert run.counters == {}


def test_a_record_can_be_read_while_it_is_written(tmp_path):
    writer = RecordWriter(tmp_path / "r.db")
    writer.frame(frame(0))
    writer.flush()
    with Run(tmp_path / "r.db") as run:
        assert len(run.frames) == 1 and not run.finished
    writer.frame(frame(1))
    writer.close()
    assert len(Run(tmp_path / "r.db").frames) == 2


def test_a_transaction_is_all_or_nothing(tmp_path):
    writer = RecordWriter(tmp_path / "r.db")
    with pytest.raises((sqlite3.Error, ValueError)):
        writer.write([(record.FRAME, tuple(frame(0))), (record.FRAME, (1, 2, 3))])
    writer.close()
    assert len(Run(tmp_path / "r.db").frames) == 0


@pytest.mark.parametrize("finished", [True, False])
def test_an_existing_run_is_not_replaced_unless_told(tmp_path, finished):
    path = tmp_path / "r.db"
    writer = RecordWriter(path)
    writer.frame(frame(0))
    writer.close(finished)
    with pytest.raises(UsageError, match=r"finish.*--overwrite"):
        RecordWriter(path)
    assert len(Run(path).frames) == 1
    RecordWriter(path, overwrite=True).close()
    assert len(Run(path).frames) == 0


def test_a_file_that_is_no_run_record_is_never_replaced(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(UsageError, match="no run record"):
        RecordWriter(path, overwrite=True)
    assert path.read_text() == "years of work"


def test_an_empty_file_may_be_replaced(tmp_path):
    (tmp_path / "r.db").touch()
    RecordWriter(tmp_path / "r.db").close()
    assert Run(tmp_path / "r.db").finished


@pytest.mark.parametrize("killed", [False, True])
def test_a_record_that_may_only_be_read_is_read(killed):
    drop = "os.setuid(65534)" if os.geteuid() == 0 else ""  # root may write anywhere, so become somebody else
    code = f"import os, sys\nfrom edgert.results.record import Run\n{drop}\nprint(len(Run(sys.argv[1]).frames))"
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        path = Path(name) / "r.db"
        writer = RecordWriter(path)
        writer.frame(frame(0))
        writer.flush()
        if killed:
            for suffix in ("", "-wal", "-shm"):
                shutil.copy(f"{path}{suffix}", Path(name) / f"copy.db{suffix}")
        writer.close()
        target = Path(name) / "copy.db" if killed else path
        os.chmod(name, 0o555)
        out = subprocess.run([sys.executable, "-c", code, str(target)], env=ENV, capture_output=True, text=True, check=False)
        os.chmod(name, 0o755)
        assert out.stdout.strip() == "1", out.stderr


def damaged(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "overwritten":
        data[4096:] = b"\xa5" * (len(data) - 4096)
        path.write_bytes(data)
    elif how == "header":
        data[16:100] = b"\xff" * 84
        path.write_bytes(data)
    elif how == "text":
        path.write_text("a,b,c\n" * 1000)
    elif how == "foreign":
        path.unlink()
        db = sqlite3.connect(path)
        db.execute("create table t (x)")
        db.commit()
        db.close()
    else:
        db = sqlite3.connect(path)
        db.execute(how)
        db.commit()
        db.close()


@pytest.mark.parametrize("how", [
    "truncated", "empty", "overwritten", "header", "text", "foreign", "update meta set value = '2' where key = 'format'",
    "update meta set value = '{' where key = 'kind'", "delete from meta", "update frames set release_ns = 'soon'",
    "update frames set status = x'00'", "alter table frames drop column depth", "drop table stages"])
def test_a_damaged_or_foreign_file_is_a_one_line_error(tmp_path, how):
    path = tmp_path / "r.db"
    with RecordWriter(path) as writer:
        fill(writer, 200)
    damaged(path, how)
    with pytest.raises(RecordError) as error:
        run = Run(path)
        for table in record.TABLES:
            run.table(table)
        list(run.replay())
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_a_missing_record_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(UsageError, match="edgert run"):
        Run(tmp_path / "none.db")


@pytest.mark.parametrize("seed", range(4))
def test_a_record_whose_writer_was_killed_is_read_to_its_last_batch(tmp_path, seed):
    code = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[2])
        from test_record import RecordWriter, frame
        writer = RecordWriter(sys.argv[1])
        for number in range(10**9):
            writer.frame(frame(number))
            if number % 50 == 49:
                writer.flush()
                print(number + 1, flush=True)
    """)
    path = tmp_path / "r.db"
    child = subprocess.Popen([sys.executable, "-c", code, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE, env=ENV)
    assert int(child.stdout.readline()) == 50
    time.sleep(random.Random(seed).uniform(0, 0.2))
    child.kill()
    child.wait()
    said = [50, *map(int, child.stdout.read().split())]
    with Run(path) as run:
        numbers = run.frames["frame"].tolist()
        assert numbers == list(range(len(numbers)))
        assert said[-1] <= len(numbers) <= said[-1] + 50
        assert not run.finished


# The writer process ---------------------------------------------------------------------------------------------------


def test_what_goes_through_the_rings_is_what_is_read(tmp_path):
    with Ring.create(1 << 16) as ring, Ring.create(1 << 12) as witness:
        writer = WriterProcess([ring, witness], tmp_path / "r.db")
        fill(RingRecorder(ring))
        RingRecorder(witness).stall(99, 5, "witness")
        assert sum(writer.finish().values()) == 0
    counters = check_filled(tmp_path / "r.db")
    assert counters["records_lost"] == 0 and counters["records_lost_frames"] == 0
    with Run(tmp_path / "r.db") as run:
        assert run.finished and len(run.stalls) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["r.db"]


DISPATCHER = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[3])
    from test_record import *
    ring = Ring.create(1 << 15)
    writer = WriterProcess([ring], sys.argv[1])
    print(writer.pid, flush=True)
    out = RingRecorder(ring)
    for number in range(10**9):
        if ring.put(record.FRAME, tuple(frame(number))):
            print(number, flush=True)
        else:
            time.sleep(0.005)
        if number >= int(sys.argv[2]):
            os.killpg(0, signal.SIGKILL)
""")


@pytest.mark.parametrize("last", [0, 1, 777])
def test_everything_put_before_the_dispatcher_and_its_group_were_killed_is_written(tmp_path, last):
    path = tmp_path / "r.db"
    child = subprocess.Popen([sys.executable, "-c", DISPATCHER, str(path), str(last), str(Path(__file__).parent)],
                             stdout=subprocess.PIPE, env=ENV, start_new_session=True)
    pid, *put = map(int, child.stdout.read().split())
    assert child.wait() == -signal.SIGKILL
    wait_gone(pid)
    with Run(path) as run:
        assert run.frames["frame"].tolist() == put and put
        assert not run.finished
        assert run.counters["records_lost_frames"] == last + 1 - len(put)


def wait_gone(pid, seconds=20):
    dispatcher = Dispatcher(pid)
    end = time.monotonic() + seconds
    while dispatcher.alive():
        assert time.monotonic() < end, f"process {pid} stays behind"
        time.sleep(0.01)


def test_the_writer_ignores_the_signals_that_end_a_run(tmp_path):
    with Ring.create(1 << 16) as ring:
        writer = WriterProcess([ring], tmp_path / "r.db")
        while not (tmp_path / "r.db").exists():
            time.sleep(0.01)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(writer.pid, number)
        RingRecorder(ring).frame(frame(0))
        assert writer.finish() and writer.restarts == 0
    assert len(Run(tmp_path / "r.db").frames) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_killed_and_started_again_loses_and_repeats_nothing(tmp_path, seed):
    rng = random.Random(seed)
    with Ring.create(1 << 20) as ring:
        writer = WriterProcess([ring], tmp_path / "r.db")
        number = 0
        for _ in range(4):
            end = time.monotonic() + rng.uniform(0.05, 0.4)
            while time.monotonic() < end:
                assert ring.put(record.FRAME, tuple(frame(number)))
                number += 1
                time.sleep(0.0005)
            os.kill(writer.pid, signal.SIGKILL)
            while writer.alive():
                time.sleep(0.001)
            writer.restart()
        writer.finish()
        assert writer.restarts == 4
    with Run(tmp_path / "r.db") as run:
        assert run.frames["frame"].tolist() == list(range(number))
        assert run.finished and run.counters["records_lost"] == 0


def test_a_dead_writer_is_found_out_at_the_end(tmp_path):
    with Ring.create(1 << 16) as ring:
        writer = WriterProcess([ring], tmp_path / "r.db")
        os.kill(writer.pid, signal.SIGKILL)
        fill(RingRecorder(ring))
        assert sum(writer.finish().values()) == 0 and writer.restarts == 1
    check_filled(tmp_path / "r.db")


def test_a_restarted_writer_does_not_go_on_with_another_runs_record(tmp_path):
    with RecordWriter(tmp_path / "r.db", token=5) as writer:
        writer.frame(frame(0))
    with pytest.raises(UsageError):
        RecordWriter(tmp_path / "r.db", token=6)
    RecordWriter(tmp_path / "r.db", token=5).close()
    assert len(Run(tmp_path / "r.db").frames) == 1


@pytest.mark.parametrize("limit", [1_600_000, 2_000_000, 3_000_000])
def test_with_a_full_disk_what_is_lost_is_counted_exactly(tmp_path, limit):
    path = tmp_path / "r.db"
    put = {"frames": 0, "stages": 0}
    with Ring.create(1 << 17) as ring:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            writer = WriterProcess([ring], path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        out = RingRecorder(ring)
        for number in range(12000):
            out.frame(frame(number))
            put["frames"] += 1
            if number % 3 == 0:
                out.stage(StageRow(number, "toy/stage1", "cpu", 0, 1, 2, "done", 0.5))
                put["stages"] += 1
            if number % 100 == 0:
                time.sleep(0.002)
        lost = writer.finish()
    with Run(path) as run:
        assert run.finished
        assert lost["frames"] > 0 and len(run.frames) > 0
        assert len(run.frames) + lost["frames"] == put["frames"]
        assert len(run.stages) + lost["stages"] == put["stages"]
        assert {name: run.counters[f"records_lost_{name}"] for name in lost} == lost
        assert run.counters["records_lost"] == sum(lost.values())
        assert len(set(run.frames["frame"].tolist())) == len(run.frames)


def test_an_unwritable_path_loses_everything_and_counts_it(tmp_path, capfd):
    with Ring.create(1 << 16) as ring:
        writer = WriterProcess([ring], tmp_path / "missing" / "r.db")
        for number in range(5):
            RingRecorder(ring).frame(frame(number))
        lost = writer.finish()
    assert lost["frames"] == 5
    said = capfd.readouterr().err
    assert "cannot be written" in said and "5 records were lost: 5 frames" in said and "Traceback" not in said


def test_an_existing_run_is_refused_before_anything_starts(tmp_path):
    RecordWriter(tmp_path / "r.db").close()
    with Ring.create(1 << 16) as ring, pytest.raises(UsageError):
        WriterProcess([ring], tmp_path / "r.db")


@pytest.mark.parametrize("fields", [(1, 2, 3), (np.int64(1),) * 16, ("front", 1 << 70) + (0,) * 14, ([],) * 16])
def test_a_record_that_no_table_takes_is_counted_and_the_rest_is_written(tmp_path, fields, capfd):
    with Ring.create(1 << 16) as ring:
        writer = WriterProcess([ring], tmp_path / "r.db")
        ring.put(record.FRAME, tuple(frame(0)))
        ring.put(record.FRAME, fields)
        ring.put(record.FRAME, tuple(frame(2)))
        assert writer.finish()["frames"] == 1
    assert Run(tmp_path / "r.db").frames["frame"].tolist() == [0, 2]
    assert "refused" in capfd.readouterr().err


def test_a_damaged_ring_does_not_hold_the_writer_up(tmp_path, capfd):
    with Ring.create(1 << 16) as ring:
        ring.put(record.FRAME, tuple(frame(0)))
        begin = ring._next
        ring.put(record.FRAME, tuple(frame(1)))
        ring._memory[4096 + begin + 30] ^= 1
        writer = WriterProcess([ring], tmp_path / "r.db")
        writer.finish()
    with Run(tmp_path / "r.db") as run:
        assert run.frames["frame"].tolist() == [0]
        assert run.counters["ring_bytes_damaged"] > 0
    assert "damaged" in capfd.readouterr().err


def test_meta_is_json(tmp_path):
    with RecordWriter(tmp_path / "r.db") as writer:
        writer.meta("argv", ["edgert", "run"])
    db = sqlite3.connect(tmp_path / "r.db")
    assert json.loads(db.execute("select value from meta where key = 'argv'").fetchone()[0]) == ["edgert", "run"]

"""A worker that dies or hangs costs the stage it ran, never an answer that was there, and is replaced."""

import os
import signal
import time

import pytest
from live_runs import PATIENCE_S, Live, check_record

from edgert.errors import EdgertError
from edgert.executive.pool import Pool
from edgert.results.record import Run


def _refined_after(record, at_ns):
    with Run(record) as run:
        frames = run.frames
        return int(((frames["depth"] >= 1) & (frames["release_ns"] > at_ns)).sum())


def _wait_refined(live, at_ns, number=5):
    end = time.monotonic() + PATIENCE_S
    while _refined_after(live.record, at_ns) < number:
        assert time.monotonic() < end and live.process.poll() is None
        time.sleep(0.05)


def test_killed_workers_are_replaced_and_their_frames_answered(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60") as live:
        live.wait_frames(20)
        for _ in range(4):
            os.kill(live.worker(), signal.SIGKILL)
            _wait_refined(live, time.monotonic_ns())
        assert live.finish(signal.SIGTERM) == 0, live.err
        check_record(live.record)
        with Run(live.record) as run:
            assert run.counters["worker_restarts"] == 4
            assert (run.events["kind"] == "back").sum() == 4
            # a frame whose refinement was cut off is published with the answer it had
            lost = set(run.stages["job"][run.stages["status"] == "abandoned"].tolist())
            kept = [row for row in run.frames if row["job"] in lost and 0 <= row["completed_ns"] <= row["deadline_ns"]]
            assert len(kept) <= len(lost) and all(row["status"] == "answered" for row in kept)
        live.assert_nothing_left()


def test_a_worker_that_hangs_is_given_up_and_replaced(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60") as live:
        live.wait_frames(20)
        stopped = live.worker()
        os.kill(stopped, signal.SIGSTOP)
        _wait_refined(live, time.monotonic_ns() + 500_000_000)
        assert stopped not in live.helpers()["worker"]
        assert live.finish(signal.SIGTERM) == 0, live.err
        check_record(live.record)
        with Run(live.record) as run:
            assert run.counters["worker_restarts"] == 1
            assert (run.stages["status"] == "abandoned").sum() == 1
            kinds = run.events["kind"].tolist()
            assert kinds.count("abandoned") == 1 and kinds.count("back") == 1


def test_without_the_nursery_the_mandatory_answers_go_on(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60") as live:
        live.wait_frames(20)
        at_ns = time.monotonic_ns()
        os.kill(live.helpers()["nursery"][0], signal.SIGKILL)
        live.wait_frames(live.frames() + 40)
        assert not live.helpers()["worker"]
        assert live.finish(signal.SIGTERM) == 0, live.err
        check_record(live.record)
        with Run(live.record) as run:
            later = run.frames[run.frames["release_ns"] > at_ns + 100_000_000]
            assert (later["depth"] <= 0).all() and (later["status"] == "answered").sum() > 0
        live.assert_nothing_left()


def test_a_worker_that_dies_as_it_starts_is_told_at_once(tmp_path, monkeypatch):
    fake = tmp_path / "ai_edge_litert"
    fake.mkdir()
    (fake / "__init__.py").write_text("")
    (fake / "interpreter.py").write_text("import os\nclass Interpreter:\n    def __init__(self, **_):\n        os.abort()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = Pool([("stage1", b"")], (2, 2, 1), 3, [[min(os.sched_getaffinity(0))]])
    with pytest.raises(EdgertError, match=f"signal {signal.SIGABRT.value}"):
        pool.start()

"""However a run ends, frames in hand are finished, the record adds up and replays, and no process stays behind."""

import signal

import pytest
from live_runs import Live, check_record

from edgert.results.record import Run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_frames_in_hand_and_closes_the_record(bundle, tmp_path, number, code):
    with Live(bundle, tmp_path / "run.db", "--rate", "60", "--duration", "60s") as live:
        live.wait_frames(30)
        assert all(len(pids) == 1 for pids in live.helpers().values()), live.helpers()
        assert live.finish(number) == code, live.err
        summary = live.summary()
        counts = check_record(live.record)
        assert summary["all"]["captured"] == sum(counts.values())
        live.assert_nothing_left()


def test_without_a_duration_stopping_is_the_ordinary_end(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60") as live:
        live.wait_frames(10)
        assert live.finish(signal.SIGHUP) == 0, live.err
        check_record(live.record)


def test_a_killed_run_leaves_a_record_up_to_the_last_finished_frame_and_no_process(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60", "--cpus", "2") as live:
        live.wait_frames(30)
        assert len(live.helpers()["worker"]) == 2
        before = live.frames()
        assert live.finish(signal.SIGKILL) == -signal.SIGKILL
        live.assert_nothing_left()
        check_record(live.record, finished=False)
        with Run(live.record) as run:
            frames = run.frames
            assert len(frames) >= before
            closed = {row["job"] for row in run.actions if row["kind"] in ("publish", "miss")}
            assert closed == set(frames["job"].tolist())  # every answer that went out before the kill is there


def test_a_run_of_given_duration_takes_every_frame_of_it(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "50", "--duration", "1s") as live:
        assert live.finish() == 0, live.err
        assert sum(check_record(live.record).values()) == 50
        live.assert_nothing_left()

"""A record that cannot be made stops the run before it starts; one that cannot be written to the end does not stop it."""

import os
import re
import resource
import signal
import subprocess
from pathlib import Path

from live_runs import PATIENCE_S, Live, check_record, command

from edgert.results.record import Run


def _refused(bundle, record):
    result = subprocess.run(command(bundle, "--record", record, "--duration", "1s"), capture_output=True, text=True, timeout=PATIENCE_S,
                            check=False)
    assert result.returncode == 2, result.stderr
    assert result.stdout == "" and len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


def test_a_record_in_a_place_that_is_no_directory_is_refused_before_the_start(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in _refused(bundle, tmp_path / "file" / "run.db")
    assert "cannot be written" in _refused(bundle, tmp_path)


def test_a_record_in_a_directory_without_permission_is_refused(bundle, tmp_path):
    tmp_path.chmod(0o500)
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path  # root may write anywhere else
    assert "cannot be written" in _refused(bundle, folder / "run.db")


def test_another_file_is_not_replaced(bundle, tmp_path):
    (tmp_path / "run.db").write_text("precious")
    assert "is no run record" in _refused(bundle, tmp_path / "run.db")
    assert (tmp_path / "run.db").read_text() == "precious"


def test_when_the_disk_is_full_the_run_goes_on_and_counts_what_is_lost(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "800", "--duration", "2s", policy="mandatory-only") as live:
        live.wait_frames(20)
        (writer,) = live.helpers()["writer"]
        # a file size limit stands for the disk: a megabyte is kept free for the counters, so hardly a frame fits
        room = sum(p.stat().st_size for p in Path(tmp_path).glob("run.db*")) + (1 << 20) + 200_000
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (room, room))
        assert live.finish() == 0, live.err
        said = {name: int(n) for n, name in re.findall(r"(\d+) (frames|steps|stages)", live.err.splitlines()[-1])}
        captured = {name: int(n) for n, name in re.findall(r"(\d+) (captured|answered|missed|dropped)", live.err)}
        assert captured["captured"] == captured["answered"] + captured["missed"] + captured["dropped"] == 1600
        with Run(live.record) as run:
            assert run.finished
            assert said["frames"] > 0
            assert len(run.frames) + said["frames"] == captured["captured"]
            assert run.counters["records_lost_frames"] == said["frames"]
            assert run.counters["records_lost_steps"] == said["steps"]
            assert run.counters["records_lost"] >= said["frames"] + said["steps"]
        live.assert_nothing_left()


def test_a_killed_writer_is_started_again_and_nothing_is_lost(bundle, tmp_path):
    with Live(bundle, tmp_path / "run.db", "--rate", "60", "--duration", "3s") as live:
        live.wait_frames(20)
        (writer,) = live.helpers()["writer"]
        os.kill(writer, signal.SIGKILL)
        assert live.finish() == 0, live.err
        assert sum(check_record(live.record).values()) == 180
        live.assert_nothing_left()

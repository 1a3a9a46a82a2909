"""An accelerator that fails: one failure is tried again; then the stand-by takes over; the first one is reset in a gap."""

import signal
import time
from pathlib import Path

import pytest
from live_runs import PATIENCE_S, Live, check_record

from edgert.results.record import Run

MODULE = '''
import os
from pathlib import Path
from edgert.accelerators import numpy_kernel
from edgert.errors import AcceleratorError, AcceleratorTimeout

FAULTS = Path(os.environ.get("FAULT_FILE", "/nonexistent"))  # holds how many more calls fail

class Faulty(numpy_kernel.NumpyAccelerator):
    name = "faulty"
    rank = 0

    def open(self, bundle):
        super().open(bundle)
        if os.environ.get("FAULT_HEALS") and FAULTS.exists():
            FAULTS.unlink()

    def infer(self, frame, deadline_ns):
        if FAULTS.exists():
            left = int(FAULTS.read_text())
            if left > 0:
                FAULTS.write_text(str(left - 1))
                raise (AcceleratorTimeout if os.environ.get("FAULT_TIMEOUT") else AcceleratorError)("injected")
        return super().infer(frame, deadline_ns)
'''


@pytest.fixture(scope="session")
def faulty(tmp_path_factory):
    """A directory with an installed package that adds the accelerator `faulty`."""
    root = tmp_path_factory.mktemp("faulty")
    (root / "faulty_accelerator.py").write_text(MODULE)
    info = root / "faulty_accelerator-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-accelerator\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgert.accelerators]\nfaulty = faulty_accelerator:Faulty\n")
    return str(root)


def _inject(path: Path, number: int) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(str(number))
    fresh.rename(path)


def _run(bundle, faulty, tmp_path, number, until, **environment):
    """Let `number` calls fail in the middle of a run, wait for the counter `until`, and 20 frames more; counters and frames."""
    faults = tmp_path / "faults"
    with Live(bundle, tmp_path / "run.db", "--rate", "50", "--accelerator", "faulty", extra_path=faulty, FAULT_FILE=str(faults),
              **environment) as live:
        live.wait_frames(10)
        _inject(faults, number)
        end = time.monotonic() + PATIENCE_S
        while not _counter(live.record, until):
            assert time.monotonic() < end and live.process.poll() is None, until
            time.sleep(0.1)
        live.wait_frames(live.frames() + 20)
        assert live.finish(signal.SIGTERM) == 0, live.err
        check_record(live.record)
        live.assert_nothing_left()
    with Run(live.record) as run:
        return run.counters, run.frames, run.stages, run.events


def _counter(record, name):
    with Run(record) as run:
        return run.counters.get(name, 0)


def _answered(frames, jobs):
    return [frames["status"][frames["job"] == job][0] for job in jobs]


def test_one_failure_is_tried_again_and_its_frame_is_answered(bundle, faulty, tmp_path):
    counters, frames, stages, _ = _run(bundle, faulty, tmp_path, 1, "accelerator_errors")
    assert (counters["accelerator_errors"], counters["accelerator_takeovers"]) == (1, 0)
    failed = stages["job"][stages["status"] == "failed"]
    assert len(failed) == 1 and _answered(frames, failed) == ["answered"]


@pytest.mark.parametrize("environment", [{}, {"FAULT_TIMEOUT": "1"}], ids=["error", "timeout"])
def test_one_that_keeps_failing_is_replaced_at_once_by_the_stand_by(bundle, faulty, tmp_path, environment):
    counters, frames, stages, events = _run(bundle, faulty, tmp_path, 10**6, "accelerator_takeovers", **environment)
    tries = 1 if environment else 2
    assert counters["accelerator_takeovers"] == 1
    assert counters["accelerator_errors"] >= tries
    failed = stages["job"][stages["status"] == "failed"]
    assert len(failed) == tries and len(set(failed.tolist())) == 1
    assert _answered(frames, failed[:1]) == ["answered"]  # in time, by the stand-by
    assert [kind for kind in events["kind"].tolist() if kind in ("lost", "back")] == ["lost", "back"]


def test_a_reset_that_helps_brings_the_first_one_back(bundle, faulty, tmp_path):
    counters, _, _, _ = _run(bundle, faulty, tmp_path, 10**6, "accelerator_resets", FAULT_HEALS="1")
    assert counters["accelerator_resets"] >= 1 and counters["accelerator_takeovers"] == 1
    assert counters["accelerator_failed_resets"] == 0

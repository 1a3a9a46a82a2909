"""A whole run on the board's driver while its fabric hangs: every frame is answered, by the stand-by where need be."""

import signal
import time

import pytest
from live_runs import PATIENCE_S, Live, check_record

from edgert.results.record import Run

MODULE = '''
import os, tempfile
from pathlib import Path
import driver_bench as bench
from edgert.accelerators import base
from edgert.accelerators._promise import Promise
from edgert.accelerators.pynq import PynqAccelerator

FAULTS = Path(os.environ["FAULT_FILE"])  # its content: the fault to inject; it is taken away

class Fabric(PynqAccelerator):
    """The board's driver on a fake shell; slower than hardware, which its worst case says."""

    name = "fabric"
    rank = 0

    def system(self, bundle):
        if not hasattr(self, "_bench"):
            self._bench = bench.Board(bench.shell(bundle))
            self._root = bench.bitstreams(Path(tempfile.mkdtemp(dir=FAULTS.parent)), bundle)
        return self._bench

    def places(self, bundle):
        return [self._root]

    def infer(self, frame, deadline_ns):
        if FAULTS.exists():
            fault = FAULTS.read_text()
            FAULTS.unlink()
            if fault == "lost":
                self._bench.state = "write"
            else:
                setattr(self._bench.model, fault, 1)
        return super().infer(frame, deadline_ns)

    def wcet_ns(self):
        return 60_000_000, "made up, for a simulation in Python"
'''


@pytest.fixture(scope="session")
def fabric(tmp_path_factory):
    """A directory with an installed package that adds the accelerator `fabric`."""
    root = tmp_path_factory.mktemp("fabric")
    (root / "fabric_accelerator.py").write_text(MODULE)
    info = root / "fabric_accelerator-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fabric-accelerator\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgert.accelerators]\nfabric = fabric_accelerator:Fabric\n")
    return str(root)


@pytest.mark.parametrize("fault", ["core_hangs", *(pytest.param(name, marks=pytest.mark.slow) for name in ("inject", "lost"))])
def test_a_fabric_that_fails_costs_no_frame_where_the_fallback_was_admitted(bundle, fabric, tmp_path, fault):
    faults = tmp_path / "faults"
    with Live(bundle, tmp_path / "run.db", "--rate", "4", "--deadline", "240ms", "--accelerator", "fabric", extra_path=fabric,
              FAULT_FILE=str(faults)) as live:
        live.wait_frames(4)
        for _ in range(2 if fault == "inject" else 1):  # one error is tried again
            faults.with_suffix(".new").write_text(fault)
            faults.with_suffix(".new").rename(faults)
            end = time.monotonic() + PATIENCE_S
            while faults.exists():
                assert time.monotonic() < end and live.process.poll() is None
                time.sleep(0.02)
            live.wait_frames(live.frames() + 2)  # the next fault does not meet the second try
        live.wait_frames(live.frames() + 6)
        live.finish(signal.SIGTERM)
        check_record(live.record)
    assert "a frame that fails included" in live.err and "the last: " in live.err
    with Run(live.record) as run:
        failed = run.stages["job"][run.stages["status"] == "failed"]
        statuses = [run.frames["status"][run.frames["job"] == job][0] for job in failed]
        assert len(failed) >= 1 and (set(statuses) == {"answered"} or len(run.stalls))
        assert run.counters["accelerator_errors"] == len(failed)
        assert run.counters["accelerator_takeovers"] == (0 if fault == "inject" else 1)

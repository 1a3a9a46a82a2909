"""Why a frame was missed: each cause on a record made so that it is the one."""

import sqlite3

import numpy as np
import pytest

import run_records
from edgert.cli import main
from edgert.results import causes, view

MS = run_records.MS


def one(path, stages=(), stalls=(), arrival_ns=0, status="missed", policy="monolithic", kind="simulated", source="dataset:toy", others=()):
    """A record of one 33 ms frame (job 0) captured at 100 ms, with the given stages; `others` belong to job 1. Returns its cause."""
    run_records.make(path, policy, streams=1, seconds=0.05, kind=kind)
    db = sqlite3.connect(path)
    for table in ("frames", "stages", "stalls"):
        db.execute(f"delete from {table}")
    start = 100 * MS
    for frame, job in ((0, 0), (1, 1)):
        row = (frame, 0, job, start, start + arrival_ns, start + 33 * MS, None, None, -1, status if job == 0 else "answered", 3, -1, 0,
               0, 0)
        db.execute("insert into frames values ('cam0',?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
    for job, rows in ((0, stages), (1, others)):
        for name, resource, a, b, state in rows:
            db.execute("insert into stages values (?,?,?,0,?,?,?,0.5)", (job, f"toy/{name}", resource, start + int(a * MS),
                                                                         start + int(b * MS), state))
    for at, late, who in stalls:
        db.execute("insert into stalls values (?,?,?)", (start + int(at * MS), int(late * MS), who))
    text = db.execute("select value from meta where key = 'streams'").fetchone()[0].replace("dataset:toy", source)
    db.execute("update meta set value = ? where key = 'streams'", (text,))
    db.commit()
    db.close()
    (found,) = [c for c in causes.causes(view.read(path)) if c.frame == 0]
    return found


FINE = [("mandatory", "fpga", 0, 1, "done"), ("stage1", "cpu", 1, 2, "done")]


def test_a_wait_for_a_busy_resource_is_queueing_and_says_for_what(tmp_path):
    found = one(tmp_path / "r.db", FINE, others=[("stage2", "cpu", 2, 40, "done")])
    assert found.cause == "queueing"
    assert "stage2 waited 31 ms for cpu" in found.evidence


def test_a_wait_with_nothing_in_its_way_is_unknown(tmp_path):
    assert one(tmp_path / "r.db", FINE).cause == "unknown"


def test_a_stall_seen_by_the_witness_is_the_cause_where_it_took_most_of_the_time(tmp_path):
    found = one(tmp_path / "r.db", FINE, stalls=[(30, 28, "witness")])
    assert found.cause == "machine_stall"
    assert "witness woke up 28 ms late" in found.evidence


def test_a_stall_outside_the_frames_window_explains_nothing(tmp_path):
    assert one(tmp_path / "r.db", FINE, stalls=[(-1, 30, "witness"), (70, 30, "witness")]).cause == "unknown"


def test_a_late_dispatcher_is_evidence_only_where_the_witness_was_late_too(tmp_path):
    alone = one(tmp_path / "a.db", FINE, stalls=[(30, 28, "dispatcher")])
    assert alone.cause == "unknown"
    assert "the dispatcher woke up 28 ms late, which the witness did not see" in alone.evidence
    assert one(tmp_path / "b.db", FINE, stalls=[(30, 28, "dispatcher"), (29, 2, "witness")]).cause == "machine_stall"


def test_a_short_stall_is_no_excuse_for_an_overload(tmp_path):
    found = one(tmp_path / "r.db", FINE, stalls=[(12, 2, "witness")], others=[("stage2", "cpu", 2, 40, "done")])
    assert found.cause == "queueing"
    assert "machine stall 2 ms" in found.evidence


def test_a_failing_accelerator_is_named(tmp_path):
    found = one(tmp_path / "r.db", [("mandatory", "fpga", 0, 20, "failed"), ("mandatory", "fpga", 20, 35, "failed")], policy="fifo-gated")
    assert found.cause == "accelerator"
    assert "failed on fpga" in found.evidence


BROKEN = """
[resources]
fpga = 1
[[stream]]
name = "camera"
rate = 30
[[stream.stage]]
name = "first"
resource = "fpga"
mandatory = true
time = "1ms"
[stream.outcomes]
accuracy = [0.9]
[[fault]]
stage = "first"
kind = "crash"
share = 0.6
"""
QUICK = [("mandatory", "fpga", 0.1 * i, 0.1 * i + 0.05, "failed") for i in range(3)]


def test_three_quick_failures_are_the_accelerators_for_nothing_is_tried_again(tmp_path):
    found = one(tmp_path / "a.db", QUICK, policy="fifo-gated")
    assert found.cause == "accelerator" and sum(found.parts_ns.values()) == 33 * MS
    assert "toy/mandatory failed 3 times on fpga, in 150 us, and was not tried again" in found.evidence
    again = one(tmp_path / "b.db", QUICK, policy="fifo-gated", others=[("mandatory", "fpga", 0.4, 33, "done")])
    assert again.cause == "accelerator"  # however busy it is with others: nothing was waiting any more


def test_two_quick_failures_explain_no_long_wait_and_neither_do_those_of_other_frames(tmp_path):
    assert one(tmp_path / "a.db", QUICK[:2], policy="fifo-gated").cause == "unknown"
    assert one(tmp_path / "b.db", QUICK[:2], policy="fifo-gated", others=QUICK).cause == "unknown"


def test_a_mandatory_stage_that_fails_three_times_on_a_cpu_is_no_fault_of_the_accelerator(tmp_path):
    found = one(tmp_path / "r.db", [("mandatory", "cpu", *rest) for _, _, *rest in QUICK], policy="fifo-gated")
    assert found.cause == "overrun" and "failed 3 times on cpu" in found.evidence


def test_every_miss_of_a_simulated_accelerator_that_always_fails_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken.toml").write_text(BROKEN)
    monkeypatch.setattr("sys.argv", ["edgert", "simulate", str(tmp_path / "broken.toml"), "--policy", "fifo-gated", "--frames", "300",
                                     "--record", str(tmp_path / "r.db")])
    with pytest.raises(SystemExit):
        main()
    found = causes.count(causes.causes(view.read(tmp_path / "r.db")))
    assert found["accelerator"] == sum(found.values()) > 20


def test_an_accelerator_beyond_its_worst_case_is_the_accelerator_and_not_an_overrun(tmp_path):
    assert one(tmp_path / "r.db", [("mandatory", "fpga", 0, 40, "late")], policy="fifo-gated").cause == "accelerator"


def test_a_stage_longer_than_typical_is_an_overrun(tmp_path):
    found = one(tmp_path / "r.db", [*FINE, ("stage2", "cpu", 2, 60, "late")])
    assert found.cause == "overrun"
    assert "typical 11 ms" in found.evidence


def test_a_stage_hit_by_a_stall_is_a_stall_and_no_overrun(tmp_path):
    assert one(tmp_path / "r.db", [*FINE, ("stage2", "cpu", 2, 60, "late")], stalls=[(50, 46, "witness")]).cause == "machine_stall"


def test_a_late_video_is_the_source_but_a_late_data_set_is_the_dispatcher_and_unknown(tmp_path):
    assert one(tmp_path / "a.db", arrival_ns=32 * MS, kind="live", source="video:street.mp4").cause == "source"
    assert one(tmp_path / "b.db", arrival_ns=32 * MS, kind="live").cause == "unknown"


def test_a_dropped_frame_is_the_sources(tmp_path):
    found = one(tmp_path / "r.db", status="dropped")
    assert (found.cause, found.status) == ("source", "dropped")


def test_an_answer_that_was_ready_but_not_published_blames_only_what_held_up_its_publication(tmp_path):
    ready = [("mandatory", "fpga", 10, 11, "done")]
    busy = [("mandatory", "fpga", 0, 10, "done")]
    stalled = one(tmp_path / "a.db", ready, stalls=[(40, 10, "witness")], policy="fifo-gated", others=busy)
    assert stalled.cause == "machine_stall"
    assert "ready 22 ms before its deadline" in stalled.evidence
    assert one(tmp_path / "b.db", ready, policy="fifo-gated", others=busy).cause == "unknown"


def test_the_parts_of_every_miss_sum_to_its_deadline_exactly(tmp_path):
    found = causes.causes(view.read(run_records.make(tmp_path / "r.db", "monolithic", streams=7, seconds=1.0, stall=(300 * MS, 50 * MS))))
    assert len(found) > 50
    assert {sum(c.parts_ns.values()) - (c.deadline_ns - c.release_ns) for c in found} == {0}
    assert all(part >= 0 for c in found for part in c.parts_ns.values())


def test_overload_of_a_monolithic_network_is_queueing_and_a_stall_under_a_split_policy_is_a_stall(tmp_path):
    mono = causes.count(causes.causes(view.read(run_records.make(tmp_path / "m.db", "monolithic", streams=6, seconds=1.0))))
    assert mono["queueing"] == sum(mono.values()) > 50
    stalled = run_records.make(tmp_path / "s.db", "fifo-gated", seconds=1.0, stall=(300 * MS, 60 * MS))
    split = causes.count(causes.causes(view.read(stalled)))
    assert split["machine_stall"] == sum(split.values()) > 0


def test_a_miss_says_whether_an_assumption_was_violated_in_its_time(tmp_path):
    ready = [("mandatory", "fpga", 0, 1, "done")]
    assert not one(tmp_path / "a.db", ready, policy="fifo-gated").assumption_violated
    assert one(tmp_path / "b.db", ready, stalls=[(34, 2, "dispatcher")], policy="fifo-gated").assumption_violated
    assert not one(tmp_path / "c.db", ready, stalls=[(60, 2, "witness")], policy="fifo-gated").assumption_violated
    assert one(tmp_path / "d.db", ready, policy="fifo-gated", others=[("mandatory", "fpga", -9, -1, "done")]).assumption_violated
    assert not one(tmp_path / "e.db", ready, policy="fifo-gated", others=[("mandatory", "fpga", -3, -1, "done")]).assumption_violated


def test_unknown_comes_first(tmp_path):
    path = run_records.make(tmp_path / "r.db", "monolithic", streams=6, seconds=0.5)
    db = sqlite3.connect(path)
    job = db.execute("select job from frames where status = 'missed' order by release_ns desc limit 1").fetchone()[0]
    db.execute("delete from stages where job = ?", (job,))
    db.execute("update stages set start_ns = 0, end_ns = 1")  # nothing was busy any more
    db.commit()
    db.close()
    found = causes.causes(view.read(path))
    assert found[0].cause == "unknown"
    assert [causes.CAUSES.index(c.cause) for c in found] == sorted(causes.CAUSES.index(c.cause) for c in found)


@pytest.mark.parametrize("seed", range(3))
def test_busy_spans_count_only_when_all_units_are_taken(seed):
    rng = np.random.default_rng(seed)
    rows = [(int(a), int(a + d)) for a, d in zip(rng.integers(0, 200, 40), rng.integers(1, 30, 40))]
    for units in (1, 2, 3):
        expected = sum(sum(a <= t < b for a, b in rows) >= units for t in range(260))
        assert causes._Spans(causes._all_busy(rows, units)).overlap(0, 260) == expected

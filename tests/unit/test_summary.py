"""The figures of one run: counts that add up, latencies that do not forget misses, validity, guarantee, text."""

import sqlite3

import numpy as np
import pytest

import run_records
from edgert.errors import RecordError, UsageError
from edgert.results import summary, view
from edgert.results.record import Run

MS = run_records.MS


def figures(path, policy="monolithic", **kwargs):
    return summary.summarise(view.read(run_records.make(path, policy, **kwargs)))


def test_captured_is_answered_by_depth_and_missed_and_dropped_in_each_stream_and_in_all(tmp_path):
    s = figures(tmp_path / "r.db", streams=6, seconds=1.0, drop={(0, 3), (2, 5)})
    assert s["all"]["missed"] > 0 and s["all"]["answered"] > 0 and s["all"]["dropped"] == 2
    for part in [s["all"], *s["streams"]]:
        assert part["sums_exactly"]
        assert part["captured"] == sum(part["answered_by_depth"].values()) + part["missed"] + part["dropped"]
    for key in ("captured", "answered", "missed", "dropped"):
        assert s["all"][key] == sum(part[key] for part in s["streams"])
    assert sum(s["miss_causes"].values()) == s["all"]["missed"] == len(s["misses"])
    assert sum(s["drop_causes"].values()) == s["all"]["dropped"] == len(s["drops"]) == 2


def test_a_frame_answered_beyond_every_known_depth_makes_the_sum_wrong_and_the_run_invalid(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.5)
    db = sqlite3.connect(path)
    db.execute("update frames set depth = 9 where frame = 3")
    db.commit()
    db.close()
    s = summary.summarise(view.read(path))
    assert not s["all"]["sums_exactly"]
    assert not s["validity"]["valid"] and "sum" in s["validity"]["reasons"][0]


def test_latency_quantiles_count_missed_frames_as_later_than_any_answer(tmp_path):
    s = figures(tmp_path / "r.db", streams=9, seconds=2.0)["all"]
    assert s["miss_ratio"] > 0.5
    assert s["latency_p50_ns"] is None and s["latency_p99_ns"] is None
    assert s["latency_max_ns"] <= 33 * MS


def test_latency_counts_from_the_scheduled_capture_and_not_from_arrival(tmp_path):
    path = run_records.make(tmp_path / "r.db", "mandatory-only", streams=1, seconds=1.0)
    before = summary.summarise(view.read(path))["all"]["latency_p50_ns"]
    db = sqlite3.connect(path)
    db.execute("update frames set arrival_ns = arrival_ns + 5000000, published_ns = published_ns + 5000000")
    db.commit()
    db.close()
    assert summary.summarise(view.read(path))["all"]["latency_p50_ns"] == before + 5 * MS


def test_zero_misses_have_an_upper_bound_above_zero_that_shrinks_with_more_frames(tmp_path):
    short = figures(tmp_path / "a.db", "mandatory-only", seconds=0.5)["all"]
    long = figures(tmp_path / "b.db", "mandatory-only", seconds=5.0)["all"]
    assert short["miss_ratio"] == long["miss_ratio"] == short["miss_ratio_low"] == 0
    assert short["miss_ratio_high"] > long["miss_ratio_high"] > 0.003


def test_the_bound_holds_for_bursts_it_is_wider_than_that_of_the_same_misses_scattered(tmp_path):
    path = run_records.make(tmp_path / "r.db", "mandatory-only", streams=1, period_ns=5 * MS, seconds=5.0)
    db = sqlite3.connect(path)

    def width(rows):
        db.execute("update frames set status = 'answered', published_ns = release_ns + 1000000, depth = 0")
        db.executemany("update frames set status = 'missed', published_ns = null, depth = -1 where frame = ?", [(int(r),) for r in rows])
        db.commit()
        s = summary.summarise(view.read(path))["all"]
        assert s["missed"] == 60
        return s["miss_ratio_high"] - s["miss_ratio_low"], s["longest_run_of_misses"]

    scattered, burst = width(np.arange(5, 965, 16)), width(np.concatenate([np.arange(100, 130), np.arange(700, 730)]))
    db.close()
    assert burst[1] == 30 and scattered[1] == 1
    assert burst[0] > 2 * scattered[0]


def test_without_a_miss_a_trial_is_what_three_deadlines_release():
    release = np.arange(3000) * 3 * MS
    assert summary.burst_block(release, np.full(3000, 33 * MS)) == 34  # 99 ms of frames 3 ms apart, rounded up
    assert summary.burst_block(release, np.full(3000, MS)) == 15  # never below n^(1/3)
    assert summary.burst_block(release[:40], np.full(40, 33 * MS)) == 4  # at least ten trials
    assert summary.burst_block(release[:5], np.full(5, 33 * MS)) == 1


def test_a_missed_frame_counts_zero_in_accuracy_and_utility(tmp_path):
    s = figures(tmp_path / "r.db", streams=9, seconds=2.0)["all"]
    assert s["utility"] <= 1 - s["miss_ratio"] and s["accuracy"] <= 1 - s["miss_ratio"]
    assert s["utility_low"] <= s["utility"] <= s["utility_high"]


def test_a_run_without_labels_has_utility_and_no_accuracy(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.5)
    db = sqlite3.connect(path)
    db.execute("update frames set label = -1, correct = null")
    db.commit()
    db.close()
    s = summary.summarise(view.read(path))
    assert s["all"]["accuracy"] is None and s["all"]["labelled"] == 0 and s["all"]["utility"] > 0.9
    assert "utility" in summary.render(s)


@pytest.mark.parametrize(("change", "reason"), [
    ({"meta": {"emulated": True}, "overshoots": 1}, "emulated"), ({"lost": 3}, "3 records were lost"),
    ({"meta": {"finished": None}}, "not closed"), ({"meta": {"policy_fault": "KeyError: 3"}}, "switched off")])
def test_what_makes_a_run_invalid(tmp_path, change, reason):
    s = figures(tmp_path / "r.db", "mandatory-only", seconds=0.5, **change)
    assert not s["validity"]["valid"]
    assert any(reason in r for r in s["validity"]["reasons"])
    assert "INVALID" in summary.render(s)


def test_overshoots_within_a_thousandth_are_noted_and_the_run_is_valid(tmp_path):
    s = figures(tmp_path / "r.db", "mandatory-only", streams=9, seconds=8.0, meta={"emulated": True}, overshoots=1)
    assert s["validity"]["valid"] and "1 times" in s["validity"]["notes"][0]
    assert "emulated" in summary.render(s)


def test_a_gap_in_the_frame_numbers_makes_a_run_invalid(tmp_path):
    path = run_records.make(tmp_path / "r.db", "mandatory-only", seconds=0.5)
    db = sqlite3.connect(path)
    db.execute("delete from frames where stream = 'cam1' and frame in (4, 5)")
    db.commit()
    db.close()
    s = summary.summarise(view.read(path))
    assert s["validity"]["reasons"] == ["2 frames between recorded ones are not in the record, or are in it twice"]


def test_guarantees(tmp_path):
    assert figures(tmp_path / "m.db", seconds=0.3)["guarantee"]["kind"] == "none"
    kept = figures(tmp_path / "a.db", "fifo-gated", seconds=0.3)["guarantee"]
    assert kept["kind"] == "certificate" and kept["kept"]
    assert figures(tmp_path / "b.db", "fifo-gated", seconds=0.3,
                   meta={"admission": {"answer": "best-effort"}})["guarantee"]["kind"] == "best_effort"
    excused = figures(tmp_path / "c.db", "fifo-gated", seconds=0.6, stall=(200 * MS, 60 * MS))
    assert excused["all"]["missed"] and excused["guarantee"]["kept"]


def test_a_certified_miss_without_a_violated_assumption_is_called_a_bug(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.5)
    db = sqlite3.connect(path)
    db.execute("update frames set status = 'missed', published_ns = null, depth = -1 where stream = 'cam0' and frame = 5")
    db.commit()
    db.close()
    s = summary.summarise(view.read(path))
    assert not s["guarantee"]["kept"]
    assert "bug" in summary.render(s)


def test_the_text_says_who_missed_how_often_how_sure_and_why(tmp_path):
    text = summary.render(figures(tmp_path / "r.db", "fifo-gated", seconds=0.6, stall=(200 * MS, 60 * MS)), width=100)
    for words in ("frames were missed", "[", "machine stall", "Assumptions", "longest run", "VALID"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "No miss in" in summary.render(figures(tmp_path / "s.db", "fifo-gated", seconds=0.3))


def test_a_run_without_a_frame_is_invalid_and_does_not_break(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.1)
    db = sqlite3.connect(path)
    for table in ("frames", "stages"):
        db.execute(f"delete from {table}")
    db.commit()
    db.close()
    s = summary.summarise(view.read(path))
    assert s["validity"]["reasons"] == ["no frame was recorded"]
    assert "nothing can be said" in summary.render(s)


def test_it_takes_an_open_record_too(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.2)
    with Run(path) as run:
        assert summary.summarise(run) == summary.summarise(view.read(path))


def test_a_missing_file_and_a_record_that_makes_no_sense_are_typed_errors(tmp_path):
    with pytest.raises(UsageError):
        view.read(tmp_path / "none.db")
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.1)
    db = sqlite3.connect(path)
    db.execute("update frames set status = 'lost'")
    db.commit()
    db.close()
    with pytest.raises(RecordError, match="damaged"):
        view.read(path)
    path = run_records.make(tmp_path / "s.db", "fifo-gated", seconds=0.1)
    db = sqlite3.connect(path)
    db.execute("delete from meta where key = 'streams'")
    db.commit()
    db.close()
    with pytest.raises(RecordError, match="damaged"):
        view.read(path)

"""Comparisons: paired on the same frames, intervals that hold, refusals that name what differs."""

import sqlite3

import numpy as np
import pytest

import run_records
from edgert.errors import UsageError
from edgert.results import compare, view


def run(path, policy, **kwargs):
    return view.read(run_records.make(path, policy, **{"streams": 6, "seconds": 2.0, **kwargs}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [run(folder / f"{p}.db", p) for p in ("monolithic", "mandatory-only", "fifo-gated")]


def test_the_verdict_says_who_missed_and_whose_answers_were_best(runs):
    found = compare.compare(runs)
    assert found["names"] == ["monolithic", "mandatory-only", "fifo-gated"]
    assert "Missed frames: monolithic" in found["verdict"] and "best answers among them came from fifo-gated" in found["verdict"]
    mandatory, fifo = found["compared"]
    assert mandatory["miss_ratio"]["verdict"] == "lower" and mandatory["utility"]["verdict"] == "higher"
    assert fifo["miss_ratio"]["difference"] == pytest.approx(-runs[0].missed.mean())
    assert "fewer misses" in fifo["verdict"] and "better utility" in fifo["verdict"]


def test_a_difference_is_the_mean_over_the_pairs_whatever_the_order_of_the_rows(runs, tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", streams=6, seconds=2.0)
    db = sqlite3.connect(path)
    db.execute("create table shuffled as select * from frames order by random()")
    db.execute("delete from frames")
    db.execute("insert into frames select * from shuffled where not (stream = 'cam2' and frame = 7)")
    db.commit()
    db.close()
    other = view.read(path)
    rows_a, rows_b = compare.pairs(runs[0], other)
    both = ((runs[0], rows_a), (other, rows_b))
    keys = [[(v.streams[v.frames["stream"][i]].name, int(v.frames["frame"][i])) for i in rows] for v, rows in both]
    assert keys[0] == keys[1]
    assert len(keys[0]) == len(runs[0].frames["frame"]) - 1 and ("cam2", 7) not in keys[0]
    assert (np.diff(runs[0].frames["release_ns"][rows_a]) >= 0).all()
    part = compare.difference(runs[0], other, "utility", 0.95)
    table = {key: i for i, key in enumerate(keys[0])}
    by_hand = np.mean([other.frames["utility"][rows_b[i]] - runs[0].frames["utility"][rows_a[i]] for i in table.values()])
    assert part["difference"] == pytest.approx(by_hand) and part["pairs"] == len(table)


def test_pairing_finds_a_small_difference_that_two_separate_intervals_would_not(runs, tmp_path):
    other = run(tmp_path / "r.db", "threshold:theta=0.5")
    part = compare.difference(runs[1], other, "utility", 0.95)
    assert part["verdict"] == "higher"
    from edgert.results.summary import figures

    all_frames = np.ones(len(other.frames["frame"]), dtype=bool)
    a, b = figures(runs[1], all_frames), figures(other, all_frames)
    assert part["difference_high"] - part["difference_low"] < (a["utility_high"] - a["utility_low"] + b["utility_high"] - b["utility_low"])


def test_two_runs_without_a_miss_are_not_called_equal_with_certainty(runs):
    part = compare.difference(runs[1], runs[2], "miss_ratio", 0.95)
    assert part["difference"] == 0 and part["difference_low"] < 0 < part["difference_high"]
    assert part["verdict"] == "no difference shown"


def test_more_comparisons_make_wider_intervals(runs):
    two, three = compare.compare(runs[:2]), compare.compare(runs)
    assert three["comparisons"] == 2 and three["interval_confidence"] == pytest.approx(0.975)
    width = [c["compared"][0]["accuracy"]["difference_high"] - c["compared"][0]["accuracy"]["difference_low"] for c in (two, three)]
    assert width[1] > width[0]


def test_the_baseline_may_be_any_run(runs):
    found = compare.compare(runs, baseline=2)
    assert found["baseline"] == "fifo-gated" and [row["name"] for row in found["compared"]] == ["monolithic", "mandatory-only"]
    assert found["compared"][0]["utility"]["verdict"] == "lower"


@pytest.mark.parametrize(("change", "named"), [
    ({"meta": {"model_id": "cd" * 32}}, "model"), ({"streams": 5}, "streams"), ({"seed": 2}, "seed"),
    ({"deadline_ns": 30_000_000}, "deadline of stream cam0"), ({"period_ns": 40_000_000}, "period of stream cam0")])
def test_runs_that_differ_are_refused_with_what_differs_and_forced_where_asked(runs, tmp_path, change, named):
    other = run(tmp_path / "r.db", "fifo-gated", **change)
    with pytest.raises(UsageError, match=named):
        compare.compare([runs[0], other])
    found = compare.compare([runs[0], other], force=True)
    assert found["forced"] and any(named in text for text in found["compared"][0]["differs_in"])


def test_runs_that_showed_other_pictures_are_refused(runs, tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", streams=6, seconds=2.0)
    db = sqlite3.connect(path)
    db.execute("update frames set item = item + 1 where stream = 'cam0'")
    db.commit()
    db.close()
    with pytest.raises(UsageError, match="pictures"):
        compare.compare([runs[0], view.read(path)])


def test_frames_that_one_run_did_not_deliver_are_left_out_of_the_pairs(runs, tmp_path):
    other = run(tmp_path / "r.db", "fifo-gated", drop={(0, 1), (3, 9)})
    assert compare.difference(runs[2], other, "utility", 0.95)["pairs"] == len(runs[2].frames["frame"]) - 2


def test_equivalence_needs_the_whole_interval_within_the_margin(runs, tmp_path):
    near = [run(tmp_path / f"{t}.db", f"threshold:theta={t}") for t in (0.7, 0.72)]
    assert compare.equivalent(*near, 0.02)["verdict"] == "equivalent"
    assert compare.equivalent(runs[1], runs[2], 0.02)["verdict"] == "different"
    gap = compare.equivalent(runs[1], runs[2], 0.5)["difference"]
    assert compare.equivalent(runs[1], runs[2], gap + 1e-5)["verdict"] == "not shown"
    for margin in (0, -1, 1, float("nan")):
        with pytest.raises(UsageError):
            compare.equivalent(runs[1], runs[2], margin)


def test_one_run_is_refused(runs):
    with pytest.raises(UsageError, match="at least two"):
        compare.compare(runs[:1])


def test_names_are_short_and_different(runs, tmp_path):
    live = run(tmp_path / "a.db", "fifo-gated", kind="live")
    assert compare.names_of([runs[2], live]) == ["fifo-gated simulated", "fifo-gated live"]
    assert compare.names_of([runs[2], run(tmp_path / "again.db", "fifo-gated")]) == ["fifo-gated fifo-gated", "fifo-gated again"]
    tuned = [run(tmp_path / f"{t}.db", f"threshold:theta={t}") for t in (0.5, 0.7)]
    assert compare.names_of(tuned) == ["threshold:theta=0.5", "threshold:theta=0.7"]
    assert len(set(compare.names_of([runs[0]] * 3))) == 3

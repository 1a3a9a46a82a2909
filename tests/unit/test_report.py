"""Pages: nothing overlaps, nothing is cut off, nothing is loaded, names are escaped; and the demonstration's checks can fail."""

import re
import sqlite3
from html import unescape
from itertools import pairwise

import numpy as np
import pytest

import run_records
from edgert.results import compare, demo, plots, report, svg, timeline, view
from edgert.results.summary import summarise

MS = run_records.MS
SUMMARIES = {}  # by path, made once
POLICIES = ("monolithic", "mandatory-only", "fifo-gated", "threshold", "depth-dp")


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [view.read(run_records.make(folder / f"{p}.db", p, streams=6, seconds=1.5)) for p in POLICIES]


@pytest.fixture(scope="module")
def entries(views):
    return plots.entries(POLICIES, [summarise(v) for v in views], views)


def boxes(drawing):
    """Bounding boxes of its texts, with generous estimates of their widths."""
    width, height = (float(v) for v in re.search(r'viewBox="0 0 (\S+) (\S+)"', drawing).groups())
    out = []
    for x, y, anchor, kind, text in re.findall(r'<text x="(\S+)" y="(\S+)" text-anchor="(\w+)" class="(\w+)"[^>]*>(.*?)</text>', drawing):
        size = 12.5 if kind != "tick" else 11.5
        wide = len(unescape(text)) * size * (0.6 if kind == "strong" else 0.55)
        left = float(x) - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        out.append((left, float(y) - size * 0.75, left + wide, float(y) + size * 0.2, unescape(text)))
    return out, width, height


def clean(drawing):
    """Assert that texts lie within the drawing and do not overlap."""
    found, width, height = boxes(drawing)
    assert len(found) >= 3
    for box in found:
        assert box[0] >= -4 and box[2] <= width + 12 and box[1] >= -3 and box[3] <= height + 1, box
    for i, a in enumerate(found):
        for b in found[i + 1:]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (a, b)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("plot", [plots.trade, plots.forest, plots.latencies, plots.depths, plots.miss_causes])
def test_no_label_overlaps_another_or_leaves_the_plot(entries, plot, count):
    clean(plot(entries[:count]))
    clean(plot(entries[-count:]))


def test_ten_runs_of_the_same_policy_still_have_legible_labels(views):
    ten = plots.entries([f"run number {i}" for i in range(10)], [summarise(views[2])] * 10, [views[2]] * 10)
    for plot in (plots.trade, plots.forest, plots.latencies, plots.depths, plots.miss_causes):
        clean(plot(ten))


def test_a_plot_shows_the_figures_of_the_summary(entries):
    drawing = plots.forest(entries)
    for entry in entries:
        assert f"{100 * entry.summary['all']['utility']:.1f} %" in drawing
    assert f"{entries[0].summary['all']['missed']:,}" in plots.miss_causes(entries)


def test_every_run_has_a_colour_of_its_own_and_a_policy_its_usual_one(entries):
    assert len({e.colour for e in entries}) == 5
    assert [e.colour for e in entries] == [plots.COLOURS[p] for p in POLICIES]


def test_the_timeline_shows_a_frame_refined_under_one_policy_and_missed_under_the_other(views):
    split, whole = timeline.choose(views[4], views[0])
    for column in ("frame", "stream"):
        assert views[4].frames[column][split] == views[0].frames[column][whole]
    assert views[4].frames["status"][split] == 0 and views[4].frames["depth"][split] == 2 and views[0].missed[whole]
    good, bad = timeline.timeline(views[4], split), timeline.timeline(views[0], whole)
    clean(good)
    clean(bad)
    assert ">answer<" in good and ">no answer<" in bad
    assert "answer out at" in timeline.story(views[4], split) and "no answer" in timeline.story(views[0], whole)


@pytest.mark.parametrize("row", range(0, 240, 12))
def test_the_timeline_of_any_frame_is_clean(views, row):
    clean(timeline.timeline(views[3], row))


def test_spread_keeps_order_and_gaps_within_bounds():
    rng = np.random.default_rng(1)
    for _ in range(200):
        wanted = list(rng.uniform(0, 100, rng.integers(1, 8)))
        placed = svg.spread(wanted, 10, 0, 100)
        ordered = [p for _, p in sorted(zip(wanted, placed))]
        assert all(b - a >= 10 - 1e-9 for a, b in pairwise(ordered))
        assert min(placed) >= -1e-9 and max(placed) <= 100 + 1e-9
    assert svg.spread([10, 50], 10, 0, 100) == [10, 50]


def test_ticks_are_round_and_within_the_range():
    assert svg.ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert svg.ticks(0.912, 0.978, 4) == pytest.approx([0.92, 0.94, 0.96])
    assert svg.ticks(3, 3) == [3]


def test_the_page_has_the_verdict_before_any_table_and_needs_nothing_from_outside(views):
    page = report.comparison(views)
    found = compare.compare(views)
    assert page.index(found["verdict"]) < page.index("<table")
    assert "<script" not in page and not re.search(r"(src|href)\s*=|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert page.count("<svg") == 5


def test_names_from_a_record_are_escaped(tmp_path):
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.5, stall=(200 * MS, 60 * MS),
                            meta={"bundle": "<script>alert(1)</script>", "machine": {"cpu": "<b>&"}, "accelerator": "<i>",
                                  "emulated": True})
    db = sqlite3.connect(path)
    db.execute("update frames set stream = '<img>' where stream = 'cam0'")
    text = db.execute("select value from meta where key = 'streams'").fetchone()[0].replace("cam0", "<img>")
    db.execute("update meta set value = ? where key = 'streams'", (text,))
    db.commit()
    db.close()
    page = report.single(view.read(path))
    assert "<script" not in page and "<img" not in page and "<i>" not in page and "<b>&" not in page
    assert "&lt;img&gt;" in page and "emulated" in page


def test_an_invalid_run_says_so_on_top(tmp_path):
    page = report.single(view.read(run_records.make(tmp_path / "r.db", "fifo-gated", seconds=0.3, lost=4)))
    assert "INVALID" in page and page.index("INVALID") < page.index("<table")


# The demonstration ----------------------------------------------------------------------------------------------------


def load_of(views, **changed):
    live = dict(zip(demo.NAMES, views), **changed)
    full = np.array([run_records.REWARD.utility(2, 1.0)] * 2000)
    known = {name: SUMMARIES[v.path] for name, v in live.items() if v.path in SUMMARIES}
    load = demo.Load(3.0, live, dict(live), full, known)
    SUMMARIES.update({v.path: load.summaries[name] for name, v in live.items()})
    return load


def test_the_checks_hold_on_runs_that_show_them(views):
    load = load_of(views)
    assert demo.misses_much(load).shown
    assert demo.split_misses_nothing(load).shown
    assert demo.better(load).shown
    assert not demo.invalid([load])


def test_each_check_fails_where_its_ordering_does_not_hold(views, tmp_path):
    assert not demo.misses_much(load_of(views, monolithic=views[2])).shown
    assert not demo.better(load_of(views, default=views[2])).shown
    assert not demo.better(load_of(views, default=views[1])).shown
    path = run_records.make(tmp_path / "r.db", "depth-dp", streams=6, seconds=1.5)
    db = sqlite3.connect(path)
    db.execute("update frames set status = 'missed', depth = -1, published_ns = null where frame = 20 and stream = 'cam1'")
    db.commit()
    db.close()
    bare = demo.split_misses_nothing(load_of(views, default=view.read(path)))
    assert not bare.shown and "default missed 1" in bare.numbers and "0 while an assumption was violated" in bare.numbers


def test_recovery_is_0_for_mandatory_only_and_1_for_full_refinement(views):
    load = load_of(views)
    assert demo.recovery(load, "mandatory-only").estimate == 0
    everything = view.View(**{**vars(views[4]), "frames": {**views[4].frames, "utility": np.full(len(views[4].frames["frame"]),
                                                                                                 load.full[0])}})
    assert demo.recovery(load_of(views, default=everything)).estimate == pytest.approx(1)
    half = (views[1].frames["utility"] + load.full[0]) / 2
    middle = view.View(**{**vars(views[4]), "frames": {**views[4].frames, "utility": half}})
    found = demo.recovery(load_of(views, default=middle))
    assert found.estimate == pytest.approx(0.5)
    assert not demo.recovers(load_of(views, default=middle)).shown


def test_agreement_fails_where_a_simulation_is_off_by_more_than_the_margin(views):
    load = load_of(views)
    worse = view.View(**{**vars(views[2]), "frames": {**views[2].frames, "utility": views[2].frames["utility"] - 0.03}})
    load.simulated["fifo-gated"] = worse
    assert not demo.agreement(load).shown
    close = view.View(**{**vars(views[2]), "frames": {**views[2].frames, "utility": views[2].frames["utility"] - 0.001
                                                      * (np.arange(len(views[2].frames["frame"])) % 2)}})
    load.simulated = {"fifo-gated": close}
    assert demo.agreement(load).shown


def test_the_page_of_the_demonstration_is_whole(views):
    loads = [load_of(views)]
    page = demo.page(loads, demo.checks(loads), {"where": "a machine", "how": "in a test"})
    assert page.count("<svg") == 2 + 5 and "What was to be shown" in page and "<script" not in page


# Simulated twins ------------------------------------------------------------------------------------------------------


class FakeBundle:
    """Outcomes as a bundle has them."""

    def arrays(self, file):
        rng = np.random.default_rng({"outcomes.npz": 1, "validation.npz": 2}[file])
        sure = rng.beta(4, 1, 500)
        confidence = np.stack([sure, sure ** 0.8, sure ** 0.6], axis=1)
        return {"confidence": confidence, "correct": rng.random((500, 3)) < confidence}


@pytest.fixture
def recorded(tmp_path):
    from edgert.executive import reproduce
    from imprecise.model import Stream

    streams = [Stream(f"cam{i}", 33 * MS, 33 * MS, run_records.STAGES, reward=run_records.REWARD) for i in range(6)]
    engine = reproduce.describe(streams, {"fpga": 1, "cpu": 1}, "fifo-gated", MS)
    return view.read(run_records.make(tmp_path / "r.db", "fifo-gated", streams=6, seconds=2.0, meta={"engine": engine}))


def test_a_twin_has_the_runs_streams_frames_and_durations(recorded):
    from edgert.results import twin

    other = twin.twin(recorded, FakeBundle())
    assert [s.name for s in other.streams] == [s.name for s in recorded.streams] and other.policy == "fifo-gated"
    assert len(other.frames["frame"]) == len(recorded.frames["frame"])
    assert other.missed.sum() == 0 and set(other.frames["depth"]) <= {0, 1, 2}
    mandatory = twin.durations(recorded, "toy/mandatory")
    spent = (recorded.stages["end_ns"] - recorded.stages["start_ns"])[recorded.stages["name"] == "toy/mandatory"]
    assert mandatory.sorted_ns == tuple(sorted(spent.tolist()))


def test_the_dispatchers_time_between_two_stages_is_their_median_gap_and_idle_time_does_not_count(recorded):
    from edgert.results import twin

    assert twin.handling_ns(recorded) == 0  # virtual time has none
    table = {name: column.copy() for name, column in recorded.stages.items()}
    cpu = np.flatnonzero(table["resource"] == "cpu")
    table["start_ns"][cpu] += 200_000 * np.arange(1, len(cpu) + 1)
    table["end_ns"][cpu] += 200_000 * np.arange(1, len(cpu) + 1)
    late = view.View(**{**vars(recorded), "stages": table})
    assert twin.handling_ns(late) == 200_000
    assert twin.durations(late, "toy/stage1").worst_ns == twin.durations(recorded, "toy/stage1").worst_ns + 200_000


def test_the_threshold_is_tuned_on_validation_pictures_and_repeats(recorded):
    from edgert.results import twin

    theta = twin.tuned_threshold(recorded, FakeBundle(), frames=300)
    assert 0 < theta <= 1 and theta == twin.tuned_threshold(recorded, FakeBundle(), frames=300)


def test_a_policy_that_only_a_record_names_is_not_run_for_a_twin(recorded, tmp_path):
    from edgert.errors import RecordError
    from edgert.results import twin

    own = tmp_path / "own.py"
    own.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    other = view.View(**{**vars(recorded), "meta": {**recorded.meta, "policy": str(own)}})
    with pytest.raises(RecordError, match=r"has no twin: policy .*own\.py"):
        twin.twin(other, FakeBundle())
    assert not (tmp_path / "ran").exists()


def test_a_record_without_its_engine_cannot_be_simulated(views):
    from edgert.errors import RecordError
    from edgert.results import twin

    with pytest.raises(RecordError, match="engine"):
        twin.twin(views[0], FakeBundle())

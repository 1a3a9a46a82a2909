"""`edgert explain`: each constraint on a record made so that it is the one that binds; what is claimed to suffice does."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest
from test_json import ROOT, check, edgert, keys

import run_records
from edgert.errors import RecordError, UsageError
from edgert.executive.reproduce import describe
from edgert.results import explain as explaining
from edgert.results.explain_search import smallest, tick_ns
from edgert.results.explain_text import renderable
from edgert.results.record import Run
from edgert.results.text import as_string
from explain_records import MS, record, stream, world
from imprecise.conditions import ResourceFault, StageFault
from imprecise.model import Stream


def explain(path, frame="0", of=""):
    """The explanation, held to its schema; its text can be made."""
    with Run(path) as run:
        found = explaining.explain(run, str(frame), of)
    check("explain", json.loads(json.dumps(found, allow_nan=False)))
    assert found["sentence"] in " ".join(as_string(renderable(found), 500).split("\n"))
    return found


def kind(found):
    return found["constraint"]["kind"]


def change(found, what):
    return next(row for row in found["counterfactuals"] if row["change"] == what)


def two(tmp_path, policy="fifo-gated", deadline="17ms", later="3ms", **given):
    """Frame 0 of `a`, and of `b` a little later, on one CPU."""
    scenario = world(tmp_path, stream("a", ["0ms"], deadline), stream("b", [later], deadline))
    return record(tmp_path / "r.db", scenario, policy, 2, **given)


# Each constraint, where it is known -----------------------------------------------------------------------------------


def test_a_complete_answer_is_bound_by_nothing_and_nothing_is_searched(tmp_path):
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream())))
    assert (kind(found), found["depth"], found["counterfactuals"]) == ("complete", 2, [])
    assert [row["what"] for row in found["timeline"]].count("start") == 3


def test_a_stage_that_does_not_fit_when_the_one_before_is_done_is_the_slack_test_and_by_how_much(tmp_path):
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream(deadline="15ms"))))
    bound = found["constraint"]  # 1 + 5 ms are spent at 6 ms; 10 ms are needed, and 15 - 2 - 6 = 7 ms are left
    assert (kind(found), found["depth"], bound["stage"]) == ("slack", 1, "third")
    assert (bound["estimate_ns"], bound["left_ns"], bound["short_ns"]) == (10 * MS, 7 * MS, 3 * MS)
    assert "3 ms too little" in found["sentence"] and not any("guard" in line for line in bound["also"])


def test_the_guard_is_named_where_it_alone_made_the_difference(tmp_path):
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream(deadline="17ms"))))
    assert (kind(found), found["constraint"]["short_ns"]) == ("slack", MS)
    assert any("without the guard of 2 ms" in line for line in found["constraint"]["also"])


def test_a_frame_that_waits_for_a_unit_which_is_taken_all_the_time_is_bound_by_what_runs_there(tmp_path):
    found = explain(two(tmp_path, later="7ms", deadline="18ms"), 0, "b")  # `third` of a runs from 6 to 16 ms; b is ready at 8 ms
    assert found["depth"] == 1 and kind(found) == "slack"  # second at 16 ms, third no more
    assert any("second waited 8 ms for cpu, first behind a 0 (third)" in line for line in found["constraint"]["also"])
    scenario = world(tmp_path, stream("a", ["0ms"], "18ms"), stream("b", ["7ms"], "13ms"))
    found = explain(record(tmp_path / "busy.db", scenario, frames=2), 0, "b")
    assert (kind(found), found["depth"], found["constraint"]["stage"]) == ("busy", 0, "second")
    assert "behind a 0 (third)" in found["sentence"] and "5 ms expected, 2 ms left" in found["sentence"]


@pytest.mark.parametrize(("policy", "word"), [("fifo-gated", "captured 3 ms earlier"), ("threshold:theta=0.9", "deadline is 3 ms earlier")])
def test_the_one_that_the_policy_preferred_is_named_with_its_rule(tmp_path, policy, word):
    found = explain(two(tmp_path, policy, deadline="18ms"), 0, "b")  # at 6 ms `third` of a (needs 10) is preferred to `second` of b
    assert kind(found) == "preferred" and "a 0 for third" in found["sentence"] and word in found["sentence"]
    decision = next(row["decision"] for row in found["timeline"] if row["what"] == "decision")
    first, second = sorted(decision["ready"], key=lambda c: c["stream"])
    assert (first["stream"], second["stream"], decision["chosen"]) == ("a", "b", first["job"])
    assert (first["estimate_ns"], second["estimate_ns"]) == (10 * MS, 5 * MS)
    assert (first["slack_ns"], second["slack_ns"]) == (0, 8 * MS)  # 18 - 2 - 6 - 10, and 3 + 18 - 2 - 6 - 5
    assert first["planned"] is None


def test_a_plan_is_shown_where_the_policy_makes_one(tmp_path):
    found = explain(two(tmp_path, "depth-dp", deadline="18ms"), 0, "a")
    decision = next(row["decision"] for row in found["timeline"] if row["what"] == "decision")
    assert {c["planned"] for c in decision["ready"]} <= {True, False} and any(c["planned"] for c in decision["ready"])
    assert all(c["gain_per_ns"] > 0 for c in decision["ready"])


def test_what_the_policy_does_not_want_no_time_can_give(tmp_path):
    outcomes = "\n[stream.outcomes]\nconfidence = [[0.95, 0.96, 0.97]]\ncorrect = [[true, true, true]]\n"
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream() + outcomes), "threshold:theta=0.8"))
    assert (kind(found), found["depth"]) == ("not_wanted", 0)
    assert "0.950 is not below theta = 0.8" in found["sentence"]
    assert [row["suffices"] for row in found["counterfactuals"]] == [None, None, None]
    assert all("none of" in row["text"] and "tried suffices" in row["text"] for row in found["counterfactuals"])


def test_no_expected_gain_is_said_with_its_figure(tmp_path):
    flat = stream().replace("[0.6, 0.7, 0.8]", "[0.6, 0.55, 0.5]")
    found = explain(record(tmp_path / "r.db", world(tmp_path, flat), "depth-dp"))
    assert kind(found) == "not_wanted" and "-0.0500" in found["sentence"]


def test_a_policy_that_leaves_the_unit_idle_is_named(tmp_path):
    (tmp_path / "lazy.py").write_text("from imprecise.policies.base import Policy\n\n\nclass Lazy(Policy):\n    name = 'lazy'\n\n"
                                      "    def pick(self, ready, engine):\n        return None\n\n\nPOLICY = Lazy\n")
    path = record(tmp_path / "l.db", world(tmp_path, stream()), str(tmp_path / "lazy.py"), 2)
    found = explain(path)
    assert kind(found) == "left_idle" and "left cpu idle" in found["sentence"]
    (tmp_path / "lazy.py").unlink()
    with pytest.raises(RecordError, match="cannot be made again"):
        explain(path)


def test_a_limit_of_admission_is_named_with_both_lengths(tmp_path):
    scenario = world(tmp_path, stream(), top='guard = "2ms"\n[blocking]\ncpu = "7ms"')
    found = explain(record(tmp_path / "r.db", scenario))
    assert (kind(found), found["depth"], found["constraint"]["stage"]) == ("limit", 1, "third")
    assert "10 ms" in found["sentence"] and "7 ms" in found["sentence"]


def test_a_resource_that_yields_to_mandatory_work_is_named(tmp_path):
    scenario = world(tmp_path, stream("a", ["0ms"], "18ms"), stream("b", ["0ms"], "30ms", first="12ms").replace("first", "other"))
    found = explain(record(tmp_path / "r.db", scenario, frames=2, options={"yields": {"cpu": ["fpga"]}}), 0, "a")
    assert kind(found) == "yields" and "mandatory work waited or ran on fpga" in found["sentence"]


def test_a_stage_that_fails_is_named_and_so_is_one_that_was_given_up(tmp_path):
    faults = [StageFault("a", 0, "second"), StageFault("a", 1, "second", "abandoned", back_ns=MS)]
    path = record(tmp_path / "r.db", world(tmp_path, stream()), faults=faults)
    for frame, word in ((0, "second failed"), (1, "second was given up")):
        found = explain(path, frame)
        assert (kind(found), found["depth"], found["constraint"]["stage"]) == ("stage_failed", 0, "second")
        assert word in found["sentence"]


def test_a_mandatory_stage_that_fails_too_often_is_a_miss_and_the_cause_is_that_of_the_report(tmp_path):
    path = record(tmp_path / "r.db", world(tmp_path, stream()), faults=[StageFault("a", 0, "first", times=3)])
    found = explain(path)
    assert (kind(found), found["status"]) == ("stage_failed", "missed") and "3 times" in found["sentence"]
    reported = json.loads(edgert("report", path, "--json")[0])["misses"]
    assert [m for m in reported if m["frame"] == 0] == [found["cause"]]


def test_a_resource_without_a_working_unit_is_named(tmp_path):
    scenario = world(tmp_path, stream())
    lost = explain(record(tmp_path / "a.db", scenario, faults=[ResourceFault(0, "cpu", 0)], frames=2))
    assert (kind(lost), lost["depth"], lost["constraint"]["resource"]) == ("resource_lost", 0, "cpu")
    missed = explain(record(tmp_path / "b.db", scenario, faults=[ResourceFault(0, "fpga", 0)], frames=2))
    assert (kind(missed), missed["status"], missed["constraint"]["resource"]) == ("resource_lost", "missed", "fpga")


def test_a_stage_that_takes_longer_than_expected_is_an_overrun(tmp_path):
    times = ", ".join('"14ms"' if i == 1 else '"10ms"' for i in range(40))
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream(deadline="20ms").replace('"10ms"', f"[{times}]"))), 1)
    assert kind(found) == "overrun" and "expected to take 10 ms, and was still running at publication" in found["sentence"]
    assert (found["depth"], found["constraint"]["stage"], found["timeline"][-1]["what"]) == (1, "third", "done")
    assert change(found, "deadline")["suffices"] == 22 * MS and change(found, "deadline")["assumes"] == []


def test_a_result_after_the_publication_time_is_told_apart_from_one_that_came_too_late(tmp_path):
    late = explain(record(tmp_path / "a.db", world(tmp_path, stream(first="29ms"))))
    assert (kind(late), late["depth"]) == ("publication", 0)
    missed = explain(record(tmp_path / "b.db", world(tmp_path, stream(first="31ms"))))
    assert (kind(missed), missed["status"]) == ("mandatory_late", "missed")
    assert "first, started 0 ns after its capture, was still running at its deadline" in missed["sentence"]


def test_a_mandatory_stage_that_waits_past_its_deadline_names_what_ran(tmp_path):
    scenario = world(tmp_path, stream("a", ["0ms"], "60ms", first="35ms"), stream("b", ["1ms"], "30ms").replace("first", "other"))
    found = explain(record(tmp_path / "r.db", scenario, frames=2), 0, "b")
    assert kind(found) == "mandatory_late" and "waiting for fpga at its deadline, behind a 0 (first)" in found["sentence"]


def test_a_frame_that_monolithic_gave_up_says_when_and_why(tmp_path):
    scenario = world(tmp_path, *(stream(name, "20ms", "20ms") for name in "ab"))
    found = explain(record(tmp_path / "r.db", scenario, "monolithic", 6), "first-miss")
    assert kind(found) == "given_up" and "monolithic gave it up" in found["sentence"]
    assert change(found, "units")["suffices"] == 2
    assert found["counterfactuals"][0]["goal"] == "an answer"


def test_a_dropped_frame_has_no_history(tmp_path):
    meta = {"engine": describe(_toys(2), {"fpga": 1, "cpu": 1}, "fifo-gated", MS)}
    found = explain(run_records.make(tmp_path / "r.db", "fifo-gated", streams=2, seconds=0.5, drop={(0, 2)}, meta=meta), 2, "cam0")
    assert (kind(found), found["status"], found["timeline"], found["counterfactuals"]) == ("not_delivered", "dropped", [], [])


# What would have sufficed ---------------------------------------------------------------------------------------------


def _depth(tmp_path, streams, policy="fifo-gated", frames=8, cpu=1, name="a", frame=0):
    """The depth of a frame (-1: missed) where those streams are simulated."""
    found = explain(record(tmp_path / f"check{len(list(tmp_path.iterdir()))}.db", world(tmp_path, *streams, cpu=cpu), policy, frames),
                    frame, name)
    return found["depth"]


def test_the_deadline_that_is_claimed_suffices_and_a_tenth_of_a_millisecond_less_does_not(tmp_path):
    found = explain(record(tmp_path / "r.db", world(tmp_path, stream(deadline="15ms"))))
    row = change(found, "deadline")  # 1 + 5 + 10 + guard 2
    assert (row["suffices"], row["fails"], row["goal"]) == (18 * MS, 17_900_000, "depth 2")
    assert row["text"] == ("verified by replay: with a deadline of 18 ms this frame reaches depth 2; with a deadline of 17.9 ms it does "
                           "not")
    assert row["assumes"][0] == "third of this frame, which never ran, takes 10 ms, the median"
    assert _depth(tmp_path, [stream(deadline="18ms")]) == 2 and _depth(tmp_path, [stream(deadline="17.9ms")]) == 1
    assert [change(found, what)["suffices"] for what in ("rate", "units")] == [None, None]


def test_the_rate_that_is_claimed_suffices_and_a_tenth_of_a_percent_less_does_not(tmp_path):
    both = [stream("a", "14ms", "20ms"), stream("b", "14ms", "20ms", more='offset = "7ms"\n')]
    path = record(tmp_path / "r.db", world(tmp_path, *both), frames=40)
    found = explain(path, "worst", "b")
    row = change(found, "rate")
    assert 1 < row["suffices"] < 4 and row["fails"] == pytest.approx(row["suffices"] - 0.001)
    with Run(path) as run:
        releases = [(str(s), int(r)) for s, r in zip(run.frames["stream"], run.frames["release_ns"])]
    for factor in (row["suffices"], row["fails"]):
        moved = [(s, r * round(1000 * factor) // 1000) for s, r in releases]  # the first one is at 0
        spread = [stream(name, [f"{r}ns" for s, r in sorted(moved) if s == name], "20ms") for name in "ab"]
        depth = _depth(tmp_path, spread, frames=40, name="b", frame=found["frame"])
        assert (depth > found["depth"]) == (factor == row["suffices"])


def test_units_are_counted_from_what_there_was_and_the_claim_holds_in_a_simulation(tmp_path):
    four = [stream(name, ["0ms"], "18.5ms") for name in "abcd"]
    found = explain(record(tmp_path / "r.db", world(tmp_path, *four), frames=4), 0, "d")
    row = change(found, "units")
    assert (row["recorded"], row["resource"]) == (1, "cpu") and row["suffices"] > 1
    goal = found["depth"] + 1
    assert _depth(tmp_path, four, frames=4, cpu=row["suffices"], name="d") >= goal
    assert _depth(tmp_path, four, frames=4, cpu=row["fails"], name="d") < goal


@pytest.mark.parametrize("least", [1, 2, 3, 7, 8, 9, 100, 127])
def test_the_search_finds_the_smallest_of_a_monotone_question_and_ran_both_sides(least):
    asked = []

    def suffices(step):
        asked.append(step)
        return step >= least

    found = smallest(suffices, 127)
    assert (found.least, found.below, found.tried) == (least, least - 1, len(asked))
    assert least in asked and (least == 1 or least - 1 in asked) and len(set(asked)) == len(asked) <= 15


def test_the_search_says_how_far_it_went_where_nothing_suffices():
    found = smallest(lambda step: False, 100)
    assert (found.least, found.below, found.unknown) == (None, 100, False)


@pytest.mark.parametrize("known", [1, 2, 9, 30])
def test_the_search_claims_nothing_where_nobody_knows(known):
    found = smallest(lambda step: False if step < known else None, 100)
    assert (found.least, found.below, found.unknown) == (None, known - 1, True)
    found = smallest(lambda step: False if step < known else True if step < known + 3 else None, 100)
    assert (found.least, found.below) == (known, known - 1)


def test_a_claim_does_not_rest_on_frames_that_the_record_does_not_have(tmp_path):
    """Of the last frames of a periodic stream under overload none can be said to be refined one period later: others come first."""
    both = [stream(name, "14ms", "16ms") for name in "ab"]
    found = explain(record(tmp_path / "r.db", world(tmp_path, *both), "least-confident", 12), 5, "b")
    row = change(found, "deadline")
    assert row["suffices"] is None and row["fails"] < 30 * MS and "the record ends too soon" in row["text"]


def test_deadlines_are_tried_in_steps_of_a_tenth_of_a_millisecond_or_a_percent():
    assert [tick_ns(d) for d in (1000 * MS, 33 * MS, 5 * MS, 999, 1)] == [100_000, 100_000, 10_000, 1, 1]


def _toys(count):
    return [Stream(f"cam{i}", 33 * MS, 33 * MS, run_records.STAGES, reward=run_records.REWARD) for i in range(count)]


def test_a_record_of_other_hands_is_explained_and_what_it_does_not_know_is_said(tmp_path):
    meta = {"engine": describe(_toys(4), {"fpga": 1, "cpu": 1}, "fifo-gated", MS)}
    path = run_records.make(tmp_path / "r.db", "fifo-gated", streams=4, seconds=1.0, meta=meta)
    found = explain(path, "worst")
    assert found["replay"]["same"] and found["replay"]["from_start"] and found["depth"] < 2
    assert change(found, "units")["suffices"] == 2
    assert any("never ran" in line or "drawn" in line for row in found["counterfactuals"] for line in row["assumes"])


def test_a_stall_of_the_machine_is_part_of_the_world_that_is_run_again(tmp_path):
    meta = {"engine": describe(_toys(4), {"fpga": 1, "cpu": 1}, "fifo-gated", MS)}
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=1.0, stall=(300 * MS, 60 * MS), meta=meta)
    found = explain(path, "first-miss")
    assert found["cause"]["cause"] == "machine_stall" and "(cause: machine stall)" in found["sentence"]
    assert found["replay"]["same"] and change(found, "deadline")["suffices"] > 33 * MS


def test_where_a_re_run_does_not_do_what_is_recorded_nothing_is_claimed(tmp_path):
    meta = {"engine": describe(_toys(4), {"fpga": 1, "cpu": 1}, "fifo-gated", MS)}
    path = run_records.make(tmp_path / "r.db", "fifo-gated", seconds=1.0, stall=(300 * MS, 60 * MS), meta=meta)
    db = sqlite3.connect(path)
    db.execute("delete from stalls")  # the machine stood still, and nobody saw it
    db.commit()
    db.close()
    found = explain(path, "first-miss")
    assert not found["replay"]["same"] and found["counterfactuals"] == []
    assert "nothing is said" in found["replay"]["notes"][0]


# What cannot be explained ---------------------------------------------------------------------------------------------


def test_an_unknown_frame_names_the_range_and_an_ambiguous_one_the_streams(tmp_path):
    path = two(tmp_path)
    for args, words in ((("7",), "go from 0 to 0"), (("0",), "--stream, one of a, b"), (("0", "c"), "it has a, b"),
                        (("fist-miss", "a"), "did you mean 'first-miss'"), (("-1", "a"), "give its number"), (("1.5", "a"), "is no frame"),
                        (("first-miss", "a"), "no frame was missed"), (("9" * 40, "a"), "go from 0 to 0")):
        with pytest.raises(UsageError, match=re.escape(words)):
            explain(path, *args)


def test_a_frame_that_only_one_stream_has_needs_no_stream(tmp_path):
    scenario = world(tmp_path, stream("a", ["0ms", "50ms"]), stream("b", ["3ms"]))
    assert explain(record(tmp_path / "r.db", scenario, frames=3), 1)["stream"] == "a"


def test_actions_that_the_engine_would_not_take_are_not_explained(tmp_path):
    path = two(tmp_path)
    db = sqlite3.connect(path)
    db.execute("update actions set unit = 3 where rowid = (select max(rowid) from actions where kind = 'start')")
    db.commit()
    db.close()
    with pytest.raises(RecordError, match="is not what this engine does: step"):
        explain(path, 0, "b")


@pytest.mark.parametrize(("change_", "words"), [
    ("delete from meta where key = 'engine'", "does not say how its engine was made"),
    ("delete from steps where step = 1", "lacks step 1"),
    ("update meta set value = replace(value, 'fifo-gated', 'mine') where key = 'engine'", "cannot be made again"),
    ("update meta set value = '{}' where key = 'engine'", "cannot be made again")])
def test_a_record_that_cannot_be_replayed_is_one_error(tmp_path, change_, words):
    path = two(tmp_path)
    db = sqlite3.connect(path)
    db.execute(change_)
    db.commit()
    db.close()
    with pytest.raises(RecordError, match=words):
        explain(path, 0, "b")


def test_the_command_prints_text_or_json_and_errors_in_one_line(tmp_path):
    path = two(tmp_path, deadline="18ms")
    out, _ = edgert("explain", path, "0", "--stream", "b")
    assert out.startswith("Frame 0 of b") and "Binding constraint: preferred" in out and "verified by replay" in out
    content = json.loads(edgert("explain", path, "worst", "--json")[0])
    check("explain", content)
    for argv, code in ((["0"], 2), ([tmp_path / "none.db", "0"], 2), ([tmp_path / "made.toml", "0"], 3)):
        _, err = edgert("explain", *(argv if len(argv) == 2 else [path, *argv]), code=code)
        assert len(err.strip().splitlines()) == 1 and err.startswith("edgert: ")


def test_the_command_takes_the_source_of_a_scheduler_that_is_compiled(tmp_path):
    """Compiled modules, here such that cannot be loaded, lie beside the source: every other command would use them."""
    path = two(tmp_path, deadline="18ms")
    shutil.copytree(ROOT / "scheduler", tmp_path / "compiled", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("engine", "model", "policies/fifo_gated"):
        (tmp_path / "compiled" / "imprecise" / f"{name}{EXTENSION_SUFFIXES[0]}").write_bytes(b"no machine code")
    rooms = os.pathsep.join([str(tmp_path / "compiled"), *(str(ROOT / room) for room in ("sw", "hw", "models"))])
    done = {}
    for name, rest in (("explain", ["0", "--stream", "b"]), ("replay", [])):
        done[name] = subprocess.run([sys.executable, "-m", "edgert.cli", name, path, *rest], capture_output=True, text=True, check=False,
                                    env={**os.environ, "PYTHONPATH": rooms})
    assert done["explain"].stdout.startswith("Frame 0 of b"), done["explain"].stderr
    assert done["replay"].returncode != 0


def test_every_key_of_the_schema_is_documented_and_every_kind_is_in_it():
    from edgert.results.explain_bound import KINDS

    schema = json.loads((ROOT / "sw" / "edgert" / "results" / "explain.schema.json").read_text())
    text = (ROOT / "docs" / "json.md").read_text()
    named = set(re.findall(r"`\"?([a-z0-9_]+)\"?`", text))
    assert set(keys(schema)) - named == set()
    assert schema["$defs"]["constraint"]["properties"]["kind"]["enum"] == list(KINDS) and set(KINDS) <= named


def test_watching_changes_nothing(tmp_path):
    """The policy answers the same whether a frame is watched or not: held by the comparison of every action."""
    scenario = world(tmp_path, *(stream(name, "11ms", "25ms") for name in "abc"))
    path = record(tmp_path / "r.db", scenario, "depth-dp", 60)
    with Run(path) as run:
        steps = len(list(run.replay()))
    for frame in (0, 15):
        assert 0 < explain(path, frame, "b")["replay"]["steps"] <= steps

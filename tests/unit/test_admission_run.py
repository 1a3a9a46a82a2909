"""Admission of whole runs: what becomes C, D and J, which assumptions are stated, and what is refused and how."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from imprecise.admission import Question, admit_run, answer, recheck
from imprecise.model import Stage, Stream

US, MS = 10**3, 10**6


def cameras(n: int, deadline_ns: int = 33 * MS, cost_ns: int = 100 * US, period_ns: int = 33 * MS, optional: str = "cpu") -> list[Stream]:
    stages = (Stage("mandatory", "fpga", True, cost_ns), Stage("stage1", optional, False, 3 * MS, 2 * MS))
    return [Stream(f"cam{i}", period_ns, deadline_ns, stages, jitter_ns=500 * US) for i in range(n)]


UNITS = {"fpga": 1, "cpu": 2}


def test_the_certificate_counts_jitter_latency_and_guard() -> None:
    one = admit_run(cameras(3), UNITS, MS, 200 * US, False, False)
    task = one.certificates["fpga"].tasks[0]
    assert (task.cost_ns, task.period_ns, task.deadline_ns, task.jitter_ns) == (300 * US, 33 * MS, 32 * MS, 700 * US)
    in_line = admit_run(cameras(3), UNITS, MS, 200 * US, False, False, inline=("fpga",), overhead_ns=50 * US)
    task = in_line.certificates["fpga"].tasks[0]
    assert (task.cost_ns, task.deadline_ns, task.jitter_ns) == (150 * US, 32 * MS, 700 * US)


def test_a_stage_in_line_delays_what_others_report() -> None:
    stages = (Stage("pre", "cpu", True, 300 * US), Stage("mandatory", "fpga", True, 100 * US))
    found = admit_run([Stream("cam", 33 * MS, 33 * MS, stages)], UNITS, MS, 200 * US, False, False, inline=("fpga",))
    pre, = found.certificates["cpu"].tasks
    mandatory, = found.certificates["fpga"].tasks
    assert (pre.cost_ns, pre.jitter_ns) == (600 * US, 300 * US)  # 300 + 200 late + 100 in line; 200 late + 100 in line
    assert (mandatory.cost_ns, mandatory.jitter_ns, mandatory.deadline_ns) == (100 * US, pre.deadline_ns, 32 * MS)
    assert found.local_ns == {(0, 0): pre.deadline_ns, (0, 1): 32 * MS}
    assert found.engine_options()["local_ns"] == found.local_ns


def test_optional_stages_on_the_mandatory_resource_are_limited() -> None:
    stages = (Stage("mandatory", "cpu", True, MS), Stage("stage1", "cpu", False, 3 * MS))
    found = admit_run([Stream("cam", 33 * MS, 10 * MS, stages)], {"cpu": 1}, MS, 500 * US, False, False)
    # deadline 10 - guard 1 - arrival 0.5 - (1 + end 0.5) = 7; its own end is seen 0.5 late
    assert found.admitted and found.blocking_ns == {"cpu": 6500 * US}
    assert any(a.kind == "blocking" and a.limit_ns == 6500 * US for a in found.assumptions)
    free = admit_run(cameras(1), UNITS, MS, 500 * US, True, True)
    assert free.blocking_ns == {} and any(a.kind == "preempt" for a in free.assumptions)


def test_a_shared_core_that_does_not_preempt_limits_and_orders_optional_stages() -> None:
    found = admit_run(cameras(2), UNITS, 5 * MS, 500 * US, True, False, inline=("fpga",))
    assert found.yields == {"cpu": ("fpga",)}
    assert found.blocking_ns == {"cpu": (5 * MS - 500 * US - 100 * US) // 2}  # two workers, and timers wait for both
    stage = next(a for a in found.assumptions if a.kind == "stage")
    assert stage.limit_ns == 100 * US + 2 * found.blocking_ns["cpu"]
    assert "never starts" in found.notes[0] and len(found.notes) == 1
    long = admit_run(cameras(2), UNITS, 8 * MS, 500 * US, True, False, inline=("fpga",))
    assert not long.notes


def test_a_refused_run_says_why_and_what_would_do() -> None:
    refused = admit_run(cameras(20, 2 * MS), UNITS, MS, 500 * US, False, False, inline=("fpga",))
    assert refused.answer == "counter-example" and not refused.admitted and refused.counter_example is not None
    least = refused.least_deadline_ns
    assert least == 4 * MS and f"{least} ns" in refused.text and "\n" not in refused.text
    assert admit_run(cameras(20, least), UNITS, MS, 500 * US, False, False, inline=("fpga",)).admitted
    assert not admit_run(cameras(20, least - 1), UNITS, MS, 500 * US, False, False, inline=("fpga",)).admitted
    hopeless = admit_run(cameras(20, cost_ns=2 * MS), UNITS, 3 * MS, 0, False, False)
    assert hopeless.least_deadline_ns is None and "no deadline would do" in hopeless.text


@pytest.mark.parametrize(("change", "say"), [
    (dict(streams=[]), "no stream"),
    (dict(streams=[Stream("a", 0, MS, (Stage("m", "fpga", True, US),))]), "period"),
    (dict(streams=[Stream("a", MS, MS, (Stage("m", "fpga", True),))]), "worst-case"),
    (dict(streams=[Stream("a", MS, MS, (Stage("m", "cpu", False, US),))]), "no mandatory"),
    (dict(streams=[Stream("a", MS, MS, (Stage("m", "dsp", True, US),))]), "dsp"),
    (dict(streams=[Stream("a", MS, MS, (Stage("m", "fpga", True, US),)), Stream("b", MS, MS, (Stage("m", "fpga", True, 2 * US),))]),
     "two worst-case times"),
    (dict(guard_ns=100 * US), "guard"),
    (dict(guard_ns=550 * US, inline=("fpga",)), "guard"),
    (dict(streams=[Stream("a", 33 * MS, 33 * MS, (Stage("m", "cpu", True, US), Stage("o", "cpu", False)))]), "has no time"),
    (dict(streams=[Stream("a", 33 * MS, 33 * MS, (Stage("m", "fpga", True, US), Stage("n", "cpu", True, US)))],
          inline=("fpga", "cpu")), "one resource"),
])
def test_what_cannot_be_proven_is_not_and_says_why(change: dict, say: str) -> None:
    given = dict(streams=cameras(1), resources=UNITS, guard_ns=MS, wakeup_ns=500 * US, shared=False, preempted=False)
    found = admit_run(**{**given, **change})
    assert found.answer == "not proven" and say in found.text and not found.engine_options()["yields"]


def test_assumptions_are_numbered_and_say_where_worst_cases_come_from() -> None:
    found = admit_run(cameras(2), UNITS, MS, 500 * US, False, False, sources={"mandatory": "cycles / clock"})
    assert [a.name for a in found.assumptions] == [f"A{i + 1}" for i in range(len(found.assumptions))]
    assert [a.kind for a in found.assumptions] == ["stage", "wake-up", "period", "jitter", "period", "jitter", "fault"]
    assert "cycles / clock" in found.assumptions[0].text and found.text.endswith("A1 to A7 hold")
    assert all(recheck(c) for c in found.certificates.values())


def test_a_policy_that_does_not_split_needs_all_of_it_admitted() -> None:
    assert admit_run(cameras(8), UNITS, MS, 500 * US, False, False).admitted
    whole = admit_run(cameras(8), {"fpga": 1, "cpu": 1}, MS, 500 * US, False, False, splits=False)
    assert not whole.admitted or set(whole.certificates) == {"fpga", "cpu"}
    assert not admit_run(cameras(12), {"fpga": 1, "cpu": 1}, MS, 500 * US, False, False, splits=False).admitted


def test_the_record_is_json() -> None:
    for found in (admit_run(cameras(2), UNITS, MS, 500 * US, True, False), admit_run(cameras(20, 2 * MS), UNITS, MS, MS, False, False)):
        back = json.loads(json.dumps(found.to_dict()))
        assert back["answer"] == found.answer and back["text"] == found.text


# What scenarios may describe ------------------------------------------------------------------------------------------


def two(first: int, second: int, **changes: object) -> Question:
    """A short urgent stream and a long lazy one on the resource `a`."""
    streams = (Stream("urgent", 20, 10, (Stage("m0", "a", True, first),)), Stream("lazy", 100, 100, (Stage("m1", "a", True, second),)))
    return Question(streams, {"a": 1}, **changes)


def test_what_interrupts_is_not_blocked() -> None:
    assert answer(two(4, 6)).admitted and not answer(two(4, 8)).admitted
    found = answer(two(4, 8, preemptive=("a",)))
    assert found.admitted and found.certificates["a"].resource == "p-edf" and found.engine_options()["preemptive"] == ("a",)
    assert answer(replace(two(4, 8, preemptive=("a",)), resources={"a": 2})).answer == "not proven"


def test_fixed_priorities_are_analysed_in_their_order() -> None:
    right, wrong = answer(two(4, 7, priorities=(0, 1))), answer(two(4, 7, priorities=(1, 0)))
    assert right.admitted and right.certificates["a"].resource == "np-fp" and right.engine_options()["priorities"] == (0, 1)
    assert [t.period_ns for t in right.certificates["a"].tasks] == [20, 100]
    assert wrong.answer == "counter-example" and [t.period_ns for t in wrong.counter_example.tasks] == [100, 20]
    assert answer(two(4, 8, priorities=(0, 1), preemptive=("a",))).certificates["a"].resource == "p-fp"
    again = replace(two(4, 7, priorities=(0, 1)).streams[0], stages=tuple(Stage(n, r, True, 1) for n, r in ("ua", "vb", "wa")))
    found = answer(Question((again,), {"a": 1, "b": 1}, priorities=(0,)))
    assert found.answer == "not proven" and "comes back" in found.text


def test_overheads_and_slowdowns_are_counted() -> None:
    stages = (Stage("m", "a", True, 10), Stage("o", "a", False, 20))
    asked = Question((Stream("s", 100, 60, stages),), {"a": 1})
    assert answer(asked).blocking_ns == {"a": 50}
    found = answer(replace(asked, overhead_ns=2, decision_ns=3, slower={"a": 1.5}))
    assert found.certificates["a"].tasks[0].cost_ns == 17
    assert found.blocking_ns == {"a": 25}  # (60 - 17 - 2 - 3) / 1.5: such a stage takes 25 x 1.5 + 2 + 3
    assert [a.limit_ns for a in found.assumptions if a.kind in ("stage", "overhead")] == [15, 2]
    assert "times 1.5" in found.assumptions[0].text
    assert answer(replace(asked, splits=False, decision_ns=3)).certificates["a"].tasks[0].cost_ns == 33


@pytest.mark.parametrize(("changes", "say"), [
    (dict(pauses={"a": "b"}), "pauses while"),
    (dict(streams=(Stream("s", 100, 60, (Stage("m", "a", True, 1, units=(0,)),)),), resources={"a": 2}), "some units"),
    (dict(priorities=(0, 1), resources={"a": 2}), "several units"),
])
def test_what_is_not_analysed_is_said(changes: dict, say: str) -> None:
    found = answer(replace(two(1, 1), **changes))
    assert found.answer == "not proven" and say in found.text


def test_a_version_stream_needs_its_last_version_where_nothing_is_split() -> None:
    stages = (Stage("m", "a", True, 10), Stage("small", "a", False, 30), Stage("large", "a", False, 50))
    asked = Question((Stream("s", 200, 100, stages, kind="version"),), {"a": 1}, splits=False)
    assert answer(asked).certificates["a"].tasks[0].cost_ns == 60
    assert answer(replace(asked, streams=(replace(asked.streams[0], kind="milestone"),))).certificates["a"].tasks[0].cost_ns == 90


def test_optional_stages_that_hold_a_core_and_share_a_resource_with_mandatory_ones_are_not_admitted() -> None:
    stages = (Stage("pre", "cpu", True, 2), Stage("m", "fpga", True, 3), Stage("o", "cpu", False, 5))
    asked = Question((Stream("s", 100, 90, stages),), {"cpu": 1, "fpga": 1}, 10, 0, True, False, ("fpga",))
    assert answer(asked).answer == "not proven" and answer(replace(asked, preempted=True)).admitted


def test_a_scenario_names_the_faults_that_reach_mandatory_work() -> None:
    from imprecise.conditions import Conditions, RandomFault, ResourceFault
    from imprecise.question import of_scenario
    from imprecise.scenario import load

    world = load("made-up")
    faults = Conditions(faults=(RandomFault("first", "failed", 0.1), RandomFault("second", "failed", 0.1)),
                        resource_faults=(ResourceFault(5, "fpga", 0), ResourceFault(5, "cpu", 0)))
    found = answer(of_scenario(replace(world, conditions=faults)))
    assert found.admitted and len(found.notes) == 2 and "'first'" in found.notes[0] and "'fpga'" in found.notes[1]

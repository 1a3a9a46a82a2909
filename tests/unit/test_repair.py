"""Margins and smallest changes: each value is admitted and the next is not, by brute force and by exhaustive search of patterns."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from imprecise import repair
from imprecise.admission import Certificate, admit, answer, is_admitted
from imprecise.model import Stage, Stream
from imprecise.question import Question
from sporadic import can_miss

MS = 10**6


def stream(i: int, costs: list[int], period: int, deadline: int, jitter: int = 0, resources: str = "a", optional: int = 0) -> Stream:
    """A stream in small integers; its mandatory stages run on resources named by one letter each, in turn."""
    stages = [Stage(f"m{i}.{k}", r, True, c, c) for k, (c, r) in enumerate(zip(costs, resources * len(costs)))]
    stages += [Stage(f"o{i}", resources[-1], False, optional, optional)] if optional else []
    return Stream(f"s{i}", period, deadline, tuple(stages), jitter)


def random_question(random: Random, resources: str = "a") -> Question:
    """One to three streams; with several resources a stage on each."""
    streams = []
    for i in range(random.randint(1, 3)):
        period = random.randint(3, 9)
        costs = [random.randint(1, max(1, period // 2)) for _ in resources]
        streams.append(stream(i, costs, period, random.randint(2, 10 * len(resources)), random.randint(0, 1), resources))
    return Question(tuple(streams), dict.fromkeys(resources, 1), guard_ns=random.choice([0, 0, 1]))


def tasks(asked: Question) -> list[tuple[int, int, int, int]]:
    """(C, T, D, J) of each stream of one stage, for the search."""
    return [(s.stages[0].wcet_ns, s.period_ns, s.deadline_ns - asked.guard_ns, s.jitter_ns) for s in asked.streams]


def safe(asked: Question) -> bool | None:
    """Whether no pattern makes it miss, by exhaustive search; None: too large."""
    if any(d <= 0 for _, _, d, _ in tasks(asked)):
        return False
    missed = can_miss(tasks(asked), most=2000)
    return None if missed is None else not missed


def refused(seed: int, count: int, resources: str = "a"):
    """`count` random questions that are not admitted."""
    random = Random(seed)
    while count:
        asked = random_question(random, resources)
        if not is_admitted(asked):
            count -= 1
            yield asked


def smaller(asked: Question, change: repair.Change) -> Question:
    """The next smaller change."""
    if change.kind == "deadline":
        return repair.with_deadline(asked, change.value - 1)
    if change.kind == "rate":
        return repair.with_period(asked, change.value - 1)
    if change.kind == "cut":
        return repair.with_cut(asked, change.subject, change.value + 1)
    if change.kind == "guard":
        return replace(asked, guard_ns=change.value + 1)
    return replace(asked, resources={**asked.resources, change.subject: change.value - 1})


# By the shape of the change -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resources", ["a", "ab"])
def test_is_admitted_says_what_the_answer_says(resources):
    random = Random(5)
    found = Counter()
    for _ in range(200):
        asked = random_question(random, resources)
        found[is_admitted(asked)] += 1
        assert answer(asked).admitted is is_admitted(asked)
    assert min(found[True], found[False]) > 30


def test_the_least_deadline_is_the_least_and_true():
    seen = Counter()
    for asked in refused(1, 80):
        change = repair.least_deadline(asked)
        admitted = [d for d in range(1, change.value + 1 if change else 40) if is_admitted(repair.with_deadline(asked, d))]
        if change is None:
            assert not admitted and sum(c / t for c, t, _, _ in tasks(asked)) > 1
            continue
        assert admitted == [change.value] and answer(change.question).admitted
        assert [s.deadline_ns for s in change.question.streams] == [max(s.deadline_ns, change.value) for s in asked.streams]
        truth = safe(change.question), safe(repair.with_deadline(asked, change.value - 1))
        assert truth[0] is not False and truth[1] is not True, (asked, change)
        seen[truth] += 1
    assert seen[True, False] > 15


def test_the_highest_rates_are_the_highest_and_true():
    seen = Counter()
    for asked in refused(2, 80):
        change = repair.highest_rates(asked)
        fastest = min(s.period_ns for s in asked.streams)
        admitted = [t for t in range(fastest, change.value + 1 if change else 60) if is_admitted(repair.with_period(asked, t))]
        if change is None:
            assert not admitted
            continue
        assert admitted == [change.value] and answer(change.question).admitted
        assert min(s.period_ns for s in change.question.streams) == change.value
        for before, after in zip(asked.streams, change.question.streams):
            assert after.period_ns * fastest >= before.period_ns * change.value > (after.period_ns - 1) * fastest
        truth = safe(change.question), safe(repair.with_period(asked, change.value - 1))
        assert truth[0] is not False and truth[1] is not True
        seen[truth] += 1
    assert seen[True, False] > 5


def test_the_guard_is_the_nearest():
    seen = Counter()
    random = Random(0)
    for _ in range(300):
        asked = replace(random_question(random), guard_ns=random.randint(0, 4), wakeup_ns=random.randint(0, 2))
        if is_admitted(asked):
            continue
        change = repair.nearest_guard(asked)
        admitted = [g for g in range(12) if is_admitted(replace(asked, guard_ns=g))]
        if change is None:
            assert not admitted
            continue
        assert change.value == (min(admitted) if asked.guard_ns < asked.wakeup_ns else max(admitted))
        seen[asked.guard_ns < asked.wakeup_ns] += 1
    assert seen[True] > 5 and seen[False] > 5


def test_the_fewest_units_are_the_fewest():
    seen = 0
    for asked in refused(4, 150):
        change = repair.fewest_units(asked, "a")
        admitted = [n for n in range(2, 20) if is_admitted(replace(asked, resources={"a": n}))]
        assert (change.value if change else None) == (admitted[0] if admitted else None)
        seen += change is not None
        if change and safe(change.question) is not None:
            assert not can_miss(tasks(change.question), units=change.value, most=4000)
    assert seen > 30
    assert repair.fewest_units(replace(asked, inline=("a",)), "a") is None


def test_a_stage_is_cut_as_unevenly_as_may_be_and_only_where_that_helps():
    seen = Counter()
    for asked in refused(6, 900):
        for name, stage in asked.mandatory().items():
            change = repair.longest_piece(asked, name)
            admitted = [p for p in range(-(-stage.wcet_ns // 2), stage.wcet_ns) if is_admitted(repair.with_cut(asked, name, p))]
            assert (change.value if change else None) == (max(admitted) if admitted else None)
            if change:
                pieces = [s for s in change.question.mandatory().values() if s.name.startswith(f"{name}.")]
                assert [p.wcet_ns for p in pieces] == [change.value, stage.wcet_ns - change.value]
                assert isinstance(answer(change.question).certificates["a"], Certificate)
                seen[change.value * 2 > stage.wcet_ns + 1] += 1
    assert sum(seen.values()) > 8


def test_over_several_resources_each_value_is_admitted_and_the_next_is_not():
    seen = Counter()
    for asked in refused(7, 30, "abc"):
        for change in repair.smallest_changes(asked):
            assert answer(change.question).admitted, change
            assert not is_admitted(smaller(asked, change)), change
            seen[change.kind] += 1
    assert seen["deadline"] > 12 and len(seen) >= 4, seen


def test_the_guard_that_goes_with_a_deadline_is_asked_with_it():
    asked = Question((stream(0, [4 * MS], 20 * MS, 4 * MS),), {"a": 1}, guard_ns=MS)
    plain, with_guard = repair.least_deadline(asked), repair.least_deadline(asked, lambda d: max(MS, d // 3))
    assert (plain.value, with_guard.value) == (5 * MS, 6 * MS - 1) and with_guard.question.guard_ns == 2 * MS - 1


def test_what_is_admitted_needs_no_change_and_what_cannot_be_analysed_has_none():
    fine = Question((stream(0, [1], 5, 5),), {"a": 1})
    assert repair.smallest_changes(fine) == []
    for hopeless in (Question((), {"a": 1}), Question((stream(0, [0], 5, 5),), {"a": 1}), Question((stream(0, [1], 0, 5),), {"a": 1}),
                     Question((stream(0, [1], 5, 5),), {"b": 1})):
        assert repair.smallest_changes(hopeless) == [] and repair.margins(hopeless) is None


# Optional stages in the way -------------------------------------------------------------------------------------------


def test_an_optional_stage_that_never_starts_is_cut_to_what_may_start():
    asked = Question((stream(0, [2], 20, 12, optional=15), stream(1, [3], 30, 30)), {"a": 1})
    found = answer(asked)
    change, = repair.unblocked(asked, found)
    assert (change.kind, change.subject, change.value) == ("piece", "o0", found.blocking_ns["a"]) and "cut in 2" in change.text
    longer = replace(asked, streams=(stream(0, [2], 20, 12, optional=change.value + 1), asked.streams[1]))
    assert repair.blocked(longer, answer(longer)) and not repair.blocked(change.question, answer(change.question))
    assert repair.unblocked(change.question, answer(change.question)) == []


def test_stages_that_share_a_core_are_let_in_by_preemption_or_cores_of_their_own():
    stages = (Stage("m", "fpga", True, 100), Stage("o", "cpu", False, 900))
    asked = Question((Stream("s", 10_000, 5_000, stages),), {"fpga": 1, "cpu": 2}, 1000, 100, True, False, ("fpga",))
    found = answer(asked)
    assert found.admitted and set(repair.blocked(asked, found)) == {"o"}
    assert [change.kind for change in repair.unblocked(asked, found)] == ["piece", "preempted", "own cores"]


def test_sharing_that_cannot_be_analysed_is_repaired_by_not_sharing():
    stages = (Stage("m", "x", True, 100), Stage("o", "cpu", False, 50))
    asked = Question((Stream("s", 10_000, 5_000, stages),), {"x": 2, "cpu": 2}, 1000, 100, True, False)
    assert answer(asked).answer == "not proven"
    kinds = [change.kind for change in repair.smallest_changes(asked)]
    assert "preempted" in kinds and "own cores" in kinds and "deadline" not in kinds


# Margins --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resources", ["a", "ab"])
def test_margins_are_the_edge_by_brute_force(resources):
    random, seen = Random(8), 0
    while seen < 25:
        asked = replace(random_question(random, resources), guard_ns=2)
        found = repair.margins(asked)
        if found is None:
            assert not is_admitted(asked)
            continue
        seen += 1
        for name, more in found.cost_ns.items():
            for x, is_it in ((more, True), (more + 1, False)):
                assert is_admitted(repair.with_costs(asked, {name: asked.mandatory()[name].wcet_ns + x})) is is_it
        for name, less in found.deadline_ns.items():
            alike = next(group for group in repair.alike(asked.streams) if name in [s.name for s in group])
            for x, is_it in ((less, True), (less + 1, False)):
                changed = tuple(replace(s, deadline_ns=s.deadline_ns - x) if s in alike else s for s in asked.streams
                                if s.deadline_ns > x or s not in alike)
                assert (len(changed) == len(asked.streams) and is_admitted(replace(asked, streams=changed))) is is_it
        for x, is_it in ((found.wakeup_ns, True), (found.wakeup_ns + 1, False)):
            assert is_admitted(replace(asked, wakeup_ns=x)) is is_it
    assert found.costs >= 1


def test_parts_are_the_tasks_of_the_certificates():
    asked = Question((stream(0, [2, 3, 1], 30, 40, 1, "aba"), stream(1, [2, 2, 1], 30, 40, 0, "aab")), {"a": 1, "b": 1}, 1)
    found = answer(asked)
    parts = repair.parts(asked, found)
    assert [(p.stream, p.stages, p.resource) for p in parts] == [
        ("s0", ("m0.0",), "a"), ("s0", ("m0.1",), "b"), ("s0", ("m0.2",), "a"), ("s1", ("m1.0", "m1.1"), "a"), ("s1", ("m1.2",), "b")]
    assert [p.cost_ns for p in parts] == [2, 3, 1, 4, 1] and parts[2].deadline_ns == 39
    for resource in "ab":
        own = [(p.cost_ns, p.deadline_ns, p.jitter_ns) for p in parts if p.resource == resource]
        assert own == [(t.cost_ns, t.deadline_ns, t.jitter_ns) for t in found.certificates[resource].tasks]
        assert isinstance(admit(found.certificates[resource].tasks), Certificate)

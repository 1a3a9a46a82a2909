"""`admit` against a search of all arrival patterns: every integer set of at most 3 tasks with C <= D <= T <= 10.

The search (sporadic.search) finds for each set whether some pattern of offsets and arrivals misses, and the longest responses.
Three facts, each independent of any analysis, save work: with D <= T and more work than time (U > 1) some job is late; a set with
tasks that miss by themselves misses, as the others need not release; and fixed priority knows no deadlines, so one search with
D = T gives the responses for all D. The quick part takes T <= 5, the slow one all of it.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from random import Random

import numpy as np
import pytest

from imprecise.admission import Certificate, CounterExample, admit, recheck, response_times
from sporadic import replay, search

WHOLE = 2520  # a multiple of all periods up to 10
EDF, FIXED = ["np-edf", "p-edf"], ["np-fp", "p-fp"]


def all_tasks(longest: int) -> np.ndarray:
    """All (C, T, D) with C <= D <= T <= longest."""
    return np.array([(c, t, d) for t in range(1, longest + 1) for c in range(1, t + 1) for d in range(c, t + 1)])


def loads(tasks: np.ndarray) -> np.ndarray:
    """C / T in units of 1 / WHOLE."""
    return tasks[..., 0] * WHOLE // tasks[..., 1]


def decided(tasks: np.ndarray, sets: np.ndarray, resource: str, missed: np.ndarray, every: int) -> int:
    """Compare `admit` with the search, recheck or replay each `every`-th answer, and count the differences."""
    as_tuples = [tuple(map(int, task)) for task in tasks]
    differences = 0
    for n, (members, miss) in enumerate(zip(sets.tolist(), missed.tolist(), strict=True)):
        verdict = admit([as_tuples[i] for i in members], resource)
        if not isinstance(verdict, CounterExample if miss else Certificate):
            differences += 1
        elif n % every == 0:
            assert replay(verdict.tasks, verdict.arrivals, resource) if isinstance(verdict, CounterExample) else recheck(verdict)
    return differences


def edf(resource: str, longest: int, every: int) -> tuple[int, int, int]:
    """(sets compared, of which miss, differences): all of 1 to 3 tasks with U <= 1."""
    tasks = all_tasks(longest)
    load = loads(tasks)
    compared = misses = differences = 0
    pair_misses = np.zeros((len(tasks), len(tasks)), dtype=bool)
    for size in (1, 2, 3):
        sets = np.array([s for i in range(len(tasks)) for s in combinations_with_replacement(range(i, len(tasks)), size) if s[0] == i])
        sets = sets[load[sets].sum(axis=1) <= WHOLE]
        missed = np.zeros(len(sets), dtype=bool)
        if size == 3:
            for a, b in ((0, 1), (0, 2), (1, 2)):
                missed |= pair_misses[sets[:, a], sets[:, b]]
        open_ = np.flatnonzero(~missed)
        missed[open_] = search(tasks[sets[open_]], resource)[0]
        if size == 2:
            pair_misses[sets[missed][:, 0], sets[missed][:, 1]] = True
        compared += len(sets)
        misses += int(missed.sum())
        differences += decided(tasks, sets, resource, missed, every)
    return compared, misses, differences


def fixed(resource: str, longest: int, size: int) -> tuple[int, int]:
    """(ordered sets of (C, T) compared, of which some job outlasts its period): responses, then `admit` at the least deadlines."""
    tasks = np.array([(c, t, t) for t in range(1, longest + 1) for c in range(1, t + 1)])
    sets = np.array(list(product(range(len(tasks)), repeat=size)))
    sets = sets[loads(tasks)[sets].sum(axis=1) <= WHOLE]
    missed, longest_responses = search(tasks[sets], resource)
    for members, miss, responses in zip(tasks[sets].tolist(), missed.tolist(), longest_responses.tolist(), strict=True):
        pairs = [(c, t) for c, t, _ in members]
        found = response_times(pairs, resource)
        if miss:
            assert any(r is None or r > t for r, (_, t) in zip(found, pairs, strict=True)), (pairs, resource, found)
            continue
        assert found == responses, (pairs, resource, found, responses)
        verdict = admit([(c, t, r) for (c, t), r in zip(pairs, responses, strict=True)], resource)
        assert isinstance(verdict, Certificate) and list(verdict.responses_ns) == responses and verdict.slack_ns == 0
        for i, (c, _) in enumerate(pairs):
            if responses[i] > c:
                tight = [(*pair, r - (k == i)) for k, (pair, r) in enumerate(zip(pairs, responses, strict=True))]
                late = admit(tight, resource)
                assert isinstance(late, CounterExample) and replay(late.tasks, late.arrivals, resource), (tight, resource)
    return len(sets), int(missed.sum())


def overloaded(resource: str, longest: int, count: int, seed: int = 1) -> None:
    """Random sets with U > 1: a counter-example each, that replays."""
    random, tasks, seen = Random(seed), all_tasks(longest).tolist(), 0
    while seen < count:
        members = [tuple(random.choice(tasks)) for _ in range(random.choice([2, 3, 3]))]
        if sum(c * WHOLE // t for c, t, _ in members) > WHOLE:
            verdict = admit(members, resource)
            assert isinstance(verdict, CounterExample) and replay(verdict.tasks, verdict.arrivals, resource), (members, resource)
            seen += 1


@pytest.mark.parametrize("resource", EDF)
def test_all_small_sets_under_edf(resource: str) -> None:
    compared, misses, differences = edf(resource, 5, 5)
    assert differences == 0 and compared == 35 + 331 + 972 and 300 < misses < 1000, (compared, misses, differences)


@pytest.mark.parametrize("resource", FIXED)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_small_sets_under_fixed_priority(resource: str, size: int) -> None:
    compared, misses = fixed(resource, 6, size)
    assert compared == {1: 21, 2: 125, 3: 329}[size] and (misses > 10) is (size > 1), (compared, misses)


@pytest.mark.parametrize("resource", EDF + FIXED)
def test_more_work_than_time_has_a_counter_example(resource: str) -> None:
    overloaded(resource, 10, 300)


@pytest.mark.slow
@pytest.mark.parametrize("resource", EDF)
def test_all_sets_with_periods_to_ten_under_edf(resource: str) -> None:
    compared, misses, differences = edf(resource, 10, 20)
    print(f"\n{resource}: {compared} sets, {misses} miss, {differences} differences")
    assert differences == 0 and compared == 220 + 16_439 + 496_803
    overloaded(resource, 10, 10_000, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("resource", FIXED)
def test_all_sets_with_periods_to_ten_under_fixed_priority(resource: str) -> None:
    for size in (1, 2, 3):
        compared, misses = fixed(resource, 10, size)
        print(f"\n{resource}, {size} tasks: {compared} ordered sets of (C, T), {misses} with a job that outlasts its period")
        assert compared == {1: 55, 2: 1057, 3: 11_193}[size]
    overloaded(resource, 10, 10_000, seed=2)

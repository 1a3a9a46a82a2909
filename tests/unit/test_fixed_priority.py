"""Response times and weakly hard bounds under fixed priority: published examples, naive schedules, and bounded work."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from imprecise.admission import Certificate, CounterExample, NotProven, Task, admit, most_misses, recheck, response_times, weakly_hard
from imprecise.weakly_hard import _earlier
from sporadic import most_late, replay

BOTH = ["p-fp", "np-fp"]

# Response times -------------------------------------------------------------------------------------------------------


def test_published_response_times() -> None:
    assert response_times([(3, 7), (3, 12), (5, 20)]) == [3, 6, 20]  # Burns and Wellings, Real-Time Systems and Programming Languages
    assert response_times([(26, 70), (62, 100)]) == [26, 118]  # Lehoczky 1990: the fifth job, 118; the first ends after 114
    can = [(1000, 2500), (1000, 3500), (1000, 3500)]  # Davis et al. 2007, figure 2: the second job of the last one, 3.5 bits
    assert response_times(can, "np-fp") == [1999, 2999, 3500]


def test_without_preemption_the_deadline_that_only_the_second_job_misses_is_seen() -> None:
    can = [(1000, 2500, 2500), (1000, 3500, 3250), (1000, 3500, 3250)]
    found = admit(can, "np-fp")
    assert isinstance(found, CounterExample) and len(replay(found.tasks, found.arrivals, "np-fp")) == 1


def test_blocking_and_jitter_are_part_of_it() -> None:
    assert response_times([(2, 10, 10, 3), (3, 20, 20, 0, 4)]) == [5, 9]
    assert response_times([(2, 10, 0, 0, 5), (9, 20, 0)]) == [7, 13]  # two jobs of the first, 5 apart, then 9 of the second
    assert response_times([(1, 4, 0, 0, 9), (3, 100)]) == [10, 7]  # three jobs arrive at once, the first is the latest; a fourth at 3


@pytest.mark.parametrize("resource", BOTH)
def test_no_legal_pattern_is_slower(resource: str) -> None:
    """Random gaps, jitter and costs: with the response times as deadlines no job is late; and the worst case is seen at times."""
    random, tight = Random(4), 0
    for _ in range(150):
        tasks = []
        for _ in range(random.randint(2, 4)):
            period = random.randint(5, 40)
            tasks.append((random.randint(1, max(1, period // 3)), period, 0, 0, random.choice([0, 0, random.randint(0, 30)])))
        found = response_times(tasks, resource)
        if None in found:
            continue
        jobs, sure = [], [(c, t, r, j) for (c, t, _, _, j), r in zip(tasks, found, strict=True)]
        for i, (_, period, _, _, jitter) in enumerate(tasks):
            release = arrival = random.randint(0, 20)
            for _ in range(25):
                arrival = max(arrival, release + random.choice([0, jitter, random.randint(0, jitter)]))
                if arrival <= release + jitter:
                    jobs.append((i, release, arrival))
                release += period + random.choice([0, 0, 0, random.randint(0, period)])
        assert replay(sure, jobs, resource) == []
        tight += bool(replay([(c, t, max(1, r - 2), j) for c, t, r, j in sure], jobs, resource))
    assert tight > 15


@pytest.mark.parametrize("resource", BOTH)
def test_given_blocking_counts_as_other_work_in_admission(resource: str) -> None:
    random = Random(8)
    for _ in range(200):
        tasks = [(random.randint(1, 4), random.randint(8, 30), 200, random.randint(0, 9)) for _ in range(3)]
        q = random.randint(0, 9)
        verdict = admit(tasks, resource, blocking_ns=q)
        if isinstance(verdict, Certificate):
            assert list(verdict.responses_ns) == response_times([(c, t, d, q, j) for c, t, d, j in tasks], resource)
            assert recheck(verdict)


def test_unbounded_and_full_loads() -> None:
    assert response_times([(1, 2), (1, 2), (1, 1000)]) == [1, 2, None]
    assert response_times([(1, 2), (1, 2), (1, 1000)], "np-fp") == [1, 2, None]
    assert response_times([(2, 3), (2, 3), (1, 9)]) == [2, None, None]
    assert response_times([]) == []
    assert response_times([(1, 2), (2, 6, 0, 3), (1, 6)]) == [1, 10, 6]  # load 1 and blocking: the busy period has no end
    near = [(10**6, 2 * 10**6 + 1), (10**6, 2 * 10**6 - 1)]
    assert response_times(near, max_steps=1000) == [10**6, None]
    verdict = admit([(c, t, 10**12) for c, t in near], "p-fp", max_steps=1000)
    assert isinstance(verdict, NotProven) and "1000" in verdict.reason
    over = admit([(10**6, 2 * 10**6), (10**6 + 1, 2 * 10**6, 10**12)], "p-fp", max_steps=1000)
    assert isinstance(over, NotProven) and "load" in over.reason
    late = admit([(3, 4), (2, 4, 40)], "np-fp")
    assert isinstance(late, CounterExample) and replay(late.tasks, late.arrivals, "np-fp")


def test_nonsense_is_refused() -> None:
    for bad in ((0, 5), (1, 0), (1, 5, -2), (1, 5, 5, -1), (1, 5, 5, 0, -1)):
        with pytest.raises(ValueError):
            response_times([bad])
    with pytest.raises(ValueError, match="np-fp, p-fp"):
        response_times([(1, 5)], "edf")
    with pytest.raises(ValueError, match="np-fp, p-fp"):
        most_misses([(1, 5)], 3, "edf")
    with pytest.raises(ValueError, match="k = 0"):
        most_misses([(1, 5)], 0)
    with pytest.raises(ValueError, match="m = 4 and k = 3"):
        weakly_hard([(1, 5)], 4, 3)


def test_a_lower_job_in_pieces_blocks_by_one_piece() -> None:
    assert isinstance(admit([(1, 10, 2), (5, 10)], "np-fp"), CounterExample)
    found = admit([(1, 10, 2), Task(5, 10, 10, 0, piece_ns=2)], "np-fp")
    assert isinstance(found, Certificate) and recheck(found) and found.responses_ns == (2, 6)
    assert isinstance(admit([(1, 10, 2), Task(5, 10, 10, 0, piece_ns=3)], "np-fp"), NotProven)
    assert isinstance(admit([(1, 10, 6)], "np-fp", blocking_ns=6), NotProven)


# Weakly hard ----------------------------------------------------------------------------------------------------------


def periodic_sets(seed: int, count: int) -> list[tuple[list[tuple[int, int, int]], int]]:
    """Random (tasks, k) with a load of 0.6 to 1."""
    random, out = Random(seed), []
    while len(out) < count:
        tasks = []
        for _ in range(random.choice([2, 3, 3])):
            period = random.randint(2, 8)
            cost = random.randint(1, period)
            tasks.append((cost, period, random.randint(cost, period + 3)))
        if 0.6 < sum(c / t for c, t, _ in tasks) <= 1:
            out.append((tasks, random.randint(1, 6)))
    return out


def test_preemptive_bounds_are_exact_and_others_are_never_below() -> None:
    cases = [("p-fp", 1 << 14), ("p-fp", 9), ("p-fp", 1), ("np-fp", 1 << 14)]
    gaps: dict[tuple[str, int], Counter[int]] = {case: Counter() for case in cases}
    for tasks, k in periodic_sets(1, 60):
        exact = {resource: most_late(tasks, k, resource) for resource in BOTH}
        for (resource, cells), counts in gaps.items():
            bound = most_misses(tasks, k, resource, cells)
            counts.update(b - e for b, e in zip(bound, exact[resource], strict=True) if e or b)
            assert all(b >= e for b, e in zip(bound, exact[resource], strict=True)), (tasks, k, resource, cells)
    assert set(gaps["p-fp", 1 << 14]) == {0} and gaps["p-fp", 1 << 14][0] > 25
    assert gaps["p-fp", 9][0] > 15 and gaps["np-fp", 1 << 14][0] > 15
    assert sum(n for gap, n in gaps["p-fp", 1].items() if gap) > 10, "one cell is no analysis"


def test_a_later_job_sees_each_cell_as_the_worst_of_the_phases_in_it() -> None:
    random = Random(9)
    for _ in range(500):
        period = random.randint(1, 14)
        width = random.randint(1, period)
        table = np.array([random.random() < 0.3 for _ in range(0, period, width)])
        shift = random.randrange(period)
        seen = [any(table[(phase - shift) % period // width] for phase in range(first, min(first + width, period)))
                for first in range(0, period, width)]
        assert _earlier(table, 0, shift, period, width).tolist() == seen, (table, shift, period, width)


@pytest.mark.parametrize("resource", BOTH)
def test_jitter_and_shorter_jobs_cause_no_more_misses_than_the_bound(resource: str) -> None:
    random, seen = Random(6), 0
    for tasks, k in periodic_sets(2, 60):
        with_jitter = [(*task, random.randint(0, 2)) for task in tasks]
        bound = most_misses(with_jitter, k, resource)
        for _ in range(6):
            jobs, offsets = [], [random.randrange(t) for _, t, _ in tasks]
            for i, (_, period, _, jitter) in enumerate(with_jitter):
                arrival = 0
                for release in range(offsets[i], offsets[i] + 40 * period, period):
                    arrival = max(arrival, release + random.randint(0, jitter))
                    jobs.append((i, release, arrival))
            late = set(replay(with_jitter, jobs, resource))
            for i in range(len(tasks)):
                mine = [n in late for n, job in enumerate(jobs) if job[0] == i]
                worst = max(sum(mine[n:n + k]) for n in range(len(mine) - k + 1))
                assert worst <= bound[i], (with_jitter, k, resource)
                seen += worst > 0
    assert seen > 50


def test_what_always_meets_its_deadline_never_misses_and_the_sign_agrees() -> None:
    for tasks, k in periodic_sets(3, 40):
        bound = most_misses(tasks, k)
        for task, response, misses in zip(tasks, response_times(tasks), bound, strict=True):
            assert response is not None and (misses == 0 or response > task[2])
        m = k - max(bound)
        assert weakly_hard(tasks, m, k) and (m == k or not weakly_hard(tasks, m + 1, k))


def test_cameras_in_nanoseconds_are_answered_in_bounded_work() -> None:
    """A third camera that may miss, but never more than 3 of 5 frames; as fine as where all phases are told apart."""
    ms = 10**6
    tasks = [(10 * ms, 33 * ms), (12 * ms, 100 * ms), (20 * ms, 60 * ms, 35 * ms)]
    assert response_times(tasks)[2] == 52 * ms
    for k in (1, 5):
        assert most_misses(tasks, k) == most_misses([tuple(v // ms for v in task) for task in tasks], k)
    assert weakly_hard(tasks, 2, 5) and not weakly_hard(tasks, 3, 5)
    assert most_misses([(10**6, 2 * 10**6 + 1), (10**6, 2 * 10**6 - 1, 10**6 + 1)], 5) == [0, 5]  # nothing is known: all may miss
    assert most_misses([(3, 4), (2, 4)], 7) == [0, 7]

"""Classical optima on examples worked by hand, what they refuse, and their edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise import depths
from imprecise.bounds import Exponential, Linear, Logarithmic, best_depths, minimum_total_error, optimal_static_times
from imprecise.model import Curve

HUGE = 10**40

# minimum_total_error ---------------------------------------------------------------------------------------------------


def test_edf_alone_would_starve_a_mandatory_part():
    jobs = [(0, 4, 0, 4), (0, 5, 3, 0)]  # EDF gives the first one all of 0..4; the second needs 3 by 5
    assert minimum_total_error(jobs) == (2, [2, 0], [(0, 2, 1), (2, 4, 0), (4, 5, 1)])


def test_what_a_job_has_left_over_later_is_kept():
    # St: job 0 in 0..2, job 1 in 2..6. Sm: job 1 in 0..2, since job 0 has no mandatory part. Job 1 has enough after 2: nothing moves.
    assert minimum_total_error([(0, 2, 0, 2), (0, 6, 2, 2)]) == (0, [0, 0], [(0, 2, 0), (2, 6, 1)])


def test_idle_time_before_a_release_is_lost():
    assert minimum_total_error([(5, 8, 1, 5), (0, 2, 1, 4)]) == (6, [3, 3], [(0, 2, 1), (5, 8, 0)])


def test_the_heavier_job_is_refined():
    jobs = [(0, 4, 1, 3), (0, 4, 1, 3)]
    assert minimum_total_error(jobs, [1, 2])[:2] == (5, [3, 1])
    assert minimum_total_error(jobs, [2, 1])[:2] == (5, [1, 3])
    assert minimum_total_error(jobs, [0.5, 0.0])[:2] == (0.5, [1, 3])


def test_work_of_no_weight_is_done_where_there_is_time():
    assert minimum_total_error([(0, 9, 1, 3), (0, 9, 1, 3)], [1, 0]) == (0, [0, 0], [(0, 4, 0), (4, 8, 1)])


def test_the_size_of_a_time_does_not_matter():
    jobs = [(0, 4, 0, 4), (1, 5, 3, 0), (2, 9, 1, 7), (-6, -2, 1, 1)]
    total, errors, schedule = minimum_total_error(jobs)
    shifted = [(HUGE * r + 7, HUGE * d + 7, HUGE * m, HUGE * o) for r, d, m, o in jobs]
    assert minimum_total_error(shifted) == (HUGE * total, [HUGE * e for e in errors],
                                            [(HUGE * a + 7, HUGE * b + 7, j) for a, b, j in schedule])


def test_nothing_to_do():
    assert minimum_total_error([]) == (0, [], [])
    assert minimum_total_error([], []) == (0, [], [])
    assert minimum_total_error([(3, 3, 0, 0), (-1, 5, 0, 0)]) == (0, [0, 0], [])
    assert minimum_total_error([(3, 3, 0, 2)], [3]) == (6, [2], [])


def test_mandatory_parts_that_do_not_fit_name_a_job_and_what_it_lacks():
    with pytest.raises(ValueError, match=r"^the mandatory parts cannot all be in time: job 1 lacks 2 at its deadline 6 under EDF$"):
        minimum_total_error([(0, 5, 4, 0), (1, 6, 4, 1)])
    with pytest.raises(ValueError, match="job 0 lacks 1"):
        minimum_total_error([(2, 2, 1, 0)])


@pytest.mark.parametrize(("jobs", "weights", "message"), [
    ([(0, 1, 1)], None, "job 0: found 3 entries"),
    ([(0, 5, 1, 1), (4, 3, 0, 0)], None, "job 1: .*expected release <= deadline"),
    ([(0, 5, -1, 1)], None, "job 0: .*no negative work"),
    ([(0, 5, 1, -1)], None, "job 0: .*no negative work"),
    ([(0, 5, 1.5, 1)], None, "job 0: found 1.5, expected an integer"),
    ([(0, 10**301, 1, 1)], None, "job 0: found 1000.*expected an integer below"),
    ([(0, 5, 1, 1)], [1, 2], "expected 1 weights"),
    ([(0, 5, 1, 1)], [-1], "not negative"),
    ([(0, 5, 1, 1)], [math.nan], "finite"),
])
def test_malformed_jobs_are_refused_in_one_line(jobs, weights, message):
    with pytest.raises(ValueError, match=message) as caught:
        minimum_total_error(jobs, weights)
    assert "\n" not in str(caught.value)


# optimal_static_times --------------------------------------------------------------------------------------------------


def test_equal_tasks_share_equally():
    assert optimal_static_times([(10, 1, 9), (10, 1, 9)], [Logarithmic(1, 2)] * 2) == pytest.approx([4, 4], rel=1e-12)


def test_slopes_follow_the_price_of_time():
    # max ln(1+a) + ln(1+b) under a/10 + b/20 = 1/2: slopes 1/(1+a) = p/10, 1/(1+b) = p/20, so 1+b = 2(1+a): a = 2.25, b = 5.5
    tasks = [(10, 2, 8), (20, 6, 14)]
    assert optimal_static_times(tasks, [Logarithmic(1, 1)] * 2) == pytest.approx([2.25, 5.5], rel=1e-12)
    # a second is worth ln(1+a)/10 + ln(1+b)/20, so equal slopes: a = b = 10/3
    assert optimal_static_times(tasks, [Logarithmic(1, 1)] * 2, per_second=True) == pytest.approx([10 / 3, 10 / 3], rel=1e-12)


def test_linear_rewards_go_to_the_densest_task_first():
    tasks = [(10, 1, 4), (20, 2, 18), (5, 0, 1)]
    # a unit of utilisation is worth 10, 20 x 1.5 = 30 and 5 x 4 = 20: 0.8 left, of which task 1 takes 0.8
    assert optimal_static_times(tasks, [Linear(1), Linear(1.5), Linear(4)]) == pytest.approx([0, 16, 0], abs=1e-12)
    assert optimal_static_times(tasks, [Linear(1), Linear(0.9), Linear(4)]) == pytest.approx([0, 12, 1], abs=1e-12)


def test_ties_of_linear_rewards_use_all_the_time():
    times = optimal_static_times([(10, 1, 8), (20, 2, 16), (40, 4, 32)], [Linear(4), Linear(2), Linear(1)])
    assert sum(t / p for t, p in zip(times, (10, 20, 40))) == pytest.approx(0.7, rel=1e-12)


def test_a_curve_is_cut_at_its_knots():
    curve = Curve((0, 2, 6), (0, 4, 6))  # slopes 2, 0.5, then 0
    assert optimal_static_times([(10, 0, 9), (10, 0, 9)], [curve, Linear(1)]) == pytest.approx([2, 8], rel=1e-12)
    assert optimal_static_times([(10, 0, 9), (100, 0, 9)], [curve, Linear(1)]) == pytest.approx([6, 9], rel=1e-12)


def test_no_more_time_is_spent_than_is_of_use():
    assert optimal_static_times([(10, 1, 9), (10, 1, 5), (9, 1, 3)], [Linear(0), Linear(-1), Linear(1)]) == [0, 0, 3]
    assert optimal_static_times([(10, 10, 9)], [Linear(1)]) == [0]
    assert optimal_static_times([(10, 1, 0)], [Curve((0, 1), (0, 1))]) == [0]
    assert optimal_static_times([], []) == []


def test_any_object_with_a_falling_derivative_is_a_reward():
    class Root:
        def __call__(self, time):
            return math.sqrt(time)

        def derivative(self, time):
            return math.inf if time == 0 else 0.5 / math.sqrt(time)

    # a/10 + b/10 = 1 and equal slopes, weights 1 and 2 by period: sqrt(b)/20 = sqrt(a)/10, so b = 4 a, and a/10 + b/20 = 0.5
    assert optimal_static_times([(10, 2, 8), (20, 6, 14)], [Root(), Root()]) == pytest.approx([5 / 3, 20 / 3], rel=1e-9)


def test_a_reward_that_saturates_early():
    times = optimal_static_times([(100, 10, 90), (100, 10, 90)], [Exponential(1, 1), Exponential(1, 1e-3)])
    assert 5 < times[0] < 10 < times[1] and sum(times) == pytest.approx(80, rel=1e-12)


@pytest.mark.parametrize(("tasks", "rewards", "message"), [
    ([(10, 1, 1)], [], "found 0 rewards"),
    ([(10, 1)], [Linear(1)], "task 0: found 2 entries"),
    ([(0, 1, 1)], [Linear(1)], "positive period"),
    ([(10, -1, 1)], [Linear(1)], "no negative work"),
    ([(10, 1, 2.5)], [Linear(1)], "expected an integer"),
    ([(10, 6, 1), (10, 5, 1)], [Linear(1)] * 2, "use 1.1 of the processor"),
    ([(10, 1, 9)], [Curve((1, 2), (0, 5))], "reward 0 is not concave"),
    ([(10, 1, 9)], [Exponential(-1, 1)], "reward 0 is not concave"),
])
def test_malformed_tasks_are_refused_in_one_line(tasks, rewards, message):
    with pytest.raises(ValueError, match=message) as caught:
        optimal_static_times(tasks, rewards)
    assert "\n" not in str(caught.value)


# best_depths -----------------------------------------------------------------------------------------------------------


def test_density_first_would_fall_for_the_small_job():
    assert best_depths([(10, [1], [2]), (10, [10], [10])]) == (10, [0, 1])


def test_a_deeper_answer_may_be_worse():
    assert best_depths([(9, [1, 1, 1], [5, 3, 5]), (9, [2], [-1])]) == (5, [1, 0])
    assert best_depths([(9, [1, 1, 1], [-5, 3, 2])]) == (3, [2])


def test_deadlines_bind():
    jobs = [(2, [2, 2], [1, 9]), (4, [2, 1], [3, 4]), (4, [2], [2])]
    assert best_depths(jobs) == (5, [0, 1, 1])
    assert best_depths(jobs, workers=2) == (7, [1, 2, 1])


def test_work_that_takes_no_time_is_always_done_by_a_deadline_that_is_not_over():
    assert best_depths([(0, [0, 1], [2, 9]), (-1, [0], [7]), (5, [0, 0, 5, 0], [1, 2, 3, 4])]) == (6, [1, 0, 4])


def test_a_job_stays_on_one_worker():
    assert best_depths([(3, [2], [1])] * 3, workers=2)[0] == 2  # 6 units of work, 6 of time
    assert best_depths([(3, [2], [1])] * 3, workers=3)[0] == 3


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_nothing_to_refine(workers):
    assert best_depths([], workers) == (0, [])
    assert best_depths([], workers, 0.5) == (0, [])
    assert best_depths([(5, [], []), (1, [2], [3]), (9, [1], [0])], workers, 0.5) == (0, [0, 0, 0])


def test_rewards_of_integers_are_counted_exactly():
    reward, chosen = best_depths([(HUGE, [HUGE - 1], [2**80]), (HUGE, [1, 1], [1, 2**80 + 2]), (HUGE, [0], [1])])
    assert (reward, chosen) == (2**80 + 3, [0, 2, 1])  # rather than 2**80 + 2


def test_too_many_plans_on_several_workers_is_said(monkeypatch):
    monkeypatch.setattr(depths, "WIDTHS", (2,))
    monkeypatch.setattr(depths, "MAX_PLANS", 3)
    jobs = [(50 + i, [7 + i, 5 - i % 3], [10 + 2.5 * i, 17 + i]) for i in range(10)]
    with pytest.raises(ValueError, match=r"^10 jobs on 2 workers need more than 3 partial plans"):
        best_depths(jobs, 2)
    assert best_depths(jobs)[0] > 0  # one worker has no limit


@pytest.mark.parametrize(("jobs", "options", "message"), [
    ([(5, [1])], {}, "job 0: expected"),
    ([(5, [1, 2], [1])], {}, "one reward for each stage"),
    ([(5, [-1], [1])], {}, "job 0, stage 1: found time -1"),
    ([(5, [1, 1], [1, math.nan])], {}, "job 0, stage 2: .*finite"),
    ([(5, [1], [10**400])], {}, "job 0, stage 1: .*finite"),
    ([(5.5, [1], [1])], {}, "job 0: found 5.5, expected an integer"),
    ([], {"workers": 0}, "workers: found 0"),
    ([], {"eps": 0}, "eps: found 0"),
    ([], {"eps": 1.0}, "eps: found 1.0"),
])
def test_malformed_requests_are_refused_in_one_line(jobs, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        best_depths(jobs, **options)
    assert "\n" not in str(caught.value)


JOB = st.integers(0, 4).flatmap(lambda n: st.tuples(
    st.integers(-2, 20), st.lists(st.integers(0, 8), min_size=n, max_size=n), st.lists(st.integers(-5, 20), min_size=n, max_size=n)))


@given(st.lists(JOB, max_size=7), st.integers(1, 4), st.integers(1, 10**30), st.integers(1, 10**30))
@settings(max_examples=100, deadline=None)
def test_units_of_time_and_reward_do_not_matter(jobs, workers, time, reward):
    scaled = [(deadline * time, [t * time for t in times], [r * reward for r in rewards]) for deadline, times, rewards in jobs]
    assert best_depths(scaled, workers)[0] == reward * best_depths(jobs, workers)[0]


@given(st.lists(JOB, max_size=6), st.integers(1, 3), st.randoms())
@settings(max_examples=100, deadline=None)
def test_neither_order_nor_one_more_worker_does_harm(jobs, workers, random):
    shuffled = random.sample(jobs, len(jobs))
    assert best_depths(shuffled, workers)[0] == best_depths(jobs, workers)[0] <= best_depths(jobs, workers + 1)[0]

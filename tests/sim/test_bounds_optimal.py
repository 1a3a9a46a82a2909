"""Classical optima against linear programmes, enumeration and a general optimiser; and that no simulated schedule beats them."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from imprecise import depths
from imprecise.bounds import Exponential, Linear, Logarithmic, best_depths, minimum_total_error, optimal_static_times
from imprecise.draws import Constant, Releases
from imprecise.model import Curve, Reward, Stage, Stream
from imprecise.scenario import Scenario, Source, Workload
from imprecise.simulator import simulate

# minimum_total_error ---------------------------------------------------------------------------------------------------


def some_jobs(rng: Random, most: int = 7) -> list[tuple[int, int, int, int]]:
    """(release, deadline, mandatory, optional), mandatory parts fit or do not, often enough."""
    jobs = []
    for _ in range(rng.randrange(1, most + 1)):
        release, length = rng.randrange(-5, 15), rng.randrange(15)
        jobs.append((release, release + length, rng.randrange(1 + length) if rng.random() < 0.6 else 0, rng.randrange(9)))
    return jobs


def programme(jobs, weights) -> float | None:
    """The least weighted error by a linear programme over the time of each job between each two events; None: infeasible."""
    events = sorted({t for job in jobs for t in job[:2]})
    spans = list(itertools.pairwise(events))
    cells = [(j, k) for j, job in enumerate(jobs) for k, (a, b) in enumerate(spans) if job[0] <= a and b <= job[1]]
    rows, limits = [], []
    for k, (a, b) in enumerate(spans):
        rows.append([cell[1] == k for cell in cells])
        limits.append(b - a)
    for j, (_, _, mandatory, optional) in enumerate(jobs):
        mine = np.array([cell[0] == j for cell in cells], dtype=float)
        rows += [mine, -mine]
        limits += [mandatory + optional, -mandatory]
    all_ = sum(w * (job[2] + job[3]) for w, job in zip(weights, jobs))
    if not cells:
        return None if any(job[2] for job in jobs) else all_
    found = linprog([-weights[j] for j, _ in cells], A_ub=np.array(rows, dtype=float), b_ub=limits)
    assert found.status in (0, 2)
    return all_ + found.fun if found.status == 0 else None


def wrong_with(jobs, errors, schedule) -> str:
    """What is wrong with a schedule, or nothing; written apart from what makes it."""
    done = [0] * len(jobs)
    clock = None
    for start, end, job in schedule:
        if start >= end or (clock is not None and start < clock):
            return f"segment {(start, end, job)} is empty, or overlaps the one before"
        if start < jobs[job][0] or end > jobs[job][1]:
            return f"job {job} works outside its window"
        clock = end
        done[job] += end - start
    for j, (_, _, mandatory, optional) in enumerate(jobs):
        if not mandatory <= done[j] <= mandatory + optional:
            return f"job {j} has {done[j]} of {mandatory} + {optional}"
        if errors[j] != mandatory + optional - done[j]:
            return f"job {j} has an error of {mandatory + optional - done[j]}, not {errors[j]}"
    return ""


@pytest.mark.parametrize(("what", "change", "message"), [
    ("overlap", lambda e, s: (e, [(0, 3, 0), (2, 5, 1)]), "overlaps"),
    ("window", lambda e, s: (e, [(0, 3, 0), (3, 6, 1)]), "outside"),
    ("mandatory", lambda e, s: ([3, 1], [(0, 2, 1)]), "job 0 has 0"),
    ("errors", lambda e, s: ([e[1], e[0]], s), "has an error of"),
])
def test_the_checker_sees_what_is_wrong(what, change, message):
    jobs = [(0, 4, 1, 2), (0, 5, 1, 2)]
    _, errors, schedule = minimum_total_error(jobs)
    assert errors[0] != errors[1] and wrong_with(jobs, errors, schedule) == ""
    assert message in wrong_with(jobs, *change(errors, schedule))


def against_the_programme(rng: Random, count: int, weighted: bool) -> tuple[int, int]:
    """How many instances were feasible, and how many not, of those compared."""
    feasible = 0
    for _ in range(count):
        jobs = some_jobs(rng)
        weights = [rng.choice([0, 1, 1, 2, 0.3, 7]) for _ in jobs] if weighted else None
        best = programme(jobs, weights or [1] * len(jobs))
        try:
            total, errors, schedule = minimum_total_error(jobs, weights)
        except ValueError:
            assert best is None, jobs
            continue
        assert best == pytest.approx(total, abs=1e-7), (jobs, weights)
        assert wrong_with(jobs, errors, schedule) == "", (jobs, weights)
        assert total == pytest.approx(sum(e * w for e, w in zip(errors, weights or [1] * len(jobs))), abs=1e-9)
        feasible += 1
    return feasible, count - feasible


@pytest.mark.parametrize("weighted", [False, True])
def test_total_error_is_that_of_a_linear_programme(weighted):
    assert min(against_the_programme(Random(1 + weighted), 150, weighted)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_total_error_is_that_of_a_linear_programme_on_thousands(weighted):
    assert min(against_the_programme(Random(101 + weighted), 2500, weighted)) > 250


@given(st.integers(0, 2**40), st.booleans(), st.integers(1, 10**30))
@settings(max_examples=150, deadline=None)
def test_schedules_are_legal_and_as_good_with_any_weights(seed, weighted, unit):
    rng = Random(seed)
    jobs = [tuple(unit * v for v in job) for job in some_jobs(rng, 25)]
    weights = [rng.randrange(4) for _ in jobs] if weighted else None
    try:
        _, errors, schedule = minimum_total_error(jobs, weights)
    except ValueError:
        return
    assert wrong_with(jobs, errors, schedule) == ""
    assert sum(errors) == minimum_total_error(jobs)[0]  # weights choose whose, not how much
    if weights:
        heaviest = [int(weight == 3) for weight in weights]  # lighter jobs take nothing from them
        assert minimum_total_error(jobs, heaviest)[0] == sum(h * e for h, e in zip(heaviest, errors))


# optimal_static_times --------------------------------------------------------------------------------------------------


def some_tasks(rng: Random) -> list[tuple[int, int, int]]:
    tasks = []
    for _ in range(rng.randrange(1, 6)):
        period = rng.randrange(10, 200)
        tasks.append((period, rng.randrange(period // 6 + 1), rng.randrange(period)))
    return tasks


def some_curve(rng: Random) -> Curve:
    """A concave curve, with ties between curves likely."""
    x = [0.0, *sorted(rng.sample(range(1, 150), rng.randrange(1, 4)))]
    slopes = sorted((rng.choice([0, 0.5, 1, 1, 2, 3, rng.random()]) for _ in x[1:]), reverse=True)
    y = itertools.accumulate(((b - a) * s for (a, b), s in zip(itertools.pairwise(x), slopes)), initial=0.0)
    return Curve(tuple(x), tuple(y))


def admitted(tasks, times) -> bool:
    """Whether the times are within their limits and the processor."""
    within = all(0 <= t <= optional for t, (_, _, optional) in zip(times, tasks))
    return within and sum((m + t) / period for t, (period, m, _) in zip(times, tasks)) <= 1 + 1e-12


def test_static_times_of_curves_are_those_of_a_linear_programme():
    full = 0
    for seed in range(60):
        rng = Random(seed)
        tasks, per_second = some_tasks(rng), bool(seed % 2)
        curves = [some_curve(rng) for _ in tasks]
        gain, share, upper = [], [], []
        for (period, _, optional), curve in zip(tasks, curves):
            knots = [x for x in curve.x if x < optional] + [optional]
            for a, b in itertools.pairwise(knots):
                gain.append(-(curve(b) - curve(a)) / (b - a) / (period if per_second else 1))
                share.append(1 / period)
                upper.append((0, b - a))
        left = 1 - sum(m / period for period, m, _ in tasks)
        best = -linprog(gain, A_ub=[share], b_ub=[left], bounds=upper).fun if gain else 0.0
        times = optimal_static_times(tasks, curves, per_second)
        assert admitted(tasks, times)
        found = sum(c(t) / (task[0] if per_second else 1) for c, t, task in zip(curves, times, tasks))
        assert found == pytest.approx(best, rel=1e-9, abs=1e-9), seed
        full += sum(t / task[0] for t, task in zip(times, tasks)) > left - 1e-9
    assert 15 < full < 55


def test_static_times_of_smooth_rewards_are_those_of_a_general_optimiser():
    for seed in range(45):
        rng = Random(seed)
        tasks, per_second = some_tasks(rng), bool(seed % 2)
        rewards = [rng.choice([Exponential, Logarithmic])(rng.uniform(1, 9), rng.uniform(0.005, 0.1)) for _ in tasks]
        if seed % 3 == 0:
            rewards[0] = Linear(rng.uniform(0.01, 0.3))
        scale = [1 / period if per_second else 1.0 for period, _, _ in tasks]

        def worth(times, rewards=rewards, scale=scale):
            return sum(s * f(t) for s, f, t in zip(scale, rewards, times))

        left = 1 - sum(m / period for period, m, _ in tasks)
        share = np.array([1 / period for period, _, _ in tasks])
        total = sum(scale)
        other = minimize(lambda x, worth=worth, share=share, total=total: -worth(x / share) / total, np.zeros(len(tasks)), method="SLSQP",
                         bounds=[(0, o / period) for period, _, o in tasks], options={"ftol": 1e-14, "maxiter": 500},
                         constraints=[{"type": "ineq", "fun": lambda x, left=left: left - x.sum()}])
        times = optimal_static_times(tasks, rewards, per_second)
        assert admitted(tasks, times)
        assert worth(times) >= worth(other.x / share) - 1e-7 * total, seed
        assert worth(times) == pytest.approx(worth(other.x / share), rel=1e-5), seed


def test_static_times_beat_a_fine_grid():
    for seed in range(40):
        rng = Random(seed)
        (p, m, o), (q, n, r) = tasks = [(100, rng.randrange(60), rng.randrange(1, 80)), (150, rng.randrange(30), rng.randrange(1, 150))]
        f, g = rewards = [rng.choice([Exponential(2, 0.03), Logarithmic(3, 0.1), Linear(0.02), some_curve(rng)]) for _ in tasks]
        times = optimal_static_times(tasks, rewards)
        assert admitted(tasks, times)
        left = 1 - m / p - n / q
        grid = [a * o / 400 for a in range(401) if a * o / 400 / p <= left]
        best = max(f(a) + g(min(r, (left - a / p) * q)) for a in grid)  # both rise: g gets all that is left
        assert best - 1e-9 <= f(times[0]) + g(times[1]) <= best + f(o / 400) - f(0) + 1e-9  # concave: the first step gains most


# best_depths -----------------------------------------------------------------------------------------------------------


def some_waiting(rng: Random, most: int) -> list[tuple[int, list[int], list[float]]]:
    """(deadline, stage times, cumulative rewards): zero times, falling rewards, equal and past deadlines among them."""
    jobs = []
    for _ in range(rng.randrange(most + 1)):
        stages = rng.randrange(4)
        rewards = [rng.choice([rng.uniform(-2, 9), rng.randrange(-1, 7)]) for _ in range(stages)]
        if rng.random() < 0.6:
            rewards.sort()
        jobs.append((rng.choice([rng.randrange(-1, 26), 12]), [rng.randrange(9) for _ in range(stages)], rewards))
    return jobs


def enumerated(jobs, workers: int) -> float:
    """The best reward over all depths and all assignments of jobs to workers, each in order of deadline."""
    order = sorted(jobs, key=lambda job: job[0])
    best = 0.0
    for chosen in itertools.product(*(range(len(job[1]) + 1) for job in order)):
        reward = sum(job[2][d - 1] for job, d in zip(order, chosen) if d)
        if reward > best and any(in_time(order, chosen, where, workers)
                                 for where in itertools.product(range(workers), repeat=len(order))):
            best = reward
    return best


def in_time(order, chosen, where, workers: int) -> bool:
    """Whether these depths, done by these workers in this order, all end by their deadlines."""
    used = [0] * workers
    for (deadline, times, _), depth, worker in zip(order, chosen, where):
        used[worker] += sum(times[:depth])
        if depth and used[worker] > deadline:
            return False
    return True


def reward_of(jobs, chosen) -> float:
    return sum(job[2][d - 1] for job, d in zip(jobs, chosen) if d)


def check_depths(jobs, workers: int, found) -> None:
    """The depths give the reward that is stated, and some assignment does them in time."""
    reward, chosen = found
    assert reward == pytest.approx(reward_of(jobs, chosen), rel=1e-12) and len(chosen) == len(jobs)
    pairs = sorted(zip(jobs, chosen), key=lambda pair: pair[0][0])
    order, chosen = [job for job, _ in pairs], [d for _, d in pairs]
    assert any(in_time(order, chosen, where, workers) for where in itertools.product(range(workers), repeat=len(order)))


@pytest.mark.parametrize(("workers", "most", "count"), [(1, 5, 1200), (2, 5, 300), (3, 4, 200)])
def test_best_depths_are_those_of_enumeration(workers, most, count):
    for seed in range(count):
        jobs = some_waiting(Random(seed), most)
        found = best_depths(jobs, workers)
        assert found[0] == pytest.approx(enumerated(jobs, workers), rel=1e-12), (seed, jobs)
        check_depths(jobs, workers, found)


def test_no_other_order_of_jobs_is_better_on_one_worker():
    for seed in range(250):
        jobs = some_waiting(Random(seed + 5000), 4)
        best = max(reward_of(order, chosen) for order in itertools.permutations(jobs)
                   for chosen in itertools.product(*(range(len(job[1]) + 1) for job in order))
                   if in_time(order, chosen, [0] * len(order), 1))
        assert best_depths(jobs)[0] == pytest.approx(best, rel=1e-12), seed


@pytest.mark.parametrize(("workers", "most", "count"), [(1, 5, 250), (2, 5, 120), (3, 4, 80)])
def test_narrow_first_attempts_change_nothing(monkeypatch, workers, most, count):
    monkeypatch.setattr(depths, "WIDTHS", (1, 2))
    for seed in range(count):
        jobs = some_waiting(Random(seed), most)
        assert best_depths(jobs, workers)[0] == pytest.approx(enumerated(jobs, workers), rel=1e-12), seed


@pytest.mark.parametrize("eps", [0.02, 0.2, 0.7])
@pytest.mark.parametrize(("workers", "most"), [(1, 6), (2, 5), (3, 4)])
def test_an_approximation_keeps_its_guarantee(monkeypatch, workers, most, eps):
    monkeypatch.setattr(depths, "WIDTHS", (1,))  # else the first attempt would be exact
    short = 0
    for seed in range(100):
        jobs = some_waiting(Random(seed), most)
        found = best_depths(jobs, workers, eps)
        check_depths(jobs, workers, found)
        best = enumerated(jobs, workers) if workers > 1 else least_finish_times(jobs)
        assert found[0] >= (1 - eps) * best * (1 - 1e-12), seed
        assert found[0] <= best * (1 + 1e-12), seed
        short += found[0] < best * (1 - 1e-9)
    assert short > 0 or eps < 0.7 or workers == 3  # it does approximate


def least_finish_times(jobs) -> float:
    """P[R]: the least finish time of reward exactly R, every one, in order of deadline."""
    least = {0.0: 0}
    for deadline, times, rewards in sorted(jobs, key=lambda job: job[0]):
        after = dict(least)
        for depth, reward in enumerate(rewards, 1):
            for sum_, time in least.items():
                end = time + sum(times[:depth])
                if end <= deadline and end < after.get(sum_ + reward, end + 1):
                    after[sum_ + reward] = end
        least = after
    return max(least)


def many_waiting(rng: Random, count: int, workers: int, unit: int) -> list[tuple[int, list[int], list[int]]]:
    """Overloaded, with rewards about as long as their times, where bounds are weakest."""
    jobs = []
    for _ in range(count):
        times = [rng.randrange(unit, 10 * unit) for _ in range(3)]
        rewards = list(itertools.accumulate(t // unit + rng.randrange(3) for t in times))
        jobs.append((rng.randrange(10 * unit, 12 * unit * count // workers), times, rewards))
    return jobs


def test_thirty_jobs_against_the_table_of_least_finish_times():
    for seed in range(15):
        jobs = many_waiting(Random(seed), 30, 1, 10**6)
        best = least_finish_times(jobs)
        assert best_depths(jobs)[0] == best
        assert best >= best_depths(jobs, 1, 0.01)[0] >= 0.99 * best


@pytest.mark.parametrize(("workers", "count", "seeds"), [(2, 9, 8), (3, 6, 12)])
def test_jobs_on_several_workers_against_all_their_times(monkeypatch, workers, count, seeds):
    monkeypatch.setattr(depths, "WIDTHS", (2,))  # else the first attempt would do
    for seed in range(seeds):
        jobs = many_waiting(Random(seed), count, workers, 1)
        if seed % 2:
            jobs = [(deadline, times, [r + 3 * k for k, r in enumerate(rewards)]) for deadline, times, rewards in jobs]
        plans = {(0,) * workers: 0}  # time used on each worker: the best reward
        for deadline, times, rewards in sorted(jobs, key=lambda job: job[0]):
            after = dict(plans)
            for used, sum_ in plans.items():
                for depth, reward in enumerate(rewards, 1):
                    for worker in range(workers):
                        end = used[worker] + sum(times[:depth])
                        if end <= deadline:
                            key = (*used[:worker], end, *used[worker + 1:])
                            after[key] = max(after.get(key, 0), sum_ + reward)
            plans = after
        assert best_depths(jobs, workers)[0] == max(plans.values()), seed


def test_the_bound_of_the_search_is_one():
    tight = 0
    for seed in range(400):
        workers = 1 + seed % 3
        jobs = some_waiting(Random(seed), 4)
        parsed = sorted(filter(None, map(depths._job, range(len(jobs)), jobs)), key=lambda job: job.deadline)
        search = depths._Search(parsed, workers)
        best = enumerated(jobs, workers)
        assert search.upper >= best * (1 - 1e-12), seed
        tight += search.upper <= best * (1 + 1e-12)
    assert 100 < tight < 400


def test_coarse_rewards_bound_the_plans():
    """n^2 / eps of them at most, where the exact search has very many."""
    n, eps = 16, 0.25
    rng = Random(3)
    options = [(rng.randrange(10**12, 2 * 10**12)) for _ in range(n)]
    jobs = [depths._job(i, (9 * 10**12, [t], [t / 10**12 + rng.random() / 1000])) for i, t in enumerate(options)]
    exact = depths._Search(jobs, 1)
    exact.gain = -np.inf  # without the bound
    exact.run(0)
    step = eps * max(job.options[-1].reward for job in jobs) / n
    coarse = [job._replace(options=[o._replace(reward=int(o.reward / step)) for o in job.options]) for job in jobs]
    search = depths._Search(coarse, 1)
    search.gain = -np.inf
    search.run(0)
    assert search.plans <= n * n / eps < exact.plans


# Against the simulator --------------------------------------------------------------------------------------------------

POLICIES = ("mandatory-only", "fifo-gated", "least-confident", "threshold:theta=0.9", "depth-dp", "monolithic")


def one_frame_each(frames, resources, mandatory_on: str) -> Scenario:
    """A stream for each (release, deadline, mandatory time, optional times, utility of each depth)."""
    sources = []
    for i, (release, deadline, mandatory, optional, prior) in enumerate(frames):
        stages = [Stage(f"{i}.0", mandatory_on, True, mandatory, mandatory)]
        stages += [Stage(f"{i}.{k}", "cpu", False, time, time) for k, time in enumerate(optional, 1)]
        models = tuple(Constant(stage.wcet_ns) for stage in stages)
        reward = Reward(prior=tuple(prior))
        stream = Stream(f"s{i}", 0, deadline, tuple(stages), reward=reward)
        sources.append(Source(stream, Releases((release,)), Workload(tuple(stages), models, reward)))
    return Scenario("one each", tuple(sources), resources)


def test_no_policy_beats_the_best_depths():
    reached = 0
    for seed in range(25):
        rng = Random(seed)
        workers = 1 + seed % 2
        frames = []
        for _ in range(rng.randrange(1, 6)):
            optional = [rng.randrange(2, 30) for _ in range(rng.randrange(1, 4))]
            prior = [round(rng.uniform(0.4, 0.9), 3) for _ in range(len(optional) + 1)]
            frames.append((0, rng.randrange(10, 90), 1, optional, prior))
        jobs = [(deadline, optional, [p - prior[0] for p in prior[1:]]) for _, deadline, _, optional, prior in frames]
        most = sum(frame[4][0] for frame in frames) + best_depths(jobs, workers)[0]
        for policy in POLICIES:
            result = simulate(one_frame_each(frames, {"fpga": 1, "cpu": workers}, "fpga"), policy, frames=len(frames))
            had = result.utility * len(frames)
            assert had <= most + 1e-9, (seed, policy)
            reached += had >= most - 1e-9
    assert reached > 25  # the bound is met, so it is none that nothing could ever reach


def test_no_policy_leaves_less_undone_than_the_minimum_total_error():
    proven = equal = 0
    for seed in range(40):
        rng = Random(seed)
        frames = [(rng.randrange(40), rng.randrange(5, 60), rng.randrange(1, 6), [rng.randrange(1, 12)], [0.5, 0.9])
                  for _ in range(rng.randrange(1, 6))]
        jobs = [(r, r + d, m, optional[0]) for r, d, m, optional, _ in frames]
        try:
            least = minimum_total_error(jobs)[0]
        except ValueError:
            least = None
        for policy in POLICIES:
            result = simulate(one_frame_each(frames, {"cpu": 1}, "cpu"), policy, frames=len(frames))
            if least is None:
                assert result.missed > 0
            elif result.missed == 0:
                undone = sum(frames[row["stream"]][3][0] for row in result.frames if row["depth"] == 0)
                assert undone >= least, (seed, policy)
                proven += 1
                equal += undone == least
    assert proven > 60 and equal > 15

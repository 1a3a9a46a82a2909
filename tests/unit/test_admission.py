"""Admission on one resource: against an exhaustive search, with certificates rechecked and counter-examples replayed."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imprecise.admission import Certificate, CounterExample, NotProven, Task, admit, least_deadline, longest_optional_stage, recheck
from imprecise.engine import Engine
from imprecise.model import Event, Stage, Stream
from imprecise.policies.mandatory_only import MandatoryOnly
from sporadic import can_miss, replay

RESOURCES = ["np-edf", "p-edf", "np-fp", "p-fp"]
Tuple4 = tuple[int, int, int, int]


def random_set(random: Random, jitter: int, period: int = 6, heavy: bool = False) -> list[Tuple4]:
    """One to three small tasks (C, T, D, J)."""
    out = []
    n = random.choice([1, 2, 2, 3, 3])
    for _ in range(n):
        t = random.randint(1, period)
        c = random.randint(1, t if heavy or n == 1 else max(1, t // 2))
        out.append((c, t, random.randint(c, t + 4), random.randint(0, jitter)))
    return out


def replays(found: CounterExample) -> bool:
    """Whether both the naive model and the engine, with every stage at its worst case, miss a deadline in this pattern."""
    streams = [Stream(f"s{i}", t.period_ns, t.deadline_ns, (Stage(f"m{i}", "fpga", True, t.cost_ns, t.cost_ns),), t.jitter_ns)
               for i, t in enumerate(found.tasks)]
    engine = Engine(streams, {"fpga": 1}, MandatoryOnly(), priorities=range(len(streams)) if found.resource.endswith("fp") else None,
                    preemptive=["fpga"] if found.resource.startswith("p-") else [])
    naive = replay(found.tasks, found.arrivals, found.resource)
    frames: Counter[int] = Counter()
    heap: list[tuple[int, int, Event | None]] = []
    for task, release, arrival in found.arrivals:
        heap.append((arrival, len(heap), Event("release", release, stream=task, frame=frames[task])))
        frames[task] += 1
    heapq.heapify(heap)
    left: dict[int, int] = {}
    running, since, ends, missed, n = -1, 0, 0, 0, len(heap)
    while heap:
        now, events = heap[0][0], []
        while heap and heap[0][0] == now:
            event = heapq.heappop(heap)[2]
            if event is None or (event.kind == "done" and (event.job, now) != (running, ends)):
                continue  # a wake-up, or the end of what was interrupted
            if event.kind == "done":
                running = -1
            events.append(event)
        for action in engine.step(now, events):
            if action.kind == "preempt":
                left[action.job] -= now - since
                running = -1
            elif action.kind == "start":
                cost = engine.jobs[action.job].stream.stages[0].wcet_ns
                running, since = action.job, now
                ends = now + left.setdefault(action.job, cost)
                heapq.heappush(heap, (ends, n, Event("done", ends, job=action.job, stage=0, resource="fpga", unit=0, value=0.5)))
            elif action.kind == "wake":
                heapq.heappush(heap, (action.at_ns, n, None))
            missed += action.kind == "miss"
            n += 1
    assert bool(naive) == bool(missed), "the naive model and the engine differ"
    return missed > 0


# Against the search ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_pair_of_small_tasks_is_decided_as_by_exhaustive_search(resource: str) -> None:
    """Deadlines to beyond the period, in both orders."""
    tasks = [(c, t, d, 0) for t in range(1, 4) for c in range(1, t + 1) for d in range(c, t + 4)]
    counts: Counter[bool | None] = Counter()
    for pair in product(tasks, repeat=2):
        verdict = admit(pair, resource)
        missed = can_miss(pair, resource.startswith("p-"), fixed=resource.endswith("fp"))
        assert missed is isinstance(verdict, CounterExample) and not isinstance(verdict, NotProven), (pair, verdict, missed)
        counts[missed] += 1
    assert counts[True] > 300 and counts[False] > 100


@pytest.mark.parametrize("sets", [200, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("jitter", [0, 3])
def test_random_sets_are_decided_as_by_exhaustive_search(resource: str, jitter: int, sets: int) -> None:
    """With jitter, and deadlines beyond the period."""
    random = Random(jitter)
    counts: Counter[bool] = Counter()
    for _ in range(sets):
        tasks = random_set(random, jitter)
        verdict = admit(tasks, resource)
        missed = can_miss(tasks, resource.startswith("p-"), most=3000, fixed=resource.endswith("fp"))
        if missed is None:
            continue
        assert missed is isinstance(verdict, CounterExample) and not isinstance(verdict, NotProven), (tasks, verdict, missed)
        counts[missed] += 1
    assert min(counts[True], counts[False]) > sets // 5


def test_shorter_jobs_do_no_harm() -> None:
    random = Random(7)
    counts: Counter[bool | None] = Counter()
    for _ in range(300):
        tasks = random_set(random, 2, 5)
        if isinstance(admit(tasks), Certificate):
            missed = can_miss(tasks, shorter=True, most=5000)
            assert not missed, tasks
            counts[missed] += 1
    assert counts[False] > 80


def test_several_units_are_never_admitted_wrongly() -> None:
    random = Random(3)
    counts: Counter[bool | None] = Counter()
    for _ in range(800):
        tasks = random_set(random, 1, 5, heavy=True)
        verdict = admit(tasks, units=2)
        if isinstance(verdict, Certificate):
            assert recheck(verdict)
            missed = can_miss(tasks, units=2, most=4000)
            assert not missed, (tasks, verdict)
            counts[missed] += 1
            assert not recheck(replace(verdict, demand_ns=verdict.demand_ns - 1))
    assert counts[False] > 150


def test_the_longest_optional_stage_is_right_to_a_tick() -> None:
    """The definition counts it whole, as it may start at any instant: in half ticks 2 q never harms, and 2 q + 2 may."""
    random = Random(11)
    seen: Counter[bool] = Counter()
    while sum(seen.values()) < 25:
        tasks = [(2 * c, 2 * t, 2 * d, 2 * j) for c, t, d, j in random_set(random, 1, 4)]
        q = longest_optional_stage(tasks)
        halves = q // 2 * 2
        if q > 10 or not isinstance(admit(tasks), Certificate):
            continue
        steps = [d - j + k * t for _, t, d, j in tasks for k in range(60)]
        demand = {s: sum(max(0, (s + j - d) // t + 1) * c for c, t, d, j in tasks) for s in steps}
        assert q == halves == min(s - demand[s] for s in steps), "the definition"
        assert not can_miss(tasks, other=q, most=20_000), (tasks, q)
        harm = can_miss(tasks, other=q + 2, most=20_000)
        assert harm is not False, (tasks, q)
        seen[harm is None] += 1
    assert seen[False] > 15


# Certificates and counter-examples ------------------------------------------------------------------------------------

LARGE = st.lists(st.tuples(st.integers(1, 20 * 10**6), st.integers(10**6, 10**8), st.integers(1, 2 * 10**8),
                           st.integers(0, 5 * 10**6)), min_size=1, max_size=6)


@settings(max_examples=120, deadline=None)
@given(LARGE, st.sampled_from(RESOURCES), st.integers(0, 10**6))
def test_certificates_hold_and_mutated_ones_are_refused(tasks: list[Tuple4], resource: str, blocking: int) -> None:
    verdict = admit(tasks, resource, blocking_ns=blocking, max_steps=50_000)
    if isinstance(verdict, Certificate):
        assert recheck(verdict) and verdict.slack_ns >= 0
        for mutant in mutants(verdict):
            assert not recheck(mutant), mutant


def mutants(verdict: Certificate) -> Iterator[Certificate]:
    """Each field changed so that the certificate says something that is not so."""
    for name in ("t_ns", "demand_ns", "block_ns", "capacity_ns"):
        for by in (1, -1):
            yield replace(verdict, **{name: getattr(verdict, name) + by})
    yield replace(verdict, horizon_ns=verdict.horizon_ns - 1)  # the next is true: a horizon further out is one as well
    yield replace(verdict, horizon_ns=-1)
    for horizon in ("word of honour", *({"busy period", "response times", "window"} - {verdict.horizon})):
        if (verdict.horizon, horizon) not in {("utilisation", "busy period"), ("hyperperiod", "busy period")}:  # may be both
            yield replace(verdict, horizon=horizon)
    yield replace(verdict, units=verdict.units + 1)
    yield replace(verdict, resource="round robin")
    for other in {"np-edf": ["np-fp", "p-fp"], "p-edf": ["np-fp", "p-fp"]}.get(verdict.resource, ["np-edf", "p-edf"]):
        yield replace(verdict, resource=other)
    yield replace(verdict, blocking_ns=verdict.slack_ns + verdict.block_ns + 1)
    yield replace(verdict, blocking_ns=-1)
    for i, task in enumerate(verdict.tasks):
        def swapped(changed: Task, i: int = i) -> Certificate:
            return replace(verdict, tasks=(*verdict.tasks[:i], changed, *verdict.tasks[i + 1:]))

        yield swapped(task._replace(cost_ns=task.deadline_ns - task.jitter_ns + 1))
        yield swapped(task._replace(deadline_ns=task.cost_ns + task.jitter_ns - 1))
        yield swapped(task._replace(jitter_ns=task.deadline_ns - task.cost_ns + 1))
        yield swapped(task._replace(period_ns=0))
        yield swapped(task._replace(piece_ns=task.cost_ns + 1))
    yield replace(verdict, tasks=(*verdict.tasks, Task(verdict.slack_ns + 1, 10**10, 1, 0)))
    if verdict.horizon == "response times":
        yield replace(verdict, horizon_ns=verdict.horizon_ns + 1)
        for i, response in enumerate(verdict.responses_ns):
            for by in (1, -1):
                yield replace(verdict, responses_ns=(*verdict.responses_ns[:i], response + by, *verdict.responses_ns[i + 1:]))
        yield replace(verdict, responses_ns=verdict.responses_ns[1:])
        for i, task in enumerate(verdict.tasks):
            yield replace(verdict, tasks=(*verdict.tasks[:i], task._replace(jitter_ns=task.jitter_ns + 1), *verdict.tasks[i + 1:]))
    else:
        yield replace(verdict, responses_ns=(1,))


def test_a_load_above_one_is_never_certified_whatever_the_numbers_say() -> None:
    """Forged: with these deadlines no job of the first hyperperiod is late, and later ones are."""
    tasks = (Task(3, 4, 4), Task(2, 4, 40))
    assert not recheck(Certificate(tasks, "p-fp", 1, 0, 8, "response times", 3, 3, 0, 4, (3, 8)))
    assert not recheck(Certificate(tasks, "p-edf", 1, 0, 44, "hyperperiod", 4, 3, 0, 4))
    fine = (Task(2, 4, 4), Task(2, 4, 40))
    assert recheck(Certificate(fine, "p-fp", 1, 0, 4, "response times", 2, 2, 0, 4, (2, 4)))
    assert recheck(Certificate(fine, "p-edf", 1, 0, 44, "hyperperiod", 4, 2, 0, 4))


@settings(max_examples=120, deadline=None)
@given(LARGE, st.sampled_from(RESOURCES))
def test_counter_examples_replay_to_a_miss(tasks: list[Tuple4], resource: str) -> None:
    verdict = admit(tasks, resource, max_steps=50_000)
    if isinstance(verdict, CounterExample) and len(verdict.arrivals) < 3000:
        assert verdict.demand_ns + verdict.block_ns > verdict.t_ns and replays(verdict)


@pytest.mark.parametrize("resource", RESOURCES)
def test_counter_examples_of_small_sets_replay_to_a_miss(resource: str) -> None:
    random, seen = Random(5), Counter()
    for _ in range(1000):
        verdict = admit(random_set(random, 3), resource)
        if isinstance(verdict, CounterExample):
            assert replays(verdict), verdict
            seen["blocked" if verdict.block_ns else "demand"] += 1
    assert (seen["blocked"] > 30) is resource.startswith("np") and seen["demand"] > 150


def test_blocking_by_a_long_job_is_seen() -> None:
    """Two tasks at 60 % load: preemptive EDF is in time, non-preemptive EDF is not."""
    tasks = [(1, 10, 2, 0), (5, 10, 10, 0)]
    assert isinstance(admit(tasks, "p-edf"), Certificate)
    verdict = admit(tasks, "np-edf")
    assert isinstance(verdict, CounterExample) and verdict.block_ns == 4 and replays(verdict)
    in_pieces = admit([(1, 10, 2, 0), Task(5, 10, 10, 0, piece_ns=2)])
    assert isinstance(in_pieces, Certificate) and recheck(in_pieces)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_load_near_one_is_answered_or_declined_in_bounded_work() -> None:
    full = admit([(1, 2), (1, 3), (1, 6)], "p-edf")
    assert isinstance(full, Certificate) and full.slack_ns == 0 and recheck(full)
    near = admit([(10**6, 2 * 10**6 + 3), (10**6, 2 * 10**6 - 1, 15 * 10**5)], "p-edf", max_steps=1000)
    assert isinstance(near, NotProven) and "1000" in near.reason
    large = 1 << 60
    assert isinstance(admit([(large, 1 << 70, large)]), Certificate)
    assert isinstance(admit([(large, 1 << 70, large)] * 9), NotProven)  # no sum of costs may wrap around
    over = admit([(10**6 + 1, 2 * 10**6, 10**9), (10**6, 2 * 10**6, 10**9)], max_steps=1000)
    assert isinstance(over, NotProven) and "load" in over.reason
    assert isinstance(admit([(3, 4), (2, 4)]), CounterExample)


def test_nothing_and_nonsense() -> None:
    nothing = admit([])
    assert isinstance(nothing, Certificate) and recheck(nothing)
    for bad in ((0, 5), (1, 0), (1, 5, -2), (1, 5, 5, -1), (1, 5, 5, 0, 2)):
        with pytest.raises(ValueError):
            admit([bad])
    with pytest.raises(ValueError, match="np-edf, p-edf, np-fp, p-fp"):
        admit([(1, 5)], "rm")
    late = admit([(3, 10, 5, 4)])
    assert isinstance(late, CounterExample) and replays(late)


def test_other_work_in_the_way_makes_it_unproven_not_wrong() -> None:
    tasks = [(2, 10, 6, 0)]
    assert isinstance(admit(tasks, blocking_ns=4), Certificate)
    assert isinstance(admit(tasks, blocking_ns=5), NotProven)
    assert longest_optional_stage(tasks) == 4
    assert longest_optional_stage([(4, 5, 3, 0)]) == 0


def test_the_least_deadline_is_the_least() -> None:
    random = Random(2)
    for _ in range(60):
        tasks = [(c, t, 0, j) for c, t, _, j in random_set(random, 3)]
        least = least_deadline(tasks)
        load = sum(c / t for c, t, _, _ in tasks)
        if least is None:
            assert load > 1
            continue
        assert isinstance(admit([(c, t, least, j) for c, t, _, j in tasks]), Certificate)
        assert isinstance(admit([(c, t, least + 5, j) for c, t, _, j in tasks]), Certificate)
        if least > 1:
            assert not isinstance(admit([(c, t, least - 1, j) for c, t, _, j in tasks]), Certificate)

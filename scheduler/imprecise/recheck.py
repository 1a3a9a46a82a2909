"""Verify a certificate without the code that made it: a walk from step to step, a sum of fractions, or a schedule.

Nothing is shared with `demand` and `fixed_priority` but the certificate itself. Each kind of certificate has one short function.
"""

from __future__ import annotations

import heapq
from fractions import Fraction
from math import lcm

from .verdicts import Certificate

MOST = 10_000_000  # steps or jobs; a certificate that needs more is not looked at


def recheck(certificate: Certificate) -> bool:
    """Whether each number in a certificate is right and no deadline can be missed."""
    c = certificate
    if not c.tasks:
        return c == Certificate((), c.resource, c.units, c.blocking_ns, 0, "no task", 0, 0, 0, 0)
    if any(not 0 <= t.piece_ns <= t.cost_ns or min(t[:3]) < 1 or t.jitter_ns < 0 for t in c.tasks) or c.blocking_ns < 0:
        return False
    if c.horizon == "response times":
        return c.units == 1 and c.resource in ("np-fp", "p-fp") and _schedule(c)
    if c.responses_ns:
        return False
    if c.horizon == "window":
        return c.units > 1 and c.resource == "np-edf" and _window(c)
    return c.units == 1 and c.resource in ("np-edf", "p-edf") and _horizon(c) and _walk(c)


def _walk(c: Certificate) -> bool:
    """EDF: add up the costs from step to step, up to the horizon, and find the tightest."""
    piece = [t.piece_ns or t.cost_ns for t in c.tasks]
    first = [t.deadline_ns - t.jitter_ns for t in c.tasks]
    heap = [(f, i) for i, f in enumerate(first)]
    heapq.heapify(heap)
    demand, least, found = 0, None, (0, 0, 0)
    if sum((c.horizon_ns - f) // t.period_ns + 1 for t, f in zip(c.tasks, first)) > MOST:
        return False
    while heap[0][0] <= max(c.horizon_ns, *first):
        t = heap[0][0]
        while heap[0][0] == t:
            i = heap[0][1]
            demand += c.tasks[i].cost_ns
            heapq.heapreplace(heap, (t + c.tasks[i].period_ns, i))
        others = [p - 1 for p, f in zip(piece, first) if f > t and c.resource == "np-edf"]
        block = max([c.blocking_ns, *others])
        if demand + block > t:
            return False
        if least is None or t - demand - block < least:
            least, found = t - demand - block, (t, demand, block)
    return found == (c.t_ns, c.demand_ns, c.block_ns) and c.capacity_ns == c.t_ns


def _horizon(c: Certificate) -> bool:
    """EDF: whether no step after the horizon need be looked at."""
    first = [t.deadline_ns - t.jitter_ns for t in c.tasks]
    load = sum((Fraction(t.cost_ns, t.period_ns) for t in c.tasks), Fraction(0))
    h = c.horizon_ns
    if load > 1 or h <= 0:
        return False
    if c.horizon == "busy period":
        return sum(-(-(h + t.jitter_ns) // t.period_ns) * t.cost_ns for t in c.tasks) + c.blocking_ns <= h
    if c.horizon == "utilisation":
        rest = sum(Fraction(t.cost_ns, t.period_ns) * (t.period_ns - f) for t, f in zip(c.tasks, first))
        return h >= max(first) and rest + c.blocking_ns <= h * (1 - load)
    return c.horizon == "hyperperiod" and h >= max(first) + lcm(*(t.period_ns for t in c.tasks))


def _window(c: Certificate) -> bool:
    """Several units: for each task the work in its window, and that the certificate has the tightest."""
    terms = []
    for task in c.tasks:
        x = task.deadline_ns - task.jitter_ns
        work = sum(len(range(0, x, t.period_ns)) * t.cost_ns for t in c.tasks) - task.cost_ns
        carried = [t.cost_ns - 1 for t in c.tasks if t.deadline_ns > x] + c.units * [c.blocking_ns]
        top = sum(heapq.nlargest(c.units, carried))
        capacity = c.units * (x - task.cost_ns + 1) - 1
        terms.append((capacity - work - top, (x, work, top, capacity)))
    if any(0 < t.piece_ns < t.cost_ns for t in c.tasks) or c.horizon_ns != c.t_ns:
        return False
    least = min(terms)[0]
    return least >= 0 and (c.t_ns, c.demand_ns, c.block_ns, c.capacity_ns) in [values for slack, values in terms if slack == least]


def _schedule(c: Certificate) -> bool:
    """Fixed priority: run the busy period of each task, job by job, behind the longest other work."""
    responses, last, ends = [], 0, []
    for i, own in enumerate(c.tasks):
        whole = c.resource == "np-fp" and own.piece_ns in (0, own.cost_ns)
        now = block = max([c.blocking_ns, *((t.piece_ns or t.cost_ns) - 1 for t in c.tasks[i + 1:] if c.resource == "np-fp")])
        hyper = lcm(*(t.period_ns for t in c.tasks[: i + 1]))
        coming = [-t.jitter_ns for t in c.tasks[: i + 1]]  # the next release of each
        work, busy, job, worst = [0] * (i + 1), True, 0, 0
        load = sum(t.cost_ns * (hyper // t.period_ns) for t in c.tasks[: i + 1])
        if load > hyper or c.horizon_ns // min(t.period_ns for t in c.tasks) > MOST:
            return False
        while busy and job < hyper // own.period_ns:
            if now > c.horizon_ns + own.period_ns:  # a job more has arrived, and ends beyond the horizon
                return False
            for j, t in enumerate(c.tasks[: i + 1]):
                while coming[j] <= now:
                    work[j] += t.cost_ns
                    coming[j] += t.period_ns
            j = next(k for k, left in enumerate(work) if left)
            run = work[j] % c.tasks[j].cost_ns or c.tasks[j].cost_ns
            if not whole:
                run = min([run, *(coming[k] - now for k in range(j))])
            now, work[j] = now + run, work[j] - run
            if j == i and work[i] % own.cost_ns == 0:
                due = job * own.period_ns - own.jitter_ns + own.deadline_ns
                worst, last, job = max(worst, now - due + own.deadline_ns), max(last, now), job + 1
                ends.append((due - now, (now, now - block, block, due)))
            busy = any(work) or min(coming) < now
        responses.append(worst)
    least = min(ends)[0]
    tightest = [end for slack, end in ends if slack == least]
    known = (c.t_ns, c.demand_ns, c.block_ns, c.capacity_ns) in tightest
    return known and least >= 0 and tuple(responses) == c.responses_ns and last == c.horizon_ns

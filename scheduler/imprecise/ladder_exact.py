"""The atomic optimum of a few frames, exactly: a mixed-integer programme over all stages, on all resources, never interrupted.

For each frame the depth it reaches, for each stage when it starts and on which unit, for each two stages of one resource which goes first
(a disjunctive programme with big M). It grows too fast for more than a dozen stages, and is exact for those: no order, no
inserted idle time and no contention of mandatory parts is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .ladder_model import LadderFrame, Segment, values

NODES = 20_000


class Exact(NamedTuple):
    """`upper`: proven; `schedule`: of the best solution found (None: none); `proven`: the two agree."""

    upper: float
    schedule: list[Segment] | None
    proven: bool


def stage_count(frames: Sequence[LadderFrame]) -> int:
    """How many stages the programme would have."""
    return sum(len(frame.stages) for frame in frames)


def solve(frames: Sequence[LadderFrame], resources: Mapping[str, int], bound: str = "B2") -> Exact:
    """The most value of any non-preemptive schedule of these frames. Raises ImportError without scipy (extra `sim`)."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    origin = min(frame.arrival_ns for frame in frames)
    horizon = max(max(frame.due_ns for frame in frames) - origin, 1)
    scale = 100.0 / horizon
    stages = [(i, k) for i, frame in enumerate(frames) for k in range(len(frame.stages))]
    worth = [values(frame, bound) for frame in frames]
    most = max(1e-12, *(max(w) for w in worth))
    columns: list[tuple[float, float, float, int]] = []  # objective, lower, upper, integral

    def column(cost: float, upper: float, integral: int) -> int:
        columns.append((cost, 0.0, upper, integral))
        return len(columns) - 1

    rows: list[tuple[dict[int, float], float, float]] = []
    done = {(i, k): column(0.0, 1.0, 1) for i, k in stages}  # the stage is done
    reach = {}  # the answer has exactly this depth
    start = {(i, k): column(0.0, 100.0, 0) for i, k in stages}
    on = {(i, k, unit): column(0.0, 1.0, 1) for i, k in stages for unit in range(resources[frames[i].stages[k][0]])}
    took = {(i, k): min(101.0, frames[i].stages[k][1] * scale) for i, k in stages}
    for i, frame in enumerate(frames):
        depths = range(len(frame.stages) - frame.mandatory + 1)
        for depth in depths:
            reach[i, depth] = column(-worth[i][depth] / most, 1.0, 1)
        rows.append(({reach[i, depth]: 1.0 for depth in depths}, -np.inf, 1.0))
        for k in range(len(frame.stages)):
            deep = {reach[i, depth]: -1.0 for depth in depths if frame.mandatory + depth > k}
            rows.append(({done[i, k]: 1.0, **deep}, 0.0, 0.0))
            due = ((frame.due_ns if k < frame.mandatory else frame.publish_ns) - origin) * scale
            # not done: it starts and ends nowhere, so nothing binds
            rows.append(({start[i, k]: 1.0, done[i, k]: took[i, k] - due + 200.0}, -np.inf, 200.0))
            earliest = (frame.arrival_ns - origin) * scale
            if k:
                rows.append(({start[i, k]: 1.0, start[i, k - 1]: -1.0, done[i, k]: -took[i, k - 1] - 100.0}, -100.0, np.inf))
            else:
                rows.append(({start[i, k]: 1.0}, earliest, np.inf))
            units = range(resources[frame.stages[k][0]])
            rows.append(({**{on[i, k, unit]: 1.0 for unit in units}, done[i, k]: -1.0}, 0.0, 0.0))
    big = 300.0
    for a, b in itertools.combinations(stages, 2):
        if a[0] == b[0] or frames[a[0]].stages[a[1]][0] != frames[b[0]].stages[b[1]][0]:
            continue
        before = column(0.0, 1.0, 1)
        for unit in range(resources[frames[a[0]].stages[a[1]][0]]):
            both = {on[a[0], a[1], unit]: -big, on[b[0], b[1], unit]: -big}
            rows.append(({start[b]: 1.0, start[a]: -1.0, before: -big, **both}, took[a] - 3 * big, np.inf))
            rows.append(({start[a]: 1.0, start[b]: -1.0, before: big, **both}, took[b] - 2 * big, np.inf))
    matrix = np.zeros((len(rows), len(columns)))
    for r, (entries, _, _) in enumerate(rows):
        for c, entry in entries.items():
            matrix[r, c] = entry
    table = np.array(columns)
    found = milp(table[:, 0], integrality=table[:, 3], bounds=Bounds(table[:, 1], table[:, 2]),
                 constraints=LinearConstraint(matrix, np.array([r[1] for r in rows]), np.array([r[2] for r in rows])),
                 options={"node_limit": NODES, "mip_rel_gap": 1e-9})
    upper = sum(max(w) for w in worth)
    if found.mip_dual_bound is not None and np.isfinite(found.mip_dual_bound):
        upper = min(upper, -float(found.mip_dual_bound) * most)
    if found.x is None:
        return Exact(upper, None, False)
    x = found.x
    unit_of = {(i, k): unit for (i, k, unit), c in on.items() if x[c] > 0.5}
    begins = {(i, k): round(max(float(x[start[i, before]]) for before in range(k + 1)), 6) for i, k in unit_of}
    order = sorted(unit_of, key=lambda stage: (begins[stage], took[stage], stage[1]))  # what takes no time goes first
    return Exact(upper, _exactly(frames, order, unit_of), found.status == 0)


def _exactly(frames: Sequence[LadderFrame], order: Sequence[tuple[int, int]],
             unit_of: Mapping[tuple[int, int], int]) -> list[Segment] | None:
    """The stages in this order, each as early as whole nanoseconds allow; None where a deadline is missed (rounding in the solver)."""
    free: dict[tuple[str, int], int] = {}
    ends: dict[int, int] = {}
    out = []
    for i, k in order:
        frame = frames[i]
        name, took_ns = frame.stages[k]
        unit = unit_of[i, k]
        at_ns = max(ends.get(i, frame.arrival_ns), free.get((name, unit), frame.arrival_ns))
        ends[i] = free[name, unit] = at_ns + took_ns
        if ends[i] > (frame.due_ns if k < frame.mandatory else frame.publish_ns):
            return None
        out.append(Segment(i, k, name, unit, at_ns, ends[i]))
    return out

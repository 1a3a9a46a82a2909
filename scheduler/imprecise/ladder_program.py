"""The fractional competition for the pool as a linear programme, window by window: its prices and its schedule.

Between two neighbouring instants where a frame becomes ready or ends, only lengths matter. x[j, i]: time of frame j in interval i, at most
its length; all frames together at most units x length; y[j, s]: time spent on step s of the frame's envelope. A long timeline is
solved in windows from left to right: a window's frames are fixed, those after it only looked at, and what is fixed is taken off the
capacity. So the schedule is feasible, and the prices are near the whole programme's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .ladder_model import Item, envelope
from .ladder_relax import Floats, Prices

Piece = tuple[int, int, int, int]
"""(start in ns, end in ns, unit, frame): a unit of the pool works for a frame."""

SCALE = 1e6  # the solver sees milliseconds
LOOK_AHEAD = 2  # how many windows of a frame beyond a window of the timeline are looked at


def solve(items: Sequence[Item], units: int, window: int = 12_000) -> tuple[Prices, list[Piece]]:
    """Prices of pool time, and a feasible schedule in fractions; `window`: about how many variables at once.

    `items`: with options only. Raises ImportError without scipy (extra `sim`).
    """
    order = sorted(items, key=lambda item: (item.end_ns, item.ready_ns, item.frame))
    ready = np.array([item.ready_ns for item in order], dtype=np.int64)
    end = np.array([item.end_ns for item in order], dtype=np.int64)
    at = np.unique(np.concatenate((ready, end)))
    length = np.diff(at) / SCALE
    room = units * length
    price = np.zeros(len(length))
    first, last = np.searchsorted(at, ready), np.searchsorted(at, end)
    size = np.cumsum(last - first)
    used: list[tuple[int, int, float]] = []  # interval, frame, time
    begin = done = 0
    while begin < len(order):
        stop = max(begin + 1, int(np.searchsorted(size, (size[begin - 1] if begin else 0) + window, "right")))
        horizon_ns = int(end[stop - 1]) + LOOK_AHEAD * int((end - ready)[begin:stop].max())
        ahead = int(np.searchsorted(end, horizon_ns, "right"))
        costs, times = _window(order[begin:ahead], first[begin:ahead], last[begin:ahead], length, room)
        until = max(done, int(first[stop:].min())) if stop < len(order) else len(length)
        for i in range(done, until):
            price[i] = costs.get(i, 0.0)
        done = until
        for j, i, time in times:
            if j < stop - begin:
                used.append((i, order[begin + j].frame, time))
                room[i] = max(0.0, room[i] - time)
        begin = stop
    return (at, price / SCALE), _pieces(used, at, units)


def _window(items: Sequence[Item], first: NDArray[np.int64], last: NDArray[np.int64], length: Floats,
            room: Floats) -> tuple[dict[int, float], list[tuple[int, int, float]]]:
    """Prices by interval, and (position in `items`, interval, time) of a best schedule in the room that is left."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix

    count = last - first
    whose = np.repeat(np.arange(len(items)), count)
    where = np.concatenate([np.arange(a, b) for a, b in zip(first, last)])
    known, row = np.unique(where, return_inverse=True)
    steps = [(j, work_ns / SCALE, gain) for j, item in enumerate(items) for work_ns, gain in envelope(item.options)]
    owner = np.array([j for j, _, _ in steps])
    most = np.array([work for _, work, _ in steps])
    gain = np.array([gain for _, _, gain in steps])
    times, wants = len(where), len(steps)
    rows = np.concatenate((row, len(known) + whose, len(known) + owner))
    columns = np.concatenate((np.arange(times), np.arange(times), times + np.arange(wants)))
    matrix = coo_matrix((np.concatenate((np.ones(times), -np.ones(times), np.ones(wants))), (rows, columns)),
                        shape=(len(known) + len(items), times + wants)).tocsr()
    upper = np.concatenate((length[where], most))
    found = linprog(np.concatenate((np.zeros(times), -gain / most)), A_ub=matrix,
                    b_ub=np.concatenate((room[known], np.zeros(len(items)))), bounds=np.stack((np.zeros(times + wants), upper), 1),
                    method="highs-ds")
    if found.x is None:
        raise RuntimeError(f"the linear programme of a window was not solved: {found.message}")
    costs = np.maximum(0.0, -found.ineqlin.marginals[:len(known)])
    spent = found.x[:times]
    return (dict(zip(known.tolist(), costs.tolist())),
            [(int(whose[k]), int(where[k]), float(spent[k])) for k in np.flatnonzero(spent > 0)])


def _pieces(used: Sequence[tuple[int, int, float]], at: NDArray[np.int64], units: int) -> list[Piece]:
    """Lay out the times of each interval on its units, whole nanoseconds, one unit after the other (McNaughton 1959).

    A frame that is cut at the end of a unit goes on at the start of the next: no overlap, as its time is at most the length.
    """
    pieces: list[Piece] = []
    interval, at_ns = -1, 0
    for i, frame, time in sorted(used):
        start_ns, end_ns = int(at[i]), int(at[i + 1])
        if i != interval:
            interval, at_ns = i, 0
        length_ns = end_ns - start_ns
        left = min(int(time * SCALE + 1e-3), length_ns, units * length_ns - at_ns)
        while left > 0:
            unit, offset_ns = divmod(at_ns, length_ns)
            part = min(left, length_ns - offset_ns)
            pieces.append((start_ns + offset_ns, start_ns + offset_ns + part, unit, frame))
            at_ns += part
            left -= part
    return pieces

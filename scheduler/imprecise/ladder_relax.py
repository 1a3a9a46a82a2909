"""Upper bounds for the competition for the pool, each by a relaxation that any schedule satisfies.

    fractional   one processor as fast as all units together, frames in order of their deadlines, work in fractions    greedy, exact for it
    atomic       the same with whole depths                                                                           a table over time
    priced       a price for every instant of pool time, each frame buys what is best for it                          weak duality

The first two *align* the frames: by deadline, each may start as early as any after it, so that no preemption is needed. Where streams have
one relative deadline little is lost. `priced` knows units and every frame's own window; its prices come from `ladder_program`, and
whatever they are, the bound holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ladder_model import Item, envelope

Floats = NDArray[np.float64]
Prices = tuple[NDArray[np.int64], Floats]
"""Instants (int64 `[n + 1]`, ns, rising) and what a nanosecond of one unit costs between them (float64 `[n]`, not negative)."""

NOTHING = -1e300


def align(items: Sequence[Item]) -> tuple[list[Item], NDArray[np.int64], NDArray[np.int64]]:
    """The items by deadline, and their starts and ends in ns: each starts no later than any that follows."""
    order = sorted(items, key=lambda item: (item.end_ns, item.ready_ns, item.frame))
    ready = np.array([item.ready_ns for item in order], dtype=np.int64)
    return order, np.minimum.accumulate(ready[::-1])[::-1], np.array([item.end_ns for item in order], dtype=np.int64)


def fractional(items: Sequence[Item], units: int) -> tuple[float, dict[int, float]]:
    """The most gain with the pool's work in fractions, and how long each frame would use one unit, in ns.

    Feasible work is a polymatroid (for aligned frames i <= k: the work of i ... k fits between the start of i and the end of k), so the
    greedy by steepest step is exact for this relaxation (Edmonds 1970; Federgruen and Groenevelt 1986). O(n) a step, in NumPy.
    """
    order, ready, end = align(items)
    steps = sorted((-gain * units / work_ns, k, work_ns / units) for k, item in enumerate(order)
                   for work_ns, gain in envelope(item.options))
    origin = int(ready.min()) if order else 0
    until = (end - origin).astype(np.float64)  # end of k less the work up to k
    since = -(ready - origin).astype(np.float64)  # the work before i less its start
    total, amounts = 0.0, dict.fromkeys((item.frame for item in order), 0.0)
    for density, k, most in steps:
        amount = min(most, float(until[k:].min() + since[:k + 1].min()))
        if amount > 0:
            until[k:] -= amount
            since[k + 1:] += amount
            total -= density * amount
            amounts[order[k].frame] += amount * units
    return total, amounts


def atomic(items: Sequence[Item], units: int, bins: int = 1 << 14) -> float:
    """The most gain with whole depths: value by finish time, times rounded down to a grid of `bins` a frame's window.

    Exact for one unit and aligned frames where the grid is 1 ns (earliest deadline first never preempts then); each option taken
    loses less than one grid step of time. O(n * bins).
    """
    if not items:
        return 0.0
    order, ready, end = align(items)
    step = max(1, -(-int((end - ready).max()) // bins))
    size = int((end - ready).max()) // step + 2
    best = np.full(size, NOTHING)
    best[0] = 0.0
    low = int(ready[0]) // step
    for item, ready_ns, end_ns in zip(order, ready.tolist(), end.tolist()):
        shift = min(ready_ns // step - low, size - 1)
        if shift > 0:
            moved = np.full(size, NOTHING)
            moved[:size - shift] = best[shift:]
            moved[0] = best[:shift + 1].max()
            best, low = moved, ready_ns // step
        last = min(size - 1, end_ns // step - low)
        after = best.copy()
        for work_ns, gain, _, _ in item.options:
            took = work_ns // (units * step)
            if took <= last:
                np.maximum(after[took:last + 1], best[:last + 1 - took] + gain, out=after[took:last + 1])
        best = after
    return float(best.max())


def priced(items: Sequence[Item], units: int, prices: Prices, whole: bool) -> float:
    """The value of all pool time at these prices, and what each frame gains over the price of its best choice: never below the optimum.

    A frame uses one unit at a time, so it pays for the cheapest time of its window. `whole`: depths are taken whole or not at all.
    """
    at, price = prices
    total = units * float(np.dot(np.diff(at), price))
    for item in items:
        a, b = int(np.searchsorted(at, item.ready_ns, "right")), int(np.searchsorted(at, item.end_ns, "left"))
        knots = np.concatenate(([item.ready_ns], at[a:b], [item.end_ns]))
        rates = np.concatenate(([0.0], price, [0.0]))[a:b + 1]  # outside the prices, time is free
        order = np.argsort(rates, kind="stable")
        lengths = np.diff(knots)[order]
        time = np.concatenate(([0], np.cumsum(lengths))).astype(np.float64)
        cost = np.concatenate(([0.0], np.cumsum(lengths * rates[order])))
        if whole:
            work: Any = np.array([option.work_ns for option in item.options], dtype=np.float64)
            gain = np.array([option.gain for option in item.options])
        else:
            hull = np.concatenate((np.zeros((1, 2)), np.cumsum(np.array(envelope(item.options)), axis=0)))
            work = np.concatenate((hull[:, 0], time[time < hull[-1, 0]]))  # concave less convex: best at a knot of either
            gain = np.interp(work, hull[:, 0], hull[:, 1])
        total += max(0.0, float((gain - np.interp(work, time, cost)).max()))
    return total

"""The static optimum of `static-times`: which share of each stream's frames goes how deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Depths(NamedTuple):
    """What one stream may have: its period, and (time in ns, mean gain, depth) of each answer better than the mandatory one."""

    period_ns: int
    points: list[tuple[int, float, int]]


def static_optimum(streams: Mapping[int, Depths], room: float) -> dict[int, tuple[int, int, float]]:
    """By stream: a depth, a deeper one, and the share of frames that get the deeper; maximises sum gain_i / period_i.

    `room`: processors left by mandatory work, a utilisation. The concave envelope of each stream's points is cut into
    segments, and the densest are taken until the room is full: exact where gains grow piecewise linearly with time, as
    they do when a share of the frames goes deeper. O(sum depths^2 + segments log segments).
    """
    segments = []
    for index, (period_ns, points) in streams.items():
        time_ns, gain = 0, 0.0
        while beyond := [((g - gain) / (t - time_ns), t, g, depth) for t, g, depth in points if t > time_ns and g > gain]:
            slope, t, gain, depth = max(beyond)
            segments.append((-slope, index, t, (t - time_ns) / period_ns, depth))
            time_ns = t
    plan = {index: (0, 0, 0.0) for index in streams}
    for _, index, _, use, depth in sorted(segments):
        if use > room:
            if room > 0:
                plan[index] = (plan[index][0], depth, room / use)
            break
        room -= use
        plan[index] = (depth, depth, 0.0)
    return plan

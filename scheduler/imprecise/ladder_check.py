"""Is a schedule feasible, and what is it worth? Shares nothing with what makes schedules: the lower side of a bound is what this says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from .ladder_model import LadderFrame, Segment


def worth_of(frames: Sequence[LadderFrame], resources: Mapping[str, int], schedule: Sequence[Segment], bound: str) -> float:
    """The total value of a schedule under the rules of a bound. Raises ValueError for the first rule that it breaks.

    Rules: a unit does one thing at a time; a frame's stages follow each other, none before its arrival, each complete before the
    next; mandatory ones end by the deadline, optional ones by the publication; no stage longer than it takes. B2: each stage in one
    piece, and complete. B0, B1: in pieces, and the last stage of a frame in the pool may stay incomplete.
    """
    by_unit: dict[tuple[str, int], list[tuple[int, int]]] = {}
    by_frame: dict[int, list[Segment]] = {}
    for segment in schedule:
        if segment.end_ns < segment.start_ns or not 0 <= segment.unit < resources[segment.resource]:
            raise ValueError(f"no such piece of work: {segment}")
        by_unit.setdefault((segment.resource, segment.unit), []).append((segment.start_ns, segment.end_ns))
        by_frame.setdefault(segment.frame, []).append(segment)
    for unit, spans in by_unit.items():
        for one, two in pairwise(sorted(spans)):
            if one[1] > two[0]:
                raise ValueError(f"{unit} does two things at once: {one} and {two}")
    pool = {name for frame in frames for name, _ in frame.stages[frame.mandatory:]}
    return sum(_frame(i, frame, by_frame.get(i, []), bound, pool) for i, frame in enumerate(frames))


def _frame(index: int, frame: LadderFrame, segments: Sequence[Segment], bound: str, pool: Collection[str]) -> float:
    """The value of one frame."""
    done = [-1] * len(frame.stages)  # how long each stage ran; -1: not at all
    stage, at_ns = 0, frame.arrival_ns
    for s in sorted(segments, key=lambda s: (s.start_ns, s.end_ns, s.stage)):
        if s.stage != stage:
            if s.stage != stage + 1 or done[stage] != frame.stages[stage][1]:
                raise ValueError(f"frame {index}: stage {s.stage} runs before stage {s.stage - 1} is complete")
            stage = s.stage
        due_ns = frame.due_ns if stage < frame.mandatory else frame.publish_ns
        if s.start_ns < at_ns or s.end_ns > due_ns or s.resource != frame.stages[stage][0]:
            raise ValueError(f"frame {index}: {s} is not between {at_ns} and {due_ns} on {frame.stages[stage][0]}")
        if bound == "B2" and s.end_ns - s.start_ns != frame.stages[stage][1]:
            raise ValueError(f"frame {index}: {s} is not the whole stage, which takes {frame.stages[stage][1]} ns")
        at_ns = s.end_ns
        done[stage] = max(0, done[stage]) + s.end_ns - s.start_ns
        if done[stage] > frame.stages[stage][1]:
            raise ValueError(f"frame {index}: stage {stage} ran for {done[stage]} ns, it takes {frame.stages[stage][1]} ns")
    count = 0
    while count < len(done) and done[count] == frame.stages[count][1]:
        count += 1
    if bound != "B2":
        return frame.weight * _partly(frame, [max(0, ns) for ns in done], count, pool, frame.right if bound == "B0" else frame.worth)
    in_time = count > 0 or frame.arrival_ns <= frame.due_ns
    return frame.weight * frame.worth[count - frame.mandatory] if count >= frame.mandatory and in_time else 0.0


def _partly(frame: LadderFrame, done: Sequence[int], count: int, pool: Collection[str], worth: Sequence[float]) -> float:
    """The worth of the pool's work so far: straight lines between any two depths that the frame's own window has time for."""
    lead = next((k for k, (name, _) in enumerate(frame.stages) if name in pool), len(frame.stages))
    if count < lead or (not lead and frame.arrival_ns > frame.due_ns):
        return 0.0
    points = [(0, 0.0)]
    for depth, value in enumerate(worth):
        before = frame.stages[:frame.mandatory + depth]
        due_ns = frame.publish_ns if depth else frame.due_ns
        if frame.arrival_ns + sum(took_ns for _, took_ns in before) <= due_ns:
            points.append((sum(took_ns for name, took_ns in before if name in pool), value))
    work = sum(ran_ns for (name, _), ran_ns in zip(frame.stages, done) if name in pool)
    best = max(value for at, value in points if at <= work)
    for (a, low), (b, high) in ((one, two) for one in points for two in points if one[0] <= work < two[0]):
        best = max(best, low + (high - low) * (work - a) / (b - a))
    return best

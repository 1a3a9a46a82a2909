"""The world that every policy sees: when frames arrive, what they show, how long their stages take, what answers are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .draws import draw_items, key_of, uniforms
from .model import NEVER_NS, Stream
from .scenario import Source
from .simulation import StreamTotals

CHUNK = 8192  # frames drawn at once, of all streams together

Frame = tuple[int, int, int, int, int, list[int]]
"""A frame before and while it is open: (when it is seen, stream index, frame, release, item, [duration of each stage]); times in ns.
Without durations it was dropped: captured, and never seen by the engine."""


class Tables:
    """A workload's outcomes as plain lists, indexed `[stage or depth][item]`; without outcomes one item, -1."""

    def __init__(self, source: Source):
        stream, outcomes = source.stream, source.work.outcomes
        depths = range(stream.deepest + 1)
        confidence = np.zeros((1, len(depths))) if outcomes is None else outcomes.confidence
        correct = np.full((1, len(depths)), -1) if outcomes is None else outcomes.correct.astype(int)
        curves = stream.reward.correct
        self.worth = [(np.interp(confidence[:, d], curves[d].x, curves[d].y) if d < len(curves)
                       else np.full(len(confidence), stream.reward.utility(d, 0.0))).tolist() for d in depths]
        self.right = correct.T.tolist()
        self.confidence = confidence.T.tolist()
        self.seen = [self.confidence[max(0, i + 1 - stream.mandatory)] for i in range(len(stream.stages))]  # after each stage


class World:
    """One stream's outcomes and counters."""

    __slots__ = ("ahead", "answered", "confidence", "correct", "deadline_ns", "dropped", "longest", "missed", "right",
                 "right_of_missed", "run", "seen", "turn", "utility", "worth")

    def __init__(self, source: Source, tables: Tables):
        self.deadline_ns = source.stream.deadline_ns
        self.confidence, self.worth, self.right, self.seen = tables.confidence, tables.worth, tables.right, tables.seen
        self.right_of_missed = -1 if source.work.outcomes is None else 0
        self.answered = [0] * (source.stream.deepest + 1)
        self.missed = self.dropped = self.correct = 0
        self.utility = 0.0
        self.turn = self.run = self.longest = 0  # the next frame in order, and the misses in a row before it
        self.ahead: dict[int, bool | None] = {}  # later frames that closed before it

    def in_turn(self, frame: int, missed: bool | None) -> None:
        """Count misses in a row, in the order of frames, whatever the order they close in. A dropped frame (None) is passed over."""
        self.ahead[frame] = missed
        while self.turn in self.ahead:
            this = self.ahead.pop(self.turn)
            self.run = self.run + 1 if this else 0 if this is not None else self.run
            self.longest = max(self.longest, self.run)
            self.turn += 1

    def totals(self, stream: Stream) -> StreamTotals:
        """The counters."""
        return StreamTotals(stream.name, stream.weight, self.answered, self.missed, self.utility, self.correct,
                            self.right_of_missed == 0, self.longest, self.dropped)


def arrivals(sources: Sequence[Source], seed: int, frames: int) -> Iterator[list[Frame]]:
    """The first `frames` frames of all streams in order of (time seen, stream, frame), with their draws, in lists."""
    rate = sum(1 / source.arrivals.period_ns for source in sources)
    feeds = [_Feed(i, source, seed, max(1, int(CHUNK / rate / source.arrivals.period_ns))) for i, source in enumerate(sources)]
    left = frames
    while left:
        for feed in feeds:
            feed.fill()
        ends = [int(feed.seen[-1]) for feed in feeds if not feed.ended]
        until = min(ends) if ends else NEVER_NS
        counts = [int(np.searchsorted(feed.seen, until)) for feed in feeds]
        if not any(counts):
            if not ends:
                return
            for feed in feeds:
                feed.batch *= 2
            continue
        columns = [feed.take(count) for feed, count in zip(feeds, counts) if count]
        seen, stream, frame, captured, item = (np.concatenate(parts) for parts in zip(*(c[:5] for c in columns)))
        took = np.concatenate([c[5] for c in columns])
        order = np.lexsort((frame, stream, seen))[:left]
        left -= len(order)
        yield list(zip(*(column[order].tolist() for column in (seen, stream, frame, captured, item, took))))


class _Feed:
    """One stream's coming frames: seen but not yet taken ones, in arrays."""

    def __init__(self, index: int, source: Source, seed: int, batch: int):
        self.index, self.source, self.seed, self.batch = index, source, seed, batch
        self.cursor = source.arrivals.start(seed, source.stream.name)
        self.captured = self.seen = np.zeros(0, dtype=np.int64)
        self.first = 0  # frame number of captured[0]
        self.ended = False
        self.keys = [key_of(seed, source.stream.name, stage.name) for stage in source.stream.stages]

    def fill(self) -> None:
        """Have at least a batch ready, unless the stream ends."""
        if len(self.seen) < self.batch and not self.ended:
            ready = self.first + len(self.seen) + self.batch
            if ready * self.source.arrivals.period_ns >= NEVER_NS >> 2:
                raise ValueError(f"stream {self.source.stream.name!r}: {ready} frames go beyond what nanoseconds can count")
            captured, seen = self.cursor.take(self.batch)
            self.ended = len(captured) < self.batch
            self.captured, self.seen = np.concatenate((self.captured, captured)), np.concatenate((self.seen, seen))

    def take(self, count: int) -> tuple[NDArray[Any], ...]:
        """Time seen, stream, frame, capture time, item: int64 `[count]`; durations int64 `[count, stages]`, padded in objects."""
        first, source = self.first, self.source
        seen, captured = self.seen[:count], self.captured[:count]
        self.seen, self.captured, self.first = self.seen[count:], self.captured[count:], first + count
        outcomes = source.work.outcomes
        item = draw_items(self.seed, source.stream.name, first, count, 0 if outcomes is None else len(outcomes.confidence))
        frame = np.arange(first, first + count)
        took = np.empty(count, dtype=object)
        took[:] = list(map(list, zip(*(model.draw(first, uniforms(key, first, count)).tolist()
                                       for model, key in zip(source.work.durations, self.keys)))))
        if source.drop:
            for i in np.flatnonzero(uniforms(key_of(self.seed, source.stream.name, "@drop"), first, count) < source.drop).tolist():
                took[i] = []
        return seen, np.full(count, self.index), frame, captured, item, took

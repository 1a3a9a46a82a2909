"""The world of a recorded run, to be run again with something changed: arrivals and durations as the engine saw them."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imprecise.draws import DurationModel, Empirical, key_of, uniforms
from imprecise.model import Event, Stream

from ..errors import EdgertError, RecordError
from .explain_watch import Step
from .twin import LEAST
from .twin import durations as measured
from .view import View

if TYPE_CHECKING:
    from imprecise.scenario import Source

CHECKED = 2000  # recorded durations and confidences that draws are held to
ENDS = ("done", "failed", "abandoned")
CUT = "cut"  # an execution whose unit was lost: it would have taken longer, nobody knows how long


class Release(NamedTuple):
    """A frame that reached the engine; times in ns."""

    seen_ns: int
    release_ns: int
    stream: int
    frame: int


class Spell(NamedTuple):
    """One execution of a stage: `took_ns` from the step that started it to the one that learnt of its end, `lag_ns` (<= 0) from that step
    back to the end itself; an "abandoned" one's unit is gone for `back_ns` more (-1: for good). `end_ns`: when that step was (-1: it is no
    recorded one)."""

    took_ns: int
    lag_ns: int
    kind: str
    value: float
    back_ns: int = -1
    end_ns: int = -1


@dataclass
class World:
    """Everything that does not depend on the schedule. `drawn` and `guessed` collect, while it is run, what the record does not know:
    (job, stage index) durations, (job, depth) confidences. `absences` of units that were given up: from, to, which. `target` is the
    job that is explained: it gets medians."""

    view: View
    streams: Sequence[Stream]
    target: int
    releases: list[Release] = field(default_factory=list)
    spells: dict[tuple[int, int], list[Spell]] = field(default_factory=dict)
    values: dict[tuple[int, int], float] = field(default_factory=dict)
    faults: list[tuple[int, Event]] = field(default_factory=list)
    absences: list[tuple[int, int, tuple[str, int]]] = field(default_factory=list)
    draws: Draws | None = None
    pictures: Pictures | None = None
    drawn: set[tuple[int, int]] = field(default_factory=set)
    guessed: dict[tuple[int, int], float] = field(default_factory=dict)
    _models: dict[str, DurationModel] = field(default_factory=dict)
    _pairs: dict[tuple[str, int, int], list[tuple[float, float]]] = field(default_factory=dict)

    def spell(self, job: int, stage: int, attempt: int) -> Spell:
        """How the given attempt (0: the first) of a stage goes; what was never tried is as the scenario or the record's durations say."""
        known, least_ns = self.spells.get((job, stage), ()), 1
        if attempt < len(known):
            if known[attempt].kind != CUT:
                return known[attempt]
            least_ns = known[attempt].took_ns + 1
        release = self.releases[job]
        if self.draws is not None:
            return Spell(max(least_ns, self.draws.duration_ns(release.stream, release.frame, stage)), 0, "done", 0.0)
        self.drawn.add((job, stage))
        name = self.streams[release.stream].stages[stage].name
        share = np.array([0.5])
        if job != self.target:
            share = uniforms(key_of(int(self.view.meta.get("seed") or 0), self.streams[release.stream].name, name), release.frame, 1)
        return Spell(max(least_ns, int(self.model(name).draw(release.frame, share)[0])), 0, "done", 0.0)

    def model(self, name: str) -> DurationModel:
        """The durations of a stage: recorded ones where there are enough, else those measured before the run."""
        if name not in self._models:
            spent = [s.took_ns for (job, stage), spells in self.spells.items() for s in spells
                     if s.kind == "done" and self.streams[self.releases[job].stream].stages[stage].name == name]
            found: DurationModel | None = Empirical(tuple(max(1, ns) for ns in spent)) if len(spent) >= LEAST else None
            if found is None:
                with contextlib.suppress(RecordError, KeyError, ValueError):
                    found = measured(self.view, name)
            if found is None:
                declared = next(s for stream in self.streams for s in stream.stages if s.name == name)
                found = Empirical(tuple(spent) or (max(1, declared.typical_ns or declared.wcet_ns),))
            self._models[name] = found
        return self._models[name]

    def confidence(self, job: int, before: int, depth: int) -> float:
        """That of an answer of a depth: recorded; else of the picture's outcome; else that of the recorded frame which was most alike."""
        key = (job, depth)
        if key not in self.values:
            release = self.releases[job]
            known = None if self.pictures is None else self.pictures.confidence(release.stream, release.frame, depth)
            if known is not None:
                self.values[key] = known
            elif key not in self.guessed:
                sure = self.values.get((job, before), self.guessed.get((job, before), 0.0))
                self.guessed[key] = self._alike(self.streams[release.stream].stages[0].name, before, depth, sure)
        return self.values[key] if key in self.values else self.guessed[key]

    def _alike(self, name: str, before: int, depth: int, value: float) -> float:
        key = (name, before, depth)
        if key not in self._pairs:
            mine = [job for job, r in enumerate(self.releases) if self.streams[r.stream].stages[0].name == name]
            self._pairs[key] = sorted((self.values[job, before], self.values[job, depth]) for job in mine
                                      if (job, before) in self.values and (job, depth) in self.values)
        pairs = self._pairs[key]
        if not pairs:
            return value
        i = bisect_left(pairs, (value, -1.0))
        return min(pairs[max(0, i - 1):i + 1], key=lambda pair: abs(pair[0] - value))[1]


def depth_after(stream: Stream, before: int, stage: int) -> int:
    """The depth of an answer when a stage is done too; 0 while mandatory ones are."""
    if stage < stream.mandatory:
        return 0
    if stream.kind == "sieve":
        return max(0, before) | 1 << (stage - stream.mandatory)
    return stage - stream.mandatory + 1


def world_of(view: View, streams: Sequence[Stream], steps: Sequence[Step], target: int) -> World:
    """The world of a record's steps."""
    world = World(view, streams, target)
    running: dict[tuple[str, int], tuple[int, int, int, int]] = {}  # unit -> job, stage, since, spent before
    spent: dict[tuple[int, int], int] = {}  # of preempted stages
    depths: dict[int, int] = {}
    gone: dict[tuple[str, int], tuple[int, int, int]] = {}  # abandoned units -> job, stage, when
    for _, now_ns, events, actions in steps:
        for event in events:
            unit = (event.resource, event.unit)
            if event.kind == "release":
                world.releases.append(Release(now_ns, event.at_ns, event.stream, event.frame))
                continue
            place = running.get(unit)
            if event.kind in ENDS:
                if place is None or place[:2] != (event.job, event.stage):
                    continue  # a stale event, which changed nothing
                del running[unit]
                job, stage, since_ns, before_ns = place
                world.spells.setdefault((job, stage), []).append(
                    Spell(now_ns - since_ns + before_ns, min(0, event.at_ns - now_ns), event.kind, event.value, end_ns=now_ns))
                if event.kind == "done":
                    depths[job] = depth_after(streams[world.releases[job].stream], depths.get(job, -1), stage)
                    world.values[job, depths[job]] = event.value
                elif event.kind == "abandoned":
                    gone[unit] = (job, stage, now_ns)
            elif event.kind == "back" and unit in gone:
                job, stage, when_ns = gone.pop(unit)
                world.spells[job, stage][-1] = world.spells[job, stage][-1]._replace(back_ns=now_ns - when_ns)
                world.absences.append((when_ns, now_ns, unit))
            else:
                if event.kind == "lost" and place is not None:
                    job, stage, since_ns, before_ns = running.pop(unit)
                    world.spells.setdefault((job, stage), []).append(Spell(now_ns - since_ns + before_ns, 0, CUT, 0.0, end_ns=now_ns))
                world.faults.append((now_ns, event))
        for action in actions:
            unit = (action.resource, action.unit)
            key = (action.job, action.stage)
            if action.kind == "start":
                running[unit] = (*key, now_ns, spent.pop(key, 0))
            elif action.kind == "preempt":
                _, _, since_ns, before_ns = running.pop(unit)
                spent[key] = before_ns + now_ns - since_ns
    _know(world)
    return world


# What a simulation, or a bundle, knows of every frame -----------------------------------------------------------------


class Draws:
    """The draws of the scenario that a simulated record was made of (`sources`: imprecise.scenario.Source, one a stream)."""

    def __init__(self, sources: Sequence[Source], seed: int):
        self.sources, self.seed = sources, seed

    def duration_ns(self, stream: int, frame: int, stage: int) -> int:
        """The drawn duration."""
        source = self.sources[stream]
        key = key_of(self.seed, source.stream.name, source.stream.stages[stage].name)
        return int(source.work.durations[stage].draw(frame, uniforms(key, frame, 1))[0])


class Pictures:
    """What answers to each frame's picture are worth at each depth: `tables`, float [pictures, depths] a stream (None: always 0)."""

    def __init__(self, view: View, tables: Sequence[np.ndarray | None]):
        self.tables = tables
        f = view.frames
        self.items = dict(zip(zip(f["stream"].tolist(), f["frame"].tolist()), f["item"].tolist()))

    def confidence(self, stream: int, frame: int, depth: int) -> float | None:
        """That of an answer of a depth; None: not known."""
        table, item = self.tables[stream], self.items.get((stream, frame), -1)
        if table is None:
            return 0.0
        return float(table[item, depth]) if 0 <= item < len(table) and depth < table.shape[1] else None


def _know(world: World) -> None:
    """Find the draws and pictures behind a record, and keep what gives exactly what it holds."""
    view, meta = world.view, world.view.meta
    if meta.get("kind") == "simulated":
        sources = _sources(meta, world.streams)
        if sources is None:
            return
        draws = Draws(sources, int(meta.get("seed") or 0))
        pictures = Pictures(view, [None if s.work.outcomes is None else s.work.outcomes.confidence for s in sources])
        if _same_durations(draws, world) and _same_values(pictures, world, 1e-12):
            world.draws, world.pictures = draws, pictures
        return
    table = _outcomes(meta)
    if table is not None:
        pictures = Pictures(view, [table] * len(world.streams))
        if _same_values(pictures, world, 1e-4):
            world.pictures = pictures


def _sources(meta: Mapping[str, Any], streams: Sequence[Stream]) -> Sequence[Source] | None:
    """The streams of the scenario that a simulated record names, where it is still there and has the same."""
    from imprecise import scenario as scenarios

    from ..cli.simulate import workload

    if not isinstance(meta.get("argv"), list) or not meta.get("scenario"):
        return None
    argv = [str(part) for part in meta["argv"]]
    spec = next((part for part in argv[1:] if Path(part).stem == meta["scenario"]), str(meta["scenario"]))
    try:
        found = scenarios.load(spec, lambda bundle: workload(bundle, {}, {}), float(meta.get("load") or 0) or None)
        found = found.on_validation() if "--validation" in argv else found
    except (EdgertError, ValueError, OSError):
        return None
    same = [(s.stream.name, s.stream.stages) for s in found.sources] == [(s.name, s.stages) for s in streams]
    return found.sources if same else None


def _outcomes(meta: Mapping[str, Any]) -> np.ndarray | None:
    """Confidences of a live run's data set, float [pictures, depths]; None where its bundle is not here, or is another one."""
    from ..bundle import load

    try:
        bundle = load(str(meta.get("bundle")))
        same = bundle.model_id == meta.get("model_id") and "outcomes.npz" in bundle.contents
        return np.asarray(bundle.arrays("outcomes.npz")["confidence"], dtype=np.float64) if same else None
    except (EdgertError, KeyError):
        return None


def _same_durations(draws: Draws, world: World) -> bool:
    """Whether the draws give the recorded durations, of as many stages as are worth looking at."""
    for (job, stage), spells in islice(world.spells.items(), CHECKED):
        release = world.releases[job]
        if spells[0].kind == "done" and draws.duration_ns(release.stream, release.frame, stage) != spells[0].took_ns:
            return False
    return True


def _same_values(pictures: Pictures, world: World, tolerance: float) -> bool:
    """Whether the pictures give the recorded confidences, of as many answers as are worth looking at."""
    for (job, depth), value in islice(world.values.items(), CHECKED):
        release = world.releases[job]
        known = pictures.confidence(release.stream, release.frame, depth)
        if known is None or abs(known - value) > tolerance:
            return False
    return True

"""A run record as columns: what summaries, comparisons and plots read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imprecise.policies import make as make_policy

from ..errors import RecordError
from .record import Run

STATUSES = ("answered", "missed", "dropped")
INTEGERS = ("frame", "item", "job", "release_ns", "arrival_ns", "deadline_ns", "completed_ns", "published_ns", "depth", "label", "answer")
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StreamInfo:
    """A stream as the run declared it; `stages` are mappings with the fields of `imprecise.model.Stage`."""

    name: str
    source: str
    period_ns: int
    deadline_ns: int
    jitter_ns: int
    weight: float
    stages: tuple[Mapping[str, Any], ...]

    @property
    def mandatory(self) -> int:
        """How many of its stages are mandatory."""
        return sum(bool(stage.get("mandatory")) for stage in self.stages)

    @property
    def deepest(self) -> int:
        """Depth of a complete answer."""
        return len(self.stages) - self.mandatory


@dataclass(frozen=True)
class View:
    """The tables of one run, in memory.

    `frames` and `stages` map column names to arrays of equal length: times int64 ns (-1: none), `frames["stream"]` the index in
    `streams`, `frames["status"]` the index in `STATUSES`, `frames["correct"]` -1 (no label), 0 or 1, `stages["stage"]` the index
    of the stage in its job's stream (-1: its frame is not recorded). Frames come in order of release.
    `stalls` are (start, end, source) of late wake-ups.
    """

    path: str
    meta: Mapping[str, Any]
    streams: tuple[StreamInfo, ...]
    frames: Columns
    stages: Columns
    stalls: Sequence[tuple[int, int, str]]
    assumptions: Sequence[Mapping[str, Any]]
    counters: Mapping[str, int]

    @property
    def policy(self) -> str:
        """The policy's name."""
        return str(self.meta.get("policy", "?"))

    @property
    def splits(self) -> bool:
        """Whether the policy split the work: an answer after the mandatory stages, or only after the last stage."""
        try:
            return make_policy(self.policy, own=False).splits
        except ValueError:  # a user's own policy: look at what it published
            deepest = np.array([stream.deepest for stream in self.streams], dtype=np.int64)
            answered = self.frames["status"] == 0
            return bool(np.any(self.frames["depth"][answered] < deepest[self.frames["stream"][answered]]))

    @property
    def delivered(self) -> np.ndarray:
        """Which frames the source delivered: bool [frames]."""
        return np.asarray(self.frames["status"] != STATUSES.index("dropped"))

    @property
    def missed(self) -> np.ndarray:
        """Which frames were missed: bool [frames]."""
        return np.asarray(self.frames["status"] == STATUSES.index("missed"))

    def stage_name(self, stream: int, stage: int) -> str:
        """The name of a stage of a stream."""
        return str(self.streams[stream].stages[stage]["name"])


def read(path: str | Path) -> View:
    """Read a run record. Raises UsageError where there is no such file, RecordError where it is no readable run."""
    with Run(path) as run:
        return of(run)


def of(run: Run) -> View:
    """The columns of an open run record. Raises RecordError where they make no sense."""
    try:
        streams = tuple(_stream(entry) for entry in run.meta["streams"])
        frames = _frames(run.frames, {stream.name: i for i, stream in enumerate(streams)})
        stalls = sorted((int(at) - int(late), int(at), str(source)) for at, late, source in run.stalls)
        assumptions = [dict(zip(run.assumptions.dtype.names or (), row)) for row in run.assumptions.tolist()]
        return View(str(run.path), run.meta, streams, frames, _stages(run.stages, streams, frames), stalls, assumptions, run.counters)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"{run.path} is damaged ({type(error).__name__}: {error})", "record the run again") from None


def _stream(entry: Mapping[str, Any]) -> StreamInfo:
    return StreamInfo(str(entry["name"]), str(entry.get("source", "")), int(entry["period_ns"]), int(entry["deadline_ns"]),
                      int(entry.get("jitter_ns", 0)), float(entry.get("weight", 1.0)), tuple(dict(s) for s in entry["stages"]))


def _codes(values: np.ndarray, index: Mapping[str, int], missing: int | None = None) -> np.ndarray:
    """Indices of strings; KeyError for one that is not there, unless `missing` stands for it."""
    names, inverse = np.unique(values, return_inverse=True)
    codes = [index[str(name)] if missing is None else index.get(str(name), missing) for name in names]
    return np.asarray(codes, dtype=np.int64)[inverse] if codes else np.zeros(0, dtype=np.int64)


def _frames(table: np.ndarray, streams: Mapping[str, int]) -> Columns:
    out: dict[str, np.ndarray] = {name: table[name] for name in INTEGERS}
    out["stream"] = _codes(table["stream"], streams)
    out["status"] = _codes(table["status"], {status: i for i, status in enumerate(STATUSES)})
    out["correct"] = table["correct"].copy()
    for name in ("confidence", "utility"):
        out[name] = np.nan_to_num(table[name])
    out["utility"][out["status"] != 0] = 0.0  # what was not answered is worth nothing
    out["correct"][(out["status"] == 1) & (out["label"] >= 0)] = 0  # no answer is no right answer
    order = np.lexsort((out["frame"], out["stream"], out["release_ns"]))
    return {name: column[order] for name, column in out.items()}


def _stages(table: np.ndarray, streams: Sequence[StreamInfo], frames: Columns) -> Columns:
    order = np.lexsort((table["end_ns"], table["start_ns"]))
    table = table[order]
    has_job = frames["job"] >= 0
    owner = dict(zip(frames["job"][has_job].tolist(), frames["stream"][has_job].tolist()))
    names = [{str(stage["name"]): i for i, stage in enumerate(stream.stages)} for stream in streams]
    stream = np.array([owner.get(job, -1) for job in table["job"].tolist()], dtype=np.int64)
    stage = np.array([names[s].get(name, -1) if s >= 0 else -1 for s, name in zip(stream.tolist(), table["stage"].tolist())],
                     dtype=np.int64)
    out: dict[str, np.ndarray] = {name: table[name] for name in ("job", "unit", "start_ns", "end_ns", "status", "resource")}
    return {**out, "stream": stream, "stage": stage, "name": table["stage"]}

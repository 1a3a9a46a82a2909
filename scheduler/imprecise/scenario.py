"""Scenarios: which streams of frames meet on which resources, how long their stages take, and what their answers are worth.

A scenario is a TOML file. Times carry units (`"33ms"`). A malformed one gives a `ScenarioError` of one line that names the
file, the key, what was found and what was expected.

    guard = "1ms"                       # answers go out this long before the deadline (default 0)
    load = 1.5                          # optional: as many copies of the streams as cost this much of their last resource
    [resources]                         # units of each
    fpga = 1
    cpu = 2
    order = "edf"                       # of mandatory stages, or by fixed priority: rate-monotonic, deadline-monotonic, listed
    preemptive = ["cpu"]                # resources where mandatory work interrupts what comes after it (default none)
    [blocking]                          # optional: the longest optional stage on a resource that mandatory work shares
    [[stream]]
    name = "front"
    rate = 30                           # or period = "33ms"; or min_gap and mean_gap (sporadic); or releases = ["0ms", ...]
    deadline = "33ms"                   # default: the period; with `load` also at least twice a frame's whole refinement
    jitter = "1ms"                      # a frame is seen up to this long after its capture (default 0)
    offset = "5ms"                      # of the first frame (default 0), or "random"
    weight = 1.0
    kind = "milestone"                  # or "sieve" (each optional stage done or skipped), "version" (one of them)
    drift = -50                         # ppm by which the camera's clock makes its period longer (default 0)
    drop = 0.001                        # share of its frames that never arrives (default 0)
    burst = [4, 100]                    # sporadic only: of 100 frames the last 4 follow each other at min_gap
    mk = [2, 5]                         # optional: of any 5 frames in a row at least 2 should be refined
    quality = 0.9                       # optional: the mean utility that the stream should have at least
    bundle = "fashion"                  # stages, times, rewards and outcomes of a trained bundle
    times = { stage1 = "2ms" }          # other times for its stages, written as `time` below (default: the bundle's); or all of it here:
    [[stream.stage]]
    name = "first"
    resource = "fpga"
    mandatory = true                    # default false
    time = "2ms"                        # or a list by frame; or { median, sigma, max } (lognormal); or { samples = [...] }
    wcet = "3ms"                        # default: the longest that `time` can give, 0 where it has no limit
    units = [0]                         # units of the resource that may run it (default all)
    [stream.outcomes]                   # accuracy = [0.86, 0.92] (made up, calibrated; n = 4000), or confidence and correct
    [stream.reward]                     # prior = [0.86, 0.92], or correct = [{ x, y }, ...] and gain = { "0" = { "1" = { x, y } } }

A machine that is not ideal (all optional, `conditions` says what each means):

    overhead = "30us"                   # dispatching, before each stage; decision = "40us": more before an optional one
    takes_core = { fpga = "cpu" }       # while fpga works, unit 0 of cpu pauses: the operating system gives its core away
    [slowdown.cpu]
    beside = [1.1, 1.3]                 # factors with 1, 2, ... other units of it busy
    hog = { every = "10s", length = "3s", factor = 1.8 }
    heat = { factor = 1.5, time = "20s", threshold = 0.5 }
    [[fault]]                           # a share of a stage's executions: kind "crash" or "hang"
    stage = "second"
    kind = "hang"
    share = 0.001
    [[fault]]                           # or a unit that is lost, and back (or never)
    resource = "fpga"
    lost = "2s"
    back = "2.5s"
    [give_up]                           # a stage still running so long after its job's publication, and its unit's absence
    after = "20ms"
    restart = "50ms"
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .conditions import Conditions
from .conditions_file import check_faults, known, one_of, read_conditions
from .draws import Arrivals, DurationModel, Periodic, Releases, Sporadic
from .model import Stage, Stream
from .tables import ScenarioError, Table, nearest, read_toml
from .work_file import Resolver, read_bundle, read_work
from .workload import Outcomes, Workload, synthetic_outcomes, synthetic_reward

__all__ = ["Outcomes", "Scenario", "ScenarioError", "Source", "Workload", "find", "load", "names", "parse", "streams_for_load",
           "synthetic_outcomes", "synthetic_reward"]

ORDERS = ("edf", "rate-monotonic", "deadline-monotonic", "listed")
SHIPPED = Path(__file__).resolve().parent / "scenarios"
MAX_RATE = 60.0  # frames/s of one stream where a load decides how many there are
MAX_STREAMS = 4096
SHARE_OF_DEADLINE = 2  # with a load, a frame's whole refinement fits this many times into its deadline


@dataclass(frozen=True)
class Source:
    """One stream and the world that drives it. `drop`: the share of its frames that is captured and never delivered."""

    stream: Stream
    arrivals: Arrivals
    work: Workload
    drop: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """Streams on resources, ready to be simulated. `load` is what was asked for (0: the file's own rates)."""

    name: str
    sources: tuple[Source, ...]
    resources: dict[str, int]
    guard_ns: int = 0
    blocking_ns: dict[str, int] = field(default_factory=dict)
    load: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)
    order: str = "edf"
    preemptive: tuple[str, ...] = ()

    def priorities(self) -> list[int] | None:
        """The rank of each stream where mandatory stages go by fixed priority, None under EDF."""
        keys = {"edf": None, "listed": lambda s: 0, "rate-monotonic": lambda s: s.period_ns, "deadline-monotonic": lambda s: s.deadline_ns}
        key = keys[self.order]
        if key is None:
            return None
        ranked = sorted(range(len(self.sources)), key=lambda i: (key(self.sources[i].stream), i))
        return [ranked.index(i) for i in range(len(ranked))]

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams, as the engine wants them."""
        return tuple(source.stream for source in self.sources)

    def on_validation(self) -> Scenario:
        """The same streams showing validation pictures. Raises ScenarioError where a stream has none."""
        sources = []
        for source in self.sources:
            if source.work.validation is None:
                raise ScenarioError(f"{self.name}: stream {source.stream.name!r} has no validation outcomes to tune on")
            sources.append(replace(source, work=replace(source.work, outcomes=source.work.validation)))
        return replace(self, sources=tuple(sources))


def names() -> list[str]:
    """Names of the scenarios that are shipped."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find(spec: str | Path) -> Path:
    """The file of a scenario given by path or shipped name. Raises ScenarioError where there is none."""
    path = Path(spec)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{spec}.toml"
    if str(spec) in names():
        return shipped
    raise ScenarioError(f"{spec}: no such file or scenario; {nearest(str(spec), names())}")


def load(spec: str | Path, resolve: Resolver | None = None, load: float | None = None) -> Scenario:
    """Read a scenario by path or shipped name; `resolve` turns a bundle's name into a Workload, `load` overrides the file's.

    Raises ScenarioError for a file that cannot be right; what `resolve` raises passes through.
    """
    path = find(spec)
    return parse(read_toml(path), path, resolve, load)


def parse(data: dict[str, Any], path: Path, resolve: Resolver | None = None, load: float | None = None) -> Scenario:
    """A Scenario from the tables of a TOML file; `path` is for messages and for files that it names."""
    top = Table(data, path)
    top.text("title", "")
    guard_ns = top.duration("guard", 0)
    own_load = top.number("load", 0.0)
    factor = own_load if load is None else load
    if (load is None and "load" in data and not 0 < own_load <= 1000) or not (math.isfinite(factor) and 0 <= factor <= 1000):
        raise ScenarioError(f"{path}: load: found {factor:g}, expected a number above 0, at most 1000")
    resources = top.table("resources")
    units = {name: resources.integer(name, 1, 1024) for name in resources.data}
    if not units:
        raise ScenarioError(f"{path}: resources: found none, expected at least one, like cpu = 2")
    blocking = top.table("blocking", {})
    blocking_ns = {name: blocking.duration(name) for name in blocking.data if known(name, units, blocking)}
    order = one_of(top, "order", list(ORDERS), "edf")
    preemptive = top.take("preemptive", [])
    if not isinstance(preemptive, list) or not all(isinstance(name, str) and name in units for name in preemptive):
        raise top.error("preemptive", repr(preemptive), f"a list of resources out of {', '.join(units)}")
    conditions = read_conditions(top, units)
    streams = top.tables("stream")
    top.finish()
    resolve = lru_cache(maxsize=None)(resolve) if resolve else None
    sources: list[Source] = []
    for table in streams:
        found = _stream(table, units, guard_ns, resolve, factor if len(streams) == 1 else 0.0)
        clash = {source.stream.name for source in sources} & {source.stream.name for source in found}
        if clash:
            raise table.error("name", repr(min(clash)), "a name that no other stream has")
        sources += found
    if factor and len(streams) > 1:
        sources = _copies(sources, factor, units, top)
    _same_stage_same_time(sources, path)
    check_faults(top, conditions, {source.stream.name: {stage.name for stage in source.stream.stages} for source in sources})
    return Scenario(path.stem, tuple(sources), units, guard_ns, blocking_ns, factor, conditions, order, tuple(preemptive))


class Loaded(NamedTuple):
    """How many streams make a load, and the period and deadline of each."""

    streams: int
    period_ns: int
    deadline_ns: int


def streams_for_load(cost_ns: float, load: float, cpus: int, max_rate: float = MAX_RATE, deadline_ns: int = 0) -> Loaded:
    """The fewest streams of at most `max_rate` frames/s whose whole refinement costs `load` times the capacity of `cpus`.

    `cost_ns` is the mean CPU time of refining one frame to the end. With n streams of period T, n * cost_ns / T = load * cpus.
    The whole refinement of one frame takes at most half its deadline; without `deadline_ns` the deadline is the period, or
    twice the cost where that is longer. Raises ValueError for a deadline shorter than that, or numbers out of range.
    """
    if not (cost_ns > 0 and load > 0 and cpus > 0 and max_rate > 0):
        raise ValueError("cost, load, cpus and the rate must be positive")
    least_ns = math.ceil(SHARE_OF_DEADLINE * cost_ns)
    if deadline_ns and deadline_ns < least_ns:
        raise ValueError(f"the deadline ({deadline_ns} ns) must be at least {SHARE_OF_DEADLINE} times the whole refinement "
                         f"of a frame ({cost_ns:.0f} ns), that is {least_ns} ns")
    rate = load * cpus * 1e9 / cost_ns
    count = max(1, math.ceil(rate / max_rate * (1 - 1e-12)))
    if count > MAX_STREAMS:
        raise ValueError(f"a load of {load:g} needs {count} streams of {max_rate:g} frames/s, more than {MAX_STREAMS}")
    period_ns = max(1, round(count * 1e9 / rate))
    return Loaded(count, period_ns, deadline_ns or max(period_ns, least_ns))


def _copies(sources: list[Source], load: float, units: dict[str, int], top: Table) -> list[Source]:
    """The fewest copies of a set of streams, none faster than written, whose whole refinement costs `load` times what the resource of
    their last stages can do; deadlines stay as they are. Raises ScenarioError."""
    resources = {source.stream.stages[-1].resource for source in sources}
    if len(resources) != 1 or not all(isinstance(source.arrivals, Periodic) for source in sources):
        raise top.error("load", f"{load:g}", "streams with a rate or a period, whose last stages run on one resource")
    resource = resources.pop()
    cost = sum(model.mean_ns / source.arrivals.period_ns for source in sources
               for stage, model in zip(source.stream.stages, source.work.durations) if stage.resource == resource)
    count = max(1, math.ceil(load * units[resource] / cost * (1 - 1e-12)))
    if count * len(sources) > MAX_STREAMS:
        raise top.error("load", f"{load:g}", f"at most {MAX_STREAMS} streams, not {count} times {len(sources)}")
    slower = count * cost / (load * units[resource])
    out = []
    for i in range(count):
        for source in sources:
            name = f"{source.stream.name}-{i:0{len(str(count - 1))}d}" if count > 1 else source.stream.name
            assert isinstance(source.arrivals, Periodic)
            period_ns = round(source.arrivals.period_ns * slower)
            least_ns = max(1, period_ns + math.floor(period_ns * source.arrivals.drift_ppm * 1e-6))
            arrivals = replace(source.arrivals, period_ns=period_ns, offset_ns=-1 if count > 1 else source.arrivals.offset_ns)
            out.append(replace(source, stream=replace(source.stream, name=name, period_ns=least_ns), arrivals=arrivals))
    return out


# Parts of a stream ----------------------------------------------------------------------------------------------------


def _stream(table: Table, units: dict[str, int], guard_ns: int, resolve: Resolver | None, load: float) -> list[Source]:
    """The source of one `[[stream]]`, or its copies where a load is given."""
    name = table.name("name")
    work = read_bundle(table, resolve) if "bundle" in table.data else read_work(table, units)
    for stage in work.stages:
        if stage.resource not in units:
            raise table.error("bundle", f"stage {stage.name!r} on resource {stage.resource!r}", f"one of {', '.join(units)}")
    jitter_ns = table.duration("jitter", 0)
    weight = table.number("weight", 1.0)
    if not 0 < weight <= 1e9:
        raise table.error("weight", f"{weight:g}", "a number above 0")
    mk = _mk(table)
    quality = table.number("quality", 0.0)
    if not 0 <= quality <= 1:
        raise table.error("quality", f"{quality:g}", "a number from 0 to 1")
    deadline_ns = table.duration("deadline", 0, least=1)
    offset_ns = _offset(table, -1 if load else 0)
    drop = table.number("drop", 0.0)
    if not 0 <= drop < 1:
        raise table.error("drop", f"{drop:g}", "a share from 0 to below 1")
    labels = [name]
    arrivals: Arrivals
    if load:
        rate = table.number("rate", MAX_RATE)
        if not 0 < rate <= 1e9:
            raise table.error("rate", f"{rate:g}", "frames per second above 0")
        resource = work.stages[-1].resource
        cost_ns = sum(m.mean_ns for s, m in zip(work.stages, work.durations) if s.resource == resource)
        try:
            copies = streams_for_load(cost_ns, load, units[resource], rate, deadline_ns)
        except ValueError as error:
            raise table.error("load", f"{load:g}", f"what can be made: {error}") from None
        deadline_ns = copies.deadline_ns
        arrivals = Periodic(copies.period_ns, offset_ns, jitter_ns)
        least_gap_ns = copies.period_ns
        if copies.streams > 1:
            width = len(str(copies.streams - 1))
            labels = [f"{name}-{i:0{width}d}" for i in range(copies.streams)]
    else:
        arrivals, least_gap_ns = _arrivals(table, offset_ns, jitter_ns)
        deadline_ns = deadline_ns or least_gap_ns
        if not deadline_ns:
            raise table.error("deadline", "none", 'a duration above 0, like "33ms"')
    table.finish()
    if guard_ns >= deadline_ns:
        raise table.error("deadline", f"{deadline_ns} ns", f"more than the guard ({guard_ns} ns)")
    sources = []
    for label in labels:
        try:
            stream = Stream(label, least_gap_ns, deadline_ns, work.stages, jitter_ns, weight, work.reward, mk, quality, work.kind)
        except ValueError as error:
            raise ScenarioError(f"{table.path}: {table.where}: {error}") from None
        sources.append(Source(stream, arrivals, work, drop))
    return sources


def _mk(table: Table) -> tuple[int, int]:
    """(m, k), or (0, 0)."""
    found = table.take("mk", [0, 0])
    if found == [0, 0] and "mk" not in table.data:
        return 0, 0
    if not (isinstance(found, list) and len(found) == 2 and all(type(v) is int for v in found) and 1 <= found[0] <= found[1] <= 10_000):
        raise table.error("mk", repr(found), "two whole numbers [m, k] with 1 <= m <= k")
    return found[0], found[1]


def _offset(table: Table, default: int) -> int:
    """Nanoseconds, or -1 for a random phase."""
    if table.data.get("offset") == "random":
        table.take("offset", None)
        return -1
    return table.duration("offset", default)


def _arrivals(table: Table, offset_ns: int, jitter_ns: int) -> tuple[Arrivals, int]:
    """The arrivals that a stream's keys describe, and the least distance of two (0: unknown)."""
    ways = [key for key in ("rate", "period", "min_gap", "releases") if key in table.data]
    if len(ways) != 1:
        raise table.error("rate", " and ".join(ways) or "nothing", "exactly one of rate, period, min_gap, releases")
    if ways == ["rate"]:
        rate = table.number("rate")
        if not 1e-5 <= rate <= 1e9:
            raise table.error("rate", f"{rate:g}", "frames per second above 0")
        return _periodic(table, round(1e9 / rate), offset_ns, jitter_ns)
    if ways == ["period"]:
        return _periodic(table, table.duration("period", least=1), offset_ns, jitter_ns)
    if ways == ["min_gap"]:
        gap_ns = table.duration("min_gap", least=1)
        mean_ns = table.duration("mean_gap", gap_ns)
        if mean_ns < gap_ns:
            raise table.error("mean_gap", f"{mean_ns} ns", f"at least min_gap ({gap_ns} ns)")
        burst = table.take("burst", [0, 0])
        if burst != [0, 0] and not (isinstance(burst, list) and len(burst) == 2 and all(type(v) is int for v in burst)
                                    and 2 <= burst[0] <= burst[1] <= 10**6):
            raise table.error("burst", repr(burst), "two whole numbers [length, every] with 2 <= length <= every")
        return Sporadic(gap_ns, mean_ns - gap_ns, jitter_ns, (burst[0], burst[1])), gap_ns
    times = table.durations("releases")
    if list(times) != sorted(times):
        raise table.error("releases", "times that fall", "rising times")
    return Releases(times, jitter_ns), 0


def _periodic(table: Table, period_ns: int, offset_ns: int, jitter_ns: int) -> tuple[Arrivals, int]:
    """A camera with a clock of its own, and the least distance of two of its frames."""
    drift = table.number("drift", 0.0)
    if not abs(drift) <= 1e5:
        raise table.error("drift", f"{drift:g}", "a number of millionths from -100000 to 100000")
    return Periodic(period_ns, offset_ns, jitter_ns, drift), max(1, period_ns + math.floor(period_ns * drift * 1e-6))


def _same_stage_same_time(sources: list[Source], path: Path) -> None:
    """A stage's name stands for one duration estimate, so it must mean one thing."""
    seen: dict[str, tuple[str, Stage, DurationModel]] = {}
    for source in sources:
        for stage, model in zip(source.stream.stages, source.work.durations):
            other, stage0, model0 = seen.setdefault(stage.name, (source.stream.name, stage, model))
            if stage0 != stage or model0 != model:
                raise ScenarioError(f"{path}: stage {stage.name!r}: found two different stages of this name in streams "
                                    f"{other!r} and {source.stream.name!r}, expected one time and resource a name")

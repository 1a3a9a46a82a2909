"""A sweep file, read and checked: which cells it asks for.

    title = "Two cameras under three policies"
    scenarios = ["two-cameras", "my.toml"]              # by name, or a file (from here, or from beside this one); or: scenario = "..."
    policies = ["mandatory-only", "threshold:theta=tuned", "default"]    # differences are to the first
    loads = [0.5, 1.5, 3]                               # optional: override the scenario's load
    seeds = 20                                          # 0 to 19, or a list; a seed is one world, the same for every policy
    frames = 5000                                       # of each simulation
    metrics = ["utility", "missed"]                     # optional: what is shown (default: all that a simulation sums up)
    rows = true                                         # optional: exact quantiles of latency (memory grows with the frames)
    validation = true                                   # optional: validation pictures, to choose policies on
    [options]                                           # optional: for the engine
    quantile = 0.99
    [grid]                                              # optional: every combination of these values, for each scenario
    guard = ["0ms", "1ms"]                              # any key of the scenario's file, ...
    "stream.front.deadline" = ["20ms", "33ms"]          # ... in a table, or in the entry of a list by its name (`*`: in each)
    [tune]                                              # optional: how `theta=tuned` is found, on validation pictures
    seed = 1000000
    frames = 4000
    [[generate]]                                        # optional: random task sets, another one for each seed
    name = "random"
    streams = 8
    utilisation = 0.7                                   # of the mandatory parts; more keys: GENERATE below
"""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imprecise import generators, policies, scenario
from imprecise.admission import Certificate, Task, admit
from imprecise.engine import Engine
from imprecise.scenario import Scenario, ScenarioError
from imprecise.simulation import Simulation, StreamTotals
from imprecise.tables import MAX_NS, Table, line_of, nearest, read_toml

from .cells import TUNED
from .hashing import code_of_policy
from .store import Cell

MAX_CELLS = 1_000_000
_NEXT = re.compile(r"""\s*(\[|["'\w.-]+\s*=)""")  # a line that begins another key or table
DERIVED = ("miss_ratio",)
TUNE_SEED, TUNE_FRAMES = 1_000_000, 4000  # far from the seeds that results are made with
OPTIONS = sorted({"quantile", "blocking_ns"} & set(inspect.signature(Engine.__init__).parameters))
GENERATE: dict[str, tuple[str, Any]] = {
    "streams": ("count", 8), "utilisation": ("number", 0.7), "periods": ("durations", (10**7, 10**8)), "granularity": ("duration", 10**6),
    "deadlines": ("shares", (1.0, 1.0)), "jitters": ("shares", (0.0, 0.0)), "limit": ("number", 1.0), "method": ("text", "uunifast"),
    "admitted": ("flag", False), "load": ("number", 1.0), "cpus": ("count", 1), "accuracy": ("numbers", (0.86, 0.91, 0.94)),
    "optional_limit": ("number", 1.0), "sigma": ("number", 0.25), "fastest": ("number", 1.0), "guard": ("duration", 0),
}
"""Keys of `[[generate]]` beside `name`, and their defaults: see `generators.task_set` (`admitted`: only sets with a certificate under
non-preemptive EDF) and `generators.scenario_of`."""


@dataclass(frozen=True)
class Setting:
    """What one table of figures is about."""

    scenario: str
    load: float | None
    grid: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One cell of the sweep, and what it stands for."""

    setting: int
    policy: str
    seed: int
    cell: Cell


@dataclass(frozen=True)
class Plan:
    """What a sweep file asks for: `entries` by setting, then policy, then seed."""

    name: str
    title: str
    settings: Sequence[Setting]
    policies: Sequence[str]
    seeds: Sequence[int]
    frames: int
    metrics: Sequence[str]  # as asked for; empty: all
    entries: Sequence[Entry] = field(repr=False)


def read(path: str | Path) -> Plan:
    """Read a sweep file and make its cells. Everything that the file names is looked up; nothing is computed.

    Raises ScenarioError, one line with file, line and key, for what cannot be right; what a bundle raises passes through.
    """
    path = Path(path)
    data = read_toml(path)
    return _Reader(Table(data, path)).plan()


class _World:
    """A scenario file or a generator, from which worlds are made. `make(load, overrides, seed)`; `seeded`: another one for each seed."""

    def __init__(self, name: str, path: Path, key: str, literal: str, seeded: bool,
                 make: Callable[[float | None, Mapping[str, Any], int], Scenario], takes: Callable[[str], bool]):
        self.name, self.path, self.key, self.literal = name, path, key, literal
        self.seeded, self.make, self.takes = seeded, make, takes


class _Reader:
    """Reads one file."""

    def __init__(self, top: Table):
        self.top = top
        self.bundles: dict[str, Any] = {}
        self.works: dict[str, Any] = {}

    def plan(self) -> Plan:
        """All of it."""
        top = self.top
        title = top.text("title", "")
        if "scenario" in top.data and "scenarios" in top.data:
            raise top.error("scenario", "it beside scenarios", "one or the other")
        named = [("scenario", top.text("scenario"))] if "scenario" in top.data else [("scenarios", s) for s in self._texts("scenarios", [])]
        specs = list(dict.fromkeys(self._texts("policies")))
        code = {spec: self._policy(spec) for spec in specs}
        loads = self._loads()
        seeds = self._seeds()
        frames = top.integer("frames", 1, 10**8, 5000)
        rows, validation = top.flag("rows", False), top.flag("validation", False)
        metrics = self._metrics()
        options = self._options(top.table("options", {}))
        grid = self._grid(top.table("grid", {}))
        tune = top.table("tune", {})
        tuning: dict[str, Any] = {"seed": tune.integer("seed", 0, 2**62, TUNE_SEED),
                                  "frames": tune.integer("frames", 1, 10**7, TUNE_FRAMES)}
        if "grid" in tune.data:
            tuning["grid"] = self._shares(tune, "grid")
        tune.finish()
        worlds = [self._file(key, spec) for key, spec in named]
        worlds += [self._generator(table) for table in top.tables("generate", [])]
        top.finish()
        self._check(worlds, grid)
        common: dict[str, Any] = {"frames": frames, **({"rows": True} if rows else {}), **({"options": options} if options else {})}
        settings: list[Setting] = []
        entries: list[Entry] = []
        for world, load, chosen in self._combinations(worlds, loads, grid):
            settings.append(Setting(world.name, load, chosen))
            shown = seeds if world.seeded else seeds[:1]  # one world for all seeds where they do not differ
            made_of = {seed: self._make(world, load, chosen, seed, validation) for seed in shown}
            theta_of = {seed: self._tune(made_of[seed], tuning) for seed in shown} if any(TUNED in spec for spec in specs) else {}
            for spec in specs:
                name, local = _portable(spec)
                for seed in seeds:
                    which = seed if world.seeded else seeds[0]
                    needs = {"theta": theta_of[which]} if TUNED in spec else {}
                    cell = Cell("edgert.sweep.cells:simulate", {"policy": name, "policy_code": code[spec], "seed": seed, **common},
                                {"scenario": made_of[which]}, needs, local)
                    entries.append(Entry(len(settings) - 1, spec, seed, cell))
                    if len(entries) > MAX_CELLS:
                        raise top.error("seeds", f"more than {MAX_CELLS:,} cells in all", "fewer")
        return Plan(top.path.stem, title, settings, specs, seeds, frames, metrics, entries)

    # Keys at the top --------------------------------------------------------------------------------------------------

    def _texts(self, key: str, default: Any = ...) -> list[str]:
        found = self.top.take(key) if default is ... else self.top.take(key, default)
        if not isinstance(found, list) or not all(isinstance(text, str) and text for text in found) or (not found and default is ...):
            raise self.top.error(key, repr(found), 'a list of texts, like ["a", "b"]')
        return found

    def _policy(self, spec: str) -> str:
        """The hash of a policy's code, which shows that there is one; `tuned` stands for some number."""
        if TUNED in spec and not re.fullmatch(rf"threshold:(.*,)?\s*theta{TUNED}", spec):
            raise _wrong(self.top, "policies", spec, "tuned only as in 'threshold:theta=tuned'")
        try:
            return code_of_policy(policies.make(spec.replace(TUNED, "=0.5")))
        except ValueError as error:
            raise blame(self.top, "policies", error, spec) from None

    def _loads(self) -> list[float | None]:
        if "loads" not in self.top.data:
            self.top.take("loads", None)
            return [None]
        loads = self.top.numbers("loads")
        if not loads or not all(0 < load <= 1000 for load in loads):
            raise self.top.error("loads", repr(list(loads)), "numbers above 0, at most 1000")
        return list(dict.fromkeys(loads))

    def _seeds(self) -> list[int]:
        found = self.top.take("seeds", 10)
        if type(found) is int and 1 <= found <= 10**6:
            return list(range(found))
        if not (isinstance(found, list) and found and all(type(seed) is int and 0 <= seed < 2**62 for seed in found)):
            raise self.top.error("seeds", repr(found), "a number of seeds, or a list of whole numbers from 0")
        if len(set(found)) < len(found):
            raise self.top.error("seeds", repr(found), "each seed once")
        return found

    def _metrics(self) -> list[str]:
        known = metric_names()
        metrics = self._texts("metrics", [])
        for name in metrics:
            if name.partition(".")[0] not in known:
                raise _wrong(self.top, "metrics", name, nearest(name, known))
        return metrics

    def _options(self, table: Table) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if "quantile" in table.data:
            options["quantile"] = table.number("quantile")
            if not 0 < options["quantile"] <= 1:
                raise table.error("quantile", f"{options['quantile']:g}", "a number above 0, at most 1")
        if "blocking" in table.data:
            blocking = table.table("blocking")
            options["blocking_ns"] = {name: blocking.duration(name) for name in blocking.data}
        for key in ("quantile", "blocking"):
            table.take(key, None)
        table.finish()
        return options

    def _grid(self, table: Table) -> dict[str, list[Any]]:
        for key, values in table.data.items():
            if not isinstance(values, list) or not values:
                hint = f'a list of values; a dotted key stands in quotes, like "{key}.{next(iter(values), "x")}" = [...]'
                raise table.error(key, repr(values), hint if isinstance(values, dict) else "a list of values, like [1, 2]")
        return dict(table.data)

    def _shares(self, table: Table, key: str) -> list[float]:
        found = sorted(set(table.numbers(key)))
        if not found or not 0 <= found[0] <= found[-1] <= 1:
            raise table.error(key, repr(found), "numbers from 0 to 1")
        return found

    # Worlds -----------------------------------------------------------------------------------------------------------

    def _file(self, key: str, spec: str) -> _World:
        beside = self.top.path.parent / spec
        try:
            path = beside if beside.is_file() else scenario.find(spec)
            data = read_toml(path)
        except ScenarioError as error:
            raise blame(self.top, key, error, spec) from None

        def make(load: float | None, overrides: Mapping[str, Any], seed: int) -> Scenario:
            changed = copy.deepcopy(data) if overrides else data
            for dotted, value in overrides.items():
                override(changed, dotted, value)
            return scenario.parse(changed, path, self._resolve, load)

        return _World(path.stem, path, key, spec, False, make, lambda dotted: not dotted.startswith("generate."))

    def _resolve(self, name: str) -> Any:
        from ..cli.simulate import workload

        if name not in self.works:
            self.works[name] = workload(name, self.bundles, {})
        return self.works[name]

    def _generator(self, table: Table) -> _World:
        name = table.name("name")

        def make(load: float | None, overrides: Mapping[str, Any], seed: int) -> Scenario:
            data = {**table.data, **{dotted.split(".", 2)[2]: value for dotted, value in overrides.items()}}
            return _generated(Table(data, table.path, table.where), load, seed)

        return _World(name, table.path, f"{table.where}.name", name, True, make, lambda dotted: dotted.startswith(f"generate.{name}."))

    def _check(self, worlds: list[_World], grid: Mapping[str, list[Any]]) -> None:
        """Every world, load and value of the grid alone: so an error names the key that leads to it."""
        if not worlds:
            raise self.top.error("scenarios", "nothing", "scenarios, or a [[generate]]")
        for i, world in enumerate(worlds):
            if any(other.name == world.name for other in worlds[:i]):
                raise blame(self.top, world.key, f"found two of the name {world.name!r}, expected another name for each", world.literal)
            try:
                world.make(None, {}, 0)
            except ScenarioError as error:
                raise (error if world.seeded else blame(self.top, world.key, error, world.literal)) from None
        table = Table(dict(grid), self.top.path, "grid")
        for dotted, values in grid.items():
            takers = [world for world in worlds if world.takes(dotted)]
            if not takers:
                known = [f"generate.{world.name}." for world in worlds if world.seeded] or ["a key of the scenario"]
                raise table.error(dotted, "a key of no scenario here", f"{' or '.join(known)}")
            for world, value in itertools.product(takers, values):
                try:
                    world.make(None, {dotted: value}, 0)
                except ScenarioError as error:
                    raise blame(table, dotted, _without_place(error, world.path),
                                      _written(value)) from None

    def _combinations(self, worlds: list[_World], loads: Sequence[float | None],
                      grid: Mapping[str, list[Any]]) -> Iterator[tuple[_World, float | None, dict[str, Any]]]:
        for world in worlds:
            keys = [key for key in grid if world.takes(key)]
            for load in loads:
                for values in itertools.product(*(grid[key] for key in keys)):
                    yield world, load, dict(zip(keys, values))

    def _make(self, world: _World, load: float | None, overrides: Mapping[str, Any], seed: int, validation: bool) -> Scenario:
        try:
            made = world.make(load, overrides, seed)
        except ScenarioError as error:
            try:
                world.make(None, overrides, seed)
            except ScenarioError:
                shown = ", ".join(f"{k} = {_written(v)}" for k, v in overrides.items())
                raise blame(self.top, "grid", f"{world.name} with {shown}: {_without_place(error, world.path)}") from None
            raise blame(self.top, "loads", f"{world.name} with load {load:g}: {_without_place(error, world.path)}") from None
        if not validation:
            return made
        try:
            return made.on_validation()
        except ScenarioError as error:
            raise blame(self.top, "validation", error) from None

    def _tune(self, world: Scenario, params: Mapping[str, Any]) -> Cell:
        try:
            return Cell("edgert.sweep.cells:tune", params, {"scenario": world.on_validation()})
        except ScenarioError as error:
            raise blame(self.top, "policies", error, TUNED) from None


def _portable(spec: str) -> tuple[str, dict[str, str]]:
    """A policy as results name it, and what only this machine knows of it: where a user's file lies."""
    if not policies.file_sha256(spec):
        return spec, {}
    full = policies.full_name(spec)
    return f"{Path(full.partition('.py')[0]).name}.py{full.partition('.py')[2]}", {"spec": full}


def metric_names() -> list[str]:
    """What a simulation sums up, as far as it is a number (or numbers: `answered.0`)."""
    empty = Simulation("", "", 0, [StreamTotals("", 1.0, [0])], None).summary()
    return [name for name in empty if name not in ("scenario", "policy", "seed", "policy_fault")] + list(DERIVED)


# Overrides and generated sets -----------------------------------------------------------------------------------------


def override(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one key of a scenario's tables: "guard", "resources.cpu", "stream.front.deadline", "stream.*.stage.second.time".

    In a list of tables the entry is chosen by its `name`, or `*` for each. Tables that are not there are made; the last key may be
    new too, as it may have a default. Raises ScenarioError where a list has no such entry, or a table is something else.
    """
    _override(data, dotted.split("."), value, dotted)


def _override(data: Any, parts: list[str], value: Any, dotted: str) -> None:
    if isinstance(data, list):
        names = [str(entry.get("name")) for entry in data if isinstance(entry, dict)]
        if len(parts) < 2 or (parts[0] != "*" and parts[0] not in names):
            raise ScenarioError(f"{dotted}: found no entry {parts[0]!r} with a key behind it, expected {nearest(parts[0], names)}")
        for entry, name in zip(data, names):
            if parts[0] in ("*", name):
                _override(entry, parts[1:], value, dotted)
    elif not isinstance(data, dict):
        raise ScenarioError(f"{dotted}: found {data!r} where {parts[0]!r} should be, expected a table")
    elif len(parts) == 1:
        data[parts[0]] = value
    else:
        _override(data.setdefault(parts[0], {}), parts[1:], value, dotted)


def _generated(table: Table, load: float | None, seed: int) -> Scenario:
    """The world of one `[[generate]]` for one seed."""
    name = table.name("name")
    found: dict[str, Any] = {}
    for key, (kind, default) in GENERATE.items():
        if kind == "count":
            found[key] = table.integer(key, 1, 1000, default)
        elif kind == "duration":
            found[key] = table.duration(key, default)
        elif kind == "durations":
            found[key] = table.durations(key, 1) if key in table.data else table.take(key, default)
        elif kind in ("numbers", "shares"):
            found[key] = table.numbers(key, default)
        else:
            readers: dict[str, Callable[[str, Any], Any]] = {"number": table.number, "text": table.text, "flag": table.flag}
            found[key] = readers[kind](key, default)
        if kind in ("durations", "shares") and (len(found[key]) != 2 or found[key][0] > found[key][1] or found[key][1] > MAX_NS):
            raise table.error(key, repr(table.data[key]), "two rising values [least, most]")
    table.finish()
    try:
        tasks = generators.task_set(found["streams"], found["utilisation"], np.random.default_rng([seed, 0]), periods=found["periods"],
                                    granularity=found["granularity"], deadlines=found["deadlines"], jitters=found["jitters"],
                                    limit=found["limit"], method=found["method"], accept=_proven if found["admitted"] else None)
        return generators.scenario_of(tasks, found["load"] if load is None else load, seed, name=name, cpus=found["cpus"],
                                      accuracy=found["accuracy"], limit=found["optional_limit"], sigma=found["sigma"],
                                      fastest=found["fastest"], guard_ns=found["guard"])
    except (ValueError, ImportError) as error:
        raise blame(table, "name", error) from None


def _proven(tasks: list[Task]) -> bool:
    return isinstance(admit(tasks), Certificate)


def blame(table: Table, key: str, message: Exception | str, literal: str = "") -> ScenarioError:
    """The error that a key leads to, found elsewhere; at the line of `literal` where that stands in the key's value."""
    where = f"{table.where}.{key}" if table.where else key
    line = line_of(table.path, where)
    lines = table.path.read_text(encoding="utf-8").splitlines()
    for number in range(line, len(lines) + 1) if line and literal else ():
        if number > line and _NEXT.match(lines[number - 1]):
            break
        if literal in lines[number - 1]:
            line = number
            break
    return ScenarioError(f"{table.path}{f', line {line}' if line else ''}: {where}: {message}")


def _wrong(table: Table, key: str, literal: str, expected: str) -> ScenarioError:
    """The error of one entry of a list of texts."""
    return blame(table, key, f"found {literal!r}, expected {expected}", literal)


def _without_place(error: Exception, path: Path) -> str:
    """A message without the file and line that it begins with."""
    return re.sub(rf"^{re.escape(str(path))}(, line \d+)?: ", "", str(error))


def _written(value: Any) -> str:
    """A value about as it stands in a file."""
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)

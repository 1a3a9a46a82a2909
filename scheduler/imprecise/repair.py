"""How far a run is from the edge: the margins of what is admitted, and the smallest changes to what is not.

Everything here is found by asking admission again: a value that is given was admitted, and the next one was not. (The search between
them is bisection. On one resource admission never says no to less work or more time, so that the edge is the only one; where a deadline
is split over several resources it need not be, and there may be an admitted value beyond.)

    change      what it is                                                            value
    deadline    every stream with a shorter deadline gets this one                    the least, ns
    rate        all periods are stretched by one factor                               the least period of the fastest stream, ns
    guard       answers go out later, or (too short a guard) sooner                   ns
    units       more units of one resource                                            the fewest
    cut         a mandatory stage becomes two                                         the longer piece, the longest that will do, ns
    piece       an optional stage that never starts becomes several                   the longest that may start, ns
    preempted   the operating system interrupts optional work (SCHED_FIFO)
    own cores   optional work gets cores where no mandatory work runs
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from .admission import RunAdmission, answer, is_admitted, loads
from .model import Stage, Stream
from .question import Question, longest_ns
from .units import format_ns

MOST_UNITS = 64
_FAR_NS = 1 << 50
_STRETCH = 20  # periods are stretched by 2^20 at most


class Part(NamedTuple):
    """Stages in a row of one stream on one resource, as they were admitted. Deadline and jitter count from the release, ns."""

    stream: str
    stages: tuple[str, ...]
    resource: str
    cost_ns: int
    jitter_ns: int
    deadline_ns: int


@dataclass(frozen=True)
class Margins:
    """By how much one thing may become worse, alone, while the run is still admitted, in ns.

    `cost_ns`: the worst case of each mandatory stage. `deadline_ns`: how much shorter each stream's deadline may be (streams that are
    alike change together). `wakeup_ns`: the wake-up latency. `costs`: the factor by which all worst cases may grow together, cut to
    thousandths.
    """

    cost_ns: dict[str, int]
    deadline_ns: dict[str, int]
    wakeup_ns: int
    costs: float


class Change(NamedTuple):
    """One change, and the question with it: admitted (`piece`: with no such stage that never starts). See the top of this file."""

    kind: str
    subject: str
    value: int
    text: str
    question: Question


def parts(asked: Question, found: RunAdmission) -> list[Part]:
    """What each stream does on each resource, in order; [] where nothing was admitted."""
    if not found.admitted:
        return []
    tasks = {name: iter(c.tasks) for name, c in (found.certificates or {}).items()}
    local_ns = found.local_ns or {}
    out = []
    for i in by_rank(asked):
        stream = asked.streams[i]
        runs: list[list[int]] = []
        for index in asked.needed(stream):
            if runs and stream.stages[runs[-1][-1]].resource == stream.stages[index].resource:
                runs[-1].append(index)
            else:
                runs.append([index])
        for run in runs:
            resource = stream.stages[run[0]].resource
            task = next(tasks[resource])
            out.append(Part(stream.name, tuple(stream.stages[k].name for k in run), resource, task.cost_ns, task.jitter_ns,
                            local_ns[i, run[0]]))
    order = {stream.name: i for i, stream in enumerate(asked.streams)}
    return sorted(out, key=lambda part: order[part.stream])


def by_rank(asked: Question) -> list[int]:
    """Indices of the streams in the order of their tasks on each resource: by priority where those are fixed."""
    return sorted(range(len(asked.streams)), key=lambda i: asked.priorities[i] if asked.priorities else 0)


def alike(streams: Iterable[Stream]) -> list[list[Stream]]:
    """The streams in groups of equal period, deadline, jitter and stages, as a load makes them."""
    groups: dict[tuple[object, ...], list[Stream]] = {}
    for stream in streams:
        groups.setdefault((stream.period_ns, stream.deadline_ns, stream.jitter_ns, stream.stages), []).append(stream)
    return list(groups.values())


# Margins --------------------------------------------------------------------------------------------------------------


def margins(asked: Question) -> Margins | None:
    """The margins of an admitted run; None where it is not admitted."""
    if not is_admitted(asked):
        return None
    cost_ns, deadline_ns = {}, {}
    for name, stage in asked.mandatory().items():
        cost_ns[name] = _most(partial(_admits_costs, asked, {name: stage}, 1, 1))
    for group in alike(asked.streams):
        names = frozenset(stream.name for stream in group)
        deadline_ns.update(dict.fromkeys(names, _edge(partial(_admits_shorter, asked, names), 0, group[0].deadline_ns)))
    wakeup_ns = _most(lambda x: is_admitted(replace(asked, wakeup_ns=asked.wakeup_ns + x)))
    thousandths = _most(partial(_admits_costs, asked, asked.mandatory(), 0, 1000), 10**9)
    return Margins(cost_ns, deadline_ns, wakeup_ns, 1 + thousandths / 1000)


def _admits_costs(asked: Question, stages: dict[str, Stage], each_ns: int, part: int, x: int) -> bool:
    """With x times `each_ns` more for each of these stages, or where that is 0, x / `part` of its worst case."""
    return is_admitted(with_costs(asked, {n: s.wcet_ns + (x * each_ns or s.wcet_ns * x // part) for n, s in stages.items()}))


def _admits_shorter(asked: Question, names: frozenset[str], x: int) -> bool:
    """With deadlines of these streams that are x shorter."""
    return is_admitted(replace(asked, streams=tuple(
        replace(s, deadline_ns=s.deadline_ns - x) if s.name in names else s for s in asked.streams)))


def _edge(test: Callable[[int], bool], good: int, bad: int) -> int:
    """A value with `test`, whose neighbour on the side of `bad` is without."""
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if test(middle) else (good, middle)
    return good


def _most(test: Callable[[int], bool], limit: int = _FAR_NS) -> int:
    """The largest value with `test`, which 0 has; `limit` or more means that there is no end."""
    good, bad = 0, 1
    while bad <= limit and test(bad):
        good, bad = bad, 2 * bad
    return _edge(test, good, bad)


# Changed questions ----------------------------------------------------------------------------------------------------


def _with_stages(asked: Question, change: Callable[[Stage], Iterable[Stage]]) -> Question:
    return replace(asked, streams=tuple(replace(s, stages=tuple(new for stage in s.stages for new in change(stage)))
                                        for s in asked.streams))


def with_costs(asked: Question, wcet_ns: dict[str, int]) -> Question:
    """The same with other worst cases, by stage name; what is typical is no more than that."""
    def change(stage: Stage) -> list[Stage]:
        if stage.name not in wcet_ns:
            return [stage]
        worst_ns = wcet_ns[stage.name]
        return [replace(stage, wcet_ns=worst_ns, typical_ns=min(stage.typical_ns, worst_ns))]

    return _with_stages(asked, change)


def with_deadline(asked: Question, deadline_ns: int, guard_of: Callable[[int], int] | None = None) -> Question:
    """The same where every stream with a shorter deadline has this one; `guard_of` gives the guard that goes with it."""
    streams = tuple(replace(s, deadline_ns=max(s.deadline_ns, deadline_ns)) for s in asked.streams)
    return replace(asked, streams=streams, guard_ns=guard_of(deadline_ns) if guard_of else asked.guard_ns)


def with_period(asked: Question, period_ns: int) -> Question:
    """The same with all periods stretched so that the fastest stream has this one; rounded up."""
    fastest = min(s.period_ns for s in asked.streams)
    return replace(asked, streams=tuple(replace(s, period_ns=-(-s.period_ns * period_ns // fastest)) for s in asked.streams))


def with_cut(asked: Question, stage: str, first_ns: int) -> Question:
    """The same with a stage cut in two, wherever it is; the first piece takes `first_ns` of its worst case."""
    def change(old: Stage) -> list[Stage]:
        if old.name != stage:
            return [old]
        typical_ns = old.typical_ns * first_ns // old.wcet_ns
        return [replace(old, name=f"{stage}.1", wcet_ns=first_ns, typical_ns=typical_ns),
                replace(old, name=f"{stage}.2", wcet_ns=old.wcet_ns - first_ns, typical_ns=old.typical_ns - typical_ns)]

    return _with_stages(asked, change)


# The smallest changes -------------------------------------------------------------------------------------------------


def least_deadline(asked: Question, guard_of: Callable[[int], int] | None = None) -> Change | None:
    """The least deadline that would be admitted where every stream with a shorter one has it; None: no deadline would do."""
    if any(load > asked.resources[name] for name, load in loads(asked).items()):
        return None

    def test(deadline_ns: int) -> bool:
        return is_admitted(with_deadline(asked, deadline_ns, guard_of))

    low, high = 0, min((s.deadline_ns for s in asked.streams), default=_FAR_NS)
    while not test(high):
        low, high = high, 2 * high
        if high > _FAR_NS:
            return None
    least = _edge(test, high, low)
    return Change("deadline", "", least, f"a deadline of {format_ns(least)} or more", with_deadline(asked, least, guard_of))


def highest_rates(asked: Question) -> Change | None:
    """The highest rates, all scaled by one factor, that would be admitted; None: no rate would do."""
    fastest = min((s.period_ns for s in asked.streams), default=0)
    if fastest <= 0 or not is_admitted(with_period(asked, fastest << _STRETCH)):
        return None
    least = _edge(lambda period_ns: is_admitted(with_period(asked, period_ns)), fastest << _STRETCH, fastest)
    factor = fastest / least
    groups = [(f"{group[0].name!r}" if len(group) == 1 else f"each of {len(group)}", 1e9 / group[0].period_ns * factor)
              for group in alike(asked.streams)]
    told = ", ".join(f"{name} {_floor(rate, 3):g}" for name, rate in groups[:4]) + (", ..." if len(groups) > 4 else "")
    return Change("rate", "", least, f"rates times {_floor(factor, 4):g} (frames/s: {told})", with_period(asked, least))


def _floor(value: float, digits: int) -> float:
    return math.floor(value * 10.0**digits) / 10.0**digits


def nearest_guard(asked: Question) -> Change | None:
    """The guard nearest to the one asked for that would be admitted: the least where it is too short, the longest where too long."""
    inline = [asked.worst_ns(s) for s in asked.mandatory().values() if s.resource in asked.inline]
    need = asked.wakeup_ns + (asked.overhead_ns + max(inline) if inline else 0)

    def test(guard_ns: int) -> bool:
        return is_admitted(replace(asked, guard_ns=guard_ns))

    if not test(need):
        return None
    found = need if asked.guard_ns <= need else _edge(test, need, asked.guard_ns)
    return Change("guard", "", found, f"a guard of {format_ns(found)}", replace(asked, guard_ns=found))


def fewest_units(asked: Question, resource: str) -> Change | None:
    """The fewest units of a resource that would be admitted, up to 64; None: none would do, or it is the dispatcher itself."""
    if resource in asked.inline:
        return None
    for units in range(asked.resources[resource] + 1, MOST_UNITS + 1):
        more = replace(asked, resources={**asked.resources, resource: units})
        if is_admitted(more):
            return Change("units", resource, units, f"{units} units of {resource!r} instead of {asked.resources[resource]}", more)
    return None


def longest_piece(asked: Question, stage: str) -> Change | None:
    """A mandatory stage cut in two, as unevenly as would be admitted; None: no cut would do."""
    whole_ns = asked.mandatory()[stage].wcet_ns
    half_ns = -(-whole_ns // 2)
    if whole_ns < 2 or not is_admitted(with_cut(asked, stage, half_ns)):
        return None
    found = _edge(lambda first_ns: is_admitted(with_cut(asked, stage, first_ns)), half_ns, whole_ns)
    return Change("cut", stage, found, f"stage {stage!r} ({format_ns(whole_ns)}) cut in two, no piece longer than {format_ns(found)}",
                  with_cut(asked, stage, found))


def unshared(asked: Question) -> list[Change]:
    """Ways in which optional stages no longer hold cores that mandatory work needs, where they do."""
    if not asked.shared or asked.preempted:
        return []
    return [Change("preempted", "", 0, "optional stages that the operating system interrupts (SCHED_FIFO)", replace(asked, preempted=True)),
            Change("own cores", "", 0, "cores of their own for optional stages", replace(asked, shared=False))]


def smallest_changes(asked: Question, guard_of: Callable[[int], int] | None = None) -> list[Change]:
    """For a run that is not admitted: the smallest change of each kind with which it would be. Each alone is enough."""
    if is_admitted(asked):
        return []
    served = dict.fromkeys(stage.resource for stage in asked.mandatory().values())
    found = [least_deadline(asked, guard_of), highest_rates(asked), nearest_guard(asked),
             *(fewest_units(asked, name) for name in served if name in asked.resources),
             *(longest_piece(asked, name) for name in asked.mandatory()),
             *(change for change in unshared(asked) if is_admitted(change.question))]
    return [change for change in found if change is not None]


def blocked(asked: Question, found: RunAdmission) -> dict[str, Stage]:
    """Optional stages of an admitted run that never start, because they may be in the way for longer than it allows."""
    limits = found.blocking_ns or {}
    return {stage.name: stage for s in asked.streams for stage in asked.optional(s)
            if stage.resource in limits and longest_ns(stage) > limits[stage.resource]}


def unblocked(asked: Question, found: RunAdmission) -> list[Change]:
    """For an admitted run with optional stages that never start: the smallest changes with which each would."""
    waiting = blocked(asked, found)
    out = []
    for name, stage in waiting.items():
        limit_ns = (found.blocking_ns or {})[stage.resource]
        if limit_ns > 0:
            pieces = -(-longest_ns(stage) // limit_ns)
            text = f"stage {name!r} ({format_ns(longest_ns(stage))}) cut in {pieces}, no piece longer than {format_ns(limit_ns)}"
            out.append(Change("piece", name, limit_ns, text, _with_stages(asked, partial(_shortened, name, limit_ns))))
    out += unshared(asked)
    return [change for change in out if _starts(change, waiting)]


def _shortened(name: str, limit_ns: int, stage: Stage) -> list[Stage]:
    """The longest piece stands for all of them."""
    if stage.name != name:
        return [stage]
    return [replace(stage, wcet_ns=min(stage.wcet_ns, limit_ns), typical_ns=min(stage.typical_ns, limit_ns))]


def _starts(change: Change, waiting: dict[str, Stage]) -> bool:
    """Whether what it is for (its subject, or any of what waits) starts with it."""
    again = answer(change.question)
    still = blocked(change.question, again)
    return again.admitted and (change.subject not in still if change.subject else len(still) < len(waiting))

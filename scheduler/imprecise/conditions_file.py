"""The part of a scenario file that says how the machine differs from an ideal one: see `scenario` for the format."""

from __future__ import annotations

from collections.abc import Mapping

from .conditions import Conditions, Hog, RandomFault, ResourceFault, Thermal
from .tables import Table, nearest


def read_conditions(top: Table, units: Mapping[str, int]) -> Conditions:
    """Take the keys of the top table that belong here. Raises ScenarioError."""
    takes_core = {}
    preempts = top.table("takes_core", {})
    for name in preempts.data:
        takes_core[known(name, units, preempts)] = one_of(preempts, name, sorted(set(units) - {name}))
    beside, hogs, thermal = {}, {}, {}
    for name, table in top.table("slowdown", {}).subtables():
        known(name, units, top.table("slowdown", {}))
        if "beside" in table.data:
            beside[name] = table.numbers("beside")
            if not beside[name] or min(beside[name]) < 1 or max(beside[name]) > 1000:
                raise table.error("beside", repr(list(beside[name])), "factors from 1 to 1000, for 1, 2, ... other units busy")
        if "hog" in table.data:
            hog = table.table("hog")
            hogs[name] = Hog(hog.duration("every", least=1), hog.duration("length", least=1), factor(hog))
            hog.finish()
        if "heat" in table.data:
            heat = table.table("heat")
            thermal[name] = Thermal(factor(heat), heat.duration("time", least=1), heat.number("threshold", 0.0))
            if not 0 <= thermal[name].threshold < 1:
                raise heat.error("threshold", f"{thermal[name].threshold:g}", "a number from 0 to below 1")
            heat.finish()
        table.finish()
    faults, losses = read_faults(top, units)
    give_up = top.table("give_up", {})
    give_up_ns, restart_ns = give_up.duration("after", 0, least=1), give_up.duration("restart", 50_000_000)
    give_up.finish()
    return Conditions(top.duration("overhead", 0), top.duration("decision", 0), takes_core, beside, hogs, thermal, faults, losses,
                      give_up_ns, restart_ns)


def read_faults(top: Table, units: Mapping[str, int]) -> tuple[tuple[RandomFault, ...], tuple[ResourceFault, ...]]:
    """`[[fault]]`: a share of a stage's executions, or a unit that is lost and comes back."""
    faults: list[RandomFault] = []
    losses: list[ResourceFault] = []
    for table in top.tables("fault", []):
        if "resource" in table.data:
            resource = one_of(table, "resource", sorted(units))
            unit = table.integer("unit", 0, units[resource] - 1, 0)
            lost_ns, back_ns = table.duration("lost"), table.duration("back", 0)
            if back_ns and back_ns <= lost_ns:
                raise table.error("back", f"{back_ns} ns", f"a time after it was lost ({lost_ns} ns)")
            losses.append(ResourceFault(lost_ns, resource, unit))
            if back_ns:
                losses.append(ResourceFault(back_ns, resource, unit, "back"))
        else:
            kind = one_of(table, "kind", ["crash", "hang"])
            share = table.number("share")
            if not 0 <= share <= 1:
                raise table.error("share", f"{share:g}", "a number from 0 to 1")
            faults.append(RandomFault(table.text("stage"), {"crash": "failed", "hang": "hung"}[kind], share, table.text("stream", "")))
        table.finish()
    return tuple(faults), tuple(losses)


def check_faults(top: Table, conditions: Conditions, stages: Mapping[str, set[str]]) -> None:
    """Refuse a fault of a stage or stream that is not there; `stages`: names of stages by stream."""
    for i, fault in enumerate(conditions.faults):
        if fault.stream and fault.stream not in stages:
            raise top.error(f"fault[{i}].stream", repr(fault.stream), nearest(fault.stream, sorted(stages)))
        there = stages[fault.stream] if fault.stream else set().union(*stages.values())
        if fault.stage not in there:
            raise top.error(f"fault[{i}].stage", repr(fault.stage), nearest(fault.stage, sorted(there)))


def known(name: str, units: Mapping[str, int], table: Table) -> str:
    """The name of a resource. Raises ScenarioError."""
    if name not in units:
        raise table.error(name, "a resource that [resources] does not have", nearest(name, sorted(units)))
    return name


def one_of(table: Table, key: str, choices: list[str], default: str | None = None) -> str:
    """A text that is one of the choices. Raises ScenarioError."""
    value = table.text(key) if default is None else table.text(key, default)
    if value not in choices:
        raise table.error(key, repr(value), nearest(value, choices))
    return value


def factor(table: Table) -> float:
    """The key `factor`: how many times as long."""
    value = table.number("factor")
    if not 1 <= value <= 1000:
        raise table.error("factor", f"{value:g}", "a number from 1 to 1000")
    return value

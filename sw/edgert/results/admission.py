"""What `edgert admit` says: the answer, what it rests on, how far the edge is, and what would have to change; as JSON and as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imprecise import repair
from imprecise.admission import CERTIFICATE, COUNTER_EXAMPLE, Certificate, RunAdmission, admit, loads
from imprecise.counterexample import Late
from imprecise.question import Question, longest_ns
from imprecise.units import format_ns

from ..bundle.loading import MARGIN

if TYPE_CHECKING:
    from imprecise.scenario import Scenario

FORMAT = 1
NO_LIMIT_NS = 1 << 49  # a margin of more has no end
SHOWN = 12  # arrivals of a pattern that are printed
HEADS = {CERTIFICATE: "Certificate", COUNTER_EXAMPLE: "Counter-example", "not proven": "Not proven"}


# Where worst cases come from ------------------------------------------------------------------------------------------


def from_timing(timing: Mapping[str, Any], stage: str) -> str:
    """Where the worst case of a stage in a bundle's `timing.json` comes from."""
    entry = timing["stages"][stage]
    return f"timing.json: longest of {int(entry.get('n', 0)):,}, {entry.get('source', 'no source')}, times {MARGIN:g}"


def sources(world: Scenario, bundles: Mapping[str, Any]) -> dict[str, str]:
    """For each stage of a scenario, where its worst case comes from; `bundles` are the ones it names, by name."""
    found: dict[str, str] = {}
    for source in world.sources:
        for stage, model in zip(source.work.stages, source.work.durations):
            bundle, _, name = stage.name.rpartition("/")
            if bundle in bundles:
                found[stage.name] = from_timing(bundles[bundle].timing, name)
            elif not stage.wcet_ns:
                found[stage.name] = "its time has no limit"
            elif model.worst_ns == stage.wcet_ns:
                found[stage.name] = "assumed: the longest that its time gives"
            else:
                longer = "its time has no limit" if not model.worst_ns else f"its time gives up to {format_ns(model.worst_ns)}"
                found[stage.name] = f"assumed: stated, {longer}"
    return found


# Figures --------------------------------------------------------------------------------------------------------------


def figures(name: str, kind: str, policy: str, asked: Question, found: RunAdmission, changes: list[repair.Change],
            margins: repair.Margins | None, late: list[Late] | None) -> dict[str, Any]:
    """All of it, JSON types only. `kind`: "scenario" or "run"; `late`: of a counter-example that was replayed."""
    cores = "shared" if asked.shared and not asked.preempted else "preempted" if asked.shared else "own"
    return {
        "format": FORMAT, "what": name, "kind": kind, "policy": policy, "splits": asked.splits, "answer": found.answer, "text": found.text,
        "guard_ns": asked.guard_ns, "wakeup_ns": asked.wakeup_ns, "overhead_ns": asked.overhead_ns,
        "overhead_from": asked.sources.get("", "assumed") if asked.overhead_ns else "", "cores": cores,
        "resources": _resources(asked, found), "streams": _streams(asked, margins), "stages": _stages(asked, found, margins),
        "margins": {"wakeup_ns": _bounded(margins.wakeup_ns), "costs": margins.costs} if margins else None,
        "assumptions": [a._asdict() for a in found.assumptions], "notes": list(found.notes),
        "changes": [{"kind": c.kind, "subject": c.subject, "value": c.value, "text": c.text} for c in changes],
        "counter_example": _pattern(asked, found), "replay": None if late is None else _late(asked, found, late),
    }


def _bounded(value_ns: int) -> int | None:
    return None if value_ns > NO_LIMIT_NS else value_ns


def _resources(asked: Question, found: RunAdmission) -> list[dict[str, Any]]:
    load, limits = loads(asked), found.blocking_ns or {}
    optional = {stage.resource for s in asked.streams for stage in asked.optional(s)}
    rows = []
    for name, units in asked.resources.items():
        if name not in load and name not in optional:
            continue
        tightest = _without_optional(asked, found, name)
        step = {key: getattr(tightest, key, None) for key in ("resource", "t_ns", "demand_ns", "block_ns", "capacity_ns", "slack_ns")}
        rows.append({"name": name, "units": units, "load": float(load[name]) if name in load else None, **step,
                     "optional": name in optional,
                     "longest_optional_ns": max(0, limits[name]) if name in limits else None})
    return rows


def _without_optional(asked: Question, found: RunAdmission, resource: str) -> Certificate | None:
    """The tightest step of a resource with no optional stage in the way: the run's own certificate allows for the longest."""
    certificate = (found.certificates or {}).get(resource)
    if certificate is None:
        return None
    due = [part.deadline_ns for part in repair.parts(asked, found) if part.resource == resource]
    tasks = [task._replace(deadline_ns=ns) for task, ns in zip(certificate.tasks, due)]
    again = admit(tasks, certificate.resource, certificate.units)
    return again if isinstance(again, Certificate) else certificate


def _streams(asked: Question, margins: repair.Margins | None) -> list[dict[str, Any]]:
    return [{"names": [s.name for s in group], "period_ns": group[0].period_ns, "deadline_ns": group[0].deadline_ns,
             "jitter_ns": group[0].jitter_ns, "deadline_margin_ns": margins.deadline_ns[group[0].name] if margins else None}
            for group in repair.alike(asked.streams)]


def _stages(asked: Question, found: RunAdmission, margins: repair.Margins | None) -> list[dict[str, Any]]:
    """A row for each stage of each group of streams that are alike."""
    parts = {(part.stream, stage): part for part in repair.parts(asked, found) for stage in part.stages}
    waiting = repair.blocked(asked, found)
    rows = []
    for group in repair.alike(asked.streams):
        stream = group[0]
        needed = {stream.stages[i].name for i in asked.needed(stream)}
        for stage in stream.stages:
            mandatory = stage.name in needed
            part = parts.get((stream.name, stage.name))
            rows.append({
                "stream": stream.name, "streams": len(group), "name": stage.name, "resource": stage.resource, "mandatory": mandatory,
                "wcet_ns": stage.wcet_ns if mandatory else longest_ns(stage), "from": asked.sources.get(stage.name, "assumed"),
                "local_deadline_ns": part.deadline_ns if part else None, "jitter_ns": part.jitter_ns if part else None,
                "margin_ns": _bounded(margins.cost_ns[stage.name]) if margins and mandatory else None,
                "never_starts": stage.name in waiting})
    return rows


def of_task(asked: Question, found: RunAdmission) -> list[str]:
    """The stream of each task of a counter-example: those whose mandatory work is on its resource, in order."""
    ranked = [asked.streams[i] for i in repair.by_rank(asked)]
    return [s.name for s in ranked if any(s.stages[i].resource == found.resource for i in asked.needed(s))]


def _pattern(asked: Question, found: RunAdmission) -> dict[str, Any] | None:
    counter, names = found.counter_example, of_task(asked, found)
    if counter is None:
        return None
    tasks = [{"stream": name, **task._asdict()} for name, task in zip(names, counter.tasks)]
    arrivals = [{"stream": names[a.task], "release_ns": a.release_ns, "arrival_ns": a.arrival_ns} for a in counter.arrivals]
    return {"resource": found.resource, "t_ns": counter.t_ns, "demand_ns": counter.demand_ns, "block_ns": counter.block_ns, "tasks": tasks,
            "arrivals": arrivals}


def _late(asked: Question, found: RunAdmission, late: list[Late]) -> list[dict[str, Any]]:
    names = of_task(asked, found)
    return [{"stream": names[job.task], "frame": job.frame, "release_ns": job.release_ns, "due_ns": job.due_ns,
             "ready_ns": job.ready_ns if job.ready_ns >= 0 else None} for job in late]


# Text -----------------------------------------------------------------------------------------------------------------


def show(found: dict[str, Any], flag: Callable[[dict[str, Any]], str]) -> None:
    """Print the figures; `flag` gives what to type for a change, or "" where there is no flag for it."""
    from rich.console import Console

    console = Console(soft_wrap=False, highlight=False)
    console.print(f"{HEADS[found['answer']]}: {found['text']}.", style="bold", markup=False)
    told = f"{found['what']}, policy {found['policy']}" + ("" if found["splits"] else " (all stages are mandatory: it does not split)")
    told += f"; an answer goes out {format_ns(found['guard_ns'])} before its deadline; events are handled at most "
    told += f"{format_ns(found['wakeup_ns'])} late"
    if found["overhead_ns"]:
        told += f"; deciding and recording take at most {format_ns(found['overhead_ns'])} a stage ({found['overhead_from']})"
    told += {"own": "", "shared": "; optional stages share a core with mandatory ones",
             "preempted": "; optional stages share a core with mandatory ones, which interrupt them"}[found["cores"]]
    console.print(told + ".", markup=False)
    _tables(console, found)
    if found["margins"]:
        parts = []
        costs = found["margins"]["costs"]
        parts.append("all worst cases together may grow " + (f"by {100 * (costs - 1):.1f} %" if costs < 2 else f"{costs:.1f} times"))
        if found["margins"]["wakeup_ns"] is not None:
            parts.append(f"the wake-up latency by {format_ns(found['margins']['wakeup_ns'])}")
        console.print(f"Margins, each alone: {', '.join(parts)}; the others are in the tables.", markup=False)
    if found["counter_example"]:
        _show_pattern(console, found)
    for note in found["notes"]:
        console.print(f"Note: {note}.", markup=False)
    if found["changes"]:
        for_ = "would be admitted" if found["answer"] != CERTIFICATE else "would let these optional stages start"
        console.print(f"The smallest changes that {for_}, each alone:", style="bold")
        for change in found["changes"]:
            typed = flag(change)
            console.print(f"  {change['text']}{f':  {typed}' if typed else ''}", markup=False, soft_wrap=True)
    elif found["answer"] != CERTIFICATE:
        console.print("No single change of deadline, rates, guard, units or stages was found that would be admitted.")
    if found["assumptions"]:
        console.print("Assumptions:", style="bold")
        alike = {s["names"][0]: f" (and {len(s['names']) - 1} alike)" * (len(s["names"]) > 1) for s in found["streams"]}
        for a in found["assumptions"]:
            if a["kind"] not in ("period", "jitter") or a["subject"] in alike:
                console.print(f"  {a['name']:4}{a['text']}{alike.get(a['subject'], '')}", markup=False, soft_wrap=True)


def _tables(console: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    def ns(value: int | None) -> str:
        return "-" if value is None else format_ns(value)

    def table(titles: list[str], left: int, rows: list[list[str]]) -> None:
        made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
        for i, title in enumerate(titles):
            made.add_column(title, justify="left" if i < left or i == len(titles) - 1 else "right", overflow="fold")
        for row in rows:
            made.add_row(*row)
        console.print(made)

    rows = []
    for r in found["resources"]:
        unlimited = r["longest_optional_ns"] is None
        longest = "-" if not r["optional"] or found["answer"] != CERTIFICATE else "any" if unlimited else ns(r["longest_optional_ns"])
        load = "-" if r["load"] is None else f"{100 * r['load']:.1f} %"
        rows.append([r["name"], str(r["units"]), load, *(ns(r[key]) for key in ("t_ns", "demand_ns", "block_ns", "slack_ns")), longest])
    table(["resource", "units", "load", "tightest at", "demand", "blocking", "slack", "longest optional stage"], 1, rows)
    rows = []
    for s in found["streams"]:
        names = s["names"][0] if len(s["names"]) == 1 else f"{s['names'][0]} and {len(s['names']) - 1} alike"
        rows.append([names, ns(s["period_ns"]), ns(s["jitter_ns"]), ns(s["deadline_ns"]), ns(s["deadline_margin_ns"])])
    table(["stream", "period", "jitter", "deadline", "may shrink by"], 1, rows)
    rows = []
    seen: set[tuple[str, int | None]] = set()
    for s in found["stages"]:
        key = (s["name"], s["local_deadline_ns"])
        if key in seen:
            continue
        first = s["name"] not in {name for name, _ in seen}
        seen.add(key)
        grow = ns(s["margin_ns"]) if s["mandatory"] else "never starts" if s["never_starts"] else "optional"
        rows.append([s["name"], s["resource"], ns(s["wcet_ns"] or None), ns(s["local_deadline_ns"]), grow if first else "",
                     s["from"] if first else ""])
    table(["stage", "on", "C", "due after", "may grow by", "C is"], 2, rows)


def _show_pattern(console: Any, found: dict[str, Any]) -> None:
    counter = found["counter_example"]
    behind = f", behind {format_ns(counter['block_ns'])} of a stage that has started" if counter["block_ns"] else ""
    console.print(f"The pattern on {counter['resource']!r}, times from its beginning. If every stage takes its worst case, "
                  f"{format_ns(counter['demand_ns'])} of work falls due within {format_ns(counter['t_ns'])}{behind}.", markup=False)
    for a in counter["arrivals"][:SHOWN]:
        late = a["arrival_ns"] - a["release_ns"]
        console.print(f"  {a['stream']:20} released at {a['release_ns']} ns" + (f", seen {late} ns later" if late else ""), markup=False)
    if len(counter["arrivals"]) > SHOWN:
        console.print(f"  and {len(counter['arrivals']) - SHOWN} more (--json lists all)")
    if not found["replay"]:
        return
    job = found["replay"][0]
    ready = "it never was" if job["ready_ns"] is None else f"it was at {job['ready_ns']} ns, {job['ready_ns'] - job['due_ns']} ns late"
    console.print(f"Replayed in the simulator: frame {job['frame']} of {job['stream']!r}, released at {job['release_ns']} ns, had to be "
                  f"ready at {job['due_ns']} ns; {ready} ({len(found['replay'])} late in all).", markup=False, style="bold")

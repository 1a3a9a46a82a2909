"""Admission: prove before a run that no mandatory part can miss, under assumptions that are written down and monitored.

`admit` answers for one resource (`demand` holds the analysis). `admit_run` answers for streams of frames on the engine:

    stages in a row on one resource  -> one task: C = sum of (worst case + how late its end is seen), J = jitter + wake-up latency
    several resources in turn        -> a local deadline each; the next one's jitter is the local deadline before it
    the answer is published by timer -> the last local deadline is the deadline less the guard, and the guard covers its latency
    optional stages in the way       -> a limit on their length, so that what is left still fits (and where they share a core but
                                        not a resource: none starts while mandatory work waits or runs)

The engine and the analysis share these numbers: pass `RunAdmission.engine_options()` on. `answer` does the same for a
`Question` (question.py), one value that `repair` can ask again with something changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from .demand import admit, least_deadline, longest_optional_stage
from .fixed_priority import response_times
from .model import Stream
from .question import Question, longest_ns
from .recheck import recheck
from .units import format_ns
from .verdicts import UNLIMITED_NS, Arrival, Certificate, CounterExample, NotProven, Task, Verdict
from .weakly_hard import most_misses, weakly_hard

__all__ = ["Arrival", "Assumption", "Certificate", "CounterExample", "NotProven", "Question", "RunAdmission", "Task", "Verdict",
           "admit", "admit_run", "answer", "is_admitted", "least_deadline", "longest_optional_stage", "most_misses", "recheck",
           "response_times", "weakly_hard"]

CERTIFICATE, COUNTER_EXAMPLE, NOT_PROVEN = "certificate", "counter-example", "not proven"


class Assumption(NamedTuple):
    """One thing that a guarantee rests on. `kind` and `subject` tell the monitor what to look at:

    kind      subject    violated by
    stage     stage      a duration of that stage above `limit_ns`
    wake-up   ""         an event handled more than `limit_ns` after it happened, or a timer that fires so late
    period    stream     two releases less than `limit_ns` apart
    jitter    stream     a frame that arrives more than `limit_ns` after its release
    blocking  resource   an optional stage there that takes more than `limit_ns`
    preempt   ""         mandatory work that waited for a core that an optional stage held (seen as `wake-up`)
    overhead  ""         an engine step and its records that took more than `limit_ns` a stage
    fault     ""         a stage that failed, or a unit that was lost
    """

    name: str
    kind: str
    subject: str
    text: str
    limit_ns: int


@dataclass(frozen=True)
class RunAdmission:
    """What admission says of a run. `answer` is "certificate", "counter-example" or "not proven"; `text` the statement or the
    reason, in one line. The rest goes to the engine (`engine_options`) and into the record (`to_dict`). `resource` is where a
    counter-example is. Times in ns."""

    answer: str
    text: str
    assumptions: tuple[Assumption, ...] = ()
    certificates: Mapping[str, Certificate] | None = None
    counter_example: CounterExample | None = None
    blocking_ns: Mapping[str, int] | None = None
    local_ns: Mapping[tuple[int, int], int] | None = None
    yields: Mapping[str, tuple[str, ...]] | None = None
    preemptive: tuple[str, ...] = ()
    priorities: tuple[int, ...] = ()
    least_deadline_ns: int | None = None
    notes: tuple[str, ...] = ()
    resource: str = ""

    @property
    def admitted(self) -> bool:
        """Whether no frame misses while the assumptions hold."""
        return self.answer == CERTIFICATE

    def engine_options(self) -> dict[str, Any]:
        """Keyword arguments for `Engine`: without them the statement does not hold."""
        found = {"blocking_ns": dict(self.blocking_ns or {}), "local_ns": dict(self.local_ns or {}), "yields": dict(self.yields or {})}
        how = {"preemptive": self.preemptive, "priorities": self.priorities}
        return {**found, **{key: value for key, value in how.items() if value}}

    def to_dict(self) -> dict[str, Any]:
        """For a record or JSON."""
        return {
            "answer": self.answer, "text": self.text, "notes": list(self.notes), "least_deadline_ns": self.least_deadline_ns,
            "assumptions": [a._asdict() for a in self.assumptions],
            "certificates": {name: asdict(c) for name, c in (self.certificates or {}).items()},
            "counter_example": asdict(self.counter_example) if self.counter_example else None,
            "blocking_ns": dict(self.blocking_ns or {}), "yields": {k: list(v) for k, v in (self.yields or {}).items()},
            "preemptive": list(self.preemptive), "priorities": list(self.priorities),
            "local_ns": [[stream, stage, ns] for (stream, stage), ns in (self.local_ns or {}).items()],
        }


class _Segment(NamedTuple):
    """Mandatory stages in a row on one resource."""

    resource: str
    stages: tuple[int, ...]
    cost_ns: int
    piece_ns: int


class _Set(NamedTuple):
    """The question: streams cut into segments, and the surroundings."""

    streams: tuple[Stream, ...]
    segments: tuple[tuple[_Segment, ...], ...]
    units: Mapping[str, int]
    guard_ns: int
    arrival_ns: Mapping[str, int]  # how late the engine may see a release, and the end of a stage, by resource
    end_ns: Mapping[str, int]
    optional: frozenset[str]  # resources with optional stages
    apart: tuple[str, ...]  # of them those whose optional stages may hold a core that mandatory work needs
    preemptive: tuple[str, ...]
    priorities: tuple[int, ...]
    held_ns: int  # the longest stage in line

    @property
    def strangers(self) -> int:
        """How many optional stages elsewhere may hold a core that mandatory work needs."""
        return sum(self.units[r] for r in self.apart)

    @property
    def mandatory(self) -> list[str]:
        """The resources of mandatory work."""
        return sorted({g.resource for list_ in self.segments for g in list_})

    def at(self, deadline_ns: int) -> _Set:
        """The same with this deadline for all streams."""
        return self._replace(streams=tuple(replace(s, deadline_ns=deadline_ns) for s in self.streams))


def admit_run(streams: Sequence[Stream], resources: Mapping[str, int], guard_ns: int, wakeup_ns: int, shared: bool,
              preempted: bool, *, inline: Collection[str] = (), overhead_ns: int = 0,
              sources: Mapping[str, str] | None = None, splits: bool = True, preemptive: Collection[str] = (),
              priorities: Sequence[int] = ()) -> RunAdmission:
    """Whether no frame of these streams can miss its deadline on the engine, and under which assumptions.

    `resources`: name to units, as the engine's. `guard_ns`: how long before its deadline an answer is published. `wakeup_ns`:
    the assumed worst latency between an event and the engine's handling of it. `shared`: optional stages run on cores that
    mandatory work of another resource needs. `preempted`: then the operating system interrupts them for it (SCHED_FIFO), so that
    they are no obstacle. `inline`: resources whose stages run in the dispatcher itself: their ends are seen at once, and timers
    wait for them. `overhead_ns`: what the engine's own step and its records add to each stage. `sources`: stage name to where its
    worst case comes from ("1.3 x the longest of 1,000", "cycles / clock"), "" to where the overhead comes from. `splits=False`: all
    stages count as mandatory, for policies without a split. `preemptive`: resources where the engine interrupts what comes later
    (simulation only; one unit each). `priorities`: a rank for each stream, as the engine's: fixed priority instead of deadlines.
    A `wcet_ns` of 0 is unknown. Never raises for what it cannot prove.
    """
    return answer(Question(tuple(streams), resources, guard_ns, wakeup_ns, shared, preempted, tuple(inline), overhead_ns, sources or {},
                           splits, tuple(r for r in resources if r in preemptive), tuple(priorities)))


def is_admitted(asked: Question) -> bool:
    """`answer(asked).admitted` without limits, texts and hints: for searches."""
    question = _prepared(asked)
    if isinstance(question, str) or any(load > question.units[name] for name, load in _loads(question).items()):
        return False
    found = _answer(question, limits=False)
    return not isinstance(found, str) and not isinstance(found[1], CounterExample) and not _untimed(asked, question)


def answer(asked: Question) -> RunAdmission:
    """What `admit_run` answers."""
    question = _prepared(asked)
    if isinstance(question, str):
        return RunAdmission(NOT_PROVEN, question)
    found = _answer(question)
    if isinstance(found, str) or isinstance(found[1], CounterExample):
        return _refusal(question, found)
    if untimed := _untimed(asked, question):
        return RunAdmission(NOT_PROVEN, untimed)
    local_ns, certificates, limits = found
    assert isinstance(certificates, dict)
    blocking = {r: int((limits[r] - question.end_ns[r] - asked.decision_ns) / asked.slower.get(r, 1)) for r in question.mandatory
                if r in question.optional and r not in question.preemptive}  # its unit is free only when its end is seen
    if question.apart:  # they hold up the dispatcher's timers as well
        timers = (asked.guard_ns - asked.wakeup_ns - asked.overhead_ns - question.held_ns) // question.strangers
        blocking.update({r: min(timers, *limits.values()) for r in question.apart})
    stretch_ns = question.strangers * max([0, *(blocking[r] for r in question.apart)])
    notes = [f"stage {st.name!r} may take {format_ns(longest_ns(st))}, more than the "
             f"{format_ns(max(0, blocking[st.resource]))} that may be in the way on {st.resource!r}: it never starts"
             for s in asked.streams for st in asked.optional(s) if longest_ns(st) > blocking.get(st.resource, UNLIMITED_NS)]
    notes += asked.breaks
    assumptions = _assumptions(asked, blocking, stretch_ns)
    text = f"no frame misses its deadline while {assumptions[0].name} to {assumptions[-1].name} hold"
    return RunAdmission(CERTIFICATE, text, assumptions, certificates, None, blocking, local_ns,
                        {r: tuple(question.mandatory) for r in question.apart}, asked.preemptive, asked.priorities, None,
                        tuple(dict.fromkeys(notes)))


# The question ---------------------------------------------------------------------------------------------------------


def _prepared(asked: Question) -> _Set | str:
    """The question in the terms of the analysis, or why nothing can be proven."""
    problem = _problem(asked)
    if problem:
        return problem
    inline, resources = asked.inline, asked.resources
    held = max([asked.worst_ns(st) for st in asked.mandatory().values() if st.resource in inline], default=0)
    arrival = {r: asked.wakeup_ns + (0 if r in inline else held) for r in resources}
    late = {r: asked.overhead_ns + (0 if r in inline else asked.wakeup_ns + held) for r in resources}
    segments = tuple(_segments(s, asked, late) for s in asked.streams)
    mandatory = {g.resource for list_ in segments for g in list_}
    extra = frozenset(st.resource for s in asked.streams for st in asked.optional(s))
    held_up = asked.shared and not asked.preempted
    if held_up and len(mandatory) > 1 and extra & mandatory:
        return (f"optional stages of {min(extra & mandatory)!r}, which has mandatory ones too, share cores with other mandatory work: use "
                "SCHED_FIFO, or cores of their own")
    for resource in mandatory & set(asked.pauses):
        return f"{resource!r} pauses while {asked.pauses[resource]!r} works, and has mandatory stages: that is not analysed"
    if asked.priorities and held_up and extra:
        return "fixed priorities, where optional stages hold cores that mandatory work needs, are not analysed"
    if asked.priorities and any(len({g.resource for g in list_}) < len(list_) for list_ in segments):
        return "a stream that comes back to a resource is not analysed with fixed priorities"
    apart = tuple(r for r in sorted(extra) if r not in mandatory) if held_up else ()
    return _Set(asked.streams, segments, resources, asked.guard_ns, arrival, late, extra, apart, asked.preemptive, asked.priorities, held)


def _problem(asked: Question) -> str:
    """Why nothing can be proven, or ""."""
    if not asked.streams:
        return "there is no stream"
    resources, inline = asked.resources, asked.inline
    longest, served, worst = 0, set(), dict[str, int]()
    for stream in asked.streams:
        needed = asked.needed(stream)
        if not needed:
            return f"stream {stream.name!r} has no mandatory stage, so no answer is sure"
        if stream.period_ns <= 0:
            return f"stream {stream.name!r} has no least distance of its frames: give it a period"
        for stage in stream.stages:
            if resources.get(stage.resource, 0) < 1:
                return f"stage {stage.name!r} needs resource {stage.resource!r}; there is {', '.join(sorted(resources))}"
        for stage in (stream.stages[i] for i in needed):
            if stage.wcet_ns <= 0:
                return f"stage {stage.name!r} has no worst-case time: measure or state it"
            if worst.setdefault(stage.name, stage.wcet_ns) != stage.wcet_ns:
                return f"stage {stage.name!r} has two worst-case times: give it two names"
            if stage.units and len(set(stage.units)) < resources[stage.resource]:
                return f"stage {stage.name!r} may run on some units of {stage.resource!r} only: give them a resource of their own"
            if stage.resource in asked.preemptive and (resources[stage.resource] > 1 or stage.resource in inline):
                return f"{stage.resource!r} is preemptive: that is analysed for one unit, outside the dispatcher"
            if asked.priorities and resources[stage.resource] > 1:
                return f"{stage.resource!r} has several units: with fixed priorities one is analysed"
            if stage.resource in inline:
                longest = max(longest, asked.worst_ns(stage))
                served.add(stage.resource)
    if len(served) > 1:
        return f"{' and '.join(sorted(served))} run in the dispatcher, one at a time: make them one resource"
    late_ns = asked.wakeup_ns + (asked.overhead_ns if served else 0)
    if asked.guard_ns < late_ns + longest:
        late = f"{format_ns(late_ns + longest)} late (wake-up latency{', and a stage in line' if longest else ''})"
        return f"a timer may be {late}, and the guard is {format_ns(asked.guard_ns)}: give a guard of that length"
    return ""


def _untimed(asked: Question, question: _Set) -> str:
    """An optional stage that may be in the way and has no time, or ""."""
    in_the_way = {*question.apart, *question.mandatory} - set(question.preemptive)
    for stage in (st for s in asked.streams for st in asked.optional(s) if st.resource in in_the_way):
        if longest_ns(stage) <= 0:
            return f"stage {stage.name!r} may be in the way of mandatory work and has no time: measure it"
    return ""


def _segments(stream: Stream, asked: Question, late_ns: Mapping[str, int]) -> tuple[_Segment, ...]:
    out: list[_Segment] = []
    for i in asked.needed(stream):
        stage = stream.stages[i]
        cost = asked.worst_ns(stage) + late_ns[stage.resource]  # its end is seen so much later, and only then is the unit free
        if out and out[-1].resource == stage.resource:
            last = out[-1]
            out[-1] = _Segment(last.resource, (*last.stages, i), last.cost_ns + cost, max(last.piece_ns, cost))
        else:
            out.append(_Segment(stage.resource, (i,), cost, cost))
    return tuple(out)


# The answer -----------------------------------------------------------------------------------------------------------

_Answer = tuple[dict[tuple[int, int], int], "dict[str, Certificate] | CounterExample", dict[str, int]]


def _answer(question: _Set, limits: bool = True) -> _Answer | str:
    """(local deadlines, certificates or a counter-example, longest optional stage by resource), or why not proven.

    `limits=False` asks only whether there is a certificate: the limits are then 0.
    """
    ways: list[Callable[[_Segment], int]] = [lambda g: g.cost_ns]
    if any(len(list_) > 1 for list_ in question.segments):
        ways.append(lambda g: 1)
        ways += [partial(_favour, question.optional, weight) for weight in (3, 10, 30)]
    answers: list[_Answer | str] = []
    for way in ways:
        answers.append(_with_local_deadlines(question, way, limits))
        if not limits and not isinstance(answers[-1], str):
            break
    proven = [a for a in answers if not isinstance(a, str)]
    if not proven:
        return answers[0]
    return max(proven, key=lambda a: min(a[2].values()))  # the one that leaves most room for optional stages


def _favour(resources: Collection[str], weight: int, segment: _Segment) -> int:
    """`weight` where optional stages run as well, so that more of the deadline goes there, else 1."""
    return weight if segment.resource in resources else 1


def _with_local_deadlines(question: _Set, weight: Callable[[_Segment], int], limited: bool) -> _Answer | str:
    """Split what is left of each deadline between its segments, by weight; with the longest optional stages where `limited`."""
    local_ns: dict[tuple[int, int], int] = {}
    tasks: dict[str, list[Task]] = {}
    plain = True
    ranks = question.priorities or (0,) * len(question.streams)  # by rank: fixed priority is analysed in list order
    for i, stream, segments in sorted(zip(count(), question.streams, question.segments), key=lambda entry: ranks[entry[0]]):
        total = sum(g.cost_ns for g in segments)
        jitter = start = stream.jitter_ns + question.arrival_ns[segments[0].resource]
        left = stream.deadline_ns - question.guard_ns - start - total
        plain = plain and len(segments) == 1
        done = 0
        for k, segment in enumerate(segments):
            done += segment.cost_ns
            due = start + done + left * sum(map(weight, segments[: k + 1])) // sum(map(weight, segments))
            if due <= 0:
                return f"stream {stream.name!r}: its guard and its jitter leave nothing of the deadline"
            if jitter >= stream.period_ns and k and question.units[segments[k - 1].resource] > 1:
                return f"stream {stream.name!r}: its frames may overtake each other before stage {segment.stages[0]}"
            tasks.setdefault(segment.resource, []).append(
                Task(segment.cost_ns, stream.period_ns, due, jitter, segment.piece_ns))
            local_ns.update({(i, stage): due for stage in segment.stages})
            jitter = due
    certificates, limits = {}, {}
    for resource, set_ in tasks.items():
        units = question.units[resource]
        if units > 1 and question.strangers:
            return f"{resource!r} has several units and optional stages share their cores: use SCHED_FIFO, or cores of their own"
        preemptive = resource in question.preemptive
        how = ("p-" if preemptive else "np-") + ("fp" if question.priorities else "edf")
        own = resource in question.optional and not preemptive
        limits[resource], verdict = _limit(set_, units, own, question.strangers, how, limited)
        if isinstance(verdict, CounterExample):
            if plain:
                return local_ns, verdict, {resource: 0}
            late = f"{format_ns(verdict.demand_ns + verdict.block_ns)} of work within {format_ns(verdict.t_ns)}"
            return f"{resource}: with its part of the deadline, up to {late}"
        if isinstance(verdict, NotProven):
            return f"{resource}: {verdict.reason}"
        certificates[resource] = verdict
    return local_ns, certificates, limits


def _limit(tasks: list[Task], units: int, own: bool, strangers: int, how: str, limited: bool) -> tuple[int, Verdict]:
    """The longest optional stage, where one may run on this resource (`own`) and `strangers` others may hold its core.

    A core that does not interrupt them gives them at most strangers x q once in a busy interval, on top of any other blocking:
    as if all deadlines were so much shorter, which leaves EDF's order as it is.
    """

    def verdict(q: int) -> Verdict:
        shorter = [t._replace(deadline_ns=t.deadline_ns - strangers * q) for t in tasks]
        if any(t.deadline_ns <= 0 for t in shorter):
            return NotProven("nothing is left of a deadline")
        return admit(shorter, how, units, q if own else 0)

    if not limited or (not own and not strangers):
        return UNLIMITED_NS if limited else 0, verdict(0)
    if not strangers and isinstance(verdict(0), Certificate):
        low = longest_optional_stage(tasks, units, how)
        return low, verdict(low)
    low, high = 0, max(t.deadline_ns for t in tasks)
    best = verdict(0)
    while isinstance(best, Certificate) and high - low > 1:
        middle = (low + high) // 2
        found = verdict(middle)
        low, high, best = (middle, high, found) if isinstance(found, Certificate) else (low, middle, best)
    return low, best


def _refusal(question: _Set, answer: _Answer | str) -> RunAdmission:
    """Say why, and the least common deadline that would do."""
    counter = None if isinstance(answer, str) else answer[1]
    assert counter is None or isinstance(counter, CounterExample)
    if counter is None:
        kind, text, resource = NOT_PROVEN, str(answer), ""
    else:
        kind = COUNTER_EXAMPLE
        resource = next(iter(answer[2]))
        due = f"up to {format_ns(counter.demand_ns + counter.block_ns)} of mandatory work must be done within "
        text = f"{resource}: {due}{format_ns(counter.t_ns)} of its arrival"
    least = _least_common_deadline(question)
    if any(load > question.units[name] for name, load in _loads(question).items()):
        text += "; no deadline would do: fewer streams, longer periods or shorter stages"
    elif least is not None:
        text += f"; the least deadline that would be admitted for all streams is {format_ns(least)} ({least} ns)"
    return RunAdmission(kind, text, counter_example=counter, least_deadline_ns=least, resource=resource)


def loads(asked: Question) -> dict[str, Fraction]:
    """Utilisation of each resource by mandatory work as it is counted; {} where nothing can be analysed."""
    question = _prepared(asked)
    return {} if isinstance(question, str) else _loads(question)


def _loads(question: _Set) -> dict[str, Fraction]:
    costs: dict[str, Fraction] = {}
    for stream, segments in zip(question.streams, question.segments, strict=True):
        for segment in segments:
            costs[segment.resource] = costs.get(segment.resource, Fraction(0)) + Fraction(segment.cost_ns, stream.period_ns)
    return costs


def _least_common_deadline(question: _Set) -> int | None:
    if any(load > question.units[resource] for resource, load in _loads(question).items()):
        return None
    if question.strangers and any(question.units[r] > 1 for r in question.mandatory):
        return None
    tasks = [Task(sum(g.cost_ns for g in segments) + question.guard_ns, stream.period_ns, 0, stream.jitter_ns)
             for stream, segments in zip(question.streams, question.segments, strict=True)]
    low, high = min(t.cost_ns for t in tasks) - 1, max(t.cost_ns + t.jitter_ns for t in tasks)

    def test(deadline_ns: int) -> bool:
        answer = _answer(question.at(deadline_ns), limits=False)
        return not isinstance(answer, str) and not isinstance(answer[1], CounterExample)

    while not test(high):
        low, high = high, 2 * high
        if high > 1 << 50:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return high


# Assumptions ----------------------------------------------------------------------------------------------------------


def _times(asked: Question, resource: str) -> str:
    return f", times {asked.slower[resource]:g} for what slows {resource!r} down" if resource in asked.slower else ""


def _assumptions(asked: Question, blocking: Mapping[str, int], stretch_ns: int) -> tuple[Assumption, ...]:
    """What the statement rests on, numbered."""
    sources, overhead_ns, wakeup_ns = asked.sources, asked.overhead_ns, asked.wakeup_ns
    held = f", and {format_ns(stretch_ns)} more while optional stages hold its core" if stretch_ns else ""
    found = [("stage", s.name, f"stage {s.name!r} on {s.resource!r} takes at most {format_ns(asked.worst_ns(s))} "
              f"({sources.get(s.name, 'assumed')}{_times(asked, s.resource)}){held}", asked.worst_ns(s) + stretch_ns)
             for s in asked.mandatory().values()]
    if overhead_ns:
        found.append(("overhead", "", f"deciding and recording take at most {format_ns(overhead_ns)} a stage "
                      f"({sources.get('', 'assumed')})", overhead_ns))
    found.append(("wake-up", "", f"the dispatcher handles an event or a timer at most {format_ns(wakeup_ns)} late, or when the "
                  "stage that runs in line ends" + (" and its core is free" if stretch_ns else ""), wakeup_ns))
    for s in asked.streams:
        found.append(("period", s.name, f"frames of {s.name!r} are released at least {format_ns(s.period_ns)} apart", s.period_ns))
        found.append(("jitter", s.name, f"each frame of {s.name!r} arrives, in order, at most {format_ns(s.jitter_ns)} after its "
                      "release", s.jitter_ns))
    for resource, limit in blocking.items():
        text = f"takes at most {format_ns(limit)}" if limit > 0 else "does not exist"
        found.append(("blocking", resource, f"an optional stage that starts on {resource!r} {text}", max(0, limit)))
    if asked.shared and asked.preempted:
        found.append(("preempt", "", "the operating system interrupts optional work for mandatory work at once", wakeup_ns))
    found.append(("fault", "", "no mandatory stage fails and no unit that mandatory work needs is lost", 0))
    return tuple(Assumption(f"A{n}", *entry) for n, entry in enumerate(found, 1))

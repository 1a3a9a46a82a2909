"""Why a frame was missed or dropped: a pure function of the run record.

The time from a missed frame's scheduled capture to its deadline is divided, every nanosecond once, into

    source        the frame was seen later than its jitter allows
    stall         the machine stood still: the witness, an independent process, woke up late; where only the dispatcher did, that
                  may be its own fault, and is no evidence
    accelerator   attempts of a stage that failed or were given up, an accelerator beyond its worst case, and all that is left of a
                  frame's time once so many attempts have failed that the engine makes no other
    overrun       what a stage took beyond its typical time
    queueing      its stage waited while its resource was busy with other frames, or was gone
    service       its stages ran, as long as they typically do, or its answer was ready and being refined
    unexplained   none of these: it waited and nothing was in its way

and the cause is the largest of them but service. `unexplained` gives the cause `unknown`, which reports show first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from imprecise.engine import ATTEMPTS

from .text import TEXTS, duration
from .view import STATUSES, View

CAUSES = ("unknown", "machine_stall", "accelerator", "overrun", "source", "queueing")  # in order of concern
FAILED = ("failed", "abandoned")  # what became of an attempt that gave nothing
Span = tuple[int, int]


@dataclass(frozen=True)
class Cause:
    """One miss or drop. Times in ns; `parts_ns` says how the frame's time was spent and, for a miss, sums to its deadline.

    `assumption_violated`: in its time, or in as long before, a wake-up was late, a stage took longer than its worst case or failed.
    """

    stream: str
    frame: int
    job: int
    release_ns: int
    deadline_ns: int
    status: str
    cause: str
    evidence: str
    assumption_violated: bool
    parts_ns: dict[str, int]

    def as_dict(self) -> dict[str, object]:
        """Its fields, for JSON."""
        return asdict(self)


def causes(view: View) -> list[Cause]:
    """The cause of every miss and drop, the unknown first, then by time."""
    wanted = np.flatnonzero(view.frames["status"] != 0)
    if not len(wanted):
        return []
    judge = _Judge(view)
    found = [judge.cause(int(row)) for row in wanted]
    return sorted(found, key=lambda c: (CAUSES.index(c.cause), c.release_ns, c.stream, c.frame))


def count(found: Iterable[Cause], status: str = "missed") -> dict[str, int]:
    """How many misses (or drops) each cause has; all causes are named."""
    counter = Counter(c.cause for c in found if c.status == status)
    return {cause: counter[cause] for cause in CAUSES}


class _Judge:
    """Indexes of one run's stages and stalls."""

    def __init__(self, view: View):
        self.view = view
        self.guard_ns = int(view.meta.get("guard_ns", 0))
        self.live = view.meta.get("kind") == "live"
        stages = view.stages
        self.starts, self.ends = stages["start_ns"].tolist(), stages["end_ns"].tolist()
        self.numbers, self.statuses = stages["stage"].tolist(), stages["status"].tolist()
        self.resources = [str(r) for r in stages["resource"].tolist()]
        self.of_job: dict[int, list[int]] = {}
        for i, job in enumerate(stages["job"].tolist()):
            self.of_job.setdefault(job, []).append(i)
        seen = _Spans([(start, end) for start, end, source in view.stalls if source == "witness"])
        confirmed = [(start, end) for start, end, source in view.stalls if source == "witness" or seen.overlap(start, end)]
        self.stalls = _Spans(confirmed)
        self.stall_sources = {(start, end): source for start, end, source in view.stalls}
        self.alone = _Spans([span for span in self.stall_sources if span not in set(confirmed)])  # the dispatcher's word only
        self.busy: dict[str, _Spans] = {}
        units = {str(k): int(v) for k, v in dict(view.meta.get("resources", {})).items()}
        for resource in {*self.resources, *units}:
            rows = [i for i, r in enumerate(self.resources) if r == resource]
            spans = [(self.starts[i], self.ends[i]) for i in rows]
            self.busy[resource] = _Spans(_all_busy(spans, units.get(resource, 1)))
        self.typical_ns = self._typical()
        self.violations = _Spans([*self.stall_sources, *self._broken_stages()])

    def _typical(self) -> dict[tuple[int, int], int]:
        """What a stage of a stream normally takes: declared, else the 90 % quantile of what is recorded; ns."""
        out = {}
        done = self.view.stages["status"] != "failed"
        spent = self.view.stages["end_ns"] - self.view.stages["start_ns"]
        for s, stream in enumerate(self.view.streams):
            for k, stage in enumerate(stream.stages):
                seen = spent[(self.view.stages["stage"] == k) & (self.view.stages["stream"] == s) & done & (spent >= 0)]
                measured = int(np.quantile(seen, 0.9)) if len(seen) >= 10 else 0
                out[s, k] = max(int(stage.get("typical_ns", 0)), measured) or int(stage.get("wcet_ns", 0))
        return out

    def _broken_stages(self) -> list[Span]:
        """Spans of stages that failed or took longer than the worst case of a mandatory stage."""
        out = []
        for i, (start, end) in enumerate(zip(self.starts, self.ends)):
            s, k = int(self.view.stages["stream"][i]), self.numbers[i]
            stage = self.view.streams[s].stages[k] if s >= 0 and 0 <= k < len(self.view.streams[s].stages) else {}
            worst = int(stage.get("wcet_ns", 0))
            if end > start and stage.get("mandatory") and (self.statuses[i] in FAILED or 0 < worst < end - start):
                out.append((start, end))
        return out

    def cause(self, row: int) -> Cause:
        """Divide the time of one frame that got no answer."""
        f = self.view.frames
        stream_index = int(f["stream"][row])
        stream = self.view.streams[stream_index]
        release, deadline, arrival = int(f["release_ns"][row]), int(f["deadline_ns"][row]), int(f["arrival_ns"][row])
        job, status = int(f["job"][row]), STATUSES[int(f["status"][row])]
        if status == "dropped" or job < 0:
            parts, cause, evidence = self._dropped(release, deadline, arrival)
        else:
            parts, facts = self._divide(stream_index, job, release, deadline, arrival)
            cause, evidence = self._name(parts, facts, release, deadline)
        return Cause(stream.name, int(f["frame"][row]), job, release, deadline, status, cause, evidence,
                     bool(self.violations.overlap(2 * release - deadline, deadline)), parts)

    def _dropped(self, release: int, deadline: int, arrival: int) -> tuple[dict[str, int], str, str]:
        stalled = self.stalls.overlap(release, max(arrival, release + 1))
        if stalled and arrival > release:
            return ({"machine_stall": stalled}, "machine_stall",
                    f"asked for {duration(arrival - release)} late; {self._stall_text(release, arrival, release)}")
        return {"source": deadline - release}, "source", "the source did not deliver it"

    def _divide(self, stream: int, job: int, release: int, deadline: int, arrival: int) -> tuple[dict[str, int], dict[str, str]]:
        """Parts in ns (they sum to deadline - release) and a fact for each part that is there."""
        parts = dict.fromkeys(("source", "machine_stall", "accelerator", "overrun", "queueing", "service", "unexplained"), 0)
        facts: dict[str, str] = {}
        jitter = self.view.streams[stream].jitter_ns
        seen = min(max(arrival, release), deadline)
        needed = self.view.streams[stream].mandatory if self.view.splits else len(self.view.streams[stream].stages)
        if seen > release:
            stalled = self.stalls.overlap(release, seen)
            busy = self._busy_elsewhere("", release, seen)
            late = max(0, seen - release - stalled - busy)
            allowed = min(late, jitter)
            parts["machine_stall"] += stalled
            parts["queueing"] += busy
            parts["service"] += allowed
            if late > allowed:  # a data set is always ready: where it is late, the dispatcher was
                part = "unexplained" if self.live and self.view.streams[stream].source.startswith("dataset:") else "source"
                parts[part] += late - allowed
                facts[part] = f"it was seen {duration(arrival - release)} after its capture, {duration(jitter)} allowed"
                if part == "unexplained" and self.alone.overlap(release, seen):
                    facts[part] += f"; {self._alone_text(release, seen)}"
        at, last = seen, None
        failed: list[int] = []
        for i in self.of_job.get(job, ()):
            start, end = self.starts[i], self.ends[i]
            if start >= deadline or self.numbers[i] >= needed:
                break
            self._wait(parts, facts, at, min(start, deadline), stream, self.numbers[i], self.resources[i])
            stop = deadline if end < 0 or end > deadline else end
            self._run(parts, facts, i, stream, max(at, start), stop)
            at, last = max(at, stop), i
            if self.statuses[i] in FAILED:  # of one stage: the next has attempts of its own
                failed = [k for k in failed if self.numbers[k] == self.numbers[i]] + [i]
        ready = last is not None and self.numbers[last] == needed - 1 and self.statuses[last] == "done"
        if ready and at < deadline:  # the answer was there: only its publication can have been late
            facts.clear()
            parts = {**dict.fromkeys(parts, 0), "service": max(at, deadline - self.guard_ns) - release}
            self._wait(parts, facts, release + parts["service"], deadline, stream, -1, "")
        elif at < deadline and len(failed) >= ATTEMPTS:  # the engine has given it up: the rest of its time is lost to the failures
            resource, spent_ns = self.resources[failed[-1]], sum(max(0, self.ends[i] - self.starts[i]) for i in failed)
            parts[_fault_of(resource)] += deadline - at
            facts[_fault_of(resource)] = (f"{self._stage(stream, self.numbers[failed[-1]])} failed {len(failed)} times on {resource}, in "
                                          f"{duration(spent_ns)}, and was not tried again")
        elif at < deadline:
            following = 0 if last is None else self.numbers[last] + (self.statuses[last] in ("done", "late"))
            self._wait(parts, facts, at, deadline, stream, following, "")
        was_ready = f"its answer was ready {duration(deadline - at)} before its deadline; " if ready and at < deadline else ""
        if "unexplained" in facts:
            facts["unexplained"] = was_ready + facts["unexplained"]
        if parts["machine_stall"]:
            facts["machine_stall"] = was_ready + self._stall_text(release, deadline, release)
        return parts, facts

    def _wait(self, parts: dict[str, int], facts: dict[str, str], start: int, end: int, stream: int, stage: int, resource: str) -> None:
        """Divide a time in which the job waited for its next stage."""
        if end <= start:
            return
        stages = self.view.streams[stream].stages
        known = 0 <= stage < len(stages)
        resource = resource or (str(stages[stage]["resource"]) if known else "")
        stalled = self.stalls.overlap(start, end)
        busy = max(0, min(self._busy_elsewhere(resource, start, end), end - start - stalled))
        parts["machine_stall"] += stalled
        parts["queueing"] += busy
        parts["unexplained"] += end - start - stalled - busy
        name = self.view.stage_name(stream, stage) if known else "publication"
        if busy:
            waited = facts.get("queueing")
            facts["queueing"] = (waited + ", " if waited else "") + f"{name} waited {duration(busy)} for {resource or 'its turn'}"
        if end - start - stalled - busy > 0:
            why = self._alone_text(start, end) if self.alone.overlap(start, end) else "with nothing in its way"
            facts.setdefault("unexplained", f"{name} waited {duration(end - start - stalled - busy)}, {why}")

    def _run(self, parts: dict[str, int], facts: dict[str, str], i: int, stream: int, start: int, end: int) -> None:
        """Divide a time in which one of the job's stages ran."""
        if end <= start:
            return
        number, status, resource = self.numbers[i], self.statuses[i], self.resources[i]
        stalled = self.stalls.overlap(start, end)
        spent = end - start - stalled
        parts["machine_stall"] += stalled
        typical = self.typical_ns.get((stream, number), 0)
        stages = self.view.streams[stream].stages
        name = self._stage(stream, number)
        worst = int(stages[number].get("wcet_ns", 0)) if 0 <= number < len(stages) else 0
        if status in FAILED:
            parts[_fault_of(resource)] += spent
            facts[_fault_of(resource)] = f"{name} {status} on {resource} after {duration(spent)}"
            return
        parts["service"] += min(spent, typical)
        if spent > typical:
            part = "accelerator" if resource == "fpga" and worst and spent > worst else "overrun"
            parts[part] += spent - typical
            bound = f", worst case {duration(worst)}" if worst else ""
            facts[part] = f"{name} ran for {duration(spent)}, typical {duration(typical)}{bound}"

    def _stage(self, stream: int, number: int) -> str:
        return self.view.stage_name(stream, number) if 0 <= number < len(self.view.streams[stream].stages) else f"stage {number}"

    def _busy_elsewhere(self, resource: str, start: int, end: int) -> int:
        """Time in [start, end), stalls apart, in which all units of a resource were taken.

        In a live run the dispatcher drives the accelerator itself, so that everything else waits meanwhile.
        """
        kinds = {resource, "fpga"} if self.live else {resource}
        spans = _merge(span for kind in kinds if kind in self.busy for span in self.busy[kind].within(start, end))
        return sum(b - a - self.stalls.overlap(a, b) for a, b in spans)

    def _alone_text(self, start: int, end: int) -> str:
        late = max(b - a for a, b in self.alone.original(start, end))
        return f"the dispatcher woke up {duration(late)} late, which the witness did not see"

    def _stall_text(self, start: int, end: int, release: int) -> str:
        spans = self.stalls.original(start, end)
        longest = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
        source = self.stall_sources.get(longest, "witness")
        more = f", and {len(spans) - 1} more times" if len(spans) > 1 else ""
        offset = longest[0] - release
        when = f"from {duration(abs(offset))} {'after' if offset >= 0 else 'before'} its capture on"
        return f"the {source} woke up {duration(longest[1] - longest[0])} late, {when}{more}"

    def _name(self, parts: dict[str, int], facts: dict[str, str], release: int, deadline: int) -> tuple[str, str]:
        """The cause and its evidence."""
        window = deadline - release
        blame = {part: ns for part, ns in parts.items() if part != "service" and ns > 0}
        part = max(blame, key=lambda p: blame[p], default="service")
        if part == "service" or blame[part] < window // 50:
            return "overrun", f"its stages take {duration(parts['service'])} of the {duration(window)} when nothing is wrong"
        if part == "queueing":  # behind work that a stall had delayed?
            before = self.stalls.overlap(release - window, release)
            if before > blame[part] // 2:
                stall = self._stall_text(release - window, release, release)
                return "machine_stall", f"{facts[part]}, behind work that stood still: {stall}"
        cause = "unknown" if part == "unexplained" else part
        others = [f"{TEXTS.get(p, p)} {duration(ns)}" for p, ns in sorted(blame.items(), key=lambda item: -item[1]) if p != part]
        also = f" (also {', '.join(others)})" if others else ""
        fact = facts.get(part, "")
        return cause, f"{fact}{also}" if "ready" in fact else f"{duration(blame[part])} of {duration(window)}: {fact}{also}"


def _fault_of(resource: str) -> str:
    """The part of a frame's time that failures on a resource take."""
    return "accelerator" if resource == "fpga" else "overrun"


class _Spans:
    """Disjoint spans of time, for sums of overlap."""

    def __init__(self, spans: Sequence[Span]):
        self.given = sorted(spans)
        self.merged = _merge(self.given)
        self.ends = [end for _, end in self.merged]

    def within(self, start: int, end: int) -> list[Span]:
        """The merged spans, cut to [start, end)."""
        out = []
        for i in range(bisect_left(self.ends, start + 1), len(self.merged)):
            a, b = self.merged[i]
            if a >= end:
                break
            out.append((max(a, start), min(b, end)))
        return out

    def overlap(self, start: int, end: int) -> int:
        """How much of [start, end) they cover."""
        return sum(b - a for a, b in self.within(start, end))

    def original(self, start: int, end: int) -> list[Span]:
        """The spans as given that overlap [start, end)."""
        return [span for span in self.given if span[0] < end and span[1] > start]


def _merge(spans: Iterable[Span]) -> list[Span]:
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif end > start:
            out.append((start, end))
    return out


def _all_busy(rows: Sequence[Span], units: int) -> list[Span]:
    """Spans in which at least `units` stages ran at once."""
    edges = sorted([(start, 1) for start, end in rows if end > start] + [(end, -1) for start, end in rows if end > start])
    out, running, since = [], 0, 0
    for at, change in edges:
        before, running = running, running + change
        if before < units <= running:
            since = at
        elif running < units <= before:
            out.append((since, at))
    return out

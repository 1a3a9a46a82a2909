"""Which constraint kept a frame from one depth more, or from an answer, on the evidence of its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from imprecise.model import Job

from .explain_watch import Busy, Candidate, Decision, History, Moment
from .text import duration

KINDS = ("complete", "not_delivered", "mandatory_late", "given_up", "published_late", "not_wanted", "policy_fault", "stage_failed",
         "overrun", "publication", "slack", "skipped", "other_version", "preferred", "left_idle", "limit", "yields", "resource_lost",
         "busy")


@dataclass
class Constraint:
    """What bound. `kind` is one of KINDS; `stage` the one that was not reached; `estimate_ns` what it was expected to take, `left_ns`
    what was left for it and `short_ns` = estimate - left, where the slack test bound (else -1); `also`: what added to it."""

    kind: str
    text: str
    stage: str = ""
    resource: str = ""
    at_ns: int = -1  # since the capture
    estimate_ns: int = -1
    left_ns: int = -1
    short_ns: int = -1
    also: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)


def bound(history: History, description: Mapping[str, Any], recorded: Mapping[str, Any]) -> Constraint:
    """The binding constraint. `recorded` has the frame's `status`, `depth`, `published_ns` and `deadline_ns` as the record says."""
    job, closing = history.job, history.closing
    if job is None or closing is None:
        seen = history.moments[0].now_ns - recorded["release_ns"] if history.moments else 0
        return Constraint("mandatory_late", f"it was seen {duration(seen)} after its capture, too late to begin")
    judge = _Judge(history, job, closing, description)
    action = next(a for a in closing.actions if a.kind in ("publish", "miss") and a.job == history.target)
    if recorded["status"] == "missed" and action.kind == "publish":
        return judge.make("published_late", f"depth {action.depth} was to be published {judge.at(closing.now_ns)}, but went out after its "
                                            "deadline: the dispatcher was held up")
    found = judge.missed() if action.kind == "miss" else judge.answered()
    found.also += judge.waits()
    return found


class _Judge:
    """Looks back from the step that closed a job."""

    def __init__(self, history: History, job: Job, closing: Moment, description: Mapping[str, Any]):
        self.history, self.job, self.closing, self.description = history, job, closing, description
        self.moments = history.moments[:history.moments.index(closing) + 1]
        self.stage = closing.stage if closing.options or closing.depth < 0 else ""

    def at(self, now_ns: int) -> str:
        """A time since the capture, for people."""
        return f"{duration(now_ns - self.job.release_ns)} after its capture"

    def make(self, kind: str, text: str, moment: Moment | None = None) -> Constraint:
        """A constraint seen at a moment (default: when the job was closed)."""
        moment = moment or self.closing
        return Constraint(kind, text, short(self.stage), moment.resource if self.stage else "", moment.now_ns - self.job.release_ns)

    # No answer --------------------------------------------------------------------------------------------------------

    def missed(self) -> Constraint:
        """Why there was no answer by the deadline."""
        stage, own = short(self.stage), self.closing.busy_own(self.job.id)
        gave_up = [m for m in self.moments if m.keeps is False]
        failed = self._failures()
        if gave_up:
            left_ns = self.job.deadline_ns - gave_up[-1].now_ns
            return self.make("given_up", f"{self.history.engine.policy.name} gave it up {self.at(gave_up[-1].now_ns)}, before {stage}: "
                                         f"what was left to do did not fit into the {duration(left_ns)} to its deadline", gave_up[-1])
        if failed and own is None:
            return self.make("stage_failed", f"{stage} {failed[-1][1]} {len(failed)} time{'s' if len(failed) > 1 else ''}, the last one "
                                             f"{self.at(failed[-1][0])}", self._moment_at(failed[-1][0]))
        if own is not None:
            return self.make("mandatory_late", f"{stage}, started {self.at(own.since_ns)}, was still running at its deadline")
        before = self.moments[-2] if len(self.moments) > 1 else self.closing
        if not before.working:
            return self.make("resource_lost", f"{stage} waited for {before.resource}, of which no unit was working", before)
        return self.make("mandatory_late", f"{stage} was still waiting for {before.resource} at its deadline, {_behind(before.busy)}",
                         before)

    # An answer, and not the deepest -----------------------------------------------------------------------------------

    def answered(self) -> Constraint:
        """Why it got no deeper."""
        job, closing = self.job, self.closing
        fault = self.history.engine.policy_fault
        if closing.depth >= job.stream.deepest:
            return self.make("complete", "all its stages were done")
        own = closing.busy_own(job.id)
        if own is not None:
            self.stage = own.stage
            started = next(m for m in reversed(self.moments) if m.now_ns == own.since_ns)
            found = self.make("overrun", f"{short(own.stage)} was started {self.at(own.since_ns)}, expected to take "
                                         f"{duration(started.need_ns)}, and was still running at publication", started)
            found.estimate_ns, found.left_ns = started.need_ns, job.publish_ns - own.since_ns
            return found
        failed = self._failures()
        if not closing.options:
            if failed:
                self.stage = failed[-1][2]
                after = ", and what follows needs it" if job.stream.kind == "milestone" else ", and no other was left"
                return self.make("stage_failed", f"{short(self.stage)} {failed[-1][1]} {self.at(failed[-1][0])}{after}")
            if job.stream.kind == "version":
                return self.make("other_version", f"{short(closing.stage)} was chosen, and only one of its versions is run")
            return self.make("skipped", f"{short(closing.stage)} was its last step, and those before it that were skipped cannot follow")
        if closing.wants is False:
            return self._not_wanted()
        arrived = self._ready()
        if arrived.now_ns >= job.publish_ns:
            what = "its mandatory result" if closing.done == job.needed else f"the result of depth {closing.depth}"
            return self.make("publication", f"{what} was there only {self.at(arrived.now_ns)}, at or after its publication time", arrived)
        if fault and arrived is closing and closing.now_ns + closing.need_ns <= job.publish_ns:
            return self.make("policy_fault", f"the policy had been switched off: {fault}")
        return self._waited(arrived)

    def _not_wanted(self) -> Constraint:
        sure, gains, policy = self.closing.confidence, self.closing.gains, self.history.engine.policy
        theta = getattr(policy, "theta", None)
        if policy.name == "threshold" and isinstance(theta, float) and sure >= theta:
            why = f"its confidence {sure:.3f} is not below theta = {theta:g}"
        elif gains and max(gains) <= 0:
            why = f"the expected gain of going on is {max(gains):+.4f} at confidence {sure:.3f}"
        else:
            why = f"at confidence {sure:.3f}"
        return self.make("not_wanted", f"{policy.name} wanted no more for it: {why}")

    def _ready(self) -> Moment:
        """The step from which the stage that it did not get might have started."""
        index = len(self.moments) - 1
        while index > 0 and self.moments[index - 1].state == "waits" and self.moments[index - 1].optional:
            index -= 1
        return self.moments[index]

    def _waited(self, arrived: Moment) -> Constraint:
        """It waited for a stage until that fitted no more, or until publication."""
        job, stage = self.job, short(self.stage)
        span = self.moments[self.moments.index(arrived):]
        fitting = [m for m in span if m.now_ns + m.need_ns <= job.publish_ns and m is not self.closing]
        closing = self.closing
        if not fitting:
            found = self.make("slack", "", arrived)
            found.estimate_ns, found.left_ns = arrived.need_ns, job.publish_ns - arrived.now_ns
            found.short_ns = found.estimate_ns - found.left_ns
            when = "its mandatory result was there" if closing.done == job.needed else f"depth {closing.depth} was reached"
            found.text = (f"{stage} is expected to take {duration(found.estimate_ns)}, and {duration(max(0, found.left_ns))} were left "
                          f"before publication when {when}: {duration(found.short_ns)} too little")
            found.also += self._guard(found.short_ns)
            return found
        found = self._while_it_fitted(fitting, stage)
        found.estimate_ns, found.left_ns = closing.need_ns, job.publish_ns - closing.now_ns
        if found.estimate_ns > found.left_ns:
            found.short_ns = found.estimate_ns - found.left_ns
            found.text += (f"; {self.at(closing.now_ns)} {stage} no longer fitted: {duration(found.estimate_ns)} expected, "
                           f"{duration(max(0, found.left_ns))} left")
            found.also += self._guard(found.short_ns)
        else:
            found.text += f", until it was published {self.at(closing.now_ns)}"
        return found

    def _while_it_fitted(self, fitting: Sequence[Moment], stage: str) -> Constraint:
        asked = [(m, d) for m in fitting for d in m.decisions if d.has_own]
        rival = [(m, d) for m, d in asked if d.chosen not in (-1, self.job.id)]
        if rival:
            moment, decision = rival[-1]
            other = next(c for c in decision.ready if c.job == decision.chosen)
            own = next(c for c in decision.ready if c.job == self.job.id)
            more = f", as at {len(rival) - 1} decision{'s' if len(rival) > 2 else ''} before" if len(rival) > 1 else ""
            what = f"{decision.resource} to {other.stream} {other.frame} for {short(other.stage)}{more}"
            return self.make("preferred", f"{self.at(moment.now_ns)} {self.history.engine.policy.name} gave {what}: "
                                          f"{why(self.history, decision, other, own)}", moment)
        held = [m for m in fitting if m.free and m.held]
        for kind, text in (("limit", self._limit), ("yields", self._yields), ("fault", self._fault)):
            found = [m for m in held if m.held == kind]
            if found:
                return self.make("policy_fault" if kind == "fault" else kind, text(found[-1], stage), found[-1])
        if asked:
            return self.make("left_idle", f"{self.at(asked[-1][0].now_ns)} {self.history.engine.policy.name} left {fitting[-1].resource} "
                                          f"idle rather than start {stage}", asked[-1][0])
        if not any(m.working for m in fitting):
            return self.make("resource_lost", f"{stage} waited for {fitting[0].resource}, of which no unit was working", fitting[0])
        return self.make("busy", f"{stage} waited for {fitting[0].resource} from {self.at(fitting[0].now_ns)} on, first "
                                 f"{_behind(fitting[0].busy)}", fitting[0])

    def _limit(self, moment: Moment, stage: str) -> str:
        limit_ns = self.description["blocking_ns"][moment.resource]
        worst = f" (worst case {duration(moment.wcet_ns)})" if moment.wcet_ns else ""
        return (f"{stage} is longer, {duration(moment.need_ns)}{worst}, than the {duration(limit_ns)} that an optional stage may hold "
                f"{moment.resource}, which mandatory work needs")

    def _yields(self, moment: Moment, stage: str) -> str:
        others = " and ".join(self.description["yields"][moment.resource])
        return f"{stage} had to leave {moment.resource} idle while mandatory work waited or ran on {others}"

    def _fault(self, moment: Moment, stage: str) -> str:
        return f"{stage} was not started: the policy had been switched off: {self.history.engine.policy_fault}"

    # What added to it -------------------------------------------------------------------------------------------------

    def _guard(self, short_ns: int) -> list[str]:
        """Whether the guard made the difference when a free unit was offered: at the publication time none need have been."""
        guard_ns = int(self.description["guard_ns"])
        if not guard_ns >= short_ns > 0 or self.closing.now_ns >= self.job.publish_ns:
            return []
        return [f"without the guard of {duration(guard_ns)} before the deadline it would have fitted"]

    def waits(self) -> list[str]:
        """How long it was not seen, or waited before stages that did run."""
        job, out = self.job, []
        first = self.moments[0]
        late_ns = first.now_ns - job.release_ns
        if late_ns > 0:
            out.append(f"it was seen {duration(late_ns)} after its capture")
        since = first
        for moment in self.moments:
            if any(e.job == job.id and e.kind in ("done", "failed", "abandoned") for e in moment.events):
                since = moment
            start = next((a for a in moment.actions if a.kind == "start" and a.job == job.id), None)
            if start is not None and moment.now_ns > since.now_ns:
                before = f", first {_behind(since.busy)}" if since.busy and not since.free else ""
                out.append(f"{short(job.stream.stages[start.stage].name)} waited {duration(moment.now_ns - since.now_ns)} for "
                           f"{start.resource}{before}")
        return out

    def _failures(self) -> list[tuple[int, str, str]]:
        """(when, "failed", "was given up" or "lost its unit", stage name) of its stages."""
        out, words = [], {"failed": "failed", "abandoned": "was given up", "lost": "lost its unit"}
        before: Moment | None = None
        for moment in self.moments:
            for event in moment.events:
                own = before.busy_own(self.job.id) if before is not None else None
                if own is not None and event.kind in words and (event.resource, event.unit) == (own.resource, own.unit):
                    out.append((moment.now_ns, words[event.kind], own.stage))
            before = moment
        return out

    def _moment_at(self, now_ns: int) -> Moment:
        return next(m for m in self.moments if m.now_ns >= now_ns)


def why(history: History, decision: Decision, other: Candidate, own: Candidate) -> str:
    """Why a policy preferred a job: its rule, where it is known and the figures bear it out; else the figures."""
    name, planned = history.engine.policy.name, decision.planned
    if name == "fifo-gated" and other.release_ns < own.release_ns:
        return f"captured {duration(own.release_ns - other.release_ns)} earlier"
    if name == "threshold" and other.deadline_ns < own.deadline_ns:
        return f"its deadline is {duration(own.deadline_ns - other.deadline_ns)} earlier"
    if name == "least-confident" and other.confidence < own.confidence:
        return f"less sure, {_apart(other.confidence, own.confidence)}"
    if name == "depth-dp" and planned is None and other.density is None and own.density is None and other.confidence < own.confidence:
        return f"nothing is known to gain, and it is less sure, {_apart(other.confidence, own.confidence)}"
    if planned is not None and other.job in planned:
        plan = "both are in its plan" if own.job in planned else "its plan has no time for this frame"
        return f"{plan}; expected gain per ms {_per_ms(other.density)} against {_per_ms(own.density)}"
    return (f"expected gain {other.gain:.4f} against {own.gain:.4f}, per ms {_per_ms(other.density)} against {_per_ms(own.density)}, "
            f"confidence {_apart(other.confidence, own.confidence)}")


def short(stage: str) -> str:
    """The name of a stage without its model."""
    return stage.rpartition("/")[2]


def _apart(one: float, other: float) -> str:
    """Two figures with as many digits as tell them apart."""
    digits = next((d for d in range(3, 9) if f"{one:.{d}f}" != f"{other:.{d}f}"), 3)
    return f"{one:.{digits}f} against {other:.{digits}f}"


def _per_ms(density: float | None) -> str:
    return "0" if density is None else f"{1e6 * density:.3g}"


def _behind(busy: Sequence[Busy]) -> str:
    """What ran there, in words."""
    if not busy:
        return "with nothing running there"
    return "behind " + ", ".join(f"{b.stream} {b.frame} ({short(b.stage)})" for b in busy[:4]) + (" and more" if len(busy) > 4 else "")

"""A recorded run fed to a fresh engine once more, with one frame watched: what was ready, chosen and planned while it waited."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from imprecise.engine import Engine
from imprecise.model import NEVER_NS, Action, Event, Job, Stage
from imprecise.policies.base import Policy

from ..errors import EdgertError, RecordError
from ..executive import reproduce
from ..executive.replay import Difference

if TYPE_CHECKING:
    from imprecise.policies.base import Choice

Step = tuple[int, int, list[Event], list[Action]]
"""A step of a record: its number, now_ns, events, actions."""


class Candidate(NamedTuple):
    """A job that a policy could choose. `slack_ns`: what is left before its publication when its next stage takes as long as
    estimated; `gain`: the largest expected gain of going on; `density`: the largest expected gain per ns of a way on that ends in time
    (None: no such way gains)."""

    job: int
    stream: str
    frame: int
    stage: str
    confidence: float
    estimate_ns: int
    slack_ns: int
    gain: float
    release_ns: int
    deadline_ns: int
    density: float | None


@dataclass
class Decision:
    """A policy was asked: `ready` in the order given, `chosen` the id of the job it took (-1: none), `planned` the ids of the jobs in
    its plan (None: it made none), `has_own`: the watched frame was among the ready ones."""

    resource: str
    ready: list[Candidate]
    chosen: int
    planned: frozenset[int] | None
    has_own: bool


class Busy(NamedTuple):
    """What runs on a unit."""

    resource: str
    unit: int
    job: int
    stream: str
    frame: int
    stage: str
    since_ns: int


@dataclass
class Moment:
    """One step while the frame was open. `state` after it: "waits" (for `stage`, on `resource`), "runs" or "closed".

    `need_ns`: what `stage` was estimated to take when the engine tested whether it fits; `free`: units that might have run it, after the
    step; `held`: why a free unit did not take it without the policy being asked: "fault", "yields", "limit" or "". The last fields are
    those of the job then.
    """

    step: int
    now_ns: int
    events: list[Event]
    actions: list[Action]
    decisions: list[Decision]
    state: str = "waits"
    optional: bool = False
    stage: str = ""
    resource: str = ""
    need_ns: int = 0
    wcet_ns: int = 0
    free: int = 0
    working: int = 0
    held: str = ""
    busy: list[Busy] = field(default_factory=list)
    wants: bool | None = None
    keeps: bool | None = None
    done: int = 0
    depth: int = -1
    options: tuple[int, ...] = ()
    confidence: float = 0.0
    gains: tuple[float, ...] = ()

    def busy_own(self, job: int) -> Busy | None:
        """The unit that a job has after this step."""
        return next((busy for busy in self.busy if busy.job == job), None)


@dataclass(frozen=True)
class State:
    """Everything just before the step at `now_ns`, which releases job `next_job`: a copy of the engine, when it is to be woken, and what
    runs: unit -> job, stage index, since."""

    engine: Engine
    now_ns: int
    next_job: int
    wake_ns: int
    running: Mapping[tuple[str, int], tuple[int, int, int]]


@dataclass
class History:
    """What happened to one job. `job` is the engine's own (None: it was closed in the step that released it); `steps`: how many were
    compared; `state`: how things were some frames before it (None: that is the start of the run, or it cannot be copied)."""

    target: int
    engine: Engine
    moments: list[Moment] = field(default_factory=list)
    job: Job | None = None
    steps: int = 0
    state: State | None = None

    @property
    def closing(self) -> Moment | None:
        """The step in which it was published or missed."""
        return next((m for m in self.moments if any(a.kind in ("publish", "miss") and a.job == self.target for a in m.actions)), None)


def fresh(description: Mapping[str, Any], path: object) -> Engine:
    """The engine of a record, made again. Raises RecordError where that cannot be, EdgertError where the engine is compiled."""
    if not isinstance(vars(Engine)["step"], FunctionType):
        raise EdgertError("the scheduler is compiled here, and can be neither watched nor copied",
                          "use the command edgert explain, which takes its source")
    try:
        return reproduce.build(description)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: its engine cannot be made again ({error})", "record the run again with this edgert") from None


def follow(description: Mapping[str, Any], steps: Sequence[Step], target: int, first: int, path: object) -> History:
    """Replay until job `target` is closed and holds no unit; keep the state before job `first` comes.

    Raises RecordError where the replayed actions are not the recorded ones: what is explained would not be what happened.
    """
    engine = fresh(description, path)
    history = History(target, engine)
    watcher = _Watcher(engine, history, description)
    released, wake_ns = 0, NEVER_NS
    for number, now_ns, events, recorded in steps:
        if number != history.steps:
            raise RecordError(f"{path} lacks step {history.steps}", "only a run with every step can be explained")
        more = sum(event.kind == "release" for event in events)
        if 0 < released <= first < released + more:
            copied = _copy(engine)
            history.state = None if copied is None else State(copied, now_ns, released, wake_ns, dict(watcher.running))
        if released <= target < released + more:
            watcher.attach()
        released += more
        watcher.before(events)
        actions = engine.step(now_ns, events)
        if actions != recorded:
            raise RecordError(f"{path} is not what this engine does: {Difference(number, now_ns, tuple(recorded), tuple(actions))}",
                              "it was made by another version, or with another policy; explain it with the edgert that made it")
        history.steps += 1
        wake_ns = next((a.at_ns for a in actions if a.kind == "wake"), wake_ns if wake_ns > now_ns else NEVER_NS)
        watcher.after(number, now_ns, events, actions)
        if watcher.over:
            break
    return history


class _Watcher:
    """Keeps account of units, and of what the policy is asked from the release of the watched job on."""

    def __init__(self, engine: Engine, history: History, description: Mapping[str, Any]):
        self.engine, self.history, self.target = engine, history, history.target
        self.limits: Mapping[str, int] = description["blocking_ns"]
        self.yields: Mapping[str, Sequence[str]] = description["yields"]
        self.frames: list[tuple[int, int]] = []  # stream index and frame of each job
        self.running: dict[tuple[str, int], tuple[int, int, int]] = {}  # unit -> job, stage index, since
        self.lost: set[tuple[str, int]] = set()
        self.attached = self.over = False
        self.decisions: list[Decision] = []
        self.planned: frozenset[int] | None = None
        self.wants: bool | None = None
        self.keeps: bool | None = None
        self.need: dict[str, int] = {}  # estimates that the step's slack tests used, by stage

    # Hooks ------------------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Listen to the policy from now on."""
        self.attached = True
        policy: Any = self.engine.policy
        self.engine.guest.policy = _Listener(policy, self)
        plan: Any = getattr(policy, "plan", None)

        def watched_plan(*given: Any, **named: Any) -> Any:
            found = plan(*given, **named)
            self.planned = _plan(found)
            return found

        if callable(plan):
            policy.plan = watched_plan

    def asked(self, ready: Sequence[Job], choice: Any) -> None:
        """The policy chose; a plan that it made for this is kept with it."""
        self._note(ready, choice)
        self.planned = None

    def _own(self) -> Job | None:
        job = self.engine.jobs.get(self.target)
        if job is not None:
            self.history.job = job
        return job

    def _note(self, ready: Sequence[Job], choice: Any) -> None:
        """Keep a decision about the resource that the watched job waits for."""
        own = self._own()
        resource = ready[0].next_stage.resource
        if own is None or own.closed or own.running or own.done < own.needed or own.next_stage.resource != resource:
            return
        chosen = choice[0] if isinstance(choice, tuple) and choice else choice
        self.decisions.append(Decision(resource, [self._candidate(job) for job in ready], chosen.id if isinstance(chosen, Job) else -1,
                                       self.planned, any(job is own for job in ready)))

    def _candidate(self, job: Job) -> Candidate:
        engine, stages, densities = self.engine, job.stream.stages, []
        need_ns, left_ns = max(0, engine.estimate_ns(job.next_stage) - job.spent_ns), job.publish_ns - engine.now_ns
        for (way, _), gain in zip(job.ways(), job.gains()):
            time_ns = max(1, sum(engine.estimate_ns(stages[i]) for i in way) - (job.spent_ns if way[0] == job.next else 0))
            if gain > 0 and time_ns <= left_ns:
                densities.append(gain / time_ns)
        return Candidate(job.id, job.stream.name, job.frame, job.next_stage.name, job.confidence, need_ns, left_ns - need_ns,
                         max(job.gains(), default=0.0), job.release_ns, job.deadline_ns, max(densities, default=None))

    # Steps ------------------------------------------------------------------------------------------------------------

    def before(self, events: Sequence[Event]) -> None:
        """A step begins: what its slack tests will use is the estimates after its events."""
        self.decisions, self.wants, self.keeps, self.need = [], None, None, {}
        if not self.attached:
            return
        changed: dict[str, Any] = {}
        for event in events:
            place = self.running.get((event.resource, event.unit))
            if event.kind == "done" and place is not None and place[:2] == (event.job, event.stage) and event.job in self.engine.jobs:
                job = self.engine.jobs[event.job]
                name = job.stream.stages[event.stage].name
                changed.setdefault(name, copy.deepcopy(self.engine.estimates[name])).add(event.at_ns - place[2] + job.spent_ns)
        self.need = {name: estimate.value_ns for name, estimate in self.engine.estimates.items()}
        self.need.update((name, estimate.value_ns) for name, estimate in changed.items())

    def after(self, number: int, now_ns: int, events: list[Event], actions: list[Action]) -> None:
        """A step has ended."""
        self._account(now_ns, events, actions)
        if not self.attached:
            return
        own, mine = self._own(), self.history.job
        moment = Moment(number, now_ns, events, actions, self.decisions, wants=self.wants, keeps=self.keeps)
        self.history.moments.append(moment)
        if own is None or own.closed:
            moment.state = "closed"
        elif own.running:
            moment.state = "runs"
        if mine is not None:
            self._place(moment, mine)
        self.over = own is None and len(self.frames) > self.target

    def _account(self, now_ns: int, events: Sequence[Event], actions: Sequence[Action]) -> None:
        for event in events:
            unit = (event.resource, event.unit)
            if event.kind == "release":
                self.frames.append((event.stream, event.frame))
            elif event.kind == "back":
                self.lost.discard(unit)
            elif event.kind == "lost" or self.running.get(unit, (-1, -1, 0))[:2] == (event.job, event.stage):
                self.running.pop(unit, None)
                if event.kind in ("lost", "abandoned"):
                    self.lost.add(unit)
        for action in actions:
            if action.kind == "start":
                self.running[action.resource, action.unit] = (action.job, action.stage, now_ns)
            elif action.kind == "preempt":
                self.running.pop((action.resource, action.unit), None)

    def _place(self, moment: Moment, job: Job) -> None:
        """Which stage is next or runs, what it needs, and the state of its resource."""
        stage = job.next_stage
        moment.done, moment.depth, moment.options, moment.confidence = job.done, job.depth, job.options, job.confidence
        moment.gains = tuple(job.gains()) if job.options else ()
        moment.optional, moment.stage, moment.resource, moment.wcet_ns = job.done >= job.needed, stage.name, stage.resource, stage.wcet_ns
        moment.need_ns = max(0, self.need.get(stage.name, 0) - job.spent_ns)
        eligible = stage.units or range(self.engine.units[stage.resource])
        units = [(stage.resource, unit) for unit in eligible]
        moment.working = sum(unit not in self.lost for unit in units)
        moment.free = sum(unit not in self.lost and unit not in self.running for unit in units)
        moment.busy = [self._busy(unit) for unit in units if unit in self.running]
        if moment.state == "waits" and moment.optional:
            moment.held = self._held(stage, moment.need_ns)

    def _busy(self, unit: tuple[str, int]) -> Busy:
        job, stage, since_ns = self.running[unit]
        stream, frame = self.frames[job]
        declared = self.engine.streams[stream]
        return Busy(*unit, job, declared.name, frame, declared.stages[stage].name, since_ns)

    def _held(self, stage: Stage, need_ns: int) -> str:
        if self.engine.policy_fault:
            return "fault"
        if any(self._mandatory(other) for other in self.yields.get(stage.resource, ())):
            return "yields"
        limit_ns = self.limits.get(stage.resource)
        return "limit" if limit_ns is not None and max(need_ns, stage.wcet_ns) > limit_ns else ""

    def _mandatory(self, resource: str) -> bool:
        """Whether mandatory work waits or runs there."""
        return any(job.done < job.needed and job.next_stage.resource == resource and (job.running or not job.closed)
                   for job in self.engine.jobs.values())


class _Listener(Policy):
    """Asks the policy, answers what it answers, and tells the watcher."""

    def __init__(self, policy: Policy, watcher: _Watcher):
        self.inner, self.watcher = policy, watcher
        self.name, self.splits, self.quantile = policy.name, policy.splits, policy.quantile

    def wants(self, job: Job, engine: Engine) -> bool:
        answer = bool(self.inner.wants(job, engine))
        if job.id == self.watcher.target:
            self.watcher.wants = answer
        return answer

    def keeps(self, job: Job, engine: Engine) -> bool:
        answer = bool(self.inner.keeps(job, engine))
        if job.id == self.watcher.target:
            self.watcher.keeps = answer
        return answer

    def closed(self, job: Job, engine: Engine) -> None:
        self.inner.closed(job, engine)

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        choice = self.inner.pick(ready, engine)
        self.watcher.asked(ready, choice)
        return choice


def _copy(engine: Engine) -> Engine | None:
    """An engine of its own in the same state; None for one that cannot be copied (a policy that holds a file, say)."""
    try:
        return copy.deepcopy(engine, {id(stream): stream for stream in engine.streams})
    except (TypeError, ValueError, RecursionError):
        return None


def _plan(found: Any) -> frozenset[int] | None:
    """The ids of the planned jobs, where a plan looks like that of `depth-dp`: (its worth, a set or dict of job ids)."""
    ids = found[1] if isinstance(found, tuple) and len(found) > 1 else None
    if not isinstance(ids, (set, frozenset, dict)) or not all(isinstance(id_, int) for id_ in ids):
        return None
    return frozenset(ids)

"""The engine: who runs next, where, and when an answer goes out.

A frame is a *job* with stages. The first ones are *mandatory*: without them there is no answer. The others are *optional*:
each makes the answer better. The engine is told what happened and says what to do:

    engine.step(now_ns, [events]) -> [actions]

    release --> mandatory queue (EDF) --> start on its resource --> done --> optional candidates --> policy --> start ...
                                                                     `--> deadline - guard, or nothing left to do: publish

It has no clock, no thread and no I/O. `simulate` steps it in virtual time, `run` with the monotonic clock; what is decided
is the same, and a recorded run fed back gives the same actions. Three rules hold whatever the policy says:

1. A free resource takes mandatory work first, earliest deadline first, never interrupted (non-preemptive EDF). This is
   what `admission` proves in time, so **no policy can break the guarantee**: it only ranks optional stages.
2. An optional stage starts only if a quantile of its duration (95 %, or the policy's) still ends before the job's
   publication, and where it shares a resource with mandatory work, only if it is no longer than the blocking that
   admission allowed.
3. An answer is published at `deadline - guard` with what is done by then, or sooner when nothing more will be done for it:
   all stages done, none wanted, or the next one no longer fits.
   A result that comes later is discarded and counted, and is never a miss; a miss is no answer by the deadline.

Beside this file: `model.py` has streams, jobs, events and actions; `resources.py` units and the mandatory queue; `refinement.py` the
slack test; `outlook.py` what policies may ask; `guest.py` how they are asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heappop, heappush

from .guest import Guest
from .model import NEVER_NS, Action, Event, Job, Stream, new_action
from .outlook import Outlook
from .policies.base import Policy
from .refinement import Refinement
from .resources import Entry, Waiting, check

ATTEMPTS = 3  # of a mandatory stage that fails, while its deadline has not passed


class Engine(Outlook):
    """The state machine; see the top of this file.

    `resources` maps a resource to its number of units (`{"fpga": 1, "cpu": 2}`). `guard_ns` is how long before its deadline
    an answer is published. What admission found goes in as it is (`RunAdmission.engine_options()`): `blocking_ns`, the longest
    optional stage that may start on a resource; `local_ns`, {(stream, stage): relative deadline} that orders mandatory stages
    where they cross several resources (default: the job's deadline); `yields`, {resource: others}: no optional stage starts
    there while mandatory work waits or runs on the others. `priorities`: a rank for each stream, least first, orders mandatory stages
    instead of deadlines (rate-monotonic: by period). `preemptive`: resources where mandatory work interrupts what comes after it.
    `quantile` of the slack test: None takes the policy's own. Raises ValueError for a stage on a resource or unit that does not exist.
    """

    def __init__(self, streams: Sequence[Stream], resources: Mapping[str, int], policy: Policy, guard_ns: int = 0,
                 blocking_ns: Mapping[str, int] | None = None, quantile: float | None = None,
                 local_ns: Mapping[tuple[int, int], int] | None = None, yields: Mapping[str, Sequence[str]] | None = None,
                 priorities: Sequence[int] | None = None, preemptive: Collection[str] = ()):
        check(streams, resources, guard_ns)
        super().__init__(streams, resources, policy.quantile if quantile is None else quantile)
        self.policy = policy
        self.guest = Guest(policy)
        self.guard_ns = guard_ns
        self.jobs: dict[int, Job] = {}  # open ones, and closed ones with a stage still running
        self.discarded = 0  # stages that ended after their job was closed
        self.stale = 0  # events for a stage that does not run on the unit they name (any more): ignored
        self.mandatory = Waiting(self.resources, resources)
        self._refinement = Refinement(self, resources, blocking_ns or {}, yields or {})
        self._local_ns = [[(local_ns or {}).get((i, k), stream.deadline_ns) for k in range(len(stream.stages))]
                          for i, stream in enumerate(self.streams)]
        self._ranks = list(priorities or ())
        self._preemptive = [name for name in resources if name in preemptive]
        self._required = [stream.required(policy.splits) for stream in self.streams]
        self._timers: list[tuple[int, int, Job]] = []  # heap of (when to publish, job id, job)
        self._attempts: dict[int, int] = {}  # the number of the next one of a job's stage that failed
        self._next_id = 0
        self._wake_ns = -1
        self._actions: list[Action] = []

    def step(self, now_ns: int, events: Iterable[Event] = ()) -> list[Action]:
        """Take in what happened up to `now_ns` (all of one instant in one call) and say what to do.

        `now_ns` must not go back. An empty call means that time passed (`wake`).
        """
        if now_ns < self.now_ns:
            raise ValueError(f"time went back from {self.now_ns} to {now_ns} ns")
        self.now_ns = now_ns
        self._actions = actions = []
        for event in events:
            if event.kind == "done":
                self._done(event)
            elif event.kind == "release":
                self._release(event)
            else:
                self._fault(event)
        timers = self._timers
        if timers and timers[0][0] <= now_ns:
            self._publish_due()
        for resource, free in self.resources.free.items():
            while free and self._start_one(resource):
                pass
        for resource in self._preemptive:
            free = self.resources.free[resource]
            while self._preempt(resource):
                while free and self._start_one(resource):  # what was interrupted may go on elsewhere
                    pass
        while timers and timers[0][2].closed:  # nobody need be woken for those
            heappop(timers)
        wake_ns = timers[0][0] if timers else NEVER_NS
        if wake_ns not in (self._wake_ns, NEVER_NS):
            actions.append(new_action("wake", at_ns=wake_ns))
        self._wake_ns = wake_ns
        return actions

    @property
    def policy_fault(self) -> str:
        """Why the policy was switched off: its exception, or a choice it may not make; empty: it was not."""
        return self.guest.fault

    # Events -----------------------------------------------------------------------------------------------------------

    def _release(self, event: Event) -> None:
        stream = self.streams[event.stream]
        job = Job(self._next_id, event.stream, stream, event.frame, event.at_ns, self.guard_ns, self._required[event.stream])
        self._next_id += 1
        self.jobs[job.id] = job
        heappush(self._timers, (job.publish_ns, job.id, job))
        self._advance(job)

    def _done(self, event: Event) -> None:
        if not self.resources.runs(event):
            self.stale += 1
            return
        job, start_ns = self.resources.take_back(event.resource, event.unit)
        self.estimates[job.next_stage.name].add(event.at_ns - start_ns + job.spent_ns)
        job.finish()
        if self._attempts:
            self._attempts.pop(job.id, None)
        job.confidence = event.value
        if job.closed:
            self.discarded += 1
            del self.jobs[job.id]
        else:
            self._advance(job)

    def _fault(self, event: Event) -> None:
        """A stage gave no result, or a unit is gone or back."""
        kind, resources = event.kind, self.resources
        if kind == "back":
            resources.restore(event)
        elif kind == "lost":
            if resources.lose(event):
                self._give_up_stage(event)
        elif kind not in ("failed", "abandoned"):
            raise ValueError(f"unknown kind of event: {kind!r}")
        elif not resources.runs(event):
            self.stale += 1
        elif kind == "failed" or resources.lose(event):
            self._give_up_stage(event)

    def _give_up_stage(self, event: Event) -> None:
        job, _ = self.resources.take_back(event.resource, event.unit)
        if job.closed:
            del self.jobs[job.id]
        elif job.done >= job.needed:
            job.give_up()
            self._advance(job)
        else:
            job.spent_ns = 0
            tries = self._attempts.get(job.id, 1)
            self._attempts[job.id] = tries + 1
            if tries < ATTEMPTS:
                self._advance(job)

    # Steps of a job ---------------------------------------------------------------------------------------------------

    def _advance(self, job: Job) -> None:
        """Queue the job's next stage, or publish where nothing more will be done."""
        if job.done < job.needed:
            self.mandatory.add(job.next_stage.resource, self._entry(job))
        elif not job.options or self.now_ns >= job.publish_ns or not self.guest.wants(job, self):
            self.close(job)
        else:
            self._refinement.add(job)

    def _entry(self, job: Job) -> Entry:
        """The place of a job's mandatory stage in its queue: by local deadline, or by rank where priorities are fixed."""
        index = job.stream_index
        return self._ranks[index] if self._ranks else job.release_ns + self._local_ns[index][job.next], job.release_ns, job.id, job

    def close(self, job: Job) -> None:
        """Publish, or state the miss."""
        depth = job.depth
        kind = "publish" if depth >= 0 and self.now_ns <= job.deadline_ns else "miss"
        self._actions.append(new_action(kind, job.id, depth=depth))
        job.closed = True
        if self.guest.remembers:
            self.guest.closed(job, self)
        self._attempts.pop(job.id, None)
        if not job.running:
            del self.jobs[job.id]
            self._refinement.remove(job)
            self.mandatory.tidy(job.next_stage.resource)

    def _publish_due(self) -> None:
        while self._timers and self._timers[0][0] <= self.now_ns:
            job = heappop(self._timers)[2]
            if job.closed:
                continue
            if job.depth < 0 and self.now_ns < job.deadline_ns:
                heappush(self._timers, (job.deadline_ns, job.id, job))  # a late mandatory part may still make it
            elif job.depth >= 0 or self.now_ns >= job.deadline_ns:
                self.close(job)

    # Choosing ---------------------------------------------------------------------------------------------------------

    def _start_one(self, resource: str) -> bool:
        """Start the best waiting stage on one free unit; False: nothing to start."""
        job = self._pop_mandatory(resource) or self._refinement.pick(resource)
        if job is None:
            return False
        unit = self.resources.take(job.next_stage, job, self.now_ns)
        self._actions.append(new_action("start", job.id, job.next, resource, unit))
        return True

    def _pop_mandatory(self, resource: str) -> Job | None:
        while entry := self.mandatory.pop(resource):
            job = entry[3]
            if self.policy.splits or self.guest.keeps(job, self):
                return job
            self._refinement.doubt(job, [job.stream.stages[i] for i in job.required[job.done:]])
        return None

    def _preempt(self, resource: str) -> bool:
        """Interrupt what runs there and comes last, where mandatory work that comes before it waits; False: nothing to do."""
        unit = self.mandatory.victim(resource, self._entry)
        if unit is None:
            return False
        job, start_ns = self.resources.take_back(resource, unit)
        job.spent_ns += self.now_ns - start_ns
        self._actions.append(new_action("preempt", job.id, job.next, resource, unit))
        if job.closed:
            del self.jobs[job.id]
        elif job.done < job.needed:
            self.mandatory.add(resource, self._entry(job))
        else:
            self._refinement.add(job)
        return True

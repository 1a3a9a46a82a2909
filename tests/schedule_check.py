"""Checks a simulation from its log, by what `docs/architecture.md` and the docstrings of engine and policies say, not by the code.

    asked = watch(policy)                    # before simulate(..., policy, log=log)
    model = check(world, asked, result, log) # AssertionError, naming the rule, where one is broken

The log is gone through step by step beside a model of its own (`schedule_model.py`): which frame has which stages done, what runs where
since when, which units are gone, and what the window of the last 64 durations of each stage says.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from imprecise.draws import key_of, uniforms
from imprecise.model import Action, Event, Stage
from imprecise.scenario import Scenario, Source
from imprecise.simulation import DROPPED, Log, Simulation, StageRow
from random_worlds import World
from schedule_model import Asked, Frame, Window, ranks, watch

__all__ = ["check", "watch"]
UNLIMITED = 1 << 62


def check(world: World, asked: list[Asked], result: Simulation, log: Log) -> Model:
    """Everything; what the model knows at the end: how often what was `met`, and the `windows` of durations."""
    model = Model(world, asked, result)
    assert all(a < b for (a, _, _), (b, _, _) in zip(log.steps, log.steps[1:])), "time stood still or went back"
    for now, events, actions in log.steps:
        model.step(now, events, actions)
    assert not model.running and all(frame.closed for frame in model.frames), "a frame or a stage never ended"
    assert model.rows == log.stages, "the stages of the log are not those that were started"
    assert bool(result.policy_fault) == bool(asked and asked[-1].bad), "a fault of the policy is not reported, or one that it did not make"
    assert not any(call.bad for call in asked[:-1]), "a policy is asked after its first fault"
    check_rows(world, result, model)
    return model


class Model:
    """The state after each step, as the log tells it."""

    def __init__(self, world: World, asked: list[Asked], result: Simulation):
        self.scenario: Scenario = world.scenario
        self.rules = world.scenario.conditions
        self.options = world.options
        policy = world.policy()
        self.splits = policy.splits
        self.asked = deque(asked)
        self.faulty = bool(result.policy_fault)
        self.fault = False  # from here on the policy is not asked
        self.blocking = world.options.get("blocking_ns", world.scenario.blocking_ns)
        self.frames: list[Frame] = []
        self.running: dict[tuple[str, int], Frame] = {}
        self.gone: set[tuple[str, int]] = set()
        self.rows: list[StageRow] = []
        self.met: Counter[str] = Counter()
        self.windows = {stage.name: Window(stage.typical_ns, world.options.get("quantile", policy.quantile))
                        for stream in world.scenario.streams for stage in stream.stages}
        self.ranks = ranks(world.scenario)
        self.drawn = {(i, k): model.draw(0, uniforms(key_of(world.seed, source.stream.name, stage.name), 0, world.frames)).tolist()
                      for i, source in enumerate(world.scenario.sources)
                      for k, (stage, model) in enumerate(zip(source.stream.stages, source.work.durations))}
        assert result.frames is not None, "no rows to check"
        self.at = {(row["stream"], row["frame"]): row for row in result.frames}
        self.now = 0
        self.ended: set[int] = set()  # frames of which a stage ended, or that were seen, in this step
        self.wanted: set[int] = set()  # of those, what the policy said of them
        self.unwanted: set[int] = set()
        self.kept: set[int] = set()  # frames that a policy which does not split goes on with, in this step
        self.before: dict[str, dict[str, int]] = {}  # {resource: quantiles before frames were just found to be too late there}
        self.declined: set[str] = set()  # resources of which the policy, asked last in this step, left a unit idle

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, now: int, events: list[Event], actions: list[Action]) -> None:
        """What happened, then what the policy was asked and what was done, in order."""
        self.now, self.before, self.declined = now, {}, set()
        self.ended, self.wanted, self.unwanted, self.kept = set(), set(), set(), set()
        for event in events:
            getattr(self, event.kind)(event)
        for place in range(len(actions) + 1):
            while self.asked and self.asked[0].now == now and self.asked[0].after <= place:
                self.answer(self.asked.popleft(), actions[place] if place < len(actions) else None)
            if place < len(actions):
                action = actions[place]
                getattr(self, f"on_{action.kind}")(action, actions[place + 1] if place + 1 < len(actions) else None)
        assert not self.asked or self.asked[0].now > now, "the policy is asked at no step"
        self.after()

    def after(self) -> None:
        """What must be so when a step is over."""
        for frame in self.frames:
            if frame.closed:
                continue
            assert not (frame.depth >= 0 and self.now >= frame.publish_at), "an answer was not published in time"
            assert self.now < frame.due, "a frame was neither published nor missed by its deadline"
            assert not (frame.answered and not frame.options), "nothing is left to do for a frame, and it is not published"
            assert frame.id not in self.unwanted, "a frame that nobody wants to refine is not published"
            assert not (frame.id in self.ended - self.wanted and frame.answered), "an answer waits, and nobody wants to refine it"
            if frame.waits:
                assert not self.room(frame.stage), "a mandatory stage waits beside a free unit"
                if frame.stage.resource in self.scenario.preemptive:
                    later = [unit for (name, unit), other in self.running.items() if name == frame.stage.resource
                             and (not frame.stage.units or unit in frame.stage.units) and self.urgency(other) > self.urgency(frame)]
                    assert not later, "a mandatory stage waits for what it should interrupt"
        for name, units in self.scenario.resources.items():
            if not self.fault and name not in self.declined and any((name, unit) not in self.running for unit in range(units)):
                assert not self.ready(name, self.before.get(name)), "a stage may start, a unit is free, and the policy was not asked"

    def frame(self, job: int) -> Frame:
        assert 0 <= job < len(self.frames), "a frame before its release"
        return self.frames[job]

    # Events -----------------------------------------------------------------------------------------------------------

    def release(self, event: Event) -> None:
        stream = self.scenario.streams[event.stream]
        needed = list(range(stream.mandatory))
        if not self.splits and stream.mandatory < len(stream.stages):
            needed = list(range(len(stream.stages)))
            needed = [*needed[:stream.mandatory], needed[-1]] if stream.kind == "version" else needed
        frame = Frame(len(self.frames), event.stream, stream, event.frame, event.at_ns, needed, self.scenario.guard_ns)
        assert event.at_ns <= self.now <= event.at_ns + stream.jitter_ns, "a frame is seen before its capture, or after its jitter"
        earlier = [other for other in self.frames if other.index == event.stream][-1:]
        assert all(frame.release - other.release >= stream.period_ns * (frame.number - other.number) for other in earlier
                   if stream.period_ns), "frames are closer than their stream says"
        assert all(frame.number > other.number for other in earlier), "frames out of order"
        assert (event.stream, event.frame) in self.at, "a frame without a row"
        row = self.at[event.stream, event.frame]
        assert (row["job"], row["release_ns"], row["arrival_ns"], row["deadline_ns"]) == (
            frame.id, frame.release, self.now, frame.due), "the row of a frame says when something else was captured, seen or due"
        self.frames.append(frame)

    def end(self, event: Event, status: str) -> Frame:
        """A stage ends, as one that was running where the event says."""
        place = event.resource, event.unit
        assert place in self.running, "a stage ends that does not run there"
        frame = self.running.pop(place)
        if status != "lost":
            assert (frame.id, frame.next) == (event.job, event.stage), "a stage ends that does not run there"
        status = "failed" if status == "lost" else "late" if status == "done" and frame.closed else status
        self.rows.append(StageRow(frame.id, frame.stage.name, *place, frame.start, self.now, status, event.value))
        frame.parts.append(self.now - frame.start)
        frame.place = None
        self.ended.add(frame.id)
        self.met[f"{status} {'mandatory' if not frame.answered else frame.stream.kind}"] += 1
        return frame

    def done(self, event: Event) -> None:
        frame = self.end(event, "done")
        stage, took = frame.stage, sum(frame.parts)
        extra = self.rules.overhead_ns + (0 if stage.mandatory else self.rules.decision_ns)
        drawn = self.drawn[frame.index, frame.next][frame.number] + extra
        bent = self.rules.takes_core or self.rules.beside or self.rules.hogs or self.rules.thermal
        assert took == drawn or (bent and took > drawn), f"{stage.name} took {took}, not {drawn}"
        self.met["in pieces"] += len(frame.parts) > 1
        self.windows[stage.name].last.append(took)
        frame.finish()
        if not frame.closed:
            frame.completed = self.now
            source, row = self.scenario.sources[frame.index], self.at[frame.index, frame.number]
            table = source.work.outcomes
            sure = 0.0 if table is None else table.confidence[row["item"]][max(0, frame.depth)]
            assert event.value == sure or frame.depth < 0 or not self.splits, "the confidence of another answer"

    def failed(self, event: Event) -> None:
        self.end(event, "failed").fail()

    def abandoned(self, event: Event) -> None:
        self.end(event, "abandoned").fail()
        self.gone.add((event.resource, event.unit))

    def lost(self, event: Event) -> None:
        self.gone.add((event.resource, event.unit))
        if (event.resource, event.unit) in self.running:
            self.end(event._replace(value=0.0), "lost").fail()

    def back(self, event: Event) -> None:
        self.gone.discard((event.resource, event.unit))

    # The policy -------------------------------------------------------------------------------------------------------

    def answer(self, call: Asked, action: Action | None) -> None:
        """What the policy was asked, and whether what it said is heeded by the next action."""
        assert not self.fault, "a policy is asked after its first fault"
        self.fault = call.bad and self.faulty
        frame = self.frame(next(iter(call.about)))
        if call.kind == "wants":
            assert frame.id in self.ended and frame.answered and frame.options, "asked what is not to be decided"
            (self.wanted if call.said else self.unwanted).add(frame.id)
        elif call.kind == "keeps":
            assert not self.splits and frame.waits and self.room(frame.stage), "asked whether to go on with what does not start"
            if call.said or call.bad:
                assert action and (action.kind, action.job) == ("start", frame.id), "a frame is kept and not started"
                self.kept.add(frame.id)
            else:
                frame.out = True
                self.doubt(frame, [frame.stream.stages[i] for i in frame.required[frame.done:]])
                self.met["not kept"] += 1
        elif call.kind == "pick":
            self.check_ready(call)
            (self.declined.discard if call.said else self.declined.add)(call.resource)
            for job, index in call.about.items():
                self.frames[job].next = index
            if call.said:
                job, index = call.said
                assert action and (action.kind, action.job) == ("start", job), "the choice of the policy is not started"
                frame = self.frames[job]
                asked_for = index if not frame.parts and self.may_start(frame, index) else frame.next
                assert action.stage == asked_for, "another stage than the one chosen is started"
            else:
                assert not action or action.kind != "start" or action.resource != call.resource, "a stage starts that nobody chose"

    def check_ready(self, call: Asked) -> None:
        """The policy is shown the frames that have an answer, wait, and whose next stage passes the slack test: those and no others."""
        high = self.before.pop(call.resource, None)
        assert set(call.about) == self.ready(call.resource, high), "the policy is not shown what is ready"
        for job, index in call.about.items():
            frame = self.frames[job]
            assert index in frame.options and self.may_start(frame, index, high), "a stage is shown to the policy that may not start"

    def ready(self, name: str, high: dict[str, int] | None) -> set[int]:
        """Frames of which an optional stage may start on a resource now, by these quantiles; none while mandatory work comes first."""
        if self.must_yield(name):
            return set()
        return {f.id for f in self.frames if not f.closed and not f.place and f.answered and f.options and f.id not in self.unwanted
                and f.stage.resource == name and any(self.may_start(f, i, high) for i in ([f.next] if f.parts else f.options))}

    # Actions ----------------------------------------------------------------------------------------------------------

    def on_wake(self, action: Action, _: Action | None) -> None:
        assert action.at_ns > self.now, "a wake-up in the past"

    def on_start(self, action: Action, _: Action | None) -> None:
        frame, place = self.frame(action.job), (action.resource, action.unit)
        assert not frame.closed, "a stage of a frame that was answered or missed"
        assert frame.place is None, "two stages of a frame at once"
        assert place not in self.running and place not in self.gone, "two stages on a unit, or one on a unit that is gone"
        assert 0 <= action.unit < self.scenario.resources[action.resource], "no such unit"
        if not frame.answered:
            assert action.stage == frame.next, "a stage before its predecessor"
            assert not frame.out, "a frame that was given up goes on"
            assert self.splits or self.fault or frame.id in self.kept, "not asked whether to go on"
            self.kept.discard(frame.id)
            ahead = [other for other in self.frames if other.waits and other.stage.resource == action.resource and self.room(other.stage)
                     and self.urgency(other)[:2] < self.urgency(frame)[:2]]
            assert not ahead, "a mandatory stage before one that comes before it"
        else:
            assert action.stage in frame.options, "an optional stage that may not be next"
            assert not frame.parts or action.stage == frame.next, "another stage than the one that was interrupted"
            frame.next = action.stage
            stage, need = frame.stage, self.need(frame, action.stage)
            ahead = [other for other in self.frames if other.waits and other.stage.resource == stage.resource and self.room(other.stage)]
            assert not ahead, "an optional stage before a mandatory one"
            assert self.now + need <= frame.publish_at, "an optional stage that is expected to end too late"
            assert max(need, stage.wcet_ns) <= self.blocking.get(stage.resource, UNLIMITED), "a longer one than allowed"
            assert not self.must_yield(stage.resource), "it does not yield"
            assert not self.fault, "nobody can have chosen it"
        assert frame.stage.resource == action.resource and (not frame.stage.units or action.unit in frame.stage.units), "on the wrong unit"
        frame.place, frame.start = place, self.now
        self.running[place] = frame
        self.before.pop(action.resource, None)

    def on_preempt(self, action: Action, then: Action | None) -> None:
        place = action.resource, action.unit
        assert action.resource in self.scenario.preemptive, "a stage is interrupted where none may be"
        assert place in self.running, "a stage is interrupted that does not run there"
        frame = self.running[place]
        assert (frame.id, frame.next) == (action.job, action.stage), "a stage is interrupted that does not run there"
        urgent = [f for f in self.frames if f.waits and f.stage.resource == place[0] and not self.room(f.stage)
                  and (not f.stage.units or place[1] in f.stage.units) and self.urgency(f) < self.urgency(frame)]
        assert urgent, "a stage is interrupted for nothing"
        rivals = [other for (name, unit), other in self.running.items() if name == place[0] and (
            not urgent[0].stage.units or unit in urgent[0].stage.units)]
        assert len(urgent) > 1 or self.urgency(frame) == max(map(self.urgency, rivals)), "what is interrupted does not come last"
        del self.running[place]
        starts = then is not None and (then.kind, then.resource) == ("start", action.resource)
        assert starts or not self.splits, "interrupted, and nothing starts"
        self.rows.append(StageRow(frame.id, frame.stage.name, *place, frame.start, self.now, "preempted", 0.0))
        frame.parts.append(self.now - frame.start)
        frame.place = None
        self.met[f"preempted {'mandatory' if not frame.answered else frame.stream.kind}"] += 1
        self.before.pop(action.resource, None)

    def on_publish(self, action: Action, _: Action | None) -> None:
        frame = self.close(action)
        assert action.depth == frame.depth >= 0, "published with a depth that it does not have"
        assert self.now <= frame.due and self.now in (min(self.now, frame.publish_at), frame.completed), "published too late"
        if self.now >= frame.publish_at or not frame.options or frame.id in self.unwanted:
            return
        if self.fault and frame.id in self.ended:
            return
        high = self.before.setdefault(frame.stage.resource, {key: window.high for key, window in self.windows.items()})
        options = [frame.next] if frame.parts else frame.options
        assert not any(self.may_start(frame, i, high, soon=True) for i in options), "published though more would fit"
        self.doubt(frame, [frame.stage])
        self.met["too late for more"] += 1

    def on_miss(self, action: Action, _: Action | None) -> None:
        frame = self.close(action)
        assert action.depth == frame.depth, "missed with a depth that it does not have"
        assert (self.now > frame.due or (frame.depth < 0 and self.now == frame.due)), "missed too soon"
        assert self.now == max(frame.due, self.at[frame.index, frame.number]["arrival_ns"]), "a miss is stated at the deadline"

    def close(self, action: Action) -> Frame:
        frame = self.frame(action.job)
        assert not frame.closed, "two ends of a frame"
        assert not frame.place or self.now >= frame.publish_at, "it ends while it is refined"
        row = self.at[frame.index, frame.number]
        told = (0, self.now, frame.depth, frame.completed) if action.kind == "publish" else (1, -1, -1, -1)
        assert (row["status"], row["published_ns"], row["depth"], row["completed_ns"]) == told, "the row tells of another end"
        self.met[action.kind] += 1
        frame.closed = True
        return frame

    # What they rest on ------------------------------------------------------------------------------------------------

    def room(self, stage: Stage) -> bool:
        """Whether a unit that may run a stage is free."""
        return any((stage.resource, unit) not in self.running and (stage.resource, unit) not in self.gone
                   for unit in stage.units or range(self.scenario.resources[stage.resource]))

    def urgency(self, frame: Frame) -> tuple[int, ...]:
        """The least goes first: by rank, or by the deadline of its mandatory stage; optional ones come last."""
        if frame.answered:
            return (UNLIMITED,)
        local = self.options.get("local_ns", {}).get((frame.index, frame.next), frame.stream.deadline_ns)
        return self.ranks[frame.index] if self.ranks else frame.release + local, frame.release, frame.id

    def need(self, frame: Frame, index: int, high: dict[str, int] | None = None) -> int:
        """What an optional stage is expected to take, less what it has had."""
        name = frame.stream.stages[index].name
        return max(0, (high[name] if high else self.windows[name].high) - sum(frame.parts))

    def may_start(self, frame: Frame, index: int, high: dict[str, int] | None = None, soon: bool = False) -> bool:
        """The slack test, and a unit for it; `soon`: whether or not one is free yet."""
        stage, need = frame.stream.stages[index], self.need(frame, index, high)
        return (self.now + need <= frame.publish_at and max(need, stage.wcet_ns) <= self.blocking.get(stage.resource, UNLIMITED)
                and (soon or self.room(stage)))

    def must_yield(self, resource: str) -> bool:
        """Whether mandatory work waits or runs on a resource that goes first."""
        first = self.options.get("yields", {}).get(resource, ())
        return any(f.stage.resource in first and (f.waits or (f.place is not None and not f.answered)) for f in self.frames)

    def doubt(self, frame: Frame, stages: list[Stage]) -> None:
        """Stages did not start for lack of time; if their medians would have fitted, the longest durations may have been chance."""
        if self.now + sum(self.windows[stage.name].median for stage in stages) <= frame.publish_at:
            for stage in stages:
                self.windows[stage.name].doubt()
            self.met["doubts"] += 1


def check_rows(world: World, result: Simulation, model: Model) -> None:
    """A row a frame, counters that add up to them, and busy times that add up to the stages."""
    rows = result.frames
    assert rows is not None
    assert len(rows) == result.captured <= world.frames, "captured counts other than the rows"
    assert result.captured == sum(result.answered) + result.missed + result.dropped, "captured = answered + missed + dropped, in all"
    order = rows[["arrival_ns", "stream", "frame"]].tolist()
    assert order == sorted(order), "rows are not in order of arrival"
    assert (rows["job"] >= 0).sum() == len(model.frames) == result.delivered, "delivered counts other than the releases"
    for i, (source, totals) in enumerate(zip(world.scenario.sources, result.streams)):
        mine = sorted((row for row in rows.tolist() if row[0] == i), key=lambda row: row[1])
        assert [row[1] for row in mine] == list(range(len(mine))), "a frame without a row"
        counted = sum(totals.answered) + totals.missed + totals.dropped
        assert totals.captured == counted == len(mine), "captured = answered + missed + dropped, of a stream"
        assert len(totals.answered) == source.stream.deepest + 1, "counters of other depths"
        assert totals.answered == [sum(row[10] == 0 and row[9] == d for row in mine) for d in range(source.stream.deepest + 1)], "answered"
        assert (totals.missed, totals.dropped) == tuple(sum(row[10] == kind for row in mine) for kind in (1, DROPPED)), "missed or dropped"
        assert abs(totals.utility - sum(row[12] for row in mine)) < 1e-9 * (1 + len(mine)), "utility is not the sum of the rows"
        assert totals.correct == sum(row[13] == 1 for row in mine), "correct is not the sum of the rows"
        run = longest = 0
        for row in mine:
            run = run + (row[10] == 1) if row[10] else 0
            longest = max(longest, run)
            check_row(source, row)
        assert totals.longest_misses == longest, "the longest run of misses"
    for name in world.scenario.resources:
        assert result.busy_ns[name] == sum(row.end_ns - row.start_ns for row in model.rows if row.resource == name), "busy times"
    assert result.discarded == sum(row.status == "late" for row in model.rows), "discarded counts other than the late stages"
    mandatory = {stage.name for stream in world.scenario.streams for stage in stream.stages if stage.mandatory}
    assert set(result.overruns) <= mandatory, "overruns of optional stages"


def check_row(source: Source, row: tuple[Any, ...]) -> None:
    """What a frame showed, and what its answer is worth."""
    _, _, item, job, _, _, _, _, published, depth, status, sure, worth, right = row
    table = source.work.outcomes
    assert (status == DROPPED) == (job < 0), "a frame is dropped, or has a job"
    if status:
        assert (published, depth, worth) == (-1, -1, 0.0), "no answer, and it is worth something"
        assert right == (-1 if table is None or status == DROPPED else 0), "no answer is a wrong one, where there is a label"
        return
    assert sure == (0.0 if table is None else table.confidence[item][depth]), "the confidence of another answer"
    assert abs(worth - source.stream.reward.utility(depth, sure)) < 1e-9, "an answer is not worth what its reward says"
    assert right == (-1 if table is None else table.correct[item][depth]), "an answer is right where it is wrong"

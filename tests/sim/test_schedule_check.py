"""The checker of schedules sees what is wrong: a log or counters that are tampered with, and a scheduler that goes by other rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from imprecise import worlds
from imprecise.draws import Constant, Releases
from imprecise.model import Action, Reward, Stage, Stream
from imprecise.policies import make
from imprecise.scenario import Scenario, Source
from imprecise.simulation import Log, Simulation
from imprecise.simulator import simulate
from imprecise.workload import Workload
from random_worlds import World, world
from schedule_check import check, watch
from schedule_model import Asked


@pytest.fixture(autouse=True)
def few_frames_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds have tens of frames: drawing thousands ahead would take most of the time."""
    monkeypatch.setattr(worlds, "CHUNK", 256)


Seen = tuple[World, list[Asked], Simulation, Log]


def seen(made: World, as_if: World | None = None) -> Seen:
    """A simulation and all that the checker wants; `as_if`: the world that the checker is told it was."""
    policy, log = made.policy(), Log()
    asked = watch(policy)
    result = simulate(made.scenario, policy, made.seed, made.frames, log=log, faults=made.faults, options=made.options)
    return as_if or made, asked, result, log


# One log, wrong in one place ------------------------------------------------------------------------------------------


def two_cameras() -> World:
    """Mandatory 4 on the accelerator, optional 10 and 20 on the CPU, twice; both frames at 0, one more at 50; guard 2.

      0  frame 0 starts on fpga   4  frame 1 there, frame 0 on cpu   8  frame 1 waits for cpu   14 ...
    """
    sources = []
    for i, times in enumerate(((0, 50), (0,))):
        stages = (Stage(f"m{i}", "fpga", True, 4, 4), Stage(f"o{i}", "cpu", False, 10, 10), Stage(f"p{i}", "cpu", False, 20, 20))
        work = Workload(stages, tuple(Constant(stage.wcet_ns) for stage in stages), reward := Reward(prior=(0.5, 0.7, 0.9)))
        sources.append(Source(Stream(f"s{i}", 50, 40 + i, stages, 0, 1.0, reward), Releases(times), work))
    scenario = Scenario("two", tuple(sources), {"fpga": 1, "cpu": 1}, guard_ns=2)
    return World(scenario, lambda: make("fifo-gated"), "fifo-gated", 0, 9)


def at(log: Log, kind: str, job: int, stage: int = -1) -> tuple[int, int]:
    """The step and place of an action."""
    return next((i, k) for i, (_, _, actions) in enumerate(log.steps) for k, action in enumerate(actions)
                if action.kind == kind and action.job == job and stage in (-1, action.stage))


def change(log: Log, place: tuple[int, int], *others: Action) -> None:
    """Others instead of an action."""
    log.steps[place[0]][2][place[1]:place[1] + 1] = others


def action(log: Log, place: tuple[int, int]) -> Action:
    """The action of a place."""
    return log.steps[place[0]][2][place[1]]


def earlier(kind: str, job: int, stage: int = -1, by: int = 1) -> Callable[[Simulation, Log], None]:
    """An action happens so many steps earlier (negative: later)."""
    def tamper(result: Simulation, log: Log) -> None:
        place = at(log, kind, job, stage)
        what = action(log, place)
        change(log, place)
        log.steps[place[0] - by][2].append(what)

    return tamper


def other(what: str, of_job: int, of_stage: int = -1, **fields: Any) -> Callable[[Simulation, Log], None]:
    """An action with other fields."""
    return lambda _, log: change(log, place := at(log, what, of_job, of_stage), action(log, place)._replace(**fields))


def without(kind: str, job: int, stage: int = -1) -> Callable[[Simulation, Log], None]:
    """No such action."""
    return lambda _, log: change(log, at(log, kind, job, stage))


def twice(kind: str, job: int) -> Callable[[Simulation, Log], None]:
    """The same action again."""
    return lambda _, log: change(log, place := at(log, kind, job), action(log, place), action(log, place))


def swapped(_: Simulation, log: Log) -> None:
    """The two frames of the first instant change places on the accelerator."""
    one, two = at(log, "start", 0, 0), at(log, "start", 1, 0)
    a, b = action(log, one), action(log, two)
    change(log, one, b)
    change(log, two, a)


def interrupted(_: Simulation, log: Log) -> None:
    """The first optional stage is interrupted and goes on at once, when the second frame is ready."""
    step = at(log, "start", 0, 1)[0] + 1
    log.steps[step][2][:0] = [Action("preempt", 0, 1, "cpu", 0), Action("start", 0, 1, "cpu", 0)]


def longer(_: Simulation, log: Log) -> None:
    """A stage ends an instant later."""
    i = at(log, "start", 0, 1)[0]
    k = next(k for k in range(i + 1, len(log.steps)) if any(e.kind == "done" and (e.job, e.stage) == (0, 1) for e in log.steps[k][1]))
    now, events, actions = log.steps[k]
    log.steps[k] = now + 1, [event._replace(at_ns=now + 1) for event in events], actions


def counted(field: str, by: int, stream: int = 0) -> Callable[[Simulation, Log], None]:
    """A counter of a stream is off."""
    def tamper(result: Simulation, _: Log) -> None:
        totals = result.streams[stream]
        if field == "answered":
            totals.answered[0] += by
        else:
            setattr(totals, field, getattr(totals, field) + by)

    return tamper


def row(field: str, value: float) -> Callable[[Simulation, Log], None]:
    """A field of the first row is something else."""
    def tamper(result: Simulation, _: Log) -> None:
        assert result.frames is not None
        result.frames[field][0] = value

    return tamper


TAMPERED = {
    "two starts change places": (swapped, "a mandatory stage before one that comes before it"),
    "two stages overlap": (earlier("start", 1, 0), "two stages on a unit"),
    "two stages of a frame overlap": (earlier("start", 0, 2), "two stages of a frame at once"),
    "a start before the release": (earlier("start", 2, 0), "a frame before its release"),
    "a start before the stage before": (other("start", 0, 0, stage=1), "a stage before its predecessor"),
    "a start too late": (earlier("start", 2, 0, by=-1), "a mandatory stage waits beside a free unit"),
    "an optional start too late": (earlier("start", 0, 1, by=-1), "the choice of the policy is not started"),
    "no start": (without("start", 2, 0), "a mandatory stage waits beside a free unit"),
    "two starts": (twice("start", 0), "two stages of a frame at once"),
    "a stage on the wrong resource": (other("start", 0, 0, resource="cpu"), "on the wrong unit"),
    "a unit that there is not": (other("start", 0, 0, unit=1), "no such unit"),
    "another frame than the policy chose": (other("start", 0, 1, job=1), "the choice of the policy is not started"),
    "a stage is interrupted": (interrupted, "a stage is interrupted where none may be"),
    "a stage takes longer": (longer, "took 11, not 10"),
    "an answer is dropped": (without("publish", 0), "an answer was not published in time|nothing is left to do for a frame"),
    "the last answer is dropped": (without("publish", 2), "nothing is left to do for a frame"),
    "an answer twice": (twice("publish", 0), "two ends of a frame"),
    "an answer too soon": (earlier("publish", 1), "another end|while it is refined"),
    "an answer of another depth": (other("publish", 1, depth=2), "published with a depth that it does not have|another end"),
    "a miss that is none": (other("publish", 2, kind="miss"), "another end"),
    "a wake-up in the past": (lambda _, log: log.steps[2][2].append(Action("wake", at_ns=1)), "a wake-up in the past"),
    "an answer too many": (counted("answered", 1), "captured counts other than the rows"),
    "an answer is a miss": (lambda r, log: (counted("answered", -1)(r, log), counted("missed", 1)(r, log)), "answered"),
    "a dropped frame too many": (counted("dropped", 1), "captured"),
    "worth too much": (counted("utility", 1), "utility is not the sum of the rows"),
    "misses in a row": (counted("longest_misses", 1), "the longest run of misses"),
    "right too often": (counted("correct", 1), "correct is not the sum of the rows"),
    "a row of another depth": (row("depth", 0), "another end"),
    "a row that is published later": (row("published_ns", 39), "another end"),
    "a row of another deadline": (row("deadline_ns", 41), "captured, seen or due"),
    "a row worth more": (row("utility", 1.0), "an answer is not worth what its reward says|utility is not the sum"),
    "busy for longer": (lambda r, _: r.busy_ns.update(cpu=r.busy_ns["cpu"] + 1), "busy times"),
    "discarded too many": (lambda r, _: setattr(r, "discarded", 9), "discarded counts"),
    "a fault of no policy": (lambda r, _: setattr(r, "policy_fault", "it raised"), "a fault of the policy"),
    "a stage of another end": (lambda _, log: log.stages.pop(), "the stages of the log"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_wrong_with_a_log_is_named(what: str) -> None:
    made, asked, result, log = seen(two_cameras())
    assert check(made, asked, result, log).met["publish"] == 3
    tamper, message = TAMPERED[what]
    tamper(result, log)
    with pytest.raises(AssertionError, match=message):
        check(made, asked, result, log)


# Any log, wrong anywhere ----------------------------------------------------------------------------------------------


def tampered(random: Random, result: Simulation, log: Log) -> str:
    """One action, at random, is left out, doubled, moved a step later, or made another; which, and how."""
    places = [(i, k) for i, (_, _, actions) in enumerate(log.steps) for k, what in enumerate(actions) if what.kind != "wake"]
    place = random.choice(places)
    what = action(log, place)
    hows = ["left out", "doubled", "of another frame", "of another kind"] + ["later"] * (place[0] + 1 < len(log.steps))
    hows += ["of another stage", "of another unit"] if what.kind in ("start", "preempt") else ["of another depth"]
    how = random.choice(hows)
    if how in ("left out", "later"):
        change(log, place)
    if how == "later":
        log.steps[place[0] + 1][2].append(what)
    elif how == "doubled":
        change(log, place, what, what)
    elif how != "left out":
        kinds = {"publish": "miss", "miss": "publish", "start": "preempt", "preempt": "start"}
        others = {"frame": what._replace(job=what.job + random.choice([-1, 1])), "kind": what._replace(kind=kinds[what.kind]),
                  "stage": what._replace(stage=what.stage + 1), "unit": what._replace(unit=what.unit + 1),
                  "depth": what._replace(depth=what.depth + 1)}
        change(log, place, others[how.removeprefix("of another ")])
    return f"{what.kind} {how}"


def every_change_is_seen(seeds: range) -> Counter[str]:
    """Tamper with the log of each world; what was done, all of it seen."""
    done: Counter[str] = Counter()
    for seed in seeds:
        made, asked, result, log = seen(world(random := Random(seed), frames=12))
        if not any(what.kind != "wake" for _, _, actions in log.steps for what in actions):
            continue
        check(made, asked, result, log)
        for _ in range(3):
            copy = Log()
            copy.steps, copy.stages = [(now, events, list(actions)) for now, events, actions in log.steps], log.stages
            how = tampered(random, result, copy)
            with pytest.raises(AssertionError):
                check(made, asked, result, copy)
            done[how] += 1
    return done


def test_every_change_of_a_log_is_seen() -> None:
    done = every_change_is_seen(range(100))
    assert len(done) >= 14 and sum(done.values()) > 250, done


@pytest.mark.slow
def test_every_change_of_many_logs_is_seen() -> None:
    done = every_change_is_seen(range(1000, 3000))
    assert len(done) >= 20 and sum(done.values()) > 5000, done


# A scheduler that goes by other rules ---------------------------------------------------------------------------------


def told(**scenario: Any) -> Callable[[World], World]:
    """A world as if its scenario had these fields."""
    return lambda made: replace(made, scenario=replace(made.scenario, **scenario))


def optioned(**options: Any) -> Callable[[World], World]:
    """A world as if the engine had been told this."""
    return lambda made: replace(made, options={**made.options, **options})


def overhead(made: World) -> World:
    """A world as if each stage were dispatched an instant longer."""
    rules = made.scenario.conditions
    return told(conditions=replace(rules, overhead_ns=rules.overhead_ns + 1))(made)


SHOWN = "the policy is not shown what is ready"
RULES = {
    "a guard that is not kept": (told(guard_ns=5), "an answer was not published in time|published too late|expected to end too late"),
    "another order": (told(order="listed"), "a mandatory stage before one that comes before it"),
    "nothing may be interrupted": (told(preemptive=()), "a stage is interrupted where none may be"),
    "all may be interrupted": (told(preemptive=("cpu", "dma", "fpga")), "a mandatory stage waits for what it should interrupt"),
    "a limit that is not kept": (optioned(blocking_ns={"cpu": 3, "dma": 3, "fpga": 3}), f"a longer one than allowed|{SHOWN}"),
    "a resource that goes first": (optioned(yields={"cpu": ("fpga", "dma", "cpu")}), f"it does not yield|{SHOWN}"),
    "a quantile of durations": (optioned(quantile=0.99), f"end too late|{SHOWN}"),
    "a policy that treats frames as one piece": (lambda made: made.with_policy("monolithic"), "asked|published|missed|not published|waits"),
    "other durations": (lambda made: replace(made, seed=made.seed + 1), r"took \d+, not \d+"),
    "an overhead": (overhead, r"took \d+, not \d+"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_not_kept_is_named(rule: str) -> None:
    """Worlds are simulated as they are and checked as if they had another rule: in several of them it is seen, and named."""
    other_rule, message = RULES[rule]
    found: Counter[bool] = Counter()
    for seed in range(400):
        made = world(Random(seed), frames=20)
        try:
            check(*seen(made, other_rule(made)))
        except AssertionError as error:
            found[bool(re.search(message, str(error)))] += 1
        if found[True] == 3:
            break
    assert found[True] == 3, found

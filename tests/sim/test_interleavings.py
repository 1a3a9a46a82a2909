"""Every course of events for a few jobs on two resources: all releases, durations, faults, losses and choices of a policy, one by one.

A run asks a tape for each choice; the tape counts through all of them, so that what is not asserted here does not happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from drive import drive, replayed
from imprecise.engine import Engine
from imprecise.model import Event, Job, Stage, Stream
from imprecise.policies.base import Policy


class Tape:
    """Answers questions from a list, the first choice beyond its end; `advance` makes the next list, False after the last."""

    def __init__(self) -> None:
        self.choices: list[list[int]] = []  # [taken, of how many]
        self.at = 0

    def ask(self, options: Sequence[Any]) -> Any:
        if self.at == len(self.choices):
            self.choices.append([0, len(options)])
        taken, count = self.choices[self.at]
        assert count == len(options), "the same choices must lead to the same questions"
        self.at += 1
        return options[taken]

    def advance(self) -> bool:
        while self.choices and self.choices[-1][0] + 1 == self.choices[-1][1]:
            self.choices.pop()
        if self.choices:
            self.choices[-1][0] += 1
        self.at = 0
        return bool(self.choices)


class AnyChoice(Policy):
    """Any choice at all: one of the ready jobs, or none."""

    name = "any"

    def __init__(self, tape: Tape):
        self.tape = tape

    def wants(self, job: Job, engine: Engine) -> bool:
        return bool(self.tape.ask((True, False)))

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        return self.tape.ask((*ready, None))


def courses(jobs: int, offsets: Sequence[int], durations: Sequence[int], faults: Sequence[str], losses: Sequence[int | None],
            free_policy: bool) -> Iterator[tuple[Tape, Any, Engine, int]]:
    """Every run: (tape, run, engine, how many faults there were)."""
    stages = (Stage("m", "fpga", True, 3, 3), Stage("o", "cpu", False, 3, 1))
    streams = [Stream(f"s{i}", 8, 12, stages) for i in range(jobs)]
    tape = Tape()
    while True:
        when = [tape.ask(offsets) for _ in range(jobs)]
        lost_at = tape.ask(losses)
        extra = [] if lost_at is None else [(lost_at, Event("lost", lost_at, resource="fpga", unit=0)),
                                            (lost_at + 4, Event("back", lost_at + 4, resource="fpga", unit=0))]
        policy: Policy = AnyChoice(tape) if free_policy else _Fifo()
        engine = Engine(streams, {"fpga": 1, "cpu": 1}, policy, guard_ns=1)
        left = [1 if faults else 0]

        def fault(job: Job, stage: Stage, left: list[int] = left) -> str:
            kind = tape.ask(("", *faults)) if left[0] else ""
            left[0] -= bool(kind)
            return kind

        releases = sorted((at, at, i, 0) for i, at in enumerate(when))
        run = drive(engine, releases, lambda job, stage: tape.ask(durations), fault=fault, extra=extra)
        yield tape, run, engine, run.faults + len(extra)
        if not tape.advance():
            return


class _Fifo(Policy):
    name = "fifo"

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        return ready[0]


def check(jobs: int, *how: Any) -> int:
    """Assert what must hold in every course; how many there are. `drive` asserts the engine's rules at each step."""
    count = 0
    for tape, run, engine, faults in courses(jobs, *how):
        count += 1
        assert sorted(run.closed) == list(range(jobs)) and not engine.jobs, f"a job without an end: {tape.choices}"
        assert not engine.policy_fault and (faults or not engine.stale)
        for job, (kind, depth, when) in run.closed.items():
            assert kind != "publish" or (depth >= 0 and when <= 12 + max(how[0])), tape.choices
            if not faults:  # three of 3 fit into 12 less the guard, with what may be in the way
                assert kind == "publish", f"job {job} missed without a fault: {tape.choices}"
    return count


def test_every_course_of_two_jobs() -> None:
    """All durations, one fault of any kind at any stage, a loss of the accelerator, any policy."""
    assert check(2, (0, 2), (1, 3), ("failed", "abandoned"), (None, 1), True) > 2_000


@pytest.mark.slow
def test_every_course_of_two_and_three_jobs() -> None:
    """Two jobs with everything; three with faults and losses under one policy, and under any policy without them."""
    assert check(2, (0, 1, 2), (1, 3), ("failed", "abandoned"), (None, 0, 1, 2, 4), True) > 20_000
    assert check(3, (0, 1, 3), (1, 3), ("failed", "abandoned"), (None, 1, 2, 4), False) > 20_000
    assert check(3, (0, 1), (1, 3), (), (None,), True) > 20_000


def test_a_course_replays_action_for_action() -> None:
    """The recorded events through a fresh engine with the same policy answers."""
    for number, (_, run, engine, _) in enumerate(courses(2, (0, 2), (1, 3), ("failed", "abandoned"), (None, 1), False)):
        again = replayed(lambda engine=engine: Engine(engine.streams, {"fpga": 1, "cpu": 1}, _Fifo(), guard_ns=1), run)
        assert again == [actions for _, _, actions in run.steps], number

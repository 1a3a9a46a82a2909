"""A policy that raises, chooses what it may not or never returns is ended and named, and mandatory work goes on."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from imprecise import policies, watchdog
from imprecise.engine import Engine
from imprecise.model import Event, Job, Stage, Stream
from imprecise.policies.base import Policy
from imprecise.scenario import load
from imprecise.simulator import simulate

MS = 10**6
LIMIT_NS = 20 * MS


class First(Policy):
    name = "first"

    def pick(self, ready, engine):
        return ready[0]


class Remembers(First):
    def closed(self, job, engine):
        self.last = job.id


def line_of(text):
    """The line of this file that holds a text, this call aside."""
    return next(i for i, line in enumerate(open(__file__), 1) if text in line and "line_of" not in line)


class Spins(First):
    def pick(self, ready, engine):
        while True:  # spins here
            pass


class Sleeps(First):
    def pick(self, ready, engine):
        time.sleep(60)  # sleeps here


class Stubborn(First):
    def pick(self, ready, engine):
        while True:
            with contextlib.suppress(BaseException):
                sum(range(1000))


class StubbornBare(First):
    def pick(self, ready, engine):
        while True:
            try:
                sum(range(1000))
            except:  # noqa: E722
                self.nothing = True


class Late(First):
    def pick(self, ready, engine):
        try:
            time.sleep(60)
        except BaseException:
            return ready[0]


class Elsewhere(First):
    def pick(self, ready, engine):
        return min(range(10**12), key=lambda number: number)  # elsewhere here


class SpinsInWants(First):
    def wants(self, job, engine):
        while True:  # wants here
            pass


class SpinsInClosed(First):
    def closed(self, job, engine):
        while True:  # closed here
            pass


class SpinsInKeeps(First):
    splits = False

    def keeps(self, job, engine):
        while True:  # keeps here
            pass


class SpinsInBool(First):
    def wants(self, job, engine):
        return self

    def __bool__(self):
        while True:  # bool here
            self.nothing = True
        return True


@pytest.mark.parametrize(("policy", "method", "place"), [
    (Spins, "pick", "# spins here"), (Sleeps, "pick", "# sleeps here"), (Stubborn, "pick", ""), (StubbornBare, "pick", ""),
    (Late, "pick", ""),
    (Elsewhere, "pick", "# elsewhere here"), (SpinsInWants, "wants", "# wants here"), (SpinsInClosed, "closed", "# closed here"),
    (SpinsInKeeps, "keeps", "# keeps here"), (SpinsInBool, "wants", "# bool here")])
def test_what_never_returns_is_ended_and_named_and_mandatory_work_goes_on(policy, method, place):
    world = load("made-up", load=2.0)
    before = time.monotonic()
    result = simulate(world, watchdog.guard(policy(), LIMIT_NS), 0, 60)
    assert time.monotonic() - before < 30
    found = re.fullmatch(rf"PolicyFault: policy 'first' \((.*):(\d+)\) did not return from {method} within 20 ms", result.policy_fault)
    assert found and found[1] == __file__, result.policy_fault
    if place:
        assert abs(int(found[2]) - line_of(place)) <= 1  # a loop's body is the line below
    if policy.splits:
        assert result.missed == 0 and result.answered[0] > 40
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class Raises(First):
    def pick(self, ready, engine):
        raise RuntimeError("one\ntwo")  # raises here


class Exits(First):
    def pick(self, ready, engine):
        sys.exit(3)  # exits here


class Deep(First):
    def pick(self, ready, engine):
        return self.pick(ready, engine)


class Mute(First):
    def pick(self, ready, engine):
        class Unspeakable(Exception):
            def __str__(self):
                raise RuntimeError("no")

        raise Unspeakable


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        return True

    __hash__ = None


class ChoosesNonsense(First):
    def pick(self, ready, engine):  # nonsense here
        return Unprintable()


class ChoosesForgery(First):
    def pick(self, ready, engine):
        ready.append(Job(77, 0, ready[0].stream, 0, 0, 0, (0,)))
        return ready[-1]


class ChoosesStage(First):
    def pick(self, ready, engine):
        return ready[0], 99


@pytest.mark.parametrize(("policy", "told", "place"), [
    (Raises, "raised RuntimeError: one two in pick", "# raises here"), (Exits, "raised SystemExit: 3 in pick", "# exits here"),
    (Deep, "raised RecursionError", ""), (Mute, "raised Unspeakable in pick", ""),
    (ChoosesNonsense, "chose a value of type Unprintable, which is not ready in pick", "# nonsense here"),
    (ChoosesForgery, "chose job 77, which is not ready", ""), (ChoosesStage, "stage 99, which is not ready", "")])
def test_what_raises_or_chooses_what_it_may_not_is_named_and_mandatory_work_goes_on(policy, told, place):
    result = simulate(load("made-up", load=2.0), watchdog.guard(policy(), LIMIT_NS), 0, 60)
    assert told in result.policy_fault and f"policy 'first' ({__file__}:" in result.policy_fault and "\n" not in result.policy_fault
    if place:
        assert f"({__file__}:{line_of(place)})" in result.policy_fault
    assert result.missed == 0 and result.answered[0] > 40


def test_a_stall_of_the_machine_is_not_the_policys_fault():
    """A process of its own is stopped for a second while its policy computes for 0.1 s: longer than the limit, and no fault."""
    code = textwrap.dedent(f"""
        import os, signal, sys, time
        sys.path[:0] = {sys.path!r}
        from imprecise import watchdog
        from imprecise.policies.base import Policy
        from imprecise.scenario import load
        from imprecise.simulator import simulate

        class Stalled(Policy):
            asked = 0
            def pick(self, ready, engine):
                self.asked += 1
                if self.asked == 5:
                    if os.fork() == 0:
                        time.sleep(0.02); os.kill(os.getppid(), signal.SIGSTOP); time.sleep(1); os.kill(os.getppid(), signal.SIGCONT)
                        os._exit(0)
                    end = time.process_time() + 0.05
                    while time.process_time() < end: pass
                return ready[0]

        policy = Stalled()
        result = simulate(load("made-up", load=2.0), watchdog.guard(policy, 800_000_000), 0, 60)
        assert policy.asked > 10 and result.policy_fault == "", result.policy_fault
    """)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_shipped_policies_are_not_wrapped_and_a_watched_one_is_seen_through():
    shipped = policies.make("threshold")
    assert watchdog.guard(shipped, LIMIT_NS) is shipped
    watched = watchdog.guard(First(), LIMIT_NS)
    assert watchdog.guard(watched, LIMIT_NS) is watched and watched.note == ""
    assert (watched.name, watched.splits, watched.guarantees, watched.needs_oracle) == ("first", True, True, False)
    watched.oracle = len
    assert watched.policy.oracle is len
    assert watchdog.guard(SpinsInKeeps(), LIMIT_NS).guarantees is False
    with pytest.raises(ValueError, match="limit_ns"):
        watchdog.guard(First(), 0)


def test_a_watched_policy_decides_as_it_would_unwatched():
    world = load("made-up", load=2.0)
    for policy in (First, Remembers):
        plain, watched = (simulate(world, p, 1, 80).frames.tolist() for p in (policy(), watchdog.guard(policy(), LIMIT_NS)))
        assert plain == watched
    remembers = Remembers()
    simulate(world, watchdog.guard(remembers, LIMIT_NS), 1, 80)
    assert remembers.last > 70


def test_where_nothing_can_be_timed_the_policy_runs_unwatched_and_it_is_said():
    notes = []

    def elsewhere():
        watched = watchdog.guard(First(), LIMIT_NS)
        notes.append((watched.note, simulate(load("made-up", load=2.0), watched, 0, 30).policy_fault))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert notes == [("policies are not timed: this is not the main thread", "")]
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        assert watchdog.guard(First(), LIMIT_NS).note == "policies are not timed: SIGALRM is in use"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_live_limit_leaves_half_the_guard():
    assert [watchdog.live_limit_ns(ns) for ns in (0, 4 * MS, 100 * MS)] == [MS, 2 * MS, 5 * MS]


def test_an_unguarded_engine_names_a_fault_too():
    engine = Engine([Stream("s", 33 * MS, 33 * MS, (Stage("m", "fpga", True, MS, MS), Stage("o", "cpu", False, MS, MS)))],
                    {"fpga": 1, "cpu": 1}, Raises())
    engine.step(0, [Event("release", 0, stream=0, frame=0)])
    engine.step(MS, [Event("done", MS, job=0, stage=0, resource="fpga", unit=0, value=0.5)])
    assert "RuntimeError" in engine.policy_fault
    assert [(a.kind, a.depth) for a in engine.step(33 * MS)] == [("publish", 0)]

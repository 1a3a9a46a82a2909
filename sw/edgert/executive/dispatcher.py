"""The dispatcher: asks what happened, tells the engine, does what it says. One thread, one loop, nothing else in the process.

    wait until something is due or a worker reports  ->  events  ->  engine.step  ->  publish, start stages, infer

Frames are released at their scheduled capture time whatever else happens, and a release that was seen late keeps its scheduled
time: latency counts from there (no coordinated omission). The accelerator computes in line: it is one resource, never interrupted.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imprecise.engine import Engine
from imprecise.model import NEVER_NS, Action, Event

from ..errors import AcceleratorError
from ..results.record import FrameRow, Recorder, StageRow
from .pool import Pool
from .watch import Watch

if TYPE_CHECKING:
    from ..sources.base import Source
    from .fallback import MandatoryEngine

GIVE_UP_TIMES, GIVE_UP_LEAST_NS = 10, 100_000_000  # a stage is given up after 10 times its usual duration, not before 100 ms
STATE_EVERY_NS = 1_000_000_000  # how often assumptions and counters go to the record, for a run that is killed
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FPGA, CPU = "fpga", "cpu"


@dataclass
class Feed:
    """A stream being released: frame `frame` is captured at `next_ns`."""

    index: int
    name: str
    source: Source
    period_ns: int
    deadline_ns: int
    next_ns: int
    frame: int = 0


@dataclass
class Frame:
    """A frame in hand. `logits` float32 [classes] are those of the stages done so far."""

    feed: Feed
    number: int
    item: int
    label: int
    pixels: np.ndarray
    release_ns: int
    arrival_ns: int
    logits: np.ndarray | None = None
    done: int = 0
    answer: int = -1
    confidence: float = 0.0
    completed_ns: int = -1
    closed: bool = False


class Dispatcher:
    """Runs `engine` on the monotonic clock until its feeds end, then until every frame in hand is closed."""

    def __init__(self, engine: Engine, feeds: Sequence[Feed], mandatory: MandatoryEngine, pool: Pool | None, recorder: Recorder,
                 watch: Watch, temperature: Sequence[float], logit_scale: float, standby_limit_ns: int = 0):
        self.engine, self.feeds, self.mandatory, self.pool = engine, list(feeds), mandatory, pool
        self.recorder, self.watch = recorder, watch
        self._temperature = [np.float32(t) for t in temperature]
        self._scale = np.float32(logit_scale)
        stage = engine.streams[0].stages[0]
        self._first_stage = stage.name
        self._limits_ns = (stage.wcet_ns, standby_limit_ns or stage.wcet_ns)
        self._busy_until_ns = 0  # end of the last stage in line: what happened before was seen when it ended
        self._open: dict[int, Frame] = {}
        self._running: dict[tuple[str, int], tuple[Frame, int, int, int]] = {}  # unit -> frame, job, stage, start
        self._pending: list[Event] = []  # of the accelerator, for the next step
        self._wake_ns = NEVER_NS
        self._end_ns = 0
        self._step = self._next_job = 0
        self.stopped_by = 0  # the signal that ended the run early
        self.counts = {"captured": 0, "answered": 0, "missed": 0, "dropped": 0}
        self._signal_fd = -1

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, end_ns: int) -> None:
        """Release frames until `end_ns` (monotonic) or a signal, then finish those in hand."""
        self._end_ns = end_ns
        self._signal_fd, wake_fd = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._stop) for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN}
        state_ns = time.monotonic_ns() + STATE_EVERY_NS
        try:
            while self._open or self._running or self._pending or self._next_release_ns() != NEVER_NS:
                now_ns, events = self._gather()
                if events or now_ns >= self._wake_ns:
                    self._decide(now_ns, events)
                if now_ns >= state_ns:
                    state_ns = now_ns + STATE_EVERY_NS
                    self.write_state()
                if self.mandatory.may_repair(now_ns, min(self._next_release_ns(), self._wake_ns)):
                    self._repair()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._signal_fd)
            os.close(wake_fd)
        self.write_state()

    def _stop(self, number: int, _: Any) -> None:
        self.stopped_by = self.stopped_by or number
        self._end_ns = 0  # nothing more is released

    def _next_release_ns(self) -> int:
        return min((feed.next_ns for feed in self.feeds if feed.next_ns < self._end_ns), default=NEVER_NS)

    def _gather(self) -> tuple[int, list[Event]]:
        """Wait for what comes next; the time and everything that has happened by then, what ended first, then what arrived."""
        due_ns = min(self._wake_ns, self._next_release_ns())
        fds = [self._signal_fd]
        if self.pool is not None:
            due_ns = min(due_ns, self.pool.next_give_up_ns())
            fds += self.pool.fds
        wait_ns = 0 if self._pending else max(0, due_ns - time.monotonic_ns())
        readable, _, _ = select.select(fds, [], [], min(wait_ns, STATE_EVERY_NS) / 1e9)
        now_ns = time.monotonic_ns()
        if wait_ns and now_ns >= due_ns and not readable:
            self.watch.waking.add(now_ns - due_ns)
            self._seen(due_ns, now_ns)
        if self._signal_fd in readable:
            os.read(self._signal_fd, 512)
        events, self._pending = self._pending, []
        if self.pool is not None:
            for ended in [*self.pool.read(readable), *self.pool.overdue(now_ns)]:
                events.append(self._ended(ended))
        arrivals = []
        for feed in self.feeds:
            while feed.next_ns <= now_ns and feed.next_ns < self._end_ns:
                arrivals.append((feed.next_ns, feed.index, feed.frame))
                feed.next_ns += feed.period_ns
                feed.frame += 1
        for release_ns, index, number in sorted(arrivals):
            events += self._arrived(self.feeds[index], number, release_ns, now_ns)
        return time.monotonic_ns() if events else now_ns, events

    def _seen(self, at_ns: int, now_ns: int) -> None:
        """Watch how late what is due at `at_ns` is handled; while a stage runs in line everything waits for it, which is allowed for."""
        late_ns = max(0, now_ns - max(at_ns, self._busy_until_ns))
        self.watch.check("preempt", "", late_ns)
        if not self.watch.check("wake-up", "", late_ns):
            self.recorder.stall(now_ns, late_ns, "dispatcher")

    def _decide(self, now_ns: int, events: list[Event]) -> None:
        if now_ns >= self._wake_ns:
            self._wake_ns = NEVER_NS
        actions = self.engine.step(now_ns, events)
        decided_ns = time.monotonic_ns()
        inference: Action | None = None
        closed = []
        for action in actions:
            if action.kind in ("publish", "miss"):
                closed.append((action, time.monotonic_ns()))
            elif action.kind == "wake":
                self._wake_ns = action.at_ns
            elif action.resource == FPGA:
                inference = action
            else:
                self._start(action, now_ns)
        for action, at_ns in closed:
            self._close(action, at_ns)
        self.recorder.step(self._step, now_ns, events, actions)
        self._step += 1
        self.watch.deciding.add(decided_ns - now_ns)
        if inference is not None:
            self._infer(inference, now_ns)

    # What happened ----------------------------------------------------------------------------------------------------

    def _arrived(self, feed: Feed, number: int, release_ns: int, now_ns: int) -> list[Event]:
        """Take a frame from its source; one that is not delivered is dropped and never reaches the engine."""
        self.counts["captured"] += 1
        self.watch.check("period", feed.name, feed.period_ns if number else NEVER_NS)
        self.watch.check("jitter", feed.name, 0)  # paced by this clock: what is late is the dispatcher, and watched as that
        taken = feed.source.frame(number)
        if taken is None:
            self.counts["dropped"] += 1
            self.recorder.frame(FrameRow(feed.name, number, -1, -1, release_ns, now_ns, release_ns + feed.deadline_ns, -1, -1, -1,
                                         "dropped", -1, -1, 0.0, 0.0, None))
            return []
        self._open[self._next_job] = Frame(feed, number, int(taken.item), int(taken.label), taken.pixels, release_ns, now_ns)
        self._next_job += 1  # as the engine numbers them
        return [Event("release", release_ns, stream=feed.index, frame=number)]

    def _ended(self, ended: Any) -> Event:
        """A worker's report as an event; the outputs of a stage that is done are added to its frame's logits."""
        unit = (CPU, ended.unit)
        if ended.kind in ("lost", "back"):
            return Event(ended.kind, ended.at_ns, resource=CPU, unit=ended.unit)
        assert self.pool is not None
        frame, job, stage, start_ns = self._running.pop(unit)
        if ended.kind == "done":
            now_ns = time.monotonic_ns()
            self._seen(ended.at_ns, now_ns)
            self.watch.check("blocking", CPU, ended.at_ns - start_ns)
            self.watch.to_worker.add(ended.start_ns - start_ns)
            self.watch.from_worker.add(now_ns - ended.at_ns)
            self._better(frame, self.pool.output(ended.unit), ended.at_ns)
        self._stage_ended(frame, job, stage, unit, start_ns, ended.at_ns, ended.kind)
        return Event(ended.kind, ended.at_ns, job=job, stage=stage, resource=CPU, unit=ended.unit,
                     value=frame.confidence if ended.kind == "done" else 0.0)

    def _better(self, frame: Frame, logits: np.ndarray, at_ns: int) -> None:
        """Add a stage's logits; the answer and its calibrated confidence follow. A closed frame's answer is out already."""
        total = logits.copy() if frame.logits is None else frame.logits + logits
        frame.logits = total
        frame.done += 1
        depth = min(frame.done, len(self._temperature)) - 1
        scaled = np.exp((total - total.max()) / self._temperature[depth])
        frame.confidence = float(1.0 / scaled.sum())
        if not frame.closed:
            frame.answer = int(total.argmax())
            frame.completed_ns = at_ns

    def _stage_ended(self, frame: Frame, job: int, stage: int, unit: tuple[str, int], start_ns: int, end_ns: int, kind: str) -> None:
        name = self.engine.streams[frame.feed.index].stages[stage].name
        status = "late" if frame.closed and kind == "done" else kind
        self.recorder.stage(StageRow(job, name, *unit, start_ns, end_ns, status, frame.confidence if kind == "done" else 0.0))

    # What to do -------------------------------------------------------------------------------------------------------

    def _start(self, action: Action, now_ns: int) -> None:
        assert self.pool is not None
        frame = self._open[action.job]
        stream = self.engine.streams[frame.feed.index]
        usual_ns = self.engine.estimate_ns(stream.stages[action.stage])
        self._running[CPU, action.unit] = (frame, action.job, action.stage, now_ns)
        self.pool.run(action.unit, action.stage - stream.mandatory, action.job, frame.pixels,
                      now_ns + max(GIVE_UP_LEAST_NS, GIVE_UP_TIMES * usual_ns))

    def _infer(self, action: Action, start_ns: int) -> None:
        """The mandatory stage, in line; how it ended is an event of the next step."""
        frame = self._open[action.job]
        unit = (FPGA, action.unit)
        event = Event("done", 0, job=action.job, stage=action.stage, resource=FPGA, unit=action.unit)
        begin_ns = time.monotonic_ns()
        self._seen(start_ns, begin_ns)
        self.watch.check("overhead", "", begin_ns - start_ns)
        try:
            logits = self.mandatory.infer(frame.pixels, frame.release_ns + frame.feed.deadline_ns)
        except AcceleratorError:
            self.watch.check("fault", "", 1)
            end_ns = self._busy_until_ns = time.monotonic_ns()
            self._stage_ended(frame, action.job, action.stage, unit, start_ns, end_ns, "failed")
            self._failed(event, end_ns)
            return
        end_ns = self._busy_until_ns = time.monotonic_ns()
        self.watch.check("fault", "", 0)
        self.watch.check("stage", self._first_stage, end_ns - begin_ns)
        self._better(frame, logits.astype(np.float32) * self._scale, end_ns)
        self._pending.append(event._replace(at_ns=end_ns, value=frame.confidence))
        self._stage_ended(frame, action.job, action.stage, unit, start_ns, end_ns, "done")

    def _failed(self, event: Event, at_ns: int) -> None:
        """One failure is tried again; then the stand-by takes over, in the same instant; without one the resource is lost."""
        if not self.mandatory.broken:
            self._pending.append(event._replace(kind="failed", at_ns=at_ns))
            return
        self._pending.append(event._replace(kind="lost", at_ns=at_ns, job=-1, stage=-1))
        if self.mandatory.take_over(at_ns):
            self.watch.limit("stage", self._first_stage, self._limits_ns[1])
            self._pending.append(Event("back", at_ns, resource=FPGA, unit=event.unit))

    def _repair(self) -> None:
        """Reset the first accelerator in a gap between frames, or now where nothing else computes the mandatory part."""
        lost = self.mandatory.lost
        if self.mandatory.repair():
            self.watch.limit("stage", self._first_stage, self._limits_ns[0])
            if lost:
                self._pending.append(Event("back", time.monotonic_ns(), resource=FPGA, unit=0))

    def _close(self, action: Action, at_ns: int) -> None:
        """Give an answer out, or state the miss."""
        frame = self._open.pop(action.job)
        frame.closed = True
        deadline_ns = frame.release_ns + frame.feed.deadline_ns
        due_ns = max(deadline_ns - self.engine.guard_ns, frame.completed_ns)
        if action.depth >= 0 and at_ns > due_ns:
            self._seen(due_ns, at_ns)  # deciding is part of handling: a stall in the middle of it shows here
        answered = action.kind == "publish" and at_ns <= deadline_ns
        if answered:
            self.counts["answered"] += 1
            utility = self.engine.streams[frame.feed.index].reward.utility(action.depth, frame.confidence)
            result = (frame.completed_ns, at_ns, action.depth, "answered", frame.label, frame.answer, frame.confidence, utility,
                      int(frame.answer == frame.label) if frame.label >= 0 else None)
        else:
            self.counts["missed"] += 1
            late_ns = at_ns if action.kind == "publish" else -1
            result = (frame.completed_ns, late_ns, -1, "missed", frame.label, -1, 0.0, 0.0, 0 if frame.label >= 0 else None)
        self.recorder.frame(FrameRow(frame.feed.name, frame.number, frame.item, action.job, frame.release_ns, frame.arrival_ns,
                                     deadline_ns, *result))

    def write_state(self) -> None:
        """Assumptions and counters as they are now, into the record."""
        for monitor in self.watch.monitors:
            self.recorder.assumption(monitor.row())
        values = {"discarded_stages": self.engine.discarded, "worker_restarts": self.pool.restarts if self.pool else 0,
                  "accelerator_errors": self.mandatory.errors, "accelerator_takeovers": self.mandatory.takeovers,
                  "accelerator_resets": self.mandatory.resets, "accelerator_failed_resets": self.mandatory.failed_resets,
                  "overshoots": self.mandatory.overshoots}
        for name, value in values.items():
            self.recorder.counter(name, int(value))

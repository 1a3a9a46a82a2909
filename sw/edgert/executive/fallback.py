"""The mandatory engine of a run, and what happens when it fails: a retry, the stand-by on the CPU, a reset when there is time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imprecise.admission import is_admitted
from imprecise.question import Question
from imprecise.units import format_ns

from ..errors import AcceleratorError, AcceleratorTimeout

if TYPE_CHECKING:
    import numpy as np

    from ..accelerators.base import Accelerator
    from ..bundle import Bundle

FAILURES = 2  # in a row, then the stand-by takes over; one that did not answer in time is not tried again
OFTEN, WINDOW_NS = 3, 60_000_000_000  # so many failures within so long, and it is left alone for a while even if it passes its test
COOL_DOWN_NS = 60_000_000_000
DETECTION_NS = 1_000_000  # a failure is known so long after the worst case, at the latest
FIRST_BACKOFF_NS, LAST_BACKOFF_NS = 1_000_000_000, 60_000_000_000


class MandatoryEngine:
    """An accelerator and a stand-by that computes the same bits.

    `infer` raises what the accelerator raises; `broken` then says whether it should be given up. `take_over` switches to the stand-by
    at once: it was opened and tested before the run. `repair` brings the first one back and tests it, in a gap between frames that
    is longer than that took before; less and less often where it does not help, and after a cool-down where it keeps failing. Where the
    accelerator can recover without being opened anew that is tried first.
    """

    def __init__(self, first: Accelerator, standby: Accelerator | None, bundle: Bundle,
                 test: Callable[[Any, Any], int], reset_ns: int, reopen_ns: int = 0, clock: Callable[[], int] = time.monotonic_ns):
        self.first, self.standby, self.active = first, standby, first
        self._bundle, self._test, self._clock = bundle, test, clock
        self._reset_ns, self._reopen_ns = reset_ns, max(reset_ns, reopen_ns)
        self._reopens = not hasattr(first, "recover")  # the next repair opens it anew
        self._row = 0
        self._failures: deque[int] = deque(maxlen=OFTEN)  # when the first one failed last
        self._overshoots_before = 0
        self._timed_out = False
        self.lost = False  # neither works
        self._backoff_ns = FIRST_BACKOFF_NS
        self._retry_at_ns = 0
        self.errors = self.takeovers = self.resets = self.failed_resets = 0
        self.last_error = ""

    def begin(self) -> None:
        """The run starts: what was counted before does not count."""
        self._overshoots_before = int(getattr(self.first, "overshoots", 0))

    @property
    def overshoots(self) -> int:
        """How often an emulated accelerator was later than the hardware would be, in this run."""
        return int(getattr(self.first, "overshoots", 0)) - self._overshoots_before

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 [classes] of a frame uint8 [h, w, c]. Raises AcceleratorError, AcceleratorTimeout."""
        try:
            logits = self.active.infer(frame, deadline_ns)
        except AcceleratorError as error:
            self.errors += 1
            self._row += 1
            self._timed_out = isinstance(error, AcceleratorTimeout)
            self.last_error = str(error)
            if not self.degraded:
                self._failures.append(self._clock())
            raise
        self._row = 0
        return logits

    @property
    def broken(self) -> bool:
        """It failed too often, in a row or within a while, or did not answer in time."""
        return self._row >= FAILURES or (self._row > 0 and (self._timed_out or self.often))

    @property
    def often(self) -> bool:
        """The first one failed `OFTEN` times within `WINDOW_NS`."""
        return len(self._failures) == OFTEN and self._clock() - self._failures[0] <= WINDOW_NS

    @property
    def degraded(self) -> bool:
        """The first accelerator is not in use."""
        return self.active is not self.first

    def take_over(self, now_ns: int) -> bool:
        """Switch to the stand-by; False where there is none left, and only a reset can help."""
        self._row = 0
        self.lost = self.standby is None or self.degraded
        self._retry_at_ns = now_ns if self.lost else now_ns + (max(COOL_DOWN_NS, self._backoff_ns) if self.often else self._backoff_ns)
        if self.standby is None or self.degraded:
            return False
        self.active = self.standby
        self.takeovers += 1
        return True

    def may_repair(self, now_ns: int, idle_until_ns: int) -> bool:
        """Whether a reset is due and fits before `idle_until_ns`; where nothing computes any more there is nothing to wait for."""
        needed_ns = self._reopen_ns if self._reopens else self._reset_ns
        return 0 < self._retry_at_ns <= now_ns and (self.lost or idle_until_ns - now_ns > needed_ns)

    def repair(self) -> bool:
        """Bring the first accelerator back and test it; True: it is in use again. Takes as long as that takes.

        What did not recover is closed and opened anew the next time.
        """
        start_ns = time.monotonic_ns()
        reopens = self._reopens
        self.resets += 1
        try:
            if reopens:
                self.first.close()
                self.first.open(self._bundle)
                self._test(self.first, self._bundle)
            else:
                self.first.recover(self._bundle)
        except AcceleratorError as error:
            self.failed_resets += 1
            self.last_error = str(error)
            self._backoff_ns = min(LAST_BACKOFF_NS, 2 * self._backoff_ns)
            self._retry_at_ns = self._clock() + self._backoff_ns
            self._reopens = True
            return False
        finally:
            took_ns = time.monotonic_ns() - start_ns
            if reopens:
                self._reopen_ns = max(self._reopen_ns, took_ns)
            else:
                self._reset_ns = max(self._reset_ns, took_ns)
        self._reopens = not hasattr(self.first, "recover")
        self.active = self.first
        self.lost = False
        self._row = 0
        self._retry_at_ns = 0
        return True

    def story(self, plan: Fallback) -> str:
        """What failed in a run and what was done about it; "": nothing failed."""
        if not self.errors:
            return ""
        text = f"{self.first.name} failed {self.errors} times, the last: {self.last_error}"
        if self.takeovers and self.standby is not None:
            text += f"; {self.standby.name} took over {self.takeovers} times, {plan.short}"
        if self.resets:
            text += f"; {self.resets - self.failed_resets} of {self.resets} resets brought it back"
        return text

    def close(self) -> None:
        """Close both."""
        self.first.close()
        if self.standby is not None:
            self.standby.close()


# Re-admission ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fallback:
    """What is proven for the time after a failure. `alone`: on the stand-by from its first frame on; `frame`: also for the frame that
    fails, which costs the accelerator's worst case, the detection and the stand-by's worst case, `frame_ns` together."""

    alone: bool
    frame: bool
    frame_ns: int

    @property
    def short(self) -> str:
        """In a few words."""
        return "proven in time" if self.frame else "in time after the frame that failed" if self.alone else "best effort from then on"

    def sentence(self, standby: str) -> str:
        """For people, before the run."""
        if self.frame:
            return f"stand-by {standby}: admitted too, a frame that fails included ({format_ns(self.frame_ns)} at most)"
        if self.alone:
            return f"stand-by {standby}: admitted too, but a frame that fails may be missed: {format_ns(self.frame_ns)} do not fit"
        return f"stand-by {standby}: not admitted, what runs on it is best effort"

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return dict(vars(self))


def readmit(asked: Question, wcet_ns: int, standby_wcet_ns: int) -> Fallback:
    """Ask admission again, with the stand-by in the accelerator's place, before the run: there is no time for it when it is needed."""
    frame_ns = wcet_ns + DETECTION_NS + asked.overhead_ns + standby_wcet_ns  # it is decided twice
    return Fallback(_admitted(asked, standby_wcet_ns), _admitted(asked, frame_ns), frame_ns)


def _admitted(asked: Question, wcet_ns: int) -> bool:
    streams = tuple(replace(s, stages=(replace(s.stages[0], wcet_ns=wcet_ns), *s.stages[1:])) for s in asked.streams)
    return is_admitted(replace(asked, streams=streams))

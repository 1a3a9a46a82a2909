"""The mandatory engine of a run, and what happens when it fails: a retry, the stand-by on the CPU, a reset when there is time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import AcceleratorError, AcceleratorTimeout

if TYPE_CHECKING:
    import numpy as np

    from ..accelerators.base import Accelerator
    from ..bundle import Bundle

FAILURES = 2  # in a row, then the stand-by takes over; one that did not answer in time is not tried again
FIRST_BACKOFF_NS, LAST_BACKOFF_NS = 1_000_000_000, 60_000_000_000


class MandatoryEngine:
    """An accelerator and a stand-by that computes the same bits.

    `infer` raises what the accelerator raises; `broken` then says whether it should be given up. `take_over` switches to the stand-by
    at once: it was opened and tested before the run. `repair` resets and tests the first one again, in a gap between frames that
    is longer than the reset took at the start, less and less often.
    """

    def __init__(self, first: Accelerator, standby: Accelerator | None, bundle: Bundle,
                 test: Callable[[Any, Any], int], reset_ns: int):
        self.first, self.standby, self.active = first, standby, first
        self._bundle, self._test, self._reset_ns = bundle, test, reset_ns
        self._row = 0
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
            raise
        self._row = 0
        return logits

    @property
    def broken(self) -> bool:
        """It failed too often in a row, or did not answer in time."""
        return self._row >= FAILURES or (self._row > 0 and self._timed_out)

    @property
    def degraded(self) -> bool:
        """The first accelerator is not in use."""
        return self.active is not self.first

    def take_over(self, now_ns: int) -> bool:
        """Switch to the stand-by; False where there is none left, and only a reset can help."""
        self._row = 0
        self.lost = self.standby is None or self.degraded
        self._retry_at_ns = now_ns if self.lost else now_ns + self._backoff_ns
        if self.standby is None or self.degraded:
            return False
        self.active = self.standby
        self.takeovers += 1
        return True

    def may_repair(self, now_ns: int, idle_until_ns: int) -> bool:
        """Whether a reset is due and fits before `idle_until_ns`; where nothing computes any more there is nothing to wait for."""
        return 0 < self._retry_at_ns <= now_ns and (self.lost or idle_until_ns - now_ns > self._reset_ns)

    def repair(self) -> bool:
        """Close, open and test the first accelerator; True: it is in use again. Takes as long as that takes."""
        start_ns = time.monotonic_ns()
        self.resets += 1
        try:
            self.first.close()
            self.first.open(self._bundle)
            self._test(self.first, self._bundle)
        except AcceleratorError as error:
            self.failed_resets += 1
            self.last_error = str(error)
            self._backoff_ns = min(LAST_BACKOFF_NS, 2 * self._backoff_ns)
            self._retry_at_ns = time.monotonic_ns() + self._backoff_ns
            return False
        finally:
            self._reset_ns = max(self._reset_ns, time.monotonic_ns() - start_ns)
        self.active = self.first
        self.lost = False
        self._row = 0
        self._retry_at_ns = 0
        return True

    def close(self) -> None:
        """Close both."""
        self.first.close()
        if self.standby is not None:
            self.standby.close()

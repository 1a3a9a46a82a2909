"""Emulated hardware keeps a promise: no answer before the hardware would have it, and whatever comes later is counted."""

from __future__ import annotations

import time

TRANSPORT_NS = 87_000  # what Python and DMA add to a call on a PYNQ-Z2, as published for hls4ml and FINN designs; not measured here
TOLERANCE_NS = 100_000  # an answer so much later than promised still counts as in time
SPIN_NS = 200_000  # the last part of a wait is spent looking at the clock: a sleep may end this much late
LIMIT_OF_OVERSHOOTS = 0.001


class Promise:
    """`inferences` and `overshoots` count since `reset_counts`."""

    def __init__(self) -> None:
        super().__init__()
        self.inferences = 0
        self.overshoots = 0

    def keep(self, due_ns: int) -> None:
        """Wait until an answer that is ready is due; count it, and whether it came too late."""
        wait_ns = due_ns - SPIN_NS - time.monotonic_ns()
        if wait_ns > 0:
            time.sleep(wait_ns / 1e9)
        while (now_ns := time.monotonic_ns()) < due_ns:
            pass
        self.inferences += 1
        if now_ns - due_ns > TOLERANCE_NS:
            self.overshoots += 1

    def reset_counts(self) -> None:
        """Count from here: self-tests and measurements before a run do not belong to it."""
        self.inferences = self.overshoots = 0

    @property
    def overshoot_ratio(self) -> float:
        """Share of answers that came later than promised; above `LIMIT_OF_OVERSHOOTS` a run is INVALID."""
        return self.overshoots / self.inferences if self.inferences else 0.0

"""`emulated`: stands in for the FPGA in time, on a machine without one. The bits come from the best CPU engine.

An answer comes out no earlier than

    cycles / clock + transport

after `infer` began: the cycles and clock that the bundle's `timing.json` gives for the accelerator, and what a call through
Python and DMA adds (87 us on a PYNQ-Z2, as published for hls4ml and FINN designs; `transport_ns` in `timing.json` replaces it). What
comes out later than that by more than the tolerance is an overshoot: the machine was slower than the hardware it stands for. A run with
more than 0.1 % of them is INVALID. Reports say "emulated" everywhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AcceleratorError, BundleError
from ._promise import LIMIT_OF_OVERSHOOTS, TOLERANCE_NS, TRANSPORT_NS, Promise
from .base import Accelerator, choose_cpu

if TYPE_CHECKING:
    from ..bundle import Bundle


class EmulatedAccelerator(Promise, Accelerator):
    """`promised_ns` is what the hardware would take."""

    name = "emulated"
    emulated = True

    def __init__(self) -> None:
        super().__init__()
        self.promised_ns = 0
        self._engine: Accelerator | None = None
        self._source = ""

    def open(self, bundle: Bundle) -> None:
        """Open the best CPU engine. Raises BundleError where `timing.json` lacks the cycles, AcceleratorMissing without an engine."""
        hardware = bundle.timing.get("hardware", {})
        try:
            cycles, clock_hz = int(hardware["cycles"]), int(hardware["clock_hz"])
            transport_ns = int(hardware.get("transport_ns", TRANSPORT_NS))
            if cycles <= 0 or clock_hz <= 0 or transport_ns < 0:
                raise ValueError("not positive")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"bundle {bundle.name!r}: timing.json has no usable cycles and clock_hz of the hardware ({error})",
                              "use --accelerator auto") from None
        self.promised_ns = -(-cycles * 1_000_000_000 // clock_hz) + transport_ns
        self._source = (f"{cycles} cycles at {clock_hz / 1e6:g} MHz ({hardware.get('source', 'no source')}) "
                        f"+ {transport_ns / 1e3:g} us of transport")
        self._engine, _ = choose_cpu(bundle)

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]` of a frame uint8 `[h, w, c]`, when the hardware would have them."""
        due_ns = time.monotonic_ns() + self.promised_ns
        if self._engine is None:
            raise AcceleratorError("accelerator 'emulated' is not open")
        logits = self._engine.infer(frame, deadline_ns)
        self.keep(due_ns)
        return logits

    def close(self) -> None:
        """Close the CPU engine; the counts stay."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def wcet_ns(self) -> tuple[int, str]:
        """The hardware's time with the tolerance: what comes later is counted as an overshoot."""
        return self.promised_ns + TOLERANCE_NS, f"emulated: {self._source}, + {TOLERANCE_NS / 1e3:g} us of tolerance"

    def about(self) -> str:
        """What is emulated, and what computes."""
        engine = self._engine.about() if self._engine else "closed"
        return f"emulated FPGA, {self._source}, computed by {engine}"


__all__ = ["ACCELERATOR", "LIMIT_OF_OVERSHOOTS", "TOLERANCE_NS", "TRANSPORT_NS", "EmulatedAccelerator"]
ACCELERATOR = EmulatedAccelerator

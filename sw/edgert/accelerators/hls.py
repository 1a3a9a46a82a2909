"""`hls`: hls4ml's C++ of the network, compiled for this processor by `edgert hw hls`: what the FPGA would compute, not when.

The library is looked for in the user's cache under the hash of the network, and loaded into this process: no hls4ml is needed for that. It
goes through the project's AXI wrapper, four bytes to a beat. Its time is this processor's (milliseconds a frame) and says nothing about an
FPGA: admission counts with it, and reports say "emulated".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AcceleratorError, AcceleratorMissing
from .base import Accelerator, check_frame, measured_wcet_ns

if TYPE_CHECKING:
    from ..bundle import Bundle


class HlsAccelerator(Accelerator):
    """Computes in this process, on one thread."""

    name = "hls"
    rank = 0
    emulated = True
    _emulation: Any = None

    def open(self, bundle: Bundle) -> None:
        """Load the compiled emulation. Raises AcceleratorMissing where there is none for this network."""
        try:
            from gateware.hls import emulation
        except ImportError as error:
            raise AcceleratorMissing(f"the generator of hardware is not installed ({error})", "pip install 'edgert[hw]'") from None
        make = f"edgert hw hls {bundle.path if bundle.path.name != bundle.name else bundle.name} -o DIR"
        try:
            self._emulation, self._record = emulation.cached(bundle.model_id, bundle.network)
        except emulation.EmulationError as error:
            raise AcceleratorMissing(str(error), f"compile it: {make}") from None
        self._bundle = bundle

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]` of a frame uint8 `[h, w, c]`; cannot be interrupted, so the deadline is not looked at."""
        if self._emulation is None:
            raise AcceleratorError("accelerator 'hls' is not open")
        check_frame(frame, self._bundle.input_shape)
        try:
            logits: np.ndarray = self._emulation(frame[None])[0]
        except RuntimeError as error:
            raise AcceleratorError(f"the emulation failed ({error})") from error
        return logits

    def close(self) -> None:
        """Forget the library; it stays in the process."""
        self._emulation = None

    def wcet_ns(self) -> tuple[int, str]:
        """Measured."""
        return measured_wcet_ns(self, self._bundle)

    def about(self) -> str:
        """What was compiled."""
        return f"C++ of hls4ml {self._record.get('hls4ml', '?')} ({self._record.get('backend', '?')}), emulated on this processor"


ACCELERATOR = HlsAccelerator

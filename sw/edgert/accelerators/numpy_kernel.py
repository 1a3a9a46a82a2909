"""`numpy`: the NumPy kernel. Slower than LiteRT, needs nothing installed, exact on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import AcceleratorError
from .base import Accelerator, check_frame, measured_wcet_ns

if TYPE_CHECKING:
    from modelkit.ternary.kernel import Kernel

    from ..bundle import Bundle


class NumpyAccelerator(Accelerator):
    """Computes in this process with `modelkit.ternary.kernel`. Set OPENBLAS_NUM_THREADS=1 for steady times."""

    name = "numpy"
    rank = 10
    _kernel: Kernel | None = None

    def open(self, bundle: Bundle) -> None:
        """Build the kernel."""
        from modelkit.ternary.kernel import Kernel

        self._bundle = bundle
        self._kernel = Kernel(bundle.network)

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits int8 `[classes]` of a frame uint8 `[h, w, c]`; cannot be interrupted, so the deadline is not looked at."""
        if self._kernel is None:
            raise AcceleratorError("accelerator 'numpy' is not open")
        check_frame(frame, self._bundle.input_shape)
        return self._kernel(frame)

    def close(self) -> None:
        """Drop the buffers."""
        self._kernel = None

    def wcet_ns(self) -> tuple[int, str]:
        """Measured."""
        return measured_wcet_ns(self, self._bundle)

    def about(self) -> str:
        """NumPy and its version."""
        return f"NumPy {np.__version__} kernel"


ACCELERATOR = NumpyAccelerator

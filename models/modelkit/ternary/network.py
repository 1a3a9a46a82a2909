"""The ternary network: an input shape and a list of layers, checked as a whole when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import attrs

from modelkit.ternary.layers import ACCUMULATOR_LIMIT, Dense, Layer, Shape

FRAME_MAX = 255

MAX_ACTIVATIONS = 1 << 24
"""Values of one activation (or frame) at most: what a file says cannot make an engine allocate without bound."""


def _shape(values: Sequence[int]) -> tuple[int, int, int]:
    shape = tuple(int(v) for v in values)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input_shape: expected (h, w, c), each at least 1, found {values}")
    return shape


@attrs.frozen(slots=False)
class Network:
    """Frames uint8 [n, h, w, c] in, int8 logits [n, classes] out; the float value of a logit is `int8 * 2^-logit_shift`.

    The last layer is a `Dense` with `bits` None and no other layer is. Raises ValueError, naming the layer, where shapes
    do not fit or where an accumulator could reach 2^24.
    """

    input_shape: tuple[int, int, int] = attrs.field(converter=_shape)
    layers: tuple[Layer, ...] = attrs.field(converter=tuple)
    logit_shift: int = attrs.field(default=0, converter=int)

    def __attrs_post_init__(self) -> None:
        if not self.layers or not isinstance(self.layers[-1], Dense) or self.layers[-1].bits is not None:
            raise ValueError("layers: the last layer must be Dense with bits None (the int8 logits)")
        if abs(self.logit_shift) > 24:
            raise ValueError(f"logit_shift: expected -24 to 24, found {self.logit_shift}")
        shape: Shape = self.input_shape
        if math.prod(shape) > MAX_ACTIVATIONS:
            raise ValueError(f"input_shape: {shape} has more than 2^24 values")
        largest = FRAME_MAX
        for index, layer in enumerate(self.layers):
            where = f"layer {index} ({type(layer).__name__})"
            try:
                shape = layer.output_shape(shape)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if math.prod(shape) > MAX_ACTIVATIONS:
                raise ValueError(f"{where}: its output {shape} has more than 2^24 values")
            worst = layer.worst_accumulator(largest)
            if worst >= ACCUMULATOR_LIMIT:
                raise ValueError(f"{where}: the accumulator can reach {worst}, expected less than 2^24")
            if index < len(self.layers) - 1 and getattr(layer, "bits", 8) is None:
                raise ValueError(f"{where}: only the last layer may have bits None")
            largest = layer.output_max(largest)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of the input and of each layer's output, without the batch: `len(layers) + 1` entries."""
        shapes: list[Shape] = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    @cached_property
    def maxima(self) -> tuple[int, ...]:
        """Largest value of the input and of each layer's output: 2^bits - 1 (127 for logits)."""
        maxima = [FRAME_MAX]
        for layer in self.layers:
            maxima.append(layer.output_max(maxima[-1]))
        return tuple(maxima)

    @property
    def output_shape(self) -> tuple[int]:
        """(classes,)."""
        return (self.shapes[-1][0],)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.shapes[-1][0]

    @cached_property
    def n_macs(self) -> int:
        """Multiply-accumulates of one frame, zero weights and padding included, pooling not counted."""
        return sum(layer.macs(shape) for layer, shape in zip(self.layers, self.shapes))

    @property
    def n_weights(self) -> int:
        """Number of weights, zeros included."""
        return sum(layer.weights.size for layer in self.layers if hasattr(layer, "weights"))

    @property
    def nonzeros(self) -> int:
        """Number of weights that are not 0."""
        return sum(layer.nonzeros for layer in self.layers)

    @cached_property
    def model_id(self) -> str:
        """sha256, in hex, of the bytes of `mandatory.npz`, which are a function of the network alone."""
        from modelkit.ternary import npz

        return npz.digest(npz.dumps(self))

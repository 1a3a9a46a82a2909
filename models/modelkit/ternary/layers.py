"""Layers of a ternary network: what they hold, what they accept, what they cost. Integers only, NHWC.

Every layer answers the same questions: `output_shape(shape)` (raises ValueError where the input does not fit),
`output_max(input_max)` (largest activation that it can give), `worst_accumulator(input_max)` (bound on every partial sum,
in any order of summation), `macs(shape)` and `nonzeros`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

ACCUMULATOR_LIMIT = 1 << 24
"""Accumulators stay below this, so that float32 holds every partial sum exactly (24 bits of significand)."""

MAX_SHIFT = 24
"""A larger shift would make every output 0, since an accumulator is below 2^24."""

Shape = tuple[int, ...]


def exact_integers(values: object, dtype: type, name: str) -> np.ndarray:
    """Return `values` as a read-only C-contiguous array of integer `dtype`; ValueError where a value would change."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, found {given.dtype}")
    array: np.ndarray = np.array(given, dtype=dtype, order="C")
    if not np.array_equal(array, given):
        raise ValueError(f"{name}: values {given.min()} to {given.max()} do not fit {np.dtype(dtype).name}")
    array.flags.writeable = False
    return array


def _ternary(values: object) -> np.ndarray:
    array = exact_integers(values, np.int8, "weights")
    if array.size == 0 or np.abs(array).max() > 1:
        raise ValueError(f"weights: expected at least one, each -1, 0 or +1, found {np.unique(array)[:8].tolist()}")
    return array


def _bias(values: object) -> np.ndarray:
    return exact_integers(values, np.int32, "bias")


def _shift(values: object) -> np.ndarray:
    array = exact_integers(values, np.int8, "shift")
    if array.size and (array.min() < 0 or array.max() > MAX_SHIFT):
        raise ValueError(f"shift: expected 0 to {MAX_SHIFT}, found {array.min()} to {array.max()}")
    return array


def _bits(value: int | None) -> int | None:
    if value is not None and not 1 <= value <= 8:
        raise ValueError(f"bits: expected 1 to 8, or None for the int8 logits of the last layer, found {value}")
    return None if value is None else int(value)


def _pad(values: Sequence[int]) -> tuple[int, int, int, int]:
    pad = tuple(int(v) for v in values)
    if len(pad) != 4 or min(pad) < 0:
        raise ValueError(f"pad: expected four counts >= 0 (top, bottom, left, right), found {values}")
    return pad


def _equal_arrays() -> Any:
    return attrs.cmp_using(eq=np.array_equal)


def _check_channels(layer: Conv | Depthwise | Dense) -> None:
    channels = layer.weights.shape[-1]
    for name in ("bias", "shift"):
        found = getattr(layer, name).shape
        if found != (channels,):
            raise ValueError(f"{name}: expected shape ({channels},), one per output channel, found {found}")


def _check_kernel(layer: Conv | Depthwise, dimensions: int) -> None:
    shape = layer.weights.shape
    if len(shape) != dimensions or shape[:2] not in ((1, 1), (3, 3)):
        raise ValueError(f"weights: expected {dimensions} dimensions and a kernel of 1x1 or 3x3, found shape {shape}")
    if layer.stride not in (1, 2):
        raise ValueError(f"stride: expected 1 or 2, found {layer.stride}")
    if max(layer.pad) >= shape[0]:
        raise ValueError(f"pad: expected less than the kernel size {shape[0]}, found {layer.pad}")


def _image(shape: Shape, channels: int | None = None) -> Shape:
    if len(shape) != 3 or (channels is not None and shape[2] != channels):
        wanted = "(h, w, c)" if channels is None else f"(h, w, {channels})"
        raise ValueError(f"expected an input of shape {wanted}, found {shape}")
    return shape


def _windows(length: int, size: int, stride: int) -> int:
    if length < size:
        raise ValueError(f"the (padded) input of length {length} is smaller than the window of {size}")
    return (length - size) // stride + 1


class _Weighted:
    """What the three layers with weights share: bits, saturation, bound of the accumulator."""

    weights: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    bits: int | None

    @property
    def nonzeros(self) -> int:
        """Number of weights that are not 0."""
        return int(np.count_nonzero(self.weights))

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[-1])

    def output_max(self, input_max: int) -> int:
        """Largest output: 2^bits - 1, or 127 for logits; `input_max` plays no part."""
        return 127 if self.bits is None else (1 << self.bits) - 1

    def worst_accumulator(self, input_max: int) -> int:
        """Bound on |any partial sum|: sum(|w|) * input_max + |bias|, the largest over the channels."""
        taps = np.count_nonzero(self.weights.reshape(-1, self.channels), axis=0).astype(np.int64)
        return int((taps * input_max + np.abs(self.bias.astype(np.int64))).max())


class _Windowed(_Weighted):
    """A convolution's geometry."""

    stride: int
    pad: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Side of the square kernel."""
        return int(self.weights.shape[0])

    def _spatial(self, shape: Shape) -> tuple[int, int]:
        top, bottom, left, right = self.pad
        return (
            _windows(shape[0] + top + bottom, self.size, self.stride),
            _windows(shape[1] + left + right, self.size, self.stride),
        )


@attrs.frozen
class Conv(_Windowed):
    """Convolution: weights int8 [kh, kw, cin, cout], bias int32 [cout], shift [cout], kernel 1x1 or 3x3, stride 1 or 2.

    `pad` is (top, bottom, left, right), in pixels of value 0. `bits` is the width of the unsigned outputs, 1 to 8.
    """

    weights: np.ndarray = attrs.field(converter=_ternary, eq=_equal_arrays())
    bias: np.ndarray = attrs.field(converter=_bias, eq=_equal_arrays())
    shift: np.ndarray = attrs.field(converter=_shift, eq=_equal_arrays())
    bits: int = attrs.field(converter=_bits)
    stride: int = 1
    pad: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), converter=_pad)

    def __attrs_post_init__(self) -> None:
        _check_kernel(self, 4)
        _check_channels(self)

    def output_shape(self, shape: Shape) -> Shape:
        """(h, w, cin) -> (oh, ow, cout)."""
        _image(shape, self.weights.shape[2])
        return (*self._spatial(shape), self.channels)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one frame, zero weights and padding included."""
        height, width, _ = self.output_shape(shape)
        return height * width * self.weights.size


@attrs.frozen
class Depthwise(_Windowed):
    """Depthwise convolution, one filter per channel: weights int8 [kh, kw, c], c at least 2; the rest as in `Conv`."""

    weights: np.ndarray = attrs.field(converter=_ternary, eq=_equal_arrays())
    bias: np.ndarray = attrs.field(converter=_bias, eq=_equal_arrays())
    shift: np.ndarray = attrs.field(converter=_shift, eq=_equal_arrays())
    bits: int = attrs.field(converter=_bits)
    stride: int = 1
    pad: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), converter=_pad)

    def __attrs_post_init__(self) -> None:
        _check_kernel(self, 3)
        if self.channels == 1:
            raise ValueError("weights: a depthwise convolution of one channel is a Conv, write it as one")
        _check_channels(self)

    def output_shape(self, shape: Shape) -> Shape:
        """(h, w, c) -> (oh, ow, c)."""
        _image(shape, self.channels)
        return (*self._spatial(shape), self.channels)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one frame, zero weights and padding included."""
        height, width, _ = self.output_shape(shape)
        return height * width * self.weights.size


class _Pool:
    """A layer without weights: it keeps the width of its input."""

    nonzeros = 0

    def output_max(self, input_max: int) -> int:
        """Largest output: that of the input."""
        return input_max

    def macs(self, shape: Shape) -> int:
        """0: pooling is not counted."""
        return 0


@attrs.frozen
class MaxPool(_Pool):
    """Largest value of each `size` x `size` window, every `stride` pixels, no padding; an incomplete window is left out."""

    size: int = attrs.field(default=2, converter=int)
    stride: int = attrs.field(default=2, converter=int)

    def __attrs_post_init__(self) -> None:
        if not 2 <= self.size <= 8 or not 1 <= self.stride <= self.size:
            raise ValueError(f"MaxPool: expected size 2 to 8, stride 1 to size, found {self.size}, {self.stride}")

    def output_shape(self, shape: Shape) -> Shape:
        """(h, w, c) -> (oh, ow, c)."""
        height, width, channels = _image(shape)
        rows, columns = (_windows(length, self.size, self.stride) for length in (height, width))
        return (rows, columns, channels)

    def worst_accumulator(self, input_max: int) -> int:
        """The input's own bound: nothing is added."""
        return input_max


@attrs.frozen
class AvgPool(_Pool):
    """Mean of each `size` x `size` block, size 2, 4 or 8: the sum, shifted right by log2(size^2), half to even.

    The same as a depthwise convolution of stride `size` with weights 1, bias 0, that shift and the bits of its input.
    """

    size: int = attrs.field(converter=int)

    def __attrs_post_init__(self) -> None:
        if self.size not in (2, 4, 8):
            raise ValueError(f"AvgPool: expected a size of 2, 4 or 8, found {self.size}")

    @property
    def shift(self) -> int:
        """log2 of the area."""
        return 2 * (self.size.bit_length() - 1)

    def output_shape(self, shape: Shape) -> Shape:
        """(h, w, c) -> (h // size, w // size, c); a remainder at the bottom or the right is left out."""
        height, width, channels = _image(shape)
        rows, columns = (_windows(length, self.size, self.size) for length in (height, width))
        return (rows, columns, channels)

    def worst_accumulator(self, input_max: int) -> int:
        """area * input_max."""
        return self.size**2 * input_max


@attrs.frozen
class Dense(_Weighted):
    """Fully connected: flattens its input row-major (h, w, c); weights int8 [cin, cout], bias int32 [cout], shift [cout].

    `bits` is 1 to 8 for a hidden layer (unsigned outputs), None for the last layer (int8 logits).
    """

    weights: np.ndarray = attrs.field(converter=_ternary, eq=_equal_arrays())
    bias: np.ndarray = attrs.field(converter=_bias, eq=_equal_arrays())
    shift: np.ndarray = attrs.field(converter=_shift, eq=_equal_arrays())
    bits: int | None = attrs.field(default=None, converter=_bits)

    def __attrs_post_init__(self) -> None:
        if self.weights.ndim != 2:
            raise ValueError(f"weights: expected shape [cin, cout], found {self.weights.shape}")
        _check_channels(self)

    def output_shape(self, shape: Shape) -> Shape:
        """(h, w, c) or (n,) -> (cout,)."""
        size = math.prod(shape)
        if size != self.weights.shape[0]:
            raise ValueError(f"expected {self.weights.shape[0]} inputs, found {size} in shape {shape}")
        return (self.channels,)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one frame, zero weights included."""
        return int(self.weights.size)


Layer = Conv | Depthwise | MaxPool | AvgPool | Dense

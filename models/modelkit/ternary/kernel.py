"""A fast NumPy engine of a ternary network, equal to the reference bit for bit, for machines without another one.

Why float32 is exact here: weights are {-1, 0, +1} times 2^-shift, activations are integers, and every partial sum of an
accumulator, whatever the order in which a BLAS adds, is an integer below 2^24 times 2^-shift; float32 has 24 bits of
significand, so no sum is rounded. `rint` then rounds halves to even, once, as the reference does.

All buffers are made once. An activation is kept in the zero-bordered float32 array that the next layer's windows look into,
so padding costs nothing; the bias is one more weight, fed by a column of ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network
from modelkit.ternary.reference import check_frames

Step = Callable[[], None]


def _scaled(layer: Conv | Depthwise | Dense) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias times 2^-shift, float32, exact: each is an integer below 2^24 times a power of two."""
    scale = np.ldexp(np.float32(1), -layer.shift.astype(np.int32)).astype(np.float32)
    return layer.weights.astype(np.float32) * scale, layer.bias.astype(np.float32) * scale


def _limits(layer: Conv | Depthwise | Dense) -> tuple[np.float32, np.float32]:
    """Smallest and largest output."""
    low, high = (-128, 127) if layer.bits is None else (0, 2**layer.bits - 1)
    return np.float32(low), np.float32(high)


def _windows(buffer: np.ndarray, size: int, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """View of float32 [H, W, c] as its windows [oh, ow, size, size, c]."""
    row, column, channel = buffer.strides
    windows = (shape[0], shape[1], size, size, buffer.shape[2])
    return as_strided(buffer, windows, (row * stride, column * stride, row, column, channel), writeable=False)


def _round_into(acc: np.ndarray, out: np.ndarray, low: np.float32, high: np.float32) -> None:
    """Round `acc` half to even (in place) and saturate it into `out`, which may have another dtype or layout."""
    np.rint(acc, out=acc)
    np.maximum(acc, low, out=acc)
    np.minimum(acc, high, out=out, casting="unsafe")


def _product_step(layer: Conv | Dense, x: np.ndarray, out: np.ndarray) -> Step:
    """x [rows, taps + 1], the last column ones, times the weights and the bias below them; rounded into `out`."""
    weights, bias = _scaled(layer)
    matrix = np.concatenate([weights.reshape(-1, layer.channels), bias[None]])
    acc = np.empty((len(x), layer.channels), dtype=np.float32)
    shaped = acc.reshape(out.shape)
    low, high = _limits(layer)

    def step() -> None:
        np.matmul(x, matrix, out=acc)
        _round_into(shaped, out, low, high)

    return step


def _conv_step(layer: Conv, buffer: np.ndarray, out: np.ndarray) -> Step:
    windows = _windows(buffer, layer.size, layer.stride, out.shape)
    taps = layer.size**2 * buffer.shape[2]
    matrix = np.ones((out.shape[0] * out.shape[1], taps + 1), dtype=np.float32)
    row, item = matrix.strides
    inner = (item * layer.size * buffer.shape[2], item * buffer.shape[2], item)
    target = as_strided(matrix, windows.shape, (row * out.shape[1], row, *inner))
    multiply = _product_step(layer, matrix, out)

    def step() -> None:
        np.copyto(target, windows)
        multiply()

    return step


def _depthwise_step(layer: Depthwise, buffer: np.ndarray, out: np.ndarray) -> Step:
    windows = _windows(buffer, layer.size, layer.stride, out.shape)
    weights, bias = _scaled(layer)
    taps = [(windows[:, :, ky, kx], weights[ky, kx]) for ky in range(layer.size) for kx in range(layer.size)]
    acc = np.empty(out.shape, dtype=np.float32)
    product = np.empty_like(acc)
    low, high = _limits(layer)

    def step() -> None:
        acc[...] = bias
        for seen, weight in taps:
            np.multiply(seen, weight, out=product)
            np.add(acc, product, out=acc)
        _round_into(acc, out, low, high)

    return step


def _pool_step(layer: MaxPool | AvgPool, buffer: np.ndarray, out: np.ndarray) -> Step:
    mean = isinstance(layer, AvgPool)
    windows = _windows(buffer, layer.size, layer.size if mean else layer.stride, out.shape)
    first, *others = (windows[:, :, ky, kx] for ky in range(layer.size) for kx in range(layer.size))
    combine = np.add if mean else np.maximum
    scale = np.float32(2.0**-layer.shift if mean else 1)
    acc = np.empty(out.shape, dtype=np.float32)

    def step() -> None:
        np.copyto(acc, first)
        for other in others:
            combine(acc, other, out=acc)
        if mean:
            np.multiply(acc, scale, out=acc)
            np.rint(acc, out=acc)
        np.copyto(out, acc)

    return step


def _entry(layer: Layer, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The input buffer of a layer, as its step reads it, and the part of it, of `shape`, that the layer before writes.

    Dense: float32 [1, cin + 1], the last one a 1 for the bias; others: float32 [H, W, c] with a border of zeros.
    """
    if isinstance(layer, Dense):
        row = np.ones((1, layer.weights.shape[0] + 1), dtype=np.float32)
        return row, row[0, :-1].reshape(shape)
    top, bottom, left, right = getattr(layer, "pad", (0, 0, 0, 0))
    height, width, channels = shape
    buffer = np.zeros((height + top + bottom, width + left + right, channels), dtype=np.float32)
    return buffer, buffer[top : top + height, left : left + width]


def _step(layer: Layer, buffer: np.ndarray, out: np.ndarray) -> Step:
    if isinstance(layer, Conv):
        return _conv_step(layer, buffer, out)
    if isinstance(layer, Depthwise):
        return _depthwise_step(layer, buffer, out)
    if isinstance(layer, Dense):
        return _product_step(layer, buffer, out)
    return _pool_step(layer, buffer, out)


class Kernel:
    """`Kernel(network)(frame)`: logits int8 [classes] of one frame uint8 [h, w, c]; `batch` takes frames [n, h, w, c].

    Not to be shared between threads: the buffers belong to the object. Run with OPENBLAS_NUM_THREADS=1: the products are too
    small for more threads, which only make times longer and unsteady.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._logits = np.empty(network.classes, dtype=np.int8)
        entries = [_entry(layer, shape) for layer, shape in zip(network.layers, network.shapes)]
        outputs = [inside for _, inside in entries[1:]] + [self._logits]
        self._frame = entries[0][1]
        self._steps = [_step(layer, buffer, out) for layer, (buffer, _), out in zip(network.layers, entries, outputs)]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Logits int8 [classes], a new array; ValueError where `frame` is not uint8 of the network's input shape."""
        if frame.dtype != np.uint8 or frame.shape != self.network.input_shape:
            raise ValueError(f"frame: expected uint8 {self.network.input_shape}, found {frame.dtype} {frame.shape}")
        np.copyto(self._frame, frame)
        for step in self._steps:
            step()
        return self._logits.copy()

    def batch(self, frames: np.ndarray) -> np.ndarray:
        """Logits int8 [n, classes] of frames uint8 [n, h, w, c], one after the other; ValueError as in a call."""
        logits = np.empty((len(frames), self.network.classes), dtype=np.int8)
        for index, frame in enumerate(check_frames(self.network, frames)):
            logits[index] = self(frame)
        return logits

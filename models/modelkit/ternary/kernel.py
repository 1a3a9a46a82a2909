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


def _windows(buffer: np.ndarray, size: int, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """View of float32 [n, H, W, c] as its windows [n, oh, ow, size, size, c]."""
    n, row, column, channel = buffer.strides
    count, channels = buffer.shape[0], buffer.shape[3]
    return as_strided(
        buffer,
        (count, shape[0], shape[1], size, size, channels),
        (n, row * stride, column * stride, row, column, channel),
        writeable=False,
    )


def _round_into(acc: np.ndarray, out: np.ndarray, low: float, high: float) -> None:
    """Round `acc` half to even (in place) and saturate it into `out`, which may have another dtype or layout."""
    np.rint(acc, out=acc)
    np.maximum(acc, low, out=acc)
    np.minimum(acc, high, out=out, casting="unsafe")


def _matmul_step(x: np.ndarray, weights: np.ndarray, acc: np.ndarray, out: np.ndarray, limits: tuple[int, int]) -> Step:
    """acc = x @ weights, both float32 matrices; then rounded and saturated into `out`."""
    low, high = (np.float32(limit) for limit in limits)
    shaped = acc.reshape(out.shape)

    def step() -> None:
        np.matmul(x, weights, out=acc)
        _round_into(shaped, out, low, high)

    return step


def _conv_step(layer: Conv, buffer: np.ndarray, out: np.ndarray, limits: tuple[int, int]) -> Step:
    windows = _windows(buffer, layer.size, layer.stride, out.shape[1:])
    taps = layer.size**2 * buffer.shape[3]
    rows = int(np.prod(out.shape[:3]))
    columns = np.ones((rows, taps + 1), dtype=np.float32)
    target = as_strided(
        columns, windows.shape, (*_row_strides(columns, out.shape), *_tap_strides(windows.shape[3:], columns.itemsize))
    )
    weights, bias = _scaled(layer)
    matrix = np.concatenate([weights.reshape(taps, -1), bias[None]])
    acc = np.empty((rows, layer.channels), dtype=np.float32)
    multiply = _matmul_step(columns, matrix, acc, out, limits)

    def step() -> None:
        np.copyto(target, windows)
        multiply()

    return step


def _row_strides(columns: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Strides of the axes n, oh, ow within the rows of the window matrix."""
    row = columns.strides[0]
    return row * shape[1] * shape[2], row * shape[2], row


def _tap_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, int, int]:
    """Strides of the axes ky, kx, c within one row of the window matrix."""
    return itemsize * shape[1] * shape[2], itemsize * shape[2], itemsize


def _depthwise_step(layer: Depthwise, buffer: np.ndarray, out: np.ndarray, limits: tuple[int, int]) -> Step:
    windows = _windows(buffer, layer.size, layer.stride, out.shape[1:])
    weights, bias = _scaled(layer)
    taps = [
        (windows[:, :, :, ky, kx, :], weights[ky, kx].copy()) for ky in range(layer.size) for kx in range(layer.size)
    ]
    acc = np.empty(out.shape, dtype=np.float32)
    product = np.empty_like(acc)
    low, high = (np.float32(limit) for limit in limits)

    def step() -> None:
        acc[...] = bias
        for seen, weight in taps:
            np.multiply(seen, weight, out=product)
            np.add(acc, product, out=acc)
        _round_into(acc, out, low, high)

    return step


def _pool_step(layer: MaxPool | AvgPool, buffer: np.ndarray, out: np.ndarray) -> Step:
    stride = layer.stride if isinstance(layer, MaxPool) else layer.size
    windows = _windows(buffer, layer.size, stride, out.shape[1:])
    first, *others = (windows[:, :, :, ky, kx, :] for ky in range(layer.size) for kx in range(layer.size))
    mean = isinstance(layer, AvgPool)
    combine = np.add if mean else np.maximum
    scale = np.float32(2.0 ** -getattr(layer, "shift", 0))
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


def _entry(layer: Layer, shape: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The input buffer of a layer, as its step reads it, and the part of it that the layer before writes into.

    Conv and Depthwise: float32 [n, H, W, c] with a border of zeros; Dense: float32 [n, cin + 1] with a last column of ones.
    """
    if isinstance(layer, Dense):
        inputs = layer.weights.shape[0]
        buffer = np.ones((count, inputs + 1), dtype=np.float32)
        strides = [4]
        for length in reversed(shape[1:]):
            strides.insert(0, strides[0] * length)
        return buffer, as_strided(buffer, (count, *shape), (buffer.strides[0], *strides))
    top, bottom, left, right = getattr(layer, "pad", (0, 0, 0, 0))
    height, width, channels = shape
    buffer = np.zeros((count, height + top + bottom, width + left + right, channels), dtype=np.float32)
    return buffer, buffer[:, top : top + height, left : left + width, :]


class _Plan:
    """Buffers and steps for batches of exactly `count` frames."""

    def __init__(self, network: Network, count: int) -> None:
        entries = [_entry(layer, shape, count) for layer, shape in zip(network.layers, network.shapes)]
        self.logits = np.empty((count, network.classes), dtype=np.int8)
        outputs = [inside for _, inside in entries[1:]] + [self.logits]
        self._frames = entries[0][1]
        self._steps = [
            self._step(layer, buffer, out, largest)
            for layer, (buffer, _), out, largest in zip(network.layers, entries, outputs, network.maxima[1:])
        ]

    @staticmethod
    def _step(layer: Layer, buffer: np.ndarray, out: np.ndarray, largest: int) -> Step:
        limits = (-128, 127) if getattr(layer, "bits", 0) is None else (0, largest)
        if isinstance(layer, Conv):
            return _conv_step(layer, buffer, out, limits)
        if isinstance(layer, Depthwise):
            return _depthwise_step(layer, buffer, out, limits)
        if isinstance(layer, Dense):
            weights, bias = _scaled(layer)
            acc = np.empty((len(buffer), layer.channels), dtype=np.float32)
            return _matmul_step(buffer, np.concatenate([weights, bias[None]]), acc, out, limits)
        return _pool_step(layer, buffer, out)

    def run(self, frames: np.ndarray) -> np.ndarray:
        """Logits int8 [count, classes], in the plan's own buffer, of frames uint8 [count, h, w, c]."""
        np.copyto(self._frames, frames)
        for step in self._steps:
            step()
        return self.logits


class Kernel:
    """`Kernel(network)(frame)`: logits int8 [classes] of one frame uint8 [h, w, c]; `batch` takes frames [n, h, w, c].

    Not to be shared between threads: the buffers belong to the object. BLAS may start threads of its own; where steady times
    matter more than throughput, run with OPENBLAS_NUM_THREADS=1.
    """

    BATCH = 16

    def __init__(self, network: Network) -> None:
        self.network = network
        self._single = _Plan(network, 1)
        self._batched: _Plan | None = None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Logits int8 [classes], a new array; ValueError where `frame` is not uint8 of the network's input shape."""
        if frame.dtype != np.uint8 or frame.shape != self.network.input_shape:
            raise ValueError(f"frame: expected uint8 {self.network.input_shape}, found {frame.dtype} {frame.shape}")
        return self._single.run(frame)[0].copy()

    def batch(self, frames: np.ndarray) -> np.ndarray:
        """Logits int8 [n, classes] of frames uint8 [n, h, w, c], for throughput; ValueError as in a call."""
        frames = check_frames(self.network, frames)
        if self._batched is None:
            self._batched = _Plan(self.network, self.BATCH)
        logits = np.empty((len(frames), self.network.classes), dtype=np.int8)
        whole = len(frames) - len(frames) % self.BATCH
        for start in range(0, whole, self.BATCH):
            logits[start : start + self.BATCH] = self._batched.run(frames[start : start + self.BATCH])
        for index in range(whole, len(frames)):
            logits[index] = self._single.run(frames[index])[0]
        return logits

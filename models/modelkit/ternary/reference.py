"""The definition of a ternary network's result, in plain integers: slow, obvious, and what every engine must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network


def shift_half_even(acc: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """acc * 2^-shift rounded to the nearest integer, halves to the even one; int64 in, int64 out, shift >= 0."""
    floor = acc >> shift
    twice_rest = 2 * (acc - (floor << shift))
    one = np.int64(1) << np.asarray(shift, dtype=np.int64)
    return floor + ((twice_rest > one) | ((twice_rest == one) & (floor % 2 == 1)))


def ties(acc: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """bool, where acc * 2^-shift lies exactly between two integers."""
    one = np.int64(1) << np.asarray(shift, dtype=np.int64)
    return 2 * (acc % one) == one


def _windows(x: np.ndarray, layer: Conv | Depthwise, shape: tuple[int, ...]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (ky, kx, the pixels that this tap of the kernel sees: int64 [n, oh, ow, c])."""
    top, bottom, left, right = layer.pad
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    for ky in range(layer.size):
        for kx in range(layer.size):
            rows = slice(ky, ky + layer.stride * (shape[0] - 1) + 1, layer.stride)
            columns = slice(kx, kx + layer.stride * (shape[1] - 1) + 1, layer.stride)
            yield ky, kx, padded[:, rows, columns, :]


def _blocks(x: np.ndarray, size: int, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """Pooling windows: int64 [size * size, n, oh, ow, c]."""
    return np.stack(
        [
            x[:, ky : ky + stride * (shape[0] - 1) + 1 : stride, kx : kx + stride * (shape[1] - 1) + 1 : stride, :]
            for ky in range(size)
            for kx in range(size)
        ]
    )


def accumulate(layer: Layer, x: np.ndarray) -> np.ndarray:
    """The exact accumulators of a layer, int64 [n, ...], from its input int64 [n, ...]; of a max pool, its output."""
    shape = layer.output_shape(x.shape[1:])
    if isinstance(layer, MaxPool):
        return _blocks(x, layer.size, layer.stride, shape).max(axis=0)
    if isinstance(layer, AvgPool):
        return _blocks(x, layer.size, layer.size, shape).sum(axis=0)
    weights = layer.weights.astype(np.int64)
    if isinstance(layer, Dense):
        return x.reshape(len(x), -1) @ weights + layer.bias
    acc = np.zeros((len(x), *shape), dtype=np.int64) + layer.bias
    for ky, kx, seen in _windows(x, layer, shape):
        acc += seen @ weights[ky, kx] if isinstance(layer, Conv) else seen * weights[ky, kx]
    return acc


def activate(layer: Layer, acc: np.ndarray) -> np.ndarray:
    """Round, shift and saturate accumulators int64 [n, ...] into the layer's output, int64 of the same shape."""
    if isinstance(layer, MaxPool):
        return acc
    if isinstance(layer, AvgPool):
        return shift_half_even(acc, layer.shift)
    y = shift_half_even(acc, layer.shift.astype(np.int64))
    return np.clip(y, -128, 127) if layer.bits is None else np.clip(y, 0, 2**layer.bits - 1)


def trace(network: Network, frames: np.ndarray) -> Iterator[tuple[Layer, np.ndarray, np.ndarray]]:
    """Yield (layer, accumulators int64 [n, ...], output int64 [n, ...]) for each layer, from frames uint8 [n, h, w, c]."""
    x = check_frames(network, frames).astype(np.int64)
    for layer in network.layers:
        acc = accumulate(layer, x)
        x = activate(layer, acc)
        yield layer, acc, x


def forward(network: Network, frames: np.ndarray) -> np.ndarray:
    """Logits int8 [n, classes] of frames uint8 [n, h, w, c]; ValueError where shape or dtype differ."""

    def last(part: np.ndarray) -> np.ndarray:
        *_, (_, _, logits) = trace(network, part)
        return logits.astype(np.int8)

    return in_batches(last, check_frames(network, frames))


def in_batches(run: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, size: int = 64) -> np.ndarray:
    """`run` on `size` frames at a time, so that any number of them fits in memory; the results in one array [n, ...]."""
    return np.concatenate([run(frames[start : start + size]) for start in range(0, max(len(frames), 1), size)])


def check_frames(network: Network, frames: np.ndarray) -> np.ndarray:
    """Return `frames` if they are uint8 [n, h, w, c] of the network's input shape, else raise ValueError."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != network.input_shape:
        shape = ", ".join(map(str, network.input_shape))
        raise ValueError(f"frames: expected uint8 [n, {shape}], found {frames.dtype} {list(frames.shape)}")
    return frames

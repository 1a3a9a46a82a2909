"""Random ternary networks by recipe, one for each thing that hls4ml could get wrong, with frames whose answers differ."""

from __future__ import annotations

import numpy as np

from modelkit.ternary import reference
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network

Step = tuple
CLASSES = 7

RECIPES: dict[str, tuple[tuple[int, int, int], list[Step]]] = {
    "conv": ((9, 7, 3), [("conv", 3, 9, 1, 1, (1, 1, 1, 1)), ("conv", 1, 12, 3, 2, (0, 0, 0, 0)), ("conv", 3, 8, 5, 2, (0, 1, 2, 0))]),
    "depthwise": ((8, 9, 4), [("depthwise", 3, 6, 1, (1, 0, 0, 1)), ("depthwise", 1, 4, 2, (0, 0, 0, 0)),
                              ("depthwise", 3, 8, 2, (1, 1, 1, 1))]),
    "pools": ((12, 13, 2), [("max", 2), ("conv", 3, 8, 6, 1, (1, 1, 1, 1)), ("avg", 2), ("dense", 12, 4)]),
    "pools-wide": ((9, 10, 1), [("conv", 3, 8, 8, 1, (1, 1, 1, 1)), ("avg", 4), ("conv", 1, 10, 7, 1, (0, 0, 0, 0)), ("max", 2)]),
    "max-3": ((10, 9, 5), [("max", 3), ("dense", 24, 2), ("dense", 16, 1), ("dense", 12, 3)]),
    "avg-8": ((8, 9, 6), [("avg", 8), ("dense", 9, 8)]),
    "one-pixel": ((1, 1, 13), [("conv", 3, 9, 6, 1, (1, 1, 1, 1)), ("depthwise", 1, 5, 1, (0, 0, 0, 0))]),
    "dense": ((3, 5, 1), [("dense", 17, 8), ("dense", 9, 6)]),
}


def build(name: str, seed: int = 0, frames: int = 1000) -> tuple[Network, np.ndarray]:
    """The network of a recipe and `frames` frames uint8 [frames, h, w, c], some of them all 0, all 255, a chessboard, dark."""
    first, steps = RECIPES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    pictures = (rng.integers(0, 256, (frames, *first)) * rng.random((frames, 1, 1, 1))).astype(np.uint8)
    pictures[0], pictures[1] = 0, 255
    pictures[2] = 255 * (np.indices(first).sum(axis=0) % 2)
    layers: list = []
    x = pictures[:200].astype(np.int64)
    for kind, *rest in [*steps, ("dense", CLASSES, None)]:
        layer = _layer(kind, rest, x, rng)
        layers.append(layer)
        x = reference.activate(layer, reference.accumulate(layer, x))
    return Network(first, layers), pictures


def _layer(kind: str, rest: list, x: np.ndarray, rng: np.random.Generator) -> Layer:
    """A layer for inputs x int64 [n, ...]."""
    if kind in ("max", "avg"):
        return MaxPool(*rest, *rest) if kind == "max" else AvgPool(*rest)
    inputs, depth = int(np.prod(x.shape[1:])), x.shape[-1]
    if kind == "conv":
        size, channels, bits, stride, pad = rest
        options, shape, cls = {"stride": stride, "pad": pad}, (size, size, depth, channels), Conv
    elif kind == "depthwise":
        size, bits, stride, pad = rest
        options, shape, cls = {"stride": stride, "pad": pad}, (size, size, depth), Depthwise
    else:
        channels, bits = rest
        options, shape, cls = {}, (inputs, channels), Dense
    weights = rng.integers(-1, 2, shape).astype(np.int8)
    channels = shape[-1]
    if channels >= 8:
        for channel, extreme in enumerate((1, -1, 0)):
            weights[..., channel] = extreme
    zeros = np.zeros(channels, np.int32)
    acc = reference.accumulate(cls(weights=weights, bias=zeros, shift=zeros, bits=bits, **options), x).reshape(-1, channels)
    shift = np.clip(np.round(np.log2((acc.std(axis=0) + 1) * 6 / 2 ** (bits or 8))), 0, 24).astype(int)
    middle = 0 if bits is None else 2 ** (bits - 1)
    bias = np.round(middle * 2.0**shift - acc.mean(axis=0)).astype(int) + rng.integers(-3, 4, channels)
    if channels >= 8:
        bias[3], shift[4] = rng.choice([2**22, -(2**22)]), 0
    return cls(weights=weights, bias=bias, shift=shift, bits=bits, **options)

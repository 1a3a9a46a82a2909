"""Random ternary networks of every layer kind with nasty frames, and a tally that shows that a test met what it should."""

from __future__ import annotations

from collections import Counter

import attrs
import numpy as np
from hypothesis import strategies as st

from modelkit.ternary import reference
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network

CLASSES = 7


def parameters(rng: np.random.Generator, shape: tuple[int, ...], taps: int, largest: int, top: int) -> dict:
    """Weights, bias and shift such that most outputs fall within 0 to `top`, but not all.

    Of the channels, a tenth each have weights all +1, all -1 and all 0, a shift of 0, a bias of +-2^22.
    """
    channels = shape[-1]
    weights = rng.integers(-1, 2, shape).astype(np.int8)
    for extreme in (1, -1, 0):
        weights[..., rng.random(channels) < 0.1] = extreme
    spread = max(largest * np.sqrt(taps), 1)
    usual = max(int(np.log2(spread / max(top, 1)) + 1), 0)
    shift = np.clip(usual + rng.integers(-2, 2, channels), 0, 24)
    shift[rng.random(channels) < 0.1] = 0
    bias = rng.integers(-spread // 2 - 1, spread // 2 + 2, channels)
    bias[rng.random(channels) < 0.05] = 2**22
    bias[rng.random(channels) < 0.05] = -(2**22)
    return {"weights": weights, "bias": bias, "shift": shift}


@st.composite
def _windowed(draw, rng: np.random.Generator, shape: tuple[int, ...], largest: int, widest: int) -> Layer:
    size = draw(st.sampled_from([1, 3, 3]))
    pad = tuple(draw(st.integers(0, size - 1)) for _ in range(4)) if draw(st.booleans()) else (0, 0, 0, 0)
    if size == 3 and (draw(st.booleans()) or shape[0] < 3 or shape[1] < 3):
        pad = draw(st.sampled_from([(1, 1, 1, 1), (0, 1, 0, 1), (2, 1, 0, 2)] if min(shape[:2]) > 1 else [(1, 1, 1, 1)]))
    bits = draw(st.integers(1, 8))
    top = 2**bits - 1
    if shape[2] == 1 or draw(st.booleans()):
        weights, taps = (size, size, shape[2], draw(st.integers(1, widest))), size * size * shape[2]
        cls = Conv
    else:
        weights, taps, cls = (size, size, shape[2]), size * size, Depthwise
    return cls(**parameters(rng, weights, taps, largest, top), bits=bits, stride=draw(st.sampled_from([1, 2])), pad=pad)


@st.composite
def networks(draw, widest: int = 6) -> Network:
    """A valid `Network` of at most 9x9x3 inputs, up to five layers of up to `widest` channels before the logits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape: tuple[int, ...] = (draw(st.integers(3, 9)), draw(st.integers(3, 9)), draw(st.integers(1, 3)))
    first, largest = shape, 255
    layers: list[Layer] = []

    def add(layer: Layer) -> None:
        nonlocal shape, largest
        layers.append(layer)
        shape, largest = layer.output_shape(shape), layer.output_max(largest)

    for _ in range(draw(st.integers(1, 4))):
        side = min(shape[:2])
        kind = draw(st.sampled_from(["windowed", "windowed", "max", "average"]))
        if kind == "windowed":
            add(draw(_windowed(rng, shape, largest, widest)))
        elif kind == "max" and side >= 2:
            size = draw(st.integers(2, min(side, 3)))
            add(MaxPool(size, draw(st.integers(1, size))))
        elif side >= 2:
            add(AvgPool(draw(st.sampled_from([size for size in (2, 4, 8) if size <= side]))))
    if draw(st.booleans()):
        bits = draw(st.integers(1, 8))
        inputs = int(np.prod(shape))
        add(Dense(**parameters(rng, (inputs, draw(st.integers(1, 2 * widest))), inputs, largest, 2**bits - 1), bits=bits))
    inputs = int(np.prod(shape))
    numbers = parameters(rng, (inputs, CLASSES), inputs, largest, 127)
    return Network(first, [*layers, Dense(**numbers)], draw(st.integers(-8, 8)))


@st.composite
def cases(draw, frames: int = 6, widest: int = 6) -> tuple[Network, np.ndarray]:
    """A network and `frames` frames uint8 [frames, h, w, c]: all 0, all 255, a chessboard, the rest random."""
    network = draw(networks(widest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures = rng.integers(0, 256, (frames, *network.input_shape)).astype(np.uint8)
    pictures[0], pictures[1] = 0, 255
    pictures[2] = 255 * (np.indices(network.input_shape).sum(axis=0) % 2)
    return network, pictures


@attrs.define
class Tally:
    """What a whole property test has met."""

    frames: int = 0
    logits: int = 0
    accumulators: int = 0
    ties: int = 0
    outputs: set[bytes] = attrs.field(factory=set)
    kinds: Counter[str] = attrs.field(factory=Counter)
    clamped_low: int = 0
    clamped_high: int = 0

    def add(self, network: Network, frames: np.ndarray) -> np.ndarray:
        """Count everything that happens in the reference and return its logits int8 [n, classes]."""
        for layer, acc, out in reference.trace(network, frames):
            self.kinds[type(layer).__name__] += 1
            if isinstance(layer, MaxPool):
                continue
            self.accumulators += acc.size
            self.ties += int(reference.ties(acc, np.asarray(layer.shift, np.int64)).sum())
            if not isinstance(layer, AvgPool):
                rounded = reference.shift_half_even(acc, layer.shift.astype(np.int64))
                self.clamped_low += int((rounded < out).sum())
                self.clamped_high += int((rounded > out).sum())
        logits = out.astype(np.int8)
        self.frames += len(frames)
        self.logits += logits.size
        self.outputs.update(row.tobytes() for row in logits)
        return logits

    def check(self) -> None:
        """Print what was met, and fail where the test was too tame to mean anything."""
        print(
            f"{self.frames} frames, {self.logits} logits, {len(self.outputs)} distinct outputs, "
            f"{self.ties} ties in {self.accumulators} accumulators, {dict(self.kinds)}"
        )
        assert set(self.kinds) == {"Conv", "Depthwise", "MaxPool", "AvgPool", "Dense"}, self.kinds
        assert len(self.outputs) > 0.25 * self.frames, f"{len(self.outputs)} distinct outputs of {self.frames} frames"
        assert self.ties > 0.01 * self.accumulators, f"{self.ties} ties in {self.accumulators} accumulators"
        assert min(self.clamped_low, self.clamped_high) > 0.02 * self.accumulators, (self.clamped_low, self.clamped_high)

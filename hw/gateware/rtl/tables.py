"""The numbers of a layer as its block wants them: weights without dead channels, biases that round, widths that always fit.

Per output channel, with x in 0 .. X: acc = sum(w x) + bias lies in [low, high], reached by inputs of 0 and X. The block adds ~x = X - x for
a weight of -1 and starts from `bias + half - X * (number of -1)` = low + half, half = 2^(shift-1) where shift > 0: with the half inside,
rounding is a cut (the exact half excepted). A channel whose answer is the same at low and at high is constant: its weights become 0.
"""

from __future__ import annotations

import attrs
import numpy as np

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise
from modelkit.ternary.reference import activate

Weighted = Conv | Depthwise | Dense


@attrs.frozen
class Widths:
    """Bits of the accumulator (signed), smallest shift, and largest minus smallest shift of a layer."""

    acc: int
    shift_min: int
    shift_span: int

    @property
    def select(self) -> int:
        """Bits of shift - shift_min; at least 1."""
        return max(self.shift_span.bit_length(), 1)

    def union(self, other: Widths) -> Widths:
        """Widths that hold both."""
        low = min(self.shift_min, other.shift_min)
        high = max(self.shift_min + self.shift_span, other.shift_min + other.shift_span)
        return Widths(max(self.acc, other.acc), low, high - low)


@attrs.frozen(eq=False)
class Table:
    """A layer's weights int8 [inputs, channels] in the order of the stream, start values int64 [channels], shift [channels]."""

    weights: np.ndarray
    start: np.ndarray
    shift: np.ndarray
    widths: Widths


def _signed_bits(low: int, high: int) -> int:
    return max((high if high >= 0 else ~high).bit_length(), (low if low >= 0 else ~low).bit_length(), 1) + 1


def table(layer: Weighted, input_max: int) -> Table:
    """The numbers of `layer` for inputs 0 to `input_max` (2^bits - 1)."""
    weights = layer.weights.reshape(-1, layer.channels).copy()
    bias = layer.bias.astype(np.int64)
    shift = layer.shift.astype(np.int64)
    low = bias - input_max * (weights < 0).sum(0)
    high = bias + input_max * (weights > 0).sum(0)
    least = activate(layer, low)
    constant = least == activate(layer, high)
    weights[:, constant] = 0
    low[constant] = high[constant] = least[constant]
    if not constant.all():
        shift[constant] = shift[~constant].min()
        low[constant] <<= shift[constant]
        high[constant] = low[constant]
    else:
        shift[:] = 0
    half = (np.int64(1) << shift) >> 1
    widths = Widths(_signed_bits(int((low + half).min()), int((high + half).max())), int(shift.min()), int(np.ptp(shift)))
    return Table(weights, low + half, shift, widths)


def spread_out(weights: np.ndarray) -> np.ndarray:
    """Weights int8 [taps * channels, channels] of the convolution that equals a depthwise one of weights [taps, channels]."""
    taps, channels = weights.shape
    wide = np.zeros((taps, channels, channels), np.int8)
    wide[:, range(channels), range(channels)] = weights
    return wide.reshape(taps * channels, channels)


def average_table(layer: AvgPool, input_max: int) -> Table:
    """The numbers of an average pool: weights +1, one channel for all."""
    start = np.array([1 << (layer.shift - 1)], np.int64)
    widths = Widths(_signed_bits(0, layer.worst_accumulator(input_max) + int(start[0])), layer.shift, 0)
    return Table(np.ones((layer.size**2, 1), np.int8), start, np.array([layer.shift]), widths)


def _hex_words(bits: np.ndarray) -> str:
    """Lines of hex from bits uint8 [words, width], lowest bit first."""
    octets = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
    digits = -(-bits.shape[1] // 4)
    return "".join(f"{row.tobytes().hex()[-digits:]}\n" for row in octets)


def weight_words(weights: np.ndarray, simd: int, pe: int, spread: bool) -> str:
    """The file WEIGHTS of `mac` (see its header) for weights int8 [inputs, channels]."""
    taps, channels = weights.shape
    two_bits = np.stack([weights != 0, weights < 0], axis=-1).astype(np.uint8)  # [taps, channels, 2]
    groups = channels // pe
    if spread:
        words = two_bits.reshape(taps, groups, pe, 2).transpose(1, 0, 2, 3)
    else:
        words = two_bits.reshape(taps // simd, simd, groups, pe, 2).transpose(2, 0, 3, 1, 4)
    depth = words.shape[0] * words.shape[1]
    return _hex_words(np.ascontiguousarray(words).reshape(depth, -1))


def bias_words(start: np.ndarray, shift: np.ndarray, pe: int, widths: Widths) -> str:
    """The file BIASES of `mac` for start values and shifts [channels]; one word for each group of `pe` channels."""
    values = (start & ((1 << widths.acc) - 1)) | ((shift - widths.shift_min) << widths.acc)
    bits = (values[:, None] >> np.arange(widths.acc + widths.select)) & 1
    return _hex_words(bits.astype(np.uint8).reshape(len(values) // pe, -1))

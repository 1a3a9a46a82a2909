"""Naive models that the fast code is held to: loops and exact arithmetic, written apart from what they check."""

import itertools
from fractions import Fraction

# --- ternary networks -------------------------------------------------------------------------------------------------


def ternary_window(layer, picture, oy, ox, channel):
    """Yield (weight, value) of each tap that output (oy, ox, channel) of a Conv or Depthwise sees; outside is 0."""
    top, _, left, _ = layer.pad
    for ky in range(layer.weights.shape[0]):
        for kx in range(layer.weights.shape[1]):
            y, x = oy * layer.stride + ky - top, ox * layer.stride + kx - left
            inside = 0 <= y < len(picture) and 0 <= x < len(picture[0])
            if layer.weights.ndim == 4:
                for cin in range(layer.weights.shape[2]):
                    yield int(layer.weights[ky, kx, cin, channel]), picture[y][x][cin] if inside else 0
            else:
                yield int(layer.weights[ky, kx, channel]), picture[y][x][channel] if inside else 0


def ternary_round(acc, shift, low, high):
    """acc / 2^shift to the nearest integer, halves to even (Python's own rule for fractions), saturated."""
    return min(max(round(Fraction(acc, 2**shift)), low), high)


def ternary_layer(layer, x):
    """One layer of a ternary network on nested lists of Python integers: loops only, no NumPy arithmetic."""
    kind = type(layer).__name__
    if kind == "Dense":
        flat = [v for row in x for pixel in row for v in pixel] if isinstance(x[0], list) else x
        low, high = (-128, 127) if layer.bits is None else (0, 2**layer.bits - 1)
        return [
            ternary_round(
                sum(int(w) * v for w, v in zip(layer.weights[:, j], flat, strict=True)) + int(layer.bias[j]),
                int(layer.shift[j]),
                low,
                high,
            )
            for j in range(layer.weights.shape[1])
        ]
    rows, columns, channels = layer.output_shape((len(x), len(x[0]), len(x[0][0])))
    out = [[[0] * channels for _ in range(columns)] for _ in range(rows)]
    for oy, ox, c in itertools.product(range(rows), range(columns), range(channels)):
        if kind in ("MaxPool", "AvgPool"):
            stride = layer.stride if kind == "MaxPool" else layer.size
            block = [x[oy * stride + ky][ox * stride + kx][c] for ky in range(layer.size) for kx in range(layer.size)]
            out[oy][ox][c] = max(block) if kind == "MaxPool" else round(Fraction(sum(block), len(block)))
        else:
            acc = sum(w * v for w, v in ternary_window(layer, x, oy, ox, c)) + int(layer.bias[c])
            out[oy][ox][c] = ternary_round(acc, int(layer.shift[c]), 0, 2**layer.bits - 1)
    return out


def ternary_forward(network, frame):
    """Logits, a list of Python integers, of one frame uint8 [h, w, c]."""
    x = frame.tolist()
    for layer in network.layers:
        x = ternary_layer(layer, x)
    return x

"""Cycles of a folded streaming pipeline: what a choice of PE and SIMD a layer costs from frame to frame and from first pixel to answer.

A layer with PE x SIMD ternary multiply-accumulates a cycle needs (cout / PE) * (taps / SIMD) cycles an output pixel, where taps is
kh * kw * cin (folding as in Umuroglu et al., "FINN", FPGA 2017). Layers overlap: a pixel begins when the last input pixel of its
window is there, and when the pixel before it is done. Back-pressure is not modelled: buffers are taken as large enough.
"""

from math import prod

import numpy as np

from modelkit.ternary.layers import AvgPool, Conv, Dense, MaxPool

PIPELINE = 12
"""Cycles from a layer's last sum to its output on the stream: adder tree, shift, saturation, handshake (an allowance)."""


def cycles_a_pixel(layer, fold):
    """Cycles that a Conv or Dense takes for one output pixel, fold = (PE, SIMD); ValueError where they do not divide the layer."""
    taps, channels = prod(layer.weights.shape[:-1]), layer.weights.shape[-1]
    pe, simd = fold
    if channels % pe or taps % simd:
        raise ValueError(f"PE {pe} must divide {channels} channels and SIMD {simd} the {taps} taps")
    return channels // pe * (taps // simd)


def pipeline_cycles(network, folds):
    """(interval, latency) in cycles; folds: (PE, SIMD) of each layer with weights, in order.

    interval: from frame to frame, that of the busiest layer. latency: from the first pixel on the input, one a cycle, to the last logit.
    """
    height, width, _ = network.input_shape
    ready = 1.0 + np.arange(height * width, dtype=np.int64).reshape(height, width)  # cycle at which each pixel is there
    interval, folds = height * width, iter(folds)
    for layer, shape in zip(network.layers, network.shapes[1:], strict=True):
        if isinstance(layer, Dense):
            work = cycles_a_pixel(layer, next(folds))
            interval = max(interval, work)
            ready = np.full((1, 1), ready.max() + work + PIPELINE)
            continue
        top, left, size, stride = 0, 0, getattr(layer, "size", 1), getattr(layer, "stride", None)
        if isinstance(layer, Conv):
            top, left = layer.pad[0], layer.pad[2]
        stride = stride or size
        rows = np.minimum(np.arange(shape[0]) * stride - top + size - 1, ready.shape[0] - 1)
        columns = np.minimum(np.arange(shape[1]) * stride - left + size - 1, ready.shape[1] - 1)
        seen = np.maximum.accumulate(ready.ravel()).reshape(ready.shape)[np.ix_(rows, columns)]
        if isinstance(layer, (MaxPool, AvgPool)):
            ready = seen + 1
            continue
        work = cycles_a_pixel(layer, next(folds))
        interval = max(interval, work * shape[0] * shape[1])
        flat = seen.ravel()
        # done[i] = max(done[i - 1], flat[i]) + work, as a running maximum
        steps = work * np.arange(1, flat.size + 1)
        ready = (np.maximum.accumulate(flat + work - steps) + steps + PIPELINE).reshape(seen.shape)
    return int(interval), int(ready.max())


def macs_a_cycle(folds):
    """Ternary multiply-accumulates a cycle of the whole pipeline."""
    return sum(pe * simd for pe, simd in folds)

"""When each beat leaves each block, before anything is built: latency of a frame, and the interval between frames.

Every stream is an array of cycles, one per beat: the cycle in which its beat is offered and, nothing behind holding it up, taken. A block's
output follows from its input by the rule of its header. Back-pressure is left out: it moves work of a block that waits for a slower one,
never that of the slowest.
"""

from __future__ import annotations

import numpy as np

from gateware.rtl.plan import CorePlan, LayerPlan
from gateware.rtl.verilog import adder_graph
from modelkit.ternary.layers import MaxPool

EVERY = 1
"""Levels of adders between registers."""


def one_a_cycle(ready: np.ndarray, steps: np.ndarray | int = 1) -> np.ndarray:
    """Cycles t with t[j] >= ready[j] and t[j] >= t[j-1] + steps[j-1], the earliest."""
    steps = np.broadcast_to(steps, ready.shape)
    offset = np.concatenate([[0], np.cumsum(steps)[:-1]])
    return np.maximum.accumulate(ready - offset) + offset


def resized(times: np.ndarray, out: int, into: int) -> np.ndarray:
    """Through `resize`, from beats of `out` elements to beats of `into`."""
    if out == into:
        return times
    if out < into:
        return times.reshape(-1, into // out)[:, -1] + 1
    ratio = out // into
    return one_a_cycle(np.repeat(times + 1, ratio) + np.tile(np.arange(ratio), len(times)))


def depth_of(plan: LayerPlan) -> int:
    """Cycles from the last tap offered to the block after the window to its result being offered."""
    if isinstance(plan.layer, MaxPool):
        return 1
    if plan.choice.build == "unrolled":
        return -(-adder_graph(plan).levels // EVERY) + 1
    return 3 + -(-(max(plan.terms, 1) - 1).bit_length() // EVERY)


def _taps(plan: LayerPlan) -> tuple[np.ndarray, np.ndarray]:
    """(pixel of each tap of each output pixel [pixels, taps], -1 outside; position of the tap among the taps [taps])."""
    (height, width, _), (rows, columns, _) = plan.image, plan.out_image
    tap = np.arange(plan.kernel)
    y = np.arange(rows)[:, None] * plan.stride - plan.pad[0] + tap
    x = np.arange(columns)[:, None] * plan.stride - plan.pad[2] + tap
    pixel = (y[:, None, :, None] * width + x[None, :, None, :]).astype(np.int64)
    here = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[None, :, None, :]
    count = plan.kernel**2
    return np.where(here, pixel, -1).reshape(rows * columns, count), np.arange(count)


def _windowed(plan: LayerPlan, words: np.ndarray) -> np.ndarray:
    """Cycles of the last tap of each result beat out of `window`, [pixels * results]."""
    pixels, position = _taps(plan)
    fold, count = plan.fold, len(position)
    arrival = np.append(words, -(1 << 40))  # a tap outside needs nothing
    start = np.full(len(pixels), -(1 << 40))
    for slice_ in range(fold):
        place = slice_ * count + position if plan.spread else position * fold + slice_
        when = arrival[np.where(pixels < 0, len(words), pixels * fold + slice_)]
        start = np.maximum(start, (when + 1 - place).max(axis=1))
    start = one_a_cycle(np.maximum(start, 0), plan.cycles)
    return (start[:, None] + plan.sf * (1 + np.arange(plan.nf))).ravel()


def _scanned(plan: LayerPlan, words: np.ndarray) -> np.ndarray:
    """Cycles of each window out of `windows_all`, once for every group of results."""
    (height, width, _), (rows, columns, _) = plan.image, plan.out_image
    if plan.queue_log2:
        words = one_a_cycle(words + 2)
    size, repeat = plan.kernel, 1 if plan.choice.build == "unrolled" else plan.nf
    tall = max(plan.pad[0] + height, (rows - 1) * plan.stride + size)
    wide = max(plan.pad[2] + width, (columns - 1) * plan.stride + size)
    ready = np.full((tall, wide), -(1 << 40))
    ready[plan.pad[0] : plan.pad[0] + height, plan.pad[2] : plan.pad[2] + width] = words.reshape(height, width)
    ends = np.zeros((tall, wide), bool)
    ends[size - 1 : (rows - 1) * plan.stride + size : plan.stride, size - 1 : (columns - 1) * plan.stride + size : plan.stride] = True
    times = one_a_cycle(np.maximum(ready, 0).ravel(), np.where(ends.ravel(), repeat, 1))[ends.ravel()] + 1
    return (times[:, None] + np.arange(repeat)).ravel()


def through(plan: LayerPlan, words: np.ndarray) -> np.ndarray:
    """Cycles of a layer's output beats from those of its input words, one frame."""
    if not plan.needs_window:
        taken = one_a_cycle(words)[plan.sf - 1 :: plan.sf]
    else:
        taken = _scanned(plan, words) if plan.parallel else _windowed(plan, words)
    return taken + depth_of(plan)


def latency(plan: CorePlan) -> tuple[int, list[int]]:
    """(cycles from the first beat of a frame taken to the last beat of its answer taken, of each layer until its last result)."""
    times = np.arange(plan.frame_bytes // plan.lanes) + 1
    each = []
    for layer, (out, into) in zip(plan.layers, plan.elements):
        times = through(layer, resized(times, out, into))
        each.append(int(times[-1]))
    return int(one_a_cycle(resized(times, *plan.elements[-1]))[-1]) + 1, each


def interval(plan: CorePlan) -> int:
    """Cycles between frames when frames come without a gap: the slowest block's; small buffers between layers may add some to it."""
    return max(plan.frame_bytes // plan.lanes, plan.frame_beats, *(layer.interval for layer in plan.layers))

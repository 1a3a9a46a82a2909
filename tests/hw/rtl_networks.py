"""Random foldings of random ternary networks, and how a generated core is tried: shared by the tests of the RTL."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gateware.rtl.plan import Choice, CorePlan, lanes_of, plan
from gateware.rtl.tables import Widths
from gateware.rtl.verilog import memories, sources
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network
from ternary_networks import parameters


def divisors(value: int) -> list[int]:
    """All of them."""
    return [d for d in range(1, value + 1) if value % d == 0]


def random_choices(network: Network, rng: np.random.Generator) -> list[Choice]:
    """A folding that fits, every build, memory and divisor with some probability."""
    choices, before = [], lanes_of(network.input_shape[2])
    for index, layer in enumerate(network.layers):
        shape = network.shapes[index]
        dense, spread = isinstance(layer, Dense), isinstance(layer, (Depthwise, MaxPool, AvgPool))
        inputs = int(np.prod(shape)) if dense else shape[-1]
        outputs = network.shapes[index + 1][-1]
        fits = [d for d in divisors(inputs) if d % before == 0 or before % d == 0]
        builds = ["folded", "folded"] if isinstance(layer, (MaxPool, AvgPool)) else ["folded", "folded", "unrolled"]
        if not spread:
            builds.append("wide")
        if inputs not in fits or inputs * outputs > 3000:
            builds = ["folded"]
        build = str(rng.choice(builds))
        simd = inputs if build != "folded" else int(rng.choice(fits))
        pe = outputs if build == "unrolled" else simd if spread else int(rng.choice(divisors(outputs)))
        choices.append(Choice(pe, simd, build, bool(rng.integers(2)), bool(rng.integers(2))))
        before = pe
    return choices


def write(core: CorePlan, directory: Path) -> Path:
    """The core's files in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {**sources(core), **memories(core)}.items():
        (directory / name).write_text(text)
    return directory


def random_core(network: Network, seed: int, directory: Path) -> CorePlan:
    """A core of a random folding, written into `directory`."""
    core = plan(network, random_choices(network, np.random.default_rng(seed)))
    write(core, directory)
    return core


class Family:
    """Networks of one geometry, folded alike, that one verilated core runs: their weights, biases and shifts are memory files."""

    def __init__(self, shape: tuple[int, int, int], make: Callable[[np.random.Generator], list[Layer]], choices: list[Choice]) -> None:
        self.shape, self.make, self.choices = shape, make, choices

    def network(self, seed: int) -> Network:
        """One of them."""
        return Network(self.shape, self.make(np.random.default_rng(seed)))

    def cores(self, count: int) -> list[CorePlan]:
        """`count` of them, with widths that fit all."""
        plans = [plan(self.network(seed), self.choices) for seed in range(count)]
        widths: list[Widths | None] = []
        for layers in zip(*(core.layers for core in plans)):
            found = [layer.widths for layer in layers if layer.widths is not None]
            widths.append(functools.reduce(Widths.union, found) if found else None)
        return [plan(core.network, self.choices, widths) for core in plans]


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], taps: int, input_bits: int, bits: int) -> dict:
    return parameters(rng, shape, taps, (1 << input_bits) - 1, (1 << bits) - 1)


def _conv(rng: np.random.Generator, kernel: int, cin: int, cout: int, input_bits: int, bits: int, **geometry: Any) -> Conv:
    numbers = _numbers(rng, (kernel, kernel, cin, cout), kernel**2 * cin, input_bits, bits)
    return Conv(**numbers, bits=bits, **geometry)


def _depthwise(rng: np.random.Generator, kernel: int, channels: int, input_bits: int, bits: int, **geometry: Any) -> Depthwise:
    return Depthwise(**_numbers(rng, (kernel, kernel, channels), kernel**2, input_bits, bits), bits=bits, **geometry)


def _dense(rng: np.random.Generator, inputs: int, outputs: int, input_bits: int, bits: int | None = None) -> Dense:
    return Dense(**_numbers(rng, (inputs, outputs), inputs, input_bits, bits or 7), bits=bits)


# fmt: off
FAMILIES = {
    "convolutions": Family(
        (7, 6, 3),
        lambda rng: [_conv(rng, 3, 3, 4, 8, 4, pad=(1, 1, 1, 1)), _conv(rng, 1, 4, 6, 4, 3, stride=2), _dense(rng, 72, 7, 3)],
        [Choice(2, 3, weights_block=True), Choice(3, 2, buffer_block=True), Choice(1, 6)],
    ),
    "strides and odd padding": Family(
        (9, 8, 2),
        lambda rng: [_conv(rng, 3, 2, 6, 8, 1, stride=2, pad=(2, 1, 0, 2)), _conv(rng, 3, 6, 3, 1, 8, pad=(0, 2, 1, 0)),
                     _dense(rng, 45, 7, 8)],
        [Choice(3, 1), Choice(3, 6), Choice(7, 3, weights_block=True)],
    ),
    "depthwise": Family(
        (8, 7, 4),
        lambda rng: [
            _depthwise(rng, 3, 4, 8, 5, stride=2, pad=(0, 1, 1, 1)), _depthwise(rng, 1, 4, 5, 6),
            _depthwise(rng, 3, 4, 6, 2, pad=(1, 1, 1, 1)),
            _dense(rng, 64, 7, 2),
        ],
        [Choice(2, 2), Choice(4, 4), Choice(1, 1), Choice(1, 4)],
    ),
    "pools": Family(
        (13, 11, 2),
        lambda rng: [_conv(rng, 1, 2, 4, 8, 6), MaxPool(3, 2), AvgPool(2), MaxPool(2, 1), _dense(rng, 8, 5, 6, 4), _dense(rng, 5, 7, 4)],
        [Choice(2, 1), Choice(2, 2), Choice(4, 4), Choice(1, 1), Choice(5, 2), Choice(7, 1)],
    ),
    "average of 4": Family(
        (9, 10, 3),
        lambda rng: [MaxPool(2, 1), AvgPool(4), _depthwise(rng, 1, 3, 8, 7), _dense(rng, 12, 7, 7)],
        [Choice(1, 1), Choice(3, 3), Choice(3, 3), Choice(7, 12)],
    ),
    "dense": Family(
        (5, 4, 4),
        lambda rng: [_dense(rng, 80, 12, 8, 8), _dense(rng, 12, 6, 8, 1), _dense(rng, 6, 7, 1)],
        [Choice(4, 8), Choice(6, 4), Choice(1, 2)],
    ),
    "whole windows": Family(
        (6, 7, 2),
        lambda rng: [_conv(rng, 3, 2, 4, 8, 4, pad=(1, 0, 1, 1)), _conv(rng, 3, 4, 6, 4, 5, stride=2, pad=(1, 1, 1, 1)),
                     _dense(rng, 72, 7, 5)],
        [Choice(2, 2, "wide"), Choice(6, 4, "wide"), Choice(7, 6)],
    ),
}

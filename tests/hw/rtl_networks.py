"""Random foldings of random ternary networks, and how a generated core is tried: shared by the tests of the RTL."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gateware.rtl.plan import Choice, CorePlan, lanes_of, plan
from gateware.rtl.verilog import memories, sources
from modelkit.ternary.layers import AvgPool, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network


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

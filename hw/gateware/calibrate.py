"""Fit the cost model to yosys: single layers of many kinds and foldings are synthesised, and `costs.json` is written anew.

    python -m gateware.calibrate --work DIR [--batches 12] [--check] [GENERATED ...]

`DIR`/measured.json keeps what was synthesised; a run that was stopped goes on. `--check` fits on a half of the layers and says how far
the other half is off. Layers of generated directories that `edgert hw report` has measured count too, ten times: they are what matters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gateware import costs
from gateware.generate import read
from gateware.rtl.plan import Choice, LayerPlan, layer_plan
from gateware.rtl.plan import plan as core_plan
from gateware.rtl.verilog import BLOCKS, layer_memories, layer_module
from gateware.synthesis import synthesise
from modelkit.ternary import npz
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool


def _divisors(value: int, least: int = 1, most: int = 1 << 30) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0 and least <= d <= most] or [value]


def _weights(rng: np.random.Generator, *shape: int) -> dict[str, np.ndarray]:
    weights = (rng.integers(0, 2, shape) * 2 - 1) * (rng.random(shape) < rng.uniform(0.25, 0.7))
    return {"weights": weights.astype(np.int8), "bias": rng.integers(-100, 100, shape[-1])}


def random_layer(rng: np.random.Generator) -> tuple[Layer, tuple[int, int, int], int, Choice]:
    """(layer, input shape, largest input, choice) of a kind and size that cores have."""
    bits = int(rng.choice([1, 2, 3, 4, 4, 4, 5, 6, 8]))
    out = int(rng.choice([2, 3, 4, 4, 4, 6, 8]))
    side, cin = int(rng.choice([4, 7, 8, 14, 16, 28, 32])), int(rng.choice([3, 8, 12, 16, 28, 32, 48, 64, 96, 128]))
    largest = (1 << bits) - 1
    block, rows = bool(rng.integers(2)), bool(rng.integers(3) == 0)
    kind = rng.choice(["conv", "conv", "conv", "conv", "dense", "dense", "wide", "unrolled", "unrolled", "max", "max", "avg", "depthwise"])
    span = int(rng.integers(0, 3))

    def shifts(taps: int, channels: int) -> np.ndarray:
        usual = max(int(np.log2(np.sqrt(taps) * largest * 0.6 / (1 << out)) + 1), 0)
        return usual + rng.integers(0, span + 1, channels)

    if kind in ("max", "avg"):
        pe = int(rng.choice(_divisors(cin)))
        layer: Layer = MaxPool(2, 2) if kind == "max" else AvgPool(int(rng.choice([2, 4])))
        return layer, (side, side, cin), largest, Choice(pe, pe, buffer_block=rows)
    if kind == "depthwise":
        pe = int(rng.choice(_divisors(cin, most=32)))
        depthwise = Depthwise(**_weights(rng, 3, 3, cin), shift=shifts(9, cin), bits=out, pad=(1, 1, 1, 1))
        return depthwise, (side, side, cin), largest, Choice(pe, pe, weights_block=block, buffer_block=rows)
    cout = int(rng.choice([8, 12, 16, 32, 64, 128]))
    if kind == "dense":
        inputs = int(rng.choice([32, 64, 128, 256, 512, 1024]))
        cout = int(rng.choice([10, 16, 32]))
        simd, pe = int(rng.choice(_divisors(inputs, most=16))), int(rng.choice(_divisors(cout)))
        dense = Dense(**_weights(rng, inputs, cout), shift=shifts(inputs, cout), bits=out)
        return dense, (1, 1, inputs), largest, Choice(pe, simd, weights_block=block and inputs // simd * (cout // pe) > 64)
    pad = (1, 1, 1, 1) if rng.integers(3) else (0, 0, 0, 0)
    if kind == "conv":
        simd, pe = int(rng.choice(_divisors(cin, 2, 64))), int(rng.choice(_divisors(cout, 2, 32)))
        taps = 9 * cin
        conv = Conv(**_weights(rng, 3, 3, cin, cout), shift=shifts(taps, cout), bits=out, pad=pad, stride=int(rng.choice([1, 1, 2])))
        return conv, (side, side, cin), largest, Choice(pe, simd, "folded", block, rows)
    cin, cout = int(rng.choice([1, 3, 4, 6])), int(rng.choice([6, 8, 12, 16]))
    conv = Conv(**_weights(rng, 3, 3, cin, cout), shift=shifts(9 * cin, cout), bits=out, pad=pad, stride=int(rng.choice([1, 1, 2])))
    pe = cout if kind == "unrolled" else int(rng.choice(_divisors(cout, 2)))
    return conv, (side, side, cin), largest, Choice(pe, cin, str(kind))


def batch_of(seed: int, size: int) -> list[LayerPlan]:
    """`size` random layers, at most 1,500 products a cycle each."""
    rng = np.random.default_rng(seed)
    plans: list[LayerPlan] = []
    while len(plans) < size:
        layer, shape, largest, choice = random_layer(rng)
        bits = getattr(layer, "bits", None) or largest.bit_length()
        made = layer_plan(len(plans), layer, shape, largest, choice, out_bits=bits)
        if made.weight_word * made.cycles > 24_000:
            made = attrs.evolve(made, choice=attrs.evolve(choice, weights_block=True))
        if made.terms * made.choice.pe <= 400 and made.cycles <= 5000 and made.span * made.choice.simd * made.bits < 200_000:
            plans.append(made)
    return plans


def measure(directory: Path, plans: list[LayerPlan]) -> list[dict[str, Any]]:
    """Synthesise the layers side by side; for each its features and what yosys found."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in [*directory.glob("*.v"), *directory.glob("*.mem")]:
        old.unlink()
    ports, text = ["input clk", "input rst"], ""
    for plan in plans:
        name = plan.name
        (directory / f"{name}.v").write_text(layer_module(plan))
        for file, words in layer_memories(plan).items():
            (directory / file).write_text(words)
        wires = {"s_data": f"input [{plan.choice.simd * plan.bits - 1}:0]", "s_valid": "input", "s_ready": "output",
                 "m_data": f"output [{plan.choice.pe * plan.out_bits - 1}:0]", "m_valid": "output", "m_ready": "input"}  # fmt: skip
        ports += [f"{direction} {name}_{wire}" for wire, direction in wires.items()]
        text += f"    {name} {name}_i (.clk(clk), .rst(rst), " + ", ".join(f".{wire}({name}_{wire})" for wire in wires) + ");\n"
    (directory / "core.v").write_text(f"module core (\n    {', '.join(ports)}\n);\n{text}endmodule\n")
    for path in BLOCKS.glob("*.v"):
        (directory / path.name).write_text(path.read_text())
    uses = synthesise(directory, [plan.name for plan in plans])
    return [{"what": costs.describe(plan), "features": costs.features(plan), "use": attrs.asdict(uses[plan.name])} for plan in plans]


def measured_core(directory: Path) -> list[dict[str, Any]]:
    """The rows of a generated directory with its `utilisation.json`."""
    build, used = read(directory), json.loads((directory / "utilisation.json").read_text())
    if used["sources"] != build["sources"]:
        raise SystemExit(f"{directory} was generated anew since it was measured; run: edgert hw report {directory}")
    choices = [
        Choice(**{name: entry[name] for name in ("pe", "simd", "build", "weights_block", "buffer_block")}) for entry in build["layers"]
    ]
    layers = core_plan(npz.load(directory / "mandatory.npz"), choices).layers
    return [{"what": costs.describe(layer), "features": costs.features(layer), "use": used["modules"][layer.name]} for layer in layers]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("generated", nargs="*", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    store = options.work / "measured.json"
    rows: dict[str, list[dict[str, Any]]] = json.loads(store.read_text()) if store.exists() else {}
    for seed in range(options.batches):
        plans = batch_of(seed, options.size)
        if str(seed) not in rows:
            rows[str(seed)] = measure(options.work / "batch", plans)
            store.write_text(json.dumps(rows, indent=1))
            print(f"batch {seed + 1} of {options.batches}", flush=True)
        for row, plan in zip(rows[str(seed)], plans, strict=True):
            row["features"] = costs.features(plan)  # the features may have changed since
    measured = [row for batch in rows.values() for row in batch]
    if options.check:
        fitted = costs.fit([row for i, row in enumerate(measured) if i % 2])
        costs.judge([row for i, row in enumerate(measured) if not i % 2], fitted)
        return
    cores = [row for directory in options.generated for row in measured_core(directory)]
    fitted = costs.fit(measured + 10 * cores)
    costs.judge(measured + cores, fitted)
    costs.FITTED.write_text(json.dumps(fitted, indent=1) + "\n")


if __name__ == "__main__":
    main()

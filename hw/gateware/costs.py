"""LUTs, registers and block RAM of a layer before synthesis: sums of features, weighted as `calibrate.py` fitted them to yosys.

A feature counts bits of one kind of logic (terms of the products, adders of the trees, accumulators, ...); its weight is LUTs or registers
a bit. Block RAM follows from shapes alone, twice: by bits stored, and by the width of its ports, as yosys and Vivado place it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gateware.rtl.plan import CorePlan, LayerPlan
from gateware.rtl.verilog import adder_graph
from modelkit.ternary.layers import AvgPool, MaxPool

FITTED = Path(__file__).parent / "costs.json"
BRAM18_PORTS = {512: 36, 1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}
"""Width of the port of half a RAMB36 by its depth."""


@attrs.frozen
class Cost:
    """What a layer takes; `bram18_bits` is the least that its bits fill, `bram18_ports` what its shapes take."""

    lut: float = 0
    ff: float = 0
    bram18_bits: int = 0
    bram18_ports: int = 0
    dsp: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other))))


def block_ram(width: int, depth: int) -> tuple[int, int]:
    """(halves of RAMB36 by bits, by port widths) of a memory; deep ones are stacked, all parts of one shape."""
    bits = -(-width * depth // 18432)
    return bits, min(-(-width // port) * -(-depth // deep) for deep, port in BRAM18_PORTS.items())


def _tree(terms: int, bits: int, every: int = 1) -> tuple[int, int]:
    """(bits of the adders after the first level, bits of the registers) of an adder tree; the first level goes with the terms."""
    adders, registers, count, width = 0, 0, terms, bits
    levels = (terms - 1).bit_length()
    for level in range(1, levels + 1):
        adders += (count // 2) * width if level > 1 else 0
        count, width = (count + 1) // 2, width + 1
        registers += count * width if (levels - level) % every == 0 else 0
    return adders, registers


def _rom(width: int, depth: int) -> tuple[float, float]:
    """(LUTs, registers) of a memory of constants in logic, as yosys makes them; of a short one, equal columns are made once."""
    if depth == 1:
        return 0, 0
    if depth > 64:
        return width * 3.2 * depth / 64, width
    share = next(value for limit, value in ((2, 0.2), (4, 0.4), (8, 0.55), (16, 0.7), (32, 1.4), (64, 2.8)) if depth <= limit)
    return min(width * share, 2.0**depth), min(width, 2.0**depth)


def _ram_luts(width: int, log2: int) -> int:
    """LUTs of a memory that is written: RAM32M and RAM64M hold 6 and 3 bits in 4 LUTs."""
    if log2 <= 5:
        return -(-width // 6) * 4
    return -(-width // 3) * 4 * (1 << max(log2 - 6, 0)) + (width * ((1 << (log2 - 6)) - 1) // 2 if log2 > 6 else 0)


def _requantise(channels: int, out: int, acc: int, low: int, span: int) -> dict[str, float]:
    """Choice of the result's bits, and the look at those above and below."""
    return {"clip": channels * out * (1 if span < 2 else 2), "beside": channels * (max(acc - out, 0) / 5 + (low + span) / 5 + span / 2 + 1)}


def features(plan: LayerPlan) -> dict[str, float]:
    """Feature -> count for a layer; names that start with `ff_` weigh registers, `=` ones are LUTs as they are."""
    choice, bits, found = plan.choice, plan.bits, {}
    pe, terms = choice.pe, plan.terms
    taps = choice.simd * bits * (plan.kernel**2 if plan.parallel else 1)
    if plan.needs_window and not plan.parallel:
        index = plan.buffer_log2 + 2
        found.update(window=1, window_index=index, ff_window=1, ff_window_index=index)
        if any(plan.pad):
            found.update(padding=1, padding_word=choice.simd * bits)
        if not choice.buffer_block:
            found["=ram"] = _ram_luts(choice.simd * bits, plan.buffer_log2)
            found["ff_word"] = choice.simd * bits
        if plan.spread:
            found["sliced"] = 1
    if plan.needs_window and plan.parallel:
        if plan.queue_log2:
            found.update(queue=1, ff_queue=1)
        columns = (plan.image[1] + 4 - 1).bit_length()
        found.update(
            scan=1, ff_scan=1, scan_pixel=choice.simd * bits if any(plan.pad) else 0, ff_word=taps + (plan.kernel - 1) * choice.simd * bits
        )
        found["=ram"] = _ram_luts((plan.kernel - 1) * choice.simd * bits, columns) if plan.kernel > 1 else 0
        found["=ram"] += _ram_luts(choice.simd * bits, plan.queue_log2) if plan.queue_log2 else 0
    if isinstance(plan.layer, MaxPool):
        found.update(max=pe * bits, pool=1, ff_word=found.get("ff_word", 0) + pe * bits)
        return found
    numbers = plan.numbers
    assert numbers is not None and plan.widths is not None
    if choice.build == "unrolled":
        graph = adder_graph(plan)
        adders = sum(node.bits for node in graph.nodes if node.left >= 0)
        width = max(graph.nodes[node].bits for node in graph.outputs)
        found.update(graph=adders, unrolled=1, **_requantise(pe, plan.out_bits, width, int(numbers.shift.mean()), 0))
        found.update(ff_graph=adders, ff_out=pe * plan.out_bits, ff_unrolled=1)
        return found
    acc, low, span = plan.widths.acc, plan.widths.shift_min, plan.widths.shift_span
    after, registers = _tree(terms, bits)
    unit = isinstance(plan.layer, AvgPool)
    seen = 1 - (1 - np.count_nonzero(numbers.weights) / numbers.weights.size) ** plan.cycles  # a weight that is 0 in every word has no term
    found.update(mac=1, ff_mac=1, terms=0 if unit else pe * terms * bits * seen, tree=pe * after, acc=pe * acc)
    found.update(_requantise(pe, plan.out_bits, acc, low, span))
    found.update(ff_x=taps if not plan.spread else pe * bits, ff_tree=pe * registers * seen, ff_acc=pe * acc, ff_out=pe * plan.out_bits)
    if plan.nf > 1 and not unit:
        found["bias_rom"], found["ff_bias"] = _rom(pe * (acc + span), plan.nf)
    if plan.cycles > 1 and not unit and not choice.weights_block:
        found["rom"], found["ff_rom"] = _rom(plan.weight_word, plan.cycles)
    if plan.cycles > 1024 and choice.weights_block:
        found["deep"] = plan.weight_word * -(-plan.cycles // 1024)
    return found


def memory(plan: LayerPlan) -> tuple[int, int]:
    """(halves of RAMB36 by bits, by ports) of a layer."""
    shapes = []
    if plan.choice.weights_block and plan.weight_word and plan.cycles > 1:
        shapes.append(block_ram(plan.weight_word, plan.cycles))
    if plan.choice.buffer_block and plan.needs_window and not plan.parallel:
        shapes.append(block_ram(plan.choice.simd * plan.bits, 1 << plan.buffer_log2))
    return sum(bits for bits, _ in shapes), sum(ports for _, ports in shapes)


def describe(plan: LayerPlan) -> str:
    """A layer in a line."""
    choice = plan.choice
    blocks = " weights in BRAM" * choice.weights_block + " rows in BRAM" * choice.buffer_block
    shapes = f"{'x'.join(map(str, plan.image))} -> {plan.out_image[2]}"
    return f"{plan.kind} {shapes}, {plan.bits} bits, {plan.build_text}, {plan.cycles} cycles{blocks}"


@cache
def weights() -> dict[str, float]:
    """Feature -> LUTs or registers each, as fitted."""
    return dict(json.loads(FITTED.read_text()))


def predict(found: dict[str, float], fitted: dict[str, float]) -> tuple[float, float]:
    """(LUTs, registers) of features."""
    lut = sum(
        count * (1.0 if name.startswith("=") else fitted.get(name, 0.0)) for name, count in found.items() if not name.startswith("ff_")
    )
    return lut, sum(count * fitted.get(name, 0.0) for name, count in found.items() if name.startswith("ff_"))


def layer_cost(plan: LayerPlan) -> Cost:
    """Predicted cost of a layer."""
    lut, ff = predict(features(plan), weights())
    return Cost(lut, ff, *memory(plan))


def border_cost(out: int, into: int, bits: int) -> Cost:
    """Predicted cost of `resize` between beats of `out` and `into` elements."""
    if out == into:
        return Cost()
    ratio, wide = max(out, into) // min(out, into), max(out, into) * bits
    if out < into:
        return Cost(4 + 2 * ratio.bit_length(), wide + ratio.bit_length())
    return Cost(4 + 2 * ratio.bit_length() + min(out, into) * bits * max((ratio - 1) / 3, 1), wide + ratio.bit_length() + 1)


def core_cost(plan: CorePlan) -> Cost:
    """Predicted cost of everything but the layers: unpack, borders, flags, pack."""
    bits = [*(layer.bits for layer in plan.layers), 8]
    borders = [border_cost(out, into, width) for (out, into), width in zip(plan.elements, bits)]
    return sum(borders, Cost(160, 170))


PRIOR = {
    "window": 12.0, "window_index": 7.0, "padding": 40.0, "padding_word": 0.2, "scan": 45.0, "scan_pixel": 1.0, "max": 1.5, "pool": 8.0,
    "graph": 0.75, "unrolled": 8.0, "mac": 20.0, "terms": 1.0, "tree": 1.0, "acc": 1.0, "clip": 1.0, "beside": 1.0, "bias_rom": 1.0,
    "rom": 1.0, "queue": 40.0, "ff_queue": 35.0, "deep": 0.5, "sliced": 5.0,
    "ff_window": 20.0, "ff_window_index": 8.0, "ff_word": 1.0, "ff_scan": 25.0, "ff_graph": 0.9,
    "ff_unrolled": 4.0, "ff_mac": 20.0, "ff_x": 1.0, "ff_tree": 1.0, "ff_acc": 1.0, "ff_out": 1.0, "ff_bias": 1.0, "ff_rom": 1.0,
}  # fmt: skip
"""What the blocks' logic gives on paper: the fit starts from these and leaves them only as far as the measurements demand."""


def fit(rows: list[dict[str, Any]], firm: float = 0.3) -> dict[str, float]:
    """Weights of the features that are least wrong in proportion: non-negative least squares, drawn to `PRIOR` (ridge `firm`)."""
    fitted: dict[str, float] = {}
    for resource in ("lut", "ff"):
        names = sorted(name for name in PRIOR if name.startswith("ff_") == (resource == "ff"))
        known = np.array([row["features"].get("=ram", 0) if resource == "lut" else 0 for row in rows], float)
        target = np.array([row["use"][resource] for row in rows], float)
        table = np.array([[row["features"].get(name, 0) for name in names] for row in rows], float)
        scale = 1 / np.maximum(target, 60)
        prior = np.array([PRIOR[name] for name in names])
        pull = np.diag(firm / prior)
        values = _non_negative(np.vstack([table * scale[:, None], pull]), np.concatenate([(target - known) * scale, pull @ prior]))
        fitted.update({name: round(float(value), 4) for name, value in zip(names, values)})
    return fitted


def _non_negative(table: np.ndarray, target: np.ndarray, rounds: int = 20_000) -> np.ndarray:
    """Non-negative least squares by coordinate descent."""
    norm = np.maximum((table**2).sum(0), 1e-12)
    values, rest = np.zeros(table.shape[1]), target.astype(float).copy()
    for _ in range(rounds):
        before = values.copy()
        for column in range(len(values)):
            step = max(values[column] + table[:, column] @ rest / norm[column], 0.0) - values[column]
            values[column] += step
            rest -= step * table[:, column]
        if np.abs(values - before).max() < 1e-7:
            break
    return values


def judge(rows: list[dict[str, Any]], fitted: dict[str, float]) -> None:
    """Print each layer's prediction and what yosys found."""
    errors = []
    for row in rows:
        lut, ff = predict(row["features"], fitted)
        found = row["use"]
        errors.append((lut / max(found["lut"], 1) - 1, ff / max(found["ff"], 1) - 1))
        print(
            f"LUT {lut:7.0f} of {found['lut']:6d} {errors[-1][0]:+6.1%}  FF {ff:7.0f} of {found['ff']:6d} {errors[-1][1]:+6.1%}  "
            f"{row['what']}"
        )
    values = np.abs(np.array(errors))
    total = [
        sum(predict(row["features"], fitted)[k] for row in rows) / sum(row["use"][name] for row in rows) - 1
        for k, name in enumerate(("lut", "ff"))
    ]
    print(
        f"{len(rows)} layers: LUT median {np.median(values[:, 0]):.1%}, nine in ten {np.quantile(values[:, 0], 0.9):.1%}, "
        f"in all {total[0]:+.1%}; "
        f"FF median {np.median(values[:, 1]):.1%}, nine in ten {np.quantile(values[:, 1], 0.9):.1%}, in all {total[1]:+.1%}"
    )

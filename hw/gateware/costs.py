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


def _adder_bits(terms: int, bits: int) -> tuple[int, int]:
    """(bits of the first level's adders, of the others)."""
    first, rest, count, width = 0, 0, terms, bits
    while count > 1:
        width += 1
        made = (count // 2) * width
        first, rest = (made, rest) if count == terms else (first, rest + made)
        count = (count + 1) // 2
    return first, rest


def _tree_registers(terms: int, bits: int, every: int = 2) -> int:
    levels = (terms - 1).bit_length()
    return sum(-(-terms // (1 << level)) * (bits + level) for level in range(1, levels + 1) if (levels - level) % every == 0)


def _rom_luts(width: int, depth: int) -> float:
    """LUTs of a memory of constants, shape only: a LUT6 holds 64 bits, selecting among several takes more."""
    return (
        0
        if depth == 1
        else width * (depth / 64 + (depth // 64) / 3 if depth > 64 else (0.4, 0.5, 0.75, 1, 1)[min((depth - 1).bit_length() - 1, 4)])
    )


def _ram_luts(width: int, log2: int) -> int:
    """LUTs of a memory that is written: RAM32M and RAM64M hold 6 and 3 bits in 4 LUTs."""
    if log2 <= 5:
        return -(-width // 6) * 4
    return -(-width // 3) * 4 * (1 << max(log2 - 6, 0)) + (width * ((1 << (log2 - 6)) - 1) // 2 if log2 > 6 else 0)


def _requantise(channels: int, out: int, acc: int, span: int) -> dict[str, float]:
    return {"clip": channels * out, "clip_span": channels * (out + 2) * span, "high": channels * max(acc - out, 0)}


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
        columns = (plan.image[1] + 4 - 1).bit_length()
        found.update(
            scan=1, ff_scan=1, scan_pixel=choice.simd * bits if any(plan.pad) else 0, ff_word=taps + (plan.kernel - 1) * choice.simd * bits
        )
        found["=ram"] = _ram_luts((plan.kernel - 1) * choice.simd * bits, columns) if plan.kernel > 1 else 0
    if isinstance(plan.layer, MaxPool):
        found.update(max=pe * bits, pool=1, ff_word=found.get("ff_word", 0) + pe * bits)
        return found
    numbers = plan.numbers
    assert numbers is not None and plan.widths is not None
    if choice.build == "unrolled":
        graph = adder_graph(plan)
        adders = [node for node in graph.nodes if node.left >= 0]
        width = max(graph.nodes[node].bits for node in graph.outputs)
        found.update(graph=sum(node.bits for node in adders), unrolled=1, **_requantise(pe, plan.out_bits, width, 0))
        found.update(ff_graph=sum(node.bits for node in adders), ff_out=pe * plan.out_bits, ff_unrolled=1)
        return found
    acc, span = plan.widths.acc, plan.widths.shift_span
    first, rest = _adder_bits(terms, bits)
    dense = np.count_nonzero(numbers.weights) / numbers.weights.size if plan.cycles <= 4 else 1.0
    unit = isinstance(plan.layer, AvgPool)
    found.update(mac=1, ff_mac=1)
    found["terms" if terms > 1 else "single"] = 0 if unit else pe * terms * bits * dense
    found.update(first=pe * first * dense, rest=pe * rest, acc=pe * acc, **_requantise(pe, plan.out_bits, acc, span))
    found["acc_first"] = pe * acc if plan.sf > 1 and plan.nf > 1 else 0
    found.update(
        ff_x=taps,
        ff_tree=pe * _tree_registers(terms, bits),
        ff_acc=pe * (acc + (plan.widths.select if span else 0)),
        ff_out=pe * plan.out_bits,
    )
    if not unit:
        if plan.nf > 1:
            found["bias_rom"] = _rom_luts(pe * (acc + span), plan.nf)
            found["ff_bias"] = pe * (acc + span)
        if plan.cycles > 1 and not choice.weights_block:
            found["rom"] = _rom_luts(plan.weight_word, plan.cycles)
            found["ff_rom"] = plan.weight_word
        if choice.weights_block and plan.cycles > 1024:
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


def fit(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Weights of the features, none negative, that are least wrong in proportion (iterated non-negative least squares)."""
    fitted: dict[str, float] = {}
    for resource in ("lut", "ff"):
        names = sorted(
            {name for row in rows for name in row["features"] if name[0] != "=" and name.startswith("ff_") == (resource == "ff")}
        )
        known = np.array([row["features"].get("=ram", 0) if resource == "lut" else 0 for row in rows], float)
        target = np.array([row["use"][resource] for row in rows], float)
        table = np.array([[row["features"].get(name, 0) for name in names] for row in rows], float)
        scale = 1 / np.maximum(target, 60)
        values = _non_negative(table * scale[:, None], (target - known) * scale)
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

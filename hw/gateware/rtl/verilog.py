"""Verilog and memory files of a core from its plan: `core.v`, a `layerN.v` a layer, and the hand-written blocks that they use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateware.rtl.kernel import Graph, graph_of
from gateware.rtl.kernel import verilog as kernel_verilog
from gateware.rtl.plan import CorePlan, LayerPlan
from gateware.rtl.tables import bias_words, spread_out, weight_words
from modelkit.ternary.layers import AvgPool, MaxPool

BLOCKS = Path(__file__).parent / "blocks"
FLAGS_LOG2 = 4
"""log2 of the frames that may be inside the core at a time."""

QUEUE = {
    "FOLD": 1,
    "H": 1,
    "W": 1,
    "KH": 1,
    "KW": 1,
    "STRIDE": 1,
    "PT": 0,
    "PL": 0,
    "OH": 1,
    "OW": 1,
    "REPEAT": 1,
    "SLICED": 0,
    "PADDED": 0,
}
"""Parameters that make of `window` a queue of words."""


def _instance(module: str, name: str, parameters: Mapping[str, object], ports: Mapping[str, str]) -> str:
    values = ", ".join(f'.{key}("{value}")' if isinstance(value, str) else f".{key}({int(value)})" for key, value in parameters.items())
    wires = ", ".join(f".{key}({value})" for key, value in ports.items())
    return f"    {module} #({values}) {name} (\n        {wires});\n" if values else f"    {module} {name} (\n        {wires});\n"


def _stream(source: str, sink: str) -> dict[str, str]:
    ports = {"clk": "clk", "rst": "rst"}
    for side, prefix in (("s", source), ("m", sink)):
        ports.update({f"{side}_{wire}": f"{prefix}_{wire}" for wire in ("data", "valid", "ready")})
    return ports


def _wires(name: str, width: int) -> str:
    return f"    wire [{width - 1}:0] {name}_data; wire {name}_valid, {name}_ready;\n"


def _window(plan: LayerPlan) -> dict[str, object]:
    height, width, _ = plan.image
    rows, columns, _ = plan.out_image
    return {
        "WIDTH": plan.choice.simd * plan.bits, "FOLD": plan.fold, "H": height, "W": width, "KH": plan.kernel, "KW": plan.kernel,
        "STRIDE": plan.stride, "PT": plan.pad[0], "PL": plan.pad[2], "OH": rows, "OW": columns,
        "REPEAT": 1 if plan.spread else plan.nf, "SLICED": plan.spread, "PADDED": any(plan.pad), "AW": plan.buffer_log2,
        "BLOCK": plan.choice.buffer_block,
    }  # fmt: skip


def _windows_all(plan: LayerPlan) -> dict[str, object]:
    kept = ("WIDTH", "H", "W", "KH", "KW", "STRIDE", "PT", "PL", "OH", "OW", "REPEAT")
    values = {**_window(plan), "REPEAT": 1 if plan.choice.build == "unrolled" else plan.nf}
    return {key: values[key] for key in kept}


def _mac(plan: LayerPlan) -> dict[str, object]:
    assert plan.widths is not None
    unit = isinstance(plan.layer, AvgPool)
    parameters: dict[str, object] = {
        "BITS": plan.bits, "SIMD": plan.choice.pe if plan.spread else plan.terms, "PE": plan.choice.pe, "SF": plan.sf,
        "NF": 1 if unit else plan.nf,
        "SPREAD": plan.spread, "UNIT": unit, "ACC": plan.widths.acc, "OUT": plan.out_bits, "SIGNED": plan.signed,
        "SMIN": plan.widths.shift_min, "SB": plan.widths.select, "SPAN": plan.widths.shift_span, "BLOCK": plan.choice.weights_block,
        "BIASES": f"{plan.name}_biases.mem",
    }  # fmt: skip
    return parameters if unit else {**parameters, "WEIGHTS": f"{plan.name}_weights.mem"}


def adder_graph(plan: LayerPlan) -> Graph:
    """The adders of an unrolled layer: its weights as they are, its start values without what the folded block takes off."""
    numbers = plan.numbers
    assert numbers is not None
    weights = spread_out(numbers.weights) if plan.spread else numbers.weights
    return graph_of(weights, numbers.start + plan.input_max * (weights < 0).sum(0), plan.input_max)


def _unrolled(plan: LayerPlan, source: str) -> tuple[str, str]:
    """(body of the layer's module after its windows, the module of its adders)."""
    graph = adder_graph(plan)
    assert plan.numbers is not None
    inputs = plan.kernel**2 * plan.choice.simd
    kernel, stages = kernel_verilog(graph, f"{plan.name}_kernel", inputs, plan.bits)
    width = max(graph.nodes[index].bits for index in graph.outputs)
    text = f"    reg [{stages}:0] flow; // a window in each stage of the adders, in the outputs\n"
    text += f"    assign m_valid = flow[{stages}];\n    wire en = !m_valid || m_ready;\n    assign {source}_ready = en;\n"
    shifted = f"{{flow, {source}_valid}}" if stages else f"{source}_valid"
    text += f"    always @(posedge clk) if (rst) flow <= 0; else if (en) flow <= {shifted};\n"
    text += f"    wire [{plan.choice.pe * width - 1}:0] sums;\n"
    text += _instance(f"{plan.name}_kernel", "adders", {}, {"clk": "clk", "en": "en", "x": f"{source}_data", "sums": "sums"})
    for channel, shift in enumerate(plan.numbers.shift.tolist()):
        parameters = {"ACC": width, "OUT": plan.out_bits, "SIGNED": plan.signed, "SMIN": shift, "SB": 1, "SPAN": 0}
        ports = {"clk": "clk", "en": "en", "acc": f"sums[{channel * width} +: {width}]", "select": "1'b0",
                 "y": f"m_data[{channel * plan.out_bits} +: {plan.out_bits}]"}  # fmt: skip
        text += _instance("requantise", f"activation{channel}", parameters, ports)
    return text, kernel


def layer_module(plan: LayerPlan) -> str:
    """The module of one layer: beats of `simd` elements in, of `pe` elements out."""
    choice = plan.choice
    shapes = f"{'x'.join(map(str, plan.shape))} -> {'x'.join(map(str, plan.out_shape))}"
    text = f"// {plan.kind}, {shapes}, {plan.build_text}: {plan.cycles} cycles an output pixel. Generated.\n"
    text += f"module {plan.name} (\n    input clk, input rst,\n"
    text += f"    input [{choice.simd * plan.bits - 1}:0] s_data, input s_valid, output s_ready,\n"
    text += f"    output [{choice.pe * plan.out_bits - 1}:0] m_data, output m_valid, input m_ready\n);\n"
    source = "s"
    if plan.needs_window:
        taps = choice.simd * (plan.kernel**2 if plan.parallel else 1)
        text += _wires("taps", taps * plan.bits)
        if plan.queue_log2:
            text += _wires("pixels", choice.simd * plan.bits)
            text += _instance("window", "queue", {**QUEUE, "WIDTH": choice.simd * plan.bits, "AW": plan.queue_log2}, _stream("s", "pixels"))
            source = "pixels"
        module, parameters = ("windows_all", _windows_all(plan)) if plan.parallel else ("window", _window(plan))
        text += _instance(module, "windows", parameters, _stream(source, "taps"))
        source = "taps"
    if choice.build == "unrolled":
        body, kernel = _unrolled(plan, source)
        return text + body + "endmodule\n\n" + kernel
    if isinstance(plan.layer, MaxPool):
        text += _instance("maxpool", "pool", {"BITS": plan.bits, "PE": choice.pe, "SF": plan.sf}, _stream(source, "m"))
    else:
        text += _instance("mac", "macs", _mac(plan), _stream(source, "m"))
    return text + "endmodule\n"


def core_module(plan: CorePlan) -> str:
    """`core.v`: unpack, the layers with `resize` between them, pack."""
    text = "// The core of one network: see docs/gateware.md for its contract. Generated.\n"
    text += "module core (\n    input clk, input rst,\n"
    text += "    input [31:0] s_tdata, input s_tvalid, input s_tlast, output s_tready,\n"
    text += "    output [31:0] m_tdata, output m_tvalid, output m_tlast, input m_tready,\n"
    text += "    output err_short, output err_long\n);\n"
    text += "    wire flag_bad, flag_valid, flag_ready, frame_bad, frame_valid, frame_ready;\n"
    last = len(plan.layers)
    bits = [*(layer.bits for layer in plan.layers), 8]
    for index, (out, into) in enumerate(plan.elements):
        text += _wires(f"out{index}", out * bits[index]) + _wires(f"in{index}", into * bits[index])
    axis = {wire: wire for wire in ("s_tdata", "s_tvalid", "s_tlast", "s_tready", "err_short", "err_long")}
    ports = {key: value for key, value in _stream("s", "out0").items() if not key.startswith("s_")}
    flags = {"f_bad": "flag_bad", "f_valid": "flag_valid", "f_ready": "flag_ready"}
    text += _instance("unpack", "frames", {"BYTES": plan.frame_bytes, "LANES": plan.lanes}, {**ports, **axis, **flags})
    for index, (out, into) in enumerate(plan.elements):
        sizes = {"BITS": bits[index], "IN": out, "OUT": into}
        text += _instance("resize", f"resize{index}", sizes, _stream(f"out{index}", f"in{index}"))
        if index < last:
            text += _instance(plan.layers[index].name, f"{plan.layers[index].name}_i", {}, _stream(f"in{index}", f"out{index + 1}"))
    queue = {"clk": "clk", "rst": "rst", "s_bad": "flag_bad", "s_valid": "flag_valid", "s_ready": "flag_ready",
             "m_bad": "frame_bad", "m_valid": "frame_valid", "m_ready": "frame_ready"}  # fmt: skip
    text += _instance("flags", "frame_flags", {"AW": FLAGS_LOG2}, queue)
    ports = {key: value for key, value in _stream(f"in{last}", "m").items() if not key.startswith("m_")}
    axis = {wire: wire for wire in ("m_tdata", "m_tvalid", "m_tlast", "m_tready")}
    flags = {"f_bad": "frame_bad", "f_valid": "frame_valid", "f_ready": "frame_ready"}
    text += _instance("pack", "answers", {"CLASSES": plan.network.classes}, {**ports, **axis, **flags})
    return text + "endmodule\n"


def layer_memories(layer: LayerPlan) -> dict[str, str]:
    """The memory files of one layer: name -> text."""
    numbers = layer.numbers
    if numbers is None or layer.choice.build == "unrolled":
        return {}
    assert layer.widths is not None
    pe, start, shift = layer.choice.pe, numbers.start, numbers.shift
    if isinstance(layer.layer, AvgPool):
        return {f"{layer.name}_biases.mem": bias_words(start.repeat(pe), shift.repeat(pe), pe, layer.widths)}
    return {
        f"{layer.name}_weights.mem": weight_words(numbers.weights, layer.terms, pe, layer.spread),
        f"{layer.name}_biases.mem": bias_words(start, shift, pe, layer.widths),
    }


def memories(plan: CorePlan) -> dict[str, str]:
    """The memory files of the core: name -> text."""
    return {name: text for layer in plan.layers for name, text in layer_memories(layer).items()}


def sources(plan: CorePlan) -> dict[str, str]:
    """All Verilog files of the core: name -> text."""
    files = {path.name: path.read_text() for path in sorted(BLOCKS.glob("*.v"))}
    files.update({f"{layer.name}.v": layer_module(layer) for layer in plan.layers})
    return {**files, "core.v": core_module(plan)}

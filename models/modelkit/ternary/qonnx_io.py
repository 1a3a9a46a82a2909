"""`mandatory.onnx`: a ternary network as QONNX, written and read back. Needs `onnx` (extra `models`), to run it `qonnx`.

Input `frame` float32 [n, c, h, w], the integers 0 to 255; output `logits` float32 [n, classes] = int8 * 2^-logit_shift.
Every parameter and every activation passes a `Quant` node (Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized
Neural Networks", 2022):

- weights: 2 bits, signed, narrow (-1, 0, +1), scale 2^-shift per output channel; bias: 32 bits, signed, the same scale;
- activations: `bits` bits, unsigned, scale 1, rounding mode ROUND (half to even), after a Relu;
- logits: 8 bits, signed, scale 2^-logit_shift, which the last layer's weights and bias carry too.

`read` takes what `model` writes, also after a tool has cleaned it up, as long as it is this chain of nodes; it says which node
it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network
from modelkit.ternary.onnx_graph import Chain, network_pad, onnx_pads, scales
from modelkit.ternary.reference import check_frames, in_batches

DOMAIN = "qonnx.custom_op.general"
MAX_FILE_BYTES = 256 << 20


class _Writer(Chain):
    """Adds `Quant` nodes."""

    def quant(self, source: str, name: str, scale: np.ndarray, bits: int, signed: bool, narrow: bool = False) -> str:
        """A `Quant` node with zero-point 0 beside the chain; returns its output."""
        constants = [
            self.constant(f"{name}/scale", np.asarray(scale, np.float32)),
            self.constant(f"{name}/zero", np.float32(0)),
            self.constant(f"{name}/bits", np.float32(bits)),
        ]
        flags = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.node("Quant", [source, *constants], name, DOMAIN, **flags)

    def parameters(self, name: str, weights: np.ndarray, axis: int, bias: np.ndarray, scale: np.ndarray) -> list[str]:
        """Quantised weights, with one scale per channel of `axis`, and quantised bias."""
        shaped = scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        values = self.constant(f"{name}/weights_float", (weights * shaped).astype(np.float32))
        offsets = self.constant(f"{name}/bias_float", (bias * scale).astype(np.float32))
        return [
            self.quant(values, f"{name}/weights", shaped, 2, signed=True, narrow=True),
            self.quant(offsets, f"{name}/bias", scale, 32, signed=True),
        ]

    def activation(self, name: str, bits: int, relu: bool = True) -> None:
        """Relu and an unsigned `Quant` of scale 1."""
        if relu:
            self.then("Relu", [], f"{name}/relu")
        self.current = self.quant(self.current, f"{name}/out", np.float32(1), bits, signed=False)

    def windowed(self, name: str, layer: Conv | Depthwise) -> None:
        """Conv, grouped by channel for a depthwise one, and its activation."""
        depthwise = isinstance(layer, Depthwise)
        weights = layer.weights.transpose(2, 0, 1)[:, None] if depthwise else layer.weights.transpose(3, 2, 0, 1)
        constants = self.parameters(name, weights, 0, layer.bias, scales(layer.shift))
        geometry = {"kernel_shape": [layer.size] * 2, "strides": [layer.stride] * 2, "pads": onnx_pads(layer.pad)}
        self.then("Conv", constants, f"{name}/acc", group=layer.channels if depthwise else 1, **geometry)
        self.activation(name, layer.bits)

    def dense(self, name: str, layer: Dense, rank: int, logit_shift: int) -> None:
        """MatMul and Add, after flattening a picture in the order (h, w, c)."""
        if rank == 4:
            self.then("Transpose", [], f"{name}/nhwc", perm=[0, 2, 3, 1])
            self.then("Flatten", [], f"{name}/flat", axis=1)
        extra = logit_shift if layer.bits is None else 0
        weights, bias = self.parameters(name, layer.weights, 1, layer.bias, scales(layer.shift, extra))
        self.then("MatMul", [weights], f"{name}/product")
        self.then("Add", [bias], f"{name}/acc")
        if layer.bits is None:
            self.current = self.quant(self.current, "logits", np.float32(2.0**-logit_shift), 8, signed=True)
        else:
            self.activation(name, layer.bits)


def model(network: Network) -> onnx.ModelProto:
    """The network as a QONNX model."""
    writer = _Writer("frame")
    writer.current = writer.quant("frame", "frame_quant", np.float32(1), 8, signed=False)
    for index, (layer, shape, top) in enumerate(zip(network.layers, network.shapes, network.maxima)):
        name = f"layer{index}"
        if isinstance(layer, Dense):
            writer.dense(name, layer, len(shape) + 1, network.logit_shift)
        elif isinstance(layer, Conv | Depthwise):
            writer.windowed(name, layer)
        elif isinstance(layer, MaxPool):
            writer.then("MaxPool", [], f"{name}/max", kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2)
        elif isinstance(layer, AvgPool):
            size = [layer.size] * 2
            writer.then("AveragePool", [], f"{name}/mean", kernel_shape=size, strides=size)
            writer.activation(name, top.bit_length(), relu=False)
    height, width, channels = network.input_shape
    source = helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["n", channels, height, width])
    return writer.finish(source, network.classes, {DOMAIN: 1})


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write `mandatory.onnx`."""
    Path(path).write_bytes(model(network).SerializeToString(deterministic=True))


class _Reader:
    """Follows the chain of nodes from the input to the output."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.producers = {output: node for node in graph.node for output in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise ValueError(f"expected one input and one output, found {len(graph.input)} and {len(graph.output)}")
        self.current, self.sink = graph.input[0].name, graph.output[0].name
        dims = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
        if len(dims) != 4:
            raise ValueError(f"expected an input of shape [n, c, h, w], found {dims}")
        self.input_shape = (dims[2], dims[3], dims[1])
        self.bits = 0

    def take(self, *kinds: str) -> onnx.NodeProto:
        """The one node that reads the current tensor, which must be of one of `kinds`; moves on to its output."""
        nodes = self.consumers.get(self.current, [])
        if len(nodes) != 1 or nodes[0].op_type not in kinds or nodes[0].input[0] != self.current:
            found = [f"{node.op_type} {node.name!r}" for node in nodes]
            raise ValueError(f"after tensor {self.current!r}: expected {' or '.join(kinds)}, found {found}")
        self.current = nodes[0].output[0]
        return nodes[0]

    def following(self) -> str:
        """Kind of the next node, without moving."""
        nodes = self.consumers.get(self.current, [])
        return nodes[0].op_type if len(nodes) == 1 else ""

    def constant(self, name: str) -> np.ndarray:
        """A constant's value."""
        if name not in self.constants:
            raise ValueError(f"tensor {name!r}: expected a constant")
        return self.constants[name]

    def quant(self, node: onnx.NodeProto, bits: int | None, signed: bool, narrow: bool = False) -> tuple[np.ndarray, int]:
        """Scale and bits of a `Quant` node, checked against what the caller expects (any bits where None)."""
        scale, zero, width = (self.constant(name) for name in node.input[1:4])
        flags = attributes(node)
        width = width.item()
        found = (width, bool(flags["signed"]), bool(flags["narrow"]), flags["rounding_mode"].decode().upper())
        wanted = (width if bits is None else bits, signed, narrow, "ROUND")
        if found != wanted or np.any(zero != 0) or width != int(width):
            raise ValueError(f"Quant {node.name!r}: expected (bits, signed, narrow, rounding) {wanted}, zero-point 0; found {found}")
        return scale, int(width)

    def parameter(self, name: str, bits: int, narrow: bool) -> tuple[np.ndarray, np.ndarray]:
        """(integers int64, scale exponents -log2(scale)) of a quantised parameter; both per element."""
        node = self.producers.get(name)
        if node is None or node.op_type != "Quant":
            raise ValueError(f"tensor {name!r}: expected the output of a Quant node")
        scale, _ = self.quant(node, bits, signed=True, narrow=narrow)
        values = self.constant(node.input[0]).astype(np.float64)
        mantissa, exponent = np.frexp(scale)
        integers = values / scale
        if np.any(mantissa != 0.5) or np.any(integers != np.rint(integers)):
            raise ValueError(f"Quant {node.name!r}: expected power-of-two scales and values that are multiples of them")
        return integers.astype(np.int64), 1 - exponent.astype(np.int64)

    def parameters(self, weights: str, bias: str, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights int64, bias int64 [channels] and the scale exponents [channels] that both share."""
        kernel, kernel_shift = self.parameter(weights, 2, narrow=True)
        offset, offset_shift = self.parameter(bias, 32, narrow=False)
        channels = kernel.shape[axis]
        shift = np.broadcast_to(kernel_shift.reshape(-1), channels)
        if not np.array_equal(shift, np.broadcast_to(offset_shift.reshape(-1), channels)):
            raise ValueError(f"tensor {bias!r}: expected the same scales as {weights!r}")
        return kernel, offset, shift

    def activation(self) -> int:
        """Bits of the unsigned activation `Quant` that follows, with or without a Relu before it."""
        if self.following() == "Relu":
            self.take("Relu")
        node = self.take("Quant")
        scale, bits = self.quant(node, None, signed=False)
        if np.any(scale != 1):
            raise ValueError(f"Quant {node.name!r}: expected an activation scale of 1, found {scale}")
        self.bits = bits
        return bits

    def conv(self, node: onnx.NodeProto) -> Layer:
        """A Conv or Depthwise from a Conv node."""
        flags = attributes(node)
        kernel, bias, shift = self.parameters(node.input[1], node.input[2], 0)
        stride = flags.get("strides", [1, 1])
        if stride[0] != stride[1] or flags.get("auto_pad", b"NOTSET") != b"NOTSET" or set(flags.get("dilations", [1])) != {1}:
            raise ValueError(f"Conv {node.name!r}: expected equal strides, explicit pads and no dilation")
        geometry = {"stride": stride[0], "pad": network_pad(flags.get("pads", [0] * 4)), "bits": self.activation()}
        if flags.get("group", 1) == 1:
            return Conv(kernel.transpose(2, 3, 1, 0), bias, shift, **geometry)
        if flags["group"] != len(kernel) or kernel.shape[1] != 1:
            raise ValueError(f"Conv {node.name!r}: expected one group, or one channel a group")
        return Depthwise(kernel[:, 0].transpose(1, 2, 0), bias, shift, **geometry)

    def pool(self, node: onnx.NodeProto) -> Layer:
        """A MaxPool or AvgPool."""
        flags = attributes(node)
        size, stride = flags["kernel_shape"], flags.get("strides", [1, 1])
        if len({*size}) != 1 or len({*stride}) != 1 or any(flags.get("pads", [0])) or flags.get("ceil_mode", 0):
            raise ValueError(f"{node.op_type} {node.name!r}: expected a square window, no pads, ceil_mode 0")
        if node.op_type == "MaxPool":
            return MaxPool(size[0], stride[0])
        if size != stride:
            raise ValueError(f"AveragePool {node.name!r}: expected a stride equal to the size")
        if self.bits != self.activation():
            raise ValueError(f"AveragePool {node.name!r}: expected an output of as many bits as its input")
        return AvgPool(size[0])

    def dense(self, node: onnx.NodeProto) -> tuple[Dense, int]:
        """(layer, logit_shift) from MatMul and Add; logit_shift is 0 where the layer is hidden."""
        add = self.take("Add")
        kernel, bias, shift = self.parameters(node.input[1], add.input[1], 1)
        following = self.consumers.get(self.current, [])
        if len(following) == 1 and following[0].op_type == "Quant" and following[0].output[0] == self.sink:
            scale, _ = self.quant(self.take("Quant"), 8, signed=True)
            mantissa, exponent = np.frexp(scale.reshape(-1))
            if len(mantissa) != 1 or mantissa[0] != 0.5:
                raise ValueError(f"output {self.sink!r}: expected one power-of-two scale, found {scale}")
            logit_shift = 1 - int(exponent[0])
            return Dense(kernel, bias, shift - logit_shift), logit_shift
        return Dense(kernel, bias, shift, self.activation()), 0

    def network(self) -> Network:
        """The whole chain."""
        if self.activation() != 8:
            raise ValueError("expected the input to be quantised to 8 bits")
        layers: list[Layer] = []
        logit_shift = 0
        while self.current != self.sink:
            node = self.take("Conv", "MaxPool", "AveragePool", "Transpose", "Flatten", "MatMul")
            if node.op_type == "Conv":
                layers.append(self.conv(node))
            elif node.op_type in ("MaxPool", "AveragePool"):
                layers.append(self.pool(node))
            elif node.op_type == "MatMul":
                layer, logit_shift = self.dense(node)
                layers.append(layer)
            elif node.op_type == "Transpose" and (attributes(node).get("perm") != [0, 2, 3, 1] or self.following() != "Flatten"):
                raise ValueError(f"Transpose {node.name!r}: expected perm [0, 2, 3, 1] before a Flatten")
        return Network(self.input_shape, layers, logit_shift)


def attributes(node: onnx.NodeProto) -> dict:
    """The attributes of a node by name; strings are bytes."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The ONNX model in a file; ValueError, naming the file, where it is too big or not ONNX."""
    size = os.stat(path).st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found {size}")
    try:
        return onnx.load_from_string(Path(path).read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path}: not an ONNX file: {error}") from error


def read(source: onnx.ModelProto | str | os.PathLike[str]) -> Network:
    """The network in a QONNX model or file; ValueError, naming the node, where it is something else."""
    return _Reader((source if isinstance(source, onnx.ModelProto) else load(source)).graph).network()


def runner(source: onnx.ModelProto) -> Callable[[np.ndarray], np.ndarray]:
    """A function from frames uint8 [n, h, w, c] to logits int8 [n, classes], by qonnx's own executor, node by node (slow)."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    network = read(source)
    entry, result = source.graph.input[0].name, source.graph.output[0].name
    step = 2.0**network.logit_shift

    @lru_cache(maxsize=2)
    def shaped(count: int) -> Any:
        wrapper = ModelWrapper(source, make_deepcopy=True)
        height, width, channels = network.input_shape
        wrapper.set_tensor_shape(entry, [count, channels, height, width])
        wrapper.set_tensor_shape(result, [count, network.classes])
        return wrapper.transform(InferShapes())

    def run(frames: np.ndarray) -> np.ndarray:
        inputs = {entry: frames.transpose(0, 3, 1, 2).astype(np.float32)}
        return (execute_onnx(shaped(len(frames)), inputs)[result] * step).astype(np.int8)

    return lambda frames: in_batches(run, check_frames(network, frames))

"""A ternary network as QCDQ ONNX (QuantizeLinear, Clip, DequantizeLinear): standard operators only, exact under onnxruntime.

Needs `onnx` to write and `onnxruntime` to run (extra `models`). Input `frame` uint8 [n, h, w, c], output `logits` float32
[n, classes] = int8 * 2^-logit_shift. It is exact both where a runtime fuses the triples into integer operators (int32
accumulators times a power of two, one rounding half to even) and where it computes them in float32 (every partial sum is an
integer below 2^24 times a power of two); ONNX's QuantizeLinear rounds half to even. Average pooling is a depthwise convolution:
onnxruntime would fuse AveragePool into an operator of its own with its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network
from modelkit.ternary.onnx_graph import Chain, onnx_pads, scales
from modelkit.ternary.reference import check_frames, in_batches


class _Writer(Chain):
    """The chain between layers is uint8, scale 1, zero-point 0."""

    def __init__(self) -> None:
        super().__init__("frame")
        self.one = self.constant("one", np.float32(1))
        self.zero = self.constant("zero", np.uint8(0))

    def parameters(self, name: str, weights: np.ndarray, axis: int, bias: np.ndarray, scale: np.ndarray) -> list[str]:
        """Dequantised weights (int8, per channel of `axis`) and bias (int32)."""
        factor = self.constant(f"{name}/scale", scale)
        kernel = self.constant(f"{name}/weights", weights)
        offset = self.constant(f"{name}/bias", bias)
        return [
            self.node("DequantizeLinear", [kernel, factor], f"{name}/weights_float", axis=axis),
            self.node("DequantizeLinear", [offset, factor], f"{name}/bias_float", axis=0),
        ]

    def weighted(self, kind: str, name: str, constants: list[str], bits: int, **attributes: object) -> None:
        """Dequantise, apply `kind`, quantise to uint8 and clip to `bits` bits."""
        self.then("DequantizeLinear", [self.one, self.zero], f"{name}/in")
        self.then(kind, constants, f"{name}/acc", **attributes)
        self.then("QuantizeLinear", [self.one, self.zero], f"{name}/quantised")
        if bits < 8:
            top = self.constant(f"{name}/top", np.uint8(2**bits - 1))
            self.then("Clip", [self.zero, top], f"{name}/clipped")

    def depthwise(
        self, name: str, weights: np.ndarray, bias: np.ndarray, shift: np.ndarray, bits: int, stride: int, pads: list[int]
    ) -> None:
        """weights int8 [kh, kw, c]."""
        constants = self.parameters(name, weights.transpose(2, 0, 1)[:, None], 0, bias, scales(shift))
        self.weighted("Conv", name, constants, bits, strides=[stride] * 2, pads=pads, group=weights.shape[2])

    def dense(self, name: str, layer: Dense, rank: int, logit_shift: int) -> None:
        """Flatten a picture in the order (h, w, c); hidden layers end as uint8, the last one as float logits."""
        if rank == 4:
            self.then("Transpose", [], f"{name}/nhwc", perm=[0, 2, 3, 1])
            self.then("Flatten", [], f"{name}/flat", axis=1)
        extra = 0 if layer.bits is not None else logit_shift
        constants = self.parameters(name, layer.weights, 1, layer.bias, scales(layer.shift, extra))
        if layer.bits is not None:
            self.weighted("Gemm", name, constants, layer.bits)
            return
        self.then("DequantizeLinear", [self.one, self.zero], f"{name}/in")
        self.then("Gemm", constants, f"{name}/acc")
        step = [self.constant("logit_step", np.float32(2.0**-logit_shift)), self.constant("logit_zero", np.int8(0))]
        self.then("QuantizeLinear", step, "logits_int8")
        self.then("DequantizeLinear", step, "logits")


def model(network: Network) -> onnx.ModelProto:
    """The network as a QCDQ ONNX model."""
    writer = _Writer()
    writer.then("Transpose", [], "nchw", perm=[0, 3, 1, 2])
    for index, (layer, shape, top) in enumerate(zip(network.layers, network.shapes, network.maxima)):
        name = f"layer{index}"
        if isinstance(layer, Dense):
            writer.dense(name, layer, len(shape) + 1, network.logit_shift)
        elif isinstance(layer, Conv):
            constants = writer.parameters(name, layer.weights.transpose(3, 2, 0, 1), 0, layer.bias, scales(layer.shift))
            pads = onnx_pads(layer.pad)
            writer.weighted("Conv", name, constants, layer.bits, strides=[layer.stride] * 2, pads=pads)
        elif isinstance(layer, Depthwise):
            writer.depthwise(name, layer.weights, layer.bias, layer.shift, layer.bits, layer.stride, onnx_pads(layer.pad))
        elif isinstance(layer, AvgPool):
            channels, bits = shape[2], top.bit_length()
            ones = np.ones((layer.size, layer.size, channels), np.int8)
            shift = np.full(channels, layer.shift)
            writer.depthwise(name, ones, np.zeros(channels, np.int32), shift, bits, layer.size, [0] * 4)
        elif isinstance(layer, MaxPool):
            writer.then("MaxPool", [], f"{name}/max", kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2)
    source = helper.make_tensor_value_info("frame", TensorProto.UINT8, ["n", *network.input_shape])
    return writer.finish(source, network.classes, {})


def runner(network: Network, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from frames uint8 [n, h, w, c] to logits int8 [n, classes], by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model(network).SerializeToString(), options, providers=["CPUExecutionProvider"])
    step = np.float32(2.0**network.logit_shift)

    def run(frames: np.ndarray) -> np.ndarray:
        (logits,) = session.run(None, {"frame": frames})
        return (logits * step).astype(np.int8)

    return lambda frames: in_batches(run, check_frames(network, frames))

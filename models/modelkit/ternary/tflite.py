"""`mandatory.tflite`: a ternary network as an int8 flatbuffer, exact under LiteRT with its XNNPACK delegate.

Needs the extra `tflite` on a 64-bit machine (`ai_edge_litert`, which brings `flatbuffers`). What makes it exact:

- Input int8 = frame ^ 0x80 with scale 1 and zero-point -128, so that padding is the real 0.
- Activations of b bits: scale 1, zero-point 128 - 2^b, fused RELU: int8 saturation at 127 is the upper clamp 2^b - 1.
- Weights int8 {-1, 0, +1} with a scale 2^-shift per output channel: XNNPACK multiplies the int32 accumulator, exact in float32
  below 2^24, by a power of two and rounds half to even, once.
- Average pooling is a depthwise convolution with weights 1 (the native one rounds half up and is not delegated).
- Padding that is neither none nor TensorFlow's SAME is a PAD operator; the batch is 1, else nothing is delegated.

tflite-runtime 2.14 and LiteRT without the delegate use TFLite's own int8 kernels, which round twice, halves away from zero: they
are **not** exact. Machines that have only those (armv7l) run the NumPy kernel.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool, Shape
from modelkit.ternary.network import Network

INPUT_ZERO_POINT = -128


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding (before, after) of an axis."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


class _Graph:
    """Collects tensors, buffers and operators of one subgraph."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self._code_index: dict[int, int] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype | type = np.int8,
        data: np.ndarray | None = None,
        scale: object = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """Add a tensor and return its index; `scale` is a number or one per channel of `axis`."""
        s = self.schema
        tensor = s.TensorT()
        tensor.name = name
        tensor.shape = [int(n) for n in shape]
        tensor.type = {np.int8: s.TensorType.INT8, np.int32: s.TensorType.INT32}[np.dtype(dtype).type]
        tensor.buffer = 0
        if data is not None:
            buffer = s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantization = s.QuantizationParametersT()
            quantization.scale = scales.tolist()
            quantization.zeroPoint = [zero_point] * len(scales)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, name: str, version: int, inputs: list[int], output: int, options: Any = None) -> None:
        """Add a built-in operator; the type of its options is read from the class of `options`."""
        s = self.schema
        code = getattr(s.BuiltinOperator, name)
        if code not in self._code_index:
            entry = s.OperatorCodeT()
            entry.builtinCode = code
            entry.deprecatedBuiltinCode = min(code, 127)
            entry.version = version
            self._code_index[code] = len(self.codes)
            self.codes.append(entry)
        operator = s.OperatorT()
        operator.opcodeIndex = self._code_index[code]
        operator.inputs = inputs
        operator.outputs = [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(s.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(operator)

    def finish(self, source: int, sink: int) -> bytes:
        """The bytes of the model."""
        import flatbuffers

        s = self.schema
        graph = s.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [source], [sink]
        model = s.ModelT()
        model.version = 3
        model.description = "ternary network"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


class _Writer:
    """Turns the layers, one after the other, into operators; `current` is the tensor that the next one reads."""

    def __init__(self, network: Network, schema: Any) -> None:
        self.network = network
        self.graph = _Graph(schema)
        self.schema = schema
        self.index = 0
        self.source = self.current = self.activation("frame", network.input_shape, 255)

    def activation(self, name: str, shape: Shape, largest: int) -> int:
        """A tensor of activations 0 to `largest` = 2^b - 1."""
        return self.graph.tensor(name, (1, *shape), scale=1.0, zero_point=127 - largest)

    def name(self, part: str) -> str:
        """Name of a tensor of the current layer."""
        return f"layer{self.index}/{part}"

    def layer(self, layer: Layer, before: Shape, after: Shape, input_max: int, output_max: int) -> None:
        """Append one layer."""
        if isinstance(layer, Dense):
            self.dense(layer, after, output_max)
        elif isinstance(layer, MaxPool):
            options = self.schema.Pool2DOptionsT()
            options.padding = self.schema.Padding.VALID
            options.strideH = options.strideW = layer.stride
            options.filterHeight = options.filterWidth = layer.size
            self.emit("MAX_POOL_2D", 2, [], self.activation(self.name("out"), after, output_max), options)
        elif isinstance(layer, AvgPool):
            channels = before[2]
            weights = np.ones((layer.size, layer.size, channels), np.int8)
            shift = np.full(channels, layer.shift)
            sink = self.activation(self.name("out"), after, output_max)
            self.convolution("DEPTHWISE_CONV_2D", weights, np.zeros(channels, np.int32), shift, layer.size, False, sink)
        else:
            same = self.padding(layer, before, input_max)
            kind = "CONV_2D" if isinstance(layer, Conv) else "DEPTHWISE_CONV_2D"
            sink = self.activation(self.name("out"), after, output_max)
            self.convolution(kind, layer.weights, layer.bias, layer.shift, layer.stride, same, sink)
        self.index += 1

    def emit(self, kind: str, version: int, constants: list[int], sink: int, options: Any = None) -> None:
        """Append an operator that reads the current tensor and `constants`; its output becomes the current one."""
        self.graph.operator(kind, version, [self.current, *constants], sink, options)
        self.current = sink

    def padding(self, layer: Conv | Depthwise, before: Shape, input_max: int) -> bool:
        """True for SAME; else VALID, after a PAD operator where there is padding."""
        if not any(layer.pad):
            return False
        top, bottom, left, right = layer.pad
        wanted = ((top, bottom), (left, right))
        if wanted == tuple(same_padding(length, layer.size, layer.stride) for length in before[:2]):
            return True
        amounts = np.array([(0, 0), *wanted, (0, 0)], np.int32)
        paddings = self.graph.tensor(self.name("paddings"), amounts.shape, np.int32, amounts)
        padded = (before[0] + top + bottom, before[1] + left + right, before[2])
        sink = self.activation(self.name("padded"), padded, input_max)
        self.emit("PAD", 2, [paddings], sink, self.schema.PadOptionsT())
        return False

    def parameters(self, weights: np.ndarray, axis: int, bias: np.ndarray, scale: np.ndarray) -> list[int]:
        """The constant tensors of weights and bias, quantised per channel."""
        kernel = self.graph.tensor(self.name("weights"), weights.shape, np.int8, weights, scale, axis=axis)
        return [kernel, self.graph.tensor(self.name("bias"), bias.shape, np.int32, bias, scale)]

    def convolution(self, kind: str, weights: np.ndarray, bias: np.ndarray, shift: np.ndarray, stride: int, same: bool, sink: int) -> None:
        """Append CONV_2D (weights [kh, kw, cin, cout]) or DEPTHWISE_CONV_2D (weights [kh, kw, c])."""
        s = self.schema
        scale = np.ldexp(1.0, -shift.astype(np.int32))
        if kind == "CONV_2D":
            options = s.Conv2DOptionsT()
            constants = self.parameters(weights.transpose(3, 0, 1, 2), 0, bias, scale)
        else:
            options = s.DepthwiseConv2DOptionsT()
            options.depthMultiplier = 1
            constants = self.parameters(weights[None], 3, bias, scale)
        options.padding = s.Padding.SAME if same else s.Padding.VALID
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = s.ActivationFunctionType.RELU
        self.emit(kind, 3, constants, sink, options)

    def dense(self, layer: Dense, after: Shape, output_max: int) -> None:
        """Append RESHAPE, where the input is a picture, and FULLY_CONNECTED."""
        s = self.schema
        current = self.graph.tensors[self.current]
        if len(current.shape) > 2:
            flat = (layer.weights.shape[0],)
            target = np.array([1, *flat], np.int32)
            shape = self.graph.tensor(self.name("shape"), target.shape, np.int32, target)
            reshape = s.ReshapeOptionsT()
            reshape.newShape = target.tolist()
            zero_point = current.quantization.zeroPoint[0]
            self.emit("RESHAPE", 1, [shape], self.activation(self.name("flat"), flat, 127 - zero_point), reshape)
        options = s.FullyConnectedOptionsT()
        scale = np.ldexp(1.0, -layer.shift.astype(np.int32))
        if layer.bits is None:
            step = 2.0**-self.network.logit_shift
            scale = scale * step
            sink = self.graph.tensor("logits", (1, *after), scale=step)
        else:
            options.fusedActivationFunction = s.ActivationFunctionType.RELU
            sink = self.activation(self.name("out"), after, output_max)
        self.emit("FULLY_CONNECTED", 4, self.parameters(layer.weights.T, 0, layer.bias, scale), sink, options)


def dumps(network: Network) -> bytes:
    """The flatbuffer: input int8 [1, h, w, c] = frame ^ 0x80, output int8 [1, classes] with scale 2^-logit_shift.

    Raises ModuleNotFoundError where the extra `tflite` is not installed.
    """
    from ai_edge_litert import schema_py_generated as schema

    writer = _Writer(network, schema)
    shapes, maxima = network.shapes, network.maxima
    for index, layer in enumerate(network.layers):
        writer.layer(layer, shapes[index], shapes[index + 1], maxima[index], maxima[index + 1])
    return writer.graph.finish(writer.source, writer.current)


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write `mandatory.tflite`."""
    Path(path).write_bytes(dumps(network))


class Runner:
    """`Runner(model)(frame)`: logits int8 [classes] of one frame uint8 [h, w, c], by LiteRT on one thread.

    `model` is the bytes of a flatbuffer. Raises ValueError where XNNPACK did not take the whole graph: the result would not
    be exact.
    """

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        (source,), (sink,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if not fully_delegated(self._interpreter):
            raise ValueError("LiteRT's XNNPACK delegate did not take the whole graph: the result would not be exact")
        self._source, self._sink = source["index"], sink["index"]
        self._shape = tuple(source["shape"].tolist())

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Logits int8 [classes], a new array; ValueError where `frame` is not uint8 of the model's input shape."""
        if frame.dtype != np.uint8 or frame.shape != self._shape[1:]:
            raise ValueError(f"frame: expected uint8 {self._shape[1:]}, found {frame.dtype} {frame.shape}")
        self._interpreter.set_tensor(self._source, (frame ^ 0x80).view(np.int8).reshape(self._shape))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._sink)[0]


def fully_delegated(interpreter: Any) -> bool:
    """True where one delegate reads the model's input and writes its output."""
    delegates = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    return len(delegates) == 1 and source in delegates[0]["inputs"] and sink in delegates[0]["outputs"]

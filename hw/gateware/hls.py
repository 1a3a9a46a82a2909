"""A ternary network as an hls4ml project for vendor tools, and its C++ emulation, equal to the reference bit for bit.

Needs the extra `hw` (hls4ml, Keras, TensorFlow) and a C++ compiler; no vendor tool. Each layer with weights becomes two:

- Conv2D or Dense with weights {-1, 0, +1} of type `ap_int<2>`, for which hls4ml multiplies by adding, subtracting or skipping
  (`weight_ternary`), an integer bias, and explicit integer accumulator and result wide enough for the worst case;
- BatchNormalization with gamma = 2^-shift per channel, whose result type does the rounding and the saturation:
  `ap_ufixed<b,b,AP_RND_CONV,AP_SAT>` (half to even; saturation at 0 is the ReLU) or `ap_fixed<8,8,AP_RND_CONV,AP_SAT>` for logits.

A wide explicit result on the first also keeps hls4ml from fusing the two, which would make the weights non-ternary.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.ternary.layers import Conv, Dense, Layer, MaxPool
from modelkit.ternary.network import Network
from modelkit.ternary.reference import check_frames

PART = "xc7z020clg400-1"
CLOCK_NS = 10
UNROLL_LIMIT = 4096
"""Weights up to which a layer is unrolled (strategy Latency); a larger one shares its adders (strategy Resource)."""


def check_supported(network: Network) -> None:
    """Raise ValueError, naming the layer, where the network has one that this exporter cannot write exactly."""
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Conv | Dense | MaxPool):
            raise ValueError(f"layer {index} ({type(layer).__name__}): hls4ml export supports Conv, Dense and MaxPool")
        if isinstance(layer, MaxPool) and layer.size != layer.stride:
            raise ValueError(f"layer {index} (MaxPool): hls4ml export needs a stride equal to the size {layer.size}")


def signed_bits(bound: int) -> int:
    """Bits of a signed integer that holds -bound to bound."""
    return bound.bit_length() + 1


def unsigned_type(largest: int) -> str:
    """HLS type of the integers 0 to `largest` = 2^b - 1."""
    return f"ap_uint<{largest.bit_length()}>"


class _Builder:
    """Collects Keras layers and the hls4ml precision of each."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers: list[Any] = []
        self.values: dict[str, list[np.ndarray]] = {}
        self.config: dict[str, dict[str, Any]] = {"frame": {"Precision": {"result": unsigned_type(255)}}}

    def add(self, layer: Any, precision: dict[str, str], weights: list[np.ndarray] | None = None, **options: Any) -> None:
        """Append a Keras layer with its types; `weights` are set once the model is built."""
        self.layers.append(layer)
        self.config[layer.name] = {"Precision": precision, **options}
        if weights is not None:
            self.values[layer.name] = weights

    def weighted(self, keras: Any, name: str, layer: Conv | Dense, input_max: int) -> None:
        """Conv2D or Dense, and the BatchNormalization that rounds and saturates."""
        accumulator = f"ap_int<{signed_bits(layer.worst_accumulator(input_max))}>"
        bias = f"ap_int<{signed_bits(int(np.abs(layer.bias.astype(np.int64)).max()))}>"
        precision = {"weight": "ap_int<2>", "bias": bias, "accum": accumulator, "result": accumulator}
        if isinstance(layer, Conv):
            linear = keras.layers.Conv2D(layer.channels, layer.size, strides=layer.stride, padding="valid", name=f"{name}_conv")
        else:
            linear = keras.layers.Dense(layer.channels, name=f"{name}_dense")
        strategy = "Latency" if layer.weights.size <= UNROLL_LIMIT else "Resource"
        reuse = 1 if strategy == "Latency" else layer.weights.shape[-2]
        self.add(linear, precision, [layer.weights, layer.bias], Strategy=strategy, ReuseFactor=reuse)
        fraction = int(layer.shift.max())
        result = "ap_fixed<8,8,AP_RND_CONV,AP_SAT>" if layer.bits is None else f"ap_ufixed<{layer.bits},{layer.bits},AP_RND_CONV,AP_SAT>"
        scale = np.ldexp(1.0, -layer.shift.astype(np.int32))
        zeros, ones = np.zeros(layer.channels), np.ones(layer.channels)
        self.add(
            keras.layers.BatchNormalization(epsilon=0.0, name=f"{name}_shift"),
            {"scale": f"ap_ufixed<{fraction + 1},1>", "bias": "ap_int<2>", "result": result},
            [scale, zeros, zeros, ones],
        )

    def append(self, keras: Any, index: int, layer: Layer, rank: int) -> None:
        """Append one layer of the network; `rank` is that of its input without the batch."""
        name, largest = f"layer{index}", self.network.maxima[index]
        same = {"result": unsigned_type(largest)}
        if isinstance(layer, MaxPool):
            self.add(keras.layers.MaxPooling2D(layer.size, layer.stride, name=f"{name}_pool"), {**same, "accum": same["result"]})
            return
        if isinstance(layer, Conv) and any(layer.pad):
            top, bottom, left, right = layer.pad
            self.add(keras.layers.ZeroPadding2D(((top, bottom), (left, right)), name=f"{name}_pad"), same)
        if isinstance(layer, Dense) and rank == 3:
            self.add(keras.layers.Flatten(name=f"{name}_flatten"), same)
        self.weighted(keras, name, layer, largest)


def keras_model(network: Network) -> tuple[Any, dict[str, dict[str, Any]]]:
    """(Keras model from frames float32 [n, h, w, c] to integer logits, hls4ml configuration by layer name)."""
    import keras

    check_supported(network)
    builder = _Builder(network)
    for index, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        builder.append(keras, index, layer, len(shape))
    model = keras.Sequential([keras.Input(network.input_shape, name="frame"), *builder.layers])
    for name, weights in builder.values.items():
        model.get_layer(name).set_weights([np.asarray(array, np.float32) for array in weights])
    return model, builder.config


def project(
    network: Network,
    out_dir: str | os.PathLike[str],
    io_type: str = "io_stream",
    backend: str = "Vitis",
    part: str = PART,
    clock_ns: float = CLOCK_NS,
) -> Any:
    """Write the hls4ml project into `out_dir` and return its `ModelGraph`; ValueError where a layer is not supported."""
    import hls4ml

    model, layers = keras_model(network)
    config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend=backend)
    for name, entry in layers.items():
        options = config["LayerName"].setdefault(name, {})
        options.update({**entry, "Precision": {**options.get("Precision", {}), **entry["Precision"]}})
    graph = hls4ml.converters.convert_from_keras_model(
        model, hls_config=config, output_dir=os.fspath(out_dir), backend=backend, io_type=io_type, part=part, clock_period=clock_ns
    )
    graph.write()
    return graph


def emulate(network: Network, out_dir: str | os.PathLike[str], io_type: str = "io_stream") -> Callable[[np.ndarray], np.ndarray]:
    """Compile the project's C++ and return a function from frames uint8 [n, h, w, c] to logits int8 [n, classes]."""
    graph = project(network, out_dir, io_type)
    graph.compile()

    def run(frames: np.ndarray) -> np.ndarray:
        pictures = np.ascontiguousarray(check_frames(network, frames), dtype=np.float32)
        return np.asarray(graph.predict(pictures)).reshape(len(frames), network.classes).astype(np.int8)

    return run

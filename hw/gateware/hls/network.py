"""A ternary network as a Keras model with the types that make hls4ml compute it exactly.

Each layer with weights becomes two:

- Conv2D, DepthwiseConv2D or Dense with weights {-1, 0, +1} of type `ap_int<2>`, for which hls4ml multiplies by adding, subtracting or
  skipping (`weight_ternary`), an integer bias, and explicit integer accumulator and result wide enough for the worst case;
- BatchNormalization with gamma = 2^-shift per channel, whose result type does the rounding and the saturation:
  `ap_ufixed<b,b,AP_RND_CONV,AP_SAT>` (half to even; saturation at 0 is the ReLU) or `ap_fixed<8,8,AP_RND_CONV,AP_SAT>` for logits.

A wide explicit result on the first also keeps hls4ml from fusing the two, which would make the weights non-ternary. An average pool is a
depthwise convolution of ones, since hls4ml's own average divides and cuts off.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from gateware.boards import Board
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network

UNROLL_LIMIT = 4096
"""Weights up to which `auto` unrolls a layer (latency): hls4ml partitions no larger array. A larger one shares its adders (resource)."""
PARALLEL_LIMIT = 512
"""Products of a layer in one cycle that `auto` aims at, at most, where it shares adders."""
STRATEGIES = ("auto", "latency", "resource", "distributed_arithmetic")
BACKENDS = {"vitis": "Vitis", "vivadoaccelerator": "VivadoAccelerator"}


class Unsupported(ValueError):
    """A network, or an option, that hls4ml cannot compute exactly; the message names the layer and the reason."""


@attrs.frozen
class Plan:
    """How one layer with weights is built: `strategy` is one of STRATEGIES without `auto`; `reuse` products share an adder."""

    layer: int
    kind: str
    strategy: str
    reuse: int
    fan_in: int
    channels: int

    @property
    def name(self) -> str:
        """Name in the project and on the command line."""
        return f"layer{self.layer}"


@attrs.frozen
class Choice:
    """What was asked for: a strategy and a reuse factor (0: chosen) for all layers, and by name for single ones."""

    strategy: str = "auto"
    reuse: int = 0
    strategies: dict[str, str] = attrs.field(factory=dict)
    reuses: dict[str, int] = attrs.field(factory=dict)


def check_supported(network: Network) -> None:
    """Raise Unsupported, naming the layer, where the network has one that hls4ml does not compute exactly."""
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Conv | Depthwise | Dense | MaxPool | AvgPool):
            raise Unsupported(f"layer {index} ({type(layer).__name__}): hls4ml export has no such layer; "
                              "it has Conv, Depthwise, Dense, MaxPool and AvgPool")
        if isinstance(layer, MaxPool) and layer.size != layer.stride:
            raise Unsupported(f"layer {index} (MaxPool): size {layer.size} with stride {layer.stride}; hls4ml's streaming pool takes no "
                              "overlapping windows, it needs a stride equal to the size")


def valid_reuse(fan_in: int, channels: int) -> list[int]:
    """Reuse factors of a fan_in x channels product that hls4ml takes for `resource`: below fan_in its divisors, above its multiples."""
    total = fan_in * channels
    found = [r for r in range(1, fan_in + 1) if total % r == 0 and -(-total // r) % channels == 0]
    return found + [fan_in * k for k in range(2, channels + 1) if channels % k == 0]


def plans(network: Network, backend: str = "vitis", choice: Choice | None = None) -> list[Plan]:
    """How each layer with weights (an average pool too) is built. Raises Unsupported where what was asked for cannot be."""
    check_supported(network)
    asked = choice or Choice()
    found = []
    for index, layer in enumerate(network.layers):
        if isinstance(layer, MaxPool):
            continue
        if isinstance(layer, AvgPool):
            fan_in, channels = layer.size**2, network.shapes[index][2]
        else:
            built = with_rows(layer) if isinstance(layer, Depthwise) else layer
            fan_in, channels = built.weights.size // layer.channels, layer.channels
        found.append(_plan(f"layer{index}", index, layer, fan_in, channels, backend, asked))
    unknown = {*asked.strategies, *asked.reuses} - {plan.name for plan in found}
    if unknown:
        raise Unsupported(f"no layer with weights is called {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in found)}")
    return found


def _plan(name: str, index: int, layer: Layer, fan_in: int, channels: int, backend: str, asked: Choice) -> Plan:
    kind = type(layer).__name__
    depthwise = isinstance(layer, Depthwise | AvgPool)
    strategy, reuse = asked.strategies.get(name, asked.strategy), asked.reuses.get(name, asked.reuse)
    where = f"{name} ({kind})"
    if strategy not in STRATEGIES:
        raise Unsupported(f"{where}: unknown strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    if reuse < 0:
        raise Unsupported(f"{where}: reuse {reuse}; it is at least 1, or 0 for a choice")
    if strategy == "distributed_arithmetic":
        if backend != "vitis":
            raise Unsupported(f"{where}: hls4ml has distributed_arithmetic for the backend vitis, not for {backend}")
        if depthwise and name in asked.strategies:
            raise Unsupported(f"{where}: da4ml's kernels are for Conv and Dense; a depthwise layer takes latency or resource")
        if asked.reuses.get(name, 1) > 1:
            raise Unsupported(f"{where}: distributed_arithmetic has no reuse, found {reuse}")
        return Plan(index, kind, "latency" if depthwise else strategy, 1, fan_in, channels)
    factors = valid_reuse(fan_in * channels if depthwise else fan_in, channels)
    products = fan_in * channels
    if strategy == "auto":
        strategy = "latency" if reuse == 1 or (not reuse and products <= UNROLL_LIMIT) else "resource"
    if not reuse:
        wanted = 1 if strategy == "latency" else products / PARALLEL_LIMIT
        reuse = next((r for r in factors if r >= wanted), factors[-1])
    elif strategy == "resource" and reuse not in factors:
        if name in asked.reuses:
            near = sorted(sorted(factors, key=lambda r: abs(r - reuse))[:4])
            raise Unsupported(f"{where}: reuse {reuse} does not divide {fan_in} inputs x {channels} channels as hls4ml needs; "
                              f"near are {', '.join(map(str, near))}")
        reuse = next((r for r in factors if r >= reuse), factors[-1])
    return Plan(index, kind, strategy, reuse, fan_in, channels)


def signed_bits(bound: int) -> int:
    """Bits of a signed integer that holds -bound to bound."""
    return bound.bit_length() + 1


def unsigned_type(largest: int) -> str:
    """HLS type of the integers 0 to `largest` = 2^b - 1: fixed point, since da4ml takes nothing else."""
    bits = largest.bit_length()
    return f"ap_ufixed<{bits},{bits}>"


def activation_type(layer: Conv | Depthwise | Dense) -> str:
    """HLS type of a layer's output, which rounds and saturates what is assigned to it."""
    return "ap_fixed<8,8,AP_RND_CONV,AP_SAT>" if layer.bits is None else f"ap_ufixed<{layer.bits},{layer.bits},AP_RND_CONV,AP_SAT>"


class _Builder:
    """Collects Keras layers and the hls4ml precision of each."""

    def __init__(self, network: Network, planned: list[Plan]) -> None:
        self.network = network
        self.planned = {plan.layer: plan for plan in planned}
        self.layers: list[Any] = []
        self.values: dict[str, list[np.ndarray]] = {}
        self.config: dict[str, dict[str, Any]] = {"frame": {"Precision": {"result": unsigned_type(255)}}}

    def add(self, layer: Any, precision: dict[str, str], weights: list[np.ndarray] | None = None, **options: Any) -> None:
        """Append a Keras layer with its types; `weights` are set once the model is built."""
        self.layers.append(layer)
        self.config[layer.name] = {"Precision": precision, **options}
        if weights is not None:
            self.values[layer.name] = weights

    def weighted(self, linear: Any, index: int, layer: Conv | Depthwise | Dense, keras: Any) -> None:
        """The layer `linear` with the weights of `layer`, and the BatchNormalization that rounds and saturates."""
        accumulator = f"ap_int<{signed_bits(layer.worst_accumulator(self.network.maxima[index]))}>"
        bias = f"ap_int<{signed_bits(int(np.abs(layer.bias.astype(np.int64)).max()))}>"
        activation = activation_type(layer)
        shifted = bool(layer.shift.any())
        precision = {"weight": "ap_int<2>", "bias": bias, "accum": accumulator, "result": accumulator if shifted else activation}
        weights = layer.weights[..., None] if isinstance(layer, Depthwise) else layer.weights
        plan = self.planned[index]
        self.add(linear, precision, [weights, layer.bias], Strategy=plan.strategy, ReuseFactor=plan.reuse)
        if not shifted:  # hls4ml leaves out a BatchNormalization by 1, and its saturation with it
            return
        fraction = int(layer.shift.max())
        scale = np.ldexp(1.0, -layer.shift.astype(np.int32))
        zeros, ones = np.zeros(layer.channels), np.ones(layer.channels)
        self.add(
            keras.layers.BatchNormalization(epsilon=0.0, name=f"layer{index}_shift"),
            {"scale": f"ap_ufixed<{fraction + 1},1>", "bias": "ap_int<2>", "result": activation},
            [scale, zeros, zeros, ones],
            Strategy="latency",
        )

    def append(self, keras: Any, index: int, layer: Layer) -> None:
        """Append one layer of the network."""
        if isinstance(layer, Depthwise):
            layer = with_rows(layer)
        name, largest, shape = f"layer{index}", self.network.maxima[index], self.network.shapes[index]
        same = {"result": unsigned_type(largest)}
        if isinstance(layer, MaxPool):
            self.add(keras.layers.MaxPooling2D(layer.size, layer.stride, name=f"{name}_pool"), {**same, "accum": same["result"]})
            return
        if isinstance(layer, AvgPool):
            layer, size = as_depthwise(layer, shape[2], largest), layer.size
            self.weighted(keras.layers.DepthwiseConv2D(size, strides=size, name=f"{name}_average"), index, layer, keras)
            return
        if not isinstance(layer, Dense) and any(layer.pad):
            top, bottom, left, right = layer.pad
            self.add(keras.layers.ZeroPadding2D(((top, bottom), (left, right)), name=f"{name}_pad"), same)
        if isinstance(layer, Dense):
            if len(shape) == 3:
                self.add(keras.layers.Flatten(name=f"{name}_flatten"), same)
            linear = keras.layers.Dense(layer.channels, name=f"{name}_dense")
        elif isinstance(layer, Depthwise):
            linear = keras.layers.DepthwiseConv2D(layer.size, strides=layer.stride, name=f"{name}_depthwise")
        else:
            linear = keras.layers.Conv2D(layer.channels, layer.size, strides=layer.stride, name=f"{name}_conv")
        self.weighted(linear, index, layer, keras)


class _Block(Depthwise):
    """A depthwise layer with a kernel that the network's own may not have: an average pool's."""

    def __attrs_post_init__(self) -> None:
        """Nothing to check: made from a checked layer."""


def with_rows(layer: Depthwise) -> Depthwise:
    """The same depthwise layer; one of 1x1 with a stride as 3x3 with a single tap: hls4ml's 1x1 skips columns, but no rows."""
    if layer.size > 1 or layer.stride == 1:
        return layer
    weights = np.zeros((3, 3, layer.channels), np.int8)
    weights[0, 0] = layer.weights[0, 0]
    return attrs.evolve(layer, weights=weights, pad=(0, 2, 0, 2))


def as_depthwise(layer: AvgPool, channels: int, largest: int) -> Depthwise:
    """An average pool of inputs 0 to `largest` as the depthwise convolution of the same result."""
    size, zeros = layer.size, np.zeros(channels, np.int32)
    return _Block(np.ones((size, size, channels), np.int8), zeros, zeros + layer.shift, largest.bit_length(), size)


def keras_model(network: Network, planned: list[Plan] | None = None) -> tuple[Any, dict[str, dict[str, Any]]]:
    """(Keras model from frames float32 [n, h, w, c] to integer logits, hls4ml configuration by layer name)."""
    import keras

    builder = _Builder(network, plans(network) if planned is None else planned)
    for index, layer in enumerate(network.layers):
        builder.append(keras, index, layer)
    model = keras.Sequential([keras.Input(network.input_shape, name="frame"), *builder.layers])
    for name, weights in builder.values.items():
        model.get_layer(name).set_weights([np.asarray(array, np.float32) for array in weights])
    return model, builder.config


def convert(network: Network, planned: list[Plan], out_dir: str, backend: str, board: Board, clock_ns: float, name: str) -> Any:
    """The hls4ml `ModelGraph` of the network, not yet written to `out_dir`; needs hls4ml and Keras."""
    import hls4ml

    model, layers = keras_model(network, planned)
    target = BACKENDS[backend]
    config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend=target)
    for layer, entry in layers.items():
        options = config["LayerName"].setdefault(layer, {})
        options.update({**entry, "Precision": {**options.get("Precision", {}), **entry["Precision"]}})
    extra = {"board": board.name, "interface": "axi_stream"} if backend == "vivadoaccelerator" else {}
    return hls4ml.converters.convert_from_keras_model(
        model, hls_config=config, output_dir=out_dir, project_name=name, backend=target, io_type="io_stream", part=board.part,
        clock_period=clock_ns, **extra)

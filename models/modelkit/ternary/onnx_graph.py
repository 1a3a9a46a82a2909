"""What the two ONNX writers share: a chain of nodes in ONNX's order (n, c, h, w). Needs `onnx` (extra `models`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""Old enough for every onnxruntime since 1.12."""


class Chain:
    """Collects nodes and constants; `current` is the tensor that the next node reads first."""

    def __init__(self, source: str) -> None:
        self.current = source
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node beside the chain and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def then(self, kind: str, constants: list[str], output: str, domain: str = "", **attributes: Any) -> None:
        """Add a node that reads the current tensor and `constants`; its output becomes the current tensor."""
        self.current = self.node(kind, [self.current, *constants], output, domain, **attributes)

    def finish(self, source: onnx.ValueInfoProto, classes: int, domains: dict[str, int]) -> onnx.ModelProto:
        """The checked model; its output, the current tensor, is float32 [n, classes]."""
        sink = helper.make_tensor_value_info(self.current, TensorProto.FLOAT, [source.type.tensor_type.shape.dim[0].dim_param, classes])
        graph = helper.make_graph(self.nodes, "ternary_network", [source], [sink], self.constants)
        opsets = [helper.make_opsetid(name, version) for name, version in {"": OPSET, **domains}.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="edgert", ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def onnx_pads(pad: tuple[int, int, int, int]) -> list[int]:
    """(top, bottom, left, right) as ONNX's `pads` [top, left, bottom, right]."""
    top, bottom, left, right = pad
    return [top, left, bottom, right]


def network_pad(pads: list[int]) -> tuple[int, int, int, int]:
    """The inverse of `onnx_pads`."""
    top, left, bottom, right = pads
    return top, bottom, left, right


def scales(shift: np.ndarray, extra: int = 0) -> np.ndarray:
    """2^-(shift + extra) per channel, float32."""
    return np.ldexp(1.0, -(shift.astype(np.int64) + extra)).astype(np.float32)

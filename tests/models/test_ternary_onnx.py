"""The ONNX files of a ternary network: read back equal, run exactly by onnxruntime and qonnx, and foreign ones refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ternary_networks import Tally, cases

onnx = pytest.importorskip("onnx")

from modelkit.ternary import engines, qcdq, qonnx_io, reference  # noqa: E402
from modelkit.ternary.layers import AvgPool, Conv, Dense, MaxPool  # noqa: E402
from modelkit.ternary.network import Network  # noqa: E402

pytestmark = pytest.mark.models
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def small() -> Network:
    """A network with a convolution, both pools and two dense layers."""
    rng = np.random.default_rng(5)

    def ternary(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(np.int8)

    return Network(
        (8, 8, 2),
        [
            Conv(ternary(3, 3, 2, 4), rng.integers(-90, 90, 4), np.array([3, 4, 3, 4]), 7, pad=(1, 1, 1, 1)),
            MaxPool(),
            AvgPool(2),
            Dense(ternary(16, 6), rng.integers(-9, 9, 6), np.array([1, 1, 1, 0, 2, 1]), 6),
            Dense(ternary(6, 5), rng.integers(-9, 9, 5), np.array([0, 1, 0, 0, 0])),
        ],
        logit_shift=3,
    )


def test_onnxruntime_equals_the_reference() -> None:
    pytest.importorskip("onnxruntime")
    tally = Tally()

    @settings(max_examples=500, **SETTINGS)
    @given(cases(frames=12, widest=40))
    def check(case) -> None:
        network, frames = case
        np.testing.assert_array_equal(qcdq.runner(network)(frames), tally.add(network, frames))

    check()
    tally.check()


def test_qonnx_gives_back_an_equal_network_and_its_executor_equals_the_reference() -> None:
    pytest.importorskip("qonnx")
    tally = Tally()

    @settings(max_examples=200, **SETTINGS)
    @given(cases(frames=12, widest=20))
    def check(case) -> None:
        network, frames = case
        model = qonnx_io.model(network)
        assert qonnx_io.read(model) == network
        np.testing.assert_array_equal(qonnx_io.runner(model)(frames), tally.add(network, frames))

    check()
    tally.check()


def test_a_file_is_the_same_bytes_each_time_and_reads_back(tmp_path) -> None:
    for name in ("a.onnx", "b.onnx"):
        qonnx_io.save(small(), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert qonnx_io.read(tmp_path / "a.onnx") == small()


def test_a_model_that_qonnx_has_cleaned_up_reads_back_and_runs() -> None:
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    cleaned = cleanup_model(ModelWrapper(qonnx_io.model(small())))
    assert cleaned.graph.input[0].name != "frame"
    assert qonnx_io.read(cleaned.model) == small()
    frames = np.random.default_rng(8).integers(0, 256, (20, 8, 8, 2)).astype(np.uint8)
    np.testing.assert_array_equal(qonnx_io.runner(cleaned.model)(frames), reference.forward(small(), frames))


def change(**attributes: object):
    """A function that sets attributes of the node called `node`."""
    name = attributes.pop("node")

    def apply(model) -> None:
        (node,) = (node for node in model.graph.node if node.name == name)
        for key, value in attributes.items():
            kept = [item for item in node.attribute if item.name != key]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(key, value)])

    return apply


def put(name: str, value: object):
    """A function that replaces a constant."""

    def apply(model) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))

    return apply


def rename_kind(name: str, kind: str):
    """A function that makes a node another operator."""

    def apply(model) -> None:
        (node,) = (node for node in model.graph.node if node.name == name)
        node.op_type = kind

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename_kind("layer0/relu", "Sigmoid"), "expected Quant, found .*Sigmoid"),
        (rename_kind("layer1/max", "GlobalMaxPool"), "expected Conv or MaxPool"),
        (change(node="layer0/out", rounding_mode="FLOOR"), "rounding"),
        (change(node="layer0/weights", narrow=0), "layer0/weights"),
        (change(node="layer0/acc", dilations=[2, 2]), "no dilation"),
        (change(node="layer0/acc", auto_pad="SAME_UPPER"), "explicit pads"),
        (change(node="layer0/acc", strides=[1, 2]), "equal strides"),
        (change(node="layer1/max", pads=[1, 1, 1, 1]), "no pads"),
        (change(node="layer3/nhwc", perm=[0, 3, 2, 1]), "perm"),
        (put("layer0/out/scale", 0.5), "activation scale of 1"),
        (put("layer0/out/zero", 1), "zero-point 0"),
        (put("layer0/out/bits", 4.5), "layer0/out"),
        (put("layer2/out/bits", 4), "as many bits as its input"),
        (put("layer0/weights/scale", np.full((4, 1, 1, 1), 0.3)), "power-of-two"),
        (put("layer0/bias/scale", np.full(4, 2.0**-9)), "same scales"),
        (put("layer0/bias_float", np.full(4, 0.001)), "multiples"),
        (put("logits/scale", 0.3), "power-of-two"),
        (put("frame_quant/bits", 7), "8 bits"),
    ],
)
def test_models_of_another_kind_are_refused_with_the_node_named(damage, message: str) -> None:
    model = qonnx_io.model(small())
    damage(model)
    with pytest.raises(ValueError, match=message):
        qonnx_io.read(model)


def test_a_file_that_is_not_onnx_is_refused(tmp_path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"x\.onnx: not an ONNX file"):
        qonnx_io.read(tmp_path / "x.onnx")


def test_all_engines_verify_a_bundle(tmp_path) -> None:
    from modelkit.ternary import npz, tflite

    network = small()
    frames = np.random.default_rng(6).integers(0, 256, (50, 8, 8, 2)).astype(np.uint8)
    npz.save(network, tmp_path / "mandatory.npz")
    qonnx_io.save(network, tmp_path / "mandatory.onnx")
    tflite.save(network, tmp_path / "mandatory.tflite")
    np.savez(tmp_path / "golden.npz", frames=frames, logits=reference.forward(network, frames))
    results = engines.verify(tmp_path)
    assert [result.engine for result in results] == ["golden", *engines.ENGINES]
    assert all(result.exact for result in results), results
    assert {(result.frames, result.logits) for result in results} == {(50, 250)}
    assert {result.distinct for result in results} == {results[0].distinct}
    assert results[0].distinct > 30

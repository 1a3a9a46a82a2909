"""Every engine of the ternary network gives the same integers as loops over Python integers."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from modelkit.ternary import engines, reference
from modelkit.ternary.kernel import Kernel
from modelkit.ternary.layers import AvgPool, Conv, Dense, MaxPool
from modelkit.ternary.network import Network
from reference import ternary_forward
from ternary_networks import Tally, cases

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def test_reference_and_numpy_kernel_equal_the_loops() -> None:
    tally = Tally()

    @settings(max_examples=250, **SETTINGS)
    @given(cases(frames=4))
    def check(case) -> None:
        network, frames = case
        expected = [ternary_forward(network, frame) for frame in frames]
        np.testing.assert_array_equal(reference.forward(network, frames), expected)
        np.testing.assert_array_equal(Kernel(network).batch(frames), expected)
        tally.add(network, frames)

    check()
    tally.check()


def test_numpy_kernel_and_litert_equal_the_reference() -> None:
    pytest.importorskip("ai_edge_litert")
    from modelkit.ternary import tflite

    tally = Tally()

    @settings(max_examples=600, **SETTINGS)
    @given(cases(frames=12, widest=40))
    def check(case) -> None:
        network, frames = case
        expected = tally.add(network, frames)
        np.testing.assert_array_equal(Kernel(network).batch(frames), expected)
        litert = tflite.Runner(tflite.dumps(network))
        np.testing.assert_array_equal([litert(frame) for frame in frames], expected)

    check()
    tally.check()


def picture_network(rng: np.random.Generator, shape: tuple[int, int, int], widths: tuple[int, int, int]) -> Network:
    """Two convolutions of padding 1 with max pools and two dense layers, random, the shifts chosen for lively outputs."""

    def layer(cls, spread: int, shift: int, *shape: int, **options):
        bias, shifts = rng.integers(-spread, spread, shape[-1]), rng.integers(shift - 1, shift + 1, shape[-1])
        return cls(rng.integers(-1, 2, shape).astype(np.int8), bias, shifts, **options)

    first, second, hidden = widths
    flat = (shape[0] // 4) * (shape[1] // 4) * second
    return Network(
        shape,
        [
            layer(Conv, 300, 4, 3, 3, shape[2], first, bits=6, pad=(1, 1, 1, 1)),
            MaxPool(),
            layer(Conv, 60, 4, 3, 3, first, second, bits=6, pad=(1, 1, 1, 1)),
            MaxPool(),
            layer(Dense, 60, 5, flat, hidden, bits=6),
            layer(Dense, 30, 2, hidden, 10),
        ],
        logit_shift=3,
    )


@pytest.mark.parametrize(("shape", "widths"), [((28, 28, 1), (12, 24, 32)), ((32, 32, 3), (17, 40, 65))])
def test_engines_agree_on_networks_of_camera_size(shape: tuple[int, int, int], widths: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    network = picture_network(rng, shape, widths)
    frames = rng.integers(0, 256, (150, *shape)).astype(np.uint8)
    expected = reference.forward(network, frames)
    assert len({row.tobytes() for row in expected}) > 140
    for name in ("numpy", "litert"):
        if engines.ENGINES[name].available()[0]:
            np.testing.assert_array_equal(engines.ENGINES[name].make(network)(frames), expected)


def test_litert_takes_the_whole_graph_of_a_network_with_odd_padding() -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    from modelkit.ternary import tflite

    network = Network(
        (6, 7, 2),
        [
            Conv(np.ones((3, 3, 2, 4), np.int8), np.zeros(4, int), np.full(4, 5), 6, stride=2, pad=(2, 0, 1, 2)),
            AvgPool(2),
            Dense(np.ones((8, 3), np.int8), np.zeros(3, int), np.zeros(3, int)),
        ],
        logit_shift=3,
    )
    interpreter = Interpreter(model_content=tflite.dumps(network))
    interpreter.allocate_tensors()
    assert tflite.fully_delegated(interpreter)
    assert interpreter.get_output_details()[0]["quantization"] == (0.125, 0)
    assert interpreter.get_input_details()[0]["quantization"] == (1.0, -128)


def test_runner_refuses_a_graph_that_xnnpack_left_to_the_inexact_kernels() -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from modelkit.ternary import tflite

    network = Network((2, 2, 1), [Dense(np.ones((4, 3), np.int8), np.zeros(3, int), np.zeros(3, int))])
    plain = Interpreter(
        model_content=tflite.dumps(network),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    plain.allocate_tensors()
    assert not tflite.fully_delegated(plain)


@pytest.mark.parametrize(("value", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (6, 3), (4, 2)])
def test_halves_go_to_the_even_integer(value: int, expected: int) -> None:
    assert reference.shift_half_even(np.array([value]), 1) == [expected]


def test_ties_are_found_where_they_are() -> None:
    acc = np.array([[-3, -2, 0, 1, 2, 6]])
    np.testing.assert_array_equal(reference.ties(acc, 1), [[True, False, False, True, False, False]])
    np.testing.assert_array_equal(reference.ties(acc, 2), [[False, True, False, False, True, True]])
    assert not reference.ties(acc, 0).any()


@pytest.mark.parametrize("engine", [Kernel, lambda network: lambda frame: reference.forward(network, frame[None])[0]])
@pytest.mark.parametrize("frame", [np.zeros((2, 2, 1), np.int8), np.zeros((2, 3, 1), np.uint8)])
def test_engines_refuse_frames_of_another_shape_or_dtype(engine, frame: np.ndarray) -> None:
    network = Network((2, 2, 1), [Dense(np.ones((4, 3), np.int8), np.zeros(3, int), np.zeros(3, int))])
    with pytest.raises(ValueError, match="expected uint8"):
        engine(network)(frame)


def test_numpy_kernel_gives_a_new_array_each_time() -> None:
    network = Network((2, 2, 1), [Dense(np.ones((4, 1), np.int8), np.zeros(1, int), np.zeros(1, int))])
    kernel = Kernel(network)
    first = kernel(np.full((2, 2, 1), 9, np.uint8))
    kernel(np.zeros((2, 2, 1), np.uint8))
    assert first == [36]

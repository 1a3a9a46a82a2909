"""A network that does not make sense is refused with a message that names the layer and the reason."""

import numpy as np
import pytest

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network

RNG = np.random.default_rng(1)


def conv(cin=1, cout=2, size=3, **changes):
    arguments = {
        "weights": RNG.integers(-1, 2, (size, size, cin, cout)),
        "bias": np.zeros(cout, int),
        "shift": np.full(cout, 3),
        "bits": 4,
    }
    return Conv(**{**arguments, **changes})


def dense(cin, cout=3, **changes):
    arguments = {
        "weights": RNG.integers(-1, 2, (cin, cout)),
        "bias": np.zeros(cout, int),
        "shift": np.zeros(cout, int),
    }
    return Dense(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv(weights=np.full((3, 3, 1, 2), 2)), "-1, 0 or"),
        (lambda: conv(weights=np.zeros((3, 3, 1, 2))), "expected integers, found float64"),
        (lambda: conv(size=2), "kernel of 1x1 or 3x3"),
        (lambda: conv(weights=np.zeros((3, 1, 1, 2), int)), "kernel of 1x1 or 3x3"),
        (lambda: conv(bias=np.zeros(3, int)), r"bias: expected shape \(2,\)"),
        (lambda: conv(bias=np.full(2, 2**31)), "do not fit int32"),
        (lambda: conv(shift=np.full(2, -1)), "shift: expected 0 to 24"),
        (lambda: conv(shift=np.full(2, 25)), "shift: expected 0 to 24"),
        (lambda: conv(shift=np.full(1, 2)), r"shift: expected shape \(2,\)"),
        (lambda: conv(bits=9), "bits: expected 1 to 8"),
        (lambda: conv(bits=0), "bits: expected 1 to 8"),
        (lambda: conv(stride=3), "stride: expected 1 or 2"),
        (lambda: conv(pad=(1, 1, 3, 1)), "pad: expected less than the kernel size 3"),
        (lambda: conv(pad=(1, 1)), "pad: expected four counts"),
        (lambda: conv(pad=(0, 0, 0, -1)), "pad: expected four counts"),
        (lambda: Depthwise(np.zeros((3, 3, 1, 2), int), np.zeros(2, int), np.zeros(2, int), 3), "3 dimensions"),
        (lambda: Depthwise(np.zeros((3, 3, 1), int), np.zeros(1, int), np.zeros(1, int), 3), "is a Conv"),
        (lambda: MaxPool(1, 1), "MaxPool: expected size 2 to 8"),
        (lambda: MaxPool(2, 3), "stride 1 to size"),
        (lambda: AvgPool(3), "size of 2, 4 or 8"),
        (lambda: Network((8, 8), [dense(64)]), "input_shape"),
        (lambda: Network((8, 8, 1), []), "last layer must be Dense"),
        (lambda: Network((8, 8, 1), [conv(pad=(1, 1, 1, 1))]), "last layer must be Dense"),
        (lambda: Network((8, 8, 1), [dense(64, bits=4)]), "last layer must be Dense with bits None"),
        (lambda: Network((8, 8, 1), [dense(64), dense(3)]), r"layer 0 \(Dense\): only the last layer may have bits None"),
        (lambda: Network((8, 8, 1), [conv(bits=None), dense(72)]), r"layer 0 \(Conv\): only the last layer"),
        (lambda: Network((8, 8, 1), [dense(63)]), r"layer 0 \(Dense\): expected 63 inputs, found 64"),
        (lambda: Network((8, 8, 2), [conv(), dense(72)]), r"expected an input of shape \(h, w, 1\), found \(8, 8, 2\)"),
        (lambda: Network((8, 8, 1), [dense(64, bits=4), conv(), dense(3)]), r"layer 1 \(Conv\)"),
        (lambda: Network((2, 8, 1), [conv(), dense(12)]), "smaller than the window of 3"),
        (lambda: Network((4, 8, 1), [AvgPool(8), dense(1)]), "smaller than the window of 8"),
        (lambda: Network((8, 8, 1), [dense(64)], logit_shift=25), "logit_shift"),
        (lambda: Network((2**20, 2**20, 1), [MaxPool(8, 8), dense(4)]), "more than 2.24 values"),
        (lambda: Network((2048, 2048, 1), [conv(size=1, cout=5), MaxPool(8, 8), dense(4)]), r"layer 0 \(Conv\): its output"),
        (lambda: Network((1, 1, 1), [dense(1, bias=np.full(3, 2**24))]), "can reach 16777"),
        (lambda: Network((1, 1, 1), [dense(1, bias=np.full(3, -(2**24)))]), "expected less than 2"),
    ],
)
def test_nonsense_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_accumulator_bound_counts_only_weights_that_are_not_zero() -> None:
    weights = np.zeros((70_000, 1), int)
    weights[:65_793] = 1
    network = Network((70_000, 1, 1), [dense(70_000, 1, weights=weights)])
    assert network.layers[0].worst_accumulator(255) == 65_793 * 255 < 2**24
    weights[65_793] = -1
    with pytest.raises(ValueError, match="can reach 16777470"):
        Network((70_000, 1, 1), [dense(70_000, 1, weights=weights)])


def test_the_bound_of_an_inner_layer_follows_the_bits_before_it() -> None:
    network = Network((8, 8, 1), [conv(bits=2), AvgPool(2), dense(18, weights=np.ones((18, 3), int))])
    assert network.maxima == (255, 3, 3, 127)
    assert network.layers[-1].worst_accumulator(network.maxima[-2]) == 54


def test_shapes_and_costs_are_counted() -> None:
    weights = np.zeros((3, 3, 1, 2), int)
    weights[0, 0] = 1
    network = Network((9, 7, 1), [conv(weights=weights, stride=2, pad=(0, 1, 1, 1)), MaxPool(), dense(8, 5)])
    assert network.shapes == ((9, 7, 1), (4, 4, 2), (2, 2, 2), (5,))
    assert network.output_shape == (5,)
    assert network.classes == 5
    assert network.n_macs == 4 * 4 * 18 + 40
    assert network.n_weights == 18 + 40
    assert network.nonzeros == 2 + np.count_nonzero(network.layers[2].weights)


def test_equality_is_by_content_and_arrays_cannot_be_changed() -> None:
    first = Network((8, 8, 1), [dense(64, weights=np.ones((64, 3), int))])
    assert first == Network((8, 8, 1), [dense(64, weights=np.ones((64, 3), int))])
    assert first != Network((8, 8, 1), [dense(64, weights=np.zeros((64, 3), int))])
    with pytest.raises(ValueError, match="read-only"):
        first.layers[0].weights[0, 0] = 0

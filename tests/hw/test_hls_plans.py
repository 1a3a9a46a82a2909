"""Strategy and reuse of each layer: chosen, asked for, refused by name; and what hls4ml itself accepts."""

import hls_cases
import numpy as np
import pytest

from gateware.hls import Choice, Unsupported, check_supported, plans
from gateware.hls.network import PARALLEL_LIMIT, UNROLL_LIMIT, as_depthwise, valid_reuse, with_rows
from modelkit.ternary import reference
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network

pytestmark = pytest.mark.hw


def dense(inputs, channels, bits=None):
    return Dense(np.ones((inputs, channels), np.int8), np.zeros(channels, int), np.full(channels, 3), bits)


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 1), (3, 2), (8, 7)])
def test_overlapping_max_pools_are_refused_by_name(size, stride):
    pool = MaxPool(size, stride)
    network = Network((16, 16, 1), [pool, dense(int(np.prod(pool.output_shape((16, 16, 1)))), 3)])
    with pytest.raises(Unsupported, match=rf"layer 0 \(MaxPool\): size {size} with stride {stride}.*overlapping windows"):
        check_supported(network)


def test_another_kind_of_layer_is_refused_by_name():
    network = Network((4, 4, 1), [AvgPool(2), dense(4, 3)])
    check_supported(network)
    object.__setattr__(network, "layers", ("add", *network.layers[1:]))
    with pytest.raises(Unsupported, match=r"layer 0 \(str\): hls4ml export has no such layer"):
        check_supported(network)


def test_auto_unrolls_small_layers_and_shares_adders_in_large_ones():
    network = Network((8, 8, 16), [dense(1024, 4, 4), dense(4, 1024, 2), dense(1024, 5)])
    small, wide, large = plans(network)
    assert (small.strategy, small.reuse, wide.strategy) == ("latency", 1, "latency")
    assert small.fan_in * small.channels == UNROLL_LIMIT
    assert large.strategy == "resource" and large.fan_in * large.channels / large.reuse <= PARALLEL_LIMIT
    assert large.reuse == next(r for r in valid_reuse(1024, 5) if 5120 / r <= PARALLEL_LIMIT)


@pytest.mark.parametrize(("fan_in", "channels"), [(1, 1), (9, 4), (27, 8), (12, 7), (36, 4), (108, 28), (64, 96)])
def test_reuse_factors_are_those_of_hls4ml(fan_in, channels):
    hls4ml = pytest.importorskip("hls4ml")
    backend = hls4ml.backends.get_backend("Vitis")
    assert valid_reuse(fan_in, channels) == backend.get_valid_reuse_factors(fan_in, channels)


@pytest.mark.parametrize(("choice", "backend", "message"), [
    (Choice("fast"), "vitis", "layer1 .Conv.: unknown strategy 'fast'; there are auto, latency, resource"),
    (Choice("distributed_arithmetic"), "vivadoaccelerator", "distributed_arithmetic for the backend vitis"),
    (Choice(strategies={"layer2": "distributed_arithmetic"}), "vitis", "layer2 .AvgPool.: da4ml's kernels are for Conv and Dense"),
    (Choice("resource", reuses={"layer1": 7}), "vitis", "reuse 7 does not divide 18 inputs x 8 channels.*near are 2, 3, 6, 9"),
    (Choice("distributed_arithmetic", reuses={"layer1": 2}), "vitis", "layer1 .Conv.: distributed_arithmetic has no reuse"),
    (Choice(reuse=-1), "vitis", "reuse -1; it is at least 1"),
    (Choice(reuses={"layer0": 2}), "vitis", "no layer with weights is called layer0; there are layer1, layer2, layer3"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_name(choice, backend, message):
    network, _ = hls_cases.build("pools", frames=20)
    with pytest.raises(Unsupported, match=message):
        plans(network, backend, choice)


def test_a_factor_for_all_is_the_next_that_each_layer_takes():
    network, _ = hls_cases.build("pools", frames=20)
    found = {plan.name: plan.reuse for plan in plans(network, choice=Choice("resource", 5, reuses={"layer1": 18}))}
    assert found["layer1"] == 18
    for plan in plans(network, choice=Choice("resource", 5)):
        depthwise = plan.kind == "AvgPool"
        factors = valid_reuse(plan.fan_in * plan.channels if depthwise else plan.fan_in, plan.channels)
        assert plan.reuse == min(r for r in factors if r >= 5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 4, 3), (6, 7, 2)])
def test_layers_written_another_way_mean_the_same(shape):
    rng = np.random.default_rng(2)
    channels = shape[2]
    x = rng.integers(0, 256, (50, *shape))
    weights = rng.integers(-1, 2, (1, 1, channels)).astype(np.int8)
    sparse = Depthwise(weights, rng.integers(-9, 9, channels), rng.integers(0, 4, channels), 5, 2)
    written = with_rows(sparse)
    assert written.size == 3 and with_rows(written) is written
    expected = reference.activate(sparse, reference.accumulate(sparse, x))
    assert (reference.activate(written, reference.accumulate(written, x)) == expected).all()
    for size in (2, 4):
        if min(shape[:2]) >= size:
            pool = AvgPool(size)
            block = as_depthwise(pool, channels, 255)
            expected = reference.activate(pool, reference.accumulate(pool, x))
            assert (reference.activate(block, reference.accumulate(block, x)) == expected).all()


def test_a_conv_of_one_pixel_has_a_plan():
    network = Network((1, 1, 2), [Conv(np.ones((1, 1, 2, 3), np.int8), np.zeros(3, int), np.zeros(3, int), 4), dense(3, 2)])
    assert [plan.fan_in for plan in plans(network)] == [2, 3]

"""hls4ml's C++ emulation of a ternary network gives the reference's integers, and multiplies by weights without a multiplier."""

import re
from pathlib import Path

import numpy as np
import pytest

from gateware import hls
from modelkit.ternary import npz, reference
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network

pytestmark = pytest.mark.hw
ZOO = Path(__file__).parents[2] / "models" / "zoo"


def ternary(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random weights; the first output channel is all +1, the second all -1, the third all 0."""
    weights = rng.integers(-1, 2, shape).astype(np.int8)
    for channel, extreme in enumerate((1, -1, 0)):
        weights[..., channel] = extreme
    return weights


def parameters(rng: np.random.Generator, spread: int, shifts: tuple[int, int], *shape: int) -> dict:
    """Weights, bias and shift of a layer; `shifts` are the smallest and the largest."""
    channels = shape[-1]
    shift = rng.integers(shifts[0], shifts[1] + 1, channels)
    return {"weights": ternary(rng, *shape), "bias": rng.integers(-spread, spread + 1, channels), "shift": shift}


def random_network() -> Network:
    """Both kernel sizes, both strides, odd padding, bits 8, 5, 3 and 6, shifts from 0, an unrolled and a shared dense layer."""
    rng = np.random.default_rng(11)
    return Network(
        (14, 13, 2),
        [
            Conv(**parameters(rng, 300, (0, 4), 3, 3, 2, 6), bits=8, pad=(1, 0, 2, 1)),
            MaxPool(),
            Conv(**parameters(rng, 60, (3, 6), 1, 1, 6, 12), bits=5),
            Conv(**parameters(rng, 20, (2, 4), 3, 3, 12, 16), bits=3, stride=2, pad=(0, 1, 1, 1)),
            Dense(**parameters(rng, 30, (0, 3), 192, 32), bits=6),
            Dense(**parameters(rng, 20, (0, 2), 32, 10)),
        ],
        logit_shift=4,
    )


def emulated(network: Network, folder: Path, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(logits of the emulation, logits of the reference), int8 [n, classes]."""
    return hls.emulate(network, folder)(frames), reference.forward(network, frames)


def products(folder: Path) -> dict[str, str]:
    """The product class of each layer's configuration in the generated C++."""
    text = (folder / "firmware" / "parameters.h").read_text()
    return dict(re.findall(r"struct (config\d+\w*)[^}]*?using product = nnet::product::(\w+)<", text, re.S))


def test_emulation_of_a_random_network_is_exact_and_ternary(tmp_path) -> None:
    pytest.importorskip("hls4ml")
    network = random_network()
    frames = np.random.default_rng(12).integers(0, 256, (300, *network.input_shape)).astype(np.uint8)
    frames[0], frames[1] = 0, 255
    frames[2:6] //= 32
    assert max(layer.weights.size for layer in network.layers if isinstance(layer, Dense)) > hls.UNROLL_LIMIT
    found, expected = emulated(network, tmp_path, frames)
    np.testing.assert_array_equal(found, expected)
    assert len({row.tobytes() for row in expected}) > 250
    kinds = list(products(tmp_path).values())
    assert kinds.count("weight_ternary") == 5
    assert kinds.count("mult") == 5


def test_emulation_of_the_zoo_network_is_exact(tmp_path) -> None:
    pytest.importorskip("hls4ml")
    bundle = ZOO / "fashion"
    network = npz.load(bundle / "mandatory.npz")
    with np.load(bundle / "frames.npz", allow_pickle=False) as arrays:
        frames = arrays["frames"][:300]
    found, expected = emulated(network, tmp_path, frames)
    assert len(frames) >= 200
    np.testing.assert_array_equal(found, expected)
    assert len({row.tobytes() for row in expected}) > 0.9 * len(frames)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([AvgPool(2), Dense(np.ones((32, 3), np.int8), np.zeros(3, int), np.zeros(3, int))], r"layer 0 \(AvgPool\)"),
        ([MaxPool(3, 1), Dense(np.ones((72, 3), np.int8), np.zeros(3, int), np.zeros(3, int))], "stride equal to the size 3"),
        (
            [
                Depthwise(np.ones((1, 1, 2), np.int8), np.zeros(2, int), np.zeros(2, int), 4),
                Dense(np.ones((128, 3), np.int8), np.zeros(3, int), np.zeros(3, int)),
            ],
            "supports Conv, Dense and MaxPool",
        ),
    ],
)
def test_layers_that_cannot_be_exact_are_refused(layers: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hls.check_supported(Network((8, 8, 2), layers))

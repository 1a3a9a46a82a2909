"""`mandatory.npz` gives back an equal network, is the same bytes everywhere, and refuses everything else."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.ternary import npz
from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, MaxPool
from modelkit.ternary.network import Network
from ternary_networks import networks


def example() -> Network:
    """A network with one layer of each kind and no random numbers."""

    def pattern(*shape: int) -> np.ndarray:
        return (np.arange(np.prod(shape)).reshape(shape) % 3 - 1).astype(np.int8)

    return Network(
        (8, 8, 1),
        [
            Conv(pattern(3, 3, 1, 4), np.arange(4), np.arange(4), 6, stride=1, pad=(0, 1, 2, 1)),
            Depthwise(pattern(3, 3, 4), -np.arange(4), np.full(4, 2), 5, stride=1, pad=(1, 1, 1, 1)),
            MaxPool(3, 2),
            AvgPool(2),
            Dense(pattern(8, 6), np.arange(6), np.arange(6), 3),
            Dense(pattern(6, 2), np.array([-7, 2**20]), np.array([0, 3])),
        ],
        logit_shift=-2,
    )


@settings(max_examples=50, deadline=None)
@given(networks())
def test_reading_gives_back_an_equal_network(network: Network) -> None:
    assert npz.loads(npz.dumps(network)) == network


def test_file_and_identity(tmp_path) -> None:
    path = tmp_path / "mandatory.npz"
    identity = npz.save(example(), path)
    assert identity == example().model_id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert npz.load(path) == example()
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["1.bias"], [0, -1, -2, -3])


def test_bytes_are_the_same_on_every_machine() -> None:
    assert example().model_id == "05470db6df3ff4c8a2ef6ed1b2acb907de178c6dc3f52c70043b795bc002ce66"


def test_the_identity_changes_with_the_content() -> None:
    one = Network((1, 1, 1), [Dense(np.ones((1, 1), np.int8), np.zeros(1, int), np.zeros(1, int))])
    other = Network((1, 1, 1), [Dense(np.ones((1, 1), np.int8), np.ones(1, int), np.zeros(1, int))])
    assert one.model_id != other.model_id


def rewrite(changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The example's file with entries replaced, added, or left out (None)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz.dumps(example()))) as old, zipfile.ZipFile(out, "w", compression) as new:
        entries = {name: old.read(name) for name in old.namelist()} | changes
        for name, data in entries.items():
            if data is not None:
                new.writestr(name, data)
    return out.getvalue()


def npy(array: np.ndarray, **options: bool) -> bytes:
    """The bytes of NumPy's own `.npy` file."""
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a ternary network file"),
        (b"PK\x03\x04 nothing", "not a ternary network file"),
        (rewrite({"format.npy": npy(np.array(2, np.int32))}), "format: expected 1, found 2"),
        (rewrite({"kinds.npy": None}), "entry kinds is missing"),
        (rewrite({"kinds.npy": npy(np.full(6, 5, np.int32))}), "unknown kind 5"),
        (rewrite({"kinds.npy": npy(np.zeros(300, np.int32))}), "wrong shape"),
        (rewrite({"0.geometry.npy": npy(np.zeros(2, np.int32))}), "expected 6 numbers of geometry"),
        (rewrite({"0.bias.npy": npy(np.zeros(4))}), "int8 or int32, found float64"),
        (rewrite({"0.bias.npy": npy(np.array([1, None, 3, 4]), allow_pickle=True)}), "int8 or int32, found object"),
        (rewrite({"0.bias.npy": npy(np.zeros(4, np.int32))[:-1]}), "its header says 16 bytes, found 15"),
        (rewrite({"0.bias.npy": npy(np.zeros(5, np.int32))}), "bias: expected shape"),
        (rewrite({"0.weights.npy": npy(np.full((3, 3, 1, 4), 2, np.int8))}), "weights: expected"),
        (rewrite({}, zipfile.ZIP_DEFLATED), "without compression"),
        (rewrite({"more.npy": bytes(npz.MAX_FILE_BYTES)}), "expected at most"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str, tmp_path) -> None:
    path = tmp_path / "mandatory.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        npz.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_too_big_is_not_read(tmp_path) -> None:
    path = tmp_path / "mandatory.npz"
    with path.open("wb") as file:
        file.truncate(npz.MAX_FILE_BYTES + 1)
    with pytest.raises(ValueError, match=r"mandatory\.npz: expected at most"):
        npz.load(path)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_is_refused_with_a_value_error_or_harmless(data) -> None:
    damaged = bytearray(npz.dumps(example()))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        network = npz.loads(bytes(damaged[: data.draw(st.integers(len(damaged) - 40, len(damaged)))]))
    except ValueError:
        return
    assert network == example()

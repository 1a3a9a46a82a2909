"""`verify` counts every logit that differs and says why an engine did not run."""

import numpy as np
import pytest

from modelkit.ternary import engines, npz, reference
from modelkit.ternary.layers import Dense
from modelkit.ternary.network import Network

FRAMES = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
NETWORK = Network((2, 2, 1), [Dense(np.array([[1, 0], [0, 1], [1, 0], [0, -1]], np.int8), np.array([0, 3]), np.array([0, 1]))])


@pytest.fixture
def bundle(tmp_path):
    npz.save(NETWORK, tmp_path / "mandatory.npz")
    return tmp_path


def save_golden(path, logits: np.ndarray) -> None:
    np.savez(path / "golden.npz", frames=FRAMES, logits=logits)


def test_engines_that_need_only_numpy_are_exact(bundle) -> None:
    results = engines.verify(bundle, FRAMES, ["reference", "numpy"])
    assert [(r.engine, r.frames, r.logits, r.distinct, r.mismatches) for r in results] == [
        ("reference", 5, 10, 5, 0),
        ("numpy", 5, 10, 5, 0),
    ]
    assert all(result.exact for result in results)


def test_a_wrong_golden_logit_is_counted(bundle) -> None:
    logits = reference.forward(NETWORK, FRAMES)
    logits[2, 1] += 1
    save_golden(bundle, logits)
    stored, kernel = engines.verify(bundle, engines=["numpy"])
    assert (stored.engine, stored.mismatches, stored.exact) == ("golden", 1, False)
    assert kernel.exact


def test_logits_of_another_shape_or_dtype_are_all_wrong(bundle) -> None:
    for logits in (np.zeros((5, 3), np.int8), reference.forward(NETWORK, FRAMES).astype(np.int16)):
        save_golden(bundle, logits)
        assert engines.verify(bundle, engines=[])[0].mismatches == 10


def test_a_missing_file_is_a_reason_and_not_a_success(bundle) -> None:
    (result,) = engines.verify(bundle, FRAMES, ["litert"])
    assert not result.exact
    assert result.mismatches is None
    assert "mandatory.tflite" in result.reason or "not installed" in result.reason


def test_a_damaged_model_file_is_a_reason(bundle) -> None:
    pytest.importorskip("ai_edge_litert")
    from modelkit.ternary import tflite

    content = tflite.dumps(NETWORK)
    for damaged in (b"", b"nothing", content[: len(content) // 2]):
        (bundle / "mandatory.tflite").write_bytes(damaged)
        (result,) = engines.verify(bundle, FRAMES, ["litert"])
        assert result.mismatches is None
        assert result.reason


def test_a_missing_module_is_a_reason_that_says_what_to_install(bundle, monkeypatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda module: None)
    results = engines.verify(bundle, FRAMES)
    assert [result.exact for result in results] == [True, True, False, False, False]
    assert results[2].reason == "ai_edge_litert not installed: pip install 'edgert[tflite]'"


def test_a_model_file_of_another_network_is_found(bundle) -> None:
    pytest.importorskip("ai_edge_litert")
    from modelkit.ternary import tflite

    other = Network((2, 2, 1), [Dense(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.int8), np.array([0, 3]), np.array([0, 1]))])
    tflite.save(other, bundle / "mandatory.tflite")
    (result,) = engines.verify(bundle, FRAMES, ["litert"])
    assert result.mismatches == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"engines": ["tpu"]}, "unknown engine tpu"), ({"frames": FRAMES[:0]}, "at least one frame"), ({}, "golden")],
)
def test_bad_requests_are_refused(bundle, arguments: dict, message: str) -> None:
    (bundle / "golden.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=message):
        engines.verify(bundle, **arguments)

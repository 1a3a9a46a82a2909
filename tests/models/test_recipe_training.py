"""The training arithmetic: TNT's fixed point, integers equal to the reference, and the whole recipe in small."""

import hashlib
import json

import numpy as np
import pytest

from modelkit import train

pytestmark = pytest.mark.models


def test_tnt_is_the_least_squares_ternary_approximation():
    weights = np.random.default_rng(0).normal(0, 1, (200, 3)).astype(np.float32)
    signs, scale = train.tnt(weights)
    for channel in range(3):
        size = np.sort(np.abs(weights[:, channel]))[::-1]
        gains = np.cumsum(size) / np.sqrt(np.arange(1, 201))
        k = int(np.argmax(gains)) + 1
        assert np.count_nonzero(signs[:, channel]) == pytest.approx(k, abs=8)
        error = np.sum((weights[:, channel] - scale[channel] * signs[:, channel]) ** 2)
        best = np.sum(size**2) - gains.max() ** 2
        assert error <= best * 1.01


def test_ten_known_weights_keep_the_large_ones():
    signs, scale = train.tnt(np.array([[1.0], [-1.1], [0.1], [0.05], [0.9]]))
    assert signs.ravel().tolist() == [1, -1, 0, 0, 1]
    assert scale == pytest.approx([1.0])


def test_the_step_found_is_the_one_that_made_the_values():
    values = 0.25 * np.random.default_rng(1).integers(0, 16, 5000)
    step = train.best_step(values, 15.0)
    assert np.abs(values - step * np.clip(np.rint(values / step), 0, 15)).mean() < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_the_integer_phase_equals_the_integer_reference_on_every_logit(seed):
    pytest.importorskip("tensorflow")
    from modelkit import fold
    from modelkit.ternary.reference import forward

    settings = train.TernarySettings(
        layers=(("conv", 6, 3, 1), ("pool", 2), ("conv", 8, 3, 2), ("dense", 16), ("dense", 4)), bits=(4, 6, 8)
    )
    rng = np.random.default_rng(seed)
    frames, labels = rng.integers(0, 256, (64, 12, 12, 2), np.uint8), rng.integers(0, 4, 64)
    net = train.TernaryNet((12, 12, 2), settings, seed)
    net.forward(net.tf.constant(frames, net.tf.float32), "float", training=True)
    net.set_steps(frames)
    net.set_scales()
    for _ in range(30):
        net.forward(net.tf.constant(frames, net.tf.float32), "ternary", training=True)
    fold.fold(net, frames, labels)
    network = fold.to_network(net)
    expected = forward(network, frames)
    assert len(np.unique(expected, axis=0)) > 20
    assert np.array_equal(train.predict(net, "integer", frames), expected * 2.0**-network.logit_shift)


def pictures():
    """Four classes of a bright square in a corner, with noise: a `Dataset` that a small network learns in seconds."""
    from modelkit.data import Dataset

    rng = np.random.default_rng(3)
    labels = np.arange(2400) % 4
    frames = rng.integers(0, 140, (2400, 12, 12, 1), np.uint8)
    for frame, label in zip(frames, labels, strict=True):
        row, column = 6 * (label // 2) + rng.integers(0, 3), 6 * (label % 2) + rng.integers(0, 3)
        frame[row : row + 4, column : column + 4] //= 2
        frame[row : row + 4, column : column + 4] += 110
    labels = labels.astype(np.uint8)
    names = ("a", "b", "c", "d")
    return Dataset("corners", names, frames[:2000], labels[:2000], frames[2000:], labels[2000:], licence="CC0-1.0")


def test_the_recipe_makes_a_whole_bundle_of_own_pictures_and_resumes(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    from edgert.bundle import load
    from modelkit.recipes import classify, fashion
    from modelkit.stages import StageSettings

    plan = ((4, 2), (8, 1))
    settings = classify.RecipeSettings(
        mandatory=train.TernarySettings(
            layers=(("conv", 4, 3, 1), ("pool", 2), ("dense", 8), ("dense", 4)), bits=(4, 6), epochs=(8, 8, 4), batch=32
        ),
        stages=tuple(StageSettings(plan, epochs=3, batch=32, reach=1, flips=False, views=v) for v in (1, 3)),
        choose=200,
        calibrate=400,
        shipped_frames=100,
        random_frames=50,
        timing_runs=(20, 20, 20),
    )
    lines = []
    out = classify.make_bundle(pictures(), settings, tmp_path / "b", name="corners", seeds=2, progress=lines.append)
    bundle = load(str(tmp_path / "b"))
    assert bundle.classes == ["a", "b", "c", "d"]
    assert len(bundle.calibration["correct"]) == 1 + len(bundle.stage_files) == len(out.logits["test"])
    stored = np.load(tmp_path / "b" / "outcomes.npz")
    assert stored["correct"].shape == stored["confidence"].shape == (100, len(out.logits["test"]))
    assert stored["correct"][:, 0].mean() > 0.6  # chance is 0.25
    assert all(row["mismatches"] in (0, None) for row in out.notes["engines"])
    for stage in bundle.stage_files:
        assert (tmp_path / "b" / stage).stat().st_size > 0
    for file, digest in bundle.manifest["files"].items():
        assert hashlib.sha256((tmp_path / "b" / file).read_bytes()).hexdigest() == digest
    assert json.loads((tmp_path / "b" / "timing.json").read_text())["stages"].keys() >= {"mandatory"}
    again = []
    classify.make_bundle(pictures(), settings, tmp_path / "b", name="corners", seeds=2, progress=again.append)
    assert not any(line.endswith(": begins") for line in again)
    assert load(str(tmp_path / "b")).model_id == bundle.model_id
    assert fashion.SETTINGS.mandatory.layers[-1] == ("dense", 10)


def test_the_fashion_recipe_in_small_makes_a_valid_bundle(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    from edgert.bundle import load
    from modelkit.recipes import fashion

    out = fashion.train(tmp_path / "fashion", seeds=1, quick=True, progress=lambda line: None)
    bundle = load(str(tmp_path / "fashion"))
    assert bundle.name == "fashion" and len(bundle.classes) == 10
    assert {row["engine"] for row in out.notes["engines"] if row["mismatches"] == 0} >= {"numpy", "litert"}
    assert "Expat" in (tmp_path / "fashion" / "card.md").read_text()

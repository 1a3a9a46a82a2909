"""Temperature, confidence curves and their error, against data whose truth is known."""

import numpy as np
import pytest

from modelkit import calibrate, card, fold


def sampled(n, sharp, seed):
    """Logits whose softmax(logits / sharp) is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (n, 5))
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return (true * sharp).astype(np.float32), labels


@pytest.mark.parametrize("sharp", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(sharp):
    logits, labels = sampled(20000, sharp, 1)
    assert calibrate.temperature(logits, labels) == pytest.approx(sharp, rel=0.05)


def test_monotone_is_the_nearest_rising_sequence():
    assert np.allclose(calibrate.monotone([1, 3, 2, 4], [1, 1, 3, 1]), [1, 2.25, 2.25, 4])
    assert np.allclose(calibrate.monotone([4, 2, 3, 1], [1, 1, 1, 1], rising=False), [4, 2.5, 2.5, 1])


def test_confidence_is_the_largest_probability():
    assert calibrate.confidence(np.array([[0.0, 0.0], [0.0, np.log(3)]]), 1.0) == pytest.approx([0.5, 0.75])
    assert calibrate.confidence(np.array([[1000.0, -1000.0]]), 0.25) == pytest.approx([1.0])


def test_curves_rise_have_rising_knots_and_a_small_error_elsewhere():
    first, labels = sampled(6000, 1.0, 2)
    second = first + 2 * np.eye(5, dtype=np.float32)[labels]
    result = calibrate.calibrate(np.stack([first, second]), labels, 3000)
    for entry in (*result["correct"], result["gain"]["0"]["1"]):
        assert np.all(np.diff(entry["x"]) > 0)
    assert all(np.all(np.diff(entry["y"]) >= 0) for entry in result["correct"])
    assert np.all(np.diff(result["gain"]["0"]["1"]["y"]) <= 0)
    assert max(*result["error"]["correct"], result["error"]["gain"]["0"]["1"]) < 0.04
    assert result["n"] == {"fit": 3000, "error": 3000}


def test_equal_confidences_make_one_knot():
    entry = calibrate.curve(np.full(1000, 0.5), np.arange(1000) % 2)
    assert entry == {"x": [0.5], "y": [0.5]}


def test_the_error_of_a_curve_that_is_off_by_a_tenth_is_a_tenth():
    x = np.linspace(0, 1, 1000)
    assert calibrate.calibration_error(x + 0.1, x, x) == pytest.approx(0.1)


def test_cross_entropy_of_a_fair_guess():
    assert fold.cross_entropy(np.zeros((4, 10)), np.arange(4)) == pytest.approx(np.log(10))


def test_the_wilson_interval_is_that_of_the_literature():
    low, high = card.wilson(81, 263)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))

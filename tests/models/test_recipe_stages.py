"""A stage's integer file against its float model: the same views, the same function, the input as it is on the wire."""

import numpy as np
import pytest

pytestmark = pytest.mark.models
tf = pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

from modelkit import stages  # noqa: E402

SHAPE = (12, 12, 1)


def model_and_settings(views, hidden=0):
    """A stage with random, not trivial, normalisation, so that every fold into the file matters."""
    settings = stages.StageSettings(plan=((4, 2), (6, 1)), hidden=hidden, reach=1, views=views)
    model = stages.build(SHAPE, 3, settings, 0)
    rng = np.random.default_rng(views)
    weights = [w if w.ndim > 2 else w * 20 if w.ndim == 2 else np.abs(w + 0.3 * rng.normal(size=w.shape)) for w in model.get_weights()]
    model.set_weights(weights)
    return model, settings, rng.integers(0, 256, (60, *SHAPE), np.uint8)


@pytest.mark.parametrize(("views", "hidden"), [(1, 0), (4, 0), (18, 8)])
def test_the_file_is_the_mean_of_the_model_over_its_views(views, hidden):
    model, settings, frames = model_and_settings(views, hidden)
    stage = stages.Stage(stages.to_tflite(model, SHAPE, settings, frames[:40]))
    table = settings.running_table(SHAPE)
    assert len(table) == views
    flat = frames.reshape(len(frames), -1, 1)
    expected = np.mean([stages.outputs(model, flat[:, row].reshape(frames.shape)) for row in table], axis=0)
    given = stage.run(frames)
    assert given.dtype == np.float32
    assert expected.std() > 10 * stage.scale
    assert np.sqrt(np.mean((given - expected) ** 2)) < 0.08 * expected.std()  # rounding; a fold left out would be 1 or more


def test_the_input_is_the_pixel_less_128_and_every_operator_is_builtin():
    model, settings, frames = model_and_settings(2)
    stage = stages.Stage(stages.to_tflite(model, SHAPE, settings, frames[:40] // 2))
    assert stage.input_quantisation == (1.0, -128)
    assert stage.input["shape"].tolist() == [1, *SHAPE]
    assert stage.output["shape"].tolist() == [1, 3]
    allowed = {"CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED", "GATHER", "RESHAPE", "MEAN", "DELEGATE"}
    assert set(stage.operators()) <= allowed


def test_macs_count_convolutions_and_dense_layers_of_one_view():
    settings = stages.StageSettings(plan=((4, 2), (6, 1)), hidden=8)
    assert settings.macs(SHAPE, 3) == 144 * 9 * 4 + 36 * 9 * 4 * 6 + 36 * 6 * 8 + 8 * 3

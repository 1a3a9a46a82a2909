"""CIFAR-10 from JPEG files, the folded pipeline's cycles, trainings that survive a kill, and the recipe of independent stages in small."""

import io
import json
import tarfile
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from imprecise.statistics import mcnemar
from modelkit import data, folding
from modelkit.bundle_writer import clouds, golden_frames
from modelkit.recipes import cifar10, ensemble
from modelkit.ternary.layers import Conv, Dense, MaxPool
from modelkit.ternary.network import Network

pytestmark = pytest.mark.models
tf = pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

from modelkit import fold, residual, stages, train  # noqa: E402

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10_jpeg"
CLASSES = data.CIFAR10_CLASSES


# Pictures -------------------------------------------------------------------------------------------------------------


def jpegs(kinds=CLASSES, each=2, side=32):
    """{(class, name): JPEG bytes} of smooth pictures."""
    pictures = iter(clouds((side, side, 3), len(kinds) * each))
    return {(kind, f"{i:04}.jpg"): tf.io.encode_jpeg(next(pictures), quality=90).numpy() for kind in kinds for i in range(each)}


def write_folder(root, part, files):
    for (kind, name), raw in files.items():
        (root / part / kind).mkdir(parents=True, exist_ok=True)
        (root / part / kind / name).write_bytes(raw)


def write_archive(root, part, files):
    """An archive whose members are in an order of their own."""
    with tarfile.open(root / f"{part}_{len(files)}.tar.xz", "w:xz") as archive:
        for (kind, name), raw in reversed(files.items()):
            info = tarfile.TarInfo(f"{part}/{kind}/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def test_a_folder_and_an_archive_give_the_same_pictures_in_the_order_of_class_and_name(tmp_path):
    files = jpegs()
    for name, write in (("folder", write_folder), ("archive", write_archive)):
        (tmp_path / name).mkdir()
        for part in ("train", "test"):
            write(tmp_path / name, part, files)
    a, b = (data.cifar10(tmp_path / name) for name in ("folder", "archive"))
    assert a.frames.shape == (20, 32, 32, 3) and a.frames.dtype == a.labels.dtype == np.uint8
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.test_frames, b.test_frames)
    assert {f.tobytes() for f in a.test_frames} == {f.tobytes() for f in a.frames}
    assert sorted(a.test_labels) == a.labels.tolist() and len(set(a.test_labels[:10])) > 4
    assert a.labels.tolist() == b.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    assert np.array_equal(a.frames[3], tf.io.decode_jpeg(files["automobile", "0001.jpg"], dct_method="INTEGER_ACCURATE").numpy())
    assert not a.shareable


def test_what_is_missing_is_named_with_the_way_to_give_it(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGERT_CIFAR10", raising=False)
    with pytest.raises(data.DataError, match="--folder"):
        data.cifar10()
    with pytest.raises(data.DataError, match=r"train\*.tar.xz"):
        data.cifar10(tmp_path)
    write_folder(tmp_path, "train", jpegs(("airplane", "zebra"), 1))
    with pytest.raises(data.DataError, match="zebra"):
        data.cifar10(tmp_path)


def test_a_picture_of_another_size_is_refused(tmp_path):
    write_folder(tmp_path, "train", jpegs(("cat",), 1, side=24))
    with pytest.raises(data.DataError, match=r"cat/0000.jpg is \(24, 24, 3\)"):
        data.cifar10(tmp_path)


def test_every_decoder_that_is_installed_gives_the_same_bytes():
    decode = data.jpeg_decoder()
    for raw in jpegs(each=1).values():
        assert np.array_equal(decode(raw), tf.io.decode_jpeg(raw, channels=3, dct_method="INTEGER_ACCURATE").numpy())


@pytest.mark.slow
def test_the_whole_data_set_has_as_many_of_each_class():
    if not SHARED.exists():
        pytest.skip("needs ../shared/data: CIFAR-10 as JPEG")
    frames, labels = data.jpeg_pictures(SHARED, "test")
    assert frames.shape == (10000, 32, 32, 3) and np.bincount(labels).tolist() == [1000] * 10


def test_a_share_of_one_leaves_no_part_for_the_stages():
    labels = np.repeat(np.arange(5), 100)
    parts = data.split(labels, choose=50, calibrate=100, mandatory_share=1)
    assert [len(p) for p in vars(parts).values()] == [350, 0, 50, 100]
    assert len(np.unique(np.concatenate(list(vars(parts).values())))) == 500


def test_golden_vectors_hold_no_picture_that_may_not_be_handed_on():
    frames = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    labels = np.zeros(60, np.uint8)
    for shareable in (True, False):
        golden = golden_frames(data.Dataset("d", ("a",), frames, labels, frames, labels, shareable=shareable))
        assert len(golden) == 80
        held = {f.tobytes() for f in golden} & {f.tobytes() for f in frames}
        assert len(held) == (48 if shareable else 0)


# Folding --------------------------------------------------------------------------------------------------------------


def network(rng, side, plan, classes=4):
    """A network of random weights: plan of ("conv", channels, stride) and ("pool", size)."""
    layers, (h, c) = [], (side, 2)
    for kind, size, *rest in plan:
        if kind == "pool":
            layers.append(MaxPool(size, size))
            h //= size
            continue
        weights = rng.integers(-1, 2, (3, 3, c, size), np.int8)
        layers.append(Conv(weights, np.zeros(size, int), np.zeros(size, int), 4, rest[0], (1, 1, 1, 1)))
        h, c = (h - 1) // rest[0] + 1, size
    layers.append(Dense(rng.integers(-1, 2, (h * h * c, classes), np.int8), np.zeros(classes, int), np.zeros(classes, int)))
    return Network((side, side, 2), layers, 0)


def naive_latency(net, folds):
    """The cycle of the last logit, pixel after pixel in plain loops."""
    there = {(r, c): 1 + r * net.input_shape[1] + c for r in range(net.input_shape[0]) for c in range(net.input_shape[1])}
    folds = iter(folds)
    for layer, shape, before in zip(net.layers, net.shapes[1:], net.shapes):
        if isinstance(layer, Dense):
            return max(there.values()) + folding.cycles_a_pixel(layer, next(folds)) + folding.PIPELINE
        done, now = {}, 0
        work = 0 if isinstance(layer, MaxPool) else folding.cycles_a_pixel(layer, next(folds))
        for r in range(shape[0]):
            for c in range(shape[1]):
                pad = 0 if isinstance(layer, MaxPool) else 1
                window = [(y, x) for y in range(r * layer.stride - pad, r * layer.stride - pad + layer.size)
                          for x in range(c * layer.stride - pad, c * layer.stride - pad + layer.size)]  # fmt: skip
                seen = [at for at in there if at <= (min(max(window)[0], before[0] - 1), min(max(x for _, x in window), before[1] - 1))]
                ready = max(there[at] for at in seen)  # rows come one after the other: all pixels up to the window's last
                now = ready + 1 if isinstance(layer, MaxPool) else max(now, ready) + work
                done[r, c] = now if isinstance(layer, MaxPool) else now + folding.PIPELINE
        there = done
    raise AssertionError("no dense layer")


@pytest.mark.parametrize("seed", range(4))
def test_the_latency_is_that_of_a_pixel_by_pixel_simulation(seed):
    rng = np.random.default_rng(seed)
    plan = [("conv", 4, 1), ("pool", 2), ("conv", 8, 1 + seed % 2), ("conv", 4, 1)]
    net = network(rng, 12, plan)
    folds = [(int(rng.choice([1, 2, 4])), simd) for simd in (int(rng.choice([2, 6, 18])), 12, int(rng.choice([1, 24])), 1)]
    interval, latency = folding.pipeline_cycles(net, folds)
    assert latency == naive_latency(net, folds)
    weighted = [(layer, shape) for layer, shape in zip(net.layers, net.shapes[1:]) if not isinstance(layer, MaxPool)]
    assert interval == max(144, *(prod(s[:-1]) * layer.weights.size // (f[0] * f[1]) for (layer, s), f in zip(weighted, folds)))


def test_a_fold_that_does_not_divide_its_layer_is_refused():
    net = network(np.random.default_rng(0), 8, [("conv", 6, 1)])
    with pytest.raises(ValueError, match="PE 4 must divide 6"):
        folding.pipeline_cycles(net, [(4, 18), (1, 1)])


def test_the_recipes_folds_keep_every_network_within_the_cycles_of_the_board():
    for _, settings, folds in cifar10.VARIANTS:
        net = fold.to_network(train.TernaryNet((32, 32, 3), settings, 0))
        interval, latency = folding.pipeline_cycles(net, folds)
        assert interval <= 20_000 and latency <= 30_000
    whole = fold.to_network(train.TernaryNet((32, 32, 3), cifar10.MANDATORY, 0))
    assert folding.pipeline_cycles(whole, cifar10.FOLDS)[1] <= 30_000
    assert folding.macs_a_cycle(cifar10.FOLDS) < 2000
    assert min(b for b in cifar10.MANDATORY.bits) >= 4


# Training -------------------------------------------------------------------------------------------------------------


SMALL = replace(
    cifar10.MANDATORY, layers=(("conv", 6, 3, 1), ("pool", 2), ("conv", 8, 3, 2), ("pool", 2), ("dense", 4)), bits=(4, 6),
    epochs=(2, 2, 2), batch=32, rates=(0.05, 0.03, 1e-3),
)  # fmt: skip
RIVAL = residual.ResidualSettings(widths=(4, 8), epochs=3, batch=32, peak=0.05, reach=1)


def corners(n=600, side=16, shareable=True):
    """Four classes of a bright square in a corner, with noise, three colours."""
    rng = np.random.default_rng(3)
    labels = (np.arange(n) % 4).astype(np.uint8)
    frames = rng.integers(0, 140, (n, side, side, 3), np.uint8)
    half = side // 2
    for frame, label in zip(frames, labels, strict=True):
        row, column = half * (label // 2) + 2, half * (label % 2) + 2
        frame[row : row + 4, column : column + 4] = frame[row : row + 4, column : column + 4] // 2 + 120
    cut = n * 5 // 6
    return data.Dataset("corners", ("a", "b", "c", "d"), frames[:cut], labels[:cut], frames[cut:], labels[cut:],
                        licence="CC0-1.0", shareable=shareable)  # fmt: skip


def test_the_integer_phase_by_the_librarys_convolutions_equals_the_integer_reference():
    from modelkit.ternary.reference import forward

    frames = clouds((16, 16, 3), 64)
    net = train.TernaryNet((16, 16, 3), SMALL, 1)
    net.forward(net.tf.constant(frames, net.tf.float32), "float", training=True)
    net.set_steps(frames)
    net.set_scales()
    for _ in range(30):
        net.forward(net.tf.constant(frames, net.tf.float32), "ternary", training=True)
    fold.fold(net, frames, np.arange(64) % 4)
    made = fold.to_network(net)
    expected = forward(made, frames)
    assert len(np.unique(expected, axis=0)) > 20
    assert np.array_equal(train.predict(net, "integer", frames), expected * 2.0**-made.logit_shift)


def folding_error(power_gains):
    """Mean error that folding makes in the last hidden activations (in parts of their mean) of a network trained for a few epochs."""
    pictures = corners()
    layers = (("conv", 8, 3, 1), ("pool", 2), ("conv", 8, 3, 1), ("pool", 2), ("dense", 4))
    net = train.TernaryNet((16, 16, 3), replace(SMALL, power_gains=power_gains, layers=layers), 0)
    for phase in ("float", "ternary"):
        if phase == "ternary":
            net.set_steps(pictures.frames)
            net.set_scales()
        train.fit_phase(net, phase, pictures.frames[None], pictures.labels, None, epochs=3, peak=0.03, seed=0)
    whole, frames = net.layers, net.tf.constant(pictures.test_frames, net.tf.float32)
    net.layers = whole[:-1]
    before = net.forward(frames, "ternary").numpy() / net.weighted()[-1]["step"].numpy()
    net.layers = whole
    fold.fold(net, pictures.frames, pictures.labels)
    net.layers, net.logit_shift = whole[:-1], 0
    after = net.forward(frames, "integer").numpy()
    assert np.array_equal(after, np.rint(after)) and len(np.unique(after)) > 10
    return np.abs(after - before).mean() / before.mean()


def test_power_of_two_gains_in_the_ternary_phase_make_folding_change_little():
    learnt, rounded = folding_error(True), folding_error(False)
    assert learnt < 0.1 and learnt < 0.6 * rounded


class Killed(Exception):
    """Stands for a kill between two epochs."""


def killer(after):
    """A `say` that raises when `after` epochs have been told."""
    told = []

    def say(line):
        told.append(line)
        if sum(": loss" in t for t in told) == after:
            raise Killed

    return say


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_killed_ternary_training_goes_on_as_if_nothing_had_happened(tmp_path, after):
    from modelkit.recipes.classify import train_ternary

    pictures = corners(240)
    arguments = ((16, 16, 3), SMALL, pictures.frames[None], pictures.labels, None, (pictures.test_frames, pictures.test_labels), 0)
    whole = train_ternary(*arguments, lambda line: None)
    keep = train.Epochs(tmp_path / "e.npz")
    with pytest.raises(Killed):
        train_ternary(*arguments, killer(after), keep)
    lines = []
    again = train_ternary(*arguments, lines.append, keep)
    assert sum(": loss" in line for line in lines) == 6 - after
    assert whole.keys() == again.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_killed_residual_training_goes_on_as_if_nothing_had_happened(tmp_path):
    pictures = corners(240)
    nets = []
    keep = train.Epochs(tmp_path / "e.npz")
    for say, kept in ((None, None), (killer(1), keep), (None, keep)):
        nets.append(residual.Residual((16, 16, 3), 4, RIVAL, 0))
        if kept and say:
            with pytest.raises(Killed):
                residual.fit(nets[-1], pictures.frames, pictures.labels, 0, say, kept)
        else:
            residual.fit(nets[-1], pictures.frames, pictures.labels, 0, say, kept)
    for name, value in nets[0].state().items():
        np.testing.assert_allclose(nets[2].state()[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert not np.allclose(nets[1].state()["0.w"], nets[0].state()["0.w"])


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_residual_networks_file_is_the_network_times_the_factor(factor):
    pictures = corners(240)
    net = residual.Residual((16, 16, 3), 4, RIVAL, 0)
    residual.fit(net, pictures.frames, pictures.labels, 0)
    stage = stages.Stage(residual.to_tflite(net, pictures.frames, factor))
    expected = factor * residual.outputs(net, pictures.test_frames)
    given = stage.run(pictures.test_frames)
    assert expected.std() > 10 * stage.scale
    assert np.sqrt(np.mean((given - expected) ** 2)) < 0.1 * expected.std()


def test_resnet8_has_the_macs_of_mlperf_tiny():
    assert residual.ResidualSettings().macs((32, 32, 3), 10) == 12_501_632


# The recipe -----------------------------------------------------------------------------------------------------------


def test_the_exact_test_is_that_of_the_statistics_room():
    for a, b in ((0, 0), (1, 0), (5, 5), (37, 71), (130, 91), (400, 512)):
        assert ensemble.exact_mcnemar(a, b) == pytest.approx(mcnemar(a, b), rel=1e-9)


def test_the_factor_of_logits_that_know_nothing_is_small_and_of_good_ones_large():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    base = rng.normal(0, 0.5, (500, 4)).astype(np.float32)
    noise = rng.normal(0, 1, (500, 4)).astype(np.float32)
    assert ensemble.best_factor(base, noise, labels) == pytest.approx(ensemble.FACTORS[0])
    assert ensemble.best_factor(base, noise + 3 * np.eye(4, dtype=np.float32)[labels], labels) > 0.5


def test_the_recipe_makes_a_bundle_without_pictures_whose_steps_may_be_shared_out(tmp_path):
    from edgert.bundle import load

    settings = ensemble.EnsembleSettings(
        mandatory=SMALL, rival=RIVAL, folds=((2, 9), (2, 9), (4, 4)), choose=60, calibrate=120, shipped_frames=80, random_frames=20,
        variant_pictures=200, timing_runs=(20, 20, 20),
        variants=(("small, 2 bits", replace(SMALL, bits=(2, 4)), ((2, 9), (2, 9), (4, 4))),),
    )  # fmt: skip
    pictures = corners(shareable=False)
    lines = []
    for only in (["rival-0"], ["mandatory-0", "variants"], None):
        out = ensemble.make_bundle(pictures, settings, tmp_path / "b", name="corners", seeds=1, progress=lines.append, only=only)
        assert (tmp_path / "b").exists() == (only is None)
    assert sum(line in ("rival-0: begins", "mandatory-0: begins", "variant-small-2-bits: begins") for line in lines) == 3
    bundle = load(str(tmp_path / "b"))
    assert "frames.npz" not in bundle.contents and len(bundle.arrays("outcomes.npz")["correct"]) == 80
    shown = {f.tobytes() for f in bundle.arrays("golden.npz")["frames"]}
    assert not shown & {f.tobytes() for f in np.concatenate([pictures.frames, pictures.test_frames])}
    assert all(row["mismatches"] in (0, None) for row in out.notes["engines"])
    assert bundle.timing["hardware"]["cycles"] == folding.pipeline_cycles(out.network, settings.folds)[1]
    rival = out.notes["rivals"][0]
    assert rival["ours"] - rival["right"] == rival["only_ours"] - rival["only_theirs"]
    for stage in out.notes["stages"]:
        assert stage["shipped"] == (stage["after"][0] < stage["before"][0])
    assert len(bundle.stage_files) == sum(s["shipped"] for s in out.notes["stages"])
    write_folder(tmp_path / "pictures", "test", jpegs(each=9))
    copy = load(str(cifar10.with_pictures(tmp_path / "b", tmp_path / "c", tmp_path / "pictures")))
    assert copy.arrays("frames.npz")["frames"].shape == (80, 32, 32, 3) and copy.model_id == bundle.model_id
    assert len(set(copy.arrays("frames.npz")["labels"])) == 10
    card = (tmp_path / "b" / "card.md").read_text()
    assert "there is no `frames.npz`" in card and "## Against a float residual network" in card and "small, 2 bits" in card
    assert json.loads((tmp_path / "b" / "calibration.json").read_text())["n"]["fit"] == 60

"""The bundle `cifar10`: settings for CIFAR-10 as JPEG. `edgert model train cifar10` calls `train`.

The network is made for a streaming pipeline on a small FPGA: wide where the picture is small, halved early, and each layer folded
to at most 12,288 cycles a frame (`FOLDS`), so that the answer is there within 30,000 cycles of the first pixel.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelkit import data
from modelkit.recipes.ensemble import EnsembleSettings, make_bundle
from modelkit.residual import ResidualSettings
from modelkit.train import TernarySettings


def layers(a, b, c, d, e):
    """Five convolutions of these widths at 32x32, 16x16, 8x8, 8x8 and 4x4, and the logits."""
    return (
        ("conv", a, 3, 1), ("pool", 2),
        ("conv", b, 3, 1), ("pool", 2),
        ("conv", c, 3, 1), ("conv", d, 3, 1), ("pool", 2),
        ("conv", e, 3, 1), ("pool", 4), ("dense", 10),
    )  # fmt: skip


MANDATORY = TernarySettings(
    layers=layers(32, 64, 96, 128, 192),
    bits=(4, 4, 4, 4, 6),
    epochs=(5, 7, 1),
    rates=(0.15, 0.1, 2e-4),
    reach=3,
    views=1,
    fresh=True,
    momentum=0.9,
    weight_decay=5e-4,
    compiled=False,
    half=True,
    power_gains=True,
)
FOLDS = ((4, 27), (4, 96), (6, 48), (8, 72), (12, 24), (10, 4))

THREE_QUARTERS = (24, 48, 72, 96, 144), ((3, 27), (3, 72), (3, 54), (6, 54), (6, 27), (10, 4))
HALF = (16, 32, 48, 64, 96), ((2, 27), (2, 48), (2, 36), (4, 36), (4, 18), (10, 4))
QUARTER = (8, 16, 24, 32, 48), ((1, 27), (1, 24), (1, 18), (2, 18), (2, 9), (10, 4))


def variant(name, shape, bits):
    """A row of `EnsembleSettings.variants`: other widths and bits under a short schedule."""
    widths, folds = shape
    return name, replace(MANDATORY, layers=layers(*widths), bits=(*[bits] * 4, 6), epochs=(3, 4, 1)), folds


VARIANTS = (
    variant("half, 4 bits", HALF, 4),
    variant("quarter, 4 bits", QUARTER, 4),
    variant("half, 2 bits", HALF, 2),
    variant("half, 8 bits", HALF, 8),
    variant("three quarters, 4 bits", THREE_QUARTERS, 4),
    variant("whole, 4 bits", ((32, 64, 96, 128, 192), FOLDS), 4),
)

SETTINGS = EnsembleSettings(mandatory=MANDATORY, rival=ResidualSettings(epochs=15), folds=FOLDS, variants=VARIANTS)

QUICK = EnsembleSettings(
    mandatory=replace(MANDATORY, layers=layers(8, 16, 24, 32, 48), epochs=(2, 2, 1), batch=32),
    rival=ResidualSettings(widths=(8, 16, 32), epochs=4, batch=32, peak=0.1),
    folds=QUARTER[1],
    stages=1,
    choose=200,
    calibrate=400,
    variants=(("eighth, 2 bits", replace(MANDATORY, layers=layers(4, 8, 12, 16, 24), bits=(2, 2, 2, 2, 6), epochs=(1, 1, 1), batch=32),
               ((1, 9), (1, 12), (1, 9), (1, 9), (1, 9), (10, 1))),),
    shipped_frames=200,
    random_frames=100,
    timing_runs=(50, 20),
)  # fmt: skip


def small_part(dataset, pictures=2000, test=400):
    """Seeded random pictures of a dataset that is sorted by class: enough to try the pipeline, not to learn much."""
    rng = np.random.default_rng(0)
    rows, test_rows = rng.permutation(len(dataset.labels))[:pictures], rng.permutation(len(dataset.test_labels))[:test]
    return replace(
        dataset,
        frames=dataset.frames[rows],
        labels=dataset.labels[rows],
        test_frames=dataset.test_frames[test_rows],
        test_labels=dataset.test_labels[test_rows],
    )


def train(out_dir, *, seed=0, seeds=3, quick=False, progress=None, folder=None, work_dir=None, only=None):
    """Make the bundle from scratch in `out_dir`; returns the `modelkit.recipes.classify.Outcome`.

    Arguments as in `modelkit.recipes.fashion.train`; folder: where the JPEG files are (see modelkit.data.cifar10); only: see
    `modelkit.recipes.ensemble.make_bundle`. Raises modelkit.data.DataError when the data set is absent.
    """
    dataset, settings, command = data.cifar10(folder), SETTINGS, "edgert model train cifar10"
    if quick:
        dataset, settings, command = small_part(dataset), QUICK, f"{command} --quick"
    if seed:
        command += f" --seed {seed}"
    if seeds != 3:
        command += f" --seeds {seeds}"
    return make_bundle(
        dataset,
        settings,
        out_dir,
        name="cifar10",
        seed=seed,
        seeds=seeds,
        command=command,
        progress=progress,
        work_dir=work_dir,
        only=only,
    )


def with_pictures(bundle, out_dir, folder=None):
    """A copy of the bundle `bundle` in `out_dir` with `frames.npz`, for runs with labels on the machine that has the pictures.

    The pictures are the first of the test set, as many as `outcomes.npz` has. They may not be handed on, nor may the copy.
    Raises modelkit.data.DataError when the data set is absent, FileExistsError when `out_dir` exists.
    """
    frames, labels = data.cifar10_test(data.cifar10_folder(folder))
    out = Path(shutil.copytree(bundle, out_dir))
    with np.load(out / "outcomes.npz", allow_pickle=False) as outcomes:
        n = len(outcomes["correct"])
    np.savez_compressed(out / "frames.npz", frames=frames[:n], labels=labels[:n], source=np.array("dataset:cifar10"))
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["frames.npz"] = hashlib.sha256((out / "frames.npz").read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return out


if __name__ == "__main__":
    import argparse
    import time

    parser = argparse.ArgumentParser(description="Make the bundle `cifar10`, or do some of its steps beside another process.")
    parser.add_argument("out_dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder")
    parser.add_argument("--only", nargs="+", help="steps: mandatory-SEED, rival-SEED, variants")
    parser.add_argument("--pictures", metavar="BUNDLE", help="copy this bundle to OUT_DIR and add frames.npz, for this machine only")
    arguments = vars(parser.parse_args())
    made = arguments.pop("pictures")
    if made:
        with_pictures(made, arguments["out_dir"], arguments["folder"])
    else:
        train(**arguments, progress=lambda line: print(time.strftime("%H:%M:%S"), line, flush=True))

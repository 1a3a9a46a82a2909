"""The bundle `fashion`: settings for Fashion-MNIST. `edgert model train fashion` calls `train`."""

from dataclasses import replace

from modelkit import data
from modelkit.recipes.classify import RecipeSettings, make_bundle
from modelkit.stages import StageSettings
from modelkit.train import TernarySettings

MANDATORY = TernarySettings(
    layers=(("conv", 12, 3, 1), ("pool", 2), ("conv", 28, 3, 1), ("pool", 2), ("dense", 32), ("dense", 10)),
    bits=(4, 6, 8),
    threshold=0.65,
    epochs=(5, 9, 4),
    reach=1,
    views=3,
)
STAGE1 = StageSettings(plan=((24, 2), (48, 2), (64, 1)), epochs=8, reach=1, views=2)
STAGE2 = StageSettings(plan=((32, 2), (64, 2), (128, 2)), hidden=128, epochs=12, reach=1, views=18)

SETTINGS = RecipeSettings(mandatory=MANDATORY, stages=(STAGE1, STAGE2), mandatory_share=0.46)

SMALL = ((4, 2), (8, 2), (8, 1))
QUICK = RecipeSettings(
    mandatory=TernarySettings(
        layers=(("conv", 4, 3, 1), ("pool", 2), ("conv", 8, 3, 2), ("pool", 2), ("dense", 10)),
        bits=(4, 6),
        epochs=(2, 2, 1),
        batch=32,
        alpha=0.5,
        views=2,
    ),
    teacher=StageSettings(plan=SMALL, epochs=3, batch=32),
    stages=(StageSettings(plan=SMALL, epochs=4, batch=32), StageSettings(plan=SMALL, epochs=4, batch=32, views=4)),
    choose=400,
    calibrate=800,
    shipped_frames=200,
    random_frames=100,
    timing_runs=(50, 50, 20),
)
QUICK_PICTURES = 4000


def small_part(dataset, pictures=QUICK_PICTURES):
    """The first `pictures` training and 400 test pictures: enough to try the pipeline, not to learn much."""
    return replace(
        dataset,
        frames=dataset.frames[:pictures],
        labels=dataset.labels[:pictures],
        test_frames=dataset.test_frames[:400],
        test_labels=dataset.test_labels[:400],
    )


def train(out_dir, *, seed=0, seeds=3, quick=False, progress=None, folder=None, work_dir=None):
    """Make the bundle from scratch in `out_dir`; returns the `modelkit.recipes.classify.Outcome`.

    seed decides splits, teacher and stages; the mandatory network is trained with `seeds` seeds from there on. progress: called
    with a line of text; None shows a status line on a terminal. folder: where the IDX files are (see modelkit.data.fashion).
    quick: a tiny run that makes a valid bundle of poor accuracy. A killed run resumes from `work_dir` (default `<out_dir>.work`).
    Raises modelkit.data.DataError when the data set is absent.
    """
    dataset = data.fashion(folder)
    settings = SETTINGS
    command = "edgert model train fashion"
    if quick:
        dataset, settings, command = small_part(dataset), QUICK, f"{command} --quick"
    if seed:
        command += f" --seed {seed}"
    return make_bundle(
        dataset,
        settings,
        out_dir,
        name="fashion",
        seed=seed,
        seeds=seeds,
        command=command,
        progress=progress,
        work_dir=work_dir,
    )


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Make the bundle `fashion`.")
    parser.add_argument("out_dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    train(**vars(arguments), progress=lambda line: print(line, flush=True))

"""The general recipe: labelled pictures and settings in, a whole bundle out.

`make_bundle` works for any data set of equal-sized pictures with at most 256 classes: hand it a `modelkit.data.Dataset`. The steps:
teacher on A (if any); ternary network on A, once a seed; best seed on V; its twin on B; stages on A and B, each with the logits
before it as fixed offset, those of the twin on A and of the network itself on B, so that no logits come from a network that learnt
from the picture; curves on C; the test pictures last, once.
"""

import time
from dataclasses import asdict, dataclass, field

import numpy as np

from modelkit import calibrate, data, fold, stages, train
from modelkit.bundle_writer import write_bundle
from modelkit.recipes.work import Work, fingerprint, shown

CHECKED = 64
"""Frames on which LiteRT is held to the integer reference before its logits are used."""


@dataclass(frozen=True)
class RecipeSettings:
    """Everything that decides the outcome besides the data and the seed; `teacher` None: no distillation.

    twin: train the mandatory network on B too, for the stages to learn from A as well; False: they learn from B alone.
    verified_frames, random_frames: test pictures and noise on which the engines are compared with the reference.
    """

    mandatory: train.TernarySettings
    stages: tuple
    teacher: stages.StageSettings | None = None
    choose: int = 3000
    calibrate: int = 6000
    mandatory_share: float = 0.43
    shipped_frames: int = 2000
    random_frames: int = 10000
    verified_frames: int = 10000
    timing_runs: tuple = (2000, 2000, 400)
    twin: bool = True


@dataclass
class Outcome:
    """What was made, for the writer: all logits are float32 [depths, n, classes] from the integer files."""

    name: str
    version: str
    dataset: data.Dataset
    splits: data.Splits
    settings: RecipeSettings
    seed: int
    network: object = None
    networks: list = field(default_factory=list)
    stage_files: list = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    logits: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    calibration: dict = field(default_factory=dict)
    command: str = ""
    seconds: float = 0.0


def make_bundle(dataset, settings, out_dir, *, name, version="1", seed=0, seeds=3, command="", progress=None, work_dir=None):
    """Train and write the bundle `out_dir`; returns the `Outcome`. Checkpoints lie in `work_dir` (default `<out_dir>.work`).

    Raises data.DataError (too few pictures), stages.StageError (a stage that cannot be shipped as int8).
    """
    started = time.monotonic()
    with shown(progress) as tell:
        train.tensorflow(threads=2)
        out = Outcome(name, version, dataset, None, settings, seed, command=command)
        out.splits = data.split(
            dataset.labels,
            choose=settings.choose,
            calibrate=settings.calibrate,
            mandatory_share=settings.mandatory_share,
            seed=seed,
        )
        parts = {k: (dataset.frames[rows], dataset.labels[rows]) for k, rows in vars(out.splits).items()}
        work = Work(work_dir or f"{out_dir}.work", fingerprint(*(a for p in parts.values() for a in p)), tell)
        _mandatory(out, work, parts, seeds)
        _stages(out, work, parts)
        results(out, work, parts)
        out.seconds = time.monotonic() - started
        write_bundle(out, out_dir, work.progress)
    return out


def _mandatory(out, work, parts, seeds):
    """Teacher, then one ternary network a seed; the best on V is the bundle's."""
    settings = out.settings
    soft, key = _teacher(out, work, parts) if settings.teacher else (None, [None, out.seed])
    for seed in range(out.seed, out.seed + seeds):
        out.networks.append((seed, *ternary_step(out, work, parts, f"mandatory-{seed}", "mandatory", seed, soft, key)))
    best = max(out.networks, key=lambda entry: entry[2][1])
    out.notes["mandatory_seed"], out.network = best[0], best[1]


def _teacher(out, work, parts):
    """Logits float32 [views, n, classes] of a float network that learns from A, on the views of A; and the step's key."""
    settings, shape = out.settings, out.dataset.frames.shape[1:]
    classes = len(out.dataset.classes)
    frames, labels = parts["mandatory"]

    def teach(say):
        model = stages.build(shape, classes, settings.teacher, out.seed)
        none = [np.zeros((len(parts[k][0]), classes), np.float32) for k in ("mandatory", "choose")]
        score = stages.fit(
            model, settings.teacher, (frames, labels, none[0]), (*parts["choose"], none[1]), out.seed, say
        )
        views = _mandatory_views(settings.mandatory, frames, out.seed)
        return {"score": score, "soft": np.stack([_both_ways(model, v, settings.teacher.flips) for v in views])}

    mandatory = settings.mandatory
    key = [asdict(settings.teacher), out.seed, mandatory.views, mandatory.reach, mandatory.flips]
    result = work.step("teacher", key, teach)
    out.notes["teacher"] = tuple(float(v) for v in result["score"])
    return result["soft"], key


def ternary_step(out, work, parts, name, part, seed, soft, key, settings=None):
    """(Network, its score on V) of a ternary network that learns from `part`; settings: default those of the mandatory one."""
    settings, shape = settings or out.settings.mandatory, out.dataset.frames.shape[1:]
    frames, labels = parts[part]

    where = [key, asdict(settings), part, seed]

    def learn(say):
        views = _mandatory_views(settings, frames, out.seed)
        keep = train.Epochs(work.path(name, where).with_suffix(".epoch.npz"))
        state = train_ternary(shape, settings, views, labels, soft, parts["choose"], seed, say, keep)
        keep.forget()
        return state

    state = work.step(name, where, learn)
    net = train.TernaryNet(shape, settings, seed)
    net.restore({k: v for k, v in state.items() if k != "score"})
    return fold.to_network(net), tuple(float(v) for v in state["score"])


def _mandatory_views(settings, frames, seed):
    """uint8 [views, n, h, w, c]: the frames and random views of them, the same for teacher and pupil."""
    table = settings.training_table(frames.shape[1:])
    if len(table) == 1 or settings.fresh:
        return frames[None]
    rng = np.random.default_rng([seed, 7])
    return np.stack([frames] + [data.augment(frames, table, rng) for _ in range(settings.views - 1)])


def _both_ways(model, frames, flips):
    """The teacher's logits, the mean over a picture and its mirror image."""
    plain = stages.outputs(model, frames)
    return (plain + stages.outputs(model, frames[:, :, ::-1])) / 2 if flips else plain


def train_ternary(shape, settings, views, labels, soft, check, seed, say, keep=None):
    """The three phases; returns the state of the integer phase and `score` = (loss, accuracy) on `check`.

    keep: a `modelkit.train.Epochs`, where a killed training is found again.
    """
    net = train.TernaryNet(shape, settings, seed)
    phases = ("float", "ternary", "integer")
    begin = keep.phase() if keep else None
    for phase, epochs, peak in zip(phases, settings.epochs, settings.rates, strict=True):
        if begin and phases.index(phase) < phases.index(begin):
            continue
        if phase == "ternary" and begin != phase:
            net.set_steps(views[0][:1000])
            net.set_scales()
        if phase == "integer" and begin != phase:
            fold.fold(net, views[0][:4000], labels[:4000])
        train.fit_phase(net, phase, views, labels, soft, epochs=epochs, peak=peak, seed=seed, say=say, keep=keep)
        score = stages.score(train.predict(net, phase, check[0]), check[1])
        say(f"{phase}: on V loss {score[0]:.4f}, accuracy {score[1]:.4f}")
    net.logit_shift = fold.best_logit_shift(train.predict(net, "integer", check[0]) * 2.0**net.logit_shift, check[1])
    score = stages.score(train.predict(net, "integer", check[0]), check[1])
    return {**net.state(), "score": score}


def mandatory_logits(network, frames):
    """Float32 [n, classes] of uint8 frames by LiteRT, held to the integer reference on the first of them.

    Raises stages.StageError where LiteRT is not exact there.
    """
    from modelkit.ternary.engines import ENGINES
    from modelkit.ternary.reference import forward

    logits = ENGINES["litert"].make(network)(frames)
    wrong = int(np.sum(logits[:CHECKED] != forward(network, frames[:CHECKED])))
    if wrong:
        raise stages.StageError(f"LiteRT differs from the integer reference in {wrong} logits of {len(frames[:CHECKED])} frames")
    return logits.astype(np.float32) * np.float32(2.0**-network.logit_shift)


def _offsets(out, work, parts):
    """What the stages learn from: frames, labels and the logits of a network that did not learn from them; the logits on V."""
    key = [out.network.model_id]
    frames, labels = parts["stages"]
    ahead = work.step("offsets-b", key, lambda say: {"out": mandatory_logits(out.network, frames)})["out"]
    check = work.step("offsets-v", key, lambda say: {"out": mandatory_logits(out.network, parts["choose"][0])})["out"]
    if not out.settings.twin:
        return frames, labels, ahead, check
    twin, score = ternary_step(out, work, parts, "twin", "stages", out.notes["mandatory_seed"], None, ["twin", out.seed])
    out.notes["twin"] = score
    more, more_labels = parts["mandatory"]
    twins = work.step("offsets-a", [twin.model_id], lambda say: {"out": mandatory_logits(twin, more)})["out"]
    return (
        np.concatenate([frames, more]), np.concatenate([labels, more_labels]), np.concatenate([ahead, twins]), check
    )  # fmt: skip


def _stages(out, work, parts):
    """Each stage with the logits before it as offset; one whose loss on V does not fall ends the row."""
    settings, shape = out.settings, out.dataset.frames.shape[1:]
    check_frames, check_labels = parts["choose"]
    frames, labels, ahead, check = _offsets(out, work, parts)
    key = [out.network.model_id, out.seed, settings.twin]
    out.notes["stages"] = []
    for index, stage in enumerate(settings.stages, start=1):
        name = f"stage{index}"
        key = [*key, asdict(stage)]

        def learn(say, stage=stage, ahead=ahead, check=check):
            model = stages.build(shape, len(out.dataset.classes), stage, out.seed)
            score = stages.fit(
                model, stage, (frames, labels, ahead), (check_frames, check_labels, check), out.seed, say
            )
            file = stages.to_tflite(model, shape, stage, frames[:300])
            return {"score": score, "model": np.frombuffer(file, np.uint8)}

        result = work.step(name, key, learn)
        file = result["model"].tobytes()
        run = stages.Stage(file)
        checked = work.step(f"{name}-on-v", key, lambda say, run=run: {"out": run.run(check_frames)})["out"]
        before, after = stages.score(check, check_labels), stages.score(check + checked, check_labels)
        shipped = after[0] < before[0]
        out.notes["stages"].append({
            "name": name, "before": before, "float": tuple(float(v) for v in result["score"]), "after": after,
            "shipped": shipped, "macs": stage.macs(shape, len(out.dataset.classes)) * stage.views,
            "operators": run.operators(),
        })  # fmt: skip
        if not shipped:
            break
        out.stage_files.append(file)
        check = check + checked
        if index < len(settings.stages):
            ahead = ahead + work.step(f"{name}-on-learnt", key, lambda say, run=run: {"out": run.run(frames)})["out"]
            out.notes["stages"][-1]["learnt"] = stages.score(ahead, labels)


def results(out, work, parts):
    """Logits so far at every depth on C and, last of all, on the test pictures; curves from C."""
    sets = {"calibrate": parts["calibrate"], "test": (out.dataset.test_frames, out.dataset.test_labels)}
    runs = [stages.Stage(file) for file in out.stage_files]
    key = [out.network.model_id, [fingerprint(np.frombuffer(f, np.uint8)) for f in out.stage_files]]
    for name, (frames, labels) in sets.items():
        def answer(say, frames=frames):
            total = [mandatory_logits(out.network, frames)]
            for run in runs:
                total.append(total[-1] + run.run(frames))
            return {"logits": np.stack(total)}

        out.logits[name] = work.step(f"results-{name}", [*key, len(frames)], answer)["logits"]
        out.labels[name] = labels
    fit = len(out.labels["calibrate"]) // 2
    out.calibration = calibrate.calibrate(out.logits["calibrate"], out.labels["calibrate"], fit)
    out.notes["seeds_test"] = []
    for seed, network, score in out.networks:
        logits = work.step(f"test-{seed}", [network.model_id], lambda say, network=network: {
            "logits": mandatory_logits(network, out.dataset.test_frames)
        })["logits"]  # fmt: skip
        right = int(np.sum(logits.argmax(axis=1) == out.dataset.test_labels))
        out.notes["seeds_test"].append((seed, score, right, network.nonzeros))

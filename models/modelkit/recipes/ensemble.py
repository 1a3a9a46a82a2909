"""The recipe for few pictures and little time: network and stages learn independently from the same pictures, and their logits are added.

`make_bundle` trains, a seed each, a ternary network and its float rival (`modelkit.residual`), both on A. Stage k of the bundle is the
rival of the k-th seed times one factor, chosen on V with the logits so far; a stage whose int8 file does not lower the loss on V is
not shipped. No stage learns from logits, so none can learn from those of a network that saw the picture, and A need not be divided.
Curves on C; the test pictures last, once a network.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np

from modelkit import data, residual, stages, train
from modelkit.bundle_writer import write_bundle
from modelkit.fold import cross_entropy
from modelkit.folding import macs_a_cycle, pipeline_cycles
from modelkit.recipes import classify
from modelkit.recipes.work import Work, fingerprint, shown

FACTORS = np.geomspace(0.1, 2.0, 40)


@dataclass(frozen=True)
class EnsembleSettings:
    """Everything that decides the outcome besides the data and the seed.

    folds: (PE, SIMD) of each layer with weights of the mandatory network, for the cycles of the emulated accelerator. variants:
    (name, TernarySettings, folds) of other widths and bits, trained with a short schedule on the first `variant_pictures` of A and
    compared on V only.
    """

    mandatory: train.TernarySettings
    rival: residual.ResidualSettings
    folds: tuple
    stages: int = 2
    choose: int = 2500
    calibrate: int = 5000
    variants: tuple = ()
    variant_pictures: int = 14000
    shipped_frames: int = 2000
    random_frames: int = 1000
    verified_frames: int = 1000
    timing_runs: tuple = (2000, 1000, 1000)


class Run:
    """One run of the recipe: its pictures, its checkpoints and its steps; each step is done once, in any order."""

    def __init__(self, dataset, settings, out_dir, seed, tell, work_dir=None):
        self.settings, self.dataset, self.seed = settings, dataset, seed
        self.splits = data.split(
            dataset.labels, choose=settings.choose, calibrate=settings.calibrate, mandatory_share=1, seed=seed
        )
        self.parts = {k: (dataset.frames[rows], dataset.labels[rows]) for k, rows in vars(self.splits).items()}
        self.work = Work(work_dir or f"{out_dir}.work", fingerprint(*(a for p in self.parts.values() for a in p)), tell)
        self.out = None

    def outcome(self, name, version, command):
        """The `Outcome` that the steps fill."""
        self.out = classify.Outcome(name, version, self.dataset, self.splits, self.settings, self.seed, command=command)
        return self.out

    def mandatory(self, seed):
        """(integer network, (loss, accuracy) on V) of a seed."""
        return classify.ternary_step(self.out, self.work, self.parts, f"mandatory-{seed}", "mandatory", seed, None, [None, self.seed])

    def rival(self, seed):
        """(float network, (loss, accuracy) on V) of a seed."""
        settings, shape = self.settings.rival, self.dataset.frames.shape[1:]
        name, key = f"rival-{seed}", [asdict(settings), seed]

        def learn(say):
            net = residual.Residual(shape, len(self.dataset.classes), settings, seed)
            keep = train.Epochs(self.work.path(name, key).with_suffix(".epoch.npz"))
            residual.fit(net, *self.parts["mandatory"], seed, say, keep)
            score = stages.score(residual.outputs(net, self.parts["choose"][0]), self.parts["choose"][1])
            say(f"on V loss {score[0]:.4f}, accuracy {score[1]:.4f}")
            keep.forget()
            return {**net.state(), "score": score}

        state = self.work.step(name, key, learn)
        net = residual.Residual(shape, len(self.dataset.classes), settings, seed)
        net.restore({k: v for k, v in state.items() if k != "score"})
        return net, tuple(float(v) for v in state["score"])

    def variant(self, name, settings, folds):
        """A row of the table of widths and bits: dict with accuracy on V, weights and cycles."""
        some = {**self.parts, "some": tuple(a[: self.settings.variant_pictures] for a in self.parts["mandatory"])}
        key, step = [None, self.seed, len(some["some"][0])], f"variant-{name}".replace(", ", "-").replace(" ", "-")
        network, score = classify.ternary_step(self.out, self.work, some, step, "some", self.seed, None, key, settings)
        interval, latency = pipeline_cycles(network, folds)
        return {
            "name": name, "bits": settings.bits, "epochs": settings.epochs, "score": score, "weights": network.n_weights,
            "macs": network.n_macs, "a_cycle": macs_a_cycle(folds), "interval": interval, "latency": latency,
        }  # fmt: skip


def make_bundle(dataset, settings, out_dir, *, name, version="1", seed=0, seeds=3, command="", progress=None, work_dir=None, only=None):
    """Train and write the bundle `out_dir`; returns the `Outcome`. Checkpoints lie in `work_dir` (default `<out_dir>.work`).

    only: names of steps ("mandatory-0", "rival-0", "variants"): do these and write no bundle, so that several processes
    can share the work; the whole recipe then finds them done. Raises data.DataError (too few pictures), stages.StageError.
    """
    started = time.monotonic()
    with shown(progress) as tell:
        train.tensorflow(threads=1 if only else 2)
        run = Run(dataset, settings, out_dir, seed, tell, work_dir)
        out = run.outcome(name, version, command)
        if only:
            for step in only:
                kind, _, number = step.partition("-")
                if kind == "variants":
                    _variants(run)
                else:
                    {"mandatory": run.mandatory, "rival": run.rival}[kind](int(number))
            return out
        out.networks = [(s, *run.mandatory(s)) for s in range(seed, seed + seeds)]
        rivals = [(s, *run.rival(s)) for s in range(seed, seed + max(seeds, settings.stages))]
        best = max(out.networks, key=lambda entry: entry[2][1])
        out.notes["mandatory_seed"], out.network = best[0], best[1]
        out.notes["variants"] = _variants(run)
        _stages(run, rivals)
        interval, latency = pipeline_cycles(out.network, settings.folds)
        out.notes["cycles"] = {"interval": interval, "latency": latency, "a_cycle": macs_a_cycle(settings.folds)}
        classify.results(out, run.work, run.parts)
        _against_rivals(run, rivals)
        out.seconds = time.monotonic() - started
        write_bundle(out, out_dir, run.work.progress)
    return out


def _variants(run):
    return [run.variant(*variant) for variant in run.settings.variants]


def best_factor(base, more, labels):
    """The f with the least cross-entropy of base + f * more, logits float32 [n, classes], over a grid of 40 from 0.1 to 2."""
    losses = [cross_entropy(base + np.float32(f) * more, labels) for f in FACTORS]
    return float(FACTORS[int(np.argmin(losses))])


def _stages(run, rivals):
    """Stage files from the rivals, in the order of their seeds; the first whose file does not lower the loss on V ends the row."""
    out, work = run.out, run.work
    frames, labels = run.parts["choose"]
    learnt = run.parts["mandatory"][0]
    key = [out.network.model_id]
    total = work.step("ahead-v", key, lambda say: {"out": classify.mandatory_logits(out.network, frames)})["out"]
    out.notes["stages"] = []
    for index, (seed, net, _) in enumerate(rivals[: run.settings.stages], start=1):
        key = [*key, asdict(run.settings.rival), seed]

        def quantise(say, net=net, total=total):
            factor = best_factor(total, residual.outputs(net, frames), labels)
            file = residual.to_tflite(net, learnt[:300], factor)
            added = stages.Stage(file).run(frames)
            return {"model": np.frombuffer(file, np.uint8), "factor": factor, "out": added}

        result = work.step(f"stage{index}", key, quantise)
        file = result["model"].tobytes()
        before, after = stages.score(total, labels), stages.score(total + result["out"], labels)
        shipped = after[0] < before[0]
        out.notes["stages"].append({
            "name": f"stage{index}", "before": before, "after": after, "shipped": shipped, "factor": float(result["factor"]), "seed": seed,
            "macs": run.settings.rival.macs(frames.shape[1:], len(out.dataset.classes)), "operators": stages.Stage(file).operators(),
        })  # fmt: skip
        if not shipped:
            break
        out.stage_files.append(file)
        total = total + result["out"]


def exact_mcnemar(only_a, only_b):
    """Two-sided exact p of McNemar's test, as `imprecise.statistics.mcnemar`: min(1, 2 P(Binomial(a + b, 1/2) <= the smaller))."""
    from math import comb

    n, low = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(comb(n, k) for k in range(low + 1)) / 2**n)


def _against_rivals(run, rivals):
    """Each seed's integer network against the float rival of the same seed, on the test pictures, paired."""
    frames, labels = run.dataset.test_frames, run.dataset.test_labels
    rows = []
    for (seed, network, _), (_, net, score) in zip(run.out.networks, rivals, strict=False):
        ours = run.work.step(f"test-{seed}", [network.model_id], lambda say, network=network: {
            "logits": classify.mandatory_logits(network, frames)
        })["logits"].argmax(axis=1) == labels  # fmt: skip
        theirs = run.work.step(f"rival-test-{seed}", [asdict(run.settings.rival), seed], lambda say, net=net: {
            "logits": residual.outputs(net, frames)
        })["logits"].argmax(axis=1) == labels  # fmt: skip
        only_ours, only_theirs = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
        rows.append({
            "seed": seed, "v": score, "right": int(theirs.sum()), "ours": int(ours.sum()), "only_ours": only_ours,
            "only_theirs": only_theirs, "p": exact_mcnemar(only_ours, only_theirs),
        })  # fmt: skip
    run.out.notes["rivals"] = rows

"""The text of a bundle's `card.md`: data, licence, command and every figure with its N, seeds and interval."""

import math

import numpy as np


def wilson(right, n, z=1.96):
    """95 % Wilson score interval (low, high) of `right` in `n` (Wilson 1927)."""
    p, zz = right / n, z * z
    middle, half = p + zz / (2 * n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return (middle - half) / (1 + zz / n), (middle + half) / (1 + zz / n)


def share(right, n):
    """'88.95 % (88.32 to 89.55)'."""
    low, high = wilson(right, n)
    return f"{100 * right / n:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def text(out, timing):
    """The whole card of an `Outcome`."""
    sections = [_head(out), _accuracy(out), _stages(out), _calibration(out), _timing(timing), _network(out), _engines(out)]
    if "rivals" in out.notes:
        sections[2:2] = [_rivals(out)]
    if out.notes.get("variants"):
        sections[-1:-1] = [_variants(out)]
    return "\n\n".join((*sections, *licence(out.dataset))) + "\n"


def licence(dataset):
    """The notice that the pictures' licence asks for, as a section; none where the data set has none."""
    return [f"## Licence of the pictures\n\n{dataset.notice}"] if dataset.notice else []


def _head(out):
    d, s = out.dataset, out.splits
    n = min(out.settings.shipped_frames, len(d.test_labels))
    teacher = out.notes.get("teacher")
    taught = f"taught by a float network that saw A only ({100 * teacher[1]:.2f} % on V; not in the bundle)" if teacher else "no teacher"
    learnt = "learn from B, which the mandatory network never saw"
    if "twin" in out.notes:
        learnt = (
            "learn from A and B; the logits before them come on B from the mandatory network and on A from a twin that learnt "
            f"from B only ({100 * out.notes['twin'][1]:.2f} % on V; not in the bundle), so never from a network that saw the picture"
        )
    pictures = f"Licence of the pictures, also of `frames.npz` (the first {n} test pictures): {d.licence}."
    if not d.shareable:
        pictures = (
            f"Licence of the pictures: {d.licence}. None of them is in this bundle: there is no `frames.npz`, the pictures of `golden.npz` "
            f"are made ones, and `outcomes.npz` holds confidence and correctness of the first {n} test pictures. Who has the pictures adds "
            f"them to a copy: `python -m modelkit.recipes.{out.name} COPY --pictures BUNDLE --folder FOLDER`."
        )
    learn = "the mandatory network learns from these only"
    split = f"B {len(s.stages):,}, "
    if "rivals" in out.notes:
        learn, split = "network and stages learn from these only", ""
        learnt = (
            "float networks that learnt by themselves from A, int8, times one factor each, chosen on V with the logits before them; "
            "so none learnt from the logits of a network that saw the picture"
        )
    return f"""# {out.name} {out.version}

Ternary network with {len(out.stage_files)} refinement stages for {d.name}: {" x ".join(map(str, d.frames.shape[1:]))} uint8, \
{len(d.classes)} classes. Written by the recipe; figures are from the run that wrote the files beside this card.

- Data: {d.origin}. {pictures}
- Made with `{out.command}`, {out.seconds / 60:.0f} minutes in its last, uninterrupted part, on {machine_of(out)}.
- Splits of the {len(d.labels):,} training pictures, seed {out.seed}: A {len(s.mandatory):,} ({learn}), \
{split}V {len(s.choose):,} (early stopping and choice), C {len(s.calibrate):,} (curves, \
`validation.npz`; no training, no choice). The {len(d.test_labels):,} test pictures: by this run once, at the end.
- Stages: {learnt}.
- Mandatory network: {taught}."""


def machine_of(out):
    from modelkit.bundle_writer import machine

    return machine()


def _accuracy(out):
    labels, logits = out.labels["test"], out.logits["test"]
    n = len(labels)
    rows = []
    for depth, values in enumerate(logits):
        right = int(np.sum(values.argmax(axis=1) == labels))
        c = int(np.sum(out.logits["calibrate"][depth].argmax(axis=1) == out.labels["calibrate"]))
        rows.append((depth, "mandatory" if not depth else f"+ stage{depth}", share(right, n),
                     f"{100 * c / len(out.labels['calibrate']):.2f} %"))  # fmt: skip
    seeds = [(seed, f"{100 * score[1]:.2f} %", share(right, n), nonzeros)
             for seed, score, right, nonzeros in out.notes["seeds_test"]]  # fmt: skip
    held = len(out.labels["calibrate"])
    return "\n\n".join([
        f"## Accuracy\n\nOn {n:,} test pictures, integer files as shipped, one seed for the stages; 95 % Wilson intervals.",
        table(("depth", "answer", f"test, N = {n:,}", f"C, N = {held:,}"), rows),
        f"Mandatory network, {len(seeds)} seeds; the bundle carries seed {out.notes['mandatory_seed']}, the best on V.",
        table(("seed", f"V, N = {len(out.splits.choose):,}", f"test, N = {n:,}", "non-zero weights"), seeds),
    ])  # fmt: skip


def _rivals(out):
    n, settings = len(out.labels["test"]), out.settings
    shape, classes = out.dataset.frames.shape[1:], len(out.dataset.classes)
    rows = [(r["seed"], share(r["ours"], n), share(r["right"], n), f"{100 * (r['ours'] - r['right']) / n:+.2f}",
             r["only_ours"], r["only_theirs"], f"{r['p']:.2g}") for r in out.notes["rivals"]]  # fmt: skip
    return (
        f"## Against a float residual network\n\nBlocks of {', '.join(map(str, settings.rival.widths))} channels "
        f"({settings.rival.macs(shape, classes) / 1e6:.1f} million MAC, the mandatory network has {out.network.n_macs / 1e6:.1f}), trained "
        f"on the same pictures with the same views for {settings.rival.epochs} epochs, as the mandatory network in its three phases "
        f"({' + '.join(map(str, settings.mandatory.epochs))}); products in bfloat16 in training where its settings say so, float32 in the "
        "test. Paired on the test pictures, network and rival of one seed; p: exact two-sided McNemar test.\n\n"
        + table(("seed", "ternary, integers", "float", "points", "only ternary right", "only float right", "p"), rows)
    )


def _variants(out):
    rows = [(v["name"], " ".join(map(str, v["bits"])), f"{v['weights']:,}", f"{v['macs'] / 1e6:.1f}", v["a_cycle"], f"{v['interval']:,}",
             f"{v['latency']:,}", f"{100 * v['score'][1]:.2f} %") for v in out.notes["variants"]]  # fmt: skip
    epochs = " + ".join(map(str, out.notes["variants"][0]["epochs"]))
    pictures = min(out.settings.variant_pictures, len(out.splits.mandatory))
    return (
        f"## Widths and bits\n\nOne seed each, a short schedule of {epochs} epochs on {pictures:,} pictures for all, so that only "
        f"differences between the rows count; accuracy on V, N = {len(out.splits.choose):,}. Cycles by modelkit.folding.\n\n"
        + table(("network", "bits", "weights", "million MAC", "MAC a cycle", "interval", "latency", "V"), rows)
    )


def _stages(out):
    rows = [(s["name"], f"{s['macs'] / 1e6:.1f}", f"{s['before'][0]:.4f} -> {s['after'][0]:.4f}",
             f"{100 * s['before'][1]:.2f} -> {100 * s['after'][1]:.2f} %",
             f"{s['learnt'][0]:.4f}" if "learnt" in s else f"{s['factor']:.2f}" if "factor" in s else "",
             "yes" if s["shipped"] else "no")
            for s in out.notes["stages"]]  # fmt: skip
    last = "factor" if any("factor" in s for s in out.notes["stages"]) else "loss on what it learnt from"
    return (
        "## Stages\n\nLoss (nats) and accuracy on V before and after each int8 stage; one whose loss does not fall is not shipped."
        "\n\n" + table(("stage", "million MAC", "loss on V", "accuracy on V", last, "shipped"), rows)
    )


def _calibration(out):
    c = out.calibration
    rows = [(f"P(correct) at depth {d}", f"{100 * e:.2f} %") for d, e in enumerate(c["error"]["correct"])]
    rows += [(f"gain {d} to {e}", f"{100 * v:.2f} %") for d, row in c["error"]["gain"].items() for e, v in row.items()]
    return (
        f"## Calibration\n\nCurves fitted on {c['n']['fit']:,} pictures of C; expected calibration error (10 equally filled bins) "
        f"on the other {c['n']['error']:,}.\n\n" + table(("curve", "error"), rows)
    )


def _timing(timing):
    rows = [(name, *(f"{t[k] / 1e3:,.0f}" for k in ("p50_ns", "p90_ns", "p99_ns", "max_ns")), t["n"], t["source"])
            for name, t in timing["stages"].items()]  # fmt: skip
    h = timing["hardware"]
    return (
        f"## Timing\n\n{timing['machine']}; a machine with other work on it, so p50 says most.\n\n"
        + table(("stage", "p50 us", "p90 us", "p99 us", "max us", "N", "source"), rows)
        + f"\n\nEmulated accelerator: {h['cycles']:,} cycles at {h['clock_hz'] / 1e6:.0f} MHz = "
        f"{1e6 * h['cycles'] / h['clock_hz']:.1f} us ({h['source']})."
    )


def _network(out):
    rows = []
    for layer, shape in zip(out.network.layers, out.network.shapes[1:], strict=True):
        kind = type(layer).__name__
        if hasattr(layer, "weights"):
            low, high = int(layer.shift.min()), int(layer.shift.max())
            rows.append((kind, "x".join(map(str, layer.weights.shape)), "x".join(map(str, shape)), f"{layer.nonzeros:,}",
                         layer.bits or "logits", f"{low} to {high}"))  # fmt: skip
        else:
            rows.append((kind, f"{layer.size}x{layer.size}", "x".join(map(str, shape)), "", "", ""))
    size = f"{out.network.n_weights:,} weights, {out.network.nonzeros:,} not 0, {out.network.n_macs / 1e6:.2f} million MAC"
    return f"## Network\n\n{size}; logits are int8 / 2^{out.network.logit_shift}.\n\n" + table(
        ("layer", "weights", "output", "non-zero", "bits", "shift"), rows
    )


def _engines(out):
    rows = [(e["set"], e["engine"], f"{e['frames']:,}", f"{e['logits']:,}",
             e["reason"] if e["mismatches"] is None else e["mismatches"], f"{e['distinct']:,}")
            for e in out.notes["engines"]]  # fmt: skip
    lines = "## Engines\n\nLogits that differ from the integer reference of `mandatory.npz`, and distinct answers given.\n\n"
    lines += table(("pictures", "engine", "frames", "logits", "differing", "distinct"), rows)
    for file, reason in out.notes["left_out"].items():
        lines += f"\n\n`{file}` is left out: {reason}."
    return lines

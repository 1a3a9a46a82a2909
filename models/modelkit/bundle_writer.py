"""Write a bundle's directory (docs/architecture.md): network, stages, golden answers, curves, timing, pictures, card, manifest."""

import hashlib
import importlib
import json
import os
import platform
import shutil
import time
from pathlib import Path

import numpy as np

from modelkit import calibrate, card, stages

CLOCK_HZ = 100_000_000
GOLDEN_SEED = 20


def write_bundle(out, out_dir, say=None):
    """Write the `Outcome` to `out_dir`, whole or not at all: it is made beside it and put in its place."""
    say = say or (lambda message: None)
    target = Path(out_dir)
    draft = target.with_name(target.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    say("bundle: network and stages")
    out.notes["left_out"] = _write_network(out.network, draft)
    for index, data in enumerate(out.stage_files, start=1):
        (draft / f"stage{index}.tflite").write_bytes(data)
    frames = golden_frames(out.dataset)
    _save(draft / "golden.npz", frames=frames, logits=_reference(out.network, frames))
    _write_json(draft / "calibration.json", out.calibration)
    _write_outcomes(out, draft)
    say("bundle: engines compared")
    out.notes["engines"] = compare_engines(out, draft)
    say("bundle: timing")
    timing = measure(out, draft)
    _write_json(draft / "timing.json", timing)
    (draft / "card.md").write_text(card.text(out, timing), encoding="utf-8")
    write_manifest(out, draft)
    if target.exists():
        shutil.rmtree(target)
    draft.replace(target)
    say(f"bundle: written to {target}")


def _save(path, **arrays):
    np.savez_compressed(path, **arrays)


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _reference(network, frames):
    from modelkit.ternary.reference import forward

    return forward(network, frames)


def _write_network(network, folder):
    """mandatory.{npz,tflite,onnx}; returns the files whose writer is not installed, with the reason."""
    from modelkit.ternary import npz

    npz.save(network, folder / "mandatory.npz")
    left_out = {}
    for file, module in (("mandatory.tflite", "tflite"), ("mandatory.onnx", "qonnx_io")):
        try:
            importlib.import_module(f"modelkit.ternary.{module}").save(network, folder / file)
        except ImportError as error:
            left_out[file] = str(error)
    return left_out


def golden_frames(dataset, real=48, random=24):
    """uint8 [real + random + 8, h, w, c]: test pictures, noise of several densities, and extreme pictures.

    Where the pictures may not be handed on, clouds (`clouds`) stand for the test pictures.
    """
    rng = np.random.default_rng(GOLDEN_SEED)
    shape = dataset.frames.shape[1:]
    noise = rng.integers(0, 256, (random, *shape), np.uint8)
    noise *= (rng.random(noise.shape) < np.linspace(0.1, 1, random)[:, None, None, None]).astype(np.uint8)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    patterns = [0 * rows, 0 * rows + 255, 0 * rows + 1, 0 * rows + 128, (rows + columns) % 2 * 255, rows % 2 * 255,
                columns * 255 // max(shape[1] - 1, 1), rows * 255 // max(shape[0] - 1, 1)]  # fmt: skip
    extreme = np.repeat(np.stack(patterns)[..., None], shape[2], axis=-1).astype(np.uint8)
    first = dataset.test_frames[:real] if dataset.shareable else clouds(shape, real)
    return np.concatenate([first, noise, extreme])


def clouds(shape, n, seed=GOLDEN_SEED + 2):
    """uint8 [n, h, w, c]: smooth random colours with an edge, seeded: made pictures that go through a network as photographs do."""
    height, width, channels = shape
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    total = np.zeros((n, *shape))
    for size in (2, 4, 8):
        grid = rng.normal(0, 1.0 / size, (n, size, size, channels)) + rng.normal(0, 1.0 / size, (n, size, size, 1))
        total += grid[:, rows * size // height][:, :, 0, columns[0] * size // width] * 2
    angle, where = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.uniform(0.3, 0.7, (n, 1, 1))
    side = np.cos(angle) * (rows / height - where) + np.sin(angle) * (columns / width - where) > 0
    total += side[..., None] * rng.normal(0, 0.7, (n, 1, 1, channels))
    return np.clip(np.rint(128 + 35 * total), 0, 255).astype(np.uint8)


def random_frames(dataset, n):
    """uint8 [n, h, w, c]: uniform noise, seeded."""
    return np.random.default_rng(GOLDEN_SEED + 1).integers(0, 256, (n, *dataset.frames.shape[1:]), np.uint8)


def _write_outcomes(out, folder):
    """frames.npz (where the pictures may be handed on), outcomes.npz and validation.npz."""
    n = min(out.settings.shipped_frames, len(out.dataset.test_labels))
    source = f"dataset:{out.dataset.name}"
    if out.dataset.shareable:
        _save(
            folder / "frames.npz",
            frames=out.dataset.test_frames[:n],
            labels=out.dataset.test_labels[:n].astype(np.uint8),
            source=np.array(source),
        )
    for file, name, rows in (("outcomes.npz", "test", slice(0, n)), ("validation.npz", "calibrate", slice(None))):
        logits, labels = out.logits[name][:, rows], out.labels[name][rows]
        sure = calibrate.confidences(logits, out.calibration["temperature"])
        correct = np.stack([row.argmax(axis=1) == labels for row in logits], axis=1)
        _save(folder / file, confidence=sure.astype(np.float32), correct=correct)


def compare_engines(out, folder):
    """`modelkit.ternary.engines.verify` on the test pictures, on as many random ones, and, with the slow engine of qonnx, on golden.npz.

    Returns rows {set, engine, frames, logits, mismatches, distinct, reason}; raises StageError where an engine differs.
    """
    from modelkit.ternary.engines import verify

    fast = ("numpy", "litert", "onnxruntime")
    sets = (
        ("test pictures", out.dataset.test_frames[: out.settings.verified_frames], fast),
        ("random pictures", random_frames(out.dataset, out.settings.random_frames), fast),
        ("golden.npz", None, None),
    )
    rows = []
    for label, frames, engines in sets:
        for result in verify(folder, frames, engines):
            names = ("engine", "frames", "logits", "mismatches", "distinct", "reason")
            rows.append({"set": label, **{name: getattr(result, name) for name in names}})
    bad = [row for row in rows if row["mismatches"]]
    if bad:
        raise stages.StageError(f"engines differ from the integer reference: {bad}")
    return rows


def measure(out, folder):
    """`timing.json`: nanoseconds a call, one thread, after warm-up; and the cycles of the emulated accelerator."""
    runs = out.settings.timing_runs
    frames = out.dataset.test_frames
    calls = {"mandatory": _mandatory_call(out, folder)}
    for index, data in enumerate(out.stage_files, start=1):
        calls[f"stage{index}"] = (stages.Stage(data), "measured: LiteRT, 1 thread")
    result = {}
    for position, (name, (call, source)) in enumerate(calls.items()):
        n = runs[min(position, len(runs) - 1)]
        for frame in frames[: max(10, n // 20)]:
            call(frame)
        took = np.empty(n, np.int64)
        for i in range(n):
            frame = frames[i % len(frames)]
            begin = time.perf_counter_ns()
            call(frame)
            took[i] = time.perf_counter_ns() - begin
        p50, p90, p99 = (int(v) for v in np.percentile(took, (50, 90, 99)))
        result[name] = {"p50_ns": p50, "p90_ns": p90, "p99_ns": p99, "max_ns": int(took.max()), "n": n, "source": source}
    hardware = {"cycles": estimated_cycles(out.network), "clock_hz": CLOCK_HZ, "source": "estimated, RTL not built yet"}
    if "cycles" in out.notes:
        hardware["cycles"] = out.notes["cycles"]["latency"]
        hardware["source"] = "estimated by modelkit.folding for the folds of the recipe, RTL not built yet"
    return {"machine": machine(), "stages": result, "hardware": hardware}


def _mandatory_call(out, folder):
    """(function of one frame, source): LiteRT where the bundle has its file, else the NumPy kernel."""
    if (folder / "mandatory.tflite").exists():
        from modelkit.ternary.tflite import Runner

        return Runner((folder / "mandatory.tflite").read_bytes()), "measured: LiteRT, 1 thread"
    from modelkit.ternary.kernel import Kernel

    return Kernel(out.network), "measured: NumPy kernel"


def estimated_cycles(network):
    """Cycles of one frame through a streaming accelerator: an estimate until the RTL is built.

    One pixel a cycle; the first dense layer takes one input a cycle, begins when its first input is there and is the last to
    end; later dense layers add their inputs and the logits; 40 cycles of pipeline. The wait for a dense layer's first input
    is a kernel's worth of rows of the picture for each convolution and pool before it.
    """
    from modelkit.ternary.layers import Dense

    height, width, _ = network.input_shape
    wait, stride, dense = 0, 1, []
    for layer in network.layers:
        if isinstance(layer, Dense):
            dense.append(layer.weights.shape[0])
            continue
        size = getattr(layer, "size", 1)
        wait += (size - 1) * stride * (width + 1) if size > 1 else 0
        stride *= getattr(layer, "stride", size)
    return int(max(height * width, wait + dense[0]) + sum(dense[1:]) + network.classes + 40)


def machine():
    """This machine in a line: processor, cores, system, Python (no names of hosts or users)."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def write_manifest(out, folder):
    """`manifest.json`, the last file: sha256 of every other one."""
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    _write_json(folder / "manifest.json", {
        "format": 1,
        "name": out.name,
        "version": out.version,
        "model_id": hashes["mandatory.npz"],
        "input": {"shape": [int(v) for v in out.dataset.frames.shape[1:]], "dtype": "uint8"},
        "classes": list(out.dataset.classes),
        "logit_shift": int(out.network.logit_shift),
        "stages": [
            {"name": f"stage{i}", "file": f"stage{i}.tflite", "kind": "milestone"}
            for i in range(1, len(out.stage_files) + 1)
        ],
        "files": hashes,
    })  # fmt: skip

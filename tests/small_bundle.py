"""Makes a small valid bundle for tests: a random ternary network on 8x8 frames, with golden answers and labelled pictures."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json

import numpy as np

from modelkit.ternary import npz, reference
from modelkit.ternary.layers import Conv, Dense, MaxPool
from modelkit.ternary.network import Network

SHAPE, CLASSES = (8, 8, 1), 5
HAS_LITERT = importlib.util.find_spec("ai_edge_litert") is not None
HARDWARE = {"cycles": 1000, "clock_hz": 100_000_000, "source": "made up"}


def network(seed=0, shape=SHAPE, classes=CLASSES):
    """A conv, a pool and two dense layers with random weights; its logits take many values."""
    rng = np.random.default_rng(seed)

    def draw(*dims, shift):
        weights = rng.integers(-1, 2, dims).astype(np.int8)
        bias = rng.integers(-40, 40, dims[-1]).astype(np.int32)
        return weights, bias, np.full(dims[-1], shift, np.int8)

    h, w, c = shape
    return Network(shape, [
        Conv(*draw(3, 3, c, 6, shift=5), bits=4, stride=1, pad=(1, 1, 1, 1)),
        MaxPool(2, 2),
        Dense(*draw(h // 2 * (w // 2) * 6, 12, shift=3), bits=4),
        Dense(*draw(12, classes, shift=0), bits=None),
    ], 3)


def _npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def make(path, name="toy", seed=0, shape=SHAPE, hardware=HARDWARE, pictures=40, golden=24, stages=1):
    """Write the bundle into the directory `path` and return `path`. Without LiteRT installed its `.tflite` files cannot be run."""
    rng = np.random.default_rng(seed + 1)
    net = network(seed, shape)
    frames = rng.integers(0, 256, (pictures, *shape), dtype=np.uint8)
    golden_frames = rng.integers(0, 256, (golden, *shape), dtype=np.uint8)
    logits = reference.forward(net, golden_frames)
    assert len(np.unique(logits, axis=0)) > golden // 2
    flat = {"x": [0.0, 1.0], "y": [0.5, 0.9]}
    depths = stages + 1
    times = {"p50_ns": 100_000, "p90_ns": 200_000, "p99_ns": 300_000, "max_ns": 400_000, "n": 10}
    files = {
        "mandatory.npz": npz.dumps(net),
        "golden.npz": _npz(frames=golden_frames, logits=logits),
        "frames.npz": _npz(frames=frames, labels=rng.integers(0, CLASSES, pictures, dtype=np.uint8)),
        "calibration.json": json.dumps({"format": 1, "temperature": [1.0] * depths, "correct": [flat] * depths, "gain": {
            str(d): {str(e): flat for e in range(d + 1, depths)} for d in range(stages)}, "error": [0.0] * depths, "n": 1}).encode(),
        "timing.json": json.dumps({"machine": "none", "stages": {"mandatory": times, **{f"stage{s + 1}": times for s in range(stages)}},
                                   **({"hardware": hardware} if hardware else {})}).encode(),
    }
    empty = b"\0\0\0\0TFL3" + b"\0" * 192
    files["mandatory.tflite"] = empty
    for stage in range(stages):
        files[f"stage{stage + 1}.tflite"] = empty
    if HAS_LITERT:
        from modelkit.ternary import tflite

        files["mandatory.tflite"] = tflite.dumps(net)
        for stage in range(stages):
            files[f"stage{stage + 1}.tflite"] = tflite.dumps(network(seed + 10 + stage, shape))
    path.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (path / file).write_bytes(content)
    write_manifest(path, name, shape, stages)
    return path


def write_manifest(path, name="toy", shape=SHAPE, stages=1, **changes):
    """Hash what is in the directory and write `manifest.json`."""
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(path.iterdir()) if p.name != "manifest.json"}
    manifest = {"format": 1, "name": name, "version": "1", "model_id": hashes["mandatory.npz"],
                "input": {"shape": list(shape), "dtype": "uint8"}, "classes": [f"class {i}" for i in range(CLASSES)], "logit_shift": 3,
                "stages": [{"name": f"stage{s + 1}", "file": f"stage{s + 1}.tflite", "kind": "milestone"} for s in range(stages)],
                "files": hashes, **changes}
    (path / "manifest.json").write_text(json.dumps(manifest))

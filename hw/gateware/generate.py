"""The generated directory of a core: Verilog, memories, network, golden frames, shell, and `build.json` that says what was built."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gateware.folding import Folding
from gateware.rtl.verilog import memories, sources
from gateware.shell import write_shell
from modelkit.ternary import npz

RESULTS = ("build", "simulation", "utilisation", "bitstream")
"""Files that hold for one generation only."""


def layer_entry(folding: Folding, index: int) -> dict[str, Any]:
    """What `build.json` says of a layer."""
    made, cost = folding.core.layers[index], folding.costs[index]
    choice = made.choice
    return {
        "name": made.name, "kind": made.kind, "shape": list(made.shape), "out_shape": list(made.out_shape), "build": choice.build,
        "pe": choice.pe, "simd": choice.simd, "weights_block": choice.weights_block, "buffer_block": choice.buffer_block,
        "cycles_per_pixel": made.cycles,
        "predicted": {"interval": made.interval, **_rounded(cost)},
    }  # fmt: skip


def _rounded(cost: Any) -> dict[str, int]:
    return {name: round(value) for name, value in attrs.asdict(cost).items()}


def describe(folding: Folding, board: str, clock_hz: int, files: dict[str, bytes]) -> dict[str, Any]:
    """The content of `build.json`."""
    core = folding.core
    network = core.network
    layers = [layer_entry(folding, index) for index in range(len(core.layers))]
    for entry, latency in zip(layers, folding.latencies):
        entry["predicted"]["latency"] = latency
    return {
        "model_id": network.model_id, "board": board, "clock_hz": clock_hz, "input": list(network.input_shape), "classes": network.classes,
        "frame_beats": core.frame_beats, "answer_beats": core.answer_beats, "layers": layers, "outside_layers": _rounded(folding.rest),
        "predicted_total": _rounded(folding.total), "interval_cycles": folding.interval, "latency_cycles": folding.latency,
        "sources": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }  # fmt: skip


def generate(folding: Folding, directory: Path, board: str, clock_hz: int, golden: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write everything into `directory` and return what `build.json` says; files of an earlier generation are removed."""
    core = folding.core
    directory.mkdir(parents=True, exist_ok=True)
    for old in [*directory.glob("*.v"), *directory.glob("*.mem"), *(directory / f"{name}.json" for name in RESULTS)]:
        old.unlink(missing_ok=True)
    files = {name: text.encode() for name, text in {**sources(core), **memories(core)}.items()}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    shell = write_shell(directory, board, core.network.model_id, core.frame_bytes, core.network.classes, clock_hz)
    files.update({name: (directory / name).read_bytes() for name in shell})
    npz.save(core.network, directory / "mandatory.npz")
    np.savez(directory / "golden.npz", frames=golden["frames"], logits=golden["logits"])
    build = describe(folding, board, clock_hz, files)
    (directory / "build.json").write_text(json.dumps(build, indent=1) + "\n")
    return build


class NotGenerated(Exception):
    """The directory is not a generated one, or was changed."""


def read(directory: Path) -> dict[str, Any]:
    """`build.json` of a generated directory whose sources are as they were written. Raises NotGenerated."""
    try:
        build: dict[str, Any] = json.loads((directory / "build.json").read_text())
        changed = [
            name for name, digest in build["sources"].items()
            if not (directory / name).is_file() or hashlib.sha256((directory / name).read_bytes()).hexdigest() != digest
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotGenerated(f"{directory} is not a directory that `edgert hw rtl` wrote ({type(error).__name__}: {error})") from None
    if changed:
        raise NotGenerated(f"{directory}/{changed[0]} is not as it was generated; generate it again")
    return build

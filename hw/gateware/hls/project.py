"""The directory of an HLS project: hls4ml's C++, the wrapper, Tcl, test data, README and `hls.json`; complete or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gateware.boards import Board, board
from gateware.hls import emulation, vendor, wrapper
from gateware.hls.network import BACKENDS, Choice, Plan, Unsupported, convert, plans
from gateware.shell import write_shell
from modelkit.ternary import npz, reference
from modelkit.ternary.network import Network

FORMAT = 1
NAME = "edgert_net"
RECORD = "hls.json"
BOARDS = ("pynq-z2", "zcu102")
BENCH_FRAMES = 20
"""Frames of the C++ test bench: as many as a vendor's co-simulation gets through."""
_LINEAR = ("conv", "dense", "depthwise", "average")
_NOT_OURS = ("build_prj.tcl", "build_opt.tcl", "build_lib.sh", "build_lib_multigraph.sh", "vivado_synth.tcl", "ip_stitcher.tcl",
             f"{NAME}_bridge.cpp", "axi_stream_driver.py", "hls4ml_config.yml", "keras_model.keras")
"""What hls4ml writes for its own wrapper (a float to a beat) and driver."""


@attrs.frozen
class Settings:
    """What a project is made for."""

    board: str = "pynq-z2"
    backend: str = "vitis"
    clock_hz: int = 0
    """At most; 0: the board's usual clock. The processor's dividers decide what it is."""
    choice: Choice = attrs.field(factory=Choice)


def write(network: Network, frames: np.ndarray, folder: Path, settings: Settings, replace: bool = False) -> dict[str, Any]:
    """Write the project of `network` into the empty or new `folder` (`replace`: any), whole or not at all; `hls.json` as a dict.

    `frames` uint8 [n, h, w, c] are what the emulation is held to and the first of them the test bench's. Raises Unsupported where the
    network or the options cannot be, ImportError without the extra `hw`, ValueError where hls4ml did not do what was planned.
    """
    planned = plans(network, settings.backend, settings.choice)
    target = board(settings.board)
    clock_hz = target.clock(settings.clock_hz or target.clock_hz).hz
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "project"
        fresh.mkdir()
        record = _write(network, frames, fresh, settings, planned, target, clock_hz)
        if folder.exists():
            shutil.rmtree(folder) if replace else folder.rmdir()
        fresh.rename(folder)
    return record


def _write(network: Network, frames: np.ndarray, folder: Path, settings: Settings, planned: list[Plan], target: Board,
           clock_hz: int) -> dict[str, Any]:
    with _into(folder / "hls4ml.log"):
        graph = convert(network, planned, str(folder), settings.backend, target, 1e9 / clock_hz, NAME)
        graph.write()
    _check_graph(graph, planned)
    for file in _NOT_OURS:
        (folder / file).unlink(missing_ok=True)
    _check_weights(folder / "firmware" / "weights")
    source, sink = graph.get_input_variables()[0], graph.get_output_variables()[0]
    for file, text in {
        f"firmware/{NAME}_axi.h": wrapper.header(network, NAME),
        f"firmware/{NAME}_axi.cpp": wrapper.source(network, NAME, source.type.name, sink.type.name),
        f"{NAME}_test.cpp": wrapper.bench(network, NAME),
        "emulation.cpp": wrapper.emulation(network, NAME),
        "core.v": wrapper.core(network, NAME, settings.backend),
        **vendor.scripts(NAME, target, settings.backend, clock_hz),
    }.items():
        (folder / file).write_text(text)
    write_shell(folder, target.name, network.model_id, int(np.prod(network.input_shape)), network.classes, clock_hz)
    _bench_data(network, frames[:BENCH_FRAMES], folder / "tb_data")
    npz.save(network, folder / "mandatory.npz")
    np.savez_compressed(folder / "frames.npz", frames=frames)
    record = {
        "format": FORMAT, "model_id": network.model_id, "board": target.name, "part": target.part, "backend": settings.backend,
        "clock_hz": clock_hz, "input": list(network.input_shape), "classes": network.classes,
        "frame_beats": wrapper.frame_beats(network), "answer_beats": wrapper.answer_beats(network), "hls4ml": version("hls4ml"),
        "layers": [{"name": p.name, "kind": p.kind, "strategy": p.strategy, "reuse": p.reuse, "fan_in": p.fan_in, "channels": p.channels}
                   for p in planned],
        "synthesised": False, "emulation": None, "sources": _sources(folder),
    }
    save_record(folder, record)
    return record


def emulate(folder: Path) -> dict[str, Any]:
    """Compile the project's C++, hold it to the reference, note the result in `hls.json` and keep the library in the user's cache.

    Raises EmulationError where it does not compile or cannot be run; a mismatch is in what is returned.
    """
    record = load_record(folder)
    emulation.compile_library(folder)
    record["emulation"] = emulation.verify(folder)
    save_record(folder, record)
    if record["emulation"]["mismatches"] == 0:
        facts = {key: record[key] for key in ("hls4ml", "backend", "emulation")}
        emulation.keep(folder, record["model_id"], facts)
    result: dict[str, Any] = record["emulation"]
    return result


def load_record(folder: Path) -> dict[str, Any]:
    """`hls.json` of a project. Raises ValueError where `folder` is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        if record["format"] != FORMAT:
            raise ValueError(f"{folder} is a project of format {record['format']}, this edgert knows {FORMAT}")
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {RECORD}") from None
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / RECORD} cannot be read ({type(error).__name__}: {error})") from None
    return record


def changed_sources(folder: Path, record: dict[str, Any]) -> list[str]:
    """Files that are not as they were generated, or are gone."""
    return [name for name, digest in record["sources"].items() if _digest(folder / name) != digest]


def save_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `hls.json` at once."""
    fresh = folder / f"{RECORD}.new"
    fresh.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(fresh, folder / RECORD)


# Parts ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """What Python and C write to stdout and stderr goes to the file `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        saved = os.dup(1), os.dup(2)
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with open(1, "w", closefd=False) as stdout, open(2, "w", closefd=False) as stderr, \
                    contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                yield
        finally:
            for descriptor, number in zip(saved, (1, 2)):
                os.dup2(descriptor, number)
                os.close(descriptor)
            with log.open("wb") as file:
                for stream in (out, err):
                    stream.seek(0)
                    shutil.copyfileobj(stream, file)


def _check_graph(graph: Any, planned: list[Plan]) -> None:
    """hls4ml keeps what was planned: strategy, reuse and the ternary product of each layer; ValueError where it does not."""
    found = {layer.name: layer for layer in graph.get_layers()}
    for plan in planned:
        where = f"{plan.name} ({plan.kind}): hls4ml"
        name = next((n for n in found if n.startswith(f"{plan.name}_") and n.split("_")[1] in _LINEAR), "")
        if not name:
            raise ValueError(f"{where} has left it out; it has {', '.join(found)}")
        strategy, reuse = found[name].get_attr("strategy"), found[name].get_attr("reuse_factor")
        if (strategy, reuse) != (plan.strategy, plan.reuse):
            raise ValueError(f"{where} took {strategy} with reuse {reuse}, planned was {plan.strategy} with {plan.reuse}")
        last = found.get(f"{plan.name}_shift", found[name]).get_output_variable().type.precision
        if "RND_CONV" not in str(last) or "SAT" not in str(last):
            raise ValueError(f"{where} has left out its rounding and saturation, its outputs are {last}")
        if plan.strategy != "distributed_arithmetic" and "weight_ternary" not in found[name].get_attr("config_cpp"):
            raise ValueError(f"{where} would multiply its weights")


def _check_weights(folder: Path) -> None:
    """The headers, which synthesis reads, hold the numbers of the text files, which the emulation reads."""
    for text in sorted(folder.glob("*.txt")):
        header = text.with_suffix(".h").read_text()
        begin = header.rindex("= {") + 3
        if header[begin:header.index("};", begin)].split(",") != text.read_text().split(","):
            raise ValueError(f"{text}: not the numbers of {text.with_suffix('.h').name}")


def _bench_data(network: Network, frames: np.ndarray, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    logits = reference.forward(network, frames)
    for name, array in (("frames", frames), ("logits", logits)):
        (folder / f"{name}.dat").write_text("".join(" ".join(map(str, row.ravel())) + "\n" for row in array))


def _sources(folder: Path) -> dict[str, str]:
    """sha256 of every file that is synthesised or steers synthesis."""
    files = [p for pattern in ("*.cpp", "*.v", "*.tcl", "*.xdc", "*.hwh", "firmware/**/*") for p in folder.glob(pattern) if p.is_file()]
    return {p.relative_to(folder).as_posix(): _digest(p) for p in sorted(files)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


__all__ = ["BACKENDS", "BOARDS", "NAME", "Settings", "Unsupported", "emulate", "load_record", "save_record", "write"]

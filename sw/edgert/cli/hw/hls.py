"""`edgert hw hls`: an hls4ml project of a bundle's network, its C++ emulation held to the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ...errors import EdgertError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from ...bundle import Bundle

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def hls(
    bundle: str = typer.Argument(..., help="A bundle of the zoo by name (fashion), or the directory of one."),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The project's directory: new or empty; with --overwrite an "
                               "earlier project."),
    board: str = typer.Option("pynq-z2", help="pynq-z2 or zcu102."),
    backend: str = typer.Option("vitis", help="vitis (Vitis HLS) or vivadoaccelerator (Vivado HLS up to 2020.1)."),
    strategy: list[str] = typer.Option([], "--strategy", metavar="[LAYER=]S", help="auto, latency (all adders side by side), resource "
                                       "(adders shared), distributed_arithmetic (da4ml's adder graphs, vitis only). Repeat it for single "
                                       "layers: layer4=resource."),
    reuse: list[str] = typer.Option([], "--reuse", metavar="[LAYER=]N", help="Products that share an adder; more is smaller and slower. "
                                    "For all layers the next factor that each takes, for one (layer4=98) exactly that. 0: chosen."),
    clock_mhz: float = typer.Option(0.0, "--clock-mhz", help="At most; the processor's dividers decide. 0: the board's usual clock."),
    frames: int = typer.Option(1000, min=20, help="On so many the emulation is compared: golden and other pictures of the bundle, random."),
    seed: int = typer.Option(0, help="Seed of random frames."),
    compile_: bool = typer.Option(True, "--compile/--no-compile", help="Compile the C++ for this processor and compare it."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier project in DIR."),
    as_json: bool = typer.Option(False, "--json", help="Print hls.json."),
) -> None:
    """Write an hls4ml project for the vendor's tools, and hold its C++ to the integer reference.

    DIR gets hls4ml's C++ with weights of two bits (added, subtracted or skipped, never multiplied) and exact accumulators, an AXI4-Stream
    wrapper, `core.v` and the shell around it, Tcl, a test bench, and README.txt with the commands. No vendor tool is needed for that, and
    none is run: see `edgert hw build`. The compiled emulation is kept in the user's cache, where `edgert run --accelerator hls` finds it.

    Layers: Conv, Depthwise, Dense, MaxPool whose stride is its size, AvgPool. Others are refused by name.

    Exit code: 0 the emulation equals the reference (or --no-compile), 2 a wrong option, 3 it does not, or could not be made.

    Examples:

      edgert hw hls fashion -o build/hls

      edgert hw hls fashion -o build/hls --strategy resource --reuse layer4=196 --backend vivadoaccelerator
    """
    from ...bundle import load

    given = load(bundle)
    try:
        from gateware.hls import emulation, project
        from gateware.hls.network import BACKENDS, Choice, Unsupported
    except ImportError as error:
        raise _missing(error) from None
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}", f"there are {', '.join(BACKENDS)}")
    if board not in project.BOARDS:
        raise UsageError(f"unknown board {board!r}", f"there are {', '.join(project.BOARDS)}")
    all_strategies, strategies = _split(strategy, "--strategy", "auto")
    all_reuses, reuses = _split(reuse, "--reuse", "0")
    choice = Choice(all_strategies, _whole(all_reuses), strategies, {name: _whole(text) for name, text in reuses.items()})
    _check_free(out, overwrite, project.RECORD)
    try:
        settings = project.Settings(board, backend, int(clock_mhz * 1e6), choice)
        record = project.write(given.network, _frames(given, frames, seed), out, settings, overwrite)
    except Unsupported as error:
        raise UsageError(f"bundle {given.name!r}: {error}", "see `edgert hw hls --help`") from None
    except ImportError as error:
        raise _missing(error) from None
    except ValueError as error:
        raise EdgertError(str(error), "see `edgert hw hls --help`") from None
    found: dict[str, Any] = {"mismatches": 0}
    if compile_:
        try:
            found = project.emulate(out)
        except emulation.EmulationError as error:
            raise EdgertError(str(error), "the project is written; --no-compile leaves the emulation out") from None
        record = project.load_record(out)
    typer.echo(json.dumps(record, indent=1) if as_json else _text(record, out, found if compile_ else None))
    if found["mismatches"]:
        raise typer.Exit(3)


def _missing(error: ImportError) -> EdgertError:
    return EdgertError(f"hls4ml export needs {error.name or error}", "pip install 'edgert[hw]'")


def _split(given: list[str], option: str, default: str) -> tuple[str, dict[str, str]]:
    """(what is for all layers, what is for single ones) of repeated [LAYER=]VALUE."""
    single = dict(text.split("=", 1) for text in given if "=" in text)
    rest = [text for text in given if "=" not in text]
    if len(rest) > 1 or len(single) + len(rest) != len(given):
        raise UsageError(f"{option} is given twice for the same layers: {', '.join(given)}",
                         f"write {option} VALUE once, {option} LAYER=VALUE a layer")
    return rest[0] if rest else default, single


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--reuse {text}: expected a whole number", "write --reuse 8, or --reuse layer4=98")
    return int(text)


def _check_free(out: Path, overwrite: bool, record: str) -> None:
    """Raise UsageError where `out` holds something that is not to be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / record).is_file():
        raise UsageError(f"{out} is there and no earlier project", "name another directory")
    if not overwrite:
        raise UsageError(f"{out} holds an earlier project", "--overwrite replaces it")


def _frames(bundle: Bundle, count: int, seed: int) -> np.ndarray:
    """Frames uint8 [count, h, w, c]: golden ones and the bundle's pictures, each once; a quarter at least are random."""
    import numpy as np

    parts = [bundle.arrays(file)["frames"] for file in ("golden.npz", "frames.npz") if file in bundle.contents]
    pictures = np.concatenate(parts)
    known = pictures[np.sort(np.unique(pictures, axis=0, return_index=True)[1])[: count * 3 // 4]]
    drawn = np.random.default_rng(seed).integers(0, 256, (count - len(known), *bundle.input_shape), dtype=np.uint8)
    return np.concatenate([known, drawn])


def _text(record: dict[str, Any], out: Path, found: dict[str, Any] | None) -> str:
    target = f"{record['backend']}, {record['board']} ({record['part']}), {record['clock_hz'] / 1e6:.6g} MHz"
    lines = [f"{out}: hls4ml {record['hls4ml']}, {target}"]
    for entry in record["layers"]:
        size = f"{entry['fan_in']:5} x {entry['channels']:<4}"
        lines.append(f"  {entry['name']:8} {entry['kind']:10} {size} {entry['strategy']}, reuse {entry['reuse']}")
    if found:
        same = "equal" if not found["mismatches"] else f"{found['mismatches']} DIFFER"
        lines.append(f"C++ emulation against the reference: {found['frames']} frames, {found['logits']} logits, "
                     f"{found['distinct_outputs']} distinct outputs: {same}")
    lines.append(f"generated, never synthesised; next: edgert hw build {out}, where the vendor's tools are ({out / 'README.txt'})")
    return "\n".join(lines)

"""`edgert model`: verify a bundle's network on every engine, and train the zoo's models again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import BundleError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from modelkit.ternary.engines import Result

    from ..bundle import Bundle

RECIPES = {
    "fashion": "sudo apt-get install dataset-fashion-mnist, or name its folder with --folder",
    "cifar10": "name the folder of the JPEG archives with --folder",
}  # of each recipe of modelkit: what helps where its data is absent

app = typer.Typer(help="Verify a bundle's network on every engine; train the zoo's models again.", rich_markup_mode=None)


@app.command()
def verify(
    bundle: str = typer.Argument(..., help="A bundle's name (fashion) or directory."),
    data: list[str] = typer.Option(["golden"], help="Frames to compare on, repeatable: `golden`, `frames` (the bundle's labelled "
                                   "pictures), `random:N`, or an .npz file with uint8 `frames` [n, h, w, c]."),
    engine: list[str] | None = typer.Option(None, help="An engine, repeatable: reference, numpy, litert, onnxruntime, qonnx. "
                                               "All of them where none is named."),
    seed: int = typer.Option(0, help="Seed of `random:N`."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Compare every engine of the ternary network with the integer reference, logit by logit.

    An engine passes when not one logit of one frame differs. `distinct outputs` tells how many different answers there
    were: a check on one constant answer proves nothing. Engines that are not installed are listed with what they need.

    Exit code: 0 all engines that ran are exact, 3 one is not (or one that was asked for cannot run).

    Example: edgert model verify fashion --data frames --data random:10000 --json
    """
    from modelkit.ternary import engines

    from ..bundle import load

    checked = load(bundle)
    failed = False
    report = []
    for name in data:
        try:
            results = engines.verify(checked.path, _frames(checked, name, seed), engine or None)
        except ValueError as error:
            raise UsageError(str(error), "see `edgert model verify --help`") from None
        failed |= any(r.mismatches not in (0, None) or (engine and r.mismatches is None) for r in results)
        report.append((name, results))
    if as_json:
        typer.echo(json.dumps({"bundle": checked.name, "model_id": checked.model_id, "exact": not failed,
                               "data": [{"data": name, "engines": [_entry(r) for r in rs]} for name, rs in report]}, indent=2))
    else:
        _print(checked, report)
    if failed:
        raise typer.Exit(3)


@app.command()
def train(
    name: str = typer.Argument(..., help="The model to make: fashion or cifar10."),
    out: Path = typer.Option(..., "--out", "-o", help="The directory of the new bundle; must not exist, or be an unfinished one."),
    seed: int = typer.Option(0, help="Seed of splits, initial weights and order of pictures."),
    seeds: int = typer.Option(3, min=1, help="How many seeds of the mandatory network to train and report."),
    quick: bool = typer.Option(False, help="A tiny run of two minutes that tries everything and learns little."),
    folder: Path | None = typer.Option(None, help="Where the data set is, if not where its package puts it."),
) -> None:
    """Train a bundle of the zoo from scratch. Needs the extra `models`: pip install 'edgert[models]'.

    `fashion` needs Fashion-MNIST from Debian's package dataset-fashion-mnist, `cifar10` CIFAR-10 as JPEG in the folder of --folder. A
    run that was stopped goes on where it was when the same command is given again.

    Example: edgert model train fashion -o my/fashion
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe for {name!r}", f"there are: {', '.join(RECIPES)}")
    try:
        from modelkit import data

        recipe = importlib.import_module(f"modelkit.recipes.{name}")
    except ImportError as error:
        raise UsageError(f"training needs {error.name}", "pip install 'edgert[models]'") from None
    try:
        make: Any = recipe.train
        make(out, seed=seed, seeds=seeds, quick=quick, folder=folder)
    except data.DataError as error:
        raise UsageError(str(error), RECIPES[name]) from None
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}", "pip install 'edgert[models]'") from None
    typer.echo(f"{out} is written; {out / 'card.md'} has every figure")
    frames = " --data frames" if (out / "frames.npz").exists() else ""
    typer.echo(f"next: edgert model verify {out}{frames} --data random:10000")


def _frames(bundle: Bundle, name: str, seed: int) -> np.ndarray | None:
    """Frames uint8 [n, h, w, c] of a `--data`; None: the golden ones."""
    import numpy as np

    if name == "golden":
        return None
    if name == "frames":
        return bundle.arrays("frames.npz")["frames"]
    if name.startswith("random:"):
        count = name.partition(":")[2]
        if not count.isdecimal() or int(count) < 1:
            raise UsageError(f"--data {name}: expected a number of frames", "write random:1000")
        return np.random.default_rng(seed).integers(0, 256, (int(count), *bundle.input_shape), dtype=np.uint8)
    if not Path(name).is_file():
        raise UsageError(f"--data {name}: no such file", "write golden, frames, random:N or the path of an .npz file")
    try:
        with np.load(name, allow_pickle=False) as stored:
            frames: np.ndarray = stored["frames"]
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"--data {name} cannot be read ({error})", "give an .npz with uint8 `frames`") from None
    if frames.dtype != np.uint8 or frames.shape[1:] != bundle.input_shape:
        raise BundleError(f"--data {name} holds {frames.dtype} {list(frames.shape)}",
                          f"bundle {bundle.name!r} takes uint8 [n, {', '.join(map(str, bundle.input_shape))}]")
    return frames


def _entry(result: Result) -> dict[str, object]:
    return {"engine": result.engine, "frames": result.frames, "logits": result.logits, "distinct_outputs": result.distinct,
            "mismatches": result.mismatches, "seconds": round(result.seconds, 6), "reason": result.reason}


def _print(bundle: Bundle, report: list[tuple[str, list[Result]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{bundle.name} {bundle.version}, model {bundle.model_id[:12]}: engines against the integer reference")
    for column in ("data", "engine"):
        table.add_column(column)
    for column in ("frames", "logits", "distinct outputs", "mismatches", "us a frame"):
        table.add_column(column, justify="right")
    for name, results in report:
        for r in results:
            if r.mismatches is None:
                table.add_row(name, r.engine, "-", "-", "-", "did not run", r.reason)
                continue
            each = f"{r.seconds / r.frames * 1e6:.0f}" if r.seconds else ""
            colour = "green" if r.mismatches == 0 else "red"
            table.add_row(name, r.engine, str(r.frames), str(r.logits), str(r.distinct), f"[{colour}]{r.mismatches}[/]", each)
    Console().print(table)

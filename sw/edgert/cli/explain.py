"""`edgert explain`: why a frame of a recorded run got its depth, and what would have sufficed for more."""

from __future__ import annotations

import json
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

MANUAL = """Why a frame got this depth, or no answer: what was ready, what was planned, which constraint bound.

The recorded events are fed to the engine again, and every decision about the resource that the frame waited for is shown: who was
ready, how sure, how much time each needed and had, whom the policy chose and why. Then: which deadline (of its stream), which rate (of
all streams) or how many units of that resource would have sufficed for one depth more, or for an answer. Each is the smallest found, was
replayed with the recorded arrivals and durations, and a little less was replayed too and does not suffice.

\b
EXAMPLES
  edgert explain runs/a.db 120 --stream front
  edgert explain runs/a.db first-miss
  edgert explain runs/a.db worst --json

\b
EXIT CODES
  0  explained;  2  there is no such file, stream or frame;  3  the record cannot be read, or a replay does not give what it holds
"""


@app.command(help=MANUAL)
def explain(run: Path = typer.Argument(..., help="A run record, written by `edgert run --record` or `edgert simulate --record`."),
            frame: str = typer.Argument(..., help="The frame's number; or `worst`: missed, else of least utility; or `first-miss`."),
            stream: str = typer.Option("", "--stream", metavar="NAME", help="Its stream, where there are several."),
            as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text.")) -> None:
    """See MANUAL."""
    _from_source("imprecise")
    from ..results.explain import explain as of_frame
    from ..results.explain_text import renderable
    from ..results.record import Run
    from ..results.text import as_string

    with Run(run) as record:
        found = of_frame(record, frame, stream)
    typer.echo(json.dumps(found, indent=1, allow_nan=False) if as_json else as_string(renderable(found)))


def _from_source(package: str) -> None:
    """Import a package's modules from their source, also where compiled ones lie beside it: those can be neither watched nor copied, and
    do the same bit for bit."""

    class Source(PathFinder):
        """Finds the sources of one package."""

        @classmethod
        def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            """The source of a module, None where it is none of the package's."""
            if not fullname.startswith(f"{package}."):
                return None
            finders = (FileFinder(entry, (SourceFileLoader, SOURCE_SUFFIXES)) for entry in path or ())
            return next((spec for finder in finders if (spec := finder.find_spec(fullname)) is not None), None)

    sys.meta_path.insert(0, Source)

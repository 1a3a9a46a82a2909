"""What a source of frames offers, and how one is made from `kind:rest`.

One kind a file of this folder, its class named `SOURCE` there; another package adds one with an entry point of the group
`edgert.sources` whose name is the kind.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import SourceError, UsageError

if TYPE_CHECKING:
    from ..bundle import Bundle

GROUP = "edgert.sources"


class Frame(NamedTuple):
    """One picture: `pixels` uint8 [h, w, c], `item` its index in a data set or file, `label` its class or -1."""

    pixels: np.ndarray
    item: int
    label: int


class Source:
    """A source of frames, made from the part of its spec after the colon. `labelled`: it knows the right answers."""

    labelled: bool = False

    def __init__(self, spec: str, bundle: Bundle) -> None:
        raise NotImplementedError

    def open(self, shape: tuple[int, int, int], seed: int, stream: str) -> None:
        """Be ready to deliver frames of `shape` (h, w, c) for a stream. Raises UsageError or SourceError where that cannot be."""
        raise NotImplementedError

    def frame(self, index: int) -> Frame | None:
        """Frame `index` of the stream (rising); never blocks. None: not there in time, the frame is dropped."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""


def kinds() -> dict[str, Any]:
    """What makes each kind of source: a module of this folder, or an entry point of another package."""
    package = __name__.rpartition(".")[0]
    own = {m.name: m for m in pkgutil.iter_modules(importlib.import_module(package).__path__) if m.name != "base"}
    return {**{entry.name: entry for entry in entry_points(group=GROUP)}, **own}


def make_source(spec: str, bundle: Bundle) -> Source:
    """The source `kind:rest` for a bundle, not opened. Raises UsageError where there is no such kind or it cannot be right."""
    kind, colon, rest = spec.partition(":")
    known = kinds()
    if not colon or not rest:
        raise UsageError(f"source {spec!r} is not of the form KIND:WHAT", f"like dataset:{bundle.name} or video:FILE.mp4")
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean '{near[0]}:{rest}'?" if near else f"there are {', '.join(sorted(known))}"
        raise UsageError(f"unknown kind of source {kind!r}", hint)
    found = known[kind]
    if isinstance(found, pkgutil.ModuleInfo):
        cls = importlib.import_module(f"{__name__.rpartition('.')[0]}.{kind}").SOURCE
    else:
        try:
            cls = found.load()
        except Exception as error:  # another package's code
            raise SourceError(f"source {kind!r} cannot be loaded ({type(error).__name__}: {error})",
                              "repair or remove the package that adds it") from error
    source: Source = cls(rest, bundle)
    return source

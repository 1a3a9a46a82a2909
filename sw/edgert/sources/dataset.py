"""`dataset:NAME`: labelled test pictures of a bundle (its `frames.npz`), so that accuracy is measured while it runs.

Which picture a frame shows is drawn with replacement, by seed, stream and number of the frame: the same in a run and a simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from imprecise.draws import draw_items

from ..errors import SourceError, UsageError
from .base import Frame, Source

if TYPE_CHECKING:
    from ..bundle import Bundle

_CHUNK = 1024  # frames drawn at once
_pictures: WeakKeyDictionary[Bundle, dict[str, np.ndarray]] = WeakKeyDictionary()  # streams of one bundle share them


class DatasetSource(Source):
    """Pictures of the running bundle, or of another one with the same classes."""

    labelled = True

    def __init__(self, spec: str, bundle: Bundle) -> None:
        """`spec` names the bundle or another. Raises UsageError where there is none, or its classes are others."""
        if spec != bundle.name:
            from ..bundle import load

            other = load(spec)
            if other.classes != bundle.classes:
                raise UsageError(f"the pictures of {spec!r} are of other classes than those of bundle {bundle.name!r}",
                                 f"--source NAME=dataset:{bundle.name}")
            bundle = other
        self._bundle = bundle

    def open(self, shape: tuple[int, int, int], seed: int, stream: str) -> None:
        """Load the pictures. Raises SourceError where there are none of this shape."""
        if self._bundle not in _pictures:
            _pictures[self._bundle] = self._bundle.arrays("frames.npz")
        found = _pictures[self._bundle]
        frames, labels = found.get("frames"), found.get("labels")
        if frames is None or labels is None or frames.ndim != 4 or not len(frames) or len(frames) != len(labels):
            raise SourceError(f"frames.npz of bundle {self._bundle.name!r} does not hold as many frames as labels",
                              "fetch the bundle again")
        if frames.dtype != np.uint8 or frames.shape[1:] != tuple(shape):
            raise SourceError(f"the pictures of {self._bundle.name!r} are {frames.dtype} {list(frames.shape[1:])}, "
                              f"the network takes uint8 {list(shape)}", "name a data set of that shape")
        self._frames = np.ascontiguousarray(frames)
        self._labels = [int(label) for label in labels]
        self._seed, self._stream = seed, stream
        self._first, self._items = 0, self._draw(0)

    def _draw(self, first: int) -> list[int]:
        return [int(item) for item in draw_items(self._seed, self._stream, first, _CHUNK, len(self._frames))]

    def frame(self, index: int) -> Frame:
        """The picture drawn for frame `index`."""
        if not 0 <= index - self._first < _CHUNK:
            self._first = index - index % _CHUNK
            self._items = self._draw(self._first)
        item = self._items[index - self._first]
        return Frame(self._frames[item], item, self._labels[item])


SOURCE = DatasetSource

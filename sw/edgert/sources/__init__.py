"""Sources of frames: a kind a file. See base.py."""

from .base import Frame, Source, make_source

__all__ = ["Frame", "Source", "make_source"]

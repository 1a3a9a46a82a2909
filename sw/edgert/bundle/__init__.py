"""Bundles: a trained network with its refinement stages, curves, timing and golden answers. See docs/architecture.md."""

from .loading import Bundle, find, load, zoo_names

__all__ = ["Bundle", "find", "load", "zoo_names"]

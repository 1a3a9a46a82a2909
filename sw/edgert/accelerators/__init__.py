"""Engines of the ternary network: one a file, all equal bit for bit. See base.py."""

from .base import Accelerator, by_rank, choose, make, names, self_test

__all__ = ["Accelerator", "by_rank", "choose", "make", "names", "self_test"]

"""edgert: every camera frame answered before its deadline."""

__version__ = "0.1.0"

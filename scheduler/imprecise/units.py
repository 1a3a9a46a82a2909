"""Durations with their units: `33ms` in, integer nanoseconds out."""

from __future__ import annotations

import re

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zµ]*)\s*")


def parse_ns(text: str) -> int:
    """Parse `33ms`, `1.5s`, `250us`, `40ns` or `2min` into nanoseconds. Raises ValueError without a number or a known unit."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; write a number and a unit, like 33ms")
    number, unit = match.groups()
    if unit not in _UNITS:
        found = f"unknown unit {unit!r}" if unit else "no unit"
        raise ValueError(f"{text!r} has {found}; write one of ns, us, ms, s, min, like {number}ms")
    whole, _, part = number.partition(".")
    scale: int = _UNITS[unit]
    return int(whole or 0) * scale + (round(int(part) * scale / 10 ** len(part)) if part else 0)


def format_ns(value_ns: float) -> str:
    """Write a duration for people, with three significant digits: 33 ms, 1.25 s, 850 us."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(value_ns) >= 0.9995 * scale:  # 999.6 us is written as 1 ms
            return f"{value_ns / scale:.3g} {unit}"
    return f"{value_ns:.0f} ns"

"""Just enough SVG for the plots of a report: a canvas, linear scales, ticks. Colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 480  # of every plot, in user units: legible on a phone, two in a row on a desk


def number(value: float) -> str:
    """A coordinate with at most two digits after the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Scale:
    """Maps [low, high] of the data to [start, end] of the canvas; flat beyond."""

    def __init__(self, low: float, high: float, start: float, end: float):
        self.low, self.high, self.start, self.end = low, high if high > low else low + 1, start, end

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values in the range, about `count`."""
        return ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten in [low, high], about `count` of them."""
    raw = (high - low) / max(1, count)
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


class Canvas:
    """Collects elements; `str()` gives the `<svg>`. `label` is what a screen reader says."""

    def __init__(self, height: float, label: str, width: float = WIDTH):
        self.width, self.height, self.label = width, height, label
        self.parts: list[str] = []

    def __str__(self) -> str:
        body = "\n".join(self.parts)
        return (f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img" aria-label="{escape(self.label)}" '
                f'xmlns="http://www.w3.org/2000/svg">\n{body}\n</svg>')

    def text(self, x: float, y: float, content: str, anchor: str = "start", kind: str = "label", colour: str = "") -> None:
        """Text at a baseline; `kind` is a class of the page (`label`, `tick`, `strong`, `note`)."""
        style = f' style="fill:{colour}"' if colour else ""
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" class="{kind}"{style}>{escape(content)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "grid", colour: str = "", width: float = 0) -> None:
        """A straight line; classes `grid`, `axis`, `deadline`, `whisker`, `leader`."""
        style = (f"stroke:{colour};" if colour else "") + (f"stroke-width:{number(width)}" if width else "")
        self.parts.append(f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{kind}"'
                          + (f' style="{style}"' if style else "") + "/>")

    def rect(self, x: float, y: float, width: float, height: float, colour: str, title: str = "", radius: float = 0,
             kind: str = "") -> None:
        """A filled rectangle, with a tooltip."""
        if width <= 0 or height <= 0:
            return
        tip = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
                          + (f' rx="{number(radius)}"' if radius else "") + (f' class="{kind}"' if kind else "")
                          + f' style="fill:{colour}">{tip}</rect>')

    def circle(self, x: float, y: float, radius: float, colour: str, title: str = "") -> None:
        """A dot with a tooltip."""
        self.parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="dot" style="fill:{colour}">'
                          f"<title>{escape(title)}</title></circle>")

    def area(self, points: Sequence[tuple[float, float]], colour: str, opacity: float = 1.0, title: str = "") -> None:
        """A filled polygon."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        tip = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f'<polygon points="{path}" style="fill:{colour};fill-opacity:{number(opacity)}">{tip}</polygon>')

    def polyline(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.5) -> None:
        """An open line."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:{number(width)}"/>')

    def marker(self, x: float, y: float, colour: str, title: str = "") -> None:
        """A downward triangle whose tip is at (x, y)."""
        self.parts.append(f'<path d="M{number(x)} {number(y)}l-5.5 -9h11z" style="fill:{colour}"><title>{escape(title)}</title></path>')


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed so that neighbours are at least `gap` apart, within [low, high]."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [min(max(wanted[i], low), high) for i in order]
    for _ in range(2):
        for k in range(1, len(placed)):
            placed[k] = max(placed[k], placed[k - 1] + gap)
        if placed and placed[-1] > high:
            placed[-1] = high
        for k in range(len(placed) - 2, -1, -1):
            placed[k] = min(placed[k], placed[k + 1] - gap)
    out = [0.0] * len(wanted)
    for i, y in zip(order, placed):
        out[i] = y
    return out

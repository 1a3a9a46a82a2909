"""Rows of text in columns that never wrap."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """Rows as lines, the first being the heading; the first `left` columns start left, the others end right."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = ["  ".join(text.ljust(width) if i < left else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths))).rstrip()
             for row in texts]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

"""A workload from a live run: its cameras again and again, with the durations that the run measured.

Usage: python -m edgert.study.recorded RUN.db OUT.toml "what ran, and beside what"
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from imprecise.draws import Empirical

from ..results import twin
from ..results.view import read

POINTS = 200  # quantiles that stand for the durations of a stage


def workload(run: Path, title: str) -> str:
    """The text of a scenario file. Raises RecordError for a run with too few durations of a stage."""
    view = read(run)
    first = view.streams[0]
    lines = [f'title = "{title}"', 'guard = "1ms"', "load = 1.0", "", "[resources]", "fpga = 1",
             f"cpu = {view.meta['resources']['cpu']}", "",
             "[[stream]]", 'name = "camera"', f'bundle = "{view.meta["bundle"]}"', "rate = 60", 'jitter = "1ms"', "", "[stream.times]"]
    for stage in first.stages:
        name = str(stage["name"])
        model = twin.durations(view, name)
        assert isinstance(model, Empirical)
        points = np.quantile(model.sorted_ns, np.linspace(0, 1, POINTS), method="nearest").astype(int)
        texts = [f'"{ns / 1000:.6g}us"' for ns in points]
        rows = [", ".join(texts[i:i + 10]) for i in range(0, len(texts), 10)]
        lines.append(f"# {len(model.sorted_ns)} durations: {POINTS} quantiles from the least to the longest")
        lines.append(f"{name.rpartition('/')[2]} = {{ samples = [\n    " + ",\n    ".join(rows) + "] }")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(workload(Path(sys.argv[1]), sys.argv[3]), encoding="utf-8")

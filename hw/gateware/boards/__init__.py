"""The boards that a bitstream can be made for, one a file: part, clocks, the processor's ports, how its tools are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

NAMES = ("pynq_z2", "zcu102")


@dataclass(frozen=True)
class Clock:
    """A clock of the processor's: its PLL divided twice."""

    hz: int
    divisors: tuple[int, int]


@dataclass(frozen=True)
class Board:
    """What differs between boards; `top` is the Verilog of `edgert_top`."""

    name: str                   # as in edgert's other commands: pynq-z2
    number: int                 # register BOARD
    part: str                   # as Vivado names it
    pieces: tuple[str, str, str]  # of the part's name: device, package, speed
    yosys_arch: str             # of synth_xilinx
    open_tools: bool            # nextpnr-xilinx and the prjxray database know the chip
    pll_hz: int                 # what the divisors divide
    divisor_limit: int
    clock_hz: int               # usual clock of a core
    register_base: int          # physical address of the registers
    len_bits: int               # of the register port's AWLEN
    id_bits: int
    top: str
    clock_pin: str              # the clock in Vivado's words
    processor: dict[str, str]   # of the .hwh: MODTYPE, VLNV, INSTANCE, names of its ports
    parameters: dict[str, str] = field(default_factory=dict)  # of the processor in the .hwh, besides the clocks
    clock_names: tuple[str, str, str] = ("", "", "")          # parameters: divisor 0, divisor 1, enable; {0} is the clock's index

    def clock(self, hz: int) -> Clock:
        """The fastest clock not above `hz` that the PLL and its two divisors give. Raises ValueError."""
        limit = self.divisor_limit
        total = next((n for n in range(max(1, -(-self.pll_hz // hz)), limit * limit + 1)
                      if any(n % d == 0 and n // d <= limit for d in range(1, limit + 1))), 0) if hz > 0 else 0
        if not total:
            raise ValueError(f"{self.name} has no clock of {hz} Hz; the slowest is {self.pll_hz // limit**2 + 1} Hz")
        first = next(d for d in range(1, limit + 1) if total % d == 0 and total // d <= limit)
        return Clock(self.pll_hz // total, (total // first, first))

    def top_verilog(self) -> str:
        """Module `edgert_top`."""
        return self.top

    def constraints(self) -> str:
        """The `.xdc`: pins and their standards only, for all tools alike."""
        return f"# {self.name}: clock, reset, registers and memory come from the processor inside the chip; no pin is used.\n"


def board(name: str) -> Board:
    """The board `name`, e.g. `pynq-z2`. Raises KeyError with the names there are."""
    module = name.replace("-", "_")
    if module not in NAMES:
        raise KeyError(f"there is no board {name!r}; there are {', '.join(n.replace('_', '-') for n in NAMES)}")
    found: Board = import_module(f"gateware.boards.{module}").BOARD
    return found

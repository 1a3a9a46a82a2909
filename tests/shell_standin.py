"""A generated shell around a stand-in core that sums a frame's bytes; and a naive driver for its registers."""

import re
from pathlib import Path

import numpy as np

from gateware.shell import write_shell
from gateware.shell_model import ShellModel

CORE = Path(__file__).parent / "hw" / "standin_core.v"
ID, VERSION, BOARD, CLOCK_HZ, MODEL, FRAME_BYTES, ANSWER_BYTES, CLOCK = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x30, 0x34, 0x38
CONTROL, STATUS, ERRORS, ACK, IRQ_ENABLE, LOW, HIGH, TIMEOUT = 0x40, 0x44, 0x48, 0x4C, 0x50, 0x54, 0x58, 0x5C
SOURCE, TARGET, CYCLES, ANSWERS = (0x60, 0x68), (0x64, 0x6C), (0x70, 0x74), 0x78
MODEL_ID = bytes(range(32)).hex()


def write_standin(directory: Path, frame_bytes: int, answer_bytes: int, board: str = "pynq-z2") -> Path:
    """Write shell and stand-in core into `directory`."""
    write_shell(directory, board, MODEL_ID, frame_bytes, answer_bytes)
    sizes = f"FRAME_BYTES = {frame_bytes}, parameter ANSWER_BYTES = {answer_bytes}"
    text = re.sub(r"FRAME_BYTES = \d+, parameter ANSWER_BYTES = \d+", sizes, CORE.read_text())
    (directory / "core.v").write_text(text)
    return directory


def expected(frame: np.ndarray, answer_bytes: int) -> np.ndarray:
    """The stand-in's answer with its padding: uint8, a multiple of 8 bytes."""
    answer = np.zeros(-(-answer_bytes // 8) * 8, np.uint8)
    answer[:answer_bytes] = (int(frame.sum()) + np.arange(answer_bytes)) % 256
    return answer


class Driver:
    """Registers by name, frames and answers at addresses; polls."""

    def __init__(self, model: ShellModel) -> None:
        """Reset the hardware, forget what the memory refused, open the window to all of the memory."""
        self.model = model
        model.reset()
        model.slow()
        model.refuse(0, 0)
        model.memory[:] = 0xEE
        self.frame_bytes, self.answer_bytes = model.read(FRAME_BYTES), model.read(ANSWER_BYTES)
        self.open()

    def open(self) -> None:
        """The window is the memory."""
        self.model.write(LOW, self.model.base)
        self.model.write(HIGH, self.model.base + len(self.model.memory))

    def prepare(self, slot: int, frame: np.ndarray, source: int, target: int) -> None:
        """Put `frame` at offset `source` of the memory and the slot's addresses into its registers."""
        self.model.memory[source:source + self.frame_bytes] = frame
        self.model.write(SOURCE[slot], self.model.base + source)
        self.model.write(TARGET[slot], self.model.base + target)

    def status(self) -> int:
        """STATUS."""
        return self.model.read(STATUS)

    def wait(self, mask: int, value: int, limit: int = 200_000) -> int:
        """Poll STATUS until its bits `mask` are `value`; STATUS."""
        end = self.model.cycles + limit
        while (status := self.status()) & mask != value:
            assert self.model.cycles < end, f"status stays 0x{status:X}, errors 0x{self.model.read(ERRORS):X}"
            self.model.run(20)
        return status

    def answer(self, target: int) -> np.ndarray:
        """The padded answer at offset `target`."""
        return self.model.memory[target:target + -(-self.answer_bytes // 8) * 8]

    def one(self, slot: int, frame: np.ndarray, source: int = 0x1000, target: int = 0x8000) -> np.ndarray:
        """One frame through one slot; a copy of its padded answer."""
        self.prepare(slot, frame, source, target)
        self.model.write(CONTROL, 1 << slot)
        self.wait(1 << slot, 0)
        assert self.status() & (4 << slot), f"not done: status 0x{self.status():X}, errors 0x{self.model.read(ERRORS):X}"
        self.model.write(ACK, 4 << slot)
        return self.answer(target).copy()

"""Helpers of the driver's tests: a bundle, a simulated board around a fake shell, a bitstream directory as the tools would make it."""

from __future__ import annotations

import hashlib
import itertools
import json
import time

import small_bundle
from edgert.accelerators import _fabric, _facade
from edgert.accelerators.pynq import PynqAccelerator
from edgert.bundle import load
from fake_shell import FakeShell
from gateware import hwh
from gateware.boards import board as tools_board
from modelkit.ternary.kernel import Kernel

BOARD = _facade.board_named("pynq-z2")
LATER_NS = 10**18


def toy(path):
    """A small bundle."""
    return load(str(small_bundle.make(path)))


class Computer:
    """The network's kernel, which survives pickling."""

    def __init__(self, network):
        self.network, self._kernel = network, Kernel(network)

    def __call__(self, frame):
        return self._kernel(frame)

    def __reduce__(self):
        return Computer, (self.network,)


def shell(bundle, **changes):
    """A fake shell of the bundle's network."""
    return FakeShell(Computer(bundle.network), bundle.input_shape, len(bundle.classes), bundle.model_id, **changes)


def hardware_description(model_id, board="pynq-z2"):
    """The `.hwh` that the tools write."""
    target = tools_board(board)
    return hwh.description(target, target.clock(target.clock_hz), model_id).encode()


def bitstreams(path, bundle, board=BOARD):
    """A root with one bitstream of the bundle, as good as one can be."""
    return _facade.stand_in(path, hardware_description(bundle.model_id, board.name), board, bundle.model_id, b"content")


def rehash(home):
    """Make the manifest agree with the files beside it."""
    manifest = json.loads((home / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (home / "manifest.json").write_text(json.dumps(manifest))


class Board(_facade.SimulatedSystem):
    """A simulated board with a lock file and a boot of its own, as a real one has."""

    def __init__(self, model, lock=None, clock_hz=100_000_000, board=BOARD, **more):
        super().__init__(model, board, clock_hz, **more)
        self._lock_path = lock

    def lock(self):
        return _fabric.Lock(self._lock_path) if self._lock_path is not None else super().lock()


class Driven(PynqAccelerator):
    """The board's accelerator on a given system."""

    def __init__(self, system, root):
        super().__init__()
        self._given, self._root = system, root

    def system(self, bundle):
        return self._given

    def places(self, bundle):
        return [self._root]


def opened(bundle, tmp_path, model=None, **more):
    """(accelerator, its shell, its system), open."""
    model = model or shell(bundle)
    system = Board(model, tmp_path / "lock", **more)
    accelerator = Driven(system, bitstreams(tmp_path / "bitstreams", bundle))
    accelerator.open(bundle)
    return accelerator, model, system


def frames_of(bundle):
    """Labelled pictures, for ever."""
    return itertools.cycle(bundle.arrays("frames.npz")["frames"])


def within(model, limit_ns, call):
    """Run `call`, which must raise; its error, and the simulated ns that it took."""
    before, wall = model.cycles, time.monotonic()
    try:
        call()
    except Exception as error:
        assert time.monotonic() - wall < 20
        took_ns = (model.cycles - before) * 10  # at 100 MHz
        assert took_ns <= limit_ns, f"{took_ns} ns, allowed {limit_ns}"
        return error, took_ns
    raise AssertionError("no error was raised")

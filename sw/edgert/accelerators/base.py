"""What an engine of the ternary network offers, how it is found by name, and the test that it must pass before it is used.

One implementation a file of this folder, its class named `ACCELERATOR` there (`_*.py`: what they share); another package adds one with
an entry point:

    [project.entry-points."edgert.accelerators"]
    mine = "my_package.my_module:MyAccelerator"

Out of scope: batches, several frames in flight, any number but the int8 logits.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import time
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.loading import MARGIN
from ..errors import AcceleratorError, AcceleratorMissing, SelfTestFailed, UsageError

if TYPE_CHECKING:
    from ..bundle import Bundle

GROUP = "edgert.accelerators"
TEST_LIMIT_NS = 10_000_000_000  # for one frame of the self-test
_TIMED_FRAMES, _TIMED_NS = 300, 300_000_000  # a CPU engine is timed on so many frames, and no longer


class Accelerator:
    """An engine of a bundle's ternary network: frame in, int8 logits out, equal to the integer reference bit for bit.

    `rank` orders what `auto` tries, highest first; 0: only where it is asked for. `hardware`: it needs more than this computer's
    processor. `emulated` is said in every report. `builds`: opening it may take minutes, for something is built first.
    """

    name: str = ""
    rank: int = 0
    hardware: bool = False
    emulated: bool = False
    builds: bool = False

    def open(self, bundle: Bundle) -> None:
        """Load the network. Raises AcceleratorMissing where it cannot run here, AcceleratorError where it fails."""
        raise NotImplementedError

    def infer(self, frame: np.ndarray, deadline_ns: int) -> np.ndarray:
        """Logits, int8 `[classes]`, a new array, of a frame, uint8 `[h, w, c]`.

        `deadline_ns` (monotonic clock) bounds the wait for hardware, which may use its own worst case where that is known. A frame of
        another shape or type is an AcceleratorError. Raises AcceleratorTimeout where there was no answer by then, AcceleratorError
        where it failed.
        """
        raise NotImplementedError

    def recover(self, bundle: Bundle) -> int:
        """Bring it back after a failure, and test it; the number of golden frames compared. Raises what `open` and `self_test` raise."""
        self.close()
        self.open(bundle)
        return self_test(self, bundle)

    def close(self) -> None:
        """Give everything back; it may be opened again."""

    def wcet_ns(self) -> tuple[int, str]:
        """The longest `infer` that admission counts with, in ns, and where that comes from. Call it while open."""
        raise NotImplementedError

    def about(self) -> str:
        """In a few words, what computes, with its version; while open."""
        return self.name


def measured_wcet_ns(accelerator: Accelerator, bundle: Bundle) -> tuple[int, str]:
    """The longest `infer` over the golden frames, with a margin: worst case of an engine whose time is not known otherwise.

    What counts is the time that the process computed: a measurement during which the machine did something else says nothing about the
    engine, and while it runs such stalls are an assumption of their own.
    """
    frames = bundle.arrays("golden.npz")["frames"]
    accelerator.infer(frames[0], time.monotonic_ns() + TEST_LIMIT_NS)
    longest_ns = count = 0
    begin_ns = time.monotonic_ns()
    while count < _TIMED_FRAMES and (count < 20 or time.monotonic_ns() - begin_ns < _TIMED_NS):
        start_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
        accelerator.infer(frames[count % len(frames)], start_ns + TEST_LIMIT_NS)
        used_ns = time.process_time_ns() - used_ns
        longest_ns = max(longest_ns, min(used_ns, time.monotonic_ns() - start_ns))
        count += 1
    return int(longest_ns * MARGIN), f"longest processor time of {count} measured on this machine, times {MARGIN:g}"


def check_frame(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise AcceleratorError where `frame` is not uint8 of `shape`."""
    if frame.dtype != np.uint8 or frame.shape != shape:
        raise AcceleratorError(f"a frame is {frame.dtype} {list(frame.shape)}, the network takes uint8 {list(shape)}")


def self_test(accelerator: Accelerator, bundle: Bundle) -> int:
    """Compare an open accelerator with the golden answers, logit by logit; the number of frames compared.

    Raises SelfTestFailed where one differs, and what `infer` raises.
    """
    golden = bundle.arrays("golden.npz")
    frames, expected = golden["frames"], golden["logits"]
    found = [accelerator.infer(frame, time.monotonic_ns() + TEST_LIMIT_NS) for frame in frames]  # kept: a reused buffer shows
    wrong = 0
    for got, want in zip(found, expected):
        if got.dtype != np.int8 or got.shape != want.shape:
            raise SelfTestFailed(f"accelerator {accelerator.name!r} gives {got.dtype} {list(got.shape)}, not int8 {list(want.shape)}")
        wrong += int(not np.array_equal(got, want))
    if wrong or not len(frames):
        raise SelfTestFailed(f"accelerator {accelerator.name!r} fails its self-test: {wrong} of {len(frames)} golden answers differ",
                             "it is not used; edgert doctor tests the others")
    return len(frames)


@lru_cache(maxsize=1)
def _makers() -> dict[str, Callable[[], Accelerator]]:
    """Accelerators by name: of this folder, then of other packages, which cannot replace one of these."""
    makers: dict[str, Callable[[], Accelerator]] = {}
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name != "base" and not module.name.startswith("_"):
            cls = importlib.import_module(f"{package}.{module.name}").ACCELERATOR
            makers[cls.name] = cls
    for entry in entry_points(group=GROUP):
        makers.setdefault(entry.name, partial(_load_foreign, entry))
    return makers


def _load_foreign(entry: EntryPoint) -> Accelerator:
    try:
        found: Accelerator = entry.load()()
    except Exception as error:  # another package's code
        raise AcceleratorMissing(f"accelerator {entry.name!r} cannot be loaded ({type(error).__name__}: {error})",
                                 "repair or remove the package that adds it") from error
    return found


def names() -> list[str]:
    """Names of all accelerators, whether or not they can run here."""
    return sorted(_makers())


def make(name: str) -> Accelerator:
    """An accelerator by name, not opened. Raises UsageError for an unknown name; the nearest is offered."""
    makers = _makers()
    if name not in makers:
        near = difflib.get_close_matches(name, [*makers, "auto"], n=1)
        raise UsageError(f"unknown accelerator {name!r}", f"did you mean {near[0]!r}?" if near else f"there are auto, {', '.join(names())}")
    return makers[name]()


def choose(name: str, bundle: Bundle) -> tuple[Accelerator, str]:
    """The accelerator `name`, or for `auto` the best that works: opened, tested, and why it was taken.

    Raises UsageError for an unknown name; AcceleratorMissing, SelfTestFailed or AcceleratorError where it does not work.
    """
    if name != "auto":
        accelerator = make(name)
        return accelerator, f"asked for; {_start(accelerator, bundle)}"
    return _best(by_rank(), bundle)


def choose_cpu(bundle: Bundle) -> tuple[Accelerator, str]:
    """As `choose("auto", bundle)`, among the engines that need no hardware."""
    return _best([name for name in by_rank() if not make(name).hardware], bundle)


def _best(candidates: list[str], bundle: Bundle) -> tuple[Accelerator, str]:
    refused = []
    for candidate in candidates:
        try:
            accelerator = make(candidate)
            why = _start(accelerator, bundle)
        except AcceleratorError as error:
            refused.append(f"{candidate}: {error.message}")
            continue
        return accelerator, "; ".join([f"the best that works, {why}", *(f"not {reason}" for reason in refused)])
    raise AcceleratorMissing("no accelerator works here: " + "; ".join(refused), "run edgert doctor")


def by_rank() -> list[str]:
    """Names of what `auto` tries, best first. One of another package that cannot be loaded comes last: it will say why."""
    ranks = {}
    for name in names():
        try:
            ranks[name] = make(name).rank
        except AcceleratorMissing:
            ranks[name] = 1
    return sorted((name for name in ranks if ranks[name] > 0), key=lambda name: -ranks[name])


def _start(accelerator: Accelerator, bundle: Bundle) -> str:
    accelerator.open(bundle)
    try:
        count = self_test(accelerator, bundle)
    except BaseException:
        accelerator.close()
        raise
    return f"{accelerator.about()}, equal on {count} golden frames"

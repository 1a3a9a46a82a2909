"""How long the stages take on this machine, measured where they will run, before a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from imprecise import scenario, units
from imprecise.model import Stage

from ..bundle.loading import MARGIN
from ..errors import UsageError
from .options import StreamOption

if TYPE_CHECKING:
    from ..accelerators import Accelerator
    from ..bundle import Bundle
    from .fallback import MandatoryEngine
    from .pool import Pool

LEAST, MOST = 20, 300  # frames a stage is measured on
BUDGET_NS = 300_000_000  # and no longer than this a stage
PAUSED, PAUSE_S = 40, 0.003
ROUNDS, ODD = 3, 10  # a longest time above ODD times the usual one is measured again: the machine stalled, another assumption
OWN_LIMIT_S = 10.0  # no inference of a self-timed run may take longer


@dataclass(frozen=True)
class Times:
    """Durations of one stage in ns over `n` frames."""

    mean_ns: float
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int
    n: int

    @staticmethod
    def of(samples: Sequence[int]) -> Times:
        """From samples in ns, at least one."""
        p50, p90, p99 = (int(q) for q in np.percentile(samples, [50, 90, 99]))
        return Times(float(np.mean(samples)), p50, p90, p99, max(samples), len(samples))

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return dict(vars(self))


def _sample(once: Callable[[np.ndarray], int], frames: Sequence[np.ndarray]) -> Times:
    """Measure over and over the frames given until there is enough; the first one warms up and does not count."""
    once(frames[0])
    samples: list[int] = []
    start_ns = time.monotonic_ns()
    while len(samples) < LEAST or (len(samples) < MOST and time.monotonic_ns() - start_ns < BUDGET_NS):
        samples.append(once(frames[len(samples) % len(frames)]))
    return Times.of(samples)


def _refine(pool: Pool, stage: int, frame: np.ndarray) -> int:
    """Time of one refinement stage of a frame, in ns."""
    return pool.measure(stage, [frame])[0]


def measure(bundle: Bundle, mandatory: MandatoryEngine, pool: Pool | None) -> dict[str, Times]:
    """Times of `mandatory` in this process and of each refinement stage in its worker, as the engine will see them."""
    frames = list(bundle.arrays("golden.npz")["frames"])

    def infer(frame: np.ndarray) -> int:
        start_ns = time.monotonic_ns()
        mandatory.infer(frame, start_ns + int(OWN_LIMIT_S * 1e9))
        return time.monotonic_ns() - start_ns

    times = {"mandatory": _sample(infer, frames)}
    if pool is not None:
        for index, entry in enumerate(bundle.manifest["stages"]):
            times[entry["name"]] = _sample(partial(_refine, pool, index), frames)
    return times


def worst_case(accelerator: Accelerator, bundle: Bundle) -> tuple[int, str]:
    """The accelerator's worst case in ns for admission, and where it comes from.

    Hardware, and what stands for it, knows its own. What computes on this core is also timed after pauses, as frames come, when
    the caches hold something else; with a margin, and again where the machine stalled meanwhile (of several tries the least).
    """
    wcet_ns, source = accelerator.wcet_ns()
    if accelerator.emulated:
        return wcet_ns, source
    frames = list(bundle.arrays("golden.npz")["frames"])
    tries: list[Times] = []
    while not tries or (len(tries) < ROUNDS and tries[-1].max_ns > ODD * tries[-1].p50_ns):
        tries.append(Times.of([_paused(accelerator, frames[i % len(frames)]) for i in range(PAUSED)]))
    longest_ns = min(t.max_ns for t in tries)
    if longest_ns * MARGIN <= wcet_ns <= ODD * MARGIN * tries[0].p50_ns:
        return wcet_ns, source
    return int(longest_ns * MARGIN), f"longest of {PAUSED} measured after pauses, times {MARGIN:g}"


def _paused(accelerator: Accelerator, frame: np.ndarray) -> int:
    """Time of one inference after a pause, in ns."""
    time.sleep(PAUSE_S)
    start_ns = time.monotonic_ns()
    accelerator.infer(frame, start_ns + int(OWN_LIMIT_S * 1e9))
    return time.monotonic_ns() - start_ns


def stages(bundle: Bundle, times: dict[str, Times], wcet_ns: int) -> tuple[Stage, ...]:
    """The bundle's stages with this machine's times; `wcet_ns` is the accelerator's worst case."""
    first = Stage(f"{bundle.name}/mandatory", "fpga", True, wcet_ns, times["mandatory"].p90_ns)
    return (first, *(Stage(f"{bundle.name}/{name}", "cpu", False, int(t.max_ns * MARGIN), t.p90_ns)
                     for name, t in times.items() if name != "mandatory"))


def for_load(option: StreamOption, load: float, cpus: int, times: dict[str, Times], deadline_ns: int) -> list[StreamOption]:
    """As many streams of at most 60 frames/s as make refining everything cost `load` times `cpus`.

    Raises UsageError where one frame's refinement takes more than half of the deadline; the deadline to choose is named.
    """
    cost_ns = sum(t.mean_ns for name, t in times.items() if name != "mandatory")
    least_ns = scenario.SHARE_OF_DEADLINE * cost_ns
    if deadline_ns < least_ns:
        fitting = -(-int(least_ns * 1.1) // 1_000_000)
        raise UsageError(f"refining one frame takes {units.format_ns(cost_ns)}, more than half of the deadline "
                         f"{units.format_ns(deadline_ns)}", f"--deadline {fitting}ms fits")
    try:
        made = scenario.streams_for_load(cost_ns, load, cpus, deadline_ns=deadline_ns)
    except ValueError as error:
        raise UsageError(f"--load {load:g}: {error}", "choose a lower load") from None
    if made.streams == 1:
        names = [option.name]
    else:
        width = len(str(made.streams - 1))
        names = [f"{option.name}-{i:0{width}d}" for i in range(made.streams)]
    return [StreamOption(name, option.source, made.period_ns) for name in names]

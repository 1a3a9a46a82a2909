"""`edgert board selftest`: the tests that run on the machine that will answer frames, from whatever is installed there.

bundle       its files are those that the manifest names, and the network is the one described
hardware     what the accelerator can say of itself before it is asked for an answer (`hardware_checks(bundle)`, which yields (name,
             right, found, fix)): fabric programmed, clock running, identification registers, the model's hash; only where it is hardware
golden       the golden frames, equal in every bit
throughput   the same frames one after the other for a while, as fast as it goes, every answer compared again; the longest time
stages       each TFLite stage loads and gives finite, repeatable logits on the golden frames

The hardware part has been run on emulated hardware only: nobody has run it on silicon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import accelerators
from ..accelerators import litert
from ..accelerators.base import TEST_LIMIT_NS, Accelerator
from ..bundle import Bundle, load
from ..errors import AcceleratorError, AcceleratorMissing, BundleError
from ..executive.worker import StageError, StageRunner
from .doctor import FAILED, OK, WARNING, Check, Report

SECONDS = 2.0
SILICON = "nobody has run this on silicon yet: please report what you see"


def selftest(name: str, accelerator: str = "auto", seconds: float = SECONDS, say: Callable[[Check], None] = lambda check: None) -> Report:
    """Test the bundle `name` on this machine. Raises UsageError for an unknown bundle or accelerator."""
    checks: list[Check] = []

    def add(check: Check) -> Check:
        checks.append(check)
        say(check)
        return check

    try:
        bundle = load(name)
        add(Check("bundle", OK, f"{bundle.name} {bundle.version}, {len(bundle.contents)} files as the manifest says, model "
                                f"{bundle.model_id[:12]}"))
        for check in _accelerator(bundle, accelerator, seconds):
            add(check)
        for check in _stages(bundle):
            add(check)
    except BundleError as error:
        add(Check("bundle", FAILED, error.message, error.next_step))
    failed = [check.name for check in checks if check.level == FAILED]
    return Report(checks, not failed, f"failed: {', '.join(failed)}" if failed else "everything asked for works")


def _accelerator(bundle: Bundle, name: str, seconds: float) -> Iterator[Check]:
    if name != "auto":
        yield from _hardware(bundle, accelerators.make(name))
    try:
        chosen, why = accelerators.choose(name, bundle)
    except AcceleratorError as error:
        yield Check("golden frames", FAILED, error.message, error.next_step or "choose another one with --accelerator")
        return
    try:
        if name == "auto":
            yield from _hardware(bundle, chosen)
        yield Check("golden frames", OK, f"{chosen.name}: {why}")
        yield from _throughput(bundle, chosen, seconds)
    except AcceleratorError as error:
        yield Check("throughput", FAILED, error.message, error.next_step or "choose another one with --accelerator")
    finally:
        chosen.close()


def _hardware(bundle: Bundle, accelerator: Accelerator) -> Iterator[Check]:
    """What the accelerator says of its hardware: (name, whether it is right, found, fix) each; nothing where it is none."""
    ask: Any = getattr(accelerator, "hardware_checks", None)
    if not accelerator.hardware or ask is None:
        return
    try:
        for name, right, found, fix in ask(bundle):
            yield Check(name, OK if right else FAILED, found, "" if right else fix)
    except AcceleratorError as error:
        yield Check("hardware", FAILED, error.message, error.next_step or "edgert doctor")
    if not accelerator.emulated:
        yield Check("silicon", WARNING, f"accelerator {accelerator.name!r} is hardware", SILICON)


def _throughput(bundle: Bundle, accelerator: Accelerator, seconds: float) -> Iterator[Check]:
    """Answers one after the other, each compared with its golden one."""
    golden = bundle.arrays("golden.npz")
    frames, logits = golden["frames"], golden["logits"]
    times: list[int] = []
    wrong = 0
    begin_ns = time.monotonic_ns()
    while len(times) < len(frames) or time.monotonic_ns() - begin_ns < seconds * 1e9:
        index = len(times) % len(frames)
        start_ns = time.monotonic_ns()
        answer = accelerator.infer(frames[index], start_ns + TEST_LIMIT_NS)
        times.append(time.monotonic_ns() - start_ns)
        wrong += not np.array_equal(answer, logits[index])
    whole_s = (time.monotonic_ns() - begin_ns) / 1e9
    worst_ns, source = accelerator.wcet_ns()
    found = (f"{len(times) / whole_s:.0f} frames/s, {np.median(times) / 1e3:.0f} us each, at most {max(times) / 1e3:.0f} us; admission "
             f"would count {worst_ns / 1e3:.0f} us ({source})" + (", emulated" if accelerator.emulated else ""))
    if wrong:
        yield Check("throughput", FAILED, f"{wrong} of {len(times)} answers in a row differ from the golden ones; {found}",
                    "do not use it; edgert doctor tests the others")
    else:
        yield Check("throughput", OK, f"{found}; {len(times)} answers in a row equal to the golden ones")


def _stages(bundle: Bundle) -> Iterator[Check]:
    """Each refinement stage as a worker runs it."""
    frames = bundle.arrays("golden.npz")["frames"][:4]
    try:
        _, runtime = litert.runtime()
    except AcceleratorMissing as error:
        yield Check("stages", WARNING, f"{error.message}: answers stay mandatory", "deploy with a TFLite runtime, or see edgert doctor")
        return
    for file in bundle.stage_files:
        first, second = (np.empty((len(frames), len(bundle.classes)), np.float32) for _ in range(2))
        try:
            runner = StageRunner(file, bundle.contents[file], bundle.input_shape, len(bundle.classes))
            for out in (first, second):
                for frame, row in zip(frames, out):
                    runner.run(frame, row)
        except (StageError, RuntimeError, ValueError) as error:
            yield Check(file, FAILED, (str(error).splitlines() or ["?"])[0], "use a bundle whose stages run here, int8 on small Arm")
            continue
        same = np.array_equal(first, second) and bool(np.isfinite(first).all())
        yield Check(file, OK if same else FAILED, f"{runtime}: {len(frames)} frames twice, {'the same logits' if same else 'other logits'}",
                    "" if same else "update the TFLite runtime")

"""Everything that a fabric can do wrong, injected into a simulated one: detected within its bound, named, survived."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import driver_bench as bench
from edgert.accelerators import _fabric, base, self_test
from edgert.accelerators._shell_driver import ERROR_BITS
from edgert.errors import (
    AcceleratorError,
    AcceleratorTimeout,
    EdgertError,
    FabricBusy,
    FabricFault,
    FabricLost,
    SelfTestFailed,
)
from edgert.executive.fallback import COOL_DOWN_NS, Fallback, MandatoryEngine, readmit

MS = 1_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bench.toy(tmp_path_factory.mktemp("driver") / "toy")


@pytest.fixture
def ready(bundle, tmp_path):
    """(accelerator, its fake shell, its system)."""
    accelerator, shell, system = bench.opened(bundle, tmp_path)
    yield accelerator, shell, system
    shell.memory_hangs = False
    accelerator.close()


def picture(bundle, index=0):
    return bundle.arrays("frames.npz")["frames"][index]


def right(accelerator, bundle):
    """The next answers are right."""
    return self_test(accelerator, bundle) == 24


# While a frame is on its way ------------------------------------------------------------------------------------------


def test_a_frame_that_is_never_answered_is_given_up_within_the_budget_and_a_millisecond(ready, bundle):
    accelerator, shell, _ = ready
    shell.core_hangs = 1
    error, took_ns = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout) and took_ns >= accelerator.budget_ns * 9 // 10
    assert "slot" in error.message and "busy" in error.message and "cycles since START" in error.message
    assert right(accelerator, bundle)


def test_the_watchdog_alone_is_enough(ready, bundle):
    accelerator, shell, _ = ready
    shell.core_hangs = 1
    accelerator.driver.limit(20_000)
    error, took_ns = bench.within(shell, 30_000, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout) and "watchdog" in error.message and took_ns < 30_000
    accelerator.driver.limit(accelerator.budget_ns)
    assert right(accelerator, bundle)


def test_without_an_interrupt_the_driver_looks_for_itself(bundle, tmp_path):
    class Polled(bench.Board):
        def interrupt(self):
            return None

    shell = bench.shell(bundle)
    accelerator = bench.Driven(Polled(shell, tmp_path / "lock"), bench.bitstreams(tmp_path / "b", bundle))
    accelerator.open(bundle)
    assert right(accelerator, bundle)
    shell.core_hangs = 1
    error, _ = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout)
    accelerator.close()


def test_memory_that_never_answers_is_a_timeout_and_so_is_the_reset_until_the_fabric_is_programmed_again(ready, bundle):
    accelerator, shell, system = ready
    shell.memory_hangs = True
    for _ in range(2):  # the frame; then the reset before the next one
        error, _ = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
        assert isinstance(error, AcceleratorTimeout)
    assert "come to rest" in error.message
    with pytest.raises(AcceleratorTimeout):
        accelerator.recover(bundle)
    downloads = system.pynq.downloads
    accelerator.close()
    accelerator.open(bundle)
    assert system.pynq.downloads == downloads + 1 and right(accelerator, bundle)


@pytest.mark.parametrize("bit", range(7), ids=[text.split(":")[0].replace(" ", "-") for text in ERROR_BITS])
def test_each_error_bit_is_named_and_the_next_frame_is_right(ready, bundle, bit):
    accelerator, shell, _ = ready
    shell.inject = 1 << bit
    error, _ = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert ERROR_BITS[bit] in error.message
    if bit == 6:
        assert isinstance(error, AcceleratorTimeout)
    else:
        assert isinstance(error, FabricFault) and error.errors & 1 << bit
    assert right(accelerator, bundle)


def test_an_error_that_comes_with_an_answer_is_not_overlooked(ready, bundle):
    accelerator, shell, _ = ready
    original = shell.run_until_irq

    def run(limit):
        original(limit)
        shell.errors |= 8 * any(shell.done)

    shell.run_until_irq = run
    with pytest.raises(FabricFault, match="write refused"):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    shell.run_until_irq = original
    assert right(accelerator, bundle)


def test_memory_that_refuses_is_named(ready, bundle):
    accelerator, shell, _ = ready
    low = accelerator.driver._slots[0].physical_address
    for places, word in (((low, low + 8), "read refused"), ((low + 64, low + 72), "write refused")):
        shell.refused_ranges = [places]
        accelerator.driver.reset()  # slot 0 is next
        with pytest.raises(FabricFault, match=word):
            accelerator.infer(picture(bundle), bench.LATER_NS)
        shell.refused_ranges = []
        assert right(accelerator, bundle)


def test_an_answer_that_is_too_short_is_a_timeout(ready, bundle):
    accelerator, shell, _ = ready
    shell.short_answers = 1
    with pytest.raises(AcceleratorTimeout):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    assert right(accelerator, bundle)


def test_an_answer_that_is_too_long_shifts_the_next_one_which_shows_behind_its_end(ready, bundle):
    accelerator, shell, _ = ready
    shell.long_answers = 1
    accelerator.infer(picture(bundle), bench.LATER_NS)  # that one itself is right
    with pytest.raises(FabricFault, match="not of 5 bytes"):
        for _ in range(4):
            accelerator.infer(picture(bundle), bench.LATER_NS)
    assert right(accelerator, bundle)


def test_garbage_is_caught_by_the_self_test(bundle, tmp_path, monkeypatch):
    shell = bench.shell(bundle)
    accelerator = bench.Driven(bench.Board(shell, tmp_path / "lock"), bench.bitstreams(tmp_path / "b", bundle))
    monkeypatch.setattr(base, "_makers", lambda: {"pynq": lambda: accelerator})
    shell.garbage = 17  # the last of them in the self-test: opening needs 16
    with pytest.raises(SelfTestFailed, match="1 of 24"):
        base.choose("pynq", bundle)
    assert accelerator.driver is None  # closed, the lock given back
    assert base.choose("pynq", bundle)[0] is accelerator
    shell.garbage = 1
    with pytest.raises(SelfTestFailed, match="1 of 24"):
        accelerator.recover(bundle)
    accelerator.close()


def test_a_frame_that_takes_ten_times_as_long_is_no_answer(ready, bundle):
    accelerator, shell, _ = ready
    shell.latency, shell.late = 2000, 1
    error, _ = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout)
    shell.latency = 700
    assert right(accelerator, bundle)


# The fabric itself is gone --------------------------------------------------------------------------------------------


LOSSES = {
    "reprogrammed": (lambda system: setattr(system, "state", "write"), "write"),
    "unclocked": (lambda system: system.processor.__setitem__(_fabric.SLCR + _fabric.FPGA0_THR_CNT, 1), "stopped after 1"),
    "in reset": (lambda system: system.processor.__setitem__(_fabric.SLCR + _fabric.FPGA_RST_CTRL, 1), "FPGA_RST_CTRL"),
    "cut off": (lambda system: system.processor.__setitem__(_fabric.SLCR + _fabric.LVL_SHFTR_EN, 0), "LVL_SHFTR_EN"),
    "undivided": (lambda system: system.processor.__setitem__(_fabric.SLCR + _fabric.FPGA0_CLK_CTRL, 0), "FCLK0"),
}


@pytest.mark.parametrize("how", LOSSES)
def test_a_fabric_lost_in_mid_run_is_not_touched_any_more_and_comes_back_when_opened_anew(ready, bundle, how):
    accelerator, _, system = ready
    lose, word = LOSSES[how]
    lose(system)
    for _ in range(3):
        with pytest.raises(FabricLost, match=word):  # a touch would raise `Hangs`, which is no Exception
            accelerator.infer(picture(bundle), bench.LATER_NS)
    with pytest.raises(FabricLost):
        accelerator.recover(bundle)
    accelerator.close()
    accelerator.open(bundle)
    assert right(accelerator, bundle)


def test_registers_that_read_all_ones_are_a_fault(ready, bundle):
    accelerator, shell, _ = ready
    shell.dead_after = 1
    error, _ = bench.within(shell, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, FabricFault) and "never gives" in error.message
    with pytest.raises(AcceleratorError):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    shell.dead_after = None
    assert right(accelerator, bundle)


# Two want it, one dies ------------------------------------------------------------------------------------------------


HOLDER = """
import sys, time
from pathlib import Path
from edgert.accelerators._fabric import Lock
lock = Lock(Path(sys.argv[1]))
lock.take()
print("mine", flush=True)
time.sleep(600)
"""


def test_the_second_process_is_told_the_first_ones_pid_and_a_dead_ones_lock_is_taken_over(bundle, tmp_path):
    path = tmp_path / "lock"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "mine\n"
        accelerator = bench.Driven(bench.Board(bench.shell(bundle), path), bench.bitstreams(tmp_path / "b", bundle))
        with pytest.raises(FabricBusy, match=f"process {first.pid} has the FPGA"):
            accelerator.open(bundle)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    accelerator.open(bundle)
    assert json.loads(path.read_text())["pid"] == os.getpid() and right(accelerator, bundle)
    accelerator.close()
    assert json.loads(path.read_text())["pid"] == 0


def test_the_same_process_cannot_have_it_twice(ready, bundle, tmp_path):
    other = bench.Driven(bench.Board(bench.shell(bundle), tmp_path / "lock"), bench.bitstreams(tmp_path / "b2", bundle))
    with pytest.raises(FabricBusy, match=f"pid {os.getpid()}"):
        other.open(bundle)
    assert right(ready[0], bundle)


def before_overlays(system, look):
    """What `look` gives before each Overlay, in a list that grows."""
    seen, original = [], system.pynq.Overlay

    def overlay(*given, **named):
        seen.append(look())
        return original(*given, **named)

    system.pynq.Overlay = overlay
    return seen


KILLED = """
    import os, pickle, signal, sys
    from pathlib import Path
    import driver_bench as bench
    from edgert.bundle import load
    home = Path(sys.argv[1])
    accelerator, shell, system = bench.opened(load(str(home / "toy")), home)
    accelerator.driver._begin(next(bench.frames_of(load(str(home / "toy")))))
    shell.run(20)
    assert shell.busy[0] or shell.busy[1]
    with open(home / "fabric.pickle", "wb") as file:
        pickle.dump((shell, system.state, system.processor, system.pynq.PL.bitfile_name), file)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_sigkill_during_a_transfer_the_next_process_drains_it_and_starts_clean(tmp_path):
    bench.toy(tmp_path / "toy")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    program = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    bundle = bench.load(str(tmp_path / "toy"))
    for same_model in (True, False):
        shell, state, processor, loaded = pickle.loads((tmp_path / "fabric.pickle").read_bytes())  # the fabric outlives the process
        content = json.loads((tmp_path / "lock").read_text())
        assert content["loaded"]["sha256"]
        system = bench.Board(shell, tmp_path / "lock")
        system.state, system.processor, system.pynq.PL.bitfile_name = state, processor, loaded
        resets = shell.resets
        seen = before_overlays(system, lambda where=shell: (where.resets, any(where.busy)))
        root = tmp_path / "bitstreams"
        if not same_model:  # the one that is loaded is not the one on disk any more
            (root / "pynq-z2/simulated/edgert.bit").write_bytes(bench._facade.bit_file("xc7z020clg400-1", b"y" * 32))
            bench.rehash(root / "pynq-z2/simulated")
        accelerator = bench.Driven(system, root)
        accelerator.open(bundle)
        assert seen == [(resets + 1, False)]  # at rest before anything else
        assert system.pynq.downloads == (0 if same_model else 1)
        memory = shell.memory.copy()
        shell.run(5000)
        assert np.array_equal(shell.memory, memory)  # nothing of the old transfer comes
        assert right(accelerator, bundle)
        accelerator.close()


def test_a_fabric_that_another_program_loaded_meanwhile_is_not_touched_before_it_is_ours(bundle, tmp_path):
    accelerator, shell, system = bench.opened(bundle, tmp_path)
    accelerator.close()
    system.pynq.PL.bitfile_name = "/somebody/elses.bit"
    resets = shell.resets
    seen = before_overlays(system, lambda: shell.resets)
    accelerator.open(bundle)
    assert seen == [resets] and system.pynq.downloads == 2
    accelerator.close()


# The stand-by ---------------------------------------------------------------------------------------------------------


class Standby:
    """Answers at once."""

    name = "standby"
    emulated = False

    def infer(self, frame, deadline_ns):
        return np.zeros(5, np.int8)

    def close(self):
        pass


def test_three_failures_in_a_minute_end_in_a_cool_down_after_which_it_comes_back(ready, bundle):
    accelerator, shell, _ = ready
    now = [0]
    engine = MandatoryEngine(accelerator, Standby(), bundle, self_test, MS, clock=lambda: now[0])
    for failure in range(3):
        shell.core_hangs = 1
        with pytest.raises(AcceleratorTimeout):
            engine.infer(picture(bundle), bench.LATER_NS)
        assert engine.broken and engine.take_over(now[0])
        assert engine.infer(picture(bundle), bench.LATER_NS).tolist() == [0] * 5
        if failure < 2:
            now[0] += 2_000_000_000
            assert engine.may_repair(now[0], now[0] + 10**12) and engine.repair()
    assert engine.often and not engine.may_repair(now[0] + COOL_DOWN_NS - 1, 10**15)
    now[0] += COOL_DOWN_NS
    assert engine.may_repair(now[0], now[0] + 10**12) and engine.repair() and not engine.degraded
    assert engine.infer(picture(bundle), bench.LATER_NS).dtype == np.int8 and not engine.often
    assert (engine.takeovers, engine.resets, engine.failed_resets) == (3, 3, 0)


def test_failures_that_are_not_in_a_row_count_too(ready, bundle):
    accelerator, shell, _ = ready
    engine = MandatoryEngine(accelerator, Standby(), bundle, self_test, MS, clock=lambda: 5)
    for failure in range(3):
        shell.inject = 4
        with pytest.raises(FabricFault):
            engine.infer(picture(bundle), bench.LATER_NS)
        assert engine.broken is (failure == 2)
        if failure < 2:
            engine.infer(picture(bundle), bench.LATER_NS)


def test_what_does_not_recover_is_programmed_again_the_next_time(ready, bundle):
    accelerator, shell, system = ready
    now = [0]
    engine = MandatoryEngine(accelerator, Standby(), bundle, self_test, MS, 5 * MS, clock=lambda: now[0])
    shell.memory_hangs = True
    with pytest.raises(AcceleratorTimeout):
        engine.infer(picture(bundle), bench.LATER_NS)
    engine.take_over(now[0])
    now[0] += 10**10
    downloads = system.pynq.downloads
    assert not engine.repair() and system.pynq.downloads == downloads
    now[0] += 10**10
    assert not engine.may_repair(now[0], now[0] + 4 * MS)  # opening anew takes longer than a reset
    assert engine.may_repair(now[0], now[0] + 10**12) and engine.repair() and system.pynq.downloads == downloads + 1
    assert right(accelerator, bundle)


def test_every_fault_is_an_error_of_one_line_with_a_next_step(ready, bundle):
    accelerator, shell, system = ready
    faults = [lambda: setattr(shell, "core_hangs", 1), lambda: setattr(shell, "inject", 1), lambda: setattr(system, "state", "unknown")]
    for inject in faults:
        inject()
        with pytest.raises(EdgertError) as caught:
            accelerator.infer(picture(bundle), bench.LATER_NS)
        assert "\n" not in str(caught.value) and caught.value.next_step
    system.state = "operating"


def test_detection_costs_no_wall_time_beyond_the_simulation(ready, bundle):
    accelerator, shell, _ = ready
    shell.core_hangs = 1
    start = time.monotonic()
    with pytest.raises(AcceleratorTimeout):
        accelerator.infer(picture(bundle), time.monotonic_ns() + 3600 * 10**9)
    assert time.monotonic() - start < 20  # and not an hour


def test_readmission_asks_for_the_frame_that_fails_and_for_the_time_after_it():
    from imprecise.model import Stage, Stream
    from imprecise.question import Question

    for deadline_ms, alone, frame in ((10, True, True), (6, True, False), (4, False, False)):
        stream = Stream("s", 20 * MS, deadline_ms * MS, (Stage("m", "fpga", True, MS, MS),))
        assert readmit(Question((stream,), {"fpga": 1}, 0), MS, 5 * MS) == Fallback(alone, frame, 7 * MS)

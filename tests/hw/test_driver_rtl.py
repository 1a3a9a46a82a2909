"""The board's driver on the generated hardware under Verilator: answers, errors and recovery as on the fake shell, which is held to it."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import driver_bench as bench
from edgert import accelerators
from edgert.accelerators import _facade, self_test
from edgert.accelerators.rtl import RtlAccelerator
from edgert.bundle import load
from edgert.errors import AcceleratorError, AcceleratorTimeout, FabricFault
from gateware.folding import CHIPS, Search
from gateware.generate import generate
from gateware.shell_model import ShellModel
from modelkit.ternary import reference

pytestmark = pytest.mark.hw
MS = 1_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bench.toy(tmp_path_factory.mktemp("driver") / "toy")


@pytest.fixture(scope="module")
def directory(bundle, tmp_path_factory):
    """The generated hardware of the small bundle."""
    home = tmp_path_factory.mktemp("rtl") / "toy"
    generate(Search(bundle.network, CHIPS["pynq-z2"]).least_luts(600), home, "pynq-z2", 100_000_000, bundle.arrays("golden.npz"))
    return home


@pytest.fixture
def model(directory):
    return ShellModel(directory)


@pytest.fixture
def ready(bundle, model, tmp_path):
    """(accelerator, the hardware, its system)."""
    accelerator, _, system = bench.opened(bundle, tmp_path, model)
    yield accelerator, model, system
    model.slow()
    model.refuse(0, 0)
    accelerator.close()


def picture(bundle):
    return bundle.arrays("frames.npz")["frames"][0]


def right(accelerator, bundle):
    return self_test(accelerator, bundle) == 24


def test_every_picture_equals_the_reference_one_by_one_and_streamed(ready, bundle):
    accelerator, model, _ = ready
    frames = bundle.arrays("frames.npz")["frames"]
    expected = reference.forward(bundle.network, frames)
    begin = model.cycles
    assert np.array_equal([accelerator.infer(frame, bench.LATER_NS) for frame in frames], expected)
    single = model.cycles - begin
    assert np.array_equal(list(accelerator.stream(frames)), expected)
    assert model.cycles - begin - single < single  # one is read while another computes
    assert all(finding[1] for finding in accelerator.hardware_checks(bundle))


@pytest.mark.parametrize("latency, pause", [(40, 0.0), (3, 0.5), (25, 0.8)])
def test_a_slow_memory_changes_no_answer(ready, bundle, latency, pause):
    accelerator, model, _ = ready
    model.slow(latency, pause)
    accelerator.budget_ns = 10 * MS
    accelerator.driver.limit(accelerator.budget_ns)
    assert right(accelerator, bundle)


def test_a_memory_that_never_answers_is_a_timeout_and_the_hardware_reset_helps(ready, bundle):
    accelerator, model, system = ready
    model.slow(pause=1.0)
    error, took_ns = bench.within(model, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout) and took_ns > accelerator.budget_ns // 2
    error, _ = bench.within(model, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, AcceleratorTimeout) and "come to rest" in error.message
    model.slow()
    downloads = system.pynq.downloads
    assert accelerator.recover(bundle) == 24 and system.pynq.downloads == downloads  # it drains as soon as memory answers again


def test_a_memory_that_answers_late_is_drained_by_the_reset(ready, bundle):
    accelerator, model, _ = ready
    model.slow(latency=accelerator.budget_ns // 10 + 5000)
    with pytest.raises(AcceleratorTimeout):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    model.slow()
    assert right(accelerator, bundle)


@pytest.mark.parametrize("of, words", [("source", "read refused"), ("target", "write refused")])
def test_a_memory_that_refuses_is_named(ready, bundle, of, words):
    accelerator, model, _ = ready
    accelerator.driver.reset()
    low = accelerator.driver._slots[0].physical_address + (64 if of == "target" else 0)
    model.refuse(low, low + 8)
    error, _ = bench.within(model, accelerator.budget_ns + MS, lambda: accelerator.infer(picture(bundle), bench.LATER_NS))
    assert isinstance(error, FabricFault) and words in error.message
    model.refuse(0, 0)
    assert right(accelerator, bundle)


def test_the_watchdog_a_busy_slot_and_a_wrong_address_are_named(ready, bundle):
    accelerator, model, _ = ready
    driver = accelerator.driver
    driver.limit(1000)  # ns: no frame is so fast
    with pytest.raises(AcceleratorTimeout, match="watchdog"):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    driver.limit(accelerator.budget_ns)
    driver.reset()
    driver._begin(picture(bundle))
    model.write(0x40, 1)  # again
    with pytest.raises(FabricFault, match="start of a busy slot"):
        driver._finish(0, driver.port.now_ns() + accelerator.budget_ns)
    driver.reset()
    model.write(0x60, 0x1000)
    with pytest.raises(FabricFault, match="address outside the window"):
        accelerator.infer(picture(bundle), bench.LATER_NS)
    assert right(accelerator, bundle)


def test_what_a_dead_process_left_on_its_way_is_drained_before_anything_else(bundle, model, tmp_path):
    first, _, system = bench.opened(bundle, tmp_path, model)
    first.driver._begin(picture(bundle))
    model.run(10)
    assert model.read(0x44) & 3
    first._lock.release()  # as the kernel does; nothing else is cleaned up
    second = bench.Driven(system, tmp_path / "bitstreams")
    second.open(bundle)
    assert system.pynq.downloads == 1 and right(second, bundle)
    memory = model.memory.copy()
    model.run(20_000)
    assert np.array_equal(model.memory, memory)
    second.close()


def test_the_fake_shell_does_what_the_hardware_does(bundle, model):
    """The same writes, then the same reads at rest: 300 random steps."""
    fake = bench.shell(bundle)
    both = (fake, model)
    rng = np.random.default_rng(5)
    base = fake.base
    assert base == model.base
    fake.run(100)
    compared = 0
    kinds = {"start": 0.4, "ack": 0.15, "place": 0.2, "window": 0.1, "reset": 0.03, "clear": 0.06, "enable": 0.03, "timeout": 0.03}
    for step in range(300):
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
        if kind == "start":
            frame = rng.integers(0, 256, 64, dtype=np.uint8)
            slots = int(rng.integers(1, 4))
            for slot in (0, 1):
                for shell in both:
                    at = shell.read(0x60 + 8 * slot) - base
                    if 0 <= at < len(fake.memory) - 64:
                        shell.memory[at:at + 64] = frame
            write = (0x40, slots)
        elif kind == "ack":
            write = (0x4C, int(rng.integers(0, 16)))
        elif kind == "place":
            odd = 4 if rng.random() < 0.1 else 0
            write = (int(rng.choice([0x60, 0x64, 0x68, 0x6C])), base + 8 * int(rng.integers(0, 1000)) + odd)
        elif kind == "window":
            write = (0x54, base) if rng.random() < 0.5 else (0x58, base + int(rng.integers(4000, 9000)) // 8 * 8)
        else:
            write = {"reset": (0x40, 4), "clear": (0x48, int(rng.integers(0, 128))), "enable": (0x50, int(rng.integers(0, 4))),
                     "timeout": (0x5C, int(rng.choice([0, 100_000])))}[kind]
        for shell in both:
            shell.write(*write)
            shell.run(2500)  # to rest
        for offset in (*range(0, 0x38, 4), 0x3C, 0x40, 0x44, 0x48, 0x4C, *range(0x50, 0x70, 4), 0x78, 0x7C, 0x100):
            found, expected = fake.read(offset), model.read(offset)
            assert found == expected, f"step {step}, {kind} {write[0]:#x} {write[1]:#x}: {offset:#x}: {found:#x}, hardware {expected:#x}"
        assert fake.irq == model.irq
        assert np.array_equal(fake.memory[:16384], model.memory[:16384])
        compared += 1
    assert compared == 300 and fake.starts > 50 and fake.resets > 2


# The accelerator `rtl` ------------------------------------------------------------------------------------------------


@pytest.fixture
def rtl(bundle, directory, monkeypatch):
    monkeypatch.setenv("EDGERT_RTL", str(directory))
    accelerator, why = accelerators.choose("rtl", bundle)
    yield accelerator, why
    accelerator.close()


def test_rtl_is_exact_keeps_its_promise_and_counts_what_it_cannot_keep(rtl, bundle):
    accelerator, why = rtl
    assert "under Verilator" in why and "87 us of transport assumed" in why and accelerator.emulated
    frames = bundle.arrays("frames.npz")["frames"]
    accelerator.reset_counts()
    begin_ns = time.monotonic_ns()
    found = [accelerator.infer(frame, bench.LATER_NS) for frame in frames]
    took_ns = time.monotonic_ns() - begin_ns
    assert np.array_equal(found, reference.forward(bundle.network, frames))
    assert accelerator.inferences == len(frames) and took_ns >= len(frames) * 87_000
    assert accelerator.promised_ns == accelerator.cycles * 10 + 87_000 or accelerator.promised_ns >= accelerator.cycles * 10 + 87_000
    wcet_ns, source = accelerator.wcet_ns()
    assert wcet_ns >= accelerator.promised_ns and "the hardware would take" in source and "assumed" in source


def test_rtl_refuses_a_directory_of_another_model_or_one_that_was_changed(bundle, directory, tmp_path, monkeypatch):
    other = load(str(bench.small_bundle.make(tmp_path / "other", seed=7)))
    monkeypatch.setenv("EDGERT_RTL", str(directory))
    with pytest.raises(AcceleratorError, match=f"{bundle.model_id[:12]}.*{other.model_id[:12]}"):
        accelerators.choose("rtl", other)
    monkeypatch.setenv("EDGERT_RTL", str(tmp_path))
    with pytest.raises(AcceleratorError, match="edgert hw rtl"):
        accelerators.choose("rtl", bundle)


def test_a_run_on_rtl_says_emulated_and_that_its_figures_do_not_count(bundle, directory, tmp_path):
    command = [sys.executable, "-m", "edgert.cli", "run", str(bundle.path), "--accelerator", "rtl", "--rate", "5", "--deadline", "190ms",
               "--source", "dataset:toy", "--duration", "3s", "--json", "--best-effort", "--record", str(tmp_path / "run.db")]
    environment = {**os.environ, "EDGERT_RTL": str(directory), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    assert "RTL of the FPGA of pynq-z2" in done.stderr and "stand-by" in done.stderr
    figures = json.loads(done.stdout)
    assert done.returncode == (4 if "INVALID" in done.stderr else 0)
    assert "emulated" in json.dumps(figures)


def test_the_zoos_network_is_exact_in_hardware_on_all_golden_frames(monkeypatch):
    monkeypatch.delenv("EDGERT_RTL", raising=False)
    bundle = load("fashion")
    accelerator, why = accelerators.choose("rtl", bundle)
    golden = bundle.arrays("golden.npz")
    assert f"equal on {len(golden['frames'])} golden frames" in why and isinstance(accelerator, RtlAccelerator)
    assert np.array_equal(list(accelerator.stream(golden["frames"])), golden["logits"])
    accelerator.close()


def test_a_touch_of_the_unprogrammed_hardware_would_hang(bundle, model, tmp_path):
    system = bench.Board(model, tmp_path / "lock")
    with pytest.raises(_facade.Hangs):
        system.pynq.MMIO(bench.BOARD.register_base, 4096).read(0)

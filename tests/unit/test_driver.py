"""The board's driver on a simulated board: what it reads, in which order, what it gives back, and what it asks before touching anything."""

import sys
import time

import numpy as np
import pytest

import driver_bench as bench
import small_bundle
from edgert import accelerators
from edgert.accelerators import _bitstreams, _fabric, _facade, _promise, _shell_driver, self_test
from edgert.accelerators.pynq import PynqAccelerator
from edgert.errors import AcceleratorError, AcceleratorMissing, BitstreamRefused, FabricLost, UsageError
from modelkit.ternary import reference


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bench.toy(tmp_path_factory.mktemp("driver") / "toy")


@pytest.fixture
def ready(bundle, tmp_path):
    """(accelerator, its fake shell, its system)."""
    accelerator, shell, system = bench.opened(bundle, tmp_path)
    yield accelerator, shell, system
    accelerator.close()


# Answers --------------------------------------------------------------------------------------------------------------


def test_every_picture_equals_the_reference_one_by_one_and_streamed(ready, bundle):
    accelerator, _, _ = ready
    frames = bundle.arrays("frames.npz")["frames"]
    expected = reference.forward(bundle.network, frames)
    assert np.array_equal([accelerator.infer(frame, bench.LATER_NS) for frame in frames], expected)
    assert np.array_equal(list(accelerator.stream(frames)), expected)
    assert np.array_equal([accelerator.infer(frame, bench.LATER_NS) for frame in frames[:3]], expected[:3])


@pytest.mark.parametrize("shape", [(3, 5, 1), (7, 7, 1), (6, 6, 1), (5, 6, 3)])
def test_frames_that_fill_no_word_are_right(tmp_path, shape):
    bundle = bench.load(str(small_bundle.make(tmp_path / "odd", shape=shape)))
    accelerator, shell, _ = bench.opened(bundle, tmp_path)
    assert self_test(accelerator, bundle) == 24 and shell.frame_bytes % 8
    accelerator.close()


def test_streaming_overlaps_reading_and_computing(ready, bundle):
    accelerator, shell, _ = ready
    frames = bundle.arrays("frames.npz")["frames"]
    begin = shell.cycles
    list(accelerator.stream(frames))
    streamed = shell.cycles - begin
    for frame in frames:
        accelerator.infer(frame, bench.LATER_NS)
    assert streamed < 0.85 * (shell.cycles - begin - streamed)


def test_a_stream_that_is_left_early_leaves_nothing_behind(ready, bundle):
    accelerator, shell, _ = ready
    frames = bundle.arrays("golden.npz")["frames"]
    stream = accelerator.stream(frames)
    next(stream), next(stream)
    stream.close()
    resets = shell.resets
    assert self_test(accelerator, bundle) == 24 and shell.resets == resets + 1


def test_answers_are_copies(ready, bundle):
    accelerator, _, _ = ready
    frames = bundle.arrays("golden.npz")["frames"]
    first = accelerator.infer(frames[0], bench.LATER_NS)
    kept = first.copy()
    for frame in frames[1:6]:
        accelerator.infer(frame, bench.LATER_NS)
    assert np.array_equal(first, kept) and not any(np.shares_memory(first, slot) for slot in accelerator.driver._slots)
    first[:] = 77  # and may be written to
    assert np.array_equal(accelerator.infer(frames[0], bench.LATER_NS), kept)


def test_a_frame_in_any_memory_order_is_taken_a_wrong_one_is_refused(ready, bundle):
    accelerator, shell, _ = ready
    frame = bundle.arrays("golden.npz")["frames"][0]
    turned = np.asfortranarray(np.ascontiguousarray(frame[::-1, ::-1])[::-1, ::-1])
    assert np.array_equal(accelerator.infer(turned, bench.LATER_NS), accelerator.infer(frame, bench.LATER_NS))
    starts = shell.starts
    for bad in (frame.astype(np.float32), frame[:, :, 0], frame[:4]):
        with pytest.raises(AcceleratorError, match="the network takes uint8"):
            accelerator.infer(bad, bench.LATER_NS)
    assert shell.starts == starts


def test_a_deadline_that_is_over_already_does_not_blame_the_hardware(ready, bundle):
    accelerator, _, _ = ready
    assert accelerator.infer(bundle.arrays("golden.npz")["frames"][0], time.monotonic_ns() - 10**9).dtype == np.int8


def test_a_machine_that_stalls_during_the_wait_still_finds_the_answer(bundle, tmp_path):
    accelerator, shell, system = bench.opened(bundle, tmp_path)
    frames = bundle.arrays("golden.npz")
    waits = []

    def stall(timeout_ns):
        waits.append(timeout_ns)
        shell.run(1_000_000)  # 10 ms instead of what was asked for

    system._interrupt.wait = stall
    assert np.array_equal(accelerator.infer(frames["frames"][0], bench.LATER_NS), frames["logits"][0]) and len(waits) == 1
    accelerator.close()


def test_one_stall_while_it_is_measured_does_not_become_the_worst_case(bundle, tmp_path):
    usual, _, _ = bench.opened(bundle, tmp_path, transport=None)

    class Stalls(bench.Board):
        stalled = 0

        def now_ns(self):
            self.stalled += 1
            if self.stalled == 60:
                self.model.run(5_000_000)  # 50 ms
            return super().now_ns()

    accelerator = bench.Driven(Stalls(bench.shell(bundle), transport=None), bench.bitstreams(tmp_path / "b", bundle))
    accelerator.open(bundle)
    assert accelerator.wcet_ns()[0] < 2 * usual.wcet_ns()[0]
    usual.close()
    accelerator.close()


def test_the_master_may_touch_the_drivers_memory_only(ready):
    accelerator, shell, _ = ready
    low, high = shell.read(_shell_driver.WINDOW_LOW), shell.read(_shell_driver.WINDOW_HIGH)
    assert shell.base + _facade.FIRST_BYTES <= low < high <= shell.base + _facade.FIRST_BYTES + 4096
    assert low % 64 == 0 and high - low == 2 * (64 + 64)
    assert [slot.physical_address for slot in accelerator.driver._slots] == [low, low + 128]


def test_closed_it_refuses_gives_its_memory_back_and_opens_again_without_loading(bundle, tmp_path):
    accelerator, _, system = bench.opened(bundle, tmp_path)
    memory = accelerator.driver._memory
    accelerator.close()
    accelerator.close()
    assert memory.freed
    for call in (lambda: accelerator.infer(None, 0), lambda: next(accelerator.stream([])), accelerator.wcet_ns):
        with pytest.raises(AcceleratorError, match="not open"):
            call()
    accelerator.open(bundle)
    assert self_test(accelerator, bundle) == 24 and system.pynq.downloads == 1
    accelerator.close()


def test_memory_of_a_fabric_that_does_not_come_to_rest_is_kept(ready):
    accelerator, shell, _ = ready
    memory = accelerator.driver._memory
    accelerator.driver._begin(np.zeros((8, 8, 1), np.uint8))
    shell.memory_hangs = True
    accelerator.close()
    assert not memory.freed and any(kept is memory for kept in _shell_driver._KEPT)


# Time -----------------------------------------------------------------------------------------------------------------


def test_the_worst_case_is_cycles_and_transport_and_says_which_is_assumed(ready):
    accelerator, _, _ = ready
    wcet_ns, source = accelerator.wcet_ns()
    assert wcet_ns == int(accelerator.cycles * 1.05) * 10 + _promise.TRANSPORT_NS
    assert "assumed" in source and f"{accelerator.cycles} cycles at 100 MHz" in source
    assert 700 <= accelerator.cycles < 800 and accelerator.budget_ns >= wcet_ns


def test_transport_is_measured_where_there_is_hardware(bundle, tmp_path):
    accelerator, _, _ = bench.opened(bundle, tmp_path, transport=None)
    wcet_ns, source = accelerator.wcet_ns()
    assert "measured, times 3" in source and wcet_ns > 8 * 3 * 10 * _shell_driver.MAJOR
    accelerator.close()


def test_a_promise_is_kept_and_what_comes_late_is_counted():
    promise = _promise.Promise()
    due_ns = time.monotonic_ns() + 3_000_000
    promise.keep(due_ns)
    assert time.monotonic_ns() >= due_ns
    promise.keep(time.monotonic_ns() - 2 * _promise.TOLERANCE_NS)
    assert promise.inferences == 2 and promise.overshoots >= 1
    promise.reset_counts()
    assert promise.overshoot_ratio == 0


# Telling --------------------------------------------------------------------------------------------------------------


def test_the_hardware_checks_name_everything_open_and_closed(bundle, tmp_path):
    accelerator, _, system = bench.opened(bundle, tmp_path)
    open_ones = list(accelerator.hardware_checks(bundle))
    accelerator.close()
    closed_ones = list(accelerator.hardware_checks(bundle))
    names = [name for name, *_ in open_ones]
    words = "device programmed clock reset connected id version board counter model sizes at rest".replace("at rest", "at_rest").split()
    assert names == [f"fabric {word.replace('_', ' ')}" for word in words]
    assert [name for name, *_ in closed_ones] == names and all(right for _, right, _, _ in [*open_ones, *closed_ones])
    assert accelerator.driver is None and system.pynq.downloads == 1


def test_status_and_errors_in_words():
    assert _shell_driver.decode_status(0) == "0x0 (idle)"
    assert _shell_driver.decode_status(0b10110) == "0x16 (slot 1 busy, slot 0 done, resetting)"
    assert _shell_driver.decode_status(1 << 9) == "0x200 (slot 1 failed)"
    assert _shell_driver.decode_errors(0) == "0x0 (none)"
    assert _shell_driver.decode_errors(0b1000101) == "0x45 (short frame, read refused, watchdog: busy longer than TIMEOUT)"


def test_about_says_board_clock_and_cycles(ready):
    assert ready[0].about() == f"FPGA of pynq-z2, 100 MHz, {ready[0].cycles} cycles a frame"
    assert PynqAccelerator().about() == "pynq, closed"


# The facade is as unforgiving as silicon ------------------------------------------------------------------------------


def test_registers_of_an_unprogrammed_fabric_hang(bundle):
    system = bench.Board(bench.shell(bundle))
    registers = system.pynq.MMIO(bench.BOARD.register_base, 4096)
    for access in (lambda: registers.read(0), lambda: registers.write(0x40, 4)):
        with pytest.raises(_facade.Hangs):
            access()


def test_without_flush_or_invalidate_nothing_moves(bundle):
    shell = bench.shell(bundle)
    buffer = bench.Board(shell).pynq.allocate((64,), dtype=np.uint8)
    at = buffer.physical_address - shell.base
    buffer[8:16] = 3
    assert not shell.memory[at:at + 64].any()
    buffer[8:16].flush()
    assert shell.memory[at:at + 64].tolist() == [0] * 8 + [3] * 8 + [0] * 48
    shell.memory[at] = 9
    assert buffer[0] != 9
    buffer[:8].invalidate()
    assert buffer[0] == 9 and buffer[8:].physical_address == buffer.physical_address + 8
    with pytest.raises(ValueError, match="no piece"):
        buffer.copy().flush()


def test_a_driver_that_forgets_to_invalidate_fails_the_self_test(ready, bundle, monkeypatch):
    monkeypatch.setattr(_facade.Buffer, "invalidate", lambda self: None)
    with pytest.raises(AcceleratorError):
        self_test(ready[0], bundle)


def test_hp0_is_set_to_64_bits(ready):
    processor = ready[2].processor
    assert processor[_fabric.AFI0] & 1 == processor[_fabric.AFI0 + 0x14] & 1 == 0


# The machine ----------------------------------------------------------------------------------------------------------


def files(root, **content):
    """Files of a system, below `root`."""
    for path, text in {"sys/class/fpga_manager/fpga0/state": "operating\n", **content}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return _fabric.System(root)


@pytest.mark.parametrize("content, name", [
    ({"proc/device-tree/chosen/pynq_board": "Pynq-Z2\0"}, "pynq-z2"), ({"etc/environment": "PATH=/bin\nBOARD=Pynq-Z2\n"}, "pynq-z2"),
    ({"proc/device-tree/model": "TUL PYNQ-Z2\0"}, "pynq-z2"), ({"proc/device-tree/model": "ZynqMP ZCU102 Rev1.0\0"}, "zcu102")])
def test_a_board_is_known_by_what_the_system_says(tmp_path, content, name):
    assert files(tmp_path, **content).board().name == name


def test_a_board_that_is_unknown_or_none_is_said_to_be(tmp_path, monkeypatch):
    with pytest.raises(AcceleratorMissing, match="no FPGA"):
        _fabric.System(tmp_path / "desktop").board()
    system = files(tmp_path, **{"proc/device-tree/model": "Ultra96"})
    with pytest.raises(AcceleratorMissing, match="Ultra96"):
        system.board()
    monkeypatch.setenv("EDGERT_BOARD", "PYNQ-Z2")
    assert system.board().name == "pynq-z2"
    monkeypatch.setenv("EDGERT_BOARD", "pinq")
    with pytest.raises(UsageError, match="pynq-z2, zcu102"):
        system.board()


def test_the_state_of_the_fpga_is_read_anew_each_time(tmp_path):
    system = files(tmp_path)
    assert system.fpga_state() == "operating"
    (tmp_path / "sys/class/fpga_manager/fpga0/state").write_text("write init\n")
    assert system.fpga_state() == "write init"
    system.close()
    assert _fabric.System(tmp_path / "nothing").fpga_state() == "unknown"


def test_on_a_desktop_pynq_is_refused_before_it_is_imported(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", None)
    accelerator = accelerators.make("pynq")
    assert accelerator.hardware and not accelerator.emulated
    with pytest.raises(AcceleratorMissing, match="no FPGA"):
        accelerator.open(bundle)
    assert "pynq" in accelerators.by_rank() and "rtl" not in accelerators.by_rank()


def test_where_pynq_is_not_installed_the_next_step_is_its_image(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(AcceleratorMissing, match="cannot be imported"):
        _ = files(tmp_path).pynq


def test_checks_and_the_quick_look_agree(bundle, tmp_path):
    rng = np.random.default_rng(3)
    system = bench.Board(bench.shell(bundle))
    good = {_fabric.SLCR + _fabric.FPGA0_CLK_CTRL: 5 << 20 | 2 << 8, _fabric.SLCR + _fabric.FPGA0_THR_CNT: 0,
            _fabric.SLCR + _fabric.FPGA_RST_CTRL: 0, _fabric.SLCR + _fabric.LVL_SHFTR_EN: 0xF}
    fabric = _fabric.Fabric(system, bench.BOARD)
    seen = set()
    for _ in range(200):
        system.state = str(rng.choice(["operating"] * 5 + ["unknown"]))
        system.processor.update({key: int(value if rng.random() < 0.8 else rng.integers(0, 1 << 32)) for key, value in good.items()})
        asked = all(right for _, right, _, _ in fabric.checks())
        assert fabric.there() == asked
        seen.add(asked)
    assert seen == {True, False}
    system.state = "unknown"
    with pytest.raises(FabricLost):
        fabric.require()


# Bitstreams -----------------------------------------------------------------------------------------------------------


def test_parts_are_compared_whoever_wrote_them():
    assert {_bitstreams.plain_part(p) for p in ("7z020clg400", "xc7z020clg400-1", "XC7Z020-CLG400-1")} == {"7z020clg400"}
    assert _bitstreams.plain_part("7z010clg400") != _bitstreams.plain_part("xc7z020clg400-1")
    assert _bitstreams.plain_part("xczu9eg-ffvb1156-2-e") == "zu9egffvb1156"


@pytest.mark.parametrize("damage", [lambda b: b[:10], lambda b: b"", lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"\xff" * 64])
def test_a_header_that_makes_no_sense_is_refused(tmp_path, damage):
    good = _facade.bit_file("7z020clg400", b"data")
    assert _bitstreams.bit_header(good, tmp_path) == "7z020clg400"
    with pytest.raises(BitstreamRefused):
        _bitstreams.bit_header(damage(good), tmp_path)


def test_a_manifest_that_names_files_elsewhere_is_refused(bundle, tmp_path):
    manifest = {"format": 1, "board": "pynq-z2", "part": bench.BOARD.part, "model_id": bundle.model_id, "files": {"../x.bit": "0" * 64}}
    with pytest.raises(BitstreamRefused, match="plain file names"):
        _bitstreams.check(tmp_path, manifest, "pynq-z2", bench.BOARD.part, bundle.model_id)


def test_the_first_root_that_has_the_model_counts(bundle, tmp_path, monkeypatch):
    first, second = bench.bitstreams(tmp_path / "1", bundle), bench.bitstreams(tmp_path / "2", bundle)
    (first / "pynq-z2/broken").mkdir()
    (first / "pynq-z2/broken/manifest.json").write_text("{")
    assert _bitstreams.find("pynq-z2", bundle.model_id, [tmp_path / "0", second, first])[0].parent.parent == second
    monkeypatch.setenv("EDGERT_BITSTREAMS", f"{first}:{second}")
    assert _bitstreams.roots(bundle)[:3] == [first, second, bundle.path / "bitstreams"]
    home = second / "pynq-z2/simulated"
    assert _bitstreams.find("pynq-z2", bundle.model_id, [home])[0] == home  # as `edgert hw bitstream` writes it
    with pytest.raises(AcceleratorMissing, match="no manifest that can be read"):
        _bitstreams.find("pynq-z2", "00" * 32, [first])

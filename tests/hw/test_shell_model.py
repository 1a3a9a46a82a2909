"""The shell around a stand-in core, under Verilator: registers, slots, memory of every mood, errors, resets."""

import numpy as np
import pytest

import shell_standin as s
from gateware.shell_model import ModelError, ShellModel

pytestmark = pytest.mark.hw


@pytest.fixture(scope="module", params=[(784, 10), (1021, 277)], ids=["784-10", "1021-277"])
def built(request, tmp_path_factory):
    return ShellModel(s.write_standin(tmp_path_factory.mktemp("shell"), *request.param))


@pytest.fixture
def driver(built):
    return s.Driver(built)


def frames_of(driver, count, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, driver.frame_bytes), dtype=np.uint8)


def test_constants_say_what_was_generated(driver):
    read = driver.model.read
    assert (read(s.ID), read(s.VERSION), read(s.BOARD), read(s.CLOCK_HZ)) == (0x45444752, 0x10000, 1, 100_000_000)
    assert b"".join(read(s.MODEL + 4 * i).to_bytes(4, "big") for i in range(8)).hex() == s.MODEL_ID
    assert (driver.frame_bytes, driver.answer_bytes) in ((784, 10), (1021, 277))
    first = read(s.CLOCK)
    driver.model.run(100)
    assert read(s.CLOCK) - first > 100


def test_unknown_offsets_read_0_and_ignore_writes(driver):
    before = [driver.model.read(4 * i) for i in range(14)]
    for offset in (0x3C, 0x40, 0x4C, 0x7C, 0x80, 0x100, 0x860, 0xFFC):
        if offset != 0x40:
            driver.model.write(offset, 0xFFFFFFFF)
        assert driver.model.read(offset) == 0
    for offset in (*range(0, 0x3C, 4), 0x44, 0x70, 0x74, 0x78):
        driver.model.write(offset, 0xFFFFFFFF)
    assert [driver.model.read(4 * i) for i in range(14)] == before
    assert driver.status() == 0
    assert driver.model.read(s.ANSWERS) == 0


@pytest.mark.parametrize(("latency", "pause"), [(0, 0.0), (40, 0.0), (3, 0.5), (60, 0.95)])
def test_answers_are_right_at_every_alignment_and_pace_of_the_memory(driver, latency, pause):
    driver.model.slow(latency, pause, seed=latency + 1)
    rng = np.random.default_rng(latency)
    for number, frame in enumerate(frames_of(driver, 12, seed=latency)):
        source, target = 8 * rng.integers(0x200, 0x800), 0x10000 + 8 * rng.integers(0, 0x400)
        if number == 0:
            source, target = 0x2000 - 8, 0x20000 - 8  # the first burst has a single beat before 4 kB
        driver.model.memory[0x10000:0x30000] = 0x55
        got = driver.one(number % 2, frame, source, target)
        assert (got == s.expected(frame, driver.answer_bytes)).all()
        around = driver.model.memory[0x10000:0x30000].copy()
        around[target - 0x10000:target - 0x10000 + len(got)] = 0x55
        assert (around == 0x55).all()
    assert driver.model.read(s.ANSWERS) == 12
    assert driver.model.read(s.ERRORS) == 0


def test_bytes_behind_a_frame_do_not_reach_the_core(driver):
    frame = frames_of(driver, 1)[0]
    for filler in (0x00, 0xFF):
        driver.model.memory[:] = filler
        assert (driver.one(0, frame) == s.expected(frame, driver.answer_bytes)).all()


def test_while_one_frame_is_answered_the_next_is_read(driver):
    first, second = frames_of(driver, 2)
    driver.model.slow(latency=50)
    driver.one(0, first)
    alone = driver.model.read(s.CYCLES[0])
    driver.prepare(0, first, 0x1000, 0x8000)
    driver.prepare(1, second, 0x4000, 0x9000)
    start = driver.model.cycles
    driver.model.write(s.CONTROL, 3)
    driver.model.write(s.IRQ_ENABLE, 1)
    assert driver.model.run_until_irq(100_000)
    assert driver.status() & 0xF == 0b0110
    driver.wait(8, 8)
    assert driver.model.cycles - start < 2 * alone
    assert (driver.answer(0x8000) == s.expected(first, driver.answer_bytes)).all()
    assert (driver.answer(0x9000) == s.expected(second, driver.answer_bytes)).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_slots_are_served_in_the_order_of_their_starts(driver, order):
    driver.model.slow(latency=20)
    for slot, frame in zip(order, frames_of(driver, 2)):
        driver.prepare(slot, frame, 0x1000 * (slot + 1), 0x8000 + 0x1000 * slot)
    for slot in order:
        driver.model.write(s.CONTROL, 1 << slot)
    driver.model.write(s.IRQ_ENABLE, 1)
    assert driver.model.run_until_irq(100_000)
    assert driver.status() & 0xC == 4 << order[0]
    driver.wait(0xC, 0xC)
    assert driver.model.read(s.CYCLES[order[1]]) > driver.model.read(s.CYCLES[order[0]])


def test_cycles_count_from_start_to_the_answer(driver):
    driver.prepare(0, frames_of(driver, 1)[0], 0x1000, 0x8000)
    driver.model.write(s.IRQ_ENABLE, 1)
    start = driver.model.cycles
    driver.model.write(s.CONTROL, 1)
    assert driver.model.run_until_irq(100_000)
    assert 0 <= driver.model.cycles - start - driver.model.read(s.CYCLES[0]) <= 8


def test_the_interrupt_is_a_level_until_done_is_acknowledged_or_the_error_cleared(driver):
    frame = frames_of(driver, 1)[0]
    driver.prepare(0, frame, 0x1000, 0x8000)
    driver.model.write(s.CONTROL, 1)
    driver.wait(4, 4)
    assert not driver.model.irq  # not enabled
    driver.model.write(s.IRQ_ENABLE, 3)
    driver.model.run(2)
    assert driver.model.irq
    driver.model.write(s.ACK, 8)  # another slot's
    driver.model.run(4)
    assert driver.model.irq
    driver.model.write(s.ACK, 4)
    driver.model.run(4)
    assert not driver.model.irq
    driver.model.write(s.SOURCE[0], driver.model.base + 4)
    driver.model.write(s.CONTROL, 1)
    driver.model.run(20)
    assert driver.model.irq
    assert driver.model.read(s.ERRORS) == 0x10
    driver.model.write(s.ERRORS, 0x0F)
    assert driver.model.read(s.ERRORS) == 0x10
    driver.model.write(s.ERRORS, 0x10)
    driver.model.run(4)
    assert driver.model.read(s.ERRORS) == 0
    assert not driver.model.irq


def refused(driver, source, target):
    """Whether a START at these physical addresses is refused, with nothing read or written."""
    driver.model.write(s.SOURCE[0], source)
    driver.model.write(s.TARGET[0], target)
    beats = driver.model.beats
    driver.model.write(s.CONTROL, 1)
    driver.wait(1, 0)
    failed = driver.status() & 0x10D == 0x100 and driver.model.read(s.ERRORS) == 0x10
    assert failed == (driver.model.beats == beats)
    driver.model.write(s.ERRORS, 0x7F)
    driver.model.write(s.ACK, 0xC)
    return failed


def test_addresses_outside_the_window_or_not_multiples_of_8_are_refused(driver):
    base, room = driver.model.base, -(-driver.frame_bytes // 8) * 8
    space = -(-driver.answer_bytes // 8) * 8
    low, high = base + 0x1000, base + 0x3000
    driver.model.write(s.LOW, low)
    driver.model.write(s.HIGH, high)
    good = base + 0x2000
    assert not refused(driver, low, good)
    assert not refused(driver, high - room, good)
    assert not refused(driver, good, low)
    assert not refused(driver, good, high - space)
    for source in (low - 8, high - room + 8, high, low + 1, low + 2, low + 4, 0, 0xFFFFFFF8):
        assert refused(driver, source, good), hex(source)
    for target in (low - 8, high - space + 8, high, low + 4, 0xFFFFFFF8):
        assert refused(driver, good, target), hex(target)
    driver.model.write(s.HIGH, low)
    assert refused(driver, low, low)


def test_a_closed_window_is_what_a_reset_leaves(driver):
    driver.model.write(s.CONTROL, 4)
    driver.wait(16, 0)
    assert refused(driver, driver.model.base, driver.model.base)


def test_a_refused_read_fails_its_slot_writes_nothing_and_spares_the_next(driver):
    first, second, third = frames_of(driver, 3)
    bad = driver.model.base + 0x1000 + (driver.frame_bytes // 8) * 8  # its last word
    driver.model.refuse(bad, bad + 1, writes=False)
    driver.prepare(0, first, 0x1000, 0x8000)
    driver.prepare(1, second, 0x4000, 0x9000)
    driver.model.memory[0x8000:0x8400] = 0x77
    driver.model.write(s.CONTROL, 3)
    status = driver.wait(3, 0)
    if driver.frame_bytes % 8 == 0:  # the refused word lies behind the frame
        assert status == 0b1100
        return
    assert status == 0x108  # slot 0 failed, slot 1 done
    assert driver.model.read(s.ERRORS) == 4
    assert (driver.model.memory[0x8000:0x8400] == 0x77).all()
    assert (driver.answer(0x9000) == s.expected(second, driver.answer_bytes)).all()
    assert driver.model.read(s.ANSWERS) == 1
    driver.model.refuse(0, 0)
    driver.model.write(s.ACK, 8)
    assert (driver.one(0, third) == s.expected(third, driver.answer_bytes)).all()
    assert driver.status() == 0


@pytest.mark.parametrize("where", [0, 400, 776])
def test_a_refused_word_anywhere_is_noticed(driver, where):
    bad = driver.model.base + 0x1000 + where
    driver.model.refuse(bad, bad + 1, writes=False)
    driver.prepare(1, frames_of(driver, 1)[0], 0x1000, 0x8000)
    driver.model.write(s.CONTROL, 2)
    assert driver.wait(2, 0) == 0x200
    assert driver.model.read(s.ERRORS) == 4


def test_a_refused_write_fails_its_slot_and_spares_the_next(driver):
    first, second = frames_of(driver, 2)
    driver.model.refuse(driver.model.base + 0x8000, driver.model.base + 0x8008, reads=False)
    driver.prepare(0, first, 0x1000, 0x8000)
    driver.prepare(1, second, 0x4000, 0x9000)
    driver.model.write(s.CONTROL, 3)
    assert driver.wait(3, 0) == 0x108
    assert driver.model.read(s.ERRORS) == 8
    assert (driver.answer(0x9000) == s.expected(second, driver.answer_bytes)).all()
    assert driver.model.read(s.ANSWERS) == 1


def test_memory_that_is_not_there_is_an_error_and_not_a_hang(driver):
    driver.model.write(s.HIGH, 0xFFFFFFF8)
    driver.model.write(s.SOURCE[0], driver.model.base + len(driver.model.memory))
    driver.model.write(s.TARGET[0], driver.model.base)
    driver.model.write(s.CONTROL, 1)
    assert driver.wait(1, 0) == 0x100
    assert driver.model.read(s.ERRORS) == 4


def test_a_start_of_a_busy_slot_is_an_error_and_changes_nothing(driver):
    frame = frames_of(driver, 1)[0]
    driver.model.slow(latency=200)
    driver.prepare(0, frame, 0x1000, 0x8000)
    driver.model.write(s.CONTROL, 1)
    driver.model.write(s.CONTROL, 1)
    assert driver.model.read(s.ERRORS) == 0x20
    assert driver.wait(1, 0) == 4
    assert (driver.answer(0x8000) == s.expected(frame, driver.answer_bytes)).all()
    driver.model.run(3000)
    assert driver.model.read(s.ANSWERS) == 1


def test_what_a_busy_slot_uses_cannot_be_written(driver):
    driver.model.slow(latency=500)
    driver.prepare(0, frames_of(driver, 1)[0], 0x1000, 0x8000)
    names = (s.LOW, s.HIGH, s.SOURCE[0], s.TARGET[0])
    before = [driver.model.read(name) for name in names]
    driver.model.write(s.CONTROL, 1)
    for name in (*names, s.SOURCE[1], s.TARGET[1], s.TIMEOUT):
        driver.model.write(name, 0x1234568)
    assert driver.status() & 1
    assert [driver.model.read(name) for name in names] == before
    assert [driver.model.read(name) for name in (s.SOURCE[1], s.TARGET[1], s.TIMEOUT)] == [0x1234568] * 3
    driver.wait(1, 0)
    driver.model.write(s.SOURCE[0], 0x1234568)
    assert driver.model.read(s.SOURCE[0]) == 0x1234568


def test_the_watchdog_speaks_once_for_a_slot_that_is_busy_too_long(driver):
    driver.model.slow(latency=3000)
    driver.prepare(0, frames_of(driver, 1)[0], 0x1000, 0x8000)
    driver.model.write(s.TIMEOUT, 1000)
    driver.model.write(s.IRQ_ENABLE, 2)
    start = driver.model.cycles
    driver.model.write(s.CONTROL, 1)
    assert driver.model.run_until_irq(5000)
    assert 1000 <= driver.model.cycles - start < 1020
    assert driver.model.read(s.ERRORS) == 0x40
    driver.model.write(s.ERRORS, 0x40)
    driver.wait(1, 0)
    assert driver.model.read(s.ERRORS) == 0
    driver.model.slow()
    driver.model.write(s.ACK, 4)
    driver.one(0, frames_of(driver, 1)[0])
    assert driver.model.read(s.ERRORS) == 0


def cleared(driver):
    """Whether every register is as after the hardware reset."""
    names = (s.STATUS, s.ERRORS, s.IRQ_ENABLE, s.LOW, s.HIGH, s.TIMEOUT, *s.SOURCE, *s.TARGET, *s.CYCLES, s.ANSWERS)
    return {hex(name): driver.model.read(name) for name in names if driver.model.read(name)} == {}


def test_soft_reset_at_any_moment_drains_clears_and_the_next_frame_is_right(driver):
    frames = frames_of(driver, 3)
    rng = np.random.default_rng(5)
    lengths = set()
    for number in range(120):
        driver.model.slow(int(rng.integers(0, 60)), float(rng.choice([0.0, 0.3, 0.8])), seed=number + 1)
        driver.prepare(0, frames[0], 0x1000, 0x8000)
        driver.prepare(1, frames[1], 0x4000 - 24, 0x9000 - 8)
        driver.model.write(s.IRQ_ENABLE, 3)
        driver.model.write(s.TIMEOUT, 50)
        driver.model.write(s.CONTROL, 3)
        driver.model.run(int(rng.integers(0, 1500)))
        start = driver.model.cycles
        driver.model.write(s.CONTROL, 7)
        driver.wait(16, 0)
        lengths.add(driver.model.cycles - start)
        assert cleared(driver)
        assert not driver.model.irq
        before = driver.model.beats
        driver.model.run(400)
        assert driver.model.beats == before
        driver.open()
        assert (driver.one(number % 2, frames[2]) == s.expected(frames[2], driver.answer_bytes)).all()
        assert driver.model.read(s.ANSWERS) == 1
    assert len(lengths) > 5  # some had to wait for transfers


def test_writes_during_a_reset_are_answered_and_ignored(driver):
    driver.model.slow(latency=2000)
    driver.prepare(0, frames_of(driver, 1)[0], 0x1000, 0x8000)
    driver.model.write(s.CONTROL, 1)
    driver.model.run(200)
    driver.model.write(s.CONTROL, 4)
    assert driver.status() & 16
    driver.model.write(s.TIMEOUT, 77)
    driver.model.write(s.CONTROL, 1)
    driver.wait(16, 0)
    assert cleared(driver)


def test_the_memory_model_sees_what_a_shell_must_not_do(tmp_path):
    directory = s.write_standin(tmp_path, 784, 10)
    text = (directory / "shell.v").read_text()
    broken = text.replace("wire [4:0] line = 5'd16 - {1'b0, address[3:0]};", "wire [4:0] line = 5'd16;")
    assert broken != text
    (directory / "shell.v").write_text(broken.replace("{address[28:4] + 25'd1, 4'd0}", "address + {24'd0, burst}"))
    driver = s.Driver(ShellModel(directory))
    driver.prepare(0, np.zeros(784, np.uint8), 0x1FF8, 0x8000)
    driver.model.write(s.CONTROL, 1)
    with pytest.raises(ModelError, match="burst across 4 kB"):
        driver.model.run(1000)

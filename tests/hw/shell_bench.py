"""cocotb's side of test_shell_cocotb.py: cocotbext-axi is the processor and the memory, and a monitor knows the rules."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiBurstType, AxiBus, AxiMaster, AxiSlave

FRAME, ANSWER, BASE, SIZE = 100, 10, 0x10000000, 1 << 16
CONTROL, STATUS, ERRORS, LOW, HIGH, TIMEOUT = 0x40, 0x44, 0x48, 0x54, 0x58, 0x5C
SOURCE0, TARGET0, SOURCE1, TARGET1 = 0x60, 0x64, 0x68, 0x6C


class Memory:
    """Bytes from BASE on; refuses what it was told and what lies outside, and notes every access."""

    def __init__(self):
        self.bytes = bytearray(SIZE)
        self.refused = []
        self.touched = []

    def place(self, address, length, write):
        self.touched.append((address, length, write))
        if not BASE <= address <= BASE + SIZE - length:
            raise ValueError("outside")
        if any(low < address + length and address < high for low, high in self.refused):
            raise ValueError("refused")
        return address - BASE

    async def read(self, address, length):
        at = self.place(address, length, False)
        return bytes(self.bytes[at:at + length])

    async def write(self, address, data):
        at = self.place(address, len(data), True)
        self.bytes[at:at + len(data)] = data


def pauses(chance, seed):
    """Whether a channel rests, cycle by cycle."""
    draw = random.Random(seed)
    while True:
        yield draw.random() < chance


async def watch(dut):
    """Every rule of the master's side: what waits stays, bursts of at most 16 beats inside 4 kB, WLAST on the last beat, ids 0."""
    waits = {}
    asked, given = [], []       # beats of write bursts: by address, by WLAST; either may come first
    sent = 0
    while True:
        await RisingEdge(dut.clk)
        await ReadOnly()
        shown = {"ar": (dut.m_axi_araddr, dut.m_axi_arlen, dut.m_axi_arvalid, dut.m_axi_arready),
                 "aw": (dut.m_axi_awaddr, dut.m_axi_awlen, dut.m_axi_awvalid, dut.m_axi_awready),
                 "w": (dut.m_axi_wdata, dut.m_axi_wlast, dut.m_axi_wvalid, dut.m_axi_wready)}
        for name, (first, second, valid, ready) in shown.items():
            now = (int(first.value), int(second.value)) if int(valid.value) else None
            if name in waits:
                assert now == waits[name], f"{name} changed while it waited"
            waits.pop(name, None)
            if now and not int(ready.value):
                waits[name] = now
            if now and name != "w":
                address, length = now
                assert address % 8 == 0
                assert length < 16
                assert address // 4096 == (address + 8 * length + 7) // 4096
                if name == "aw" and int(ready.value):
                    asked.append(length + 1)
            if now and name == "w" and int(ready.value):
                sent += 1
                if now[1]:
                    given.append(sent)
                    sent = 0
        while asked and given:
            assert asked.pop(0) == given.pop(0), "WLAST on the wrong beat"


class Bench:
    """Clock, reset, processor and memory."""

    def __init__(self, dut, chance=0.0, seed=1):
        self.dut = dut
        self.draw = random.Random(seed)
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.cpu = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst, max_burst_len=16)
        self.memory = Memory()
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=self.memory)
        self.pace(chance)
        self.watcher = None

    def pace(self, chance):
        """Both sides rest with `chance` on every channel."""
        w, r = self.slave.write_if, self.slave.read_if
        cw, cr = self.cpu.write_if, self.cpu.read_if
        channels = (w.aw_channel, w.w_channel, w.b_channel, r.ar_channel, r.r_channel, cw.aw_channel, cw.w_channel, cw.b_channel,
                    cr.ar_channel, cr.r_channel)
        for number, channel in enumerate(channels):
            channel.set_pause_generator(pauses(chance, self.draw.random() + number))

    async def reset(self):
        self.dut.rst.value = 1
        for _ in range(10):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        self.watcher = cocotb.start_soon(watch(self.dut))
        await self.write(LOW, BASE)
        await self.write(HIGH, BASE + SIZE)

    async def write(self, offset, *values):
        await self.cpu.write(0x40000000 + offset, b"".join(value.to_bytes(4, "little") for value in values))

    async def read(self, offset):
        return int.from_bytes((await self.cpu.read(0x40000000 + offset, 4)).data, "little")

    async def settle(self, mask, value, tries=500):
        for _ in range(tries):
            status = await self.read(STATUS)
            if status & mask == value:
                return status
        raise AssertionError(f"status stays 0x{status:X}")

    def put(self, address, frame):
        self.memory.bytes[address - BASE:address - BASE + FRAME] = frame

    def got(self, address):
        return bytes(self.memory.bytes[address - BASE:address - BASE + 16])


def expected(frame):
    return bytes((sum(frame) + index) % 256 for index in range(ANSWER)) + bytes(6)


@cocotb.test()
async def bursts_of_every_kind_reach_the_registers(dut):
    bench = Bench(dut, 0.3)
    await bench.reset()
    base, draw = 0x40000060, random.Random(3)
    image = bytearray(16)
    for number in range(60):
        kind = draw.choice([AxiBurstType.INCR, AxiBurstType.INCR, AxiBurstType.FIXED, AxiBurstType.WRAP])
        size = draw.choice([0, 1, 2])
        if kind == AxiBurstType.INCR:
            start = draw.randrange(16)
            data = draw.randbytes(draw.randint(1, 16 - start))
            image[start:start + len(data)] = data
        elif kind == AxiBurstType.FIXED:
            start, data = 4 * draw.randrange(4), draw.randbytes(4 * draw.randint(1, 4))
            size = 2
            image[start:start + 4] = data[-4:]
        else:
            size, length = 2, draw.choice([8, 16])
            start, data = 4 * draw.randrange(4), draw.randbytes(length)
            low = start // length * length
            for index, byte in enumerate(data):
                image[low + (start - low + index) % length] = byte
        await bench.cpu.write(base + start, data, awid=draw.randrange(4096), burst=kind, size=size)
        start = draw.randrange(16)
        length = draw.randint(1, 16 - start)
        read = await bench.cpu.read(base + start, length, arid=draw.randrange(4096), size=draw.choice([0, 1, 2]))
        assert read.data == bytes(image[start:start + length]), number
        wrapped = await bench.cpu.read(base + 8, 16, burst=AxiBurstType.WRAP, size=2)
        assert wrapped.data == bytes(image[8:] + image[:8])
        fixed = await bench.cpu.read(base + 4, 12, burst=AxiBurstType.FIXED, size=2)
        assert fixed.data == bytes(image[4:8]) * 3


@cocotb.test()
async def a_burst_over_all_registers_reads_them_all(dut):
    bench = Bench(dut, 0.2)
    await bench.reset()
    whole = (await bench.cpu.read(0x40000000, 0x200)).data
    for offset in (0x00, 0x04, 0x30, 0x34, LOW, HIGH, 0x100):
        assert int.from_bytes(whole[offset:offset + 4], "little") == await bench.read(offset)
    assert whole[0x80:] == bytes(0x180)


@cocotb.test()
async def answers_are_right_whatever_the_memory_does(dut):
    bench = Bench(dut)
    await bench.reset()
    draw = random.Random(4)
    for number in range(40):
        bench.pace(draw.choice([0.0, 0.2, 0.7, 0.9]))
        frames = [draw.randbytes(FRAME) for _ in range(2)]
        sources = [BASE + 0x1000 * (1 + k) - 8 * draw.randrange(0, 14) for k in range(2)]
        targets = [BASE + 0x8000 + 0x1000 * k - 8 * draw.randrange(0, 3) for k in range(2)]
        for k in range(2):
            bench.put(sources[k], frames[k])
        await bench.write(SOURCE0, sources[0], targets[0], sources[1], targets[1])
        await bench.write(CONTROL, 3)
        await bench.settle(15, 12)
        for k in range(2):
            assert bench.got(targets[k]) == expected(frames[k]), number
        await bench.write(0x4C, 12)
    assert await bench.read(ERRORS) == 0


@cocotb.test()
async def nothing_outside_the_window_is_touched(dut):
    bench = Bench(dut, 0.2)
    await bench.reset()
    await bench.write(LOW, BASE + 0x100, BASE + 0x400)
    for source, target in ((0xF8, 0x200), (0x400 - 96, 0x200), (0x200, 0x3F8), (0x204, 0x300)):
        bench.memory.touched.clear()
        await bench.write(SOURCE0, BASE + source, BASE + target)
        await bench.write(CONTROL, 1)
        status = await bench.settle(1, 0)
        assert status == 0x100
        assert await bench.read(ERRORS) == 0x10
        assert not bench.memory.touched
        await bench.write(ERRORS, 0x10)
    await bench.write(SOURCE0, BASE + 0x100, BASE + 0x3F0)
    await bench.write(CONTROL, 1)
    await bench.settle(5, 4)
    assert {address >> 3 for address, _, write in bench.memory.touched if not write} == set(range((BASE + 0x100) >> 3, (BASE + 0x168) >> 3))
    assert all(BASE + 0x3F0 <= address < BASE + 0x400 for address, _, write in bench.memory.touched if write)


@cocotb.test()
async def refused_reads_and_writes_fail_their_slot_alone(dut):
    bench = Bench(dut, 0.3)
    await bench.reset()
    draw = random.Random(6)
    first, second = draw.randbytes(FRAME), draw.randbytes(FRAME)
    for refused, error, status in (((BASE + 0x1010, BASE + 0x1018), 4, 0x108), ((BASE + 0x8000, BASE + 0x8001), 8, 0x108)):
        bench.memory.refused = [refused]
        bench.put(BASE + 0x1000, first)
        bench.put(BASE + 0x2000, second)
        await bench.write(SOURCE0, BASE + 0x1000, BASE + 0x8000, BASE + 0x2000, BASE + 0x9000)
        await bench.write(CONTROL, 3)
        assert await bench.settle(3, 0) == status
        assert await bench.read(ERRORS) == error
        assert bench.got(BASE + 0x9000) == expected(second)
        await bench.write(ERRORS, error)
        await bench.write(0x4C, 12)


@cocotb.test()
async def a_soft_reset_drains_what_is_in_flight(dut):
    bench = Bench(dut)
    await bench.reset()
    draw = random.Random(7)
    for number in range(40):
        frame = draw.randbytes(FRAME)
        bench.put(BASE + 0x1FE8, frame)
        await bench.write(LOW, BASE, BASE + SIZE)
        await bench.write(SOURCE0, BASE + 0x1FE8, BASE + 0x8000, BASE + 0x1FE8, BASE + 0x9000)
        bench.pace(draw.choice([0.0, 0.5, 0.95]))
        await bench.write(CONTROL, 3)
        for _ in range(draw.randrange(0, 150)):
            await RisingEdge(dut.clk)
        await bench.write(CONTROL, 4)
        await bench.settle(16, 0)
        bench.memory.touched.clear()
        bench.pace(0.0)
        for _ in range(40):
            await RisingEdge(dut.clk)
        assert not bench.memory.touched, number
        assert await bench.read(STATUS) == 0
        assert await bench.read(HIGH) == 0
        await bench.write(LOW, BASE, BASE + SIZE)
        await bench.write(SOURCE1, BASE + 0x1FE8, BASE + 0xA000)
        await bench.write(CONTROL, 2)
        assert await bench.settle(2, 0) == 8
        assert bench.got(BASE + 0xA000) == expected(frame), number
        await bench.write(0x4C, 8)

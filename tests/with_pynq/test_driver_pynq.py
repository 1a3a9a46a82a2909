"""The driver on the real package `pynq` (3.1.2), whose device is a fake shell: its Overlay, its parser, its MMIO, its buffers.

Not part of the suite: no board is needed, but the package is, which wants NumPy below 2 and an old pycparser:

    pip install pynq==3.1.2 'pycparser<2.23'; PYTHONPATH=scheduler:sw:hw:models:tests python -m pytest tests/with_pynq
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pynq
import pytest
from pynq.pl_server import embedded_device, xclbin_parser
from pynq.pl_server.device import Device

import driver_bench as bench
from edgert.accelerators import _fabric, self_test
from edgert.accelerators._facade import Hangs
from edgert.errors import AcceleratorError, AcceleratorTimeout


class Words:
    """What `mmap` gives: words that are registers."""

    def __init__(self, read, write):
        self._read, self._write = read, write

    def __getitem__(self, index):
        return np.uint32(self._read(4 * index))

    def __setitem__(self, index, value):
        assert type(value) is np.uint32
        self._write(4 * index, int(value))


class FakeDevice(Device):
    """A PYNQ-Z2's, as far as PYNQ looks; buffers are copies of the shell's memory, as caches are."""

    def __init__(self, shell, state):
        super().__init__("fake")
        self.capabilities, self.arch = {"MEMORY_MAPPED": True}, "armv7l"
        self.shell, self.state, self.used, self.freed = shell, state, 4096, 0
        self.slcr, self.afi = np.zeros(0x400, np.uint32), np.ones(8, np.uint32)
        for offset, value in {_fabric.FPGA_RST_CTRL: 1, _fabric.PSS_IDCODE: 0x07 << 12 | 0x93, 0x108: 30 << 12}.items():  # PLL at 1 GHz
            self.slcr[offset // 4] = value
        self.downloads = 0

    def mmap(self, base, length):
        if base == bench.BOARD.register_base:
            return Words(lambda at: self._there() or self.shell.read(at), lambda at, value: self._there() or self.shell.write(at, value))
        return (self.slcr if base == _fabric.SLCR else self.afi)[:length // 4]

    def _there(self):
        if self.state.read_text() != "operating":
            raise Hangs("touched before it was programmed")

    def get_bitfile_metadata(self, name, partial=False):
        return embedded_device._get_bitstream_handler(name).get_parser(partial=partial)

    def download(self, bitstream, parser=None):
        self.downloads += 1
        self.state.write_text("operating")
        self.slcr[_fabric.FPGA_RST_CTRL // 4], self.slcr[_fabric.LVL_SHFTR_EN // 4] = 0, 0xF

    def allocate(self, shape, dtype, **kwargs):
        from pynq.buffer import PynqBuffer

        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = PynqBuffer(shape, dtype, device=self, device_address=self.shell.base + self.used, bo=self.used, coherent=False)
        self.used += -(-count // 4096) * 4096
        buffer.freebuffer = lambda: setattr(self, "freed", self.freed + 1)
        return buffer

    def _both(self, bo, offset, address, count):
        import ctypes

        here = np.frombuffer((ctypes.c_uint8 * count).from_address(address), np.uint8)
        return here, self.shell.memory[bo + offset:bo + offset + count]

    def flush(self, bo, offset, address, count):
        here, there = self._both(bo, offset, address, count)
        there[:] = here

    def invalidate(self, bo, offset, address, count):
        here, there = self._both(bo, offset, address, count)
        here[:] = there


class Real(_fabric.System):
    """A system with the real package; its time is the shell's."""

    transport = (87_000, "assumed")

    def __init__(self, root, shell):
        super().__init__(root)
        self.shell = shell

    def interrupt(self):
        return None

    def nap(self, timeout_ns):
        self.shell.run(100)

    def now_ns(self):
        return self.shell.cycles * 10


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """(bundle, accelerator, fake shell, device), not open."""
    bundle = bench.toy(tmp_path / "toy")
    state = tmp_path / _fabric.MANAGER
    state.parent.mkdir(parents=True)
    state.write_text("unknown")
    (tmp_path / "run/lock").mkdir(parents=True)
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("TUL PYNQ-Z2")
    shell = bench.shell(bundle)
    device = FakeDevice(shell, state)
    monkeypatch.setattr(type(Device), "active_device", property(lambda _: device))
    monkeypatch.setattr(pynq.ps, "ON_TARGET", True)
    monkeypatch.delattr(pynq.ps.Clocks, "_real_instance", raising=False)  # of the device of the test before
    monkeypatch.setattr(embedded_device, "_create_xclbin", lambda memories: b"")  # XRT's, for its own memory topology
    nothing = SimpleNamespace(ip_dict={}, mem_dict={}, clock_dict={})
    monkeypatch.setattr(xclbin_parser, "XclBin", lambda xclbin_data: nothing)
    accelerator = bench.Driven(Real(tmp_path, shell), bench.bitstreams(tmp_path / "bitstreams", bundle))
    yield bundle, accelerator, shell, device
    accelerator.close()


def test_pynq_loads_our_description_and_every_golden_frame_is_right(ready):
    bundle, accelerator, _, device = ready
    accelerator.open(bundle)
    assert device.downloads == 1 and self_test(accelerator, bundle) == 24
    assert isinstance(accelerator.overlay, pynq.Overlay) and accelerator.overlay.ip_dict["edgert"]["type"] == "edgert:ip:edgert:1.0"
    assert device.afi[0] == device.afi[5] == 0
    control = int(device.slcr[_fabric.FPGA0_CLK_CTRL // 4])  # set by PYNQ, from our description
    assert (control >> 8 & 0x3F) * (control >> 20 & 0x3F) == 10
    assert np.array_equal(list(accelerator.stream(bundle.arrays("golden.npz")["frames"])), bundle.arrays("golden.npz")["logits"])
    assert all(right for _, right, _, _ in accelerator.hardware_checks(bundle))


def test_a_hang_is_a_timeout_and_the_bitstream_is_not_loaded_twice(ready):
    bundle, accelerator, shell, device = ready
    accelerator.open(bundle)
    shell.core_hangs = 1
    with pytest.raises(AcceleratorTimeout):
        accelerator.infer(bundle.arrays("golden.npz")["frames"][0], bench.LATER_NS)
    assert accelerator.recover(bundle) == 24
    accelerator.close()
    accelerator.open(bundle)
    assert device.downloads == 1 and device.freed >= 1
    assert Path(pynq.PL.bitfile_name).name == "edgert.bit"


def test_without_a_device_it_is_an_error_with_a_next_step(ready, monkeypatch):
    bundle, accelerator, _, _ = ready

    def none(_):
        raise RuntimeError("No Devices Found")

    monkeypatch.setattr(type(Device), "active_device", property(none))
    with pytest.raises(AcceleratorError, match="No Devices Found") as caught:
        accelerator.open(bundle)
    assert "sudo bash -lc" in caught.value.next_step

"""The generated hardware description, read by PYNQ's own parsers in an environment of their own; boards and their clocks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import shell_standin as s
from gateware import hwh
from gateware.boards import NAMES, board
from gateware.shell import shell_verilog, write_shell

pytestmark = pytest.mark.hw
ROOT = Path(__file__).parents[2]
BOARDS = [name.replace("_", "-") for name in NAMES]
PINNED = ("pynq==3.1.2", "pynqmetadata==0.1.9", "pynqutils==0.1.2", "pydantic==1.9.1")
BESIDE = ("typing_extensions", "numpy<2", "tqdm", "IPython", "cffi")
READER = """
import json, sys
from pynq import DefaultIP
from pynq.overlay import _ip_drivers, _assign_drivers
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynqmetadata.frontends import Metadata
import pynq.pl_server.hwh_parser as old
class Driver(DefaultIP):
    bindto = [sys.argv[3]]
new = RuntimeMetadataParser(Metadata(input=sys.argv[1]))
legacy = getattr(old, sys.argv[2])(sys.argv[1])
said = {}
for name, parser in (("new", new), ("legacy", legacy)):
    ip = parser.ip_dict["edgert"]
    said[name] = {"type": ip["type"], "address": ip["phys_addr"], "range": ip["addr_range"], "model": ip["parameters"]["MODEL_ID"],
                  "registers": {k: v["address_offset"] for k, v in ip["registers"].items()}, "ps": parser.ps_name,
                  "clocks": {str(k): v for k, v in parser.clock_dict.items()},
                  "ps_parameters": parser.ip_dict[parser.ps_name]["parameters"],
                  "interrupts": {k: v.get("raw_irq") for k, v in ip["interrupts"].items()},
                  "driver": _ip_drivers[ip["type"]].__name__}
print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def pynq_python():
    """A Python with PYNQ's parsers; made once in .venv/pynq, or named by EDGERT_PYNQ_PYTHON."""
    if os.environ.get("EDGERT_PYNQ_PYTHON"):
        return os.environ["EDGERT_PYNQ_PYTHON"]
    place = ROOT / ".venv" / "pynq"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *PINNED], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *BESIDE], check=True, stderr=subprocess.DEVNULL)
        (place / "ready").touch()
    return str(python)


@pytest.mark.parametrize(("name", "parser", "base", "irq"), [
    ("pynq-z2", "_HWHZynq", 0x40000000, 61), ("zcu102", "_HWHUltrascale", 0xA0000000, 121),
])
def test_pynq_finds_the_accelerator_its_clock_and_its_registers(name, parser, base, irq, pynq_python, tmp_path):
    write_shell(tmp_path, name, s.MODEL_ID, 784, 10)
    done = subprocess.run([pynq_python, "-c", READER, str(tmp_path / "edgert.hwh"), parser, hwh.VLNV], capture_output=True, text=True,
                          check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    for one in said.values():
        assert one["type"] == "edgert:ip:edgert:1.0"
        assert one["driver"] == "Driver"
        assert (one["address"], one["range"], one["model"]) == (base, 4096, s.MODEL_ID)
        assert one["registers"]["CONTROL"] == 0x40
        assert one["registers"]["MODEL7"] == 0x2C
        assert one["ps"] == board(name).processor["INSTANCE"]
        first = one["clocks"]["0"]
        assert board(name).pll_hz // (first["divisor0"] * first["divisor1"]) == 100_000_000
        assert [one["clocks"][str(k)]["enable"] for k in range(4)] == [1, 0, 0, 0]
    assert said["legacy"]["interrupts"] == {"irq": irq}
    if name == "zcu102":  # PYNQ sets the widths of the ports from these
        assert said["new"]["ps_parameters"].items() >= {"C_MAXIGP0_DATA_WIDTH": "32", "C_SAXIGP2_DATA_WIDTH": "64"}.items()


@pytest.mark.parametrize("name", BOARDS)
def test_every_register_of_the_contract_is_described_once(name):
    text = hwh.description(board(name), board(name).clock(100_000_000), s.MODEL_ID)
    registers = ElementTree.fromstring(text).iter("REGISTER")
    offsets = [int(node.find("PROPERTY[@NAME='ADDRESS_OFFSET']").get("VALUE"), 16) for node in registers]
    assert offsets == sorted(set(offsets))
    assert set(offsets) == {*range(0, 0x3C, 4), 0x40, 0x44, 0x48, 0x4C, *range(0x50, 0x7C, 4)}


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("hz", [100_000_000, 66_000_000, 125_000_000, 142_857_142, 33_333_333, 700_000])
def test_a_clock_is_the_fastest_that_two_divisors_give_and_never_faster(name, hz):
    target = board(name)
    found = target.clock(hz)
    best = max(target.pll_hz // (a * b) for a in range(1, 64) for b in range(1, 64) if target.pll_hz / (a * b) <= hz)
    assert found.hz == best
    assert found.hz == target.pll_hz // (found.divisors[0] * found.divisors[1])


def test_what_cannot_be_generated_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no clock of 1000 Hz"):
        board("pynq-z2").clock(1000)
    with pytest.raises(KeyError, match="there are pynq-z2, zcu102"):
        write_shell(tmp_path, "arty", s.MODEL_ID, 784, 10)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        write_shell(tmp_path, "pynq-z2", "abc", 784, 10)
    with pytest.raises(ValueError, match="cannot be"):
        shell_verilog(board("pynq-z2"), s.MODEL_ID, 0, 10, 100_000_000)


@pytest.mark.parametrize("name", BOARDS)
def test_constraints_name_no_pin(name):
    assert all(line.startswith("#") for line in board(name).constraints().splitlines())

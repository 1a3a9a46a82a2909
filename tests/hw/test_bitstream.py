"""The way to a bitstream: with the tools, without them, with tools that fail; the tools are stand-ins, yosys's netlist too."""

import hashlib
import json
import os
import subprocess

import pytest
from typer.testing import CliRunner

import shell_standin as s
from edgert.cli.hw.bitstream import app
from edgert.errors import EdgertError
from gateware import bitstream, netlist
from gateware.boards import board

pytestmark = pytest.mark.hw
NEXTPNR = """#!/bin/sh
echo "$@" > nextpnr.arguments
echo "Info: Max frequency for clock 'clk': 80.00 MHz (FAIL at 100.00 MHz)" >&2
echo "Info: Max frequency for clock 'clk': {mhz} MHz (at 100.00 MHz)" >&2
touch edgert.fasm
exit {code}
"""
LAST = """#!/bin/sh
for word; do out=$word; done
{ printf '\\000header\\252\\231\\125\\146'; head -c {bytes} /dev/zero; } > "$out"
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    folder = s.write_standin(tmp_path / "rtl", 784, 10)
    (folder / "build.json").write_text(json.dumps({"board": "pynq-z2", "clock_hz": 100_000_000, "model_id": s.MODEL_ID}))

    def synthesise(where, target, timeout_s):
        (where / "netlist.json").write_text("{}")
        return {"LUT6": 7}

    monkeypatch.setattr(netlist, "synthesise", synthesise)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("NEXTPNR_XILINX_CHIPDB", "PRJXRAY_DB_DIR"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Write stand-ins of the open tools on PATH with their data."""
    def write(mhz="120.00", code=0, size=1 << 21):
        place = tmp_path / "tools dir"
        (place / "zynq7" / "xc7z020clg400-1").mkdir(parents=True, exist_ok=True)
        (place / "zynq7" / "xc7z020clg400-1" / "part.yaml").touch()
        (place / "xc7z020.bin").touch()
        scripts = {"nextpnr-xilinx": NEXTPNR.format(mhz=mhz, code=code),
                   "fasm2frames": "#!/bin/sh\ntest -e edgert.fasm && touch edgert.frames\n",
                   "xc7frames2bit": LAST.replace("{bytes}", str(size))}
        for name, text in scripts.items():
            (place / name).write_text(text)
            (place / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}{os.pathsep}/usr/bin:/bin")
        monkeypatch.setenv("NEXTPNR_XILINX_CHIPDB", str(place))
        monkeypatch.setenv("PRJXRAY_DB_DIR", str(place))
    return write


def test_without_tools_the_netlist_and_the_commands_are_left_and_the_exit_code_is_4(directory):
    said = CliRunner().invoke(app, [str(directory)])
    assert said.exit_code == 4
    assert "lacks: nextpnr-xilinx; fasm2frames; xc7frames2bit; NEXTPNR_XILINX_CHIPDB" in said.output
    assert f"sh {directory / 'place_and_route.sh'}" in said.output
    script = (directory / "place_and_route.sh").read_text()
    assert '--chipdb "$NEXTPNR_XILINX_CHIPDB/xc7z020.bin" --xdc edgert.xdc --json netlist.json --freq 100 ' in script
    assert subprocess.run(["sh", "-n", directory / "place_and_route.sh"], check=False).returncode == 0
    tcl = (directory / "vivado.tcl").read_text()
    assert "create_clock -name fabric -period 10.000 [get_pins {ps7/FCLKCLK[0]}]" in tcl
    assert "read_verilog {core.v shell.v}" in tcl
    assert not (directory / "bitstream").exists()


def test_the_script_that_is_left_makes_the_bitstream_where_the_tools_are(directory, tools):
    assert CliRunner().invoke(app, [str(directory), "--tool", "none"]).exit_code == 4
    tools()
    assert subprocess.run(["sh", directory / "place_and_route.sh"], check=False).returncode == 0
    bitstream.check_bit(directory / "bitstream" / "edgert.bit")


def test_open_tools_make_bitstream_description_and_manifest(directory, tools):
    tools()
    said = CliRunner().invoke(app, [str(directory)])
    assert said.exit_code == 0, said.output
    assert "the router estimates 120 MHz" in said.output
    manifest = json.loads((directory / "bitstream" / "manifest.json").read_text())
    expected = {"format": 1, "board": "pynq-z2", "part": "xc7z020clg400-1", "model_id": s.MODEL_ID, "router_mhz": 120.0}
    assert manifest.items() >= expected.items()
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((directory / "bitstream" / name).read_bytes()).hexdigest() == digest
    assert set(manifest["files"]) == {"edgert.bit", "edgert.hwh"}


@pytest.mark.parametrize(("settings", "message"), [
    ({"mhz": "95.50"}, r"the router reaches 95.5 MHz, the design is for 100; slower: edgert hw rtl --clock 90MHz"),
    ({"code": 1}, "nextpnr-xilinx failed with exit code 1"),
    ({"size": 1000}, "is no whole bitstream"),
])
def test_a_tool_that_fails_or_gives_too_little_is_an_error(directory, tools, settings, message):
    tools(**settings)
    said = CliRunner().invoke(app, [str(directory)])
    assert isinstance(said.exception, EdgertError)
    with pytest.raises(EdgertError, match=message):
        raise said.exception


def test_no_open_tool_is_tried_for_a_chip_that_none_knows(directory):
    (directory / "build.json").write_text(json.dumps({"board": "zcu102", "clock_hz": 100_000_000, "model_id": s.MODEL_ID}))
    made = bitstream.make(directory)
    assert made.bit is None
    assert made.missing[0].startswith("no open tool places and routes the chip of zcu102")
    assert [line.partition("&& ")[2] for line in made.commands] == ["vivado -mode batch -source vivado.tcl"]


@pytest.mark.parametrize("name", ["pynq-z2", "zcu102"])
def test_a_tcl_names_part_and_clock_of_its_board(name, directory):
    text = bitstream.vivado_script(directory, board(name), 66_666_666)
    assert f"set_part {board(name).part}" in text
    assert "-period 15.000" in text
    assert "slack < 0" in text


def test_a_directory_that_was_not_generated_is_refused(tmp_path):
    said = CliRunner().invoke(app, [str(tmp_path)])
    with pytest.raises(EdgertError, match=r"has no build\.json; generate it: edgert hw rtl"):
        raise said.exception

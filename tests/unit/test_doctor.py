"""`edgert doctor`: every line that is not right has a fix, and the exit code says whether a run is possible."""

import json
import os
import platform
import subprocess
import sys
import types

import pytest

import small_bundle
from edgert.accelerators import base
from edgert.accelerators.numpy_kernel import NumpyAccelerator
from edgert.board import doctor
from edgert.board.doctor import FAILED, OK, WARNING, examine

GOVERNOR = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
CLOCK = "sys/devices/system/clocksource/clocksource0"


@pytest.fixture
def bundle(tmp_path):
    return str(small_bundle.make(tmp_path / "toy"))


@pytest.fixture
def root(tmp_path):
    """A system without anything to see; returns what makes one with the given files."""
    def make(**files):
        for path, content in files.items():
            target = tmp_path / "root" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        (tmp_path / "root").mkdir(exist_ok=True)
        return tmp_path / "root"
    return make


def found(report, name):
    return next(check for check in report.checks if check.name == name)


def no_runtime(monkeypatch):
    for package in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "edgert.cli", "doctor", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_a_run_is_possible_here_and_every_line_that_is_not_ok_has_a_fix(bundle):
    report = examine(bundle)
    assert report.run_possible and report.verdict.startswith("a run is possible, mandatory part on ")
    assert {check.name for check in report.checks} >= {
        "python", "numpy", "system", "shared memory", "cores", "clock source", "governor", "temperature", "real-time priority",
        "locked memory", "board", "bundle", "tflite runtime", "accelerator numpy", "accelerator litert", "accelerator emulated"}
    for check in report.checks:
        assert bool(check.fix) == (check.level != OK), check
        assert "\n" not in check.found + check.fix
    assert "equal on 24 golden frames" in found(report, "accelerator numpy").found


def test_without_a_runtime_it_says_so_and_numpy_still_works(bundle, monkeypatch):
    no_runtime(monkeypatch)
    report = examine(bundle)
    assert report.run_possible and report.verdict.endswith("on numpy")
    runtime = found(report, "tflite runtime")
    assert (runtime.level, runtime.fix) == (WARNING, "pip install 'edgert[tflite]'") and "no refinement stage" in runtime.found
    assert found(report, "accelerator litert").level == WARNING
    assert found(report, "accelerator numpy").level == OK
    assert "computed by NumPy" in found(report, "accelerator emulated").found


def test_where_every_accelerator_is_wrong_no_run_is_possible(bundle, monkeypatch):
    class Wrong(NumpyAccelerator):
        def infer(self, frame, deadline_ns):
            return super().infer(frame, deadline_ns) ^ 1

    monkeypatch.setattr(base, "_makers", lambda: {"numpy": Wrong})
    report = examine(bundle)
    assert not report.run_possible and "no accelerator that passes" in report.verdict
    check = found(report, "accelerator numpy")
    assert check.level == FAILED and "24 of 24 golden answers differ" in check.found and check.fix


def test_a_damaged_bundle_is_a_failed_line(bundle, tmp_path):
    with open(tmp_path / "toy" / "golden.npz", "r+b") as file:
        file.write(b"x")
    report = examine(bundle)
    assert not report.run_possible and report.verdict == "no run is possible: no usable bundle"
    assert found(report, "bundle").level == FAILED and "was altered" in found(report, "bundle").found


@pytest.mark.skipif(not small_bundle.HAS_LITERT, reason="ai-edge-litert is not installed")
def test_models_that_xnnpack_does_not_take_are_named(bundle, monkeypatch):
    monkeypatch.setattr(doctor.litert, "delegated", lambda interpreter: False)
    report = examine(bundle)
    check = found(report, "delegation")
    assert check.level == WARNING and "mandatory.tflite, stage1.tflite" in check.found
    assert report.verdict.endswith("on numpy")


@pytest.mark.skipif(not small_bundle.HAS_LITERT, reason="ai-edge-litert is not installed")
def test_a_stage_that_cannot_be_loaded_is_a_failed_line(tmp_path):
    path = small_bundle.make(tmp_path / "toy")
    (path / "stage1.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 64)
    small_bundle.write_manifest(path)
    check = found(examine(str(path)), "delegation")
    assert check.level == FAILED and "stage1.tflite" in check.found and check.fix


@pytest.mark.parametrize(("files", "level", "said"), [
    ({}, OK, "no frequency scaling"),
    ({GOVERNOR.format(0): "performance\n"}, OK, "performance"),
    ({GOVERNOR.format(0): "performance\n", GOVERNOR.format(1): "ondemand\n"}, WARNING, "ondemand"),
])
def test_the_governor(root, files, level, said):
    (check,) = doctor._frequency(doctor.Machine(root(**files)))
    assert check.level == level and said in check.found
    assert bool(check.fix) == (level == WARNING)


@pytest.mark.parametrize(("files", "levels"), [
    ({}, [OK]),
    ({"sys/class/thermal/thermal_zone0/temp": "48123\n", "sys/class/hwmon/hwmon0/temp1_input": "51000"}, [OK]),
    ({"sys/class/thermal/thermal_zone0/temp": "48123\n", "sys/class/thermal/thermal_zone1/temp": "81000"}, [WARNING]),
    ({"sys/class/thermal/thermal_zone0/temp": "", "sys/class/thermal/thermal_zone1/temp": "broken"}, [OK]),
    ({"sys/class/thermal/thermal_zone0/temp": "50000", "sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}, [OK, WARNING]),
])
def test_the_temperature_and_the_firmwares_throttling(root, files, levels):
    checks = list(doctor._heat(doctor.Machine(root(**files))))
    assert [check.level for check in checks] == levels
    assert all(check.fix for check in checks if check.level != OK)


@pytest.mark.parametrize(("source", "level"), [("tsc", OK), ("arch_sys_counter", OK), ("hpet", WARNING), ("acpi_pm", WARNING)])
def test_the_clock_source(root, source, level):
    (check,) = doctor._clock(doctor.Machine(root(**{f"{CLOCK}/current_clocksource": source, f"{CLOCK}/available_clocksource": "tsc hpet"})))
    assert check.level == level and check.found.startswith(source)
    assert ("tsc hpet" in check.fix) == (level == WARNING)


@pytest.mark.parametrize(("files", "level", "said"), [
    ({}, OK, "none: no device tree"),
    ({"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}, OK, "Raspberry Pi 4 Model B Rev 1.4, which has no FPGA"),
    ({"proc/device-tree/model": "TUL PYNQ-Z2\0", "sys/class/fpga_manager/fpga0/state": "operating\n"}, OK,
     "TUL PYNQ-Z2, FPGA manager fpga0 operating"),
    ({"proc/device-tree/model": "TUL PYNQ-Z2\0", "sys/class/fpga_manager/fpga0/state": "unknown\n"}, WARNING, "fpga0 unknown"),
])
def test_a_board_is_what_the_system_says_it_is(root, files, level, said):
    (check,) = doctor._board(doctor.Machine(root(**files)))
    assert check.level == level and said in check.found


def test_an_importable_pynq_makes_no_board(root, monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: types.SimpleNamespace() if name == "pynq" else None)
    (check,) = doctor._board(doctor.Machine(root()))
    assert check.found.startswith("none:") and "does not make a board" in check.found


@pytest.mark.parametrize(("features", "level"), [("half thumb vfp vfpv3 neon", WARNING), ("half neon vfpv3 vfpv4", OK), ("", WARNING)])
def test_a_processor_without_vfpv4_is_warned_of_float_models(root, monkeypatch, features, level):
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")
    checks = doctor._software(doctor.Machine(root(**{"proc/cpuinfo": f"processor\t: 0\nFeatures\t: {features}\n"})))
    assert next(check for check in checks if check.name == "floating point").level == level


def test_permissions_are_tried_and_refusals_come_with_a_fix(root, monkeypatch):
    def outcome(text):
        monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=0, stdout=text, stderr=""))
        return list(doctor._permissions(doctor.Machine(root(**{"proc/self/status": "CapEff:\t0000000000004000\n"}))))

    assert [check.level for check in outcome("[true, true]")] == [OK, OK]
    refused = outcome("[false, false]")
    assert [check.level for check in refused] == [WARNING, WARNING] and "rtprio" in refused[0].fix and "memlock" in refused[1].fix


def test_a_small_memory_lock_limit_is_not_enough(root, monkeypatch):
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=0, stdout="[true, true]", stderr=""))
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (64 << 20, 64 << 20))
    checks = list(doctor._permissions(doctor.Machine(root(**{"proc/self/status": "CapEff:\t0000000000000000\n"}))))
    assert checks[1].level == WARNING and "65536 kB" in checks[1].found


def test_one_core_is_warned_of(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    (check,) = doctor._cores(doctor.Machine(root(**{"sys/devices/system/cpu/isolated": "3\n"})))
    assert check.level == WARNING and "isolated: 3" in check.found


# The command ------------------------------------------------------------------------------------------------------------


def test_the_command_prints_lines_and_exits_0(bundle):
    done = command("--bundle", bundle)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("a run is possible")


def test_the_json_has_every_check_and_nothing_else_is_printed(bundle):
    done = command("--json", "--bundle", bundle)
    report = json.loads(done.stdout)
    assert report["run_possible"] is True and {"edgert", "checks", "verdict", "run_possible"} == set(report)
    assert all(set(check) == {"name", "level", "found", "fix"} for check in report["checks"])
    assert done.stderr == ""


def test_where_no_run_is_possible_it_exits_3(bundle, tmp_path):
    (tmp_path / "toy" / "mandatory.npz").write_bytes(b"PK")
    done = command("--bundle", bundle)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert any(line.startswith("failed   bundle") for line in done.stdout.splitlines())
    assert "fix: " in done.stdout

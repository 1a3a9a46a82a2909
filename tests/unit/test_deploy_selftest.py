"""`edgert board selftest`: what it finds, in which order, and that it never calls a wrong machine right."""

import json
import os
import subprocess
import sys

import pytest

import small_bundle
from edgert.accelerators import base
from edgert.accelerators.numpy_kernel import NumpyAccelerator
from edgert.board import selftest as testing
from edgert.board.doctor import FAILED, OK, WARNING
from edgert.errors import AcceleratorError, UsageError


class Board(NumpyAccelerator):
    """Hardware that answers rightly, with checks of its own."""

    name = "board"
    rank = 99
    hardware = True
    findings = (("fabric programmed", True, "operating", ""), ("fabric clock", True, "100 MHz", ""))

    def hardware_checks(self, bundle):
        yield from self.findings


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(small_bundle.make(tmp_path_factory.mktemp("selftest") / "toy"))


@pytest.fixture
def engines(monkeypatch):
    def only(*classes):
        monkeypatch.setattr(base, "_makers", lambda: {cls.name: cls for cls in classes})
    return only


def named(report):
    return {check.name: check for check in report.checks}


def test_on_a_computer_without_an_fpga_it_tests_bundle_answers_throughput_and_stages(bundle):
    report = testing.selftest(bundle, seconds=0)
    assert report.run_possible and report.verdict == "everything asked for works"
    checks = named(report)
    assert {"bundle", "golden frames", "throughput"} <= set(checks) and "silicon" not in checks
    assert all(bool(check.fix) == (check.level != OK) for check in report.checks)
    assert "24 answers in a row equal" in checks["throughput"].found
    if small_bundle.HAS_LITERT:
        assert checks["stage1.tflite"].level == OK


@pytest.mark.parametrize("asked", ["auto", "board"])
def test_hardware_is_asked_first_and_it_is_said_that_nobody_has_run_it_on_silicon(bundle, engines, asked):
    engines(Board, NumpyAccelerator)
    report = testing.selftest(bundle, asked, seconds=0)
    names = [check.name for check in report.checks]
    assert report.run_possible and names[:5] == ["bundle", "fabric programmed", "fabric clock", "silicon", "golden frames"]
    assert named(report)["silicon"].level == WARNING and "nobody has run this on silicon" in named(report)["silicon"].fix


def test_a_finding_that_is_wrong_fails_with_its_fix_though_the_answers_are_right(bundle, engines):
    class Slow(Board):
        findings = (("fabric programmed", True, "operating", ""), ("fabric clock", False, "stopped", "load it again"))

    engines(Slow)
    report = testing.selftest(bundle, "board", seconds=0)
    assert not report.run_possible and report.verdict == "failed: fabric clock"
    assert (named(report)["fabric clock"].level, named(report)["fabric clock"].fix) == (FAILED, "load it again")


def test_hardware_that_cannot_be_asked_fails(bundle, engines):
    class Dead(Board):
        def hardware_checks(self, bundle):
            raise AcceleratorError("no device", "plug it in")
            yield

        def open(self, bundle):
            raise AcceleratorError("no device", "plug it in")

    engines(Dead)
    report = testing.selftest(bundle, "board", seconds=0)
    assert named(report)["hardware"].fix == "plug it in" and named(report)["golden frames"].level == FAILED and not report.run_possible


def test_answers_that_go_wrong_only_after_a_while_are_found(bundle, engines):
    class Tired(NumpyAccelerator):
        count = 0

        def infer(self, frame, deadline_ns):
            type(self).count += 1
            return super().infer(frame, deadline_ns) ^ (1 if self.count == 40 else 0)

    engines(Tired)
    report = testing.selftest(bundle, "numpy", seconds=0)
    assert not report.run_possible and "1 of 24 answers in a row differ" in named(report)["throughput"].found


def test_without_a_tflite_runtime_it_warns(bundle, monkeypatch):
    for package in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    report = testing.selftest(bundle, seconds=0)
    assert report.run_possible and named(report)["stages"].level == WARNING


@pytest.mark.skipif(not small_bundle.HAS_LITERT, reason="ai-edge-litert is not installed")
def test_a_stage_that_does_not_load_fails(tmp_path):
    path = small_bundle.make(tmp_path / "toy")
    (path / "stage1.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 64)
    small_bundle.write_manifest(path)
    report = testing.selftest(str(path), seconds=0)
    assert named(report)["stage1.tflite"].level == FAILED and report.verdict == "failed: stage1.tflite"


def test_an_altered_bundle_fails_and_an_unknown_accelerator_is_a_usage_error(tmp_path, bundle):
    path = small_bundle.make(tmp_path / "toy")
    (path / "golden.npz").write_bytes(b"PK")
    report = testing.selftest(str(path))
    assert [check.level for check in report.checks] == [FAILED] and not report.run_possible
    with pytest.raises(UsageError, match="unknown accelerator"):
        testing.selftest(bundle, "nonsense")


def test_the_command_gives_the_same_as_json_and_its_exit_code(tmp_path, bundle):
    def command(name):
        line = [sys.executable, "-m", "edgert.cli", "board", "selftest", "--json", "--seconds", "0", "--bundle", name]
        return subprocess.run(line, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    done = command(bundle)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["run_possible"] and {"edgert", "checks", "verdict", "run_possible"} == set(found)
    path = small_bundle.make(tmp_path / "toy")
    (path / "golden.npz").write_bytes(b"PK")
    assert command(str(path)).returncode == 3

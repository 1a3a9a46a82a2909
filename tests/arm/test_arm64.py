"""On an emulated Raspberry Pi 4: deployed as a user would, exact on every engine there is, and the whole demonstration."""

import json

import pytest
from arm_machine import here

from edgert.executive.replay import replay
from edgert.results.record import Run

CPU = "aarch64"


@pytest.fixture(scope="module")
def deployed(arm64):
    done = arm64.deploy("fashion")
    return arm64, done


def test_it_is_deployed_with_a_tflite_runtime_and_passes_its_self_test(deployed):
    machine, done = deployed
    assert machine.link("current") == done["version"] and not done["there"]
    machine.assert_whole()
    levels = {check["name"]: check["level"] for check in done["checks"]}
    assert levels == dict.fromkeys(("bundle", "golden frames", "throughput", "stage1.tflite", "stage2.tflite"), "ok")
    assert "ai-edge-litert 2.1" in next(c["found"] for c in done["checks"] if c["name"] == "golden frames")
    assert machine.python("import platform; print(platform.machine())").stdout.strip() == CPU


def test_nothing_was_installed_there(deployed):
    machine, _ = deployed
    assert not list((machine.root / "usr/local/lib").rglob("*.py")) and not (machine.root / "root/.local").exists()


@pytest.mark.parametrize("data", ["golden", "random:1000"])
def test_every_engine_there_is_equal_to_the_reference_in_every_bit(deployed, data):
    machine, _ = deployed
    done = machine.edgert("model", "verify", "fashion", "--data", data, "--engine", "numpy", "--engine", "litert", "--json")
    results = {r["engine"]: r for r in json.loads(done.stdout)["data"][0]["engines"]}
    assert {"numpy", "litert"} <= set(results)
    assert all(r["mismatches"] == 0 and r["distinct_outputs"] > r["frames"] / 2 for r in results.values())
    assert results["litert"]["logits"] == 10 * results["litert"]["frames"]


def test_a_run_from_here_brings_its_record_back(deployed, tmp_path):
    machine, _ = deployed
    here("remote", "run", machine.target.host, *machine.flags, "--best-effort", "--policy", "fifo-gated", "--rate", "5",
         "--deadline", "150ms", "--duration", "3s", "--record", str(tmp_path / "there.db"))
    with Run(tmp_path / "there.db") as run:
        assert run.finished and len(run.frames) == 15 and run.meta["machine"]["architecture"] == CPU
        assert replay(run)[2] is None


def test_the_whole_demonstration_runs_there(deployed):
    machine, _ = deployed
    machine.edgert("demo", "--quick", "--out", "/root/demo", limit_s=1500)
    page = (machine.root / "root/demo/report.html").read_text()
    assert "aarch64" in page and page.rstrip().endswith("</html>") and "monolithic" in page
    assert len(list((machine.root / "root/demo").glob("*.db"))) == 12

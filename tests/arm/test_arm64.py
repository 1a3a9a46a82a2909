"""On an emulated Raspberry Pi 4: deployed as a user would, exact on every engine there is, and the whole demonstration."""

import json

import pytest

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
    report = json.loads(deployed[0].edgert("model", "verify", "fashion", "--data", data, "--json").stdout)
    (results,) = [entry["engines"] if isinstance(entry, dict) and "engines" in entry else entry for entry in report["data"]]
    print(json.dumps(report))
    ran = {r["engine"]: r for r in results if r["mismatches"] is not None}
    assert {"numpy", "litert"} <= set(ran)
    assert all(r["mismatches"] == 0 and r["distinct_outputs"] > r["frames"] / 2 for r in ran.values())

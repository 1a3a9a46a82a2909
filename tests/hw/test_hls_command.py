"""`edgert hw hls` on bundles, the cache of compiled emulations, and the accelerator `hls` that loads it."""

import json
import os
import shutil
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import small_bundle
from edgert import accelerators
from edgert.bundle import load
from edgert.cli.hw import hls as command
from edgert.errors import AcceleratorError, AcceleratorMissing, EdgertError, UsageError
from gateware.hls import emulation, project
from modelkit.ternary import reference

pytestmark = pytest.mark.hw
LATER_NS = 10**18


def run(*args):
    """(exit code, stdout) of `edgert hw hls`."""
    result = CliRunner().invoke(command.app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(directory of a small bundle `toy`, its project `hls` and the `cache`; exit code and stdout of the command that made them)."""
    home = tmp_path_factory.mktemp("home")
    small_bundle.make(home / "toy")
    options = ("--board", "zcu102", "--backend", "vivadoaccelerator", "--strategy", "layer2=resource", "--reuse", "layer2=48", "--json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        return home, *run(home / "toy", "-o", home / "hls", *options)


@pytest.fixture
def home(made):
    return made[0]


@pytest.fixture
def cache(home, tmp_path, monkeypatch):
    """The cache, to be spoilt."""
    shutil.copytree(home / "cache", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgert" / "hls"


@pytest.fixture
def bundle(home):
    return load(str(home / "toy"))


def test_the_command_says_frames_logits_and_distinct_outputs(made, bundle):
    _, code, out = made
    told = json.loads(out)
    assert code == 0
    assert told["emulation"]["frames"] == 1000 and told["emulation"]["logits"] == 5000 and told["emulation"]["mismatches"] == 0
    assert told["emulation"]["distinct_outputs"] > 500
    assert (told["model_id"], told["board"], told["backend"]) == (bundle.model_id, "zcu102", "vivadoaccelerator")
    assert {layer["name"]: (layer["strategy"], layer["reuse"]) for layer in told["layers"]}["layer2"] == ("resource", 48)


def test_the_accelerator_equals_the_reference_on_every_picture(cache, bundle):
    frames = bundle.arrays("frames.npz")["frames"]
    expected = reference.forward(bundle.network, frames)
    accelerator, why = accelerators.choose("hls", bundle)
    found = np.stack([accelerator.infer(frame, LATER_NS) for frame in frames])
    assert found.dtype == np.int8 and (found == expected).all() and len(np.unique(expected, axis=0)) > 20
    assert "24 golden frames" in why and "hls4ml" in why and "vivadoaccelerator" in why
    assert accelerator.emulated and not accelerator.hardware and "hls" not in accelerators.by_rank()
    with pytest.raises(AcceleratorError, match="takes uint8"):
        accelerator.infer(frames[0].astype(np.int8), LATER_NS)
    worst_ns, source = accelerator.wcet_ns()
    begin_ns = time.process_time_ns()
    accelerator.infer(frames[0], LATER_NS)
    assert time.process_time_ns() - begin_ns < worst_ns and "measured on this machine" in source
    accelerator.close()
    with pytest.raises(AcceleratorError, match="is not open"):
        accelerator.infer(frames[0], LATER_NS)


def test_without_an_emulation_the_command_that_makes_it_is_named(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(AcceleratorMissing, match=rf"{bundle.model_id[:12]} is not compiled yet; compile it: edgert hw hls .*toy -o DIR"):
        accelerators.choose("hls", bundle)


def spoil_library(folder):
    with (folder / emulation.LIBRARY).open("ab") as file:
        file.write(b"x")


def spoil_weights(folder):
    path = max((folder / "weights").glob("w*.txt"), key=lambda p: p.stat().st_size)
    path.write_text(path.read_text().replace("1", "0", 1))


def spoil_record(folder):
    (folder / emulation.RECORD).write_text("{")


def spoil_format(folder):
    record = json.loads((folder / emulation.RECORD).read_text())
    (folder / emulation.RECORD).write_text(json.dumps({**record, "format": 0}))


def spoil_rights(folder):
    os.chmod(folder, 0o777)


@pytest.mark.parametrize(("spoil", "message"), [
    (spoil_library, "was altered"), (spoil_weights, "was altered"), (spoil_record, "cannot be read"),
    (spoil_format, "another model or format"), (spoil_rights, "others than you may have written"),
])  # fmt: skip
def test_a_spoilt_cache_is_not_loaded(cache, bundle, spoil, message):
    spoil(cache / bundle.model_id)
    with pytest.raises(AcceleratorMissing, match=message):
        accelerators.choose("hls", bundle)


def test_an_emulation_of_another_model_is_not_taken_for_this_one(cache, bundle, tmp_path):
    other = load(str(small_bundle.make(tmp_path / "other", seed=9)))
    shutil.copytree(cache / bundle.model_id, cache / other.model_id)
    with pytest.raises(AcceleratorMissing, match="of another model"):
        accelerators.choose("hls", other)


def test_a_differing_emulation_is_exit_code_3_and_is_not_kept(home, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "hls"

    def write(network, frames, target, settings, replace):
        shutil.copytree(home / "hls", target, dirs_exist_ok=True)
        spoil_weights(target / "firmware")
        return project.load_record(target)

    monkeypatch.setattr(project, "write", write)
    code, out = run(home / "toy", "-o", folder)
    assert code == 3 and "DIFFER" in out and not (tmp_path / "cache").exists()


def test_a_refused_layer_or_option_is_one_line(home, tmp_path):
    out = tmp_path / "hls"
    for wrong, message in {("--board", "pynq-z1"): "unknown board 'pynq-z1'; there are pynq-z2, zcu102",
                           ("--backend", "quartus"): "unknown backend 'quartus'", ("--strategy", "fast"): "unknown strategy 'fast'",
                           ("--reuse", "x"): "expected a whole number", ("--reuse", "layer2=7"): "reuse 7 does not divide 96 inputs",
                           ("--strategy", "latency", "--strategy", "resource"): "given twice",
                           ("--clock-mhz", "0.001"): "no clock of 1000 Hz"}.items():
        with pytest.raises(EdgertError, match=message):
            run(home / "toy", "-o", out, *wrong)
        assert not out.exists() or not any(out.iterdir()), wrong


def test_only_an_earlier_project_is_replaced_and_only_when_asked(home, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="no earlier project"):
        run(home / "toy", "-o", tmp_path, "--overwrite")
    with pytest.raises(UsageError, match="--overwrite replaces it"):
        run(home / "toy", "-o", home / "hls")
    assert (tmp_path / "mine.txt").read_text() == "precious"
    shutil.copytree(home / "hls", tmp_path / "again")
    with pytest.raises(UsageError, match="unknown strategy"):
        run(home / "toy", "-o", tmp_path / "again", "--overwrite", "--strategy", "fast")
    assert (tmp_path / "again" / emulation.LIBRARY).exists()
    code, out = run(home / "toy", "-o", tmp_path / "again", "--overwrite", "--no-compile")
    assert code == 0 and "never synthesised" in out and not (tmp_path / "again" / emulation.LIBRARY).exists()
    assert json.loads((tmp_path / "again" / "hls.json").read_text())["emulation"] is None


def test_the_zoo_network_is_exact_through_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out = run("fashion", "-o", tmp_path / "hls", "--json")
    told = json.loads(out)
    assert code == 0 and told["emulation"]["frames"] == 1000 and told["emulation"]["logits"] == 10_000
    assert told["emulation"]["mismatches"] == 0 and told["emulation"]["distinct_outputs"] > 900
    assert {layer["strategy"] for layer in told["layers"]} == {"latency", "resource"}
    accelerator, why = accelerators.choose("hls", load("fashion"))
    assert "golden frames" in why
    accelerator.close()

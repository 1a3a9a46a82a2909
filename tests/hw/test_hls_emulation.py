"""hls4ml's C++ in the project's AXI wrapper gives the reference's integers, for every layer kind, strategy and backend; faults are seen."""

import json
import re
import shutil
import subprocess

import hls_cases
import numpy as np
import pytest

from gateware.hls import emulation, project
from gateware.hls.network import Choice
from modelkit.ternary import reference
from modelkit.ternary.layers import Dense, MaxPool
from modelkit.ternary.network import Network

pytestmark = pytest.mark.hw

BUILDS = [
    ("conv", "vitis", Choice()),
    ("conv", "vivadoaccelerator", Choice("resource", 4, reuses={"layer2": 27})),
    ("depthwise", "vitis", Choice("resource", 6)),
    ("depthwise", "vivadoaccelerator", Choice()),
    ("pools", "vitis", Choice("distributed_arithmetic")),
    ("pools-wide", "vivadoaccelerator", Choice("resource", 0, {"layer2": "latency"})),
    ("max-3", "vitis", Choice("latency", 3)),
    ("avg-8", "vitis", Choice("auto", 2)),
    ("one-pixel", "vitis", Choice("resource", 5)),
    ("dense", "vitis", Choice("distributed_arithmetic", strategies={"layer1": "resource"})),
]
MET: dict[str, dict] = {}


def make(folder, network, frames, backend="vitis", choice=None):
    """Write and compile a project; what `hls.json` says."""
    record = project.write(network, frames, folder, project.Settings(backend=backend, choice=choice or Choice()))
    emulation.compile_library(folder)
    return record


def products(folder):
    """How often each product class is used in the generated C++."""
    text = (folder / "firmware" / "parameters.h").read_text()
    kinds = re.findall(r"using product = nnet::product::(\w+)<", text)
    return {kind: kinds.count(kind) for kind in set(kinds)}


@pytest.mark.parametrize(("name", "backend", "choice"), BUILDS, ids=[f"{n}-{b}-{c.strategy}" for n, b, c in BUILDS])
def test_every_layer_kind_strategy_and_backend_is_exact(tmp_path, name, backend, choice):
    network, frames = hls_cases.build(name)
    record = make(tmp_path, network, frames, backend, choice)
    found = emulation.verify(tmp_path)
    assert found["mismatches"] == 0 and found["frames"] == 1000
    assert found["distinct_outputs"] > 30
    MET[f"{name}-{backend}"] = found
    added = sum(layer["strategy"] != "distributed_arithmetic" for layer in record["layers"])
    assert added <= products(tmp_path).get("weight_ternary", 0) <= len(record["layers"])  # none of them multiplies its weights
    shifted = sum(bool(np.any(layer.shift)) for layer in network.layers if not isinstance(layer, MaxPool))
    assert products(tmp_path).get("mult", 0) == shifted  # by 2^-shift


def test_what_was_met_is_enough_to_mean_something():
    if len(MET) < len(BUILDS):
        pytest.fail("run the whole file")
    kinds = {type(layer).__name__ for name in hls_cases.RECIPES for layer in hls_cases.build(name, frames=200)[0].layers}
    assert kinds == {"Conv", "Depthwise", "MaxPool", "AvgPool", "Dense"}
    totals = {key: sum(found[key] for found in MET.values()) for key in ("frames", "logits", "distinct_outputs")}
    print(totals)
    assert totals["frames"] == 10_000 and totals["logits"] == 70_000 and totals["distinct_outputs"] > 5000


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """(folder, network, frames, emulation) of frames of 189 bytes: the last beat has one byte and three zeros."""
    folder = tmp_path_factory.mktemp("conv")
    network, frames = hls_cases.build("conv", seed=5, frames=60)
    make(folder, network, frames)
    return folder, network, frames, emulation.Emulation(folder / emulation.LIBRARY, folder / "firmware" / "weights", network)


def beats(frame, length=None, fill=0):
    """(data uint32, last) of a frame; `length` beats instead of what it takes: cut, or gone on with bytes `fill`."""
    content = frame.tobytes() + bytes(-frame.size % 4)
    wanted = 4 * (length or len(content) // 4)
    data = np.frombuffer(content[:wanted].ljust(wanted, bytes([fill])), "<u4")
    return data, np.arange(1, len(data) + 1) == len(data)


def test_short_and_long_frames_are_named_not_answered_and_leave_the_next_right(conv):
    _, network, frames, loaded = conv
    whole = beats(frames[0])[0].size
    assert whole == loaded.frame_beats == 48
    rng = np.random.default_rng(3)
    lengths = [whole if rng.random() < 0.5 else int(rng.choice([1, 2, whole - 1, whole + 1, whole + 9, 3 * whole])) for _ in frames]
    parts = [beats(frame, length, fill=255) for frame, length in zip(frames, lengths)]
    data, last, errs = loaded.beats(np.concatenate([d for d, _ in parts]), np.concatenate([e for _, e in parts]))
    assert errs.tolist() == [1 * (length < whole) + 2 * (length > whole) for length in lengths]
    assert {0, 1, 2} == set(errs.tolist())
    good = [index for index, length in enumerate(lengths) if length == whole]
    expected = reference.forward(network, frames[good])
    per = -(-network.classes // 4)
    assert last.reshape(-1, per).tolist() == [[False] * (per - 1) + [True]] * len(good)
    found = data.view("<i4").astype("<i4").view(np.int8).reshape(len(good), -1)
    assert (found[:, : network.classes] == expected).all() and not found[:, network.classes:].any()


def test_the_comparison_sees_one_changed_weight_one_bias_and_one_shift(conv, tmp_path):
    folder, network, frames, _ = conv
    layer = network.layers[-1]
    *_, (_, _, inputs), (_, _, logits) = reference.trace(network, frames)
    row, column = inputs.reshape(len(frames), -1).std(axis=0).argmax(), logits.std(axis=0).argmax()
    one = np.eye(network.classes, dtype=int)[column]
    weights = layer.weights.copy()
    weights[row, column] = 1 if weights[row, column] < 1 else -1
    for changed in (Dense(weights, layer.bias, layer.shift), Dense(layer.weights, layer.bias + 2 * one, layer.shift),
                    Dense(layer.weights, layer.bias, layer.shift + one)):
        other = Network(network.input_shape, [*network.layers[:-1], changed])
        loaded = emulation.Emulation(folder / emulation.LIBRARY, folder / "firmware" / "weights", network)
        assert emulation.compare(loaded, network, frames).mismatches == 0
        assert emulation.compare(loaded, other, frames).mismatches > 0


def test_headers_and_text_files_of_weights_must_agree(conv, tmp_path):
    copy = tmp_path / "weights"
    shutil.copytree(conv[0] / "firmware" / "weights", copy)
    project._check_weights(copy)
    header = max(copy.glob("w*.h"), key=lambda path: path.stat().st_size)
    text = header.read_text()
    header.write_text(text.replace("= {", "= {1, ", 1) if "= {1" not in text else text.replace("= {1", "= {0", 1))
    with pytest.raises(ValueError, match=header.name):
        project._check_weights(copy)


def test_a_library_of_another_network_or_without_weights_is_refused(conv, tmp_path):
    folder, *_ = conv
    other, _ = hls_cases.build("dense", frames=20)
    with pytest.raises(emulation.EmulationError, match="189 bytes"):
        emulation.Emulation(folder / emulation.LIBRARY, folder / "firmware" / "weights", other)
    with pytest.raises(emulation.EmulationError, match="missing"):
        emulation.Emulation(folder / emulation.LIBRARY, tmp_path / "none", conv[1])


def test_a_wrong_frame_is_refused(conv):
    for wrong in (np.zeros((1, 9, 7, 3), np.int8), np.zeros((1, 7, 9, 3), np.uint8)):
        with pytest.raises(emulation.EmulationError, match=r"expected uint8 \[n, 9, 7, 3\]"):
            conv[3](wrong)


def test_code_that_does_not_compile_is_named(conv, tmp_path):
    for name in ("emulation.cpp", "firmware"):
        source = conv[0] / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    wrapper = tmp_path / "firmware" / f"{project.NAME}_axi.cpp"
    wrapper.write_text(wrapper.read_text().replace("beat_t beat;", "beat_t beat", 1))
    with pytest.raises(emulation.EmulationError, match=r"does not compile.*error"):
        emulation.compile_library(tmp_path)


def test_the_vendor_test_bench_passes_and_fails_as_it_should(conv, tmp_path):
    folder, network, frames, _ = conv
    name = project.NAME
    sources = [f"{name}_test.cpp", f"firmware/{name}.cpp", f"firmware/{name}_axi.cpp"]
    weights = folder / "firmware" / "weights"
    flags = ["-std=c++11", "-w", "-Ifirmware/ap_types", f'-DWEIGHTS_DIR="{weights}"']
    subprocess.run([emulation.compiler(), *flags, *sources, "-o", tmp_path / "bench"], cwd=folder, check=True)
    done = subprocess.run([tmp_path / "bench"], cwd=folder, capture_output=True, text=True, check=False)
    count = project.BENCH_FRAMES * network.classes
    assert (done.returncode, done.stdout.strip()) == (0, f"0 of {count} logits differ")
    shutil.copytree(folder / "tb_data", tmp_path / "tb_data")
    logits = np.loadtxt(tmp_path / "tb_data" / "logits.dat", dtype=int)
    assert (logits == reference.forward(network, frames[: project.BENCH_FRAMES])).all()
    logits[7, 3] += 1
    np.savetxt(tmp_path / "tb_data" / "logits.dat", logits, fmt="%d")
    done = subprocess.run([tmp_path / "bench"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, f"1 of {count} logits differ")


def test_a_project_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    network, frames = hls_cases.build("dense", frames=20)
    monkeypatch.setattr(project, "_check_weights", lambda folder: (_ for _ in ()).throw(ValueError("made up")))
    with pytest.raises(ValueError, match="made up"):
        project.write(network, frames, tmp_path / "here", project.Settings())
    assert list(tmp_path.iterdir()) == []


def test_the_project_says_what_it_is(conv):
    folder, network, _, _ = conv
    record = json.loads((folder / "hls.json").read_text())
    assert record["model_id"] == network.model_id and record["part"] == "xc7z020clg400-1" and record["synthesised"] is False
    assert record["frame_beats"] == 48 and record["answer_beats"] == 2
    assert project.changed_sources(folder, record) == []
    assert {"hls.tcl", "core.v", "shell.v", "firmware/edgert_net_axi.cpp", "firmware/parameters.h"} <= set(record["sources"])

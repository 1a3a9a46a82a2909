"""Bundles: what is damaged, altered, of another version or hostile is refused in one line, before it is used."""

import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest

import small_bundle
from edgert.bundle import find, load, loading
from edgert.errors import BundleError, EdgertError, UsageError
from modelkit.ternary import reference


@pytest.fixture
def path(tmp_path):
    return small_bundle.make(tmp_path / "toy", stages=2)


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo with the bundles `toy` and `fashion`."""
    for name in ("toy", "fashion"):
        small_bundle.make(tmp_path / "zoo" / name, name=name)
    monkeypatch.setattr(loading, "ZOO", tmp_path / "zoo")


def change(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.update(changes)
    (path / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


def replace(path, file, content):
    """Another content, and a manifest that agrees with it."""
    (path / file).write_bytes(content)
    small_bundle.write_manifest(path, stages=2)


def refused(path, match, use=load):
    """It is a BundleError of one line that names a next step."""
    with pytest.raises(BundleError, match=match) as error:
        use(str(path))
    assert "\n" not in str(error.value) and error.value.next_step
    assert error.value.exit_code == 3


def test_a_good_bundle_has_all_its_parts(path):
    bundle = load(str(path))
    assert (bundle.name, bundle.version, bundle.input_shape, bundle.logit_scale) == ("toy", "1", (8, 8, 1), 1 / 8)
    golden = bundle.arrays("golden.npz")
    assert np.array_equal(reference.forward(bundle.network, golden["frames"]), golden["logits"])
    assert bundle.model_id == hashlib.sha256((path / "mandatory.npz").read_bytes()).hexdigest() == bundle.network.model_id
    assert bundle.temperature == [1.0, 1.0, 1.0]
    assert bundle.reward.gains(0, 0.5, 2) == [0.7, 0.7] and bundle.reward.utility(2, 0.5) == 0.7
    assert [(s.name, s.resource, s.mandatory) for s in bundle.stages()] == [
        ("toy/mandatory", "fpga", True), ("toy/stage1", "cpu", False), ("toy/stage2", "cpu", False)]


# Finding ----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("zoo")
def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError, match=r"unknown bundle 'fashoin'; did you mean 'fashion'\?"):
        find("fashoin")
    with pytest.raises(UsageError, match="known: fashion, toy"):
        find("zzz")


@pytest.mark.usefixtures("zoo")
def test_a_bundle_is_found_by_name_and_by_path(tmp_path):
    assert load("fashion").name == "fashion"
    assert load(str(tmp_path / "zoo" / "toy")).name == "toy"


@pytest.mark.parametrize("name", ["../zoo/toy", "..", "", "/", "a/b", "toy\0x", "x" * 5000])
@pytest.mark.usefixtures("zoo")
def test_a_name_that_is_no_name_is_a_usage_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        find(name)


def test_a_directory_without_a_manifest_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"without manifest.json"):
        load(str(tmp_path))


# Damage -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mandatory.npz", "mandatory.tflite", "stage1.tflite", "golden.npz", "calibration.json", "timing.json",
                                  "frames.npz"])
def test_one_altered_byte_is_found_in_every_file(path, file):
    content = bytearray((path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (path / file).write_bytes(content)
    refused(path, f"{file} was altered")


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_found(path, keep):
    (path / "stage2.tflite").write_bytes((path / "stage2.tflite").read_bytes()[:keep])
    refused(path, r"stage2.tflite was altered")


def test_a_missing_file_is_named(path):
    (path / "stage1.tflite").unlink()
    refused(path, r"stage1.tflite cannot be read \(No such file")


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_version_is_refused(path, version):
    change(path, format=version)
    refused(path, "format")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "null", "[" * 100_000, "\ud800"])
def test_a_manifest_that_is_no_manifest_is_refused(path, text):
    (path / "manifest.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    refused(path, "is no bundle manifest")


@pytest.mark.parametrize("key", ["name", "version", "model_id", "input", "classes", "logit_shift", "stages", "files"])
def test_a_manifest_that_lacks_a_key_names_it(path, key):
    change(path, **{key: None})
    refused(path, f"lacks {key}")


@pytest.mark.parametrize("changes", [
    {"files": []}, {"files": {}}, {"files": "all"}, {"stages": "two"}, {"stages": [3]}, {"stages": [{"name": "stage1"}]}, {"input": {}},
    {"input": {"shape": [8, 8]}}, {"input": {"shape": [8, 8, "one"]}}, {"input": {"shape": [8, -8, 1]}}, {"input": 5}, {"logit_shift": "x"},
    {"logit_shift": 10**9}, {"classes": 10}, {"classes": []}, {"classes": [1, 2]}, {"name": 7}, {"name": ""}, {"name": "../x"},
    {"input": {"shape": [8, 8, 1], "dtype": "float32"}}, {"input": {"shape": [9, 8, 1], "dtype": "uint8"}},
    {"classes": ["only", "two"]}, {"logit_shift": 4}])
def test_a_manifest_with_a_wrong_entry_is_refused(path, changes):
    change(path, **changes)
    refused(path, r"manifest|hash|mandatory.npz")


def test_the_model_identity_must_be_the_networks_hash(path):
    change(path, model_id="0" * 64)
    refused(path, "model_id is not the hash")


def test_a_stage_whose_file_has_no_hash_is_refused(path):
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["stage1.tflite"]
    change(path, files=manifest["files"])
    refused(path, r"no hash of stage1.tflite")


# Hostile ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside.npz", "/etc/hostname", "sub/dir.npz", "..", ".", "", "a\0b"])
def test_a_file_name_that_leaves_the_directory_is_refused(path, name):
    (path.parent / "outside.npz").write_bytes(b"PK outside")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(b"PK outside").hexdigest()
    change(path, files=manifest["files"])
    refused(path, "not a plain file name")


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.mkdir()])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(path, make):
    (path / "stage1.tflite").unlink()
    make(path / "stage1.tflite")
    refused(path, r"stage1.tflite")


def test_an_oversize_file_is_refused_before_it_is_read(path):
    with open(path / "frames.npz", "wb") as file:
        file.truncate(loading.MAX_BYTES + 1)  # sparse
    refused(path, "more than the")


def test_an_oversize_manifest_is_refused_before_it_is_read(path):
    with open(path / "manifest.json", "wb") as file:
        file.truncate(loading.MAX_BYTES + 1)
    refused(path, r"manifest.json has .* more than the")


@pytest.mark.parametrize("file", ["mandatory.npz", "stage1.tflite"])
def test_a_file_of_another_type_is_refused(path, file):
    replace(path, file, b"#!/bin/sh\nexit 1\n")
    refused(path, f"{file} is not a")


def npz(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def header(shape, descr="|u1"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


@pytest.mark.parametrize("content", [
    b"PK\x03\x04 no archive",
    npz({"frames.npy": b"no array"}),
    npz({"frames.npy": header((10, 8, 8, 1))}),
    npz({"frames.npy": header((1 << 40, 8, 8, 1)) + b"\0" * 64}),
    npz({"frames.npy": header((2,), "|O") + b"\x80\x04N."}),
    npz({"frames.txt": b"text"}),
], ids=["broken zip", "no array", "truncated", "huge header", "pickle", "text"])
def test_a_damaged_or_hostile_npz_is_refused_when_it_is_read(path, content):
    replace(path, "frames.npz", content)
    bundle = load(str(path))
    refused("frames.npz", r"frames.npz", use=bundle.arrays)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(path, monkeypatch):
    replace(path, "frames.npz", npz({"frames.npy": header((1 << 21,)) + b"\0" * (1 << 21)}))
    bundle = load(str(path))
    monkeypatch.setattr(loading, "MAX_BYTES", 1 << 20)
    refused("frames.npz", "unpacks to", use=bundle.arrays)


def test_a_part_that_the_bundle_does_not_have_is_named(path):
    bundle = load(str(path))
    refused("outcomes.npz", r"has no outcomes.npz", use=bundle.arrays)


@pytest.mark.parametrize(("file", "content", "use"), [
    ("mandatory.npz", b"PK no network", lambda b: b.network),
    ("calibration.json", b"{", lambda b: b.calibration),
    ("calibration.json", b"[]", lambda b: b.reward),
    ("calibration.json", b'{"temperature": [1]}', lambda b: b.temperature),
    ("calibration.json", b'{"temperature": [1], "correct": [{"x": [1, 0], "y": [0, 1]}], "gain": {}}', lambda b: b.reward),
    ("calibration.json", b'{"temperature": "hot"}', lambda b: b.temperature),
    ("calibration.json", b'{"temperature": [1, 0, 1], "correct": [], "gain": {}}', lambda b: b.temperature),
    ("timing.json", b"\xff\xfe", lambda b: b.timing),
    ("timing.json", b"{}", lambda b: b.stages()),
    ("timing.json", b'{"stages": {"mandatory": {"max_ns": 5}}}', lambda b: b.stages()),
])
def test_a_part_that_makes_no_sense_is_a_bundle_error(path, file, content, use):
    replace(path, file, content)
    with pytest.raises(BundleError, match="makes no sense") as error:
        use(load(str(path)))
    assert "\n" not in str(error.value)


def test_every_single_byte_flip_of_the_manifest_is_refused_or_harmless(path):
    """No flip leads to anything but a loaded bundle or an error of ours."""
    original = (path / "manifest.json").read_bytes()
    rng = np.random.default_rng(0)
    outcomes = {"loaded": 0, "refused": 0}
    for position in rng.integers(0, len(original), 400):
        content = bytearray(original)
        content[position] ^= 1 << int(rng.integers(0, 8))
        (path / "manifest.json").write_bytes(content)
        try:
            load(str(path))
            outcomes["loaded"] += 1
        except EdgertError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["loaded"] > 3 and outcomes["refused"] > 200

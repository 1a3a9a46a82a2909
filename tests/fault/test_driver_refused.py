"""What is refused before anything is loaded or used: altered, swapped, made for another part, board or model; both values named."""

import json

import pytest

import driver_bench as bench
from edgert.accelerators import _fabric
from edgert.errors import AcceleratorMissing, BitstreamRefused, FabricFault


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bench.toy(tmp_path_factory.mktemp("driver") / "toy")


def refused(bundle, tmp_path, change, system=None):
    """The message with which opening is refused, after `change(home, manifest)`; nothing was loaded."""
    root = bench.bitstreams(tmp_path / "bitstreams", bundle)
    home = root / "pynq-z2" / "simulated"
    manifest = json.loads((home / "manifest.json").read_text())
    change(home, manifest)
    system = system or bench.Board(bench.shell(bundle), tmp_path / "lock")
    accelerator = bench.Driven(system, root)
    with pytest.raises((BitstreamRefused, AcceleratorMissing, FabricFault)) as caught:
        accelerator.open(bundle)
    assert accelerator.driver is None and caught.value.next_step
    return caught.value, system.pynq.downloads


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_one_flipped_byte_in_the_bit_file_is_refused_both_hashes_named(bundle, tmp_path):
    error, downloads = refused(bundle, tmp_path, lambda home, _: flip(home / "edgert.bit"))
    assert isinstance(error, BitstreamRefused) and downloads == 0
    assert "sha256 of edgert.bit" in error.message and error.message.count("'") == 4


def test_one_flipped_byte_in_the_hwh_is_refused(bundle, tmp_path):
    error, downloads = refused(bundle, tmp_path, lambda home, _: flip(home / "edgert.hwh"))
    assert "sha256 of edgert.hwh" in error.message and downloads == 0


def test_a_missing_hwh_is_refused_in_the_manifest_and_on_disk(bundle, tmp_path):
    error, _ = refused(bundle, tmp_path, lambda home, _: (home / "edgert.hwh").unlink())
    assert "edgert.hwh, which the manifest names, cannot be read" in error.message

    def unnamed(home, manifest):
        del manifest["files"]["edgert.hwh"]
        (home / "manifest.json").write_text(json.dumps(manifest))

    error, downloads = refused(bundle, tmp_path / "2", unnamed)
    assert "no edgert.hwh" in error.message and downloads == 0


@pytest.mark.parametrize("of", ["another model", "another board"])
def test_a_swapped_hwh_is_refused_even_where_the_manifest_agrees(bundle, tmp_path, of):
    def swap(home, _):
        text = bench.hardware_description("ab" * 32) if of == "another model" else bench.hardware_description(bundle.model_id, "zcu102")
        (home / "edgert.hwh").write_bytes(text)
        bench.rehash(home)

    error, downloads = refused(bundle, tmp_path, swap)
    assert downloads == 0 and ("abababababab" if of == "another model" else "zu9eg") in error.message


def test_a_bit_file_of_another_part_is_refused_by_its_header(bundle, tmp_path):
    def other(home, _):
        (home / "edgert.bit").write_bytes(bench._facade.bit_file("7z010clg400", b"x" * 32))
        bench.rehash(home)

    error, downloads = refused(bundle, tmp_path, other)
    assert "'7z010clg400', expected '7z020clg400'" in error.message and downloads == 0


@pytest.mark.parametrize("key, value", [("part", "xc7z010clg400-1"), ("board", "zcu102"), ("format", 2)])
def test_a_manifest_for_something_else_is_refused(bundle, tmp_path, key, value):
    def change(home, manifest):
        manifest[key] = value
        (home / "manifest.json").write_text(json.dumps(manifest))

    error, downloads = refused(bundle, tmp_path, change)
    assert repr(value) in error.message and downloads == 0


def test_where_no_bitstream_is_of_the_model_those_there_are_named(bundle, tmp_path):
    def change(home, manifest):
        manifest["model_id"] = "cd" * 32
        (home / "manifest.json").write_text(json.dumps(manifest))

    error, _ = refused(bundle, tmp_path, change)
    assert isinstance(error, AcceleratorMissing) and bundle.model_id[:12] in error.message and "cdcdcdcdcdcd" in error.message


def test_another_chip_than_the_board_is_said_to_have_is_not_programmed(bundle, tmp_path):
    system = bench.Board(bench.shell(bundle), tmp_path / "lock")
    system.processor[_fabric.SLCR + _fabric.PSS_IDCODE] = 0x02 << 12 | 0x93
    error, downloads = refused(bundle, tmp_path, lambda *_: None, system)
    assert "device code 0x02" in error.message and "0x07" in error.message and downloads == 0


@pytest.mark.parametrize("changes, words", [({"model_id": "ef" * 32}, "efefefefefef"), ({"magic": 1}, "0x00000001"),
                                            ({"version": 2 << 16}, "2.0"), ({"board": 2}, "board 2"), ({"frame_bytes": 65}, "65 and 5"),
                                            ({"stopped_clock": True}, "counter 0 then 0")])
def test_a_fabric_that_says_it_is_something_else_is_not_used(bundle, tmp_path, changes, words):
    shell = bench.shell(bundle)
    for name, value in changes.items():
        setattr(shell, name, value)
    error, _ = refused(bundle, tmp_path, lambda *_: None, bench.Board(shell, tmp_path / "lock"))
    assert isinstance(error, FabricFault) and words in error.message
    assert shell.starts == 0

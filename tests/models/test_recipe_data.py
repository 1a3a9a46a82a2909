"""Loading IDX files, splitting and shifting pictures, and what a user is told when the data set is absent."""

import gzip

import numpy as np
import pytest

from modelkit import data

LABELS = np.repeat(np.arange(5), 200).astype(np.uint8)


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_an_idx_file_is_read_plain_and_compressed(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(data.read_idx(tmp_path / "a"), array)
    assert np.array_equal(data.read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"PK\3\4 no idx", idx(np.zeros((2, 2), np.uint8))[:-1]])
def test_a_damaged_idx_file_is_a_data_error(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(data.DataError):
        data.read_idx(tmp_path / "bad")


def test_an_absent_data_set_names_the_debian_package(tmp_path):
    with pytest.raises(data.DataError, match="apt install dataset-fashion-mnist"):
        data.fashion(tmp_path)


def test_the_four_parts_are_disjoint_seeded_and_hold_every_class_alike():
    a, b = (data.split(LABELS, choose=100, calibrate=200, mandatory_share=0.5, seed=s) for s in (0, 1))
    rows = np.concatenate(list(vars(a).values()))
    assert np.array_equal(np.sort(rows), np.arange(len(LABELS)))
    assert [len(p) for p in vars(a).values()] == [350, 350, 100, 200]
    assert all(len(set(np.bincount(LABELS[p]))) == 1 for p in vars(a).values())
    again = data.split(LABELS, choose=100, calibrate=200, mandatory_share=0.5, seed=0)
    assert np.array_equal(a.stages, again.stages)
    assert not np.array_equal(a.stages, b.stages)


def test_too_few_pictures_of_a_class_are_a_data_error():
    with pytest.raises(data.DataError, match="class 4"):
        data.split(LABELS[:803], choose=100, calibrate=200, mandatory_share=0.5)


def test_a_view_is_the_picture_or_its_mirror_image_shifted_with_its_edge_repeated():
    frame = np.arange(20).reshape(4, 5)
    for row, picture in zip(data.view_table(4, 5, [(1, -2)]), (frame, frame[:, ::-1]), strict=True):
        shifted = np.pad(picture, 2, mode="edge")[1:5, 4:9]  # one down, two to the left
        assert np.array_equal(frame.ravel()[row].reshape(4, 5), shifted)


def test_augmented_pictures_are_views_of_the_table():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (30, 6, 6, 2), np.uint8)
    table = data.view_table(6, 6, data.shifts_within(1))
    seen = data.augment(frames, table, rng)
    for frame, view in zip(frames, seen, strict=True):
        views = frame.reshape(36, 2)[table].reshape(-1, 6, 6, 2)
        assert any(np.array_equal(view, v) for v in views)

"""Sources of frames: the same pictures for the same seed, never a wait, and one line where a file is missing or corrupt."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import small_bundle
from edgert.bundle import load
from edgert.errors import SourceError, UsageError
from edgert.sources import base, make_source
from imprecise.draws import draw_items

BIKES = Path(__file__).parents[2].parent / "shared" / "data" / "video" / "bikes.mp4"
HAS_CV2 = importlib.util.find_spec("cv2") is not None
needs_cv2 = pytest.mark.skipif(not HAS_CV2, reason="OpenCV (extra `video`) is not installed")


@pytest.fixture
def bundle(tmp_path):
    return load(str(small_bundle.make(tmp_path / "toy")))


# Data set ---------------------------------------------------------------------------------------------------------------


def opened(bundle, spec="dataset:toy", seed=3, stream="front", shape=small_bundle.SHAPE):
    source = make_source(spec, bundle)
    source.open(shape, seed, stream)
    return source


def test_a_data_set_shows_the_pictures_that_the_simulation_draws(bundle):
    source = opened(bundle)
    stored = bundle.arrays("frames.npz")
    expected = draw_items(3, "front", 0, 3000, len(stored["frames"]))
    for index in [*range(0, 3000, 7), 5, 2999, 1023, 1024]:
        frame = source.frame(index)
        assert frame.item == expected[index]
        assert np.array_equal(frame.pixels, stored["frames"][frame.item]) and frame.pixels.dtype == np.uint8
        assert frame.label == stored["labels"][frame.item]
    assert source.labelled and len(set(expected.tolist())) == 40


def test_seed_and_stream_change_the_pictures(bundle):
    def items(**changes):
        source = opened(bundle, **changes)
        return [source.frame(i).item for i in range(50)]

    assert items() == items()
    assert items() != items(seed=4) and items() != items(stream="rear")


def test_pictures_of_another_bundle_need_the_same_classes(bundle, tmp_path):
    other = small_bundle.make(tmp_path / "other", name="other", seed=8)
    source = opened(bundle, f"dataset:{other}")
    assert np.array_equal(source.frame(0).pixels, load(str(other)).arrays("frames.npz")["frames"][source.frame(0).item])
    small_bundle.write_manifest(other, name="other", classes=list("abcde"))
    with pytest.raises(UsageError, match="other classes"):
        make_source(f"dataset:{other}", bundle)


def test_an_unknown_data_set_is_a_usage_error(bundle):
    with pytest.raises(UsageError, match="unknown bundle 'nosuch'"):
        make_source("dataset:nosuch", bundle)


def test_pictures_of_another_shape_are_refused(bundle):
    with pytest.raises(SourceError, match=r"uint8 \[8, 8, 1\].*uint8 \[28, 28, 1\]"):
        opened(bundle, shape=(28, 28, 1))


@pytest.mark.parametrize("arrays", [{}, {"frames": np.zeros((3, 8, 8, 1), np.uint8)},
                                    {"frames": np.zeros((3, 8, 8, 1), np.uint8), "labels": np.zeros(2, np.uint8)},
                                    {"frames": np.zeros((0, 8, 8, 1), np.uint8), "labels": np.zeros(0, np.uint8)},
                                    {"frames": np.zeros((3, 8, 8, 1), np.float32), "labels": np.zeros(3, np.uint8)}])
def test_frames_without_as_many_labels_are_refused(tmp_path, arrays):
    path = small_bundle.make(tmp_path / "toy")
    np.savez(path / "frames.npz", **arrays)
    small_bundle.write_manifest(path)
    with pytest.raises(SourceError):
        opened(load(str(path)))


# Which kind -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "said"), [
    ("fashion", "not of the form"), ("dataset:", "not of the form"), ("", "not of the form"), ("datset:toy", "did you mean 'dataset:toy'"),
    ("rtsp9:toy", "there are dataset, video")])
def test_a_spec_that_cannot_be_right_says_what_can(bundle, spec, said):
    with pytest.raises(UsageError, match=said):
        make_source(spec, bundle)


def test_another_package_adds_a_kind(bundle, monkeypatch):
    class Entry:
        name = "noise"

        @staticmethod
        def load():
            return lambda rest, bundle: ("noise source", rest)

    monkeypatch.setattr(base, "entry_points", lambda group: [Entry] if group == base.GROUP else [])
    assert make_source("noise:loud", bundle) == ("noise source", "loud")


# Video ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    """A video of 12 grey levels, one a frame."""
    import cv2

    path = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for level in range(12):
        video.write(np.full((48, 64, 3), 20 * level, np.uint8))
    video.release()
    return path


def wait_frame(source, index, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frame = source.frame(index)
        if frame is not None:
            return frame
        time.sleep(0.002)
    pytest.fail(f"no frame {index} in {seconds} s ({source.fault})")


@needs_cv2
def test_frame_k_is_the_kth_picture_of_the_video_over_and_over(bundle, clip):
    source = opened(bundle, f"video:{clip}")
    try:
        for index in range(40):
            frame = wait_frame(source, index)
            assert frame.pixels.shape == (8, 8, 1) and frame.pixels.dtype == np.uint8
            assert abs(int(frame.pixels.mean()) - 20 * (index % 12)) <= 2
            assert (frame.item, frame.label) == (index, -1)
        assert not source.labelled
    finally:
        source.close()


@needs_cv2
def test_a_frame_that_was_passed_is_dropped_and_the_next_one_is_still_the_right_one(bundle, clip):
    source = opened(bundle, f"video:{clip}")
    try:
        wait_frame(source, 0)
        for index in (7, 30, 95):
            assert abs(int(wait_frame(source, index).pixels.mean()) - 20 * (index % 12)) <= 2
            assert source.frame(index) is None  # given once
        assert source.frame(3) is None
    finally:
        source.close()


@needs_cv2
def test_a_frame_that_is_not_decoded_is_not_waited_for(bundle, clip):
    source = opened(bundle, f"video:{clip}")
    try:
        os.kill(source._process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        delivered = [source.frame(index) is not None for index in range(1000)]
        assert time.monotonic() - begin < 5  # a wait for each would take minutes
        assert 0 < sum(delivered) <= 17 and not any(delivered[20:])
    finally:
        os.kill(source._process.pid, signal.SIGCONT)
        source.close()


@needs_cv2
def test_a_decoder_that_died_drops_frames_and_says_so(bundle, clip):
    source = opened(bundle, f"video:{clip}")
    try:
        source._process.kill()
        source._process.wait()
        results = [source.frame(index) for index in range(60)]
        assert results[-1] is None and source.fault == "the decoder ended"
    finally:
        source.close()


@needs_cv2
def test_the_decoder_ends_with_the_process_that_it_decodes_for(bundle, clip):
    code = ("import sys, os, signal\nfrom edgert.bundle import load\nfrom edgert.sources import make_source\n"
            "source = make_source(f'video:{sys.argv[1]}', load(sys.argv[2]))\nsource.open((8, 8, 1), 0, 'front')\n"
            "print(source._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code, str(clip), str(bundle.path)], env=environment, stdout=subprocess.PIPE, check=False)
    pid = int(child.stdout)
    end = time.monotonic() + 10
    while running(pid):
        assert time.monotonic() < end, "the decoder stays behind"
        time.sleep(0.01)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_cv2
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 48, 3)])
def test_a_real_video_is_resized_to_the_networks_shape(bundle, shape):
    if not BIKES.is_file():
        pytest.skip("needs ../shared/data: its videos")
    source = opened(bundle, f"video:{BIKES}", shape=shape)
    try:
        frames = [wait_frame(source, index).pixels for index in range(40)]
        assert {f.shape for f in frames} == {shape}
        assert len({f.tobytes() for f in frames}) > 20 and np.std(frames[0]) > 5
        if shape[2] == 3:
            assert any(not np.array_equal(f[..., 0], f[..., 2]) for f in frames)
    finally:
        source.close()


@needs_cv2
@pytest.mark.parametrize("content", [b"", b"this is no video" * 100, b"\0\0\0\x20ftypisom" + b"\0" * 5000])
def test_a_corrupt_video_is_an_error_of_one_line(bundle, tmp_path, content):
    path = tmp_path / "corrupt.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be decoded") as error:
        opened(bundle, f"video:{path}")
    assert "\n" not in str(error.value) and error.value.next_step


@needs_cv2
def test_a_network_with_two_channels_takes_no_video(bundle, clip):
    with pytest.raises(UsageError, match="2 channels"):
        opened(bundle, f"video:{clip}", shape=(8, 8, 2))


def test_a_missing_video_and_a_directory_are_usage_errors(bundle, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        make_source(f"video:{tmp_path}/none.mp4", bundle)
    with pytest.raises(UsageError, match="is no file"):
        make_source(f"video:{tmp_path}", bundle)


def test_without_opencv_the_extra_is_named(bundle, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install 'edgert\[video\]'"):
        make_source(f"video:{tmp_path}/a.mp4", bundle)

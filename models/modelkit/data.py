"""Pictures to learn from: loaders of Fashion-MNIST and CIFAR-10 (JPEG), seeded splits, and views (shifts and flips) as index tables.

NumPy only; JPEG files need OpenCV, Pillow or TensorFlow besides.
"""

import gzip
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_LICENCE = "MIT (Expat), copyright 2017 Zalando SE"
FASHION_NOTICE = """The MIT License (MIT) Copyright © 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH
THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_LICENCE = "free with citation (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)"
CIFAR10_ORIGIN = "CIFAR-10 as lossy JPEG, SPLIT/CLASS/NNNN.jpg"


class DataError(Exception):
    """A data set is absent or is not what its format says."""


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures for training and a test set that no choice may look at.

    frames: uint8 [n, h, w, c]; labels: uint8 [n]; the same for the test set. `source` is what `edgert` calls the data
    (`dataset:NAME`); `licence` and, in full, `notice` go into the card. shareable: whether a bundle may carry pictures of it.
    """

    name: str
    classes: tuple
    frames: np.ndarray
    labels: np.ndarray
    test_frames: np.ndarray
    test_labels: np.ndarray
    licence: str = "not stated"
    origin: str = "not stated"
    notice: str = ""
    shareable: bool = True


@dataclass(frozen=True)
class Splits:
    """Disjoint row numbers (int64) of the training pictures.

    mandatory (A): the ternary network and its teacher learn here. stages (B): the refinement stages learn here; the
    mandatory network never saw them. choose (V): early stopping and choices. calibrate (C): seen by no training and no
    choice; confidence curves are fitted on its first part and checked on the rest.
    """

    mandatory: np.ndarray
    stages: np.ndarray
    choose: np.ndarray
    calibrate: np.ndarray


def read_idx(path):
    """Array of unsigned bytes of an IDX file (gzip or plain).

    Format: bytes 0, 0, type (8 = unsigned byte), number of axes n, then n big-endian uint32 sizes, then the bytes
    (LeCun, "The MNIST database", file formats). Raises DataError on anything else.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as IDX ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an IDX file of unsigned bytes (starts {raw[:4]!r}, expected 00 00 08)")
    axes = raw[3]
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes))
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if body.size != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: holds {body.size} values, its header says {shape}")
    return body.reshape(shape)


def fashion(folder=None):
    """Fashion-MNIST as a `Dataset`: 60,000 training and 10,000 test pictures, uint8 [n, 28, 28, 1], ten classes.

    `folder` defaults to the environment's EDGERT_FASHION_MNIST, then to where the Debian package puts it. Raises
    DataError, naming the package, when the files are absent. Source: Xiao, Rasul, Vollgraf, arXiv 1708.07747.
    """
    folder = Path(folder or os.environ.get("EDGERT_FASHION_MNIST") or FASHION_FOLDER)
    arrays = []
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        found = [p for p in (folder / f"{stem}-ubyte.gz", folder / f"{stem}-ubyte") if p.exists()]
        if not found:
            raise DataError(
                f"Fashion-MNIST not found: no {stem}-ubyte.gz in {folder}. On Debian and Ubuntu:\n"
                f"    sudo apt install {FASHION_PACKAGE}\n"
                "or put the four IDX files in a folder and name it in EDGERT_FASHION_MNIST."
            )
        arrays.append(read_idx(found[0]))
    frames, labels, test_frames, test_labels = arrays
    return Dataset(
        name="fashion-mnist",
        classes=FASHION_CLASSES,
        frames=frames[..., None],
        labels=labels,
        test_frames=test_frames[..., None],
        test_labels=test_labels,
        licence=FASHION_LICENCE,
        notice=FASHION_NOTICE,
        origin=f"Fashion-MNIST, Debian package {FASHION_PACKAGE}",
    )


def cifar10(folder=None):
    """CIFAR-10 from JPEG files as a `Dataset`: 50,000 training and 10,000 test pictures, uint8 [n, 32, 32, 3], ten classes.

    `folder` (default: the environment's EDGERT_CIFAR10) holds `train` and `test`, each a folder with a folder of .jpg files a
    class, or archives of them (`train*.tar.xz`, `test*.tar.xz`). JPEG is lossy: figures on these pictures compare only with figures on
    the same ones. Pictures may not be handed on (`shareable` False). Raises DataError when the files are absent.
    """
    folder = cifar10_folder(folder)
    frames, labels = jpeg_pictures(folder, "train")
    test_frames, test_labels = cifar10_test(folder)
    return Dataset(
        name="cifar10",
        classes=CIFAR10_CLASSES,
        frames=frames,
        labels=labels,
        test_frames=test_frames,
        test_labels=test_labels,
        licence=CIFAR10_LICENCE,
        origin=CIFAR10_ORIGIN,
        shareable=False,
    )


def cifar10_folder(folder=None):
    """`folder`, else that of EDGERT_CIFAR10; DataError where neither is given."""
    folder = folder or os.environ.get("EDGERT_CIFAR10")
    if not folder:
        raise DataError(
            "CIFAR-10 as JPEG not named: put train_50000.tar.xz and test_10000.tar.xz (SPLIT/CLASS/NNNN.jpg) in a folder\n"
            "and name it with --folder or in EDGERT_CIFAR10."
        )
    return Path(folder)


def cifar10_test(folder):
    """The test pictures and labels in a seeded order, so that the first of them are of all classes."""
    frames, labels = jpeg_pictures(folder, "test")
    order = np.random.default_rng(0).permutation(len(labels))
    return frames[order], labels[order]


def jpeg_pictures(folder, part):
    """(uint8 [n, 32, 32, 3], labels uint8 [n]) of `part` (train, test), in the order class, file name."""
    files = {}
    for path in sorted((folder / part).glob("*/*.jpg")):
        files[path.parent.name, path.name] = path.read_bytes()
    if not files:
        archives = sorted(folder.glob(f"{part}*.tar.xz"))
        if not archives:
            raise DataError(f"CIFAR-10 not found: neither {part}/CLASS/*.jpg nor {part}*.tar.xz in {folder}")
        with tarfile.open(archives[0]) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".jpg"):
                    files[tuple(member.name.split("/")[-2:])] = archive.extractfile(member).read()
    unknown = sorted({kind for kind, _ in files} - set(CIFAR10_CLASSES))
    if unknown:
        raise DataError(f"{folder}: classes {unknown} in {part} are not CIFAR-10's")
    decode = jpeg_decoder()
    frames = np.empty((len(files), 32, 32, 3), np.uint8)
    for row, name in enumerate(sorted(files)):
        picture = decode(files[name])
        if picture.shape != frames.shape[1:]:
            raise DataError(f"{folder}: {part}/{'/'.join(name)} is {picture.shape}, expected {frames.shape[1:]}")
        frames[row] = picture
    return frames, np.array([CIFAR10_CLASSES.index(kind) for kind, _ in sorted(files)], np.uint8)


def jpeg_decoder():
    """A function of JPEG bytes -> uint8 [h, w, 3] RGB, by OpenCV, Pillow or TensorFlow, whichever is there; all give the same bytes.

    Raises ImportError when none is.
    """
    try:
        import cv2
    except ImportError:
        pass
    else:
        return lambda raw: cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    try:
        from PIL import Image
    except ImportError:
        pass
    else:
        return lambda raw: np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
    from modelkit.train import tensorflow

    tf = tensorflow()
    return lambda raw: tf.io.decode_jpeg(raw, channels=3, dct_method="INTEGER_ACCURATE").numpy()


def split(labels, *, choose, calibrate, mandatory_share, seed=0):
    """Seeded `Splits` of rows 0..n-1, each class spread evenly over the four parts.

    choose, calibrate: numbers of pictures (rounded per class). mandatory_share: share of the rest that goes to A (1: B is empty).
    Raises DataError when a class has too few pictures.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng([seed, 1])
    parts = ([], [], [], [])
    kinds = np.unique(labels)
    for kind in kinds:
        rows = rng.permutation(np.flatnonzero(labels == kind))
        share = len(rows) / len(labels)
        v, c = round(choose * share), round(calibrate * share)
        a = v + c + round((len(rows) - v - c) * mandatory_share)
        if v < 1 or c < 1 or a <= v + c or a > len(rows) or (a == len(rows)) != (mandatory_share == 1):
            raise DataError(f"class {kind} has {len(rows)} pictures: too few for {v} + {c} held out and two parts")
        for part, cut in zip(parts, (rows[v + c : a], rows[a:], rows[:v], rows[v : v + c]), strict=True):
            part.append(cut)
    return Splits(*(rng.permutation(np.concatenate(part)) for part in parts))


def view_table(height, width, shifts, flips=(False, True)):
    """Index table of views, int32 [views, height * width]: view v of a picture is `flat[table[v]]`.

    shifts: pairs (down, right) in pixels; flips: mirror left-right or not. Pixels from outside repeat the edge. A table
    makes a view one GATHER in a TFLite graph, and training uses the same rows, so both see the same pictures.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    table = []
    for flip in flips:
        for down, right in shifts:
            r = np.clip(rows - down, 0, height - 1)
            c = np.clip(columns - right, 0, width - 1)
            table.append((r * width + (width - 1 - c if flip else c)).ravel())
    return np.asarray(table, np.int32)


def shifts_within(reach):
    """All (down, right) with both within `reach` pixels, the centre first."""
    span = range(-reach, reach + 1)
    return sorted(((d, r) for d in span for r in span), key=lambda s: (abs(s[0]) + abs(s[1]), s))


def augment(frames, table, rng):
    """Each picture in a random view of `table`: [n, h, w, c] -> the same shape and dtype."""
    n, h, w, c = frames.shape
    chosen = table[rng.integers(0, len(table), n)]
    return np.take_along_axis(frames.reshape(n, h * w, c), chosen[..., None], axis=1).reshape(frames.shape)

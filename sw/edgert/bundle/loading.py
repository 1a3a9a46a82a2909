"""Find a bundle by name or path, check it against its manifest, and read its parts."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imprecise.model import Curve, Reward, Stage

from ..errors import BundleError, UsageError

if TYPE_CHECKING:
    from modelkit.ternary.network import Network

FORMAT = 1
MAX_BYTES = 256 << 20  # no file of a bundle is larger, nor what an archive unpacks to; checked before anything is read
MAX_MANIFEST_BYTES = 1 << 20
ZOO = Path(__file__).resolve().parent.parent / "zoo"
MAGIC = {".tflite": (4, b"TFL3"), ".npz": (0, b"PK"), ".onnx": (0, b"\x08")}
MARGIN = 3.0  # worst case assumed of a measured stage: its largest measured time times this
AGAIN = "fetch the bundle again"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def zoo_names() -> list[str]:
    """Names of the bundles that come with edgert."""
    return sorted(p.parent.name for p in ZOO.glob("*/manifest.json"))


def find(name: str) -> Path:
    """The directory of a bundle given by zoo name or path. Raises UsageError where there is none."""
    if name and os.path.isfile(os.path.join(name, "manifest.json")):
        return Path(name)
    if _NAME.fullmatch(name) and (ZOO / name / "manifest.json").is_file():
        return ZOO / name
    if name and os.path.isdir(name):
        raise UsageError(f"{name} is a directory without manifest.json", "name the directory of a bundle")
    known = zoo_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, or a directory"
    raise UsageError(f"unknown bundle {name[:80]!r}", hint)


def load(name: str) -> Bundle:
    """Load a bundle and check every file's sha256, type and size, and that the network is the one described.

    Raises UsageError (unknown) or BundleError (damaged).
    """
    path = find(name)
    manifest = _read_manifest(path / "manifest.json")
    contents: dict[str, bytes] = {}
    for file, expected in manifest["files"].items():
        contents[file] = _read_checked(path, file, expected)
    bundle = Bundle(path, manifest, contents)
    described = (bundle.input_shape, len(bundle.classes), manifest["logit_shift"])
    found = (bundle.network.input_shape, bundle.network.classes, bundle.network.logit_shift)
    if described != found:
        raise BundleError(f"{path}: the manifest says input, classes and logit_shift {described}, mandatory.npz has {found}", AGAIN)
    return bundle


# Reading --------------------------------------------------------------------------------------------------------------


def _read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit`; anything else is a BundleError, and is neither read nor waited for."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path} is no regular file", AGAIN)
            if status.st_size > limit:
                raise BundleError(f"{path} has {status.st_size} bytes, more than the {limit} allowed", AGAIN)
            return file.read(limit)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})", AGAIN) from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(_read_file(path, MAX_MANIFEST_BYTES).decode())
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is no bundle manifest ({type(error).__name__}: {error})", AGAIN) from None
    if version != FORMAT:
        raise BundleError(f"{path} has bundle format {version}, this edgert reads format {FORMAT}", "update edgert or the bundle")
    missing = {"name", "version", "model_id", "input", "classes", "logit_shift", "stages", "files"} - manifest.keys()
    if missing:
        raise BundleError(f"{path} lacks {', '.join(sorted(missing))}", AGAIN)
    fault = _manifest_fault(manifest)
    if fault:
        raise BundleError(f"{path}: {fault}", AGAIN)
    named = {"mandatory.npz", "golden.npz", "calibration.json", "timing.json"} | {s["file"] for s in manifest["stages"]}
    if named - manifest["files"].keys():
        raise BundleError(f"{path} has no hash of {', '.join(sorted(named - manifest['files'].keys()))}", AGAIN)
    if manifest["files"]["mandatory.npz"] != manifest["model_id"]:
        raise BundleError(f"{path}: model_id is not the hash of mandatory.npz", AGAIN)
    return manifest


def _manifest_fault(manifest: dict[str, Any]) -> str:
    """What is wrong with the types and ranges of a manifest's entries; "": nothing."""
    def texts(value: Any) -> bool:
        return all(isinstance(text, str) and text for text in value)

    classes, stages, files = manifest["classes"], manifest["stages"], manifest["files"]
    shape = manifest["input"].get("shape") if isinstance(manifest["input"], dict) else None
    if not isinstance(manifest["name"], str) or not _NAME.fullmatch(manifest["name"]):
        return "its name must be letters, digits, dot, dash and underscore"
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and 1 <= n <= 4096 for n in shape):
        return f"input shape must be three positive integers, found {shape!r}"
    if manifest["input"].get("dtype") != "uint8":
        return f"input dtype must be uint8, found {manifest['input'].get('dtype')!r}"
    if not isinstance(classes, list) or not classes or not texts(classes):
        return "classes must be a list of names"
    if type(manifest["logit_shift"]) is not int:
        return "logit_shift must be an integer"
    if not isinstance(stages, list) or not all(isinstance(s, dict) and texts((s.get("name"), s.get("file"))) for s in stages):
        return "stages must be a list of {name, file, kind}"
    if not isinstance(files, dict) or not texts(files.values()):
        return "files must map names to sha256"
    for file in files:
        if not _NAME.fullmatch(file):
            return f"the manifest names {file!r}, which is not a plain file name"
    return ""


def _read_checked(root: Path, file: str, expected: str) -> bytes:
    path = root / file
    data = _read_file(path, MAX_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise BundleError(f"{path} was altered: sha256 {found[:12]}..., the manifest says {expected[:12]}...", AGAIN)
    offset, magic = MAGIC.get(path.suffix, (0, b""))
    if data[offset:offset + len(magic)] != magic:
        raise BundleError(f"{path} is not a {path.suffix} file", AGAIN)
    return data


def _read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, no pickles; raises ValueError where sizes do not add up, before anything is allocated."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        total = sum(info.file_size for info in infos)
        if total > MAX_BYTES:
            raise ValueError(f"it unpacks to {total} bytes, more than the {MAX_BYTES} allowed")
        for info in infos:
            if not info.filename.endswith(".npy"):
                raise ValueError(f"entry {info.filename!r} is no array")
            data = archive.read(info)
            stream = io.BytesIO(data)
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            rest = len(data) - stream.tell()
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != rest:
                raise ValueError(f"entry {info.filename!r} says {dtype} {list(shape)} and holds {rest} bytes")
            flat = np.frombuffer(data, dtype, offset=stream.tell())
            arrays[info.filename[:-4]] = (flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)).copy()
    return arrays


# The bundle -----------------------------------------------------------------------------------------------------------


class Bundle:
    """A checked bundle; its parts are read when first used, and raise BundleError where they make no sense.

    `contents` holds the bytes that were hashed, so what is used is what was checked.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], contents: dict[str, bytes]):
        self.path = path
        self.manifest = manifest
        self.contents = contents
        self.name: str = manifest["name"]
        self.version: str = str(manifest["version"])
        self.model_id: str = manifest["model_id"]
        self.classes: list[str] = list(manifest["classes"])
        self.input_shape: tuple[int, int, int] = tuple(manifest["input"]["shape"])
        self.logit_scale: float = 2.0 ** -int(manifest["logit_shift"])
        self.stage_files: list[str] = [stage["file"] for stage in manifest["stages"]]

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        """The arrays of one of its `.npz` files (no pickles). Raises BundleError where the bundle has no such file."""
        if file not in self.contents:
            raise BundleError(f"bundle {self.name!r} has no {file}", "use a bundle that has it")
        with self._making_sense(file):
            return _read_arrays(self.contents[file])

    @contextlib.contextmanager
    def _making_sense(self, file: str) -> Iterator[None]:
        """What goes wrong with the content of `file` becomes a BundleError."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, EOFError, OSError, RuntimeError,
                zipfile.BadZipFile, zlib.error) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise BundleError(f"{self.path / file} makes no sense ({reason})", AGAIN) from None

    @cached_property
    def network(self) -> Network:
        """The ternary network."""
        from modelkit.ternary import npz

        with self._making_sense("mandatory.npz"):
            return npz.loads(self.contents["mandatory.npz"])

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """`calibration.json`."""
        return self._json("calibration.json")

    @cached_property
    def timing(self) -> dict[str, Any]:
        """`timing.json`."""
        return self._json("timing.json")

    @property
    def depths(self) -> int:
        """Depths of an answer: one more than refinement stages."""
        return len(self.stage_files) + 1

    @property
    def temperature(self) -> list[float]:
        """Softmax temperature at each depth."""
        with self._making_sense("calibration.json"):
            found = [float(t) for t in self.calibration["temperature"]]
            if len(found) != self.depths or not all(t > 0 and math.isfinite(t) for t in found):
                raise ValueError(f"expected {self.depths} positive temperatures, found {found}")
            return found

    @cached_property
    def reward(self) -> Reward:
        """The calibrated curves, as the scheduler wants them."""
        def curve(entry: dict[str, list[float]]) -> Curve:
            return Curve(tuple(entry["x"]), tuple(entry["y"]))

        with self._making_sense("calibration.json"):
            gain = {(int(d), int(e)): curve(c) for d, row in self.calibration["gain"].items() for e, c in row.items()}
            return Reward(tuple(curve(c) for c in self.calibration["correct"]), gain)

    def stages(self) -> tuple[Stage, ...]:
        """Mandatory stage on `fpga`, refinement stages on `cpu`, with the bundle's own timing (measured elsewhere)."""
        with self._making_sense("timing.json"):
            times = self.timing["stages"]
            out = []
            for name in ["mandatory", *(entry["name"] for entry in self.manifest["stages"])]:
                mandatory = name == "mandatory"
                worst_ns, usual_ns = int(times[name]["max_ns"] * MARGIN), int(times[name]["p90_ns"])
                out.append(Stage(f"{self.name}/{name}", "fpga" if mandatory else "cpu", mandatory, worst_ns, usual_ns))
            return tuple(out)

    def _json(self, file: str) -> dict[str, Any]:
        with self._making_sense(file):
            content: dict[str, Any] = json.loads(self.contents[file])
            if not isinstance(content, dict):
                raise ValueError("expected an object")
            return content

"""Find a bundle by name or path, check it against its manifest, and read its parts."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from imprecise.model import Curve, Reward, Stage

from ..errors import BundleError, UsageError

if TYPE_CHECKING:
    from modelkit.ternary.network import Network

FORMAT = 1
MAX_BYTES = 256 << 20  # no file of a bundle is larger; checked before anything is read
ZOO = Path(__file__).resolve().parent.parent / "zoo"
MAGIC = {".tflite": (4, b"TFL3"), ".npz": (0, b"PK"), ".onnx": (0, b"\x08")}
MARGIN = 3.0  # worst case assumed of a measured stage: its largest measured time times this


def zoo_names() -> list[str]:
    """Names of the bundles that come with edgert."""
    return sorted(p.parent.name for p in ZOO.glob("*/manifest.json"))


def find(name: str) -> Path:
    """The directory of a bundle given by zoo name or path. Raises UsageError where there is none."""
    path = Path(name)
    if (path / "manifest.json").is_file():
        return path
    if (ZOO / name / "manifest.json").is_file():
        return ZOO / name
    if path.is_dir():
        raise UsageError(f"{name} is a directory without manifest.json", "name the directory of a bundle")
    known = zoo_names()
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(f"unknown bundle {name!r}", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, or a directory")


def load(name: str) -> Bundle:
    """Load a bundle and check every file's sha256, type and size. Raises UsageError (unknown) or BundleError (damaged)."""
    path = find(name)
    manifest = _read_manifest(path / "manifest.json")
    contents: dict[str, bytes] = {}
    for file, expected in manifest["files"].items():
        contents[file] = _read_checked(path, file, expected)
    return Bundle(path, manifest, contents)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is no bundle manifest ({error})", "fetch the bundle again") from None
    if version != FORMAT:
        raise BundleError(f"{path} has bundle format {version}, this edgert reads format {FORMAT}", "update edgert or the bundle")
    missing = {"name", "version", "model_id", "input", "classes", "logit_shift", "stages", "files"} - manifest.keys()
    if missing:
        raise BundleError(f"{path} lacks {', '.join(sorted(missing))}", "fetch the bundle again")
    named = {"mandatory.npz", "golden.npz", "calibration.json", "timing.json"} | {s["file"] for s in manifest["stages"]}
    if named - manifest["files"].keys():
        raise BundleError(f"{path} has no hash of {', '.join(sorted(named - manifest['files'].keys()))}", "fetch the bundle again")
    if manifest["files"]["mandatory.npz"] != manifest["model_id"]:
        raise BundleError(f"{path}: model_id is not the hash of mandatory.npz", "fetch the bundle again")
    return manifest


def _read_checked(root: Path, file: str, expected: str) -> bytes:
    path = root / file
    if Path(file).name != file:
        raise BundleError(f"{root}: the manifest names {file!r}, which is not a plain file name", "fetch the bundle again")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BundleError(f"{path} has {size} bytes, more than the {MAX_BYTES} allowed", "fetch the bundle again")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})", "fetch the bundle again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise BundleError(f"{path} was altered: sha256 {found[:12]}..., the manifest says {expected[:12]}...", "fetch the bundle again")
    offset, magic = MAGIC.get(path.suffix, (0, b""))
    if data[offset:offset + len(magic)] != magic:
        raise BundleError(f"{path} is not a {path.suffix} file", "fetch the bundle again")
    return data


class Bundle:
    """A checked bundle; its parts are read when first used.

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
        try:
            with np.load(io.BytesIO(self.contents[file]), allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (ValueError, OSError) as error:
            raise BundleError(f"{self.path / file} cannot be read ({error})", "fetch the bundle again") from None

    @cached_property
    def network(self) -> Network:
        """The ternary network."""
        from modelkit.ternary import npz

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
    def temperature(self) -> list[float]:
        """Softmax temperature at each depth."""
        return [float(t) for t in self.calibration["temperature"]]

    @cached_property
    def reward(self) -> Reward:
        """The calibrated curves, as the scheduler wants them."""
        def curve(entry: dict[str, list[float]]) -> Curve:
            return Curve(tuple(entry["x"]), tuple(entry["y"]))

        gain = {(int(d), int(e)): curve(c) for d, row in self.calibration["gain"].items() for e, c in row.items()}
        return Reward(tuple(curve(c) for c in self.calibration["correct"]), gain)

    def stages(self) -> tuple[Stage, ...]:
        """Mandatory stage on `fpga`, refinement stages on `cpu`, with the bundle's own timing (measured elsewhere)."""
        times = self.timing["stages"]
        mandatory = times["mandatory"]
        out = [Stage(f"{self.name}/mandatory", "fpga", True, int(mandatory["max_ns"] * MARGIN), mandatory["p90_ns"])]
        for entry in self.manifest["stages"]:
            t = times[entry["name"]]
            out.append(Stage(f"{self.name}/{entry['name']}", "cpu", False, int(t["max_ns"] * MARGIN), t["p90_ns"]))
        return tuple(out)

    def _json(self, file: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.contents[file])
        except ValueError as error:
            raise BundleError(f"{self.path / file} is no JSON ({error})", "fetch the bundle again") from None
        return content

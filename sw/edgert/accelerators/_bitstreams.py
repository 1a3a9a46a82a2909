"""Bitstreams on disk: found by the model's hash, refused before loading where anything differs.

    bitstreams/<board>/<any name>/manifest.json   {"format": 1, "board": "pynq-z2", "part": "xc7z020clg400-1", "model_id": sha256 of
                                                   mandatory.npz, "files": {"edgert.bit": sha256, "edgert.hwh": sha256, ...}}

Roots: the directories of EDGERT_BITSTREAMS (separated as PATH; one that `edgert hw bitstream` wrote may be named itself), `bitstreams`
beside the bundle, here, beside the sources, in ~/.local/share/edgert, /usr/local/share/edgert.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..errors import AcceleratorMissing, BitstreamRefused

if TYPE_CHECKING:
    from ..bundle import Bundle

FORMAT = 1
MAX_BYTES = 64 << 20
BUILD = "fetch it again, or build it: edgert hw bitstream"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Bitstream:
    """One that was checked: paths, and sha256 of the `.bit`."""

    bit: Path
    hwh: Path
    sha256: str
    part: str


def roots(bundle: Bundle | None = None) -> list[Path]:
    """Where bitstreams are looked for, in this order."""
    given = [Path(p) for p in os.environ.get("EDGERT_BITSTREAMS", "").split(os.pathsep) if p]
    beside = [bundle.path / "bitstreams"] if bundle is not None else []
    shares = [Path.home() / ".local/share/edgert", Path("/usr/local/share/edgert")]
    others = [Path(__file__).resolve().parents[3], *shares]
    return [*given, *beside, Path("bitstreams"), *(other / "bitstreams" for other in others)]


def manifests(board: str, places: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Directory and manifest of each bitstream for `board`; one that cannot be read has {}."""
    for place in places:
        made = (place / "manifest.json", place / "bitstream" / "manifest.json")
        own = [path for path in made if _read_manifest(path).get("board") == board]
        for path in [*own, *sorted((place / board).glob("*/manifest.json"))]:
            yield path.parent, _read_manifest(path)


def _read_manifest(path: Path) -> dict[str, Any]:
    """{} where it cannot be read."""
    try:
        found = json.loads(path.read_bytes()[:1 << 20])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def find(board: str, model_id: str, places: list[Path]) -> tuple[Path, dict[str, Any]]:
    """The first bitstream of the model for the board. Raises AcceleratorMissing, which names what is there."""
    seen = []
    for directory, manifest in manifests(board, places):
        if manifest.get("model_id") == model_id:
            return directory, manifest
        seen.append(f"{directory} ({str(manifest.get('model_id'))[:12]})" if manifest else f"{directory} (no manifest that can be read)")
    there = f"; there are {', '.join(seen)}" if seen else f", in none of {', '.join(map(str, places))}"
    raise AcceleratorMissing(f"no bitstream of model {model_id[:12]} for {board}{there}", f"EDGERT_BITSTREAMS=DIRECTORY, or {BUILD}")


def check(directory: Path, manifest: dict[str, Any], board: str, part: str, model_id: str) -> Bitstream:
    """Everything that can be known before loading. Raises BitstreamRefused with both values."""
    def same(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise BitstreamRefused(f"{directory}: {what} is {found!r}, expected {expected!r}; it is not loaded", BUILD)

    same("format", manifest.get("format"), FORMAT)
    same("board", manifest.get("board"), board)
    same("part", manifest.get("part"), part)
    same("model_id", manifest.get("model_id"), model_id)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(f, str) and Path(f).name == f and isinstance(h, str) and _SHA256.fullmatch(h)
                                              for f, h in files.items()):
        raise BitstreamRefused(f"{directory}/manifest.json: files must map plain file names to sha256", BUILD)
    bits = [name for name in files if name.endswith(".bit")]
    same("number of .bit files", len(bits), 1)
    hwh_name = bits[0][:-len(".bit")] + ".hwh"
    if hwh_name not in files:
        raise BitstreamRefused(f"{directory}/manifest.json names {bits[0]} and no {hwh_name}, without which PYNQ loads nothing", BUILD)
    contents = {}
    for name, expected in files.items():
        contents[name] = _read(directory / name)
        same(f"sha256 of {name}", hashlib.sha256(contents[name]).hexdigest(), expected)
    header = bit_header(contents[bits[0]], directory / bits[0])
    same(f"part in the header of {bits[0]}", plain_part(header), plain_part(part))
    _check_hwh(contents[hwh_name], directory / hwh_name, part, model_id)
    return Bitstream(directory / bits[0], directory / hwh_name, files[bits[0]], part)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BitstreamRefused(f"{path} has {path.stat().st_size} bytes, more than the {MAX_BYTES} allowed", BUILD)
        return path.read_bytes()
    except OSError as error:
        raise BitstreamRefused(f"{path}, which the manifest names, cannot be read ({error.strerror})", BUILD) from None


def plain_part(part: str) -> str:
    """Device and package of a part's name, whoever wrote it: `7z020clg400` of `xc7z020clg400-1`."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"-\d.*$", "", part.lower())).removeprefix("xc")


def bit_header(content: bytes, path: Path) -> str:
    """The part that a `.bit` names; its length must be that of the file. Raises BitstreamRefused."""
    try:
        at = 2 + struct.unpack_from(">H", content, 0)[0] + 2
        part = ""
        for _ in range(5):
            key = content[at:at + 1]
            if key == b"e":
                length, at = struct.unpack_from(">I", content, at + 1)[0], at + 5
                if not part or length == 0 or at + length != len(content):
                    raise BitstreamRefused(f"{path} holds {len(content) - at} bytes of data, its header says {length}", BUILD)
                return part
            size = struct.unpack_from(">H", content, at + 1)[0]
            value = content[at + 3:at + 3 + size]
            if key == b"b":
                part = value.rstrip(b"\0").decode("ascii")
            at += 3 + size
    except (struct.error, UnicodeDecodeError):
        pass
    raise BitstreamRefused(f"{path} is no .bit file: its header makes no sense", BUILD)


def _check_hwh(content: bytes, path: Path, part: str, model_id: str) -> None:
    """The hardware description is of this part and this model. Raises BitstreamRefused."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise BitstreamRefused(f"{path} declares entities, which a hardware description never does", BUILD)
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BitstreamRefused(f"{path} is no hardware description ({error})", BUILD) from None
    about = tree.find("SYSTEMINFO")
    found = plain_part(about.get("DEVICE", "") + about.get("PACKAGE", "")) if about is not None else "none"
    if found != plain_part(part):
        raise BitstreamRefused(f"{path} is for part {found}, expected {plain_part(part)}", BUILD)
    models = [p.get("VALUE", "") for p in tree.iter("PARAMETER") if p.get("NAME") == "MODEL_ID"]
    if models != [model_id]:
        raise BitstreamRefused(f"{path} is of model {', '.join(m[:12] for m in models) or 'none'}, expected {model_id[:12]}", BUILD)

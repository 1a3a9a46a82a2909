"""The files of one version for another machine: edgert, pure-Python wheels, perhaps a TFLite runtime, the bundle, a launcher.

Nothing of it is installed there: the wheels are unpacked in a folder that the launcher puts on `PYTHONPATH`, and NumPy and pynq are
those of the machine. Wheels are downloaded on this computer with its own pip, and kept, so that the same command gives the same files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from ..accelerators import _bitstreams, _fabric
from ..bundle import Bundle
from ..errors import AcceleratorMissing, EdgertError, PythonUnfit, RemoteError, WrongMachine

OURS = ("edgert", "imprecise", "modelkit")
MACHINES = ("x86_64", "aarch64", "armv7l")
PYTHON = (3, 10)
NUMPY = (1, 21)
PURE = ("attrs>=22.2", "typer>=0.12,<0.29", "rich>=12", "tomli>=2", "typing-extensions")  # where edgert is on the path only
LITERT, TFLITE = "ai-edge-litert>=2.1.6,<2.2", "tflite-runtime==2.14.0"
LAUNCHER = """#!/bin/sh
# Runs edgert from this folder with the machine's own Python and NumPy; nothing is installed.
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH="$here/python${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
[ -O "$here" ] || export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/start.py" "$@"
"""
START = '''"""Starts edgert where Python is new enough for it."""

import sys

if sys.version_info < (3, 10):
    sys.exit("edgert: Python 3.10 or newer is needed, this is " + sys.version.split()[0])
from edgert.cli import main

main()
'''


@dataclass(frozen=True)
class File:
    """One file of a version: where it goes, what it holds, whether it can be run."""

    path: str
    content: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        """Of its content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Package:
    """All files of a version, its name, and remarks for the user."""

    name: str
    files: tuple[File, ...]
    notes: tuple[str, ...]


def kind_of(facts: dict[str, Any], host: str) -> str:
    """The machine as wheels name it; a 32-bit system on a 64-bit kernel is armv7l.

    Raises WrongMachine for a processor that nothing here runs on, PythonUnfit where Python or NumPy is missing or too old.
    """
    machine = str(facts["machine"])
    if machine in ("aarch64", "armv8l", "armv7l") and facts["bits"] == 32:
        machine = "armv7l"
    if machine not in MACHINES or (facts["bits"] == 32) != (machine == "armv7l"):
        raise WrongMachine(f"{host} is {facts['machine']}, {facts['bits']} bit; expected {', '.join(MACHINES)}",
                           "deploy to another machine (a Raspberry Pi of the first generation or a Zero is too old)")
    version = ".".join(map(str, facts["python"]))
    if tuple(facts["python"][:2]) < PYTHON or facts["implementation"] != "CPython":
        raise PythonUnfit(f"{host} has {facts['implementation']} {version} ({facts['executable']}); expected CPython 3.10 or newer",
                          "install a newer system there: PYNQ 3.0, Raspberry Pi OS 12, Debian 12 or Ubuntu 22.04, or later")
    if not facts["numpy"]:
        raise PythonUnfit(f"{host} has no NumPy that works with {facts['executable']} ({facts['numpy_fault']}); expected 1.21 or newer",
                          "install it there: sudo apt install python3-numpy")
    if _numbers(facts["numpy"]) < NUMPY:
        raise PythonUnfit(f"{host} has NumPy {facts['numpy']}; expected 1.21 or newer", "update the system there")
    return machine


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


# Wheels -----------------------------------------------------------------------------------------------------------------


def runtime_for(machine: str, python: Sequence[int], numpy: str) -> tuple[str, str]:
    """The requirement of a TFLite runtime for that machine; "" and why where there is none."""
    version = f"{python[0]}.{python[1]}"
    if machine != "armv7l":
        return LITERT, ""
    if tuple(python[:2]) > (3, 11):
        return "", f"there is no TFLite runtime for armv7l with Python {version}, only up to 3.11: mandatory answers, without refinement"
    if _numbers(numpy) >= (2, 0):
        return "", f"tflite-runtime does not work with NumPy {numpy}: mandatory answers, without refinement"
    return TFLITE, ""


def platforms(machine: str, glibc: str) -> list[str]:
    """Platform tags of wheels that a machine with that glibc takes, newest first."""
    minor = _numbers(glibc)[1] if len(_numbers(glibc)) > 1 else 28
    return [*(f"manylinux_2_{n}_{machine}" for n in range(minor, 16, -1)), f"manylinux2014_{machine}", f"linux_{machine}"]


def own_requirements() -> list[str]:
    """What edgert needs, without NumPy. Markers are left out: pip would judge them by this computer's Python."""
    try:
        listed = [text for text in requires("edgert") or [] if "extra ==" not in text]
    except PackageNotFoundError:
        listed = []
    wanted = [text.partition(";")[0].strip() for text in listed] or list(PURE)
    return [text for text in (*wanted, "typing-extensions") if _name(text) != "numpy"]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def wheels(machine: str, facts: dict[str, Any], runtime: str, folder: Path | None) -> list[Path]:
    """The wheels, from `folder`, or downloaded once and kept. Raises EdgertError where pip does not get them."""
    if folder is not None:
        found = sorted(folder.glob("*.whl"))
        if not found:
            raise EdgertError(f"{folder} holds no wheel", "fill it with pip download, or leave --wheels out")
        for path in found:
            _check_tag(path, machine, facts)
        return found
    wanted = own_requirements()
    python = f"{facts['python'][0]}.{facts['python'][1]}"
    key = hashlib.sha256("\n".join([*wanted, runtime, machine, python, facts["glibc"]]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "wheels"
    place = cache / key
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache, prefix=f"{key}-"))
        try:
            if runtime:
                tags = [part for tag in platforms(machine, facts["glibc"]) for part in ("--platform", tag)]
                _download(fresh, python, ["--no-deps", *tags, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}"], [runtime])
                wanted = [*wanted, *_needs(next(fresh.glob("*.whl")))]
            _download(fresh, python, ["--platform", "any", "--implementation", "py", "--abi", "none"], wanted)
            fresh.rename(place)
        except OSError:
            if not place.is_dir():  # another deployment may have been faster
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return sorted(place.glob("*.whl"))


def _check_tag(path: Path, machine: str, facts: dict[str, Any]) -> None:
    """Raise WrongMachine where a wheel is for another processor or another Python."""
    pythons, _, platform = path.stem.split("-")[-3:]
    own = f"cp{facts['python'][0]}{facts['python'][1]}"
    if platform != "any" and (not platform.endswith(f"_{machine}") or own not in pythons.split(".")):
        raise WrongMachine(f"{path.name} is for {pythons}, {platform}; expected {own}, {machine}",
                           "download it for that machine: see pip download --help")


def _download(folder: Path, python: str, flags: list[str], wanted: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
               "--python-version", python, "--dest", str(folder), *flags, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["it said nothing"]
        if "No module named pip" in done.stderr:
            raise EdgertError(f"{sys.executable} has no pip, which gets the wheels for the other machine", "python3 -m ensurepip")
        raise EdgertError(f"pip cannot get {', '.join(wanted)} for Python {python} ({errors[-1]})",
                          "see whether pip reaches its index, or name a folder of wheels with --wheels")


def _needs(wheel: Path) -> list[str]:
    """What a wheel needs beside NumPy, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode(errors="replace").splitlines()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    return [re.sub(r"\s", "", text.partition(";")[0]) for text in found if _name(text) != "numpy"]


def unpacked(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Files of a wheel as they would be installed, scripts left out. Raises RemoteError where a name leads out of the folder."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = info.filename
            data = re.match(r"[^/]+\.data/(purelib|platlib)/(.+)", path)
            if data:
                path = data[2]
            elif ".data/" in path.partition("/")[0] + "/" or path.endswith(("/", ".dist-info/RECORD")):
                continue
            if path.startswith("/") or ".." in path.split("/"):
                raise RemoteError(f"{wheel.name} holds {path!r}, which leads out of its folder", "get that wheel elsewhere")
            yield path, archive.read(info)


# The whole --------------------------------------------------------------------------------------------------------------


def own_files(packages: Sequence[str] = OURS) -> Iterator[tuple[str, bytes]]:
    """The source of edgert as it runs here: no bundle, no compiled code, which would be this computer's."""
    for name in packages:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None, name
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not {"__pycache__", "zoo"} & set(relative.parts) and path.suffix not in (".so", ".pyc", ".pyd", ".c"):
                yield f"{name}/{relative.as_posix()}", path.read_bytes()


def bundle_files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """The bundle as it was checked, and its manifest with the signature where it has one."""
    yield from bundle.contents.items()
    for name in ("manifest.json", "manifest.minisig"):
        if (bundle.path / name).is_file():
            yield name, (bundle.path / name).read_bytes()


def bitstream_files(bundle: Bundle, named: str) -> tuple[dict[str, bytes], str]:
    """The bitstream of the bundle's network for the board that calls itself `named`, checked, and a remark; nothing for other machines.

    Raises BitstreamRefused where one is there that does not fit.
    """
    board = next((board for board in _fabric.BOARDS if any(word in named.lower() for word in board.told_by)), None)
    if board is None:
        return {}, ""
    try:
        folder, manifest = _bitstreams.find(board.name, bundle.model_id, _bitstreams.roots(bundle))
    except AcceleratorMissing as error:
        return {}, f"{error.message}: the mandatory part runs on that board's processor; to send one: {error.next_step}"
    _bitstreams.check(folder, manifest, board.name, board.part, bundle.model_id)
    names = ["manifest.json", *manifest["files"]]
    return {f"bitstreams/{board.name}/{folder.name}/{name}": (folder / name).read_bytes() for name in names}, ""


def make(bundle: Bundle, machine: str, facts: dict[str, Any], tflite: bool = True, folder: Path | None = None) -> Package:
    """The version for that machine. Raises EdgertError where wheels cannot be had."""
    runtime, note = runtime_for(machine, facts["python"], facts["numpy"]) if tflite else ("", "no TFLite runtime, as asked: no refinement")
    content: dict[str, bytes] = {}
    for wheel in wheels(machine, facts, runtime, folder):
        for path, data in unpacked(wheel):
            if content.setdefault(f"python/{path}", data) != data:
                raise RemoteError(f"two wheels hold different files {path}, the second is {wheel.name}", "remove one of them from --wheels")
    content.update((f"python/{path}", data) for path, data in own_files())
    content.update((f"python/edgert/zoo/{bundle.name}/{path}", data) for path, data in bundle_files(bundle))
    bits, remark = bitstream_files(bundle, facts["board"])
    content.update(bits)
    content["start.py"], content["BUNDLE"] = START.encode(), bundle.name.encode()
    files = [*(File(path, data) for path, data in sorted(content.items())), File("edgert", LAUNCHER.encode(), executable=True)]
    state = hashlib.sha256("".join(f"{file.sha256} {file.path}\n" for file in files).encode())
    version = re.sub(r"[^A-Za-z0-9._]", "_", bundle.version)
    return Package(f"{bundle.name}-{version}-{state.hexdigest()[:12]}", tuple(files), tuple(text for text in (note, remark) if text))

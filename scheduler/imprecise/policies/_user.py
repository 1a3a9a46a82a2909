"""Policies that do not come with this package: a Python file, or an entry point of another distribution."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .base import Policy

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "edgert.policies"
_FILE = re.compile(r"(.+\.py)(?::(.*))?", re.DOTALL)


def split(spec: str) -> tuple[str, str]:
    """A spec as (name or file, parameters): `threshold:theta=0.5`, `./mine.py:theta=0.5`. A file is what ends in `.py`."""
    match = _FILE.fullmatch(spec)
    if match:
        return match[1], match[2] or ""
    name, _, rest = spec.partition(":")
    return name, rest


def is_file(name: str) -> bool:
    """Whether a policy's name is that of a file."""
    return name.endswith(".py")


def sha256(name: str) -> str:
    """Of a policy file as it is now; "" for a policy that is no file. Raises ValueError where it cannot be read."""
    return hashlib.sha256(_read(Path(name))).hexdigest() if is_file(name) else ""


def installed() -> dict[str, EntryPoint]:
    """Entry points of the group `edgert.policies` by name; none is loaded."""
    from importlib.metadata import entry_points  # 10 ms that most runs do without

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def from_entry_point(entry: EntryPoint) -> type[Policy]:
    """The class that an entry point names. Raises ValueError where it cannot be loaded or is no policy."""
    try:
        found = entry.load()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ValueError(f"policy {entry.name!r} ({entry.value}) cannot be loaded: {where(error)}") from None
    return _checked(found, f"policy {entry.name!r} ({entry.value})", "it")


def from_file(name: str) -> type[Policy]:
    """The class that a file calls `POLICY`; the file is run anew each time. Raises ValueError: one line with the file and the line."""
    path = Path(name).absolute()
    source = _read(Path(name))
    module = ModuleType(f"policy_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}")
    module.__file__ = str(path)
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
        if "POLICY" not in module.__dict__:
            classes = [key for key, value in vars(module).items()
                       if isinstance(value, type) and issubclass(value, Policy) and value.__module__ == module.__name__]
            hint = f"`POLICY = {classes[-1]}`" if classes else "`POLICY = Name`, of a subclass of imprecise.policies.Policy,"
            raise ValueError(f"{name}:{source.count(10) + 1}: found no POLICY, expected {hint} at the end of the file")
        return _checked(module.__dict__["POLICY"], f"{name}:{_line_of_policy(source)}", "POLICY")
    except BaseException as error:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, ValueError) and str(error).startswith(f"{name}:")):
            raise
        raise ValueError(where(error, path, name)) from None


def where(error: BaseException, path: Path | None = None, name: str = "") -> str:
    """An exception in one line: the file and line where it was raised (the last line in `path` where it passed there), type and text."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        file, line, text = error.filename, error.lineno or 1, f"{kind}: {error.msg}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if path is not None and f.filename == str(path)] or frames[-1:]
        file, line = (own[-1].filename, own[-1].lineno or 1) if own else ("?", 0)
        text = f"{kind}: {_text(error)}" if _text(error) else kind
        if path is not None and file != str(path):
            file, line = str(path), 1
    return f"{name if path is not None and file == str(path) else file}:{line}: {text}"


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"policy file {path}: {getattr(error, 'strerror', None) or error}") from None


def _line_of_policy(source: bytes) -> int:
    """Where a file sets POLICY for the last time."""
    lines = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id == "POLICY"
             and isinstance(node.ctx, ast.Store)]
    return max(lines, default=1)


def _checked(found: Any, at: str, what: str) -> type[Policy]:
    if not (isinstance(found, type) and issubclass(found, Policy)):
        shown = f"the {type(found).__name__} {found!r}" if not isinstance(found, type) else f"the class {found.__name__}"
        raise ValueError(f"{at}: {what} is {shown[:80]}, expected a subclass of imprecise.policies.Policy")
    if found.pick is Policy.pick and found.splits:
        raise ValueError(f"{at}: {found.__name__} has no method pick(self, ready, engine)")
    return found

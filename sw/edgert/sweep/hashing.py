"""Names for content: the hash of canonical JSON, of objects made of dataclasses and arrays, and of the code behind a result."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

OURS = ("imprecise", "edgert")  # packages whose source counts as code behind a result


def canonical(value: Any) -> str:
    """JSON with one spelling for one value: sorted keys, no blanks. Raises ValueError for a number that is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """The hash of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


# Objects --------------------------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """The hash of a value made of numbers, texts, lists, tuples, sets, dicts, NumPy arrays, and dataclasses of these.

    Equal values of equal types have one hash, in every process. Other objects count by class and attributes. What a dataclass
    derives from its fields does not count. Raises TypeError for a function that has no name of its own.
    """
    return sha256(canonical(_plain(value, {})))


def _plain(value: Any, seen: dict[int, tuple[Any, str]]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return ["float", float(value).hex()]
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.str, list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, tuple | list):
        if all(type(entry) is int for entry in value):
            return ["list", *value]
        return ["list", *(_plain(entry, seen) for entry in value)]
    if isinstance(value, dict):
        return ["dict", sorted(([_plain(k, seen), _plain(v, seen)] for k, v in value.items()), key=canonical)]
    if isinstance(value, set | frozenset):
        return ["set", sorted((_plain(entry, seen) for entry in value), key=canonical)]
    if isinstance(value, Path):
        return ["path", str(value)]
    if callable(value) and hasattr(value, "__qualname__"):
        if "<" in value.__qualname__:
            raise TypeError(f"{value.__module__}.{value.__qualname__} cannot be told from another: use a function of a module")
        return ["name", value.__module__, value.__qualname__]
    if id(value) not in seen:  # one hash an object: streams share their workload
        kind = type(value)
        names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else sorted(_attributes(value))
        fields = [[name, _plain(getattr(value, name), seen)] for name in names]
        seen[id(value)] = value, sha256(canonical([kind.__module__, kind.__qualname__, fields]))
    return ["object", seen[id(value)][1]]


def _attributes(value: Any) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(value, "__dict__", {}), *(name for name in slots if hasattr(value, name))]


# Code -----------------------------------------------------------------------------------------------------------------


@cache
def code_of(module: str) -> str:
    """The hash of a module's source and of all our own modules that it imports, also lazily; comments and docstrings do not count.

    So a result is not reused once the code that made it reads differently. Raises ModuleNotFoundError where there is none.
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            found = _source(name)
            if found is not None:
                sources[name], imported = found
                waiting += imported
    if not sources:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return sha256(canonical(sources))


@cache
def _source(name: str) -> tuple[str, tuple[str, ...]] | None:
    """What a module says, without docstrings, and which of our own modules it imports; None where it is not a module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        return None
    path = Path(str(spec.origin))
    if path.suffix != ".py":  # compiled: its source lies beside it
        source = path.with_name(path.name.partition(".")[0] + ".py")
        if not source.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest(), ()
        path = source
    tree = ast.parse(path.read_bytes())
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    imported = tuple(sorted({n for node in ast.walk(tree) for n in _imported(node, package) if n.partition(".")[0] in OURS}))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return sha256(ast.unparse(tree)), imported


def _imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parts, *([node.module] if node.module else [])])
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return []


def code_of_policy(policy: Any) -> str:
    """The hash of the code of a policy object: of its module and what it imports of ours, or of its file where it is not ours.

    Raises ValueError where that file cannot be read.
    """
    module = type(policy).__module__
    if module.partition(".")[0] in OURS:
        return code_of(module)
    try:
        return hashlib.sha256(Path(inspect.getfile(type(policy))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        raise ValueError(f"policy {policy.name!r}: its source cannot be read, so its results could not be told from others") from None

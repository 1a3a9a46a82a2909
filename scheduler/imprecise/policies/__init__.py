"""Policies by name: a module of this folder a policy, its class named `POLICY` there; or a file of the user's, or an entry point.

    make("threshold:theta=0.5")     of this folder
    make("./mine.py:theta=0.5")     a Python file that sets POLICY to a subclass of Policy
    make("theirs")                  an entry point of the group `edgert.policies`

A file or an entry point is code of whoever wrote it, and runs when it is made.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

from . import _user
from .base import Policy

__all__ = ["DEFAULT", "Described", "Policy", "describe", "file_sha256", "full_name", "is_shipped", "make", "names"]

DEFAULT = "priced-density"


def names() -> list[str]:
    """The names of the policies in this folder, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))


def make(spec: str, own: bool = True) -> Policy:
    """Make a policy from `name` or `name:parameter=value,...`; `default` is the one chosen on validation scenarios.

    `own=False` makes shipped ones only and runs no other code: for a spec that comes from a record. Raises ValueError, one line,
    for an unknown name (the nearest is offered) or parameter, and for a file that makes no policy (with file and line).
    """
    name, rest = _user.split(spec)
    cls = _class(name, own)
    values = _parameters(spec, cls, rest)
    try:
        return cls(**values)
    except Exception as error:
        if name not in names() and name != "default":
            raise ValueError(f"policy {spec!r}: {_where(error, name)}") from None
        if not isinstance(error, (TypeError, ValueError)):
            raise
        raise ValueError(f"policy {spec!r}: {error}; write it as name:parameter=value") from None


def full_name(spec: str) -> str:
    """A spec that means the same everywhere: `default` by its name, a file by its absolute path."""
    name, rest = _user.split(spec)
    name = DEFAULT if name == "default" else str(Path(name).absolute()) if _user.is_file(name) else name
    return f"{name}:{rest}" if rest else name


def file_sha256(spec: str) -> str:
    """The sha256 of the file that a spec names, "" where it names none. Raises ValueError where the file cannot be read."""
    return _user.sha256(_user.split(spec)[0])


def is_shipped(policy: Policy) -> bool:
    """Whether a policy comes with this package."""
    return type(policy).__module__.startswith(f"{__name__}.")


class Described(NamedTuple):
    """A policy for a list: `source` is "shipped", "entry point DISTRIBUTION" or "file PATH"; `error` says why it cannot be made."""

    name: str
    rule: str
    parameters: dict[str, Any]
    guarantees: bool
    source: str
    error: str = ""


def describe(files: tuple[str, ...] = ()) -> list[Described]:
    """All shipped policies, entry points (broken ones too, with their error), and the given files."""
    out = [_described(name, "shipped") for name in names()]
    for name, entry in sorted(_user.installed().items()):
        out.append(_described(name, f"entry point {entry.dist.name if entry.dist else entry.value}"))
    return out + [_described(file, f"file {Path(file).absolute()}") for file in files]


def _described(name: str, source: str) -> Described:
    try:
        policy = make(name)
        rule = " ".join((type(policy).__doc__ or "").partition("\n\n")[0].split()).removeprefix("Rule: ")
        defaults = {key: p.default for key, p in _signature(type(policy)).items() if p.default is not p.empty}
        return Described(name, rule, defaults, bool(policy.guarantees), source)
    except Exception as error:
        return Described(name, "", {}, False, source, " ".join(str(error).split()))


def _class(name: str, own: bool) -> type[Policy]:
    name = DEFAULT if name == "default" else name
    known = names()
    if name in known:
        found: type[Policy] = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").POLICY
        return found
    if not own:
        raise ValueError(f"policy {name!r} is not one of {__name__}")
    if _user.is_file(name):
        return _user.from_file(name)
    others = _user.installed()
    if name in others:
        return _user.from_entry_point(others[name])
    near = difflib.get_close_matches(name, [*known, *others, "default"], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*known, *sorted(others)])}"
    hint += f"; a file is named with its ending, ./{name}.py" if Path(f"{name}.py").is_file() else ""
    raise ValueError(f"unknown policy {name!r}; {hint}")


def _signature(cls: type[Policy]) -> dict[str, inspect.Parameter]:
    """The parameters of a class by name, without self."""
    return {key: p for key, p in inspect.signature(cls).parameters.items() if p.kind is not p.VAR_KEYWORD}


def _parameters(spec: str, cls: type[Policy], rest: str) -> dict[str, float | str]:
    """`a=1,b=word` as the class wants it: a word where the default is one, else a finite number."""
    known, out = _signature(cls), {}
    for part in filter(None, map(str.strip, rest.split(","))):
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"policy {spec!r}: found {part!r}; write it as name:parameter=value")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"policy {spec!r}: unknown parameter {key!r}; {hint}; write it as name:parameter=value")
        if key in out:
            raise ValueError(f"policy {spec!r}: {key} is given twice")
        out[key] = text if isinstance(known[key].default, str) else _number(spec, key, text)
    return out


def _number(spec: str, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"policy {spec!r}: {key} is {text!r}, expected a number; write it as name:parameter=number")
    return value


def _where(error: Exception, name: str) -> str:
    return _user.where(error, Path(name).absolute(), name) if _user.is_file(name) else _user.where(error)

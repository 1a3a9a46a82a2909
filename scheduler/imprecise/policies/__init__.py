"""Policies by name: a module of this folder a policy, its class named `POLICY` there."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from .base import Policy

DEFAULT = "depth-dp"


def names() -> list[str]:
    """The names of the policies in this folder, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name != "base")


def make(spec: str) -> Policy:
    """Make a policy from `name` or `name:parameter=number,...`; `default` is the one chosen on validation scenarios.

    Raises ValueError for an unknown name (the nearest is offered) or parameter.
    """
    name, _, rest = spec.partition(":")
    name = DEFAULT if name == "default" else name
    if name not in names():
        near = difflib.get_close_matches(name, [*names(), "default"], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"unknown policy {name!r}; {hint}")
    cls = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").POLICY
    try:
        keys = {k.strip(): float(v) for k, _, v in (part.partition("=") for part in rest.split(",") if part)}
        policy: Policy = cls(**keys)
    except (TypeError, ValueError) as error:
        raise ValueError(f"policy {spec!r}: {error}; write it as name:parameter=number") from None
    return policy

"""Typed reading of TOML tables, with errors of one line that say where, what was found and what was expected."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .units import parse_ns

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_NS = 24 * 3600 * 10**9  # no duration in a file is longer
MAX_BYTES = 16 << 20
_REQUIRED = object()


class ScenarioError(ValueError):
    """A scenario file that cannot be right: one line."""


def nearest(found: str, known: Sequence[str]) -> str:
    """The nearest known name, as a question, or all of them."""
    near = difflib.get_close_matches(found, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ScenarioError where it cannot be read, with the line where the parser tells it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ScenarioError(f"{path}: found {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: is no TOML: {one_line(str(error))}") from None
    except RecursionError:
        raise ScenarioError(f"{path}: is nested too deeply") from None
    return content


def one_line(text: str, limit: int = 100) -> str:
    """A text on one line, cut where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of each key and table of a TOML text, by a path like `stream[1].stage[0].time`; inline tables by their key."""
    found: dict[str, int] = {}
    arrays: dict[str, int] = {}  # path of a [[table]] -> index of its latest entry
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)([^\[\]]+)\]", line)
        key = re.match(r"\s*([\w\-\"'.]+)\s*=", line)
        if header:
            here = ""
            names = [name.strip(" \"'") for name in header[2].split(".")]
            for i, name in enumerate(names, 1):
                here = f"{here}.{name}" if here else name
                if i == len(names) and header[1] == "[[":
                    arrays[here] = arrays.get(here, -1) + 1
                if here in arrays:
                    here = f"{here}[{arrays[here]}]"
            found.setdefault(here, number)
        elif key:
            name = key[1].replace('"', "").replace("'", "")
            found.setdefault(f"{here}.{name}" if here else name, number)
    return found


def line_of(path: Path, where: str) -> int:
    """The line of a file where the key at a path is written, else of the table around it; 0: not found."""
    try:
        known = lines_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return 0
    while where and where not in known:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return known.get(where, 0)


class Table:
    """One table of a file: every key is taken once, and `finish` refuses the rest."""

    def __init__(self, data: Any, path: Path, where: str = ""):
        self.path = path
        self.where = where
        self.data: dict[str, Any] = data
        self._taken: list[str] = []
        if not isinstance(data, dict):
            raise ScenarioError(f"{path}: {where}: found {one_line(repr(data))}, expected a table")

    def error(self, key: str, found: str, expected: str) -> ScenarioError:
        """The error of one key."""
        where = f"{self.where}.{key}" if self.where else key
        line = line_of(self.path, where)
        at = f", line {line}" if line else ""
        return ScenarioError(f"{self.path}{at}: {one_line(where)}: found {one_line(found)}, expected {one_line(expected, 300)}")

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """A value as it is; an error where it is missing and has no default."""
        self._taken.append(key)
        if key in self.data:
            return self.data[key]
        if default is _REQUIRED:
            raise self.error(key, "nothing", "a value")
        return default

    def finish(self) -> None:
        """Refuse keys that nobody took."""
        for key in self.data:
            if key not in self._taken:
                raise self.error(key, "an unknown key", nearest(key, sorted(set(self._taken))))

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A string, not empty unless it is the default."""
        value = self.take(key, default)
        if not isinstance(value, str) or (not value and value != default):
            raise self.error(key, repr(value), "a text")
        return value

    def name(self, key: str) -> str:
        """A string that can name a thing: printable, no `@` in front (kept for draws)."""
        value = self.text(key)
        if value.startswith("@") or not value.isprintable() or len(value) > 80:
            raise self.error(key, repr(value), "a name of up to 80 printable characters that does not begin with @")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, repr(value), "true or false")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A finite number."""
        return self._number(key, self.take(key, default))

    def numbers(self, key: str, default: Any = _REQUIRED) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._number(f"{key}[{i}]", v) for i, v in enumerate(self._list(key, default, "numbers")))

    def integer(self, key: str, least: int, most: int, default: Any = _REQUIRED) -> int:
        """An integer in a range."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, repr(value), f"an integer from {least} to {most}")
        return int(value)

    def duration(self, key: str, default: Any = _REQUIRED, least: int = 0) -> int:
        """A duration with its unit, in nanoseconds; `least` does not hold for the default, which is nanoseconds."""
        value = self.take(key, default)
        return int(value) if key not in self.data else self._duration(key, value, least)

    def durations(self, key: str, least: int = 0) -> tuple[int, ...]:
        """A list of durations, at least one."""
        found = self._list(key, _REQUIRED, "durations")
        if not found:
            raise self.error(key, "an empty list", "at least one duration")
        return tuple(self._duration(f"{key}[{i}]", v, least) for i, v in enumerate(found))

    def table(self, key: str, default: Any = _REQUIRED) -> Table:
        """A table inside."""
        return Table(self.take(key, default), self.path, f"{self.where}.{key}" if self.where else key)

    def tables(self, key: str, default: Any = _REQUIRED) -> list[Table]:
        """A list of tables, not empty unless it has a default."""
        found = self.take(key, default)
        if not isinstance(found, list) or (not found and default is _REQUIRED):
            raise self.error(key, repr(found), f"at least one [[{key}]]")
        prefix = f"{self.where}." if self.where else ""
        return [Table(entry, self.path, f"{prefix}{key}[{i}]") for i, entry in enumerate(found)]

    def subtables(self) -> Iterator[tuple[str, Table]]:
        """Every key as a table."""
        for key in self.data:
            yield key, self.table(key)

    def _list(self, key: str, default: Any, of: str) -> Sequence[Any]:
        value = self.take(key, default)
        if not isinstance(value, list | tuple):
            raise self.error(key, repr(value), f"a list of {of}")
        return value

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, repr(value), "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(key, repr(value), "a finite number")
        return number

    def _duration(self, key: str, value: Any, least: int) -> int:
        if not isinstance(value, str):
            hint = f'a duration with its unit in quotes, like "{value}ms"' if type(value) in (int, float) else "a duration"
            raise self.error(key, repr(value), hint)
        if value.strip().startswith("-"):
            raise self.error(key, repr(value), "a duration that is not negative")
        try:
            value_ns = parse_ns(value)
        except ValueError as error:
            raise self.error(key, repr(value), f"a duration: {error}") from None
        if not least <= value_ns <= MAX_NS:
            limit = "above 0" if value_ns < least else "of at most 24 hours"
            raise self.error(key, repr(value), f"a duration {limit}")
        return value_ns

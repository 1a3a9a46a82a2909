"""Where a key stands in a TOML file: the parser does not tell, and an error should name the line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imprecise.tables import ScenarioError, Table, one_line

_HEADER = re.compile(r"\s*(\[{1,2})\s*(.+?)\s*\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")


def _parts(text: str) -> list[str]:
    return [a or b or c for a, b, c in _PART.findall(text)]


def line_of(text: str, keys: Sequence[str | int], literal: str = "") -> int:
    """The line, from 1, of a key given by its path: ["grid", "guard"], ["generate", 0, "streams"]; of `literal` in its value where that
    is found at or below it. Where the key itself is not written, the line of the nearest table or key around it."""
    lines = text.splitlines()
    table: list[str | int] = []
    seen: dict[str, int] = {}
    best, depth = 1, 0
    wanted = list(keys)
    for number, line in enumerate(lines, 1):
        header = _HEADER.match(line)
        if header:
            table = list(_parts(header[2]))
            if header[1] == "[[":
                name = header[2]
                seen[name] = seen.get(name, -1) + 1
                table.append(seen[name])
            found = table
        else:
            key = _KEY.match(line)
            if not key:
                continue
            found = [*table, *_parts(key[1])]
        common = 0
        while common < min(len(found), len(wanted)) and found[common] == wanted[common]:
            common += 1
        if common == len(found) and common > depth:
            best, depth = number, common
    if literal:
        for number in range(best, len(lines) + 1):
            if number > best and (_HEADER.match(lines[number - 1]) or _KEY.match(lines[number - 1])):
                break
            if literal in lines[number - 1]:
                return number
    return best


class LinedTable(Table):
    """A table of a file whose errors also name the line."""

    def __init__(self, data: Any, path: Path, where: str = "", text: str = "", keys: tuple[str | int, ...] = ()):
        self.text_of_file, self.keys = text, keys
        if not isinstance(data, dict):
            raise ScenarioError(f"{path}:{line_of(text, keys)}: {where}: found {one_line(repr(data))}, expected a table")
        super().__init__(data, path, where)

    def error(self, key: str, found: str, expected: str, literal: str = "") -> ScenarioError:
        """The error of one key; `literal`: the part of its value that is meant."""
        plain = super().error(key, found, expected)
        line = line_of(self.text_of_file, [*self.keys, key.partition("[")[0]], literal)
        return ScenarioError(f"{self.path}:{line}" + str(plain)[len(str(self.path)):])

    def blame(self, key: str, error: Exception, literal: str = "") -> ScenarioError:
        """An error found elsewhere that this key leads to."""
        where = f"{self.where}.{key}" if self.where else key
        line = line_of(self.text_of_file, [*self.keys, key], literal)
        return ScenarioError(f"{self.path}:{line}: {where}: {error}")

    def table(self, key: str, default: Any = ...) -> LinedTable:
        """A table inside."""
        data = self.take(key) if default is ... else self.take(key, default)
        return LinedTable(data, self.path, f"{self.where}.{key}" if self.where else key, self.text_of_file, (*self.keys, key))

    def tables(self, key: str, default: Any = ...) -> list[Table]:
        """A list of tables."""
        found = self.take(key) if default is ... else self.take(key, default)
        if not isinstance(found, list) or (not found and default is ...):
            raise self.error(key, repr(found), f"at least one [[{key}]]")
        where = f"{self.where}.{key}" if self.where else key
        return [LinedTable(entry, self.path, f"{where}[{i}]", self.text_of_file, (*self.keys, key, i)) for i, entry in enumerate(found)]

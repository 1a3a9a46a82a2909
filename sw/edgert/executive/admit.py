"""Admission before a run: the proof that the mandatory parts are in time, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imprecise.model import Stream


@dataclass
class Admitted:
    """`answer` is certificate, counter-example, not-proven or best-effort; `sentence` says it to people."""

    answer: str
    sentence: str
    detail: dict[str, Any] = field(default_factory=dict)
    engine_options: dict[str, Any] = field(default_factory=dict)
    standby_wcet_ns: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return {"answer": self.answer, "sentence": self.sentence, **self.detail}


def admit(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int, wcet_from: str,
          best_effort: bool) -> Admitted:
    """Stand-in."""
    return Admitted("best-effort", "admission: not there yet")

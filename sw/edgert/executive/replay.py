"""Replay: the recorded events of a run through a new engine must give the recorded actions, action for action."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imprecise.model import Action
from imprecise.watchdog import SIMULATION_LIMIT_NS

from ..errors import RecordError
from . import reproduce

if TYPE_CHECKING:
    from ..results.record import Run


class Difference(NamedTuple):
    """The first step in which the engine did something else; `recorded` and `replayed` are that step's actions."""

    step: int
    now_ns: int
    recorded: tuple[Action, ...]
    replayed: tuple[Action, ...]

    def __str__(self) -> str:
        return f"step {self.step}: recorded {list(self.recorded)}, replayed {list(self.replayed)}"


def replay(run: Run) -> tuple[int, int, Difference | None]:
    """Steps and actions compared, and the first difference (None: there is none).

    Raises RecordError where the record does not hold every step: records were lost, or it is not that of an engine.
    """
    if "engine" not in run.meta:
        raise RecordError(f"{run.path} does not say how its engine was made", "record the run again with this edgert")
    try:
        engine = reproduce.build(run.meta["engine"], SIMULATION_LIMIT_NS)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{run.path}: its engine cannot be made again ({error})", "record the run again with this edgert") from None
    steps = actions = 0
    for number, now_ns, events, recorded in run.replay():
        if number != steps:
            raise RecordError(f"{run.path} lacks step {steps} (records_lost: {run.counters.get('records_lost', '?')})",
                              "only a run with every step can be replayed")
        replayed = engine.step(now_ns, events)
        steps += 1
        actions += len(replayed)
        if replayed != list(recorded):
            return steps, actions, Difference(number, now_ns, tuple(recorded), tuple(replayed))
    return steps, actions, None

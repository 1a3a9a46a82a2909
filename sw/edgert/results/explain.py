"""Why a recorded frame got its depth, or no answer; and what deadline, rate or number of units would have sufficed for more.

    explain(Run("runs/a.db"), "12", "front") -> dict of docs/json.md

The record's events are replayed through a fresh engine (`explain_watch`), the binding constraint is read from what it decided
(`explain_bound`), and each "would have sufficed" is a re-run of the recorded world with that change (`explain_world`, `explain_search`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from imprecise.model import Job

from ..errors import RecordError, UsageError
from . import causes
from .explain_bound import Constraint, bound, short, why
from .explain_search import LONGEST, MOST, SHARES, SLOWEST, Change, Found, Outcome, Rerun, rank, smallest, stalls_of, tick_ns
from .explain_watch import Candidate, Decision, History, Moment, follow
from .explain_world import World, world_of
from .record import Run
from .summary import entry
from .text import duration
from .view import STATUSES, View, of

FORMAT = 1
LEAD, LEAD_DEADLINES, MOST_LEAD = 200, 10, 1500  # frames before the explained one that are re-run: this many, or of so many deadlines
WORDS = ("worst", "first-miss")


def explain(run: Run, frame: str, stream: str = "") -> dict[str, Any]:
    """Everything about one frame, as described in docs/json.md. Raises UsageError for a frame that is not there, RecordError where the
    record cannot be replayed."""
    view = of(run)
    row = find(view, frame, stream)
    f = view.frames
    job, status = int(f["job"][row]), STATUSES[int(f["status"][row])]
    declared = view.streams[int(f["stream"][row])]
    recorded = {name: int(f[name][row]) for name in ("frame", "job", "release_ns", "deadline_ns", "completed_ns", "published_ns", "depth")}
    cause = next((entry(c) for c in causes.causes(view) if (c.stream, c.frame) == (declared.name, recorded["frame"])), None)
    out: dict[str, Any] = {
        "format": FORMAT, "run": str(run.path), "policy": view.policy, "stream": declared.name, **recorded, "status": status,
        "deepest": declared.deepest, "relative_deadline_ns": recorded["deadline_ns"] - recorded["release_ns"], "cause": cause}
    if status == "dropped" or job < 0:
        bare = Constraint("not_delivered", cause["evidence"] if cause else "its source did not deliver it")
        return {**out, "sentence": f"Frame {recorded['frame']} of {declared.name} was dropped: {bare.text}.", "constraint": bare.as_dict(),
                "timeline": [], "counterfactuals": [],
                "replay": {"steps": 0, "frames": 0, "from_start": False, "same": True, "notes": ["the engine never saw it"]}}
    description = view.meta.get("engine")
    if not isinstance(description, Mapping):
        raise RecordError(f"{run.path} does not say how its engine was made", "record the run again with this edgert")
    steps = list(run.replay())
    history = follow(description, steps, job, _first(view, job), run.path)
    if not history.moments:
        raise RecordError(f"{run.path} has no release of job {job}", "only a run with every step can be explained")
    found = bound(history, description, {**recorded, "status": status})
    out |= {"deepest": history.engine.streams[int(f["stream"][row])].deepest, "sentence": _sentence(out, found, cause),
            "constraint": found.as_dict(), "timeline": timeline(history, recorded["release_ns"])}
    world = world_of(view, history.engine.streams, steps, job)
    return {**out, **_counterfactuals(world, description, history, out, found.resource)}


# Which frame ----------------------------------------------------------------------------------------------------------


def find(view: View, frame: str, stream: str = "") -> int:
    """The row of a frame: by number, `first-miss`, or `worst`: missed, else of those that could have been deeper, else of all the one of
    least utility, the earliest of equal ones."""
    f, names = view.frames, [s.name for s in view.streams]
    if stream and stream not in names:
        near = difflib.get_close_matches(stream, names, n=1)
        raise UsageError(f"{view.path} has no stream {stream!r}", f"did you mean {near[0]!r}?" if near else f"it has {_list(names)}")
    mine = f["stream"] == names.index(stream) if stream else np.ones(len(f["stream"]), dtype=bool)
    where = f"stream {stream}" if stream else str(view.path)
    if not mine.any():
        raise UsageError(f"{where} has no frame", "name another run or stream")
    if frame in WORDS:
        rows = np.flatnonzero(mine & (view.missed if frame == "first-miss" else view.delivered))
        if not len(rows):
            raise UsageError(f"{where}: no frame was {'missed' if frame == 'first-miss' else 'delivered'}",
                             f"edgert explain {view.path} worst" if frame == "first-miss" else "name a frame by its number")
        deepest = np.array([s.deepest for s in view.streams])[f["stream"][rows]]
        order = np.lexsort((rows, f["utility"][rows], f["depth"][rows] >= deepest, f["status"][rows] != 1))
        return int(rows[0] if frame == "first-miss" else rows[order[0]])
    if not frame.isdigit() or not frame.isascii():
        near = difflib.get_close_matches(frame, WORDS, n=1)
        raise UsageError(f"{frame!r} is no frame", f"did you mean {near[0]!r}?" if near else f"give its number, or {' or '.join(WORDS)}")
    rows = np.flatnonzero(mine & (f["frame"] == min(int(frame), 1 << 62)))
    if not len(rows):
        low, high = int(f["frame"][mine].min()), int(f["frame"][mine].max())
        raise UsageError(f"{where} has no frame {frame}", f"its frames go from {low} to {high}")
    owners = sorted({names[s] for s in f["stream"][rows].tolist()})
    if len(owners) > 1:
        raise UsageError(f"frame {frame} is in {len(owners)} streams", f"add --stream, one of {_list(owners)}")
    return int(rows[0])


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _first(view: View, job: int) -> int:
    """The job from which on the world is re-run: some hundred frames before."""
    f = view.frames
    at_ns = int(f["release_ns"][f["job"] == job][0])
    long_ns = LEAD_DEADLINES * int((f["deadline_ns"] - f["release_ns"]).max())
    within = int(((f["job"] >= 0) & (f["job"] < job) & (f["release_ns"] >= at_ns - long_ns)).sum())
    return max(0, job - min(MOST_LEAD, max(LEAD, within)))


# In words -------------------------------------------------------------------------------------------------------------


def _sentence(out: Mapping[str, Any], found: Constraint, cause: Mapping[str, Any] | None) -> str:
    name = f"Frame {out['frame']} of {out['stream']}"
    if out["status"] == "missed":
        why_late = f" (cause: {cause['cause'].replace('_', ' ')})" if cause else ""
        return f"{name} got no answer by its deadline of {duration(out['relative_deadline_ns'])}{why_late}: {found.text}."
    after = duration(out["published_ns"] - out["release_ns"])
    return f"{name} was answered at depth {out['depth']} of {out['deepest']}, {after} after its capture: {found.text}."


def timeline(history: History, release_ns: int) -> list[dict[str, Any]]:
    """What happened to the frame, and every decision about the resource that it waited for; times since its capture."""
    rows: list[dict[str, Any]] = []
    target, job, last = history.target, history.job, ""

    def add(moment: Moment, what: str, text: str, decision: dict[str, Any] | None = None) -> None:
        rows.append({"at_ns": moment.now_ns - release_ns, "step": moment.step, "what": what, "text": text, "decision": decision})

    for i, moment in enumerate(history.moments):
        if i == 0:
            late_ns = moment.now_ns - release_ns
            add(moment, "release", "captured" + (f", and seen {duration(late_ns)} later" if late_ns else ""))
        for event in moment.events:
            own = history.moments[i - 1].busy_own(target) if i else None
            if event.job == target and event.kind in ("done", "failed", "abandoned"):
                _ended(add, moment, event.kind, job, event.stage, own.since_ns if own else moment.now_ns, event.value)
            elif event.kind in ("lost", "back") and event.resource == moment.resource:
                add(moment, event.kind, f"{event.resource} {event.unit} {'lost' if event.kind == 'lost' else 'back'}")
        for decision in moment.decisions:
            add(moment, "decision", _decided(history, decision), _decision(decision))
        for action in moment.actions:
            if action.job != target:
                continue
            name = short(job.stream.stages[action.stage].name) if job is not None and action.stage >= 0 else ""
            texts = {"start": f"{name} starts on {action.resource} {action.unit}, expected to take {duration(moment.need_ns)}",
                     "preempt": f"{name} is interrupted on {action.resource} {action.unit}",
                     "publish": f"answer of depth {action.depth} published", "miss": "no answer"}
            add(moment, action.kind, texts[action.kind])
        if moment.state == "waits":
            waiting = f"{moment.stage} {sorted(b[:3] for b in moment.busy)} {moment.held} {moment.free}"
            if waiting != last:
                add(moment, "wait", _waiting(history, moment, release_ns))
            last = waiting
    return rows


def _ended(add: Any, moment: Moment, kind: str, job: Job | None, stage: int, since_ns: int, value: float) -> None:
    name = short(job.stream.stages[stage].name) if job is not None else f"stage {stage}"
    sure = f", confidence {value:.3f}" if kind == "done" else ""
    add(moment, kind, f"{name} {'given up' if kind == 'abandoned' else kind} after {duration(moment.now_ns - since_ns)}{sure}")


def _waiting(history: History, moment: Moment, release_ns: int) -> str:
    why_held = {"yields": "which leaves it to mandatory work elsewhere", "limit": "for which it is too long", "fault": "no policy to ask"}
    if moment.busy and not moment.free:
        behind = "; ".join(f"{b.stream} {b.frame} {short(b.stage)} since {duration(b.since_ns - release_ns)}" for b in moment.busy[:4])
        text = f"behind {behind}"
    else:
        text = why_held.get(moment.held, "" if moment.working else "no unit is working")
    slack = ""
    if moment.optional and history.job is not None:
        slack = (f"; needs {duration(moment.need_ns)}, {duration(max(0, history.job.publish_ns - moment.now_ns))} left before publication")
    return f"waits for {moment.resource} with {short(moment.stage)}{', ' if text else ''}{text}{slack}"


def _decided(history: History, decision: Decision) -> str:
    own = next((c for c in decision.ready if c.job == history.target), None)
    chosen = next((c for c in decision.ready if c.job == decision.chosen), None)
    head = f"{len(decision.ready)} ready for {decision.resource}: "
    if chosen is None:
        return head + "none chosen"
    if chosen.job == history.target:
        return head + "this frame chosen"
    text = f"{chosen.stream} {chosen.frame} chosen ({short(chosen.stage)}, confidence {chosen.confidence:.3f})"
    return head + text + (f": {why(history, decision, chosen, own)}" if own else "; this frame not among them")


def _decision(decision: Decision) -> dict[str, Any]:
    ready = [{**_candidate(c), "planned": None if decision.planned is None else c.job in decision.planned} for c in decision.ready]
    return {"resource": decision.resource, "ready": ready, "chosen": None if decision.chosen < 0 else decision.chosen}


def _candidate(c: Candidate) -> dict[str, Any]:
    return {"job": c.job, "stream": c.stream, "frame": c.frame, "stage": c.stage, "confidence": c.confidence, "estimate_ns": c.estimate_ns,
            "slack_ns": c.slack_ns, "gain": c.gain, "gain_per_ns": c.density}


# What would have sufficed ---------------------------------------------------------------------------------------------


def _counterfactuals(world: World, description: Mapping[str, Any], history: History, out: Mapping[str, Any],
                     resource: str) -> dict[str, Any]:
    """The three searches, where the re-run of the unchanged world does what is recorded; else why there are none."""
    stream = history.engine.streams[world.releases[world.target].stream]
    replay: dict[str, Any] = {"steps": history.steps, "frames": 0, "from_start": False, "same": True, "notes": []}
    depth = -1 if out["status"] == "missed" else int(out["depth"])
    if rank(stream, depth) >= rank(stream, stream.deepest):
        return {"counterfactuals": [], "replay": replay}
    rerun, outcome = _baseline(world, description, history, depth, out)
    replay |= {"frames": world.target - rerun.first + 1, "from_start": rerun.first == 0, "same": _is(outcome, depth)}
    if not replay["same"]:
        got = f"depth {outcome.depth}" if outcome.depth >= 0 else "no answer"
        replay["notes"].append(f"re-run unchanged in virtual time, this frame gets {got}: late wake-ups or the dispatcher's own time "
                               "decided, which a re-run does not have, so nothing is said about what would have sufficed")
        return {"counterfactuals": [], "replay": replay}
    target = rank(stream, depth) + 1
    resource = resource or stream.stages[-1].resource
    units = int(description["resources"][resource])
    ask = _Ask(rerun, history, target, _goal(stream.kind, target))
    deadline_ns, tick = stream.deadline_ns, tick_ns(stream.deadline_ns)
    whole = deadline_ns // tick
    rows = [ask.row("deadline", "ns", deadline_ns, lambda k: (whole + k) * tick, lambda v: Change(deadline_ns=v), (LONGEST - 1) * whole),
            ask.row("rate", "period", 1, lambda k: SHARES + k, lambda v: Change(slower=v), (SLOWEST - 1) * SHARES),
            ask.row("units", "unit", units, lambda k: units + k, lambda v: Change(units={resource: v}), MOST, resource)]
    replay["notes"] += _notes(world, description)
    return {"counterfactuals": rows, "replay": replay}


def _is(outcome: Outcome, depth: int) -> bool:
    return bool(outcome.kind) and outcome.depth == depth


def _baseline(world: World, description: Mapping[str, Any], history: History, depth: int, out: Mapping[str, Any]) -> tuple[Rerun, Outcome]:
    """A re-run without a change that does to the frame what is recorded, if there is one: from some frames before it, or from the start;
    with the stalls of the machine, or without."""
    stalls = stalls_of(world.view)
    late_ns = out["published_ns"] - out["release_ns"]
    best: tuple[int, Rerun, Outcome] | None = None
    for state in (history.state, None) if history.state is not None else (None,):
        for spans in (stalls, []) if stalls else ([],):
            rerun = Rerun(world, description, state, spans)
            outcome = rerun.run(Change())
            error = abs(outcome.late_ns - late_ns) if depth >= 0 else 0
            if _is(outcome, depth) and error == 0:
                return rerun, outcome
            score = error if _is(outcome, depth) else 1 << 62
            if best is None or score < best[0]:
                best = (score, rerun, outcome)
        if best is not None and best[0] < 1 << 62:
            break
    assert best is not None
    return best[1], best[2]


def _goal(kind: str, target: int) -> str:
    if target == 0:
        return "an answer"
    return f"{target} steps" if kind == "sieve" else f"depth {target}"


class _Ask:
    """Asks re-runs whether a change suffices."""

    def __init__(self, rerun: Rerun, history: History, target: int, goal: str):
        self.rerun, self.history, self.target, self.goal = rerun, history, target, goal
        self.stream = history.engine.streams[rerun.world.releases[rerun.world.target].stream]

    def row(self, what: str, unit: str, now: int, value: Callable[[int], int], change: Callable[[int], Change], most: int,
            resource: str | None = None) -> dict[str, Any]:
        """Search one kind of change: step k stands for `value(k)`, and `change` makes it; `now` is the value of the record."""
        outcomes: dict[int, Outcome] = {}

        def suffices(k: int) -> bool | None:
            outcomes[k] = self.rerun.run(change(value(k)))
            return None if outcomes[k].beyond else rank(self.stream, outcomes[k].depth) >= self.target

        found = smallest(suffices, most)
        shown = [value(found.below) if found.below else None, None if found.least is None else value(found.least), value(max(outcomes))]
        below, least, last = (None if v is None else v / SHARES if what == "rate" else v for v in shown)
        row: dict[str, Any] = {"change": what, "goal": self.goal, "unit": unit, "resource": resource, "recorded": now, "suffices": least,
               "fails": now if below is None else below, "tried_to": last, "replays": found.tried, "text": "", "assumes": []}
        row["text"] = self._text(row, found)
        if found.least is not None:
            row["assumes"] = self._assumes(outcomes[found.least])
        return row

    def _text(self, row: Mapping[str, Any], found: Found) -> str:
        def say(value: float) -> str:
            if row["change"] == "deadline":
                return f"a deadline of {exact(int(value))}"
            if row["change"] == "units":
                return f"{value:g} units of {row['resource']}"
            period_ns = self.stream.period_ns
            rates = f" ({1e9 / period_ns / value:.4g} instead of {1e9 / period_ns:.4g} frames/s here)" if period_ns else ""
            return f"all periods {100 * value - 100:.1f} % longer{rates}"

        if found.unknown:
            up_to = f"none of those tried, up to {say(row['fails'])}, suffices for {row['goal']}, and of more" if found.below else "of this"
            return f"{up_to} nothing can be said: the record ends too soon"
        if found.least is None:
            return f"none of {found.tried} tried suffices for {row['goal']}, the last with {say(row['tried_to'])}"
        fails = "as recorded" if not found.below else f"with {say(row['fails'])}"
        return f"verified by replay: with {say(row['suffices'])} this frame reaches {row['goal']}; {fails} it does not"

    def _assumes(self, outcome: Outcome) -> list[str]:
        out = [f"{short(self.stream.stages[stage].name)} of this frame, which never ran, takes {duration(ns)}, the median"
               for stage, ns in sorted(outcome.own.items())]
        others = outcome.drawn - len(outcome.own)
        if others:
            out.append(f"{others} durations that the record does not have are drawn from those of their stage")
        if outcome.guessed:
            out.append(f"{outcome.guessed} confidences that it does not have are those of the frames most alike")
        return out


def exact(value_ns: int) -> str:
    """A duration to the nanosecond, in the largest unit in which it is no fraction below 1."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if value_ns >= scale:
            return f"{value_ns / scale:.9f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{value_ns} ns"


def _notes(world: World, description: Mapping[str, Any]) -> list[str]:
    notes = ["stages that ran take as long as recorded" + ("; all others as the scenario draws them" if world.draws is not None else "")]
    if description["guard_ns"]:
        notes.append(f"the guard stays {duration(description['guard_ns'])}")
    if any(description.get(key) for key in ("blocking_ns", "local_ns", "yields")):
        notes.append("what admission allowed for the recorded run is kept")
    return notes


"""The page of `edgert demo`: what imprecise computation buys, shown on live runs and their simulations, with checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from imprecise import statistics

from . import plots, report
from .compare import compare, equivalent, pairs
from .summary import CONFIDENCE, figures, summarise
from .text import TEXTS, duration, interval, percent, points
from .timeline import choose, story, timeline
from .view import View

MARGIN = 0.02  # of utility, between a live run and its simulation: stated here, before any run
WHOLE_MARGIN = 0.06  # the same for the monolithic network: all or nothing varies by points from one draw of durations to the next
RECOVERED = 0.7  # of the gap between mandatory only and full refinement
MUCH = 0.1  # a monolithic network misses much where it surely misses more than this
NAMES = ("monolithic", "mandatory-only", "fifo-gated", "threshold", "default")


@dataclass(frozen=True)
class Check:
    """One ordering: what was to be shown, whether it was, and the numbers."""

    claim: str
    shown: bool
    numbers: str


@dataclass
class Load:
    """All runs at one load, by the names of `NAMES`. `full` is the utility of every depth-complete answer, by item of the data set.

    `summaries` that are not given are made.
    """

    load: float
    live: dict[str, View]
    simulated: dict[str, View]
    full: np.ndarray
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summaries = {name: self.summaries.get(name) or summarise(view) for name, view in self.live.items()}


def invalid(loads: Sequence[Load]) -> list[str]:
    """Runs from which nothing may be concluded, with the reason."""
    return [f"load {load.load:g}, {name}: {'; '.join(s['validity']['reasons'])}"
            for load in loads for name, s in load.summaries.items() if not s["validity"]["valid"]]


def checks(loads: Sequence[Load]) -> list[Check]:
    """Everything that the demonstration is to show."""
    out = []
    for load in loads:
        out += [misses_much(load), split_misses_nothing(load)]
    top = loads[-1]
    out += [recovers(top), better(top)]
    out += [agreement(load) for load in loads]
    return out


def misses_much(load: Load) -> Check:
    """The monolithic network misses more than `MUCH`, and more than every split policy."""
    mono = load.summaries["monolithic"]["all"]
    rest = max(s["all"]["miss_ratio"] for name, s in load.summaries.items() if name != "monolithic")
    return Check(f"Load {load.load:g}: the monolithic network misses much, the others hardly anything",
                 mono["miss_ratio_low"] > MUCH and mono["miss_ratio_low"] > rest,
                 f"It misses {interval(mono, 'miss_ratio')}; the worst of the others misses {percent(rest)}.")


def split_misses_nothing(load: Load) -> Check:
    """No split policy misses a frame that no violated assumption explains."""
    words, shown = [], True
    for name, s in load.summaries.items():
        missed = s["all"]["missed"]
        if name == "monolithic" or not missed:
            continue
        bare = sum(not miss["assumption_violated"] for miss in s["misses"])
        shown &= bare == 0 and s["assumption_violations"] > 0
        why = ", ".join(f"{TEXTS[c]} {n}" for c, n in s["miss_causes"].items() if n)
        words.append(f"{name} missed {missed} ({why}), {missed - bare} while an assumption was violated")
    others = [s["all"] for name, s in load.summaries.items() if name != "monolithic"]
    frames = sum(part["captured"] - part["dropped"] for part in others)
    return Check(f"Load {load.load:g}: the split policies miss nothing that a violated assumption does not explain", shown,
                 "; ".join(words) + "." if words else f"No miss in {frames:,} frames of {len(others)} runs.")


def recovery(load: Load, name: str = "default") -> statistics.Interval:
    """Share of the utility between mandatory only and full refinement that a policy recovers, on the same frames."""
    base, other = load.live["mandatory-only"], load.live[name]
    rows_base, rows_other = pairs(base, other)
    items = other.frames["item"][rows_other]
    known = (items >= 0) & (items < len(load.full))
    columns = np.stack([base.frames["utility"][rows_base], other.frames["utility"][rows_other],
                        load.full[np.clip(items, 0, len(load.full) - 1)]], axis=1)[known]

    def share(x: np.ndarray) -> float:
        low, mine, high = x.mean(axis=0)
        return float((mine - low) / (high - low))

    block = statistics.block_length(columns[:, 1] - columns[:, 0])
    return statistics.block_bootstrap(columns, share, block, CONFIDENCE)


def recovers(load: Load) -> Check:
    """The default recovers at least `RECOVERED` of the gap."""
    claim = f"Load {load.load:g}: the default policy recovers at least {RECOVERED:.0%} of what full refinement would add"
    mandatory = load.live["mandatory-only"]
    items = mandatory.frames["item"][(mandatory.frames["item"] >= 0) & (mandatory.frames["item"] < len(load.full))]
    worth, floor = float(load.full[items].mean()) if len(items) else 0.0, float(mandatory.frames["utility"].mean())
    if worth <= floor:
        return Check(claim, False, f"Full refinement adds nothing here: utility {percent(worth)}, mandatory only {percent(floor)}.")
    found = recovery(load)
    fifo = recovery(load, "fifo-gated")
    return Check(claim, found.estimate >= RECOVERED,
                 f"It recovers {100 * found.estimate:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}] of the utility between "
                 f"mandatory only and all stages for every frame; fifo-gated recovers {100 * fifo.estimate:.0f} %.")


def better(load: Load) -> Check:
    """The default is significantly better than gated first come, first served."""
    fifo, default = load.live["fifo-gated"], load.live["default"]
    rows_fifo, rows_default = pairs(fifo, default)
    found = statistics.paired_difference(default.frames["utility"][rows_default], fifo.frames["utility"][rows_fifo],
                                         confidence=CONFIDENCE).interval
    return Check(f"Load {load.load:g}: the default policy is significantly better than first come, first served", found.low > 0,
                 f"Utility {points(found.estimate)} points [{points(found.low)}, {points(found.high)}] on the same {len(rows_fifo):,} "
                 f"frames.")


def margin(name: str) -> float:
    """How far utility may be apart, live and simulated."""
    return WHOLE_MARGIN if name == "monolithic" else MARGIN


def agreement(load: Load) -> Check:
    """Simulated and live utility agree within the margin for every policy."""
    rows = {name: equivalent(load.live[name], view, margin(name)) for name, view in load.simulated.items()}
    agreed = [name for name, row in rows.items() if row["verdict"] == "equivalent"]
    words = "; ".join(f"{name} {points(row['difference'])} [{points(row['difference_low'])}, {points(row['difference_high'])}]"
                      for name, row in rows.items() if row["difference"] is not None)
    return Check(f"Load {load.load:g}: simulated and live utility agree within {100 * MARGIN:g} points ({100 * WHOLE_MARGIN:g} where it is "
                 "all or nothing), margins stated beforehand",
                 len(agreed) == len(rows), f"Simulated minus live, 90 % intervals (two one-sided tests at 5 %): {words}.")


# The page -------------------------------------------------------------------------------------------------------------


def page(loads: Sequence[Load], found: Sequence[Check], setting: Mapping[str, str]) -> str:
    """The whole page. `setting` says in words what ran where."""
    first, top = loads[0], loads[-1]
    mono, best = top.summaries["monolithic"]["all"], top.summaries["default"]["all"]
    title = "What imprecise computation buys"
    verdict = (f"With {top.load:g} times the work that the CPU can do, a network that is all or nothing missed "
               f"{percent(mono['miss_ratio'], 0)} of its frames. Split in two, the same network missed "
               f"{percent(best['miss_ratio'], 0) if best['missed'] else 'none of ' + format(best['captured'], ',')}, and was right in "
               f"{percent(best['accuracy'])} of all frames instead of {percent(mono['accuracy'])}.")
    shown = sum(check.shown for check in found)
    runs = _entries(first) + _entries(top)
    parts = [f"<h1>{title}</h1>", f'<p class="mute">{escape(setting["where"])}</p>',
             report.banner(verdict, runs, [f"{shown} of {len(found)} orderings that this demonstration set out to show were shown."]),
             *_introduction(loads), "<h2>What was to be shown</h2>", _checks(found)]
    for load in loads:
        parts += _load(load)
    parts += _method(loads, setting)
    parts += report.details([entry for load in loads for entry in _entries(load, f" at load {load.load:g}")])
    return report.page("edgert: what imprecise computation buys", parts)


def _entries(load: Load, suffix: str = "") -> list[plots.Entry]:
    names = list(load.live)
    return plots.entries([name + suffix for name in names], [load.summaries[name] for name in names], [load.live[name] for name in names])


def _introduction(loads: Sequence[Load]) -> list[str]:
    deadline = duration(loads[0].live["default"].streams[0].deadline_ns)
    parts = [
        f"<p>A camera frame is worth something only until its deadline, here {deadline} after its capture. When frames come faster than "
        "a network can be run, the usual system falls behind: answers come too late, and a late answer is no answer.</p>",
        "<p>Imprecise computation splits the network. A small <b>mandatory</b> part (a ternary network, made for an FPGA) answers every "
        "frame in time, by proof. <b>Optional</b> stages on the CPU make the answer better, and only as many of them are started as fit "
        "before the deadline. Under overload the answers become a little less sure, and none is missing.</p>"]
    found = [(load, choose(load.live["default"], load.live["monolithic"])) for load in loads]
    stories = [(load, rows) for load, rows in found if rows is not None]
    if not stories:
        return parts
    load, (split, whole) = max(stories, key=lambda entry: int(entry[0].live["default"].frames["depth"][entry[1][0]]))
    cards = [report.card("One frame, split", story(load.live["default"], split), timeline(load.live["default"], split)),
             report.card("The same frame, all or nothing", story(load.live["monolithic"], whole), timeline(load.live["monolithic"], whole))]
    return [*parts, "<h2>One real frame</h2>",
            f"<p>Recorded live at load {load.load:g}. In colour: the frame's own stages, numbered. Pale: work for other frames.</p>",
            f'<div class="columns">{"".join(cards)}</div>']


def _checks(found: Sequence[Check]) -> str:
    rows = [f'<li class="{"yes" if c.shown else "no"}"><b>{escape(c.claim)}</b>{"" if c.shown else ": <b class=bad>not shown</b>"}'
            f"<small>{escape(c.numbers)}</small></li>" for c in found]
    return f'<ul class="checks">{"".join(rows)}</ul>'


def _load(load: Load) -> list[str]:
    entries = _entries(load)
    names = list(load.live)
    compared = compare([load.live[n] for n in names], names.index("monolithic"), True, names=names,
                       summaries=[load.summaries[n] for n in names])
    stream = load.live["default"].streams[0]
    fps = sum(1e9 / s.period_ns for s in load.live["default"].streams)
    many = len(load.live["default"].streams)
    return [f"<h2>Load {load.load:g}: {many} {'stream' if many == 1 else 'streams'}, {fps:.0f} frames/s in all</h2>",
            f"<p>Refining every frame to the end would take {load.load:g} times the CPU given. Deadline {duration(stream.deadline_ns)}. "
            "All policies saw the same frames, live.</p>",
            report.runs_table(entries), *report.pictures(entries), "<h3>Frame by frame, against the monolithic network</h3>",
            report.compared_table(compared, entries), "<h3>Live and simulated</h3>",
            "<p>The same engine in virtual time, with the same frames and the stage durations of the live run.</p>",
            _simulated(load, entries)]


def _simulated(load: Load, entries: Sequence[plots.Entry]) -> str:
    rows = []
    for entry in entries:
        if entry.name not in load.simulated:
            continue
        view = load.simulated[entry.name]
        part, row = figures(view, view.delivered), equivalent(load.live[entry.name], view, margin(entry.name))
        difference = "-" if row["difference"] is None else (
            f"{points(row['difference'])}<small>{points(row['difference_low'])} to {points(row['difference_high'])}</small>")
        kind = "good" if row["verdict"] == "equivalent" else "bad"
        rows.append([report.dot(entry), report.with_interval(entry.summary["all"], "miss_ratio"), report.with_interval(part, "miss_ratio"),
                     report.with_interval(entry.summary["all"], "utility"), report.with_interval(part, "utility"), difference,
                     f"{100 * row['margin']:g}", f'<span class="{kind}">{escape(row["verdict"])}</span>'])
    head = ["policy", "misses live", "simulated", "utility live", "simulated", "simulated minus live", "margin",
            "verdict"]
    return report.table(head, rows)


def _method(loads: Sequence[Load], setting: Mapping[str, str]) -> list[str]:
    lines = [setting["where"], setting["how"],
             "A frame counts as missed when nothing was published by its deadline. Utility is the expected correctness of what was "
             "published, from curves calibrated on other pictures; accuracy is its check against the labels. A missed frame counts 0 in "
             "both.",
             "Intervals are 95 % and come from blocks of frames in time across all streams, so that they hold for bursts; a run without "
             "a miss has an exact bound above zero. The checks are orderings, each tested by itself; no absolute time is claimed.",
             f"Simulation: the recorded stage durations of each live run as an empirical distribution, drawn anew, with the "
             f"dispatcher's median time between two stages of a worker; stalls of the machine are not simulated. The "
             f"margins, {100 * MARGIN:g} and {100 * WHOLE_MARGIN:g} points of utility, are fixed in the program."]
    return ["<h2>How this was measured</h2>", *(f'<p class="mute">{escape(line)}</p>' for line in lines)]

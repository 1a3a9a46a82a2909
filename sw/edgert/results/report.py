"""Reports: one self-contained page, no external assets, the verdict on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from .. import __version__
from ..errors import EdgertError
from . import plots
from .compare import compare, in_short
from .plots import Entry
from .summary import summarise
from .text import TEXTS, conditions, duration, explain_hint, interval, latency, percent, points, verdict
from .view import View

TEMPLATE = Path(__file__).with_name("page.html")
SHOWN = 60  # misses listed on a page


def page(title: str, parts: Sequence[str], footer: str = "") -> str:
    """A whole page from HTML parts; `title` is text."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    foot = footer or (f"Written by edgert {escape(__version__)}. Times count from the scheduled capture of a frame. "
                      "A missed frame counts as 0.")
    return template.substitute(title=escape(title), body="\n".join(parts), footer=foot)


def write(path: str | Path, content: str) -> None:
    """Write a page. Raises EdgertError where the file cannot be written."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content, encoding="utf-8")
    except OSError as error:
        raise EdgertError(f"{path} cannot be written ({error.strerror})", "name another file with -o") from None


def single(view: View, summary: Mapping[str, Any] | None = None) -> str:
    """The page of one run."""
    summary = summary or summarise(view)
    runs = plots.entries([view.policy], [summary], [view])
    parts = [f"<h1>{escape(view.policy)}: who missed, how often, how sure, and why</h1>",
             f'<p class="mute">{escape(conditions(summary))}</p>',
             banner(verdict(summary), runs), runs_table(runs), streams_table(summary),
             '<div class="columns">', card("Latency", "From scheduled capture to publication. The dashed line is the deadline.",
                                           plots.latencies(runs)),
             card("Depth over time", "How deep the answers were. Red: no answer by the deadline.", plots.depths(runs)),
             card("Misses by cause", "On the evidence in the record; unknown would come first.", plots.miss_causes(runs)), "</div>",
             *details(runs)]
    return page(f"edgert: {view.policy}", parts)


def comparison(views: Sequence[View], found: Mapping[str, Any] | None = None) -> str:
    """The page of several runs on the same frames; `found` is what `compare` gave for them."""
    found = found or compare(views)
    runs = plots.entries(found["names"], found["runs"], views)
    parts = ["<h1>Who missed, how often, how sure we are, and why</h1>",
             f'<p class="mute">{len(runs)} runs on the same frames, compared with <b>{escape(found["baseline"])}</b>.</p>',
             banner(found["verdict"], runs), runs_table(runs), *pictures(runs), "<h2>Compared frame by frame</h2>",
             compared_table(found, runs),
             *details(runs)]
    return page("edgert: comparison", parts)


def banner(text: str, runs: Sequence[Entry], extra: Sequence[str] = ()) -> str:
    """The verdict on top; bad where a run is invalid or broke its promise."""
    broken = [run for run in runs if not run.summary["validity"]["valid"] or not run.summary["guarantee"]["kept"]]
    lines = [f"<p>{escape(text)}</p>", *(f"<p>{escape(line)}</p>" for line in extra)]
    for run in broken:
        state, promise = run.summary["validity"], run.summary["guarantee"]
        reasons = [*state["reasons"], *([] if promise["kept"] else [promise["text"]])]
        word = "" if state["valid"] else "INVALID: "
        lines.append(f'<p class="bad"><b>{escape(run.name)}</b>: {word}{escape("; ".join(reasons))}</p>')
    emulated = sorted({str(run.summary["accelerator"]) for run in runs if run.summary["emulated"]})
    if emulated:
        lines.append("<p>The accelerator is <b>emulated</b>: no hardware was used.</p>")
    return f'<div class="verdict{" bad" if broken else ""}">{"".join(lines)}</div>'


def card(title: str, text: str, plot: str, wide: bool = False) -> str:
    """A plot with its heading."""
    return f'<section class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3><p>{escape(text)}</p>{plot}</section>'


def pictures(runs: Sequence[Entry]) -> list[str]:
    """The plots that compare runs."""
    figure = "accuracy" if all(run.summary["all"]["accuracy"] is not None for run in runs) else "utility"
    return ['<div class="columns">',
            card("Accuracy against misses", "Up and left is better. Lines are 95 % intervals. A missed frame is a wrong answer.",
                 plots.trade(runs, figure)),
            card("Utility, a closer look", "Expected correctness of what was published, with 95 % intervals that hold for bursts.",
                 plots.forest(runs, "utility")),
            card("Misses by cause", "On the evidence in the record: stages, waits, and stalls that the witness saw.",
                 plots.miss_causes(runs)),
            card("Latency", "From scheduled capture to publication, and the share of frames that got no answer in time.",
                 plots.latencies(runs)),
            card("Depth over time", "How deep the answers were. Red: no answer by the deadline.", plots.depths(runs)), "</div>"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table that scrolls by itself on a narrow screen; cells are HTML, columns in `words` hold sentences."""
    def cell(tag: str, column: int, content: str) -> str:
        return f"<{tag}{' class=words' if column in words else ''}>{content}</{tag}>"

    top = "".join(cell("th", i, content) for i, content in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", i, content) for i, content in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def dot(run: Entry) -> str:
    """A run's colour and name."""
    return f'<span class="dot" style="background:{run.colour}"></span>{escape(run.name)}'


def with_interval(part: Mapping[str, Any], name: str) -> str:
    """A ratio, its interval in small print below."""
    value, _, span = interval(part, name).partition(" [")
    return escape(value) + (f"<small>{escape(span.removesuffix(']').replace(', ', ' to '))}</small>" if span else "")


def runs_table(runs: Sequence[Entry]) -> str:
    """A row a run: misses, quality, latency, what was promised, why frames were missed."""
    rows = []
    for run in runs:
        s, part = run.summary, run.summary["all"]
        why = ", ".join(f"{TEXTS[c]} {n:,}" for c, n in sorted(s["miss_causes"].items(), key=lambda kv: -kv[1]) if n)
        longest = f", up to {part['longest_run_of_misses']:,} in a row" if part["missed"] > 1 else ""
        dropped = f"<small>{part['dropped']:,} dropped</small>" if part["dropped"] else ""
        latest = "" if part["latency_max_ns"] is None else f"<small>latest {duration(part['latency_max_ns'])}</small>"
        rows.append([
            dot(run), f'<span class="{"bad" if part["missed"] else "good"}">{part["missed"]:,}</span> of {part["captured"]:,}{dropped}',
            with_interval(part, "miss_ratio"), with_interval(part, "accuracy"), with_interval(part, "utility"),
            " / ".join(latency(part[f"latency_{q}_ns"]) for q in ("p50", "p99")) + latest,
            escape(s["guarantee"]["kind"].replace("_", " ")), escape(why + longest) or "-"])
    head = ["run", "missed", "miss ratio", "accuracy", "utility", "latency p50 / p99", "guarantee", "why missed"]
    return table(head, rows, (7,))


def streams_table(summary: Mapping[str, Any]) -> str:
    """A row a stream."""
    depths = list(summary["all"]["answered_by_depth"])
    rows = [[escape(s["name"]), escape(s["source"]), duration(s["period_ns"]), duration(s["deadline_ns"]), f"{s['captured']:,}",
             *(f"{s['answered_by_depth'][d]:,}" for d in depths), f"{s['missed']:,}", f"{s['dropped']:,}", with_interval(s, "miss_ratio"),
             with_interval(s, "accuracy"), with_interval(s, "utility")] for s in summary["streams"]]
    return table(["stream", "source", "period", "deadline", "captured", *(f"depth {d}" for d in depths), "missed", "dropped", "miss ratio",
                  "accuracy", "utility"], rows)


def compared_table(found: Mapping[str, Any], runs: Sequence[Entry]) -> str:
    """Paired differences from the baseline, with a sentence each."""
    by_name = {run.name: run for run in runs}

    def change(part: Mapping[str, Any], better: str) -> str:
        if part["difference"] is None:
            return "-"
        kind = "" if part["verdict"] == "no difference shown" else "good" if part["verdict"] == better else "bad"
        return (f'<span class="{kind}">{points(part["difference"])}</span>'
                f'<small>{points(part["difference_low"])} to {points(part["difference_high"])}</small>')

    rows = [[dot(by_name[row["name"]]), f"{row['utility']['pairs']:,}", change(row["miss_ratio"], "lower"),
             change(row["accuracy"], "higher"), change(row["utility"], "higher"), escape(in_short(row))] for row in found["compared"]]
    note = (f"Differences are in percentage points, on the same frames. The intervals of one column hold together at "
            f"{percent(found['confidence'], 0)} (Bonferroni over {found['comparisons']} comparisons, each at "
            f"{percent(found['interval_confidence'], 2)}), from blocks of frames in time across all streams.")
    forced = '<p class="bad">Forced: these runs differ in what should be equal; see the JSON.</p>' if found["forced"] else ""
    return forced + table([f"against {escape(found['baseline'])}", "pairs", "miss ratio", "accuracy", "utility", "in words"], rows, (5,)) \
        + f'<p class="mute">{escape(note)}</p>'


def details(runs: Sequence[Entry]) -> list[str]:
    """Assumptions, misses with evidence and conditions, folded away."""
    blocks = [block for run in runs for block in (_assumptions(run), _misses(run)) if block]
    return ["<h2>Evidence</h2>", *blocks, *_hints(runs), _conditions(runs)]


def _hints(runs: Sequence[Entry]) -> list[str]:
    """What to type for the story of one frame, a line a run."""
    found = [(run, hint) for run in runs if (hint := explain_hint(run.summary))]
    rows = [[dot(run), escape(words), f"<code>{escape(command)}</code>"] for run, (words, command) in found]
    if not rows:
        return []
    return ["<details><summary>One frame in detail: <code>edgert explain RUN FRAME</code></summary>"
            + table(["run", "what it tells", "command"], rows, (1, 2)) + "</details>"]


def _assumptions(run: Entry) -> str:
    found = run.summary["assumptions"]
    if not found:
        return ""
    broken = run.summary["assumption_violations"]
    rows = [[escape(a["name"]), escape(a["text"]), duration(a["limit_ns"]), f"{a['checked']:,}",
             f'<span class="{"bad" if a["violations"] else "good"}">{a["violations"]:,}</span>', duration(a["worst_ns"])] for a in found]
    word = f'<span class="bad">{broken:,} violations</span>' if broken else '<span class="good">all held</span>'
    return (f"<details><summary>{dot(run)}: assumptions, {word}</summary>"
            + table(["assumption", "what it says", "limit", "checked", "violated", "worst"], rows, (1,))
            + f'<p class="mute">{escape(run.summary["guarantee"]["text"])}.</p></details>')


def _misses(run: Entry) -> str:
    found = [*run.summary["misses"], *run.summary["drops"]]
    if not found:
        return ""
    zero = int(run.view.frames["release_ns"].min())
    rows = [[f"{escape(m['stream'])} {m['frame']}", duration(m["release_ns"] - zero), escape(TEXTS[m["cause"]]), escape(m["evidence"])]
            for m in found[:SHOWN]]
    more = ""
    if len(found) > SHOWN:
        more = (f'<p class="mute">The first {SHOWN} of {len(found):,}; all are in '
                f"<code>edgert report {escape(run.view.path)} --json</code>.</p>")
    return (f"<details><summary>{dot(run)}: {len(found):,} frames without an answer, each with its cause</summary>"
            + table(["frame", "captured at", "cause", "evidence"], rows, (3,)) + more + "</details>")


def _conditions(runs: Sequence[Entry]) -> str:
    rows = []
    for run in runs:
        s = run.summary
        machine = run.view.meta.get("machine")
        facts = machine.items() if isinstance(machine, Mapping) else ()
        text = ", ".join(f"{k} {v}" for k, v in facts if isinstance(v, (str, int, float)) and v != "")
        rows.append([dot(run), escape(conditions(s)), escape(f"seed {s['seed']}, model {str(s['model_id'])[:12]}, edgert {s['edgert']}"),
                     escape(str(s["started_utc"])), escape(text)])
    return ("<details><summary>Conditions of each run</summary>"
            + table(["run", "conditions", "identity", "started", "machine"], rows, (1, 2, 4)) + "</details>")

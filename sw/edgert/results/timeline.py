"""The life of one recorded frame as a picture: capture, its stages among those of others, publication, deadline."""

from __future__ import annotations

import numpy as np

from .plots import MISS_COLOUR, MS, depth_colour
from .svg import WIDTH, Canvas, Scale, spread
from .text import duration
from .view import View

LANE, GAP, TOP = 30, 12, 56
LANES = {"fpga": "accelerator", "cpu": "CPU", "dma": "transfer"}


def choose(split: View, whole: View) -> tuple[int, int] | None:
    """Rows, in both runs, of a frame that tells the story: refined and answered in `split`, missed in `whole`; None: there is none.

    Refined to the end where there is such a frame, else to any depth. Of all such frames one that took longer than most: there is
    more to see. The first half second is left out.
    """
    from .compare import pairs

    rows, others = pairs(split, whole)
    frames = split.frames
    deepest = np.array([stream.deepest for stream in split.streams])[frames["stream"][rows]]
    depth = np.where(frames["status"][rows] == 0, frames["depth"][rows], -1)
    warm = frames["release_ns"][rows] > frames["release_ns"].min(initial=1 << 62) + 500 * MS
    missed = whole.missed[others]
    spent = (frames["completed_ns"] - frames["release_ns"])[rows]
    for good in ((depth == deepest) & missed & warm, (depth >= 1) & missed & warm, (depth >= 1) & missed, depth >= 1):
        found = np.flatnonzero(good)
        if len(found):
            best = found[np.argsort(spent[found], kind="stable")[int(0.8 * (len(found) - 1))]]
            return int(rows[best]), int(others[best])
    return None


def timeline(view: View, row: int) -> str:
    """One frame of a run: a lane a unit, its own stages in colour and numbered, those of other frames pale."""
    f = view.frames
    release, deadline, job = int(f["release_ns"][row]), int(f["deadline_ns"][row]), int(f["job"][row])
    stream = view.streams[int(f["stream"][row])]
    window = deadline - release
    units = [(resource, unit) for resource, n in dict(view.meta.get("resources") or {}).items() for unit in range(int(n))]
    left, right = 88, WIDTH - 8
    x = Scale(-0.07 * window / MS, 1.13 * window / MS, left, right)
    bottom = TOP + len(units) * (LANE + GAP)
    answered = int(f["status"][row]) == 0
    name = f"frame {int(f['frame'][row])} of {stream.name}: {'answered' if answered else 'missed'}"
    canvas = Canvas(bottom + 44, name)
    for i, (resource, unit) in enumerate(units):
        y = TOP + i * (LANE + GAP)
        many = sum(r == resource for r, _ in units) > 1
        canvas.text(left - 8, y + LANE / 2 + 4, LANES.get(str(resource), str(resource)) + (f" {unit}" if many else ""), "end", "label")
        canvas.rect(left, y, right - left, LANE, "var(--soft)", radius=3)
    own = _bars(canvas, view, job, release, units, x)
    canvas.line(x(0), TOP - 8, x(0), bottom, "axis")
    canvas.text(x(0), TOP - 30, "capture", "start", "label")
    canvas.line(x(window / MS), TOP - 24, x(window / MS), bottom, "deadline")
    canvas.text(x(window / MS) + 4, TOP - 30, "deadline", "end", "label", MISS_COLOUR)
    if answered:
        at: float = (int(f["published_ns"][row]) - release) / MS
        canvas.marker(x(at), TOP - 6, "var(--good)", "published")
        early = at < 0.4 * window / MS
        canvas.text(x(at) + (9 if early else -9), TOP - 7, "answer", "start" if early else "end", "strong", "var(--good)")
    else:
        canvas.text(x(window / MS) - 7, TOP - 10, "no answer", "end", "strong", MISS_COLOUR)
    for number, place, middle, edge in own:
        canvas.line(middle, edge, place, edge - 6, "leader")
        canvas.text(place, edge - 8, str(number), "middle", "strong")
    for tick in x.ticks(5):
        if tick >= 0:
            canvas.text(x(tick), bottom + 14, f"{tick:g}", "middle", "tick")
    canvas.text((left + right) / 2, bottom + 34, "ms since its scheduled capture", "middle")
    return str(canvas)


def _bars(canvas: Canvas, view: View, job: int, release: int, units: list[tuple[str, int]],
          x: Scale) -> list[tuple[int, float, float, float]]:
    """Draw the stages in sight; returns number, place of the number, middle and top of each of the frame's own."""
    table = view.stages
    start, end = (table["start_ns"] - release) / MS, (table["end_ns"] - release) / MS
    seen = np.flatnonzero((end > x.low) & (start < x.high) & (table["end_ns"] >= 0))
    own: list[tuple[int, float, float]] = []
    for i in sorted(seen.tolist(), key=lambda k: int(table["job"][k]) == job):
        where = (str(table["resource"][i]), int(table["unit"][i]))
        if where not in units:
            continue
        y = TOP + units.index(where) * (LANE + GAP)
        a, b = x(float(start[i])), x(float(end[i]))
        mine = int(table["job"][i]) == job
        s = view.streams[int(table["stream"][i])] if table["stream"][i] >= 0 else view.streams[0]
        depth = max(0, int(table["stage"][i]) - s.mandatory + 1)
        title = f"{table['name'][i]}, {duration(float(end[i] - start[i]) * MS)}" + ("" if mine else " (another frame)")
        colour = depth_colour(depth, s.deepest) if mine else "var(--other)"
        canvas.rect(a, y + (2 if mine else 7), max(2.5 if mine else 1, b - a - 0.6), LANE - (4 if mine else 14), colour, title, 1.5)
        if mine:
            own.append((units.index(where), (a + b) / 2, y))
    places: list[tuple[int, float, float, float]] = []
    numbered = list(enumerate(sorted(own, key=lambda bar: bar[1]), 1))
    for lane in range(len(units)):
        mine_here = [(number, bar) for number, bar in numbered if bar[0] == lane]
        shifted = spread([bar[1] for _, bar in mine_here], 13, x.start, x.end)
        places += [(number, place, bar[1], bar[2] + 2) for (number, bar), place in zip(mine_here, shifted)]
    return places


def story(view: View, row: int) -> str:
    """The same in words: what ran, when it ended, when the answer went out."""
    f, table = view.frames, view.stages
    release, deadline = int(f["release_ns"][row]), int(f["deadline_ns"][row])
    mine = [i for i in np.flatnonzero(table["job"] == f["job"][row]).tolist() if 0 <= int(table["end_ns"][i]) <= deadline]
    parts = [f"{n} {str(table['name'][i]).rpartition('/')[2]}, done at {duration(int(table['end_ns'][i]) - release)}"
             for n, i in enumerate(mine, 1)]
    if int(f["status"][row]) == 0:
        parts.append(f"answer out at {duration(int(f['published_ns'][row]) - release)}")
    else:
        parts.append("no answer by the deadline")
    return "; ".join(parts) + "."

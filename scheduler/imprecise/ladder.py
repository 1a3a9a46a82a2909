"""The ladder of clairvoyant bounds: what could have been had, had one known more.

    bound = clairvoyant(frames_of(scenario, seed, 4000), scenario.resources, "B2")
    bound.lower <= the best that any schedule of whole stages reaches <= bound.upper

All bounds know when every frame comes and how long every stage takes, of all frames at once. What an answer counts:

    B0  weight x (is it right?)              stages may be interrupted and done in fractions    knows also how every picture ends
    B1  weight x P(it is right | confidence) the same                                           knows the confidence at every depth
    B2  weight x P(it is right | confidence) a stage is an atom: whole, never interrupted

B0 takes fractions as B1 does, so that they differ in nothing but the outcome: where worth is calibrated, E[B0] >= E[B1] (the envelope is
convex in the values, Jensen), and B1 >= B2 frame set by frame set. B0 - B1 is the price of the outcome, B1 - B2 of atoms,
B2 - policy of the future and of the policy. For milestone streams only (stages in order, each result usable).

What worth is. As `frames_of` gives it, worth[d] is P(right | the confidence that depth d *will* give), which no policy can know before it
gets there: much of B2 - policy then is not to be had. With `expected=True`, worth[d] = worth[0] + the gains expected before each stage,
given the confidence that there then is. For a policy that decides on a stage knowing no more than that, and gains that are
calibrated, the difference of the two is a martingale, of mean 0: both worths give the policy the same utility in expectation, and the
bounds on the second bound that utility in expectation, far more tightly (dual bounds by information relaxation with a penalty: Brown,
Smith and Sun, Operations Research 58(4), 2010). Frame set by frame set they bound `utility_of(frames, depths)`.

Model. The pool is where optional stages run. Mandatory stages elsewhere take their time but are assumed not to wait (a relaxation; the
lower side queues them by non-preemptive EDF); in the pool they are counted, with the choice to miss the frame, which is then worth 0 (in
B0 and B1 also to do a fraction of them). Where optional stages run on several resources, these count as one with all their units.

Upper sides (`ladder_relax.py`, `ladder_program.py`): relaxations of linear size; where they leave a gap of more than `tolerance`, prices
from a linear programme, solved in windows; where an interval of the timeline that no frame crosses has few stages, all of them
as a mixed-integer programme, which makes B2 exact there (`ladder_exact.py`). Lower sides (`ladder_schedule.py`): schedules, executed
and valued by a checker that shares nothing with what made them (`ladder_check.py`). Every upper side is a bound by itself, so
that neither windows nor rounding in a solver can push it below the optimum by more than the solver's last digits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import ladder_exact, ladder_program, ladder_relax, ladder_schedule
from .ladder_check import worth_of
from .ladder_model import Item, LadderFrame, Pool, Segment, check, item_of, leads, pool_of
from .ladder_program import Piece
from .model import Stream
from .scenario import Scenario
from .worlds import Tables, arrivals

__all__ = ["Bound", "LadderFrame", "Segment", "Window", "clairvoyant", "frames_of", "mandatory_only_utility", "utility_of", "worth_of"]

ROUNDING = 1e-7  # the share of a total that counts as rounding: prices and whole nanoseconds
SOLVER = 1e-5  # the share within which the solver's optimum is one
EXACT_STAGES = 12  # of a window, so that it is solved to the end


class Window(NamedTuple):
    """A part of the timeline that no frame crosses: from when to when (ns), how many frames, its bound, and how it was found.

    `method`: "free" (every frame reaches its best), "relaxation", "programme" or "exact".
    """

    start_ns: int
    end_ns: int
    n: int
    upper: float
    lower: float
    method: str


@dataclass(frozen=True)
class Bound:
    """A bound on the total value of `n` frames of total `weight`, and the `schedule` that is worth `lower`.

    `exact`: the sides differ by rounding only (a share of 1e-7).
    """

    name: str
    upper: float
    lower: float
    schedule: tuple[Segment, ...]
    exact: bool
    n: int
    weight: float
    windows: tuple[Window, ...]

    @property
    def gap(self) -> float:
        """How far the optimum may lie below `upper`."""
        return self.upper - self.lower

    @property
    def mean_upper(self) -> float:
        """`upper` as a weighted mean over frames, to set beside `Simulation.weighted_utility`."""
        return self.upper / self.weight if self.weight else 0.0

    @property
    def mean_lower(self) -> float:
        """`lower` as a weighted mean over frames."""
        return self.lower / self.weight if self.weight else 0.0


def clairvoyant(frames: Sequence[LadderFrame], resources: Mapping[str, int], bound: str = "B2", *, tolerance: float = 0.005,
                states: int = 1000, window: int = 12_000, preemptive: Collection[str] = ()) -> Bound:
    """A bound of the ladder on the total value of these frames, from above and below.

    `resources`: units of each. `tolerance`: the gap, as a share of what refinement gains, above which more is computed: other orders of
    the frames, a linear programme (extra `sim`), for windows of few stages an exact one. `states`: plans kept at once in the
    search for a schedule; `window`: variables of the programme at once. `preemptive`: resources where mandatory work may interrupt
    others; with any, B2 is not solved exactly (its lower side interrupts nothing). Time is linear in the number of frames but for NumPy's
    quadratic scans, memory linear: for 4,000 frames about a second and 100 MB. Raises ValueError for frames that cannot be.
    """
    check(frames, resources, bound)
    pool = pool_of(frames, resources)
    job = _Job(frames, resources, bound, pool, tolerance, states, window, bool(preemptive))
    found = [job.part(members) for members in _parts(frames)]
    schedule = [segment for _, segments in found for segment in segments]
    windows = tuple(entry for entry, _ in found)
    lower = worth_of(frames, resources, schedule, bound)
    upper = max(lower, sum(entry.upper for entry in windows))
    return Bound(bound, upper, lower, tuple(sorted(schedule, key=lambda s: (s.start_ns, s.resource, s.unit))),
                 upper - lower <= ROUNDING * max(upper, 1e-12), len(frames), sum(frame.weight for frame in frames), windows)


def mandatory_only_utility(frames: Sequence[LadderFrame], resources: Mapping[str, int] | None = None) -> float:
    """Total value where nothing is refined: weight x worth[0] of the frames whose mandatory part is in time.

    With `resources` mandatory parts queue for them under non-preemptive EDF, else none waits.
    """
    if resources is None:
        return sum(f.weight * f.worth[0] for f in frames if f.arrival_ns + sum(ns for _, ns in f.stages[:f.mandatory]) <= f.due_ns)
    ends, _ = leads(frames, [frame.mandatory for frame in frames], resources)
    return sum(f.weight * f.worth[0] for f, end_ns in zip(frames, ends) if 0 <= end_ns <= f.due_ns)


def utility_of(frames: Sequence[LadderFrame], depths: Sequence[int]) -> float:
    """Total value of answers of these depths (-1: missed), by the frames' worth. Raises ValueError where there is not one a frame.

    The depths of a simulation: `rows["depth"][rows["status"] != DROPPED]` of its `frames`.
    """
    if len(frames) != len(depths):
        raise ValueError(f"found {len(depths)} depths, expected one for each of {len(frames)} frames")
    return sum(frame.weight * frame.worth[depth] for frame, depth in zip(frames, depths) if depth >= 0)


def frames_of(scenario: Scenario, seed: int, frames: int, *, expected: bool = False, relaxed: bool = False) -> list[LadderFrame]:
    """The frames that `simulate(scenario, policy, seed, frames)` closes, with every stage's draw and every depth's outcome.

    Frames that the scenario drops are not among them. `expected`: worth by expected gains (top of this file). Constant overheads are part
    of the durations. Raises ValueError for sieve and version streams, for stages bound to units, and where durations depend on the
    schedule (heat, other work, shared cores) or stages fail; with `relaxed` these are taken as they would be without: the upper
    sides stay bounds, the lower ones are of another world. A policy that does not split the work may publish up to the deadline:
    the bounds hold for it where the guard is 0.
    """
    conditions = scenario.conditions
    extra_ns = conditions.overhead_ns, conditions.overhead_ns + conditions.decision_ns
    context = [name for name in ("takes_core", "beside", "hogs", "thermal", "faults", "resource_faults") if getattr(conditions, name)]
    for stream in scenario.streams:
        if stream.kind != "milestone":
            raise ValueError(f"stream {stream.name!r} is a {stream.kind}: the ladder of bounds knows milestones only")
        if any(stage.units for stage in stream.stages):
            context.append(f"units of stream {stream.name!r}")
    if context and not relaxed:
        raise ValueError(f"what a stage takes depends on the schedule in scenario {scenario.name!r} ({', '.join(context)}): "
                         "its bounds are defined only without; relaxed=True gives upper sides that hold")
    tables: dict[tuple[int, ...], tuple[Tables, list[list[float]]]] = {}
    of_stream = []
    for source in scenario.sources:
        key = (id(source.work), id(source.stream.reward), id(source.stream.stages))
        if key not in tables:
            table = Tables(source)
            tables[key] = table, _expected(table, source.stream) if expected else table.worth
        of_stream.append((source.stream, *tables[key]))
    found = []
    for arrival_ns, index, _, release_ns, item, took in (frame for chunk in arrivals(scenario.sources, seed, frames) for frame in chunk):
        if not took:
            continue
        stream, table, worth = of_stream[index]
        due_ns = release_ns + stream.deadline_ns
        stages = tuple((stage.resource, ns + extra_ns[not stage.mandatory]) for stage, ns in zip(stream.stages, took))
        found.append(LadderFrame(release_ns, due_ns - scenario.guard_ns, stages, stream.mandatory, tuple(w[item] for w in worth),
                                 tuple(r[item] for r in table.right), stream.weight, arrival_ns, due_ns))
    return found


def _expected(table: Tables, stream: Stream) -> list[list[float]]:
    """Worth by depth and item: of the mandatory answer, and the gains expected before each stage; not below 0."""
    worth = [table.worth[0]]
    for depth in range(stream.deepest):
        gains = [stream.reward.gains(depth, confidence, depth + 1)[0] for confidence in table.confidence[depth]]
        worth.append([before + gain for before, gain in zip(worth[depth], gains)])
    return [[max(0.0, value) for value in column] for column in worth]


# Parts ----------------------------------------------------------------------------------------------------------------


def _parts(frames: Sequence[LadderFrame]) -> list[list[int]]:
    """The frames, by index, cut at instants that no frame's time from arrival to deadline crosses."""
    parts: list[list[int]] = []
    until_ns = 0
    for i in sorted(range(len(frames)), key=lambda i: frames[i].arrival_ns):
        if not parts or frames[i].arrival_ns >= until_ns:
            parts.append([])
        parts[-1].append(i)
        until_ns = max(until_ns, frames[i].due_ns)
    return parts


class _Job(NamedTuple):
    """What all parts of one bound share."""

    frames: Sequence[LadderFrame]
    resources: Mapping[str, int]
    bound: str
    pool: Pool
    tolerance: float
    states: int
    window: int
    preemptive: bool

    def part(self, members: Sequence[int]) -> tuple[Window, list[Segment]]:
        """The bound of one part, and its schedule in the frames' own numbers."""
        frames = [self.frames[i] for i in members]
        items = [item_of(i, frame, self.pool, self.bound) for i, frame in enumerate(frames)]
        base = sum(item.base for item in items)
        least = base + sum(item.options[0].gain for item in items if item.options and not item.options[0].depth)  # with nothing refined
        rivals = [item for item in items if item.options]
        method, upper = "free", base + sum(item.options[-1].gain for item in rivals)
        lower, schedule = -1.0, list[Segment]()
        if self.bound != "B2":
            gain, amounts = ladder_relax.fractional(rivals, self.pool.units)
            method, upper = ("free" if base + gain >= upper else "relaxation"), min(upper, base + gain)
            lower, schedule = self.pieces(frames, items, amounts)
        for order in range(len(ladder_schedule.ORDERS)):
            if self.open(least, upper, lower, self.tolerance):
                lower, schedule = max((lower, schedule), self.whole(frames, items, order), key=lambda found: found[0])
            if self.bound == "B2" and not order and self.open(least, upper, lower, 0.0):
                method, upper = "relaxation", min(upper, base + ladder_relax.atomic(rivals, self.pool.units))
        if self.open(least, upper, lower, self.tolerance) and rivals:
            method = "programme"
            ready_ns, log = self.ready(frames, items)
            real = [item._replace(ready_ns=ready_ns[item.frame], end_ns=frames[item.frame].publish_ns) for item in rivals
                    if 0 <= ready_ns[item.frame] < frames[item.frame].publish_ns]
            if real:
                prices, pieces = ladder_program.solve(real, self.pool.units, self.window)
                upper = min(upper, base + ladder_relax.priced(rivals, self.pool.units, prices, self.bound == "B2"))
                if self.bound != "B2" and self.plain(items):
                    lower, schedule = max((lower, schedule), self.valued(frames, items, log, pieces), key=lambda found: found[0])
        if (self.bound == "B2" and not self.preemptive and self.open(least, upper, lower, 0.0)
                and ladder_exact.stage_count(frames) <= EXACT_STAGES):
            exact = ladder_exact.solve(frames, self.resources)
            upper = min(upper, exact.upper)
            if exact.schedule is not None:
                worth = worth_of(frames, self.resources, exact.schedule, self.bound)
                lower, schedule = max((lower, schedule), (worth, exact.schedule), key=lambda found: found[0])
            if exact.proven:
                method, upper = "exact", lower if upper - lower <= SOLVER * upper else upper
        first = min(frame.arrival_ns for frame in frames)
        window = Window(first, max(frame.due_ns for frame in frames), len(frames), max(upper, lower), lower, method)
        return window, [segment._replace(frame=members[segment.frame]) for segment in schedule]

    def open(self, least: float, upper: float, lower: float, tolerance: float) -> bool:
        """Whether the gap is more than this share of what refinement gains, and more than rounding."""
        return upper - lower > max(tolerance * (upper - least), ROUNDING * abs(upper))

    def plain(self, items: Sequence[Item]) -> bool:
        """Whether a frame, once ready, uses one resource only."""
        return len(self.pool.resources) == 1 and all(item.plain for item in items)

    def ready(self, frames: Sequence[LadderFrame], items: Sequence[Item]) -> tuple[list[int], list[Segment]]:
        """When each frame really becomes ready (-1: too late), mandatory stages outside the pool queueing; and their schedule."""
        return leads(frames, [item.lead for item in items], self.resources)

    def whole(self, frames: Sequence[LadderFrame], items: Sequence[Item], order: int) -> tuple[float, list[Segment]]:
        """A schedule of whole stages and its value."""
        ready_ns, log = self.ready(frames, items)
        rivals = [item for item in items if item.options and ready_ns[item.frame] >= 0]
        known = {item.frame: ready_ns[item.frame] for item in rivals}
        plan = ladder_schedule.search(rivals, known, self.pool.units, self.states, order) if rivals else {}
        if self.plain(items) or not rivals:
            return self.valued(frames, items, log + ladder_schedule.lay_out(frames, rivals, known, self.pool, plan, order), None)
        most = {item.frame: len(item.options) - 1 for item in rivals}
        tries = [ladder_schedule.list_schedule(frames, items, self.resources, wanted, dense, fill)
                 for wanted, dense, fill in ((plan, False, False), (plan, False, True), (plan, True, True), (most, True, False))]
        return max((self.valued(frames, items, segments, None) for segments in tries), key=lambda found: found[0])

    def pieces(self, frames: Sequence[LadderFrame], items: Sequence[Item], amounts: Mapping[int, float]) -> tuple[float, list[Segment]]:
        """A schedule in fractions, by earliest deadline first, and its value."""
        if not self.plain(items):
            return -1.0, []
        ready_ns, log = self.ready(frames, items)
        rivals = [item._replace(end_ns=frames[item.frame].publish_ns) for item in items if item.options and ready_ns[item.frame] >= 0]
        known = {item.frame: ready_ns[item.frame] for item in rivals}
        return self.valued(frames, items, log, ladder_schedule.fluid(rivals, known, amounts, self.pool.units))

    def valued(self, frames: Sequence[LadderFrame], items: Sequence[Item], log: list[Segment],
               pieces: Sequence[Piece] | None) -> tuple[float, list[Segment]]:
        """A schedule with the pool's pieces cut into stages, and its value as the checker finds it."""
        schedule = log + (ladder_schedule.cut(frames, items, pieces, self.pool.resources[0]) if pieces else [])
        return worth_of(frames, self.resources, schedule, self.bound), schedule

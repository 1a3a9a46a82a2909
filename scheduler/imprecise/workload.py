"""What a model costs and what its answers are worth: real ones from a bundle, or made up and calibrated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .draws import DurationModel, key_of, uniforms
from .model import Curve, Reward, Stage


def depths_of(kind: str, optional: int) -> int:
    """How many depths an answer may have, with so many optional stages."""
    return 1 << optional if kind == "sieve" else optional + 1


@dataclass(frozen=True)
class Outcomes:
    """What each labelled picture gives at each depth: `confidence` float64 `[n, depths]` in 0..1, `correct` bool `[n, depths]`.

    Raises ValueError where they do not fit each other.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]

    def __post_init__(self) -> None:
        confidence = np.asarray(self.confidence, dtype=np.float64)
        correct = np.asarray(self.correct)
        if confidence.ndim != 2 or confidence.shape != correct.shape or not confidence.size:
            raise ValueError(f"outcomes need confidence and correct of one shape [pictures, depths], "
                             f"found {confidence.shape} and {correct.shape}")
        if not (np.isfinite(confidence).all() and (confidence >= 0).all() and (confidence <= 1.000001).all()):
            raise ValueError("confidences must lie between 0 and 1")
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "correct", correct.astype(np.bool_))

    @property
    def depths(self) -> int:
        """How many depths they have."""
        return int(self.confidence.shape[1])


@dataclass(frozen=True)
class Workload:
    """What a model costs and what its answers are worth: what a bundle's name is resolved to."""

    stages: tuple[Stage, ...]
    durations: tuple[DurationModel, ...]  # of each stage
    reward: Reward = field(default_factory=Reward)
    outcomes: Outcomes | None = None
    validation: Outcomes | None = None  # of other pictures, which policies are tuned and chosen on
    kind: str = "milestone"  # what the optional stages are to each other, as in `Stream`

    def __post_init__(self) -> None:
        depths = depths_of(self.kind, sum(not stage.mandatory for stage in self.stages))
        if len(self.durations) != len(self.stages):
            raise ValueError(f"found {len(self.durations)} durations, expected one for each of {len(self.stages)} stages")
        for outcomes in (self.outcomes, self.validation):
            if outcomes is not None and outcomes.depths != depths:
                raise ValueError(f"found outcomes of {outcomes.depths} depths, expected {depths}")


# Made-up outcomes -----------------------------------------------------------------------------------------------------


def _removed(accuracy: Sequence[float], kind: str) -> list[tuple[tuple[int, ...], float]]:
    """For each depth: the optional stages done (from 0), and for each stage the share of the error left that it removes."""
    steps = range(len(accuracy) - 1)
    if kind == "version":  # each against the mandatory answer
        return [((), 0.0), *(((i,), 1 - (1 - accuracy[i + 1]) / (1 - accuracy[0])) for i in steps)]
    share = [1 - (1 - b) / (1 - a) for a, b in itertools.pairwise(accuracy)]
    sets = [tuple(steps[:n]) for n in range(len(accuracy))]
    if kind == "sieve":
        sets = [tuple(i for i in steps if bits >> i & 1) for bits in range(1 << len(steps))]
    return [(done, 1 - math.prod(1 - share[i] for i in done)) for done in sets]


def _step_shares(accuracy: Sequence[float], kind: str) -> list[float]:
    """The share of the error left that each optional stage removes."""
    alone = {done[0]: share for done, share in _removed(accuracy, kind) if len(done) == 1}
    if kind == "milestone":
        return [1 - (1 - b) / (1 - a) for a, b in itertools.pairwise(accuracy)]
    return [alone[i] for i in range(len(accuracy) - 1)]


def synthetic_outcomes(accuracy: tuple[float, ...], count: int, name: str, which: int = 0, kind: str = "milestone") -> Outcomes:
    """Calibrated outcomes with the given expected accuracy; `which` numbers independent sets.

    `accuracy`: of the mandatory answer, then with each optional stage in turn (of versions: with that one). 1 - c0 = u^a with
    a = A0 / (1 - A0), of mean 1 - A0: most pictures easy, few hard. Each stage removes a random share of the error left, of the mean
    that its accuracy asks for. A picture is right at a depth where its own uniform is below the confidence there, so that
    P(correct | confidence) = confidence, and with more stages a right answer stays right.
    """
    left = uniforms(key_of(which, name, "@hard"), 0, count) ** (accuracy[0] / (1 - accuracy[0]))
    kept = []
    for depth, share in enumerate(_step_shares(accuracy, kind), 1):
        spread = min(share, 1 - share) * (2 * uniforms(key_of(which, name, f"@share{depth}"), 0, count) - 1)
        kept.append(1 - share - spread)
    columns = []
    for done, _ in _removed(accuracy, kind):
        rest = left
        for i in done:
            rest = rest * kept[i]
        columns.append(1 - rest)
    confidence = np.stack(columns, axis=1)
    return Outcomes(confidence, uniforms(key_of(which, name, "@right"), 0, count)[:, None] < confidence)


def synthetic_reward(accuracy: tuple[float, ...], kind: str = "milestone") -> Reward:
    """The exact reward of `synthetic_outcomes`: P(correct) is the confidence, the gain from c is (1 - c) times what is removed."""
    found, share = _removed(accuracy, kind), _step_shares(accuracy, kind)
    gain = {}
    for d, (before, _) in enumerate(found):
        for e, (after, _) in enumerate(found):
            if set(before) < set(after) and not (kind == "version" and before):
                more = 1 - math.prod(1 - share[i] for i in after if i not in before)
                gain[d, e] = Curve((0.0, 1.0), (more, 0.0))
    prior = tuple(1 - (1 - accuracy[0]) * (1 - removed) for _, removed in found)
    return Reward(tuple(Curve((0.0, 1.0), (0.0, 1.0)) for _ in found), gain, prior)

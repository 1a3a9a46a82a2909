"""`dbp`: the stream that is closest to breaking its (m,k) first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Policy

if TYPE_CHECKING:
    from ..engine import Engine
    from ..model import Job, Stream


class DBP(Policy):
    """Rule: the job whose stream is the fewest failures away from breaking its (m,k) goes first; a frame that is not refined is a failure.

    Distance-based priority (Hamdaoui and Ramanathan, IEEE Transactions on Computers 44(12), 1995): with l(m) the place, counted
    from the latest, of the m-th success among the last k outcomes (k + 1: there are fewer), the distance to a failing state
    is k - l(m) + 1; least first, ties by deadline. Outcomes count in the order in which frames are published or missed, and
    the past before the first frame is taken as refined. Frames already refined, and streams without (m,k), come after.
    O(n k) a decision.
    """

    name = "dbp"
    quantile = 0.5

    def __init__(self) -> None:
        self._past: dict[int, deque[bool]] = {}  # by stream: the last k outcomes, latest first

    def closed(self, job: Job, engine: Engine) -> None:
        """Remember whether it was refined."""
        if job.stream.mk[1]:
            self._history(job.stream_index, job.stream).appendleft(job.depth > 0 and engine.now_ns <= job.deadline_ns)

    def distance(self, index: int, stream: Stream) -> int:
        """How many failures in a row this stream can have before fewer than m of its last k are refined; 0: it is failing."""
        m, k = stream.mk
        successes = [place for place, refined in enumerate(self._history(index, stream), 1) if refined]
        return k - successes[m - 1] + 1 if len(successes) >= m else 0

    def _history(self, index: int, stream: Stream) -> deque[bool]:
        return self._past.setdefault(index, deque([True] * stream.mk[1], stream.mk[1]))

    def pick(self, ready: Sequence[Job], engine: Engine) -> Job | None:
        """The least distance; ties, refined frames and streams without (m,k) by deadline."""
        far = 1 << 30
        distances = {job.stream_index: self.distance(job.stream_index, job.stream) for job in ready if job.stream.mk[1]}
        return min(ready, key=lambda job: (distances.get(job.stream_index, far) if job.depth == 0 else far, job.deadline_ns, job.id))


POLICY = DBP

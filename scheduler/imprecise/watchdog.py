"""A policy of the user's may raise, choose what it may not, or never return: the run goes on with mandatory work, and says who it was.

`guard` wraps a policy that does not come with this package. An interval timer (setitimer, SIGALRM) runs while the policy is asked;
where it rings twice the call is ended by an exception, which the engine counts as the policy's fault: it is not asked again.
Ringing twice, half the limit apart, tells a policy that computes from a machine that stood still: after a stall the second half is
still to come.

    engine = Engine(streams, resources, guard(policy, SIMULATION_LIMIT_NS))

What it cannot end: a single call into C that never comes back (a huge power of an int, a library that waits). It needs POSIX, the
main thread, and SIGALRM unused by others; elsewhere policies run unwatched and `note` says why. Two system calls a question. This
file is not compiled: the timer ends Python code.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from .model import Job
from .policies import is_shipped
from .policies.base import Oracle, Policy

if TYPE_CHECKING:
    from .engine import Engine
    from .policies.base import Choice

SIMULATION_LIMIT_NS = 1_000_000_000
LIVE_LIMIT_NS, LEAST_LIMIT_NS = 5_000_000, 1_000_000
AGAIN_S = 50e-6  # between rings once a call is overdue: a policy that catches everything is caught in its own except


class PolicyFault(Exception):
    """What a policy did wrong: its name, file and line, in one line."""


class _Overdue(BaseException):
    """Raised inside a policy's call that takes too long."""


def live_limit_ns(guard_ns: int) -> int:
    """How long one question to a policy may take in a live run: half the guard, so that one stuck call makes no answer late."""
    return max(LEAST_LIMIT_NS, min(LIVE_LIMIT_NS, guard_ns // 2))


def guard(policy: Policy, limit_ns: int) -> Policy:
    """The policy, watched unless it comes with this package. Raises ValueError for a limit that is not above 0."""
    if is_shipped(policy) or isinstance(policy, Watched):
        return policy
    return (_WatchedMemory if type(policy).closed is not Policy.closed else Watched)(policy, limit_ns)


class Watched(Policy):
    """Asks `policy` and answers for it; every fault becomes a PolicyFault. `note` says why nothing is timed, "" where it is."""

    def __init__(self, policy: Policy, limit_ns: int):
        if limit_ns <= 0:
            raise ValueError(f"limit_ns: found {limit_ns}, expected more than 0")
        self.policy = policy
        self.limit_ns = limit_ns
        self.note = _prepare()
        self.name = str(policy.name)
        self.splits = bool(policy.splits)
        self.needs_oracle = bool(policy.needs_oracle)
        self.quantile = policy.quantile
        self.file = str(getattr(sys.modules.get(type(policy).__module__), "__file__", None) or "")
        self.rings = 0
        self.stuck_at = ""
        self.half_s = limit_ns / 2e9
        self._timed = not self.note
        self._wants, self._keeps, self._picks, self._closed = policy.wants, policy.keeps, policy.pick, policy.closed

    @property
    def oracle(self) -> Oracle | None:
        """That of the policy."""
        return self.policy.oracle

    @oracle.setter
    def oracle(self, oracle: Oracle | None) -> None:
        self.policy.oracle = oracle

    def wants(self, job: Job, engine: Engine) -> bool:
        """What the policy says."""
        answer: bool = self._ask("wants", self._wants, bool, job, engine)
        return answer

    def keeps(self, job: Job, engine: Engine) -> bool:
        """What the policy says."""
        answer: bool = self._ask("keeps", self._keeps, bool, job, engine)
        return answer

    def pick(self, ready: Sequence[Job], engine: Engine) -> Choice:
        """What the policy says, where it is ready."""
        choice: Choice = self._ask("pick", self._picks, None, list(ready), engine)
        if choice is None:
            return None
        job, index = choice if type(choice) is tuple and len(choice) == 2 else (choice, None)
        for other in ready:
            if other is job and (index is None or (type(index) is int and index in other.options)):
                return choice
        named = f"job {job.id}" if type(job) is Job else f"a value of type {type(job).__name__}"
        stage = "" if index is None else f", stage {index}" if type(index) is int else ", no stage"
        raise self._fault("pick", f"chose {named}{stage}, which is not ready")

    def _ask(self, method: str, question: Callable[..., Any], kind: type[bool] | None, *given: Any) -> Any:
        """The policy's answer, in time. Raises PolicyFault."""
        if not self._timed or _watch.owner is not None:
            try:
                answer = question(*given)
                return answer if kind is None else kind(answer)
            except Exception as error:
                raise self._raised(method, error) from None
        self.rings, self.stuck_at = 0, ""
        try:
            _watch.owner = self
            _setitimer(_REAL, self.half_s, self.half_s)
            answer = question(*given)
            if kind is not None:
                answer = kind(answer)
        except _Overdue:
            answer = None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _watch.owner = None
            if not self.stuck_at:
                raise self._raised(method, error) from None
        finally:
            _watch.owner = None
            _setitimer(_REAL, 0)
        if self.stuck_at:
            raise PolicyFault(f"policy {self.name!r} ({self.stuck_at}) did not return from {method} within {self.limit_ns / 1e6:g} ms")
        return answer

    def _raised(self, method: str, error: BaseException) -> PolicyFault:
        at, trace = "", error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file or not at:
                at = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        try:
            text = " ".join(str(error).split())
        except Exception:
            text = ""
        return self._fault(method, f"raised {type(error).__name__}{': ' if text else ''}{text[:200]}", at)

    def _fault(self, method: str, what: str, at: str = "") -> PolicyFault:
        code = getattr(getattr(type(self.policy), method), "__code__", None)
        at = at or (f"{code.co_filename}:{code.co_firstlineno}" if code else self.file or "no file")
        return PolicyFault(f"policy {self.name!r} ({at}) {what} in {method}")


class _WatchedMemory(Watched):
    """A watched policy that remembers closed jobs (the engine tells no others)."""

    def closed(self, job: Job, engine: Engine) -> None:
        """Tell the policy."""
        self._ask("closed", self._closed, None, job, engine)


class _Watch:
    """Who is being asked now."""

    owner: Watched | None = None


_watch = _Watch()
_setitimer: Callable[..., Any] = getattr(signal, "setitimer", lambda *_: None)
_REAL: int = getattr(signal, "ITIMER_REAL", 0)
_OURS: set[CodeType] = set()  # code in which no call is interrupted: ours


def _rang(_: int, frame: FrameType | None) -> None:
    """SIGALRM. The second ring of a question ends it, unless the answer is already there."""
    owner = _watch.owner
    if owner is None or frame is None:
        return
    owner.rings += 1
    if owner.rings == 1:
        _setitimer(_REAL, owner.half_s, owner.half_s)  # half the limit from now, whenever now is
        return
    if frame.f_code in _OURS:
        return
    if not owner.stuck_at:
        at: FrameType | None = frame
        while at is not None and at.f_code.co_filename != owner.file and at.f_code not in _OURS:
            at = at.f_back
        at = frame if at is None or at.f_code in _OURS else at
        owner.stuck_at = f"{at.f_code.co_filename}:{at.f_lineno}"
    _setitimer(_REAL, 1e-6, AGAIN_S)
    raise _Overdue


def _prepare() -> str:
    """Listen to SIGALRM; why it cannot be, or ""."""
    if not hasattr(signal, "setitimer"):
        return "policies are not timed: this system has no interval timer"
    if threading.current_thread() is not threading.main_thread():
        return "policies are not timed: this is not the main thread"
    now = signal.getsignal(signal.SIGALRM)
    if now is not _rang:
        if now not in (signal.SIG_DFL, signal.SIG_IGN):
            return "policies are not timed: SIGALRM is in use"
        signal.signal(signal.SIGALRM, _rang)
    return ""


_OURS.update({Watched._ask.__code__, _rang.__code__})

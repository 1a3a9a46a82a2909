"""What a run was asked to do, checked before anything is started."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imprecise import policies, units

from ..errors import UsageError
from ..results.record import Run

_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)")
MAX_RATE = 1000.0
DEFAULT_DEADLINE_NS = 33_000_000


@dataclass(frozen=True)
class StreamOption:
    """A stream as asked for: `source` "" is the bundle's own pictures; `period_ns` between two frames, 0 to be chosen by `--load`."""

    name: str
    source: str
    period_ns: int


@dataclass(frozen=True)
class Options:
    """Everything `edgert run` may be told; times in ns, 0 for what is to be chosen (`duration_ns` 0: until it is stopped)."""

    bundle: str
    streams: tuple[StreamOption, ...]
    policy: str = "default"
    accelerator: str = "auto"
    cpus: int = 1
    deadline_ns: int = 0
    duration_ns: int = 0
    guard_ns: int = 0
    load: float = 0.0
    seed: int = 0
    best_effort: bool = False
    record: Path | None = None
    overwrite: bool = False
    argv: tuple[str, ...] = ()


def duration(text: str, flag: str) -> int:
    """A duration above 0 with its unit, in ns. Raises UsageError."""
    try:
        value = units.parse_ns(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    if value <= 0:
        raise UsageError(f"{flag} {text} is not above 0", f"write it like {flag} 33ms")
    return value


def streams(sources: Sequence[str], rates: Sequence[str], load: float) -> tuple[StreamOption, ...]:
    """The streams that `--source` and `--rate` name. Raises UsageError for names or rates that do not fit each other."""
    named: dict[str, str] = {}
    for text in sources or [""]:
        match = _NAMED.fullmatch(text)
        name, spec = match.groups() if match else ("camera", text)
        if name in named:
            raise UsageError(f"two sources are named {name!r}", "name each one: --source front=... --source rear=...")
        named[name] = spec
    if load:
        if len(named) > 1:
            raise UsageError(f"--load makes its own streams from one source, found {len(named)}", "give one --source")
        if rates:
            raise UsageError("--load chooses the rate, and --rate gives another", "leave one of them out")
        return tuple(StreamOption(name, spec, 0) for name, spec in named.items())
    common, own = 30.0, {}
    for text in rates:
        match = _NAMED.fullmatch(text)
        if match is None:
            common = _rate(text, text)
        elif match[1] not in named:
            raise UsageError(f"--rate {text}: there is no source {match[1]!r}", f"there are {', '.join(named)}")
        else:
            own[match[1]] = _rate(match[2], text)
    return tuple(StreamOption(name, spec, round(1e9 / own.get(name, common))) for name, spec in named.items())


def _rate(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--rate {whole}: {text!r} is no number of frames a second", "write it like --rate 30") from None
    if not 0 < value <= MAX_RATE:
        raise UsageError(f"--rate {whole}: expected more than 0 and at most {MAX_RATE:g} frames a second", "write it like --rate 30")
    return value


def like(given: Options, path: Path) -> Options:
    """`given` with streams, deadline, load and seed of a run record. Raises UsageError, RecordError."""
    with Run(path) as run:
        meta = run.meta
    try:
        made = tuple(StreamOption(s["name"], s["source"], int(s["period_ns"])) for s in meta["streams"])
        return replace(given, streams=made, deadline_ns=int(meta["deadline_ns"]), load=float(meta["load"] or 0), seed=int(meta["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--like {path}: it does not say what its streams were ({error})", "name a run recorded with --record") from None


def policy_name(spec: str) -> str:
    """The policy's full name with its parameters, a file by its absolute path, checked. Raises UsageError for what cannot be made."""
    try:
        policy = policies.make(spec)
    except ValueError as error:
        raise UsageError(str(error), "`edgert policies` lists them") from None
    if policy.needs_oracle:
        raise UsageError(f"--policy {spec} knows the future, which only a simulation does", "use it with `edgert simulate`")
    return policies.full_name(spec)


def check_record(path: Path) -> None:
    """Raise UsageError where a file cannot be made at `path`, before anything is started."""
    folder = path.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        size = os.fstat(fd).st_size
        os.close(fd)
        if size == 0:
            path.unlink()
    except OSError as error:
        raise UsageError(f"the record {path} cannot be written ({error.strerror})", "name a file you may write with --record") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"the record's directory {folder} cannot be written", "name a file you may write with --record")

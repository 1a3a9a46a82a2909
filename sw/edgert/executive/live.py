"""A live run from beginning to end: prepare everything, be admitted, run, close the record."""

from __future__ import annotations

import datetime
import gc
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imprecise.draws import Periodic
from imprecise.engine import Engine
from imprecise.model import Stream

from .. import __version__
from ..bundle import Bundle, load
from ..errors import AcceleratorError, UsageError
from ..results.record import RingRecorder, check_target
from ..results.ring import Ring
from . import admit, options, profile, realtime, reproduce
from .admit import WAKE_LIMIT_NS, Admitted, Surroundings
from .dispatcher import Dispatcher, Feed
from .fallback import Fallback, MandatoryEngine, readmit
from .options import Options, StreamOption
from .pool import Pool
from .watch import Watch
from .witness import WitnessProcess
from .writer import WriterProcess

if TYPE_CHECKING:
    from ..sources.base import Source

WITNESS_LIMIT_NS = 250_000  # looking once a millisecond, the witness then sees any stall longer than 1.25 ms
LEAD_NS = 100_000_000  # between the last preparation and the first frame
RING_BYTES, WITNESS_RING_BYTES = 16 << 20, 1 << 20


@dataclass
class Outcome:
    """How a run ended: its record (None: it was kept for the summary only), the signal that stopped it (0: none), records lost."""

    record: Path
    kept: bool
    stopped_by: int
    counts: dict[str, int]  # captured = answered + missed + dropped, as the dispatcher counted them
    records_lost: dict[str, int]  # by table; {}: none
    invalid: str  # why its figures do not count; "": they do
    policy_fault: str

    def clean(self) -> None:
        """Remove a record that was only made for the summary."""
        if not self.kept:
            shutil.rmtree(self.record.parent)


@dataclass
class Prepared:
    """Everything a run needs, ready to start; closed by `stack`."""

    options: Options
    bundle: Bundle
    mandatory: MandatoryEngine
    why: str  # why this accelerator
    pool: Pool | None
    times: dict[str, profile.Times]
    streams: list[Stream]
    sources: list[Source]
    specs: list[str]
    offsets_ns: list[int]
    guard_ns: int
    admitted: Admitted
    standby_wcet_ns: int
    fallback: Fallback
    engine: Engine
    description: dict[str, Any]
    core: int
    other_cores: list[int]


def _accelerators(name: str, bundle: Bundle) -> tuple[MandatoryEngine, str]:
    """The accelerator asked for and, as a stand-by, another CPU engine of the same bits where there is one."""
    from ..accelerators import choose, self_test

    start_ns = time.monotonic_ns()
    first, why = choose(name, bundle)
    reopen_ns = 2 * (time.monotonic_ns() - start_ns)
    standby = None
    for other in ("litert", "numpy"):
        if other != first.name and standby is None:
            try:
                standby, _ = choose(other, bundle)
            except AcceleratorError:
                continue  # one that does not work here is no stand-by; doctor says why
    start_ns = time.monotonic_ns()
    self_test(first, bundle)
    return MandatoryEngine(first, standby, bundle, self_test, 2 * (time.monotonic_ns() - start_ns), reopen_ns), why


def prepare(given: Options, stack: ExitStack, say: Callable[[str], None]) -> Prepared:
    """Load, measure, choose and admit; what has to be closed is pushed on `stack`. Raises EdgertError."""
    if given.record is not None:
        options.check_record(given.record)
        check_target(given.record, given.overwrite)
    policy = options.policy_name(given.policy)
    bundle = load(given.bundle)
    given = replace(given, streams=tuple(s if s.source else replace(s, source=f"dataset:{bundle.name}") for s in given.streams))
    sources = [] if given.load and not all(s.period_ns for s in given.streams) else _open_sources(given.streams, bundle, given.seed, stack)
    core, worker_cores = realtime.place(given.cpus)
    mandatory, why = _accelerators(given.accelerator, bundle)
    stack.callback(mandatory.close)
    say(f"mandatory part on {mandatory.first.name}: {why}")
    contents = [(name, bundle.contents[name]) for name in bundle.stage_files]
    pool = None
    if contents:
        pool = Pool(contents, bundle.input_shape, len(bundle.classes), worker_cores)
        pool.start()
        stack.callback(pool.close)
    with realtime.urgent(core) as preempted:
        times = profile.measure(bundle, mandatory, pool)
        wcet_ns, wcet_from = profile.worst_case(mandatory.first, bundle)
        standby_wcet_ns = profile.worst_case(mandatory.standby, bundle)[0] if mandatory.standby else 0
    say("measured: " + ", ".join(f"{name} p50 {t.p50_ns / 1e6:.2f} ms, max {t.max_ns / 1e6:.2f} ms" for name, t in times.items()))
    deadline_ns = given.deadline_ns or options.DEFAULT_DEADLINE_NS
    wanted: Sequence[StreamOption] = given.streams
    if given.load and not all(s.period_ns for s in wanted):
        wanted = profile.for_load(wanted[0], given.load, given.cpus, times, deadline_ns)
        sources = _open_sources(wanted, bundle, given.seed, stack)
        say(f"load {given.load:g}: {len(wanted)} streams of {1e9 / wanted[0].period_ns:.2f} frames/s, deadline {deadline_ns / 1e6:g} ms")
    stages = profile.stages(bundle, times, wcet_ns)
    streams = [Stream(s.name, s.period_ns, deadline_ns, stages, 0, 1.0, bundle.reward) for s in wanted]
    resources = {"fpga": 1, "cpu": given.cpus if pool else 0}
    overhead_ns, overhead_from = _overhead(streams, resources, policy, core)
    guard_ns = admit.guard(given.guard_ns, deadline_ns, stages[0].wcet_ns, overhead_ns)
    if guard_ns >= deadline_ns:
        raise UsageError(f"the guard ({guard_ns / 1e6:g} ms) leaves nothing of the deadline ({deadline_ns / 1e6:g} ms)",
                         f"--deadline {2 * guard_ns // 1_000_000 + 1}ms, or a smaller --guard")
    around = Surroundings(WAKE_LIMIT_NS, any(core in cores for cores in worker_cores), preempted, wcet_from, overhead_ns, overhead_from)
    admitted = admit.admit(streams, resources, policy, guard_ns, around, given.best_effort, standby_wcet_ns, given.guard_ns, given.argv)
    say(admitted.sentence)
    fallback = Fallback(False, False, 0)
    if mandatory.standby is not None:
        fallback = readmit(admitted.question, wcet_ns, standby_wcet_ns)
        say(fallback.sentence(mandatory.standby.name))
    description = reproduce.describe(streams, resources, policy, guard_ns, admitted.engine_options)
    engine = reproduce.build(description)
    if note := getattr(engine.policy, "note", ""):  # a policy of the user's that cannot be watched
        say(f"policy {engine.policy.name!r}: {note}; one that never returns would stop the run")
    offsets_ns = [int(Periodic(s.period_ns, -1).start(given.seed, s.name).take(1)[0][0]) for s in wanted]
    others = sorted({c for cores in worker_cores for c in cores})
    return Prepared(given, bundle, mandatory, why, pool, times, streams, sources, [s.source for s in wanted], offsets_ns, guard_ns,
                    admitted, standby_wcet_ns, fallback, engine, description, core, others)


def _overhead(streams: Sequence[Stream], resources: dict[str, int], policy: str, core: int) -> tuple[int, str]:
    """What the engine and its records cost a stage on the dispatcher's core; see `admit.overhead`."""
    ring = Ring.create(WITNESS_RING_BYTES)
    try:
        with realtime.urgent(core):
            return admit.overhead(streams, resources, policy, 0, RingRecorder(ring))
    finally:
        ring.release()


def _open_sources(wanted: Sequence[StreamOption], bundle: Bundle, seed: int, stack: ExitStack) -> list[Source]:
    from ..sources import make_source

    sources = []
    for stream in wanted:
        source = make_source(stream.source, bundle)
        source.open(bundle.input_shape, seed, stream.name)
        stack.callback(source.close)
        sources.append(source)
    return sources


def _machine() -> dict[str, Any]:
    """What the figures of a run depend on: cpu, cores, kernel, Python, NumPy, governor, temperatures."""
    def first_line(path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8").strip().splitlines()[0]
        except (OSError, IndexError):
            return ""

    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
                  if line.startswith(("model name", "Model"))), platform.machine())
    zones = {p.parent.name: first_line(str(p)) for p in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))}
    return {"cpu": model, "architecture": platform.machine(), "cores": os.cpu_count(), "cores_allowed": sorted(os.sched_getaffinity(0)),
            "kernel": platform.release(), "python": platform.python_version(), "numpy": np.__version__,
            "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "temperatures": zones,
            "load_average": list(os.getloadavg())}


def _write_meta(recorder: RingRecorder, ready: Prepared, machine: dict[str, Any], measures: Sequence[realtime.Measure],
                start_ns: int) -> None:
    given = ready.options
    streams = [{"name": s.name, "source": spec, "period_ns": s.period_ns, "deadline_ns": s.deadline_ns, "jitter_ns": s.jitter_ns,
                "weight": s.weight, "offset_ns": offset, "stages": [asdict(stage) for stage in s.stages]}
               for s, spec, offset in zip(ready.streams, ready.specs, ready.offsets_ns)]
    values = {
        "kind": "live", "edgert": __version__, "argv": list(given.argv), "bundle": ready.bundle.name,
        "bundle_version": ready.bundle.version,
        "model_id": ready.bundle.model_id, "policy": ready.description["policy"], "accelerator": ready.mandatory.first.name,
        "accelerator_why": ready.why, "standby": ready.mandatory.standby.name if ready.mandatory.standby else None,
        "fallback": ready.fallback.as_json(), "emulated": bool(ready.mandatory.first.emulated), "load": given.load, "seed": given.seed,
        "deadline_ns": ready.streams[0].deadline_ns,
        "guard_ns": ready.guard_ns, "resources": ready.description["resources"], "admission": ready.admitted.as_json(), "machine": machine,
        "started_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"), "start_ns": start_ns,
        "duration_ns": given.duration_ns, "streams": streams, "engine": ready.description,
        "measured": {name: t.as_json() for name, t in ready.times.items()},
        "realtime": [dict(vars(m)) for m in measures], "workers": ready.pool.notes() if ready.pool else [],
    }
    for key, value in values.items():
        recorder.meta(key, value)


def run(given: Options, say: Callable[[str], None]) -> Outcome:
    """Do the whole run. `say` gets a line for each thing chosen. Raises EdgertError before the start where it cannot run."""
    machine = _machine()
    affinity, scheduling = os.sched_getaffinity(0), (os.sched_getscheduler(0), os.sched_getparam(0))
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, affinity)
        ready = prepare(given, stack, say)
        path = given.record
        if path is None:
            folder = tempfile.mkdtemp(prefix="edgert-")
            path = Path(folder) / "run.db"
        ring, witness_ring = Ring.create(RING_BYTES), Ring.create(WITNESS_RING_BYTES)
        try:
            writer = WriterProcess([ring, witness_ring], path, given.overwrite, ready.other_cores)
        except BaseException:
            if given.record is None:
                shutil.rmtree(path.parent)
            raise
        stack.callback(_undo_realtime, scheduling)
        measures = realtime.take_all(ready.core)
        for measure in measures:
            say(f"dispatcher {measure}")
        for index, note in enumerate(ready.pool.notes() if ready.pool else []):
            say(f"worker {index} {note}")
        priority = realtime.PRIORITY + 1 if any(m.name == "SCHED_FIFO" and m.taken for m in measures) else 0
        witness = WitnessProcess(witness_ring.fd, ready.core, priority, WITNESS_LIMIT_NS if priority else WAKE_LIMIT_NS)
        if not witness.started:
            say("the witness did not start: stalls are seen by the dispatcher only")
        recorder = RingRecorder(ring)
        ready.mandatory.begin()
        start_ns = time.monotonic_ns() + LEAD_NS
        feeds = [Feed(i, s.name, source, s.period_ns, s.deadline_ns, start_ns + offset)
                 for i, (s, source, offset) in enumerate(zip(ready.streams, ready.sources, ready.offsets_ns))]
        watch = Watch(ready.admitted.assumptions)
        dispatcher = Dispatcher(ready.engine, feeds, ready.mandatory, ready.pool, recorder, watch, ready.bundle.temperature,
                                ready.bundle.logit_scale, ready.standby_wcet_ns)
        _write_meta(recorder, ready, machine, measures, start_ns)
        dispatcher.run(start_ns + given.duration_ns if given.duration_ns else 1 << 62)
        recorder.meta("overhead", watch.overhead())
        recorder.meta("policy_fault", ready.engine.policy_fault)
        recorder.meta("ended_by_signal", dispatcher.stopped_by)
        invalid = _invalid(ready.mandatory, dispatcher.counts["captured"])
        recorder.meta("invalid", invalid)
        witness.close()
        lost = writer.finish()
        if told := ready.mandatory.story(ready.fallback):
            say(told)
    lost = {table: number for table, number in lost.items() if number}
    return Outcome(path, given.record is not None, dispatcher.stopped_by, dispatcher.counts, lost, invalid, ready.engine.policy_fault)


def _invalid(mandatory: MandatoryEngine, frames: int) -> str:
    """Why the run's figures do not count: an emulated FPGA that overshot its time in more than 0.1 % of the frames."""
    if mandatory.first.emulated and mandatory.overshoots > frames / 1000:
        return f"the emulated accelerator was late in {mandatory.overshoots} of {frames} frames, more than 0.1 %"
    return ""


def _undo_realtime(scheduling: tuple[int, os.sched_param]) -> None:
    """What comes after a run is not in time: usual priority, collector on."""
    os.sched_setscheduler(0, *scheduling)
    realtime.unlock_memory()
    gc.enable()
    gc.unfreeze()

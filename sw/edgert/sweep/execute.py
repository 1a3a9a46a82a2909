"""Compute the cells that a store lacks, in this process or through joblib's backends, and keep each result as it comes.

One process, the caller's, writes the store. Workers get a cell's function, parameters and inputs, and send back its value as JSON
text. A cell that raises is kept as failed, with the message, and computed again the next time; the others go on. A worker that
dies takes only its own cell with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import UsageError
from .store import Cell, Store

ENGINES = {"local": "edgert[sim]", "ray": "ray", "dask": "dask[distributed]"}  # and what pip installs for them
HANDED_OUT = 3  # at most this many cells a worker are begun or queued at once
AHEAD = 4  # cells handed out at once to each worker, where a backend gives its results a batch at a time
_Work = tuple[int, str, dict[str, Any], dict[str, Any], dict[str, Any]]
_Done = tuple[int, "str | None", str, float]  # which cell, its value as JSON or None, why not, seconds


class Result(NamedTuple):
    """The outcome of one cell: `status` "kept" (the store had it), "done" or "failed"; `value` None and `error` set where it failed."""

    cell: Cell
    status: str
    value: Any
    error: str = ""


Progress = Callable[[int, int, Result], None]


def run(cells: Iterable[Cell], store: Store, jobs: int | None = None, progress: Progress | None = None,
        engine: str = "local") -> Iterator[Result]:
    """Yield a result for each different cell: those that the store has, then the others as they are computed, in no given order.

    Cells that others need are computed before them and are not yielded unless they are among `cells`. `jobs`: workers (default: the
    CPUs at hand, 1 where joblib is not installed; 1 computes in this process). `progress(done, total, result)` is called for each,
    needed ones included. However the iteration ends (an exception, Ctrl-C, `close`), what was computed is kept and no worker of
    `engine="local"` stays. Raises UsageError for an engine that is unknown or not installed, EdgertError where the store fails.
    """
    wanted = {cell.key: cell for cell in cells}
    every: dict[str, Cell] = {}
    for cell in wanted.values():
        _add(cell, every)
    jobs = _jobs(jobs, engine)
    values = store.get(every.values())
    done = 0

    def report(result: Result) -> Iterator[Result]:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(every), result)
        if result.cell.key in wanted:
            yield result

    for key, value in values.items():
        yield from report(Result(every[key], "kept", value))
    missing = {key: cell for key, cell in every.items() if key not in values}
    if not missing:
        return
    errors: dict[str, str] = {}
    with _workers(engine, min(jobs, len(missing))) as compute:
        while missing:
            ready = []
            for key, cell in list(missing.items()):
                lost = [name for name, need in cell.needs.items() if need.key in errors]
                if lost:
                    errors[key] = f"its {lost[0]} failed: {errors[cell.needs[lost[0]].key]}"
                    store.put(cell, None, errors[key], 0.0)
                    del missing[key]
                    yield from report(Result(cell, "failed", None, errors[key]))
                elif all(need.key in values for need in cell.needs.values()):
                    ready.append(missing.pop(key))
            work: list[_Work] = [(i, cell.kind, {**cell.params, **cell.local}, dict(cell.inputs),
                                  {name: values[need.key] for name, need in cell.needs.items()}) for i, cell in enumerate(ready)]
            with contextlib.closing(compute(work)) as outcomes:
                for index, text, error, seconds in outcomes:
                    cell = ready[index]
                    store.put(cell, text, error, seconds)
                    if text is None:
                        errors[cell.key] = error
                        yield from report(Result(cell, "failed", None, error))
                    else:
                        values[cell.key] = json.loads(text)
                        yield from report(Result(cell, "done", values[cell.key]))


def _add(cell: Cell, every: dict[str, Cell]) -> None:
    for need in cell.needs.values():
        _add(need, every)
    every.setdefault(cell.key, cell)


def _jobs(jobs: int | None, engine: str) -> int:
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", f"there are {', '.join(ENGINES)}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs: expected at least 1", "give a number of workers")
    if jobs is None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cpus if engine != "local" or importlib.util.find_spec("joblib") is not None else 1
    return jobs


# One cell, in a worker ------------------------------------------------------------------------------------------------


def compute_one(work: _Work) -> _Done:
    """Call a cell's function."""
    index, kind, params, inputs, needs = work
    start = time.perf_counter()
    text, error = None, ""
    try:
        module, _, name = kind.partition(":")
        value = getattr(importlib.import_module(module), name)(params, inputs, needs)
        text = json.dumps(value, allow_nan=False)
    except Exception as problem:
        error = " ".join(f"{type(problem).__name__}: {problem}".split())
    return index, text, error, time.perf_counter() - start


def serve(parent: int) -> None:
    """What a worker does first: leave Ctrl-C to the parent, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# Workers --------------------------------------------------------------------------------------------------------------

_Compute = Callable[[Sequence[_Work]], Generator[_Done, None, None]]


@contextlib.contextmanager
def _workers(engine: str, jobs: int) -> Iterator[_Compute]:
    """A function that computes a list of cells and yields what comes of them, in any order."""
    if engine == "local" and jobs == 1:
        yield _here
        return
    if engine != "local" and importlib.util.find_spec(engine) is None:
        raise _missing(engine)
    try:
        import joblib

        if tuple(int(part) for part in joblib.__version__.split(".")[:2]) < (1, 4):
            raise ImportError
    except ImportError:
        raise UsageError("more than one job needs joblib 1.4 or later, which is not installed",
                         "install it with: pip install 'edgert[sim]', or give --jobs 1") from None
    with warnings.catch_warnings(), {"local": _loky, "ray": _ray, "dask": _dask}[engine](jobs) as where:
        warnings.simplefilter("ignore")
        with joblib.parallel_config(backend=where[0], n_jobs=jobs, **where[1]):
            yield {"local": _loky_cells, "ray": _in_batches, "dask": _as_they_come}[engine](jobs)


def _here(cells: Sequence[_Work]) -> Generator[_Done, None, None]:
    for work in cells:
        yield compute_one(work)


@contextlib.contextmanager
def _children_without_ctrl_c() -> Iterator[None]:
    """Processes begun here do not hear Ctrl-C, which goes to all of a terminal's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_Backend = tuple[str, Mapping[str, Any]]


@contextlib.contextmanager
def _loky(jobs: int) -> Iterator[_Backend]:
    from joblib.externals.loky import get_reusable_executor

    try:
        yield "loky", {"inner_max_num_threads": 1, "initializer": serve, "initargs": (os.getpid(),)}
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def _ray(jobs: int) -> Iterator[_Backend]:
    """Ray where RAY_ADDRESS says, or one started for this sweep."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise _missing("ray") from None
    register_ray()
    own = not ray.is_initialized()
    if own:
        here = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": jobs, "include_dashboard": False}
        ray.init(logging_level="ERROR", log_to_driver=False, **here)
    try:
        yield "ray", {}
    finally:
        if own:
            ray.shutdown()


@contextlib.contextmanager
def _dask(jobs: int) -> Iterator[_Backend]:
    """Dask where its setting `scheduler-address` (DASK_SCHEDULER_ADDRESS) says, or workers started for this sweep."""
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError:
        raise _missing("dask") from None
    with contextlib.ExitStack() as stack:
        if dask.config.get("scheduler-address", None):
            client = stack.enter_context(Client())
        else:
            with _children_without_ctrl_c():
                cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=40)
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        yield "dask", {"client": client}


def _missing(engine: str) -> UsageError:
    return UsageError(f"the engine {engine!r} is not installed",
                      f"install it with: pip install '{ENGINES[engine]}' joblib, or use --engine local")


def _as_they_come(jobs: int) -> _Compute:
    import joblib

    def compute(cells: Sequence[_Work]) -> Generator[_Done, None, None]:
        parallel = joblib.Parallel(batch_size=1, return_as="generator_unordered")
        yield from parallel(joblib.delayed(compute_one)(work) for work in cells)

    return compute


def _in_batches(jobs: int) -> _Compute:
    """For backends whose results come all at once: a few cells for each worker at a time."""
    import joblib

    def compute(cells: Sequence[_Work]) -> Generator[_Done, None, None]:
        with joblib.Parallel(batch_size=1) as parallel:
            for first in range(0, len(cells), AHEAD * jobs):
                yield from parallel(joblib.delayed(compute_one)(work) for work in cells[first:first + AHEAD * jobs])

    return compute


def _loky_cells(jobs: int) -> _Compute:
    """As they come; when a worker dies, the cells that may have killed it are tried once more, each alone."""
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    def some(cells: Sequence[_Work]) -> Generator[_Done, None, None]:
        parallel = joblib.Parallel(batch_size=1, return_as="generator_unordered")
        with _children_without_ctrl_c():  # the workers begin here; `serve` may come too late to tell them
            outcomes = parallel(joblib.delayed(compute_one)(work) for work in cells)
        try:
            yield from outcomes
        finally:
            outcomes.close()

    def compute(cells: Sequence[_Work]) -> Generator[_Done, None, None]:
        left = {work[0]: work for work in cells}
        suspects: list[_Work] = []  # they were handed out when a worker died
        while left:
            batch = [suspects.pop(0)] if suspects else list(left.values())
            try:
                for outcome in some(batch):
                    del left[outcome[0]]
                    yield outcome
            except BrokenProcessPool:
                if len(batch) == 1:
                    del left[batch[0][0]]
                    yield batch[0][0], None, "its worker process died (out of memory?)", 0.0
                else:
                    suspects = list(left.values())[:HANDED_OUT * jobs]

    return compute

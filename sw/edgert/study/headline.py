"""The price of not knowing: what each policy reaches, under what could have been had, had one known more.

    python -m edgert.study.headline settings    settings.json: the threshold, tuned on validation pictures; what a decision costs here
    python -m edgert.study.headline             the study itself, resumable: --store FILE --out FOLDER --jobs N

Four workloads at loads from 0.5 to 4, each policy on the same 20 worlds (replications) of each, and the bounds B0, B1, B2 of every
world (`imprecise.ladder`). What a decision costs is charged to the CPU before each optional stage; the bounds decide for nothing.
Thresholds are those of the grid that were best on validation pictures, for each workload and load; no other policy is tuned.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imprecise import scenario as scenarios
from imprecise.multiple import holm, replications_interval, sign_flip
from imprecise.scenario import Scenario
from imprecise.statistics import zero_miss_bound
from imprecise.tuning import tune_threshold

from ..cli.simulate import workload
from ..sweep import Cell, Store, run
from . import cells, headline_page

HERE = Path(__file__).parent
SETTINGS = HERE / "settings.json"
WORKLOADS = {
    "two cameras": "two-cameras", "made up": "made-up",
    "live, idle": str(HERE / "workloads" / "live-idle.toml"), "live, CPU hog": str(HERE / "workloads" / "live-hog.toml")}
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SEEDS = tuple(range(100, 120))
FRAMES = 1500
TUNING_SEED, TUNING_FRAMES = 999, 8000
GRID = (0.5, 0.6, 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)
POLICIES = ("mandatory-only", "monolithic", "fifo-gated", "threshold", "least-confident", "default", "value-density", "best-incremental",
            "upgrade", "dbp", "static-times", "rate-monotonic", "clockwork", "min-quality", "depth-dp", "depth-dp:predictor=constant",
            "depth-dp:predictor=linear", "depth-dp:predictor=oracle")
CHEATS = ("depth-dp:predictor=oracle",)  # knows what it cannot know; shows what a better predictor would be worth
DEFAULT, THRESHOLD, FLOOR = "default", "threshold", "mandatory-only"
Place = tuple[str, float, str, int]  # workload, load, policy or "bounds", seed


@cache
def world(name: str, load: float) -> Scenario:
    """A workload at a load. Streams whose scenario wishes nothing of the kind wish for 2 refined frames in any 5 (for `dbp`)."""
    made = scenarios.load(WORKLOADS[name], lambda bundle: workload(bundle, {}, {}), load)
    return replace(made, sources=tuple(
        source if source.stream.mk != (0, 0) else replace(source, stream=replace(source.stream, mk=(2, 5))) for source in made.sources))


# Settings -------------------------------------------------------------------------------------------------------------


def _tuned(where: tuple[str, float]) -> float:
    return tune_threshold(world(*where).on_validation(), TUNING_SEED, TUNING_FRAMES, GRID)


def make_settings(jobs: int) -> dict[str, Any]:
    """Thresholds by workload and load, tuned on validation pictures; the decision of each policy, ns, timed one after the other here."""
    busiest = world("two cameras", 3.0)
    decisions = {spec: cells.decision_ns(busiest, spec) for spec in POLICIES}
    places = [(name, load) for name in WORKLOADS for load in LOADS]
    with ProcessPoolExecutor(jobs) as pool:
        thetas = dict(zip(places, pool.map(_tuned, places)))
    return {"thresholds": {name: {f"{load:g}": thetas[name, load] for load in LOADS} for name in WORKLOADS}, "decision_ns": decisions}


# The study ------------------------------------------------------------------------------------------------------------


def plan(settings: Mapping[str, Any], seeds: Sequence[int] = SEEDS, frames: int = FRAMES) -> Iterator[tuple[Place, Cell]]:
    """Every cell, by (workload, load, policy or "bounds", seed)."""
    for name in WORKLOADS:
        for load in LOADS:
            inputs = {"scenario": world(name, load)}
            for seed in seeds:
                yield (name, load, "bounds", seed), Cell("edgert.study.cells:bounds", {"seed": seed, "frames": frames}, inputs)
                for policy in POLICIES:
                    theta = settings["thresholds"][name][f"{load:g}"]
                    spec = f"threshold:theta={theta}" if policy == THRESHOLD else policy
                    params = {"policy": spec, "seed": seed, "frames": frames, "decision_ns": settings["decision_ns"][policy]}
                    yield (name, load, policy, seed), Cell("edgert.study.cells:policy", params, inputs)


def figures(values: Mapping[Place, Any], seeds: Sequence[int], settings: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """All that the page says, JSON types only. Regret: (B2 - U) / (B2 - U of mandatory only), of means over replications."""
    out: dict[str, Any] = {"frames": frames, "seeds": list(seeds), "loads": list(LOADS), "policies": list(POLICIES), "settings": settings,
                           "workloads": {}}
    pairs: list[tuple[str, str]] = []
    chances: list[float] = []
    for name, file in WORKLOADS.items():
        def column(load: float, what: str, key: str, name: str = name) -> np.ndarray:
            return np.array([values[name, load, what, seed][key] for seed in seeds], dtype=float)

        def side(load: float, bound: str, which: str, name: str = name) -> np.ndarray:
            return np.array([values[name, load, "bounds", seed][bound][which] for seed in seeds])

        bounds = {bound: {which: [_interval(side(load, bound, which)) for load in LOADS] for which in ("upper", "lower")}
                  for bound in ("B0", "B1", "B2", "realised")}
        top = np.array([side(load, "B2", "upper").mean() for load in LOADS])
        floor = np.array([column(load, FLOOR, "expected").mean() for load in LOADS])
        rows = {}
        per_seed = {policy: np.mean([column(load, policy, "expected") for load in LOADS], axis=0) for policy in POLICIES}
        for policy in POLICIES:
            reached = np.array([column(load, policy, "expected").mean() for load in LOADS])
            regret = (top - reached) / (top - floor)
            captured = int(sum(column(load, policy, "captured").sum() for load in LOADS))
            missed = int(sum(column(load, policy, "missed").sum() for load in LOADS))
            longest = int(max(column(load, policy, "longest").max() for load in LOADS))
            frontier = np.min([values[name, load, policy, seed]["frontier"] for load in LOADS for seed in seeds], axis=0)
            difference = per_seed[DEFAULT] - per_seed[policy]
            rows[policy] = {
                "by_load": [_interval(column(load, policy, "expected")) for load in LOADS], "mean": _interval(per_seed[policy]),
                "utility": float(np.mean([column(load, policy, "utility").mean() for load in LOADS])),
                "accuracy": float(np.mean([column(load, policy, "accuracy").mean() for load in LOADS])),
                "regret": regret.tolist(), "mean_regret": float(regret.mean()), "worst_regret": float(regret.max()), "captured": captured,
                "missed": missed, "longest": longest, "frontier": frontier.astype(int).tolist(),
                "replications_without_miss": int(sum((column(load, policy, "missed") == 0).sum() for load in LOADS)),
                "default_minus": _interval(difference), "p": sign_flip(difference) if policy != DEFAULT else None,
                "faults": sorted({values[name, load, policy, seed]["policy_fault"] for load in LOADS for seed in seeds} - {""})}
            if policy not in (DEFAULT, *CHEATS):
                pairs.append((name, policy))
                chances.append(rows[policy]["p"])
        out["workloads"][name] = {"file": Path(file).stem, "streams": [len(world(name, load).sources) for load in LOADS],
                                  "bounds": bounds, "policies": rows}
    for (name, policy), adjusted in zip(pairs, holm(chances).tolist()):
        out["workloads"][name]["policies"][policy]["p_holm"] = adjusted
    out["zero_miss_bound"] = zero_miss_bound(len(LOADS) * len(seeds))
    return out


def _interval(x: np.ndarray) -> list[float]:
    """Mean and 95 % t interval over replications."""
    found = replications_interval(x)
    return [found.estimate, found.low, found.high]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m edgert.study.headline", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["study", "settings"], default="study")
    parser.add_argument("--store", type=Path, default=Path("runs/headline.db"), help="where results are kept (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/headline"), help="folder of report.html and results.json (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="replications (%(default)s)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each replication (%(default)s)")
    given = parser.parse_args(argv)
    if given.what == "settings":
        SETTINGS.write_text(json.dumps(make_settings(given.jobs), indent=1) + "\n", encoding="utf-8")
        print(SETTINGS)
        return 0
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    seeds = tuple(range(SEEDS[0], SEEDS[0] + given.seeds))
    places = dict(plan(settings, seeds, given.frames))
    given.store.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}

    def tell(done: int, total: int, _: Any) -> None:
        if sys.stderr.isatty() or done % 500 == 0 or done == total:
            print(f"{done:,} of {total:,}", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    with Store(given.store) as store:
        for result in run(places.values(), store, given.jobs, tell):
            if result.status == "failed":
                print(f"{dict(result.cell.params)}: {result.error}", file=sys.stderr)
                return 1
            found[result.cell.key] = result.value
    numbers = figures({place: found[cell.key] for place, cell in places.items()}, seeds, settings, given.frames)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (given.out / "report.html").write_text(headline_page.page(numbers), encoding="utf-8")
    print(headline_page.verdict(numbers))
    print(f"{given.out}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())

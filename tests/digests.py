"""Digests of simulations: two builds of the scheduler that decide, count and record the same have the same ones.

    python tests/digests.py shipped SCENARIO FRAMES        a digest by policy, as JSON, and the modules that were loaded
    python tests/digests.py random FIRST COUNT             a digest by seed of `random_worlds`
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from random import Random
from typing import Any

import imprecise
import random_worlds
from edgert.cli.simulate import workload
from imprecise import policies, scenario
from imprecise.simulation import Log, Simulation
from imprecise.simulator import simulate


class Digest(Log):
    """A hash of every step and stage as they come."""

    def __init__(self) -> None:
        self.sum = hashlib.sha256()

    def step(self, now_ns, events, actions):
        self.sum.update(repr((now_ns, [tuple(e) for e in events], [tuple(a) for a in actions])).encode())

    def stage(self, row):
        self.sum.update(repr(tuple(row)).encode())

    def all(self, result: Simulation) -> None:
        """Take in whatever else came out."""
        figures = repr([result.streams, result.summary(), result.steps, sorted(result._latency.items())])
        self.sum.update(figures.replace(str(Path(__file__).parent), "").encode())  # a fault names the policy's file
        if result.frames is not None:
            self.sum.update(result.frames.tobytes())


def digest(world: scenario.Scenario, make: Any, seed: int, frames: int, **given: Any) -> str:
    """One world under one policy: every step, stage, row and counter; and rows, counters and histogram where nothing is logged."""
    log = Digest()
    log.all(simulate(world, make(), seed, frames, log=log, **given))
    log.all(simulate(world, make(), seed, frames, **given))
    log.all(simulate(world, make(), seed, frames, rows=False, **given))
    return log.sum.hexdigest()


def shipped(name: str, frames: int) -> dict[str, str]:
    """A shipped scenario under every shipped policy, and some with parameters."""
    world = scenario.load(name, lambda bundle: workload(bundle, {}, {}))
    return {spec: digest(world, lambda spec=spec: policies.make(spec), 7, frames) for spec in random_worlds.SPECS}


def at_random(first: int, count: int) -> dict[str, str]:
    """Random worlds, some with disturbed machines, faults, and policies that behave badly."""
    out = {}
    for seed in range(first, first + count):
        world = random_worlds.world(Random(seed))
        out[str(seed)] = digest(world.scenario, world.policy, world.seed, world.frames, faults=world.faults, options=world.options)
    return out


def source_only(folder: Path) -> Path:
    """`folder` with a copy of the scheduler's source and nothing compiled: put it first on the path."""
    shutil.copytree(Path(imprecise.__file__).parent, folder / "imprecise", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return folder


def modules() -> dict[str, str]:
    """Where each module of the scheduler was loaded from: its file's name, by the module's."""
    return {name: Path(module.__file__).name for name, module in sorted(sys.modules.items())
            if name.split(".")[0] == imprecise.__name__ and module.__file__}


if __name__ == "__main__":
    what, one, two = sys.argv[1:]
    found = shipped(one, int(two)) if what == "shipped" else at_random(int(one), int(two))
    print(json.dumps({"digests": found, "modules": modules()}))

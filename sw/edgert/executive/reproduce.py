"""The engine of a run as plain JSON, and back: what a run record needs so that a replay makes the very same engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from imprecise import policies, watchdog
from imprecise.engine import Engine
from imprecise.model import Curve, Reward, Stage, Stream


def describe(streams: Sequence[Stream], resources: Mapping[str, int], policy: str, guard_ns: int,
             options: Mapping[str, Any] | None = None, quantile: float | None = None) -> dict[str, Any]:
    """Everything that `build` needs, as JSON values; rewards that streams share are written once.

    `options` are what admission and the scenario want of the engine, as `Engine` takes them; `quantile` None is the policy's own. A policy
    that is a file of the user's is named by its path and sha256: its text is not kept, as a record must not bring code along. Raises
    ValueError where that file cannot be read.
    """
    given = dict(options or {})
    rewards: list[Reward] = []
    entries = []
    for stream in streams:
        if stream.reward not in rewards:
            rewards.append(stream.reward)
        stages = [asdict(stage) for stage in stream.stages]
        entries.append({"name": stream.name, "period_ns": stream.period_ns, "deadline_ns": stream.deadline_ns,
                        "jitter_ns": stream.jitter_ns, "weight": stream.weight, "mk": list(stream.mk),
                        "quality": stream.quality, "kind": stream.kind, "reward": rewards.index(stream.reward), "stages": stages})
    return {"streams": entries, "rewards": [_reward_out(r) for r in rewards], "resources": dict(resources),
            "policy": policies.full_name(policy), "policy_sha256": policies.file_sha256(policy), "guard_ns": guard_ns,
            "quantile": quantile, "blocking_ns": dict(given.get("blocking_ns") or {}),
            "local_ns": [[i, k, ns] for (i, k), ns in (given.get("local_ns") or {}).items()],
            "yields": {name: list(others) for name, others in (given.get("yields") or {}).items()},
            "priorities": list(given.get("priorities") or ()), "preemptive": sorted(given.get("preemptive") or ())}


def build(description: Mapping[str, Any], limit_ns: int = 0) -> Engine:
    """A new engine, its policy watched where it is the user's own: `limit_ns` a question (0: what a live run can bear).

    Raises ValueError, KeyError or TypeError for a description that `describe` did not write, and for a policy file that is gone or
    has changed since.
    """
    spec, known = description["policy"], description.get("policy_sha256", "")
    found = policies.file_sha256(spec)
    if found != known:
        raise ValueError(f"policy {spec!r} has changed since: its file has the sha256 {found[:12]}, the run's had {known[:12] or 'none'}")
    policy = watchdog.guard(policies.make(spec), limit_ns or watchdog.live_limit_ns(description["guard_ns"]))
    rewards = [_reward_in(entry) for entry in description["rewards"]]
    streams = [Stream(e["name"], e["period_ns"], e["deadline_ns"], tuple(map(_stage_in, e["stages"])), e["jitter_ns"], e["weight"],
                      rewards[e["reward"]], *_wishes(e)) for e in description["streams"]]
    return Engine(streams, description["resources"], policy, description["guard_ns"],
                  description["blocking_ns"], description["quantile"], {(i, k): ns for i, k, ns in description["local_ns"]},
                  description["yields"], description.get("priorities"), description.get("preemptive", ()))


def _wishes(entry: Mapping[str, Any]) -> tuple[tuple[int, int], float, str]:
    """(m, k), quality and kind, which older records lack."""
    m, k = entry.get("mk", (0, 0))
    return (m, k), entry.get("quality", 0.0), entry.get("kind", "milestone")


def _stage_in(entry: Mapping[str, Any]) -> Stage:
    return Stage(**{**entry, "units": tuple(entry.get("units", ()))})


def _curve_out(curve: Curve) -> dict[str, list[float]]:
    return {"x": list(curve.x), "y": list(curve.y)}


def _curve_in(entry: Mapping[str, Sequence[float]]) -> Curve:
    return Curve(tuple(entry["x"]), tuple(entry["y"]))


def _reward_out(reward: Reward) -> dict[str, Any]:
    gain = [[d, e, _curve_out(curve)] for (d, e), curve in reward.gain.items()]
    return {"correct": [_curve_out(c) for c in reward.correct], "gain": gain, "prior": list(reward.prior)}


def _reward_in(entry: Mapping[str, Any]) -> Reward:
    gain = {(d, e): _curve_in(curve) for d, e, curve in entry["gain"]}
    return Reward(tuple(_curve_in(c) for c in entry["correct"]), gain, tuple(entry["prior"]))

"""Makes run records for tests: the real engine in virtual time on made-up streams, written with plain sqlite3 per the schema.

It is written from docs/architecture.md alone, so that a mistake of the program's own writer does not hide here.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from dataclasses import asdict

import numpy as np

from imprecise.engine import Engine
from imprecise.model import Curve, Event, Reward, Stage, Stream
from imprecise.policies import make as make_policy

SCHEMA = """
create table meta (key text primary key, value text);
create table frames (stream text, frame integer, item integer, job integer, release_ns integer, arrival_ns integer,
    deadline_ns integer, completed_ns integer, published_ns integer, depth integer, status text, label integer,
    answer integer, confidence real, utility real, correct integer);
create table stages (job integer, stage text, resource text, unit integer, start_ns integer, end_ns integer, status text,
    confidence real);
create table steps (step integer, now_ns integer);
create table events (step integer, seq integer, kind text, at_ns integer, stream integer, frame integer, job integer,
    stage integer, resource text, unit integer, value real);
create table actions (step integer, seq integer, kind text, job integer, stage integer, resource text, unit integer,
    depth integer, at_ns integer);
create table stalls (at_ns integer, late_ns integer, source text);
create table assumptions (name text, text text, limit_ns integer, checked integer, violations integer, worst_ns integer);
create table counters (name text, value integer);
"""
MS = 1_000_000
DEPTH_ACCURACY = (0.885, 0.905, 0.925)
STAGES = (Stage("toy/mandatory", "fpga", True, 3 * MS, MS), Stage("toy/stage1", "cpu", False, 3 * MS, MS),
          Stage("toy/stage2", "cpu", False, 24 * MS, 11 * MS))
REWARD = Reward(
    tuple(Curve((0.0, 1.0), (low, high)) for low, high in ((0.65, 1.0), (0.72, 1.0), (0.78, 1.0))),
    {(0, 1): Curve((0.0, 1.0), (0.07, 0.0)), (0, 2): Curve((0.0, 1.0), (0.13, 0.0)), (1, 2): Curve((0.0, 1.0), (0.06, 0.0))})


def tables(path):
    """An empty record."""
    db = sqlite3.connect(path)
    db.executescript(SCHEMA)
    return db


def make(path, policy="monolithic", streams=4, period_ns=33 * MS, deadline_ns=33 * MS, seconds=4.0, seed=1, kind="simulated",
         meta=None, stall=None, drop=(), overshoots=0, lost=0):
    """Run `streams` toy streams under a policy and write the record; `stall` is (start_ns, length_ns) of a stopped machine."""
    rng = np.random.default_rng(seed)
    declared = [Stream(f"cam{i}", period_ns, deadline_ns, STAGES, reward=REWARD) for i in range(streams)]
    engine = Engine(declared, {"fpga": 1, "cpu": 1}, make_policy(policy), guard_ns=MS)
    world = {}  # (stream, frame) -> (durations, confidences, correct)
    heap, count = [], int(seconds * 1e9 / period_ns)
    for s in range(streams):
        for f in range(count):
            at = s * period_ns // streams + f * period_ns
            durations = [int(MS * rng.lognormal(0, 0.1)), int(MS * rng.lognormal(0, 0.1)), int(9 * MS * rng.lognormal(0, 0.1))]
            sure = float(rng.beta(4, 1))
            ease = rng.random()
            right = [bool(ease < REWARD.correct[d](sure)) for d in range(3)]
            world[s, f] = (durations, [sure, sure ** 0.8, sure ** 0.6], right)
            if (s, f) not in drop:
                heapq.heappush(heap, (at, len(heap), Event("release", at, stream=s, frame=f)))
    db = tables(path)
    frames, jobs, step, running, tick = {}, {}, 0, {}, 10**9
    while heap:
        now = heap[0][0]
        if stall and stall[0] <= now < sum(stall):  # a stopped machine sees everything late
            now = sum(stall)
        events = []
        while heap and heap[0][0] <= now:
            event = heapq.heappop(heap)[2]
            if event:
                events.append(event if event.kind == "release" else event._replace(at_ns=now))
        for event in events:
            if event.kind == "release":
                job = len(jobs)
                jobs[job] = (event.stream, event.frame)
                frames[event.stream, event.frame] = [job, event.at_ns, now, None, None, -1, "missed", 0.0]
            else:
                start, name = running.pop((event.resource, event.unit))
                closed = frames[jobs[event.job]][6] == "answered" or event.job not in engine.jobs
                db.execute("insert into stages values (?,?,?,?,?,?,?,?)", (event.job, name, event.resource, event.unit, start,
                           event.at_ns, "late" if closed else "done", event.value))
        db.execute("insert into steps values (?,?)", (step, now))
        for seq, event in enumerate(events):
            db.execute("insert into events values (?,?,?,?,?,?,?,?,?,?,?)", (step, seq, *event))
            if event.kind == "done" and event.stage >= 0:
                entry = frames[jobs[event.job]]
                entry[3] = entry[3] if entry[6] == "answered" else event.at_ns
                entry[7] = entry[7] if entry[6] == "answered" else event.value
        for seq, action in enumerate(engine.step(now, events)):
            db.execute("insert into actions values (?,?,?,?,?,?,?,?,?)", (step, seq, *action))
            if action.kind == "start":
                durations, confidences, _ = world[jobs[action.job]]
                end = now + durations[action.stage]
                running[action.resource, action.unit] = (now, STAGES[action.stage].name)
                tick += 1
                heapq.heappush(heap, (end, tick, Event("done", end, job=action.job, stage=action.stage, resource=action.resource,
                                                       unit=action.unit, value=confidences[action.stage])))
            elif action.kind == "publish":
                entry = frames[jobs[action.job]]
                entry[4], entry[5], entry[6] = now, action.depth, "answered"
            elif action.kind == "wake":
                tick += 1
                heapq.heappush(heap, (action.at_ns, tick, None))
        step += 1
    for (s, f), (_, confidences, right) in world.items():
        release = s * period_ns // streams + f * period_ns
        item = (s * 7919 + f) % 2000
        if (s, f) in drop:
            row = (item, -1, release, release, release + deadline_ns, None, None, -1, "dropped", 3, -1, 0.0, 0.0, None)
        else:
            job, release, arrival, completed, published, depth, status, _ = frames[s, f]
            ok = status == "answered"
            right_now = int(right[depth]) if ok else 0
            row = (item, job, release, arrival, release + deadline_ns, completed if ok else None, published, depth, status, 3,
                   (3 if right_now else 4) if ok else -1, confidences[depth] if ok else 0.0,
                   REWARD.utility(depth, confidences[depth]) if ok else 0.0, right_now)
        db.execute("insert into frames values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", (f"cam{s}", f, *row))
    if stall:
        db.execute("insert into stalls values (?,?,?)", (sum(stall), stall[1], "witness"))
    content = {
        "format": 1, "kind": kind, "edgert": "0.1.0", "argv": ["edgert"], "bundle": "toy", "model_id": "ab" * 32, "policy": policy,
        "accelerator": "litert", "emulated": False, "load": 1.5, "seed": seed, "deadline_ns": deadline_ns, "guard_ns": MS,
        "resources": {"fpga": 1, "cpu": 1}, "admission": {"answer": "Certificate", "text": "proven in time"},
        "machine": {"cpu": "test"}, "started_utc": "2026-01-01T00:00:00Z", "finished": True,
        "streams": [{"name": s.name, "source": "dataset:toy", "period_ns": period_ns, "deadline_ns": deadline_ns, "jitter_ns": 0,
                     "weight": 1.0, "stages": [asdict(stage) for stage in STAGES]} for s in declared], **(meta or {})}
    db.executemany("insert into meta values (?,?)", [(k, json.dumps(v)) for k, v in content.items() if v is not None])
    db.execute("insert into assumptions values ('wakeup', 'wake-ups are at most 2 ms late', 2000000, 1000, ?, ?)",
               (1 if stall else 0, stall[1] if stall else 300_000))
    counters = [("records_lost", lost), ("overshoots", overshoots), ("discarded_stages", engine.discarded)]
    db.executemany("insert into counters values (?,?)", counters)
    db.commit()
    db.close()
    return path

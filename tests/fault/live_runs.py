"""Helpers of the fault tests: a tiny bundle made on the spot, `edgert run` in a process of its own, and what it left behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np

from edgert.executive.replay import replay
from edgert.results.record import Run
from modelkit.ternary import npz, tflite
from modelkit.ternary.kernel import Kernel
from modelkit.ternary.layers import Conv, Dense, MaxPool
from modelkit.ternary.network import Network

CLASSES = 5
SHAPE = (16, 16, 1)
PATIENCE_S = 60.0


def _network(seed: int, widths: tuple[int, ...], stride: int) -> Network:
    rng = np.random.default_rng(seed)

    def ternary(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(np.int8)

    layers: list = []
    channels, size = SHAPE[2], SHAPE[0]
    for width in widths:
        layers.append(Conv(ternary(3, 3, channels, width), np.zeros(width, np.int32), np.full(width, 3, np.int8), bits=4, stride=stride,
                           pad=(1, 1, 1, 1)))
        size, channels, stride = (size - 1) // stride + 1, width, 1
    while size > 1:
        layers.append(MaxPool(4 if size % 4 == 0 else 2, 4 if size % 4 == 0 else 2))
        size //= layers[-1].size
    layers.append(Dense(ternary(channels, CLASSES), np.zeros(CLASSES, np.int32), np.zeros(CLASSES, np.int8), bits=None))
    return Network(SHAPE, layers, 0)


def make_bundle(folder: Path) -> Path:
    """A bundle with a ternary mandatory network and two refinement stages, of a fraction and of a few milliseconds."""
    folder.mkdir(parents=True)
    mandatory = _network(1, (4,), 2)
    npz.save(mandatory, folder / "mandatory.npz")
    tflite.save(mandatory, folder / "mandatory.tflite")
    tflite.save(_network(2, (8,), 2), folder / "stage1.tflite")
    tflite.save(_network(3, (64, 96, 96), 1), folder / "stage2.tflite")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (64, *SHAPE)).astype(np.uint8)
    np.savez(folder / "golden.npz", frames=frames[:8], logits=Kernel(mandatory).batch(frames[:8]))
    np.savez(folder / "frames.npz", frames=frames, labels=rng.integers(0, CLASSES, len(frames)).astype(np.uint8))
    rising, gain = {"x": [0.2, 1.0], "y": [0.3, 0.9]}, {"x": [0.2, 1.0], "y": [0.2, 0.0]}
    gains = {"0": {"1": gain, "2": gain}, "1": {"2": gain}}
    calibration = {"format": 1, "temperature": [8.0, 8.0, 8.0], "correct": [rising] * 3, "gain": gains}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    times = {name: {"p50_ns": ns, "p90_ns": ns, "p99_ns": ns, "max_ns": ns, "n": 1}
             for name, ns in (("mandatory", 50_000), ("stage1", 200_000), ("stage2", 3_000_000))}
    hardware = {"cycles": 20_000, "clock_hz": 100_000_000, "source": "made up"}
    (folder / "timing.json").write_text(json.dumps({"machine": "none", "stages": times, "hardware": hardware}))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    stages = [{"name": f"stage{i}", "file": f"stage{i}.tflite", "kind": "milestone"} for i in (1, 2)]
    manifest = {"format": 1, "name": "tiny", "version": "1", "model_id": files["mandatory.npz"],
                "input": {"shape": SHAPE, "dtype": "uint8"}, "classes": [str(i) for i in range(CLASSES)], "logit_shift": 0,
                "stages": stages, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def command(*arguments: str) -> list[str]:
    """`edgert run` with these arguments."""
    return [sys.executable, "-m", "edgert.cli", "run", *map(str, arguments)]


def _hear_signals() -> None:
    """A run keeps ignoring what it inherits as ignored (nohup, a shell's &); these tests may themselves be run so."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Live:
    """`edgert run` on the tiny bundle, in the background, with its helper processes marked as ours."""

    def __init__(self, bundle: Path, record: Path, *arguments: str, policy: str = "fifo-gated", extra_path: str = "", source: bool = True,
                 **environment: str):
        self.record = record
        self.mark = f"EDGERT_TEST={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        path = os.pathsep.join(p for p in (extra_path, *sys.path) if p)
        own = ["--source", "dataset:tiny", "--deadline", "60ms"] if source else []
        self.process = subprocess.Popen(
            command(str(bundle), *own, "--best-effort", "--policy", policy, "--record", str(record), "--json", *arguments),
            env={**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONPATH": path, name: value, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_signals)  # noqa: PLW1509  one thread here
        self.out = self.err = ""

    def frames(self) -> int:
        """Frames in the record so far."""
        try:
            with Run(self.record) as run:
                return len(run.frames)
        except Exception:  # not made yet, or being made
            return 0

    def wait_frames(self, number: int) -> None:
        """Wait until the record holds so many frames."""
        end = time.monotonic() + PATIENCE_S
        while self.frames() < number:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, f"{self.frames()} frames recorded, waited for {number}"
            time.sleep(0.05)

    def finish(self, number: int = 0) -> int:
        """Send a signal (0: none) and wait for the end; the exit code."""
        if number:
            self.process.send_signal(number)
        try:
            self.out, self.err = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # where does it stand?
            self.out, self.err = self.process.communicate(timeout=PATIENCE_S)
            raise AssertionError(f"it did not end within {PATIENCE_S} s: {self.err}") from None
        return self.process.returncode

    def summary(self) -> dict:
        """The JSON that it printed."""
        return json.loads(self.out)

    def helpers(self) -> dict[str, list[int]]:
        """Process ids of its living helpers, by role: writer, witness, nursery, worker."""
        found: dict[str, list[int]] = {"writer": [], "witness": [], "nursery": [], "worker": []}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError, IndexError):
                if self.mark.encode() not in (entry / "environ").read_bytes():
                    continue
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state in "ZX":
                    continue
                text = (entry / "cmdline").read_bytes()
                for role in ("writer", "witness", "nursery"):
                    if f"edgert.executive.{role}".encode() in text:
                        own = role != "nursery" or int(parent) == self.process.pid or self.process.poll() is not None
                        found[role if own else "worker"].append(int(entry.name))
        return found

    def worker(self) -> int:
        """Process id of the first worker, when there is one."""
        end = time.monotonic() + PATIENCE_S
        while not self.helpers()["worker"]:
            assert time.monotonic() < end, self.helpers()
            time.sleep(0.02)
        return self.helpers()["worker"][0]

    def assert_nothing_left(self) -> None:
        """No helper is alive a second after the end (more only where the machine is that slow)."""
        end = time.monotonic() + PATIENCE_S / 4
        while any(self.helpers().values()) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(self.helpers().values()), self.helpers()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()


def check_record(path: Path, finished: bool = True) -> dict[str, int]:
    """The record adds up and replays; frames by status."""
    with Run(path) as run:
        assert run.finished is finished
        frames = run.frames
        counts = {status: int((frames["status"] == status).sum()) for status in ("answered", "missed", "dropped")}
        assert sum(counts.values()) == len(frames) > 0
        assert run.counters.get("records_lost", 0) == 0
        for stream in np.unique(frames["stream"]):
            numbers = np.sort(frames["frame"][frames["stream"] == stream])
            if finished:
                assert numbers.tolist() == list(range(len(numbers)))
            else:
                assert len(np.unique(numbers)) == len(numbers)
        depths = frames["depth"][frames["status"] == "answered"]
        assert sum(int((depths == d).sum()) for d in range(3)) == counts["answered"]
        assert (frames["depth"][frames["status"] != "answered"] == -1).all()
        steps, actions, difference = replay(run)
        assert difference is None, str(difference)
        assert steps > 0 and actions > 0
    return counts

"""How a core is tried against the reference: frames, stalls, resets, broken frames, random initial states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import numpy as np

from gateware.simulate import Bench, SimulationError, answers, frame_beats, logits_of
from modelkit.ternary import reference
from modelkit.ternary.network import Network


@attrs.frozen
class Outcome:
    """What a scenario compared; `wrong` counts logits that differ."""

    name: str
    frames: int
    logits: int
    distinct: int
    wrong: int
    cycles: int


def _outcome(name: str, found: np.ndarray, expected: np.ndarray, cycles: int) -> Outcome:
    distinct = len({row.tobytes() for row in expected})
    return Outcome(name, len(expected), expected.size, distinct, int((found != expected).sum()), cycles)


def pictures(network: Network, count: int, seed: int) -> np.ndarray:
    """Frames uint8 [count, h, w, c]: all 0, all 255, a chessboard, then random ones, every other dark."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, *network.input_shape)).astype(np.uint8)
    frames[1::2] //= np.array([2, 4, 8], np.uint8)[np.arange(len(frames[1::2])) % 3][:, None, None, None]
    if count > 3:
        frames[0], frames[1] = 0, 255
        frames[2] = 255 * (np.indices(network.input_shape).sum(axis=0) % 2)
    return frames


class Trial:
    """A core under test: `open_bench(seed)` gives a fresh model whose registers start from random bits of `seed`."""

    def __init__(self, network: Network, open_bench: Callable[[int], Bench], limit: int) -> None:
        self.network, self.open_bench, self.limit = network, open_bench, limit

    def compare(
        self, name: str, frames: np.ndarray, expected: np.ndarray, stall_in: float = 0, stall_out: float = 0, seed: int = 1
    ) -> Outcome:
        """Frames without a break through one model."""
        slow = max(1 / (1 - min(stall_in, 0.99)), 1 / (1 - min(stall_out, 0.99)))
        limit = int(
            (self.limit + self.network.input_shape[0] * self.network.input_shape[1] * self.network.input_shape[2])
            * (len(frames) + 2)
            * slow
        )
        with self.open_bench(seed) as bench:
            found, traffic = answers(bench, self.network, frames, limit, stall_in=stall_in, stall_out=stall_out, seed=seed)
        return _outcome(name, found, expected, traffic.cycles)

    def random(self, count: int, seed: int, stall: float = 0) -> Outcome:
        """Random frames, with stalls on both sides."""
        frames = pictures(self.network, count, seed)
        name = f"random frames, {stall:.0%} stalls" if stall else "random frames"
        return self.compare(name, frames, reference.forward(self.network, frames), stall, stall, seed)

    def cycles(self, frames: np.ndarray) -> tuple[int, int]:
        """(latency of a frame alone, interval of frames without a break), measured."""
        each = -(-self.network.classes // 4)
        with self.open_bench(1) as bench:
            _, alone = answers(bench, self.network, frames[:1], self.limit * 8)
            _, many = answers(bench, self.network, frames, self.limit * (len(frames) + 8))
        ends = many.out_cycles[each - 1 :: each]
        last = ends[len(ends) // 2 :]
        return int(alone.out_cycles[-1] - alone.in_cycles[0]), int(-(-(last[-1] - last[0]) // max(len(last) - 1, 1)))

    def resets(self, count: int, seed: int) -> Outcome:
        """A reset in the middle of a frame, at another beat each time; the frames after it are right."""
        rng = np.random.default_rng(seed)
        frames = pictures(self.network, 2 * count, seed)
        expected = reference.forward(self.network, frames)
        found, cycles = [], 0
        with self.open_bench(seed) as bench:
            for start in range(0, 2 * count, 2):
                beats, lasts = frame_beats(pictures(self.network, 3, seed + start))
                cut = int(rng.integers(1, len(beats)))
                bench.run(beats[:cut], lasts[:cut], 0, max_cycles=cut + int(rng.integers(0, self.limit)), quiet=1 << 40, seed=start + 1)
                bench.reset(int(rng.integers(1, 4)))
                got, traffic = answers(bench, self.network, frames[start : start + 2], self.limit * 8)
                found.append(got)
                cycles += traffic.cycles
        return _outcome("reset in mid-frame", np.concatenate(found), expected, cycles)

    def broken_frames(self, count: int, seed: int, stall: float = 0.2) -> Outcome:
        """Right frames among short and long ones (tlast early or late); SimulationError where a broken one is answered or missed."""
        rng = np.random.default_rng(seed)
        frames = pictures(self.network, count, seed)
        expected = reference.forward(self.network, frames)
        beats, lasts, right, short, long = [], [], [], 0, 0
        for frame in frames:
            data, last = frame_beats(frame[None])
            kind = str(rng.choice(["right", "right", "short", "long"]))
            if kind == "short" and len(data) > 1:
                data = data[: int(rng.integers(1, len(data)))]
                short += 1
            elif kind == "long":
                data = np.concatenate([data, rng.integers(0, 1 << 32, int(rng.integers(1, 2 * len(data) + 2)), dtype=np.uint32)])
                long += 1
            last = np.zeros(len(data), bool)
            last[-1] = True
            right.append(len(data) * 4 >= frame.size > (len(data) - 1) * 4)
            beats.append(data)
            lasts.append(last)
        each = -(-self.network.classes // 4)
        with self.open_bench(seed) as bench:
            traffic = bench.run(
                np.concatenate(beats), np.concatenate(lasts), each * sum(right), stall, stall, seed,
                max_cycles=4 * self.limit * (count + 4) + 16 * sum(map(len, beats)), quiet=4 * self.limit,
            )  # fmt: skip
        if len(traffic.beats) != each * sum(right) or (traffic.short_frames, traffic.long_frames) != (short, long) or traffic.violations:
            raise SimulationError(
                f"{len(traffic.beats)} answer beats, {traffic.short_frames} short and {traffic.long_frames} long frames, "
                f"{traffic.violations} violations; expected {each * sum(right)}, {short}, {long}, 0"
            )
        return _outcome(
            "right among broken frames", logits_of(traffic.beats, self.network.classes), expected[np.array(right)], traffic.cycles
        )

    def all(self, golden: dict[str, np.ndarray], count: int, stall: float, seeds: int = 3) -> Iterator[Outcome]:
        """Every scenario, about `count` frames each; the random ones from `seeds` initial states."""
        yield self.compare("golden frames", golden["frames"], golden["logits"])
        for seed in range(1, seeds + 1):
            yield attrs.evolve(self.random(max(count // seeds, 4), seed), name=f"random frames, initial state {seed}")
        yield self.random(max(count // 2, 4), 11, stall)
        frames = pictures(self.network, max(count // 4, 4), 12)
        expected = reference.forward(self.network, frames)
        yield self.compare("source slow, 90 % stalls", frames, expected, 0.9, 0, 12)
        yield self.compare("sink slow, 95 % stalls", frames, expected, 0, 0.95, 13)
        yield self.resets(max(count // 10, 4), 14)
        yield self.broken_frames(max(count // 2, 12), 15)


def trial(directory: Path, network: Network, library: Path, interval: int, latency: int, waveform: str = "") -> Trial:
    """The trial of a generated directory."""
    return Trial(network, lambda seed: Bench(library, directory, seed, waveform), 2 * (interval + latency) + 2000)

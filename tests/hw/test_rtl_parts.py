"""The parts of the generator: tables, adder graphs, the search, what it refuses; no simulator needed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateware import costs, timing
from gateware.folding import CHIPS, NoFolding, Search
from gateware.rtl.kernel import graph_of
from gateware.rtl.plan import Choice, plan
from gateware.rtl.tables import bias_words, table, weight_words
from modelkit.ternary import npz, reference
from modelkit.ternary.layers import Dense
from ternary_networks import networks, parameters

pytestmark = pytest.mark.hw
ZOO = Path(__file__).parents[2] / "models" / "zoo"


def dense(rng: np.random.Generator, inputs: int, outputs: int, bits: int | None, input_max: int) -> Dense:
    """A random dense layer with extreme channels."""
    return Dense(**parameters(rng, (inputs, outputs), inputs, input_max, 127 if bits is None else (1 << bits) - 1), bits=bits)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([None, 1, 3, 8]))
@settings(max_examples=60, deadline=None)
def test_a_table_gives_the_layers_outputs_by_adding_complements_and_cutting(seed, input_bits, bits) -> None:
    """What `mac` does, in NumPy: start + sum of x, ~x or 0, cut by the shift, ties to even, clipped; within the accumulator's bits."""
    rng = np.random.default_rng(seed)
    input_max = (1 << input_bits) - 1
    layer = dense(rng, int(rng.integers(1, 20)), 9, bits, input_max)
    numbers = table(layer, input_max)
    x = rng.integers(0, input_max + 1, (50, layer.weights.shape[0]))
    x[0], x[1] = 0, input_max
    x[2:11] = input_max * (numbers.weights.T > 0)
    x[11:20] = input_max * (numbers.weights.T < 0)
    acc = numbers.start + x @ (numbers.weights > 0) + (input_max - x) @ (numbers.weights < 0).astype(np.int64)
    limit = 1 << (numbers.widths.acc - 1)
    assert -limit <= acc.min() and acc.max() < limit
    cut = acc >> numbers.shift
    tie = (numbers.shift > 0) & (acc == cut << numbers.shift)
    found = np.clip(cut - (tie & (cut % 2 == 1)), *((-128, 127) if bits is None else (0, (1 << bits) - 1)))
    np.testing.assert_array_equal(found, reference.activate(layer, reference.accumulate(layer, x)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_an_adder_graph_gives_the_products_within_its_ranges(seed) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs, largest = int(rng.integers(1, 14)), int(rng.integers(1, 9)), int(rng.integers(1, 256))
    weights = rng.integers(-1, 2, (inputs, outputs)).astype(np.int8)
    start = rng.integers(-300, 300, outputs) * rng.integers(0, 2, outputs)
    graph = graph_of(weights, start, largest)
    x = rng.integers(0, largest + 1, (40, inputs))
    values: list[np.ndarray] = []
    for node in graph.nodes:
        if node.left == -1:
            values.append(x[:, node.right])
        elif node.left == -2:
            values.append(np.full(40, node.right))
        else:
            values.append(values[node.left] + node.sign * values[node.right])
        assert node.low <= values[-1].min() and values[-1].max() <= node.high
    np.testing.assert_array_equal(np.stack([values[index] for index in graph.outputs], 1), start + x @ weights.astype(np.int64))
    adders = sum(node.left >= 0 for node in graph.nodes)
    assert adders <= np.count_nonzero(weights) + outputs


def test_shared_pairs_are_added_once() -> None:
    weights = np.ones((8, 6), np.int8)
    graph = graph_of(weights, np.zeros(6, np.int64), 15)
    assert sum(node.left >= 0 for node in graph.nodes) == 7


def test_memory_words_hold_weights_where_the_block_reads_them() -> None:
    """Word g*SF + f, two bits at 2*(p*SIMD + s): not zero, negative."""
    weights = np.array([[1, -1], [0, 1], [-1, 0], [1, 1]], np.int8)
    assert weight_words(weights, 2, 1, False).split() == ["1", "7", "7", "4"]
    assert weight_words(weights, 2, 2, False).split() == ["71", "47"]
    numbers = table(Dense(weights, np.array([-5, 9]), np.array([0, 2]), bits=4), 3)
    words = [int(word, 16) for word in bias_words(numbers.start, numbers.shift, 1, numbers.widths).split()]
    mask = (1 << numbers.widths.acc) - 1
    assert [word & mask for word in words] == [(-5 - 3) & mask, (9 - 3 + 2) & mask]
    assert [word >> numbers.widths.acc for word in words] == [0, 2]


@given(networks(), st.integers(50, 5000))
@settings(max_examples=25, deadline=None)
def test_the_search_keeps_its_budget_or_says_why_not(network, cycles) -> None:
    search = Search(network, CHIPS["pynq-z2"])
    try:
        found = search.least_luts(cycles)
    except NoFolding as refused:
        assert "cycles" in str(refused)
        assert cycles < 4000
        return
    assert found.interval <= cycles
    assert found.interval == timing.interval(found.core)
    assert found.total.lut > 0
    found.core.layers[0].check()


def test_fewer_cycles_cost_more_luts_and_both_budgets_agree() -> None:
    search = Search(npz.load(ZOO / "fashion" / "mandatory.npz"), CHIPS["pynq-z2"])
    luts = [search.least_luts(cycles).total.lut for cycles in (1000, 2000, 4000, 8000, 16000)]
    assert luts == sorted(luts, reverse=True)
    quick = search.least_cycles(int(luts[1]) + 1)
    assert quick.total.lut <= luts[1] + 1
    assert quick.interval <= 2000
    near = search.least_luts(4000, latency=3200)
    assert near.latency <= 3200 and near.interval <= 4000
    with pytest.raises(NoFolding, match="784 cycles"):
        search.least_luts(500)
    with pytest.raises(NoFolding, match="latency"):
        search.least_luts(2000, latency=900)


def test_foldings_that_do_not_divide_the_layer_are_refused_by_name() -> None:
    network = npz.load(ZOO / "fashion" / "mandatory.npz")
    choices = [Choice(12, 1), Choice(12, 12), Choice(28, 12), Choice(28, 28), Choice(32, 1), Choice(1, 1)]
    plan(network, choices)
    for index, wrong, message in (
        (0, Choice(5, 1), "pe 5 does not divide 12"),
        (1, Choice(4, 2), "simd = pe"),
        (2, Choice(28, 4, "wide"), "needs simd 12"),
        (3, Choice(28, 28, "unrolled"), "with weights"),
        (2, Choice(28, 3), None),
        (4, Choice(32, 3), "does not divide 1372|beats"),
    ):
        changed = [*choices[:index], wrong, *choices[index + 1 :]]
        if message is None:
            plan(network, changed)
        else:
            with pytest.raises(ValueError, match=message):
                plan(network, changed)


def test_block_ram_is_counted_by_bits_and_by_ports() -> None:
    assert costs.block_ram(36, 512) == (1, 1)
    assert costs.block_ram(37, 512) == (2, 2)
    assert costs.block_ram(512, 288) == (8, 15)
    assert costs.block_ram(16, 1152) == (1, 2)

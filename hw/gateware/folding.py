"""The search for a folding: least LUTs for a budget of cycles, or least cycles for a budget of LUTs.

Each layer has a list of options (build, pe, simd, where its memories lie), each with its interval, its tail (what it still has to do once
its last input is there) and its predicted cost. A dynamic programme over the layers, whose state is the width of the beats between two
of them, picks one each: least LUTs + price * block RAMs + hurry * tail among those whose interval fits. The price of a block RAM rises
until the block RAMs fit, the hurry (LUTs a cycle) until the latency does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from gateware import costs, timing
from gateware.costs import Cost
from gateware.rtl.plan import Choice, CorePlan, LayerPlan, lanes_of, layer_plan, plan
from modelkit.ternary.layers import AvgPool, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network

UNROLL_LIMIT = 4000
"""Weights not 0 up to which a layer may be unrolled: about 5 LUTs each."""
LOGIC_LIMIT = 65_536
"""Bits of weights that may be made of LUTs: yosys needs minutes for more."""
WIDEST_WORD = 8192
"""Bits of a word of weights, and of a beat, that are not exceeded."""


@attrs.frozen
class Chip:
    """What a board's chip has; `share` of its block RAM may be used."""

    lut: int
    ff: int
    bram18: int
    dsp: int
    share: float = 0.7


CHIPS = {"pynq-z2": Chip(53_200, 106_400, 280, 220), "zcu102": Chip(274_080, 548_160, 1824, 2520)}


class NoFolding(Exception):
    """No folding meets the budget; the message names what stands in the way."""


@attrs.frozen(eq=False)
class Option:
    """One way to build a layer: what it costs with its memories in LUTs or in block RAM, cheapest for any price of block RAM."""

    plan: LayerPlan
    variants: tuple[tuple[Choice, Cost], ...]
    interval: int
    tail: int

    def best(self, price: float) -> tuple[float, Choice, Cost]:
        """(LUTs + price * block RAMs, choice, cost) of the cheapest variant."""
        return min(((cost.lut + price * cost.bram18_ports, choice, cost) for choice, cost in self.variants), key=lambda entry: entry[0])


@attrs.frozen(eq=False)
class Folding:
    """What was found: the plan, the cost of each layer and of the rest, cycles; `latencies`: until each layer's last result."""

    core: CorePlan
    costs: tuple[Cost, ...]
    rest: Cost
    interval: int
    latency: int
    latencies: tuple[int, ...]

    @property
    def total(self) -> Cost:
        """The whole core."""
        return sum(self.costs, self.rest)


def _divisors(value: int) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0]


def tail_of(made: LayerPlan) -> int:
    """Cycles that a layer works on after its last input word, roughly: output pixels that see the last pixel, or later ones."""
    (height, width, _), (rows, columns, _) = made.image, made.out_image
    if made.parallel:
        return max(made.scanned - (made.pad[0] + height - 1) * (made.pad[2] + width) - width, 0) + made.cycles
    if isinstance(made.layer, Dense):
        return made.cycles - (0 if made.nf > 1 else made.sf - 1)
    y = max(-(-(height - 1 + made.pad[0] - made.kernel + 1) // made.stride), 0)  # first window that has the last row, the last column
    x = max(-(-(width - 1 + made.pad[2] - made.kernel + 1) // made.stride), 0)
    return (rows * columns - y * columns - x) * made.cycles if y < rows and x < columns else 0


def _choices(layer: Layer, shape: tuple[int, ...], nonzeros: int) -> Iterator[Choice]:
    inputs = math.prod(shape) if isinstance(layer, Dense) else shape[-1]
    outputs = layer.output_shape(shape)[-1]
    if isinstance(layer, (Depthwise, MaxPool, AvgPool)):
        yield from (Choice(pe, pe) for pe in _divisors(inputs))
    else:
        yield from (Choice(pe, simd) for simd in _divisors(inputs) for pe in _divisors(outputs))
        if not isinstance(layer, Dense):
            yield from (Choice(pe, inputs, "wide") for pe in _divisors(outputs))
    if 0 < nonzeros <= UNROLL_LIMIT:
        yield Choice(outputs, inputs, "unrolled")


class Search:
    """The options of every layer of a network, made once, and the searches over them."""

    def __init__(self, network: Network, chip: Chip) -> None:
        self.network, self.chip = network, chip
        self._options: dict[tuple[int, Choice], Option | None] = {}
        self.floor = max(math.prod(network.input_shape) // lanes_of(network.input_shape[2]), -(-math.prod(network.input_shape) // 4))

    def _option(self, index: int, choice: Choice) -> Option | None:
        key = (index, choice)
        if key not in self._options:
            network, layer = self.network, self.network.layers[index]
            bits = network.maxima[index + 1].bit_length() if index < len(network.layers) - 1 else 8
            made = layer_plan(index, layer, network.shapes[index], network.maxima[index], choice, out_bits=bits)
            self._options[key] = self._priced(made)
        return self._options[key]

    def _priced(self, made: LayerPlan) -> Option | None:
        if made.weight_word > WIDEST_WORD or made.choice.simd * made.bits > WIDEST_WORD or made.choice.pe * made.out_bits > WIDEST_WORD:
            return None
        variants = []
        for weights_block in (False, True) if made.weight_word and made.cycles > 4 else (False,):
            for buffer_block in (False, True) if made.needs_window and not made.parallel else (False,):
                choice = attrs.evolve(made.choice, weights_block=weights_block, buffer_block=buffer_block)
                if not weights_block and made.weight_word * made.cycles > LOGIC_LIMIT:
                    continue
                variants.append((choice, costs.layer_cost(attrs.evolve(made, choice=choice))))
        return Option(made, tuple(variants), made.interval, tail_of(made))

    def options(self, index: int, cycles: int) -> list[Option]:
        """Those of a layer whose interval is at most `cycles`, without the ones that do far more than they must."""
        layer, shape = self.network.layers[index], self.network.shapes[index]
        found = []
        for choice in _choices(layer, shape, layer.nonzeros):
            rough = self._rough(index, choice)
            if rough is None or rough > cycles or (rough * 40 < cycles and choice.pe * choice.simd > 64 and choice.build != "unrolled"):
                continue
            option = self._option(index, choice)
            if option is not None and option.interval <= cycles:
                found.append(option)
        return found

    def _rough(self, index: int, choice: Choice) -> int | None:
        """Cycles that the products alone take."""
        layer, shape = self.network.layers[index], self.network.shapes[index]
        if choice.build != "folded":
            return 0
        if isinstance(layer, (MaxPool, AvgPool)):
            return math.prod(layer.output_shape(shape)) * layer.size**2 // choice.pe
        spread = isinstance(layer, Depthwise)
        return layer.macs(shape) // (choice.pe * (1 if spread else choice.simd))

    def _pick(self, cycles: int, price: float, hurry: float) -> tuple[float, list[Choice]]:
        """Dynamic programme: state = elements of a beat after the layer."""
        states: dict[int, tuple[float, list[Choice]]] = {lanes_of(self.network.input_shape[2]): (0.0, [])}
        for index, bits in enumerate(limit.bit_length() for limit in self.network.maxima[:-1]):
            reached: dict[int, tuple[float, list[Choice]]] = {}
            options = self.options(index, cycles)
            if not options:
                raise NoFolding(f"layer {index} ({type(self.network.layers[index]).__name__}) does not fit in {cycles} cycles")
            for option in options:
                value, choice, _ = option.best(price)
                value += hurry * option.tail
                for elements, (before, chosen) in states.items():
                    if elements % choice.simd and choice.simd % elements:
                        continue
                    total = before + value + costs.border_cost(elements, choice.simd, bits).lut
                    if choice.pe not in reached or total < reached[choice.pe][0]:
                        reached[choice.pe] = (total, [*chosen, choice])
            states = reached
        ends = [(total + costs.border_cost(elements, 1, 8).lut, chosen) for elements, (total, chosen) in states.items()]
        if not ends:
            raise NoFolding(f"no widths of beats fit together in {cycles} cycles")
        return min(ends, key=lambda entry: entry[0])

    def _folding(self, choices: list[Choice]) -> Folding:
        core = plan(self.network, choices)
        each = tuple(costs.layer_cost(layer) for layer in core.layers)
        latency, latencies = timing.latency(core)
        return Folding(core, each, costs.core_cost(core), timing.interval(core), latency, tuple(latencies))

    def least_luts(self, cycles: int, latency: int | None = None) -> Folding:
        """The folding of least LUTs with an interval of at most `cycles`, block RAM within its share, latency as given. NoFolding."""
        if cycles < self.floor:
            raise NoFolding(f"a frame takes {self.floor} cycles to come in, more than {cycles}; ask for --cycles {self.floor} or more")
        limit = int(self.chip.bram18 * self.chip.share)
        found = None
        for price in (40.0, 80.0, 160.0, 400.0, 1500.0, 1e5):
            found = self._timely(cycles, price, latency)
            if found.total.bram18_ports <= limit:
                return found
        assert found is not None
        raise NoFolding(f"{found.total.bram18_ports} half block RAMs are needed for {cycles} cycles, {limit} are allowed")

    def _timely(self, cycles: int, price: float, latency: int | None) -> Folding:
        found = self._folding(self._pick(cycles, price, 0.0)[1])
        if latency is None or found.latency <= latency:
            return found
        low, high = 0.0, 0.05
        while (found := self._folding(self._pick(cycles, price, high)[1])).latency > latency:
            low, high = high, high * 3
            if high > 1e4:
                raise NoFolding(f"the latency is {found.latency} cycles at least, asked for {latency}")
        for _ in range(7):
            middle = (low + high) / 2
            tried = self._folding(self._pick(cycles, price, middle)[1])
            low, high, found = (low, middle, tried) if tried.latency <= latency else (middle, high, found)
        return found

    def least_cycles(self, luts: int, latency: int | None = None) -> Folding:
        """The folding of least cycles with at most `luts` predicted LUTs. NoFolding."""
        slow = sum(layer.macs(shape) for layer, shape in zip(self.network.layers, self.network.shapes)) * 2 + 100 * self.floor
        low, high, best = self.floor, slow, None
        while low < high:
            middle = low if best is None and high == slow and low == self.floor and self._fits(low, luts, latency) else (low + high) // 2
            found = self._fits(middle, luts, latency)
            if found is not None:
                best, high = found, min(middle, found.interval)
                if middle == low:
                    break
            else:
                low = middle + 1
            if high - low <= max(low // 200, 1) and best is not None:
                break
        if best is None:
            raise NoFolding(f"no folding has {luts} LUTs or less within {slow} cycles")
        return best

    def _fits(self, cycles: int, luts: int, latency: int | None) -> Folding | None:
        try:
            found = self.least_luts(cycles, latency)
        except NoFolding:
            return None
        return found if found.total.lut <= luts else None

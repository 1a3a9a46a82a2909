"""A layer's sums as a graph of adders made for its weights: shared pairs first, then trees, a register after each level.

Sharing: the pair of terms (a + b or a - b) that most outputs have in common becomes a node of its own, again and again until none is
shared (Hartley, "Subexpression sharing in filters using canonic signed digit multipliers", IEEE TCAS-II 1996; here digits are -1, 0, +1).
"""

from __future__ import annotations

import heapq
from collections import Counter

import attrs
import numpy as np


@attrs.frozen
class Node:
    """`left + sign * right` of two earlier nodes (`left` -1: input `right`; -2: the constant `right`), with its range and level."""

    left: int
    right: int
    sign: int
    low: int
    high: int
    level: int

    @property
    def bits(self) -> int:
        """Bits of a signed number that holds low to high."""
        return max((v if v >= 0 else ~v).bit_length() for v in (self.low, self.high)) + 1


@attrs.define(eq=False)
class Graph:
    """Nodes in an order of computation; `outputs` names the node of each output channel."""

    nodes: list[Node] = attrs.field(factory=list)
    outputs: list[int] = attrs.field(factory=list)

    def add(self, left: int, right: int, sign: int) -> int:
        """The node left + sign * right."""
        a, b = self.nodes[left], self.nodes[right]
        low, high = (a.low + b.low, a.high + b.high) if sign > 0 else (a.low - b.high, a.high - b.low)
        self.nodes.append(Node(left, right, sign, low, high, max(a.level, b.level) + 1))
        return len(self.nodes) - 1

    def constant(self, value: int) -> int:
        """A node that is always `value`."""
        self.nodes.append(Node(-2, value, 1, value, value, 0))
        return len(self.nodes) - 1

    @property
    def levels(self) -> int:
        """Adders one after another on the longest path."""
        return max(self.nodes[index].level for index in self.outputs)


def _pairs(terms: dict[int, int]) -> set[tuple[int, int, int]]:
    names = sorted(terms)
    return {(a, b, terms[a] * terms[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _share(graph: Graph, sums: list[dict[int, int]]) -> None:
    """Replace shared pairs in `sums` (node -> sign) by nodes, the most frequent (then the shallowest) first."""
    count: Counter[tuple[int, int, int]] = Counter()
    users: dict[tuple[int, int, int], set[int]] = {}

    def enter(pair: tuple[int, int, int], output: int) -> None:
        users.setdefault(pair, set()).add(output)
        count[pair] += 1
        heapq.heappush(heap, (-count[pair], max(graph.nodes[pair[0]].level, graph.nodes[pair[1]].level), pair))

    def leave(pair: tuple[int, int, int], output: int) -> None:
        users[pair].discard(output)
        count[pair] -= 1
        if count[pair] > 1:
            heapq.heappush(heap, (-count[pair], max(graph.nodes[pair[0]].level, graph.nodes[pair[1]].level), pair))

    heap: list[tuple[int, int, tuple[int, int, int]]] = []
    for output, terms in enumerate(sums):
        for pair in _pairs(terms):
            enter(pair, output)
    while heap:
        times, _, pair = heapq.heappop(heap)
        if -times != count[pair] or count[pair] < 2:
            continue
        a, b, sign = pair
        made = graph.add(a, b, sign)
        for output in sorted(users[pair]):
            terms = sums[output]
            kept = terms[a]
            for other in list(terms):
                for gone in (a, b):
                    if other != gone and not (gone == b and other == a):
                        leave((min(gone, other), max(gone, other), terms[gone] * terms[other]), output)
            del terms[a], terms[b]
            for other in terms:
                enter((other, made, terms[other] * kept), output)
            terms[made] = kept


def graph_of(weights: np.ndarray, start: np.ndarray, input_max: int) -> Graph:
    """The graph of start + x @ weights: weights int8 [inputs, channels], start int [channels], x in 0 to `input_max`."""
    graph = Graph([Node(-1, index, 1, 0, input_max, 0) for index in range(len(weights))])
    sums = [{int(i): int(column[i]) for i in np.flatnonzero(column)} for column in weights.T]
    _share(graph, sums)
    for terms, constant in zip(sums, start.tolist()):
        heap = [(graph.nodes[node].level, node, sign) for node, sign in terms.items()]
        if constant or not heap:
            heap.append((0, graph.constant(constant), 1))
        heapq.heapify(heap)
        while len(heap) > 1:
            _, a, sign_a = heapq.heappop(heap)
            _, b, sign_b = heapq.heappop(heap)
            if sign_a < 0 < sign_b:
                a, b, sign_a, sign_b = b, a, sign_b, sign_a
            made = graph.add(a, b, sign_a * sign_b)
            heapq.heappush(heap, (graph.nodes[made].level, made, sign_a))
        _, node, sign = heap[0]
        graph.outputs.append(node if sign > 0 else graph.add(graph.constant(0), node, -1))
    return graph


def verilog(graph: Graph, name: str, inputs: int, bits: int, every: int = 1) -> tuple[str, int]:
    """(module `name`, its latency in enabled edges): x, `inputs` numbers of `bits` bits, to the sums, sign-extended to equal widths.

    A node at level l is computed in stage ceil(l / every) from nodes of that stage or registers of the stage before.
    """
    width = max(graph.nodes[index].bits for index in graph.outputs)
    stages = -(-graph.levels // every)
    wires: list[str] = []
    edges: list[str] = []
    made: set[tuple[int, int]] = set()

    def stage_of(index: int) -> int:
        return -(-graph.nodes[index].level // every)

    def at(index: int, stage: int) -> str:
        """Name of the node's value after `stage` registers."""
        node = graph.nodes[index]
        if node.left == -2:
            return f"({node.right})"
        first = stage_of(index)
        for step in range(first, stage + 1):
            if (index, step) not in made:
                made.add((index, step))
                kind = "wire" if step == 0 else "reg"
                wires.append(f"    {kind} signed [{node.bits - 1}:0] n{index}_{step};")
                if step == 0:
                    wires.append(f"    assign n{index}_0 = $signed({{1'b0, x[{node.right * bits} +: {bits}]}});")
                else:
                    edges.append(f"        n{index}_{step} <= {f'n{index}' if step == first else f'n{index}_{step - 1}'};")
        return f"n{index}_{stage}"

    def operand(index: int, stage: int) -> str:
        """Name of an operand of a node computed in `stage`."""
        node = graph.nodes[index]
        return f"n{index}" if node.left >= 0 and stage_of(index) == stage else at(index, stage - 1)

    used = set()
    todo = list(graph.outputs)
    while todo:
        index = todo.pop()
        if index not in used:
            used.add(index)
            if graph.nodes[index].left >= 0:
                todo += [graph.nodes[index].left, graph.nodes[index].right]
    for index in sorted(used):
        node = graph.nodes[index]
        if node.left >= 0:
            stage = stage_of(index)
            left, right = operand(node.left, stage), operand(node.right, stage)
            wires.append(f"    wire signed [{node.bits - 1}:0] n{index} = {left} {'+' if node.sign > 0 else '-'} {right};")
    sums = [at(index, stages) for index in graph.outputs]
    wires += [f"    assign sums[{channel * width} +: {width}] = {value};" for channel, value in enumerate(sums)]
    shape = f"input [{inputs * bits - 1}:0] x, output [{len(sums) * width - 1}:0] sums"
    adders = sum(graph.nodes[index].left >= 0 for index in used)
    text = f"// {adders} adders for {inputs} inputs and {len(sums)} sums, latency {stages}. Generated.\n"
    text += f"module {name} (input clk, input en, {shape});\n" + "\n".join(wires)
    text += "\n    always @(posedge clk) if (en) begin\n" + "\n".join(edges) + "\n    end\nendmodule\n"
    return text, stages

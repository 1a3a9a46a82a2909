"""What is built for each layer: how far it is folded, and the sizes that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from gateware.rtl.tables import Table, Widths, average_table, table
from modelkit.ternary.layers import AvgPool, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network


@attrs.frozen
class Choice:
    """The folding of a layer: `pe` output channels and `simd` inputs a cycle; pools and depthwise layers have simd = pe.

    `build`: "folded"; "wide": all taps of all inputs a cycle (simd = the inputs of a pixel); "unrolled": everything every cycle, adders
    made for the weights (pe, simd = all). `weights_block` and `buffer_block` put weights and rows in block RAM; `buffer_log2` words
    of the row buffer (0: the least that works well).
    """

    pe: int = 1
    simd: int = 1
    build: str = "folded"
    weights_block: bool = False
    buffer_block: bool = False
    buffer_log2: int = 0


@attrs.frozen(eq=False)
class LayerPlan:
    """A layer, its place in the network and its choice; everything else is derived."""

    index: int
    layer: Layer
    shape: tuple[int, int, int]
    out_shape: tuple[int, ...]
    bits: int
    out_bits: int
    input_max: int
    choice: Choice
    numbers: Table | None
    widths: Widths | None

    @property
    def kind(self) -> str:
        """conv, depthwise, maxpool, avgpool or dense."""
        return type(self.layer).__name__.lower()

    @property
    def name(self) -> str:
        """Module name."""
        return f"layer{self.index}"

    @property
    def build_text(self) -> str:
        """The choice in words."""
        return f"{self.choice.build}, {self.choice.pe} outputs x {self.choice.simd} inputs a cycle"

    @property
    def spread(self) -> bool:
        """Whether channels stay apart (depthwise, pools)."""
        return isinstance(self.layer, (Depthwise, MaxPool, AvgPool))

    @property
    def kernel(self) -> int:
        """Side of the window; 1 for dense."""
        return 1 if isinstance(self.layer, Dense) else int(self.layer.size)

    @property
    def stride(self) -> int:
        """Step of the window."""
        return int(self.layer.size if isinstance(self.layer, AvgPool) else getattr(self.layer, "stride", 1))

    @property
    def pad(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right)."""
        return getattr(self.layer, "pad", (0, 0, 0, 0))

    @property
    def image(self) -> tuple[int, int, int]:
        """(h, w, c) as the block sees it: a dense layer's input is one pixel."""
        return (1, 1, math.prod(self.shape)) if isinstance(self.layer, Dense) else self.shape

    @property
    def out_image(self) -> tuple[int, int, int]:
        """(h, w, c) of the output."""
        height, width, channels = self.out_shape if len(self.out_shape) == 3 else (1, 1, *self.out_shape)
        return height, width, channels

    @property
    def signed(self) -> bool:
        """Whether the outputs are the int8 logits."""
        return isinstance(self.layer, Dense) and self.layer.bits is None

    @property
    def parallel(self) -> bool:
        """Whether all taps of a window are seen at once."""
        return self.choice.build != "folded"

    @property
    def fold(self) -> int:
        """Words of a pixel in the row buffer."""
        return self.image[2] // self.choice.simd

    @property
    def sf(self) -> int:
        """Beats of one result."""
        return 1 if self.parallel else self.kernel**2 * (1 if self.spread else self.fold)

    @property
    def nf(self) -> int:
        """Groups of results of a pixel."""
        return self.out_image[2] // self.choice.pe

    @property
    def needs_window(self) -> bool:
        """Whether the inputs are read in another order than they come, or more than once."""
        held = self.nf == 1 or self.choice.build == "unrolled"
        return not (self.kernel == 1 and held and self.stride == 1 and not any(self.pad))

    @property
    def span(self) -> int:
        """Words that the row buffer must hold at least (header of `window`)."""
        width = self.image[1]
        step = self.stride * width + self.stride if self.out_image[:2] != self.image[:2] else 1
        return max((self.kernel - 1) * width + self.kernel, step) * self.fold

    @property
    def buffer_log2(self) -> int:
        """log2 of the words of the row buffer."""
        if self.choice.buffer_log2:
            return self.choice.buffer_log2
        width = self.image[1]
        ahead = (self.stride - 1) * width + self.stride
        wanted = 2 * self.fold if isinstance(self.layer, Dense) else ((self.kernel - 1) * width + self.kernel + ahead) * self.fold
        few = 4 if self.kernel < 3 else 0  # a small window is read as fast as its words come: a few more hide the way back
        return max(math.ceil(math.log2(max(self.span, wanted) + few)), 3)

    @property
    def cycles(self) -> int:
        """Cycles of one output pixel."""
        return self.sf * self.nf

    @property
    def queue_log2(self) -> int:
        """log2 of the pixels that wait before a wide layer while it makes the windows of its padding, which take none; 0: no queue."""
        return max((self.image[1] + 4 - 1).bit_length(), 3) if self.choice.build == "wide" and self.needs_window else 0

    @property
    def terms(self) -> int:
        """Products of one output channel in a cycle."""
        return 1 if self.spread and not self.parallel else self.choice.simd * (self.kernel**2 if self.parallel else 1)

    @property
    def weight_word(self) -> int:
        """Bits of a word of weights."""
        stored = not isinstance(self.layer, (MaxPool, AvgPool)) and self.choice.build != "unrolled"
        return 2 * self.choice.pe * self.terms if stored else 0

    @property
    def scanned(self) -> int:
        """Pixels that `windows_all` scans in a frame, padding included."""
        (height, width, _), (rows, columns, _) = self.image, self.out_image
        tall = max(self.pad[0] + height, (rows - 1) * self.stride + self.kernel)
        return tall * max(self.pad[2] + width, (columns - 1) * self.stride + self.kernel)

    @property
    def interval(self) -> int:
        """Cycles of a frame where nothing holds the layer up."""
        pixels = self.out_image[0] * self.out_image[1]
        if self.parallel and self.needs_window:
            return self.scanned + pixels * (self.cycles - 1)
        return max(pixels * self.cycles, self.image[0] * self.image[1] * self.fold)

    def check(self) -> None:
        """Raise ValueError where the choice does not divide the layer."""
        choice, cin, cout = self.choice, self.image[2], self.out_image[2]
        wrong = []
        if choice.pe < 1 or cout % choice.pe:
            wrong.append(f"pe {choice.pe} does not divide {cout} output channels")
        if choice.simd < 1 or cin % choice.simd:
            wrong.append(f"simd {choice.simd} does not divide {cin} inputs")
        if choice.build not in ("folded", "wide", "unrolled"):
            wrong.append(f"build {choice.build!r} is unknown; expected folded, wide or unrolled")
        if self.parallel and isinstance(self.layer, (MaxPool, AvgPool)):
            wrong.append(f"{choice.build} is for layers with weights")
        if choice.build == "wide" and self.spread:
            wrong.append("wide is not for depthwise layers")
        if self.parallel and (choice.simd != cin or (choice.build == "unrolled" and choice.pe != cout)):
            wrong.append(f"{choice.build} needs simd {cin}" + (f" and pe {cout}" if choice.build == "unrolled" else ""))
        if self.spread and choice.pe != choice.simd:
            wrong.append(f"{self.kind} needs simd = pe, found {choice.simd} and {choice.pe}")
        if self.needs_window and not self.parallel and not wrong and 1 << self.buffer_log2 < self.span:
            wrong.append(f"a buffer of 2^{self.buffer_log2} words does not hold {self.span}")
        if wrong:
            raise ValueError(f"layer {self.index} ({self.kind}): {'; '.join(wrong)}")


@attrs.frozen(eq=False)
class CorePlan:
    """A network and the choice for each of its layers."""

    network: Network
    layers: tuple[LayerPlan, ...]
    lanes: int

    @property
    def frame_bytes(self) -> int:
        """h * w * c."""
        return math.prod(self.network.input_shape)

    @property
    def frame_beats(self) -> int:
        """Beats of 32 bits of a frame."""
        return -(-self.frame_bytes // 4)

    @property
    def answer_beats(self) -> int:
        """Beats of 32 bits of an answer."""
        return -(-self.network.classes // 4)

    @property
    def elements(self) -> list[tuple[int, int]]:
        """(elements of a beat out, elements of a beat in) at each border: unpack, layers, pack."""
        out = [self.lanes, *(plan.choice.pe for plan in self.layers)]
        into = [*(plan.choice.simd for plan in self.layers), 1]
        return list(zip(out, into))


def lanes_of(channels: int) -> int:
    """Bytes a cycle that `unpack` gives for pixels of so many channels."""
    return next(lanes for lanes in (4, 2, 1) if channels % lanes == 0)


def layer_plan(
    index: int, layer: Layer, shape: tuple[int, ...], input_max: int, choice: Choice, widths: Widths | None = None, out_bits: int = 8
) -> LayerPlan:
    """The plan of one layer for inputs 0 to `input_max` of `shape`; `widths` none: what its weights need. ValueError on a misfit."""
    image = shape if len(shape) == 3 else (1, 1, shape[0])
    numbers: Table | None = None
    if not isinstance(layer, MaxPool):
        numbers = average_table(layer, input_max) if isinstance(layer, AvgPool) else table(layer, input_max)
    widths = widths or (numbers.widths if numbers is not None else None)
    out_shape = layer.output_shape(shape)
    made = LayerPlan(index, layer, image, out_shape, input_max.bit_length(), out_bits, input_max, choice, numbers, widths)
    made.check()
    return made


def plan(network: Network, choices: Sequence[Choice], widths: Sequence[Widths | None] | None = None) -> CorePlan:
    """The plan of a core; `widths` replaces what the weights need (a build for several networks). ValueError where it does not fit."""
    layers = []
    for index, (layer, choice) in enumerate(zip(network.layers, choices, strict=True)):
        out_bits = network.maxima[index + 1].bit_length() if index < len(network.layers) - 1 else 8
        given = widths[index] if widths is not None else None
        layers.append(layer_plan(index, layer, network.shapes[index], network.maxima[index], choice, given, out_bits))
    core = CorePlan(network, tuple(layers), lanes_of(network.input_shape[2]))
    for index, (out, into) in enumerate(core.elements):
        if out % into and into % out:
            raise ValueError(f"layer {index}: beats of {out} elements come in, beats of {into} are wanted; one must divide the other")
    return core

"""Random gated networks with residuals and concatenations, whose gates are set to any pattern, exactly.

Weights and pictures are small integers and maps have 64 elements, so that sums and means are exact in float32 in any
order: a gate may stand exactly at its threshold, and masked and lowered networks must still agree about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from graph_text import detector, run
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.graph.shapes import infer_shapes

KERNELS = 6
SIZE = 8
STEP = 1 / SIZE**2  # the least by which a pooled map differs from another

Pattern = Literal["on", "off", "random", "edge", "front"]
PATTERNS: tuple[Pattern, ...] = ("on", "off", "random", "edge", "front")

UNITS = {
    "kernel": tuple(range(KERNELS)),
    "block": (0, 0, 1, 1, 2, 2),
    "nested": (0, 0, 1, 1, 2, 2),
    "first": (0, 0, 1, 1, 2, 2),
    "layer": (0,) * KERNELS,
}
"""For each granularity the decision that each kernel obeys; ``first``: nested behind a unit that is always on."""


@dataclass(frozen=True)
class Block:
    """One building block: a method of the builder, and what it chooses by."""

    kind: str
    granularity: str
    choices: tuple[int, ...]


@dataclass(frozen=True)
class Wish:
    """What a plan says about one layer, in numbers that are taken modulo what is possible."""

    lowering: Literal["multiply", "blocks", "widths"]
    seed: int
    joined: bool


@dataclass(frozen=True)
class Branching:
    """A network, and how its layers are to be lowered; with ``shared`` a gate decides for all layers or blocks."""

    blocks: tuple[Block, ...]
    wishes: tuple[Wish, ...]
    seed: int
    shared: bool = False

    def build(self, pattern: Pattern) -> Detector:
        """The network; the gates show the pattern for `picture`."""
        made = Builder(self)
        made.set_gates(pattern)
        infer_shapes(made.graph)
        return detector(made.graph)

    def picture(self) -> NDArray[np.float32]:
        """Integers from -2 to 2, [1, 3, 8, 8]."""
        return np.random.default_rng(self.seed + 1).integers(-2, 3, (1, 3, SIZE, SIZE)).astype(np.float32)

    def plan(self, graph: gs.Graph) -> tuple[LayerPlan, ...]:
        """A plan for the convolutions called ``gated...`` and ``plain...``, in graph order."""
        layers: list[LayerPlan] = []
        convs = [node for node in graph.nodes if node.name.startswith(("gated", "plain"))]
        if self.shared:
            return self._variants([node.name for node in convs if node.name.startswith("gated")])
        for node, wish in zip(convs, self.wishes * len(convs), strict=False):
            kernels = int(node.outputs[0].shape[1])
            joined = wish.joined and bool(layers) and layers[-1].lowering == "widths"
            if node.name.startswith("plain"):
                if joined:
                    order = tuple(range(kernels))
                    layers.append(
                        LayerPlan(layer=node.name, lowering="widths", order=order, sizes=(kernels,), joined=True)
                    )
                continue
            layers.append(_planned(node.name, kernels, wish, joined=joined and wish.lowering != "multiply"))
        return tuple(layers)

    def _variants(self, names: list[str]) -> tuple[LayerPlan, ...]:
        random = np.random.default_rng(self.wishes[0].seed)
        count = int(random.integers(1, 4))
        if random.integers(2):  # whole units
            sizes, order = (2, 4, 6)[-count:], tuple(range(KERNELS))
            return tuple(LayerPlan(layer=name, lowering="variants", order=order, sizes=sizes) for name in names)
        return tuple(
            LayerPlan(
                layer=name,
                lowering="variants",
                order=tuple(random.permutation(KERNELS).tolist()),
                sizes=(*np.sort(random.integers(1, KERNELS + 1, count - 1)).tolist(), KERNELS),
            )
            for name in names
        )


def _planned(name: str, kernels: int, wish: Wish, *, joined: bool) -> LayerPlan:
    random = np.random.default_rng(wish.seed)
    order = tuple(range(kernels))
    if wish.seed % 3:
        pairs = random.permutation(kernels // 2)
        shuffled = (
            np.stack([2 * pairs, 2 * pairs + 1], 1).reshape(-1) if wish.seed % 3 == 1 else random.permutation(kernels)
        )
        order = tuple(shuffled.tolist())
    if wish.lowering == "multiply":
        return LayerPlan(layer=name, lowering="multiply", order=order)
    borders = np.sort(random.choice(np.arange(1, kernels), random.integers(1, 4), replace=False)).tolist()
    if wish.lowering == "widths":
        sizes = (*([0] * int(random.integers(2))), *borders, kernels)
        return LayerPlan(layer=name, lowering="widths", order=order, sizes=sizes, joined=joined)
    ends = [0, *borders, kernels]
    sizes = tuple(int(size) for size in np.diff(ends))
    always = sizes[0] if random.integers(2) else 0
    return LayerPlan(
        layer=name, lowering="blocks", order=order, sizes=sizes[1:] if always else sizes, always=always, joined=joined
    )


@dataclass(eq=False)
class GateParts:
    """Where a gate's decisions are set."""

    score: gs.Variable
    bias: gs.Constant
    granularity: str


@dataclass(eq=False)
class Builder:
    """Writes the network of a `Branching`."""

    network: Branching
    graph: gs.Graph = field(init=False)
    gates: list[GateParts] = field(default_factory=list)
    vector: gs.Variable | None = None  # of the last gate
    units: gs.Variable | None = None  # its decisions, where each is about several kernels
    count: int = 0

    def __post_init__(self) -> None:
        """Write blocks one after another, then a head on what nothing reads; of shared ones on what each block makes."""
        self.random = np.random.default_rng(self.network.seed)
        x = gs.Variable("x", np.float32, [1, 3, SIZE, SIZE])
        self.graph = gs.Graph(inputs=[x], name="branching", opset=13, ir_version=8)
        pool = [self.relu(self.conv("stem", x))]
        for block in self.network.blocks:
            if self.network.seed % 5 == 4:  # every block has its own decision
                self.vector = self.units = None
            method: Callable[..., gs.Variable] = getattr(self, block.kind)
            pool.append(method(pool[-1], block))
        unread = pool[1:] if self.network.shared else [tensor for tensor in pool if not tensor.outputs]
        self.graph.outputs = [self.conv("head", tensor, kernels=2, kernel=1) for tensor in unread]
        self.graph.toposort()

    def set_gates(self, pattern: Pattern) -> None:
        """Set decision after decision, from the front: a score depends on the gates before it."""
        x, random = self.network.picture(), np.random.default_rng(self.network.seed + 2)
        for gate in self.gates:
            bias = np.zeros(gate.bias.shape, np.float32)
            gate.bias.values = bias
            score = self._value(gate.score, x).reshape(-1)
            units = len(score)
            if gate.granularity in ("nested", "first"):
                on = {"on": units, "off": 0}.get(pattern, int(random.integers(units + 1)))
                margin = (on - np.arange(units)) * STEP
                if gate.granularity == "first":
                    margin[0] = 1.0  # it looks at nothing: its score is its bias
            elif pattern == "front":
                margin = np.where(np.arange(units) < random.integers(units + 1), 1.0, -1.0)
            elif pattern == "edge":
                margin = random.integers(-1, 2, units) * STEP
            else:
                margin = np.where({"on": True, "off": False}.get(pattern, random.random(units) < 0.5), 1.0, -1.0)
            gate.bias.values = (margin - score).astype(np.float32)

    def _value(self, tensor: gs.Variable, x: NDArray[np.float32]) -> NDArray[Any]:
        outputs, self.graph.outputs = self.graph.outputs, [tensor]
        value: NDArray[Any] = run(self.graph.copy().cleanup(), x)[0]
        self.graph.outputs = outputs
        return value

    # ---- pieces

    def node(
        self, op: str, inputs: list[gs.Tensor], name: str = "", channels: int | None = None, **attrs: Any
    ) -> gs.Variable:
        """Maps keep their size, unless they are pooled globally."""
        self.count += 1
        name = f"{name or op.lower()}{self.count}"
        shape = list(inputs[0].shape)
        shape[1] = channels or shape[1]
        if op == "GlobalAveragePool":
            shape[2:] = [1, 1]
        result = gs.Variable(f"{name}_out", np.dtype(np.bool_ if op == "Greater" else np.float32), shape)
        self.graph.nodes.append(gs.Node(op, name, attrs, inputs, [result]))
        return result

    def constant(self, values: Any, dtype: type = np.float32) -> gs.Constant:
        self.count += 1
        return gs.Constant(f"c{self.count}", np.asarray(values, dtype))

    def weight(self, *shape: int) -> gs.Constant:
        """Minus one, zero or one; two thirds are zero."""
        return self.constant(self.random.choice([-1, 0, 0, 0, 0, 1], shape))

    def conv(
        self, name: str, x: gs.Variable, kernels: int = KERNELS, kernel: int = 3, group: int = 1, *, bias: bool = True
    ) -> gs.Variable:
        weight = self.weight(kernels, x.shape[1] // group, kernel, kernel)
        operands = [x, weight, *([self.constant(self.random.integers(-2, 3, kernels))] if bias else [])]
        return self.node(
            "Conv", operands, name, kernels, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2, group=group
        )

    def relu(self, x: gs.Variable) -> gs.Variable:
        return self.node("Relu", [x])

    def gate(self, x: gs.Variable, granularity: str, *, hidden: bool) -> gs.Variable:
        """The vector of a gate that looks at x, [1, KERNELS, 1, 1] or [1, 1, 1, 1]."""
        if self.network.shared and self.vector is not None:
            return self.follow(self.vector)
        units = max(UNITS[granularity]) + 1
        pooled = self.node("GlobalAveragePool", [x])
        if hidden:
            pooled = self.relu(self.conv("squeeze", pooled, kernels=3, kernel=1))
        weight = self.weight(units, pooled.shape[1], 1, 1)
        if granularity in ("nested", "first"):
            weight.values = np.broadcast_to(weight.values[:1], weight.shape).copy()
        if granularity == "first":
            weight.values[0] = 0
        bias = self.constant(np.zeros(units))
        score = self.node("Conv", [pooled, weight, bias], "decide", units, kernel_shape=[1, 1])
        self.gates.append(GateParts(score, bias, granularity))
        above = self.node("Greater", [score, self.constant(0.0)])
        vector = self.node("Cast", [above], to=1)
        if granularity in ("block", "nested", "first"):
            self.units = vector
            vector = self.node(
                "Gather", [vector, self.constant(UNITS[granularity], np.int64)], channels=KERNELS, axis=1
            )
        self.vector = vector
        return vector

    def follow(self, vector: gs.Variable) -> gs.Variable:
        """The vector itself, or its gate's decisions about units of other sizes, or other decisions."""
        kind = self.random.integers(8)
        if self.units is None or kind < 4:
            return vector
        if kind == 7:  # another limit makes other decisions of the same scores
            above = self.node("Greater", [self.gates[-1].score, self.constant(STEP)])
            return self.node(
                "Gather", [self.node("Cast", [above], to=1), vector.inputs[0].inputs[1]], channels=KERNELS, axis=1
            )
        unit_of = np.sort(self.random.integers(0, self.units.shape[1], KERNELS))
        return self.node("Gather", [self.units, self.constant(unit_of, np.int64)], channels=KERNELS, axis=1)

    def gated(self, x: gs.Variable, block: Block, *, kernel: int = 3) -> gs.Variable:
        """A gated convolution and its activation; where the product stands is chosen."""
        vector = self.gate(x, block.granularity, hidden=bool(block.choices[0] % 2))
        place = block.choices[1] % 4
        if self.network.shared and self.network.seed % 4:
            place = max(1, place)  # one layer that leaves its bias keeps all of them from being lowered
        made = self.conv("gated", x, kernel=kernel, bias=place != 0)
        if place == 0:  # before the bias: a kernel that is off leaves its bias
            shift = self.constant(self.random.integers(1, 3, (1, KERNELS, 1, 1)))
            return self.relu(self.node("Add", [self.node("Mul", [made, vector]), shift]))
        if place == 1:
            return self.node("Mul", [self.relu(made), vector])
        return self.relu(self.node("Mul", [made, vector]))

    # ---- blocks

    def one(self, x: gs.Variable, block: Block) -> gs.Variable:
        return self.gated(x, block)

    def two(self, x: gs.Variable, block: Block) -> gs.Variable:
        return self.gated(self.gated(x, block), block)

    def plain(self, x: gs.Variable, block: Block) -> gs.Variable:
        """An ungated convolution alone reads the gated one."""
        return self.relu(self.conv("plain", self.gated(x, block)))

    def far(self, x: gs.Variable, block: Block) -> gs.Variable:
        """Between this gated layer and the next lies one that has nothing to do with either."""
        return self.relu(self.conv("far", self.plain(x, block)))

    def three(self, x: gs.Variable, block: Block) -> gs.Variable:
        return self.plain(self.gated(x, block), block)

    def residual(self, x: gs.Variable, block: Block) -> gs.Variable:
        made = self.gated(self.gated(x, block), block)
        return self.node("Add", [made, x]) if x.shape[1] == KERNELS else made

    def shared(self, x: gs.Variable, block: Block) -> gs.Variable:
        """Two gated layers make the same channels."""
        return self.node("Add", [self.gated(x, block), self.gated(x, block)])

    def concat(self, x: gs.Variable, block: Block) -> gs.Variable:
        both: list[gs.Tensor] = [self.gated(x, block), self.gated(x, block, kernel=1)]
        return self.node("Concat", both, channels=2 * KERNELS, axis=1)

    def depthwise(self, x: gs.Variable, block: Block) -> gs.Variable:
        """A depthwise convolution between two gated ones: without bias it stays inside."""
        made = self.conv("depthwise", self.gated(x, block), group=KERNELS, bias=bool(block.choices[2] % 2))
        return self.gated(self.relu(made), block, kernel=1)

    def pooled(self, x: gs.Variable, block: Block) -> gs.Variable:
        made = self.gated(x, block)
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        return self.gated(self.node("MaxPool", [made], **window), block)

    def read_twice(self, x: gs.Variable, block: Block) -> gs.Variable:
        """Something beside the next gated layer reads the map: nothing may be joined."""
        made = self.gated(x, block)
        return self.node("Add", [self.gated(made, block), self.relu(self.conv("beside", made))])


BLOCKS = ("one", "two", "plain", "far", "three", "residual", "shared", "concat", "depthwise", "pooled", "read_twice")

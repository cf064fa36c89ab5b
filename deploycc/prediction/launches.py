"""From a network to the launches that a runtime makes of it.

A runtime does not launch one GPU kernel per node: it merges nodes into convolutions, computes chains of element-wise
nodes at once, and writes the parts of a concatenation into place. What it merges depends on its version (`Fusion`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_graphsurgeon as gs

from deploycc.graph.cost import costlier_branch, node_macs, worst_case
from deploycc.graph.edit import static_shape

Kind = Literal["convolution", "depthwise", "matrix", "pooling", "elementwise", "copy", "normalise", "plugin"]

FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Constant", "Shape", "Cast"})
"""Operators that only give a tensor another name or shape."""

ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Elu", "HardSigmoid", "HardSwish"})
ELEMENTWISE = ACTIVATIONS | {
    "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Erf", "Reciprocal",
    "Softplus", "Greater", "Less", "GreaterOrEqual", "Equal", "Not", "And", "Where", "BatchNormalization", "Floor",
    "Ceil", "Round", "Sign",
}  # fmt: skip
POOLING = frozenset({
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum",
    "ReduceSumSquare",
})  # fmt: skip
NORMALISING = frozenset({"Softmax", "LogSoftmax", "LpNormalization", "LRN", "ReduceL2", "InstanceNormalization"})
COPYING = frozenset({"Transpose", "Slice", "Split", "Concat", "Pad", "Resize", "Upsample", "Gather", "Tile", "Expand"})

_SMALL = 16  # elements of a constant that is a factor, not weights


@dataclass(frozen=True)
class Fusion:
    """What a runtime merges.

    Attributes:
        activations: operators that a convolution applies to its own output.
        normalisation: a batch normalisation after a convolution becomes part of it.
        residual: a convolution adds another tensor to its own output.
        chains: neighbouring element-wise nodes are one launch.
        siblings: convolutions of one input and one window are one launch.
        concatenation: the parts of a concatenation are written into place.
    """

    activations: frozenset[str] = frozenset()
    normalisation: bool = False
    residual: bool = False
    chains: bool = False
    siblings: bool = False
    concatenation: bool = False


@dataclass(frozen=True)
class Launch:
    """One launch.

    Attributes:
        name: of its first node.
        kind: what the GPU does.
        nodes: names of all nodes that it computes.
        macs: multiply-accumulates.
        pixels: output positions of a convolution, or rows of a matrix product.
        kernels: output channels, or columns, of all groups together.
        depth: multiply-accumulates per output element.
        groups: of a convolution; batches of a matrix product.
        window: height and width of a convolution's or a pooling's window.
        stride: vertical stride.
        read, written, weights: elements of data tensors read and written, and of constants.
        merged: convolutions of one input that are computed at once.
        inputs, outputs: the data tensors behind ``read`` and ``written``, by name with their elements; of a convolution
            the first input is the one that its kernels sum over.
    """

    name: str
    kind: Kind
    nodes: tuple[str, ...]
    macs: int = 0
    pixels: int = 0
    kernels: int = 0
    depth: int = 0
    groups: int = 1
    window: tuple[int, int] = (1, 1)
    stride: int = 1
    read: int = 0
    written: int = 0
    weights: int = 0
    merged: int = 1
    inputs: tuple[tuple[str, int], ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()

    @property
    def winograd(self) -> bool:
        """Whether Winograd's minimal filtering applies: 3x3 with stride 1, one group."""
        return self.kind == "convolution" and self.window == (3, 3) and self.stride == 1 and self.groups == 1


@dataclass(eq=False)
class _Group:
    nodes: list[gs.Node]
    kind: Kind
    adds: bool = False  # a residual was merged
    activated: bool = False
    siblings: list[_Group] = field(default_factory=list)


def launches(graph: gs.Graph, fusion: Fusion) -> list[Launch]:
    """Return the launches of a network, in its order; of an `If`, those of its costlier branch.

    Args:
        graph: with static shapes.
        fusion: what the runtime merges.
    """
    outputs = {id(tensor) for scope in (graph, *graph.subgraphs(recursive=True)) for tensor in scope.outputs}
    return _launches(list(worst_case(graph.nodes)), outputs, fusion)


def count_branches(graph: gs.Graph) -> int:
    """Return the number of `If` nodes that run, nested ones included, when the costlier side is always taken."""
    return _branches(graph.nodes)


def _branches(nodes: Iterable[gs.Node]) -> int:
    return sum(1 + _branches(costlier_branch(node)) for node in nodes if node.op == "If")


def _launches(nodes: Sequence[gs.Node], outputs: set[int], fusion: Fusion) -> list[Launch]:
    group_of: dict[int, _Group] = {}  # by the tensor that the group ends with
    groups: list[_Group] = []
    for node in nodes:
        if node.op in FREE or not node.outputs or _constant(node):
            source = next((t for t in node.inputs if id(t) in group_of), None)
            if source is not None and node.outputs and len(source.outputs) == 1:
                group_of[id(node.outputs[0])] = group_of[id(source)]
            continue
        if node.op == "Concat" and fusion.concatenation:
            continue
        group = _joins(node, group_of, outputs, fusion)
        if group is None:
            group = _Group([node], _kind(node))
            groups.append(group)
        else:
            group.nodes.append(node)
        group_of.update((id(tensor), group) for tensor in node.outputs)
    if fusion.siblings:
        groups = _with_siblings(groups)
    return [_launch(group) for group in groups]


def _joins(node: gs.Node, group_of: dict[int, _Group], outputs: set[int], fusion: Fusion) -> _Group | None:
    """The group that a node becomes part of; None where it needs a launch of its own."""
    variables = [t for t in node.inputs if isinstance(t, gs.Variable)]
    ending = [
        group_of[id(tensor)]
        for tensor in variables
        if id(tensor) in group_of and len(tensor.outputs) == 1 and id(tensor) not in outputs
    ]
    for group in reversed(ending):
        matrix = group.kind in ("convolution", "depthwise", "matrix")
        if matrix and not group.activated:
            if node.op == "BatchNormalization" and fusion.normalisation:
                return group
            if node.op in fusion.activations:
                group.activated = True
                return group
            if node.op == "Add" and len(variables) == 1:  # a bias
                return group
            if node.op in ("Add", "Sum") and len(variables) == 2 and fusion.residual and not group.adds:
                group.adds = True
                return group
        if group.kind == "elementwise" and node.op in ELEMENTWISE and (fusion.chains or _scale_then_act(group, node)):
            return group
    return None


def _scale_then_act(group: _Group, node: gs.Node) -> bool:
    """A batch normalisation and its activation are one launch in every TensorRT."""
    return len(group.nodes) == 1 and group.nodes[0].op == "BatchNormalization" and node.op == "Relu"


def _with_siblings(groups: Iterable[_Group]) -> list[_Group]:
    merged: list[_Group] = []
    first: dict[tuple[object, ...], _Group] = {}
    for group in groups:
        node = group.nodes[0]
        if node.op == "Conv" and group.kind == "convolution" and not group.adds:
            window = tuple(str(node.attrs.get(key)) for key in ("kernel_shape", "strides", "pads", "dilations"))
            key = (id(node.inputs[0]), node.attrs.get("group", 1), window, tuple(n.op for n in group.nodes[1:]))
            if key in first:
                first[key].siblings.append(group)
                continue
            first[key] = group
        merged.append(group)
    return merged


def _launch(group: _Group) -> Launch:
    own = _one_launch(group)
    for sibling in map(_one_launch, group.siblings):
        own = replace(
            own,
            nodes=own.nodes + sibling.nodes,
            macs=own.macs + sibling.macs,
            kernels=own.kernels + sibling.kernels,
            written=own.written + sibling.written,
            weights=own.weights + sibling.weights,
            merged=own.merged + 1,
            outputs=own.outputs + sibling.outputs,
        )
    return own


def _one_launch(group: _Group) -> Launch:
    head = group.nodes[0]
    inside = {id(tensor) for node in group.nodes for tensor in node.outputs}
    read = {id(t): t for node in group.nodes for t in node.inputs if isinstance(t, gs.Variable) and id(t) not in inside}
    written = [t for node in group.nodes for t in node.outputs if any(c not in group.nodes for c in t.outputs)]
    written = written or list(group.nodes[-1].outputs)
    constants = [t for node in group.nodes for t in node.inputs if isinstance(t, gs.Constant)]
    window = head.attrs.get("kernel_shape", (1, 1))
    launch = Launch(
        name=head.name,
        kind=group.kind,
        nodes=tuple(node.name for node in group.nodes),
        macs=sum(node_macs(node) for node in group.nodes),
        window=(int(window[0]), int(window[-1])),
        stride=int(head.attrs.get("strides", (1,))[0]),
        read=sum(map(_elements, read.values())),
        written=sum(map(_elements, written)),
        weights=sum(count for count in map(_elements, constants) if count > _SMALL),
        inputs=tuple((tensor.name, _elements(tensor)) for tensor in read.values()),
        outputs=tuple((tensor.name, _elements(tensor)) for tensor in written),
    )
    output = static_shape(head.outputs[0]) or (1,)
    if head.op in ("Conv", "ConvTranspose"):
        weight = static_shape(head.inputs[1]) or (1, 1, 1, 1)
        return replace(
            launch,
            window=(weight[2], weight[3]),
            pixels=math.prod(output[2:]),
            kernels=output[1],
            depth=launch.macs // max(math.prod(output), 1),
            groups=int(head.attrs.get("group", 1)),
        )
    if group.kind == "matrix":
        rows = output[-2] if len(output) > 1 else 1
        batches = math.prod(output[:-2])
        depth = launch.macs // max(math.prod(output), 1)
        return replace(launch, pixels=rows, kernels=output[-1] * batches, depth=depth, groups=batches)
    return launch


def _kind(node: gs.Node) -> Kind:
    if node.op in ("Conv", "ConvTranspose"):
        groups = int(node.attrs.get("group", 1))
        return "depthwise" if groups > 1 and groups == (static_shape(node.inputs[0]) or (0, 0))[1] else "convolution"
    if node.op in ("Gemm", "MatMul"):
        return "matrix"
    if node.op in POOLING:
        return "pooling"
    if node.op in ELEMENTWISE:
        return "elementwise"
    if node.op in NORMALISING:
        return "normalise"
    return "copy" if node.op in COPYING else "plugin"


def _constant(node: gs.Node) -> bool:
    return bool(node.inputs) and all(isinstance(tensor, gs.Constant) for tensor in node.inputs)


def _elements(tensor: gs.Tensor) -> int:
    shape = static_shape(tensor)
    return math.prod(shape) if shape else 0

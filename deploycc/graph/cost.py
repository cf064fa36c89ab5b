"""Operations, parameters and memory of a graph.

One MAC is one multiply-accumulate of a convolution or a matrix product; biases and element-wise work are not counted.
The white paper's figures (31.4 GMACs for VGG-SSD300) are counted the same way. An `If` counts as its costlier branch,
the worst case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Cost:
    """Size of a network.

    Attributes:
        nodes: operators, including those in branches.
        params: elements of the floating-point constants that training sets, each shared constant once. Statistics of a
            BatchNormalization do not count, nor do a scale of ones and a shift of zeros, which Caffe's layer implies.
        macs: multiply-accumulates per picture.
    """

    nodes: int
    params: int
    macs: int


@dataclass(frozen=True)
class LayerCost:
    """One operator that does MACs.

    Attributes:
        name, op: the node.
        macs: multiply-accumulates per picture.
        params: elements of its floating-point constants.
        input_shape, output_shape: of the data tensor, as inferred.
        activation_bytes: bytes read and written of its data tensors, 4 bytes per element.
    """

    name: str
    op: str
    macs: int
    params: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    activation_bytes: int


def node_macs(node: gs.Node) -> int:
    """Return the MACs of one node; 0 for operators without matrix work or without a static shape.

    Conv: output elements x input channels per group x kernel. ConvTranspose: input elements x output channels per
    group x kernel. Gemm and MatMul: output elements x the contracted length. If: the costlier branch.
    """
    if node.op == "If":
        return _macs(costlier_branch(node))
    if not node.inputs or not node.outputs:
        return 0
    if node.op == "Conv":
        weight = _dims(node.inputs[1])
        return _elements(node.outputs[0]) * math.prod(weight[1:])
    if node.op == "ConvTranspose":
        weight = _dims(node.inputs[1])
        return _elements(node.inputs[0]) * math.prod(weight[1:])
    if node.op == "Gemm":
        a = _dims(node.inputs[0])
        return _elements(node.outputs[0]) * (a[0] if node.attrs.get("transA") else a[-1]) if a else 0
    if node.op == "MatMul":
        a = _dims(node.inputs[0])
        return _elements(node.outputs[0]) * a[-1] if a else 0
    return 0


def node_params(node: gs.Node) -> int:
    """Return the elements of a node's parameters, including all branches of an `If`; see `Cost.params`."""
    if node.op == "If":
        return sum(node_params(inner) for branch in node.subgraphs() for inner in branch.nodes)
    return sum(_elements_of_constant(tensor) for tensor in _parameters(node))


def measure_cost(graph: gs.Graph) -> Cost:
    """Count nodes, parameters and MACs of a graph; a shared constant counts once."""
    nodes = [node for scope in (graph, *graph.subgraphs(recursive=True)) for node in scope.nodes]
    parameters = {id(tensor): tensor for node in nodes for tensor in _parameters(node)}
    return Cost(
        nodes=len(nodes),
        params=sum(_elements_of_constant(tensor) for tensor in parameters.values()),
        macs=_macs(graph.nodes),
    )


def layer_costs(graph: gs.Graph) -> list[LayerCost]:
    """Return the operators that do MACs, in graph order; of an `If`, those of the costlier branch."""
    return [
        LayerCost(
            name=node.name,
            op=node.op,
            macs=node_macs(node),
            params=node_params(node),
            input_shape=_dims(node.inputs[0]),
            output_shape=_dims(node.outputs[0]),
            activation_bytes=4 * (_elements(node.inputs[0]) + _elements(node.outputs[0])),
        )
        for node in worst_case(graph.nodes)
        if node_macs(node)
    ]


def _macs(nodes: Iterable[gs.Node]) -> int:
    return sum(node_macs(node) for node in nodes)


def costlier_branch(node: gs.Node) -> list[gs.Node]:
    """Return the nodes of the branch of an `If` that does more MACs."""
    branches: list[list[gs.Node]] = [branch.nodes for branch in node.subgraphs()]
    return max(branches, key=_macs, default=[])


def worst_case(nodes: Iterable[gs.Node]) -> Iterator[gs.Node]:
    """Yield nodes in order; in place of an `If`, those of its costlier branch."""
    for node in nodes:
        if node.op == "If":
            yield from worst_case(costlier_branch(node))
        else:
            yield node


def _dims(tensor: gs.Tensor) -> tuple[int, ...]:
    shape = tensor.shape
    if shape is None or not all(isinstance(d, int) for d in shape):
        return ()
    return tuple(shape)


def _elements(tensor: gs.Tensor) -> int:
    dims = _dims(tensor)
    return math.prod(dims) if dims else 0


def _parameters(node: gs.Node) -> list[gs.Constant]:
    constants = [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    if node.op != "BatchNormalization":
        return constants
    identities = zip(node.inputs[1:3], (1, 0), strict=True)
    return [t for t, identity in identities if isinstance(t, gs.Constant) and (t.values != identity).any()]


def _elements_of_constant(tensor: gs.Constant) -> int:
    return math.prod(tensor.shape) if str(tensor.dtype) in ("float32", "float16", "float64", "bfloat16") else 0

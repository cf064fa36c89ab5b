"""Small edits of a graph that keep producers, readers and output names consistent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


def is_output(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Return whether the tensor is an output of the graph."""
    return any(output is tensor for output in graph.outputs)


def holds(graph: gs.Graph, node: gs.Node) -> bool:
    """Return whether the node belongs to this graph itself, not to a subgraph that reads its tensors."""
    return any(candidate is node for candidate in graph.nodes)


def sole_reader(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """Return the node that reads the tensor if nothing else does: no other node or operand, no graph output."""
    return tensor.outputs[0] if len(tensor.outputs) == 1 and not is_output(graph, tensor) else None


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """Return the node that writes the tensor; None for constants and graph inputs."""
    return tensor.inputs[0] if tensor.inputs else None


def constant_values(tensor: gs.Tensor) -> NDArray[Any] | None:
    """Return the values of a constant, or None for a variable."""
    return np.asarray(tensor.values) if isinstance(tensor, gs.Constant) else None


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """Return the tensor's shape, or None if a dimension is unknown."""
    shape = tensor.shape
    return tuple(shape) if shape is not None and all(isinstance(dim, int) for dim in shape) else None


def fresh_name(graph: gs.Graph, stem: str) -> str:
    """Return a tensor name that the graph and its subgraphs do not use: ``stem``, ``stem_2``, ``stem_3``..."""
    return FreshNames(graph).take(stem)


class FreshNames:
    """Names for many new tensors of one graph, whose names are collected once.

    While it is in use, every new tensor of the graph must get its name from it.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self._taken = set(_tensor_names(graph))

    def take(self, stem: str) -> str:
        """Return a name as `fresh_name` does, which is taken from now on."""
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name


def _tensor_names(graph: gs.Graph) -> Iterator[str]:
    yield from (tensor.name for tensor in (*graph.inputs, *graph.outputs))
    for node in graph.nodes:
        yield from (tensor.name for tensor in (*node.inputs, *node.outputs))
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from _tensor_names(value)


def redirect_readers(old: gs.Tensor, new: gs.Tensor) -> None:
    """Make every node that reads ``old`` read ``new``; graph outputs are unchanged."""
    for reader in list(old.outputs):
        for index, tensor in enumerate(reader.inputs):
            if tensor is old:
                reader.inputs[index] = new


def bypass(graph: gs.Graph, node: gs.Node, source: gs.Tensor) -> bool:
    """Bypass a node whose first output equals ``source``, one of its inputs; the graph's output names are kept.

    Returns:
        False, with nothing changed, if the node is needed to connect a graph input, a constant or another graph output
        to a graph output. Otherwise the node is left without tensors, and ``Graph.cleanup`` removes it.
    """
    target = node.outputs[0]
    if not is_output(graph, target):
        redirect_readers(target, source)
    else:
        writer = producer(source)
        if writer is None or not holds(graph, writer) or is_output(graph, source):
            return False
        node.outputs.clear()
        index = next(i for i, tensor in enumerate(writer.outputs) if tensor is source)
        writer.outputs[index] = target
        redirect_readers(source, target)
    node.inputs.clear()
    node.outputs.clear()
    return True


def replace_values(constant: gs.Constant, values: NDArray[Any]) -> None:
    """Give a constant new values, of any type.

    A copied graph (graphsurgeon 0.6.1) pins each constant's type at export; a change of type must release it.
    """
    constant.values = values
    constant.export_dtype = None


def set_constant(graph: gs.Graph, node: gs.Node, index: int, values: NDArray[Any], name: str) -> None:
    """Give operand ``index`` of a node new values; a constant with other readers is copied, not changed.

    Args:
        graph: the node's graph.
        node: a shorter operand list is extended with empty tensors.
        index: operand position.
        values: the new array.
        name: of the constant if a new one is needed.
    """
    while len(node.inputs) <= index:
        node.inputs.append(gs.Variable.empty())
    old = node.inputs[index]
    if isinstance(old, gs.Constant) and len(old.outputs) == 1:
        replace_values(old, values)
    else:
        node.inputs[index] = gs.Constant(fresh_name(graph, name), values)


def type_float_constants(graph: gs.Graph) -> None:
    """Write ``Constant<value_float>`` as a float32 tensor, before graphsurgeon 0.6.1 folds it to FP64."""
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for node in scope.nodes:
            for attribute in ("value_float", "value_floats"):
                if node.op == "Constant" and attribute in node.attrs:
                    values = np.array(node.attrs.pop(attribute), dtype=np.float32)
                    node.attrs["value"] = gs.Constant(node.outputs[0].name, values)

"""Operators written out in older ones, as ONNX defines them: for operator sets and parsers that lack them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.edit import fresh_name

_AXES_ARE_OPERANDS = 18  # of ReduceMean, from this operator set on


class _Formula:
    """Writes the nodes that replace one node, under names made of its own."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        self._graph, self.node, self.opset = graph, node, graph.opset
        self._scope = next(each for each in (graph, *graph.subgraphs(recursive=True)) if _holds(each, node))
        self.dtype = node.inputs[0].dtype or np.float32

    def number(self, value: float) -> gs.Constant:
        return gs.Constant(self.name("constant"), np.array(value, self.dtype))

    def call(self, op: str, *inputs: gs.Tensor, shape: Any = None, **attributes: Any) -> gs.Variable:
        source = inputs[0]
        result = gs.Variable(self.name(op.lower()), self.dtype, source.shape if shape is None else shape)
        self._scope.nodes.append(gs.Node(op, result.name, attributes, list(inputs), [result]))
        return result

    def finish(self, op: str, *inputs: gs.Tensor) -> bool:
        """Make the node itself the last step: it keeps its name and its output."""
        node = self.node
        node.op, node.domain, node.attrs, node.inputs = op, None, {}, list(inputs)
        node.outputs = node.outputs[:1]
        return True

    def name(self, part: str) -> str:
        return fresh_name(self._graph, f"{self.node.outputs[0].name}_{part}")


def _holds(graph: gs.Graph, node: gs.Node) -> bool:
    return any(each is node for each in graph.nodes)


def _mish(formula: _Formula) -> bool:
    """``x tanh(ln(1 + exp x))`` (Misra, 2019)."""
    x = formula.node.inputs[0]
    return formula.finish("Mul", x, formula.call("Tanh", formula.call("Softplus", x)))


def _gelu(formula: _Formula) -> bool:
    """``x / 2 (1 + erf(x / sqrt 2))``, or its approximation by tanh (Hendrycks and Gimpel, 2016)."""
    x, call, number = formula.node.inputs[0], formula.call, formula.number
    if formula.node.attrs.get("approximate", "none") == "tanh":
        cube = call("Mul", call("Mul", x, x), x)
        inner = call("Add", x, call("Mul", cube, number(0.044715)))
        bent = call("Tanh", call("Mul", inner, number(math.sqrt(2 / math.pi))))
    else:
        bent = call("Erf", call("Mul", x, number(math.sqrt(0.5))))
    return formula.finish("Mul", call("Mul", x, number(0.5)), call("Add", bent, number(1.0)))


def _layer_normalization(formula: _Formula) -> bool:
    """``(x - mean) / sqrt(variance + epsilon) scale + bias`` over the axes from ``axis`` on (Ba et al., 2016)."""
    node, call = formula.node, formula.call
    x, scale, *bias = node.inputs
    if x.shape is None or any(not each.is_empty() for each in node.outputs[1:]):
        return False
    axes = list(range(node.attrs.get("axis", -1) % len(x.shape), len(x.shape)))
    reduced = [1 if axis in axes else size for axis, size in enumerate(x.shape)]

    def mean(tensor: gs.Tensor) -> gs.Variable:
        if formula.opset < _AXES_ARE_OPERANDS:
            return call("ReduceMean", tensor, shape=reduced, axes=axes)
        operand = gs.Constant(formula.name("axes"), np.array(axes, np.int64))
        return call("ReduceMean", tensor, operand, shape=reduced)

    centred = call("Sub", x, mean(x))
    variance = mean(call("Mul", centred, centred))
    spread = call("Sqrt", call("Add", variance, formula.number(node.attrs.get("epsilon", 1e-5))))
    normal = call("Div", centred, spread)
    if bias and not bias[0].is_empty():
        return formula.finish("Add", call("Mul", normal, scale), bias[0])
    return formula.finish("Mul", normal, scale)


def _gather_nd(formula: _Formula) -> bool:
    """One element by its constant place: the same element of the tensor as a row."""
    node = formula.node
    x, place = node.inputs
    static = x.shape is not None and all(isinstance(size, int) for size in x.shape)
    if not static or not isinstance(place, gs.Constant) or place.values.shape != (len(x.shape),):
        return False
    number = np.ravel_multi_index((place.values % x.shape).tolist(), tuple(x.shape))
    every = gs.Constant(formula.name("all"), np.array([-1], np.int64))
    row = formula.call("Reshape", x, every, shape=[math.prod(x.shape)])
    return formula.finish("Gather", row, gs.Constant(formula.name("number"), np.array(number, np.int32)))


_FORMULAS: dict[str, Callable[[_Formula], bool]] = {
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "LayerNormalization": _layer_normalization,
    "Mish": _mish,
}


def expand(graph: gs.Graph, node: gs.Node) -> bool:
    """Replace a node by older operators; the graph must be sorted afterwards.

    Returns:
        False, with the node unchanged, where there is no formula for it.
    """
    formula = _FORMULAS.get(node.op)
    return formula is not None and (node.domain or "") in ("", "ai.onnx") and formula(_Formula(graph, node))

"""Choosing the nodes of an FP32 network that must stay FP32 when the rest becomes FP16, with reasons.

FP16 has 11 significant bits, 65504 as its largest value and 2**-24 as its smallest (IEEE 754-2008, binary16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.graph.edit import constant_values, producer

FP16_MAX = 65504.0

Formal = onnx.defs.OpSchema.FormalParameter

Reason = Literal["asked", "no-half", "decoding", "sum-of-squares", "after-sum", "overflow", "underflow", "between"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SQUARE_SUMS = ("ReduceL2", "ReduceSumSquare", "LpNormalization", "LRN", "LpPool", "GlobalLpPool")
_PRODUCTS = ("Gemm", "MatMul", "Einsum")
_SUMS = ("ReduceSum", "ReduceMean", "Conv", "AveragePool", "GlobalAveragePool", *_PRODUCTS)
_MOVES_ALL = ("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
_AFTER_SQUARE_SUM = (  # epsilon, root, reciprocal, and moves between them
    *("Add", "Max", "Clip", "Sqrt", "Reciprocal", "Pow", "Expand"),
    *_MOVES_ALL,
)
_DECODING = ("Exp", "NonMaxSuppression", "TopK")
_ARITHMETIC = ("Mul", "Add", "Sub", "Div", "Neg", "Min", "Max", "Clip", "Slice", "Split", "Gather")
_MOVES_DATA = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split", "Gather")
_TYPED_BY_ATTRIBUTE = ("ConstantOfShape", "EyeLike", "CastLike", "Range", "Loop", "Scan")


@dataclass(frozen=True)
class Kept:
    """A node that stays FP32, and why; ``detail`` holds counts if its values are the reason."""

    node: gs.Node
    reason: Reason
    detail: str = ""


def all_nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.nodes:
        yield node
        for subgraph in node.subgraphs():
            yield from all_nodes(subgraph)


def is_fp32(tensor: gs.Tensor) -> bool:
    """Return whether the tensor is known to be float32."""
    return not tensor.is_empty() and tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32


def schema_of(node: gs.Node, opset: int) -> onnx.defs.OpSchema | None:
    """Return the ONNX definition of a node, or None for plugins and other domains."""
    if node.domain not in (None, "", "ai.onnx") or not onnx.defs.has(node.op, opset):
        return None
    return onnx.defs.get_schema(node.op, max_inclusive_version=opset, domain="")


def formal(parameters: list[Formal], index: int) -> Formal | None:
    """Return the formal parameter of an operand; for operands of a variadic parameter, the last one."""
    if index < len(parameters):
        return parameters[index]
    repeats = parameters and parameters[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return parameters[-1] if repeats else None


def takes_half(parameter: Formal | None) -> bool:
    """Return whether an operand may be FP16; one that is defined as ``tensor(float)`` (Resize scales) may not."""
    return parameter is not None and "tensor(float16)" in parameter.types


def keep_in_fp32(graph: gs.Graph, asked: frozenset[str]) -> dict[int, Kept]:
    """Choose the nodes that stay FP32.

    * asked: named by the user;
    * decoding: box decoding and suppression after the last convolution: a coordinate in a 300 pixel picture needs more
      than the 11 bits that FP16 has;
    * no-half: a plugin, an unknown type, or an operator whose definition has no FP16 form;
    * sum-of-squares: squares of activations near 100 to 200 over 512 channels exceed 65504 (L2 normalisation of
      conv4_3, Liu et al., ParseNet, 2015);
    * after-sum: the epsilon, the root and the division that follow; FP16 would lose the epsilon;
    * overflow, underflow: constants beyond 65504, or all constants below the smallest FP16 number;
    * between: nodes that only move data from FP32 nodes to FP32 nodes.

    Returns:
        ``id(node)`` -> reason, subgraphs included.
    """
    kept: dict[int, Kept] = {}

    def keep(node: gs.Node, reason: Reason, detail: str = "") -> None:
        kept.setdefault(id(node), Kept(node, reason, detail))

    for node in all_nodes(graph):
        if node.name in asked:
            keep(node, "asked")
    for node in _decoding_nodes(graph):
        keep(node, "decoding")
    for node in all_nodes(graph):
        if not _has_half_form(node, graph.opset):
            keep(node, "no-half")
        if node.op in ("Loop", "Scan"):  # loop-carried values keep the type of their FP32 inputs
            for body in node.subgraphs():
                for inner in all_nodes(body):
                    keep(inner, "no-half")
    sums = _square_sums(graph)
    for node in sums:
        keep(node, "sum-of-squares")
    for node in _after(sums):
        keep(node, "after-sum")
    for node in all_nodes(graph):
        if id(node) not in kept and (out_of_range := _out_of_range(node)):
            keep(node, *out_of_range)
    grown = True
    while grown:
        between = [n for n in all_nodes(graph) if id(n) not in kept and _only_moves(n, lambda other: id(other) in kept)]
        for node in between:
            keep(node, "between")
        grown = bool(between)
    return kept


def _has_half_form(node: gs.Node, opset: int) -> bool:
    schema = schema_of(node, opset)
    if schema is None or node.op in _TYPED_BY_ATTRIBUTE or "dtype" in node.attrs:
        return False
    if node.op == "Cast" and not is_fp32(node.inputs[0]):
        return False  # integers: their range is not FP16's
    operands = [(t, formal(list(schema.inputs), i)) for i, t in enumerate(node.inputs)]
    operands += [(t, formal(list(schema.outputs), i)) for i, t in enumerate(node.outputs)]
    if any(not t.is_empty() and t.dtype is None for t, _ in operands):
        return False
    floats = [(t, parameter) for t, parameter in operands if is_fp32(t)]
    fixed = [parameter is not None and parameter.types == {"tensor(float)"} for _, parameter in floats]
    if floats and all(fixed):
        return False
    return all(is_fixed or takes_half(parameter) for is_fixed, (_, parameter) in zip(fixed, floats, strict=True))


def _square_sums(graph: gs.Graph) -> list[gs.Node]:
    sums: list[gs.Node] = []
    for node in all_nodes(graph):
        if node.op in _SQUARE_SUMS:
            sums.append(node)
        elif node.op in _SUMS:
            summed = (producer(_before_moves(tensor)) for tensor in node.inputs)
            squares = [writer for writer in summed if writer is not None and _squares(writer)]
            if squares or _multiplies_itself(node):
                sums += [*squares, node]
    return sums


def _multiplies_itself(node: gs.Node) -> bool:
    """Return whether a product of matrices multiplies a tensor by itself, maybe turned: its diagonal sums squares."""
    if node.op not in _PRODUCTS or len(node.inputs) < 2:
        return False
    first, second = (_before_moves(tensor) for tensor in node.inputs[:2])
    return first is second and not isinstance(first, gs.Constant)


def _before_moves(tensor: gs.Tensor) -> gs.Tensor:
    while (writer := producer(tensor)) is not None and writer.op in _MOVES_ALL:
        tensor = writer.inputs[0]
    return tensor


def _after(sums: list[gs.Node]) -> list[gs.Node]:
    """Return the nodes after the sums, up to the division by the root or the product with its reciprocal."""
    following: list[gs.Node] = []
    pending = [node for node in sums if not _squares(node)]
    while pending:
        for reader in pending.pop().outputs[0].outputs:
            if reader.op in (*_AFTER_SQUARE_SUM, "Div", "Mul") and not any(reader is node for node in following):
                following.append(reader)
                if reader.op in _AFTER_SQUARE_SUM:
                    pending.append(reader)
    return following


def _squares(node: gs.Node) -> bool:
    if node.op == "Pow":
        exponent = constant_values(node.inputs[1])
        return exponent is not None and bool((exponent == 2).all())
    return node.op == "Mul" and node.inputs[0] is node.inputs[1]


def _decoding_nodes(graph: gs.Graph) -> list[gs.Node]:
    """Return Exp, suppression and plugins after the last weighted layer, their successors, and arithmetic before."""
    feeds_weights: set[int] = set()
    for node in reversed(graph.nodes):
        readers = [reader for tensor in node.outputs for reader in tensor.outputs]
        if node.op in _WEIGHTED or any(id(reader) in feeds_weights for reader in readers):
            feeds_weights.add(id(node))
    tail = [node for node in graph.nodes if id(node) not in feeds_weights]
    plugin = {id(node) for node in tail if schema_of(node, graph.opset) is None}
    decoding = {id(node) for node in tail if node.op in _DECODING or id(node) in plugin}
    for node in tail:
        if any(id(writer) in decoding for tensor in node.inputs for writer in tensor.inputs):
            decoding.add(id(node))
    for node in reversed(tail):
        readers = [reader for tensor in node.outputs for reader in tensor.outputs]
        if node.op in _ARITHMETIC and any(id(reader) in decoding for reader in readers):
            decoding.add(id(node))
    return [node for node in tail if id(node) in decoding and any(is_fp32(t) for t in [*node.inputs, *node.outputs])]


def _out_of_range(node: gs.Node) -> tuple[Reason, str] | None:
    for index, tensor in enumerate(node.inputs):
        if not isinstance(tensor, gs.Constant) or not is_fp32(tensor) or (node.op == "Clip" and index > 0):
            continue  # a Clip bound beyond the range becomes infinity, which does not bound either
        values = np.asarray(tensor.values)
        largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
        if largest > FP16_MAX:
            count = int(np.count_nonzero(np.abs(values) > FP16_MAX))
            return "overflow", f"{count} of {values.size} constants exceed {FP16_MAX:.0f} (largest {largest:.3g})"
        if 0.0 < largest <= 2.0**-25:
            count = int(np.count_nonzero(values))
            return "underflow", f"all {count} non-zero constants become 0 (largest {largest:.3g})"
    return None


def _only_moves(node: gs.Node, is_kept: Callable[[gs.Node], bool]) -> bool:
    if node.op not in _MOVES_DATA:
        return False
    writers = [writer for tensor in node.inputs if is_fp32(tensor) for writer in tensor.inputs]
    readers = [reader for tensor in node.outputs for reader in tensor.outputs]
    return bool(writers and readers) and all(is_kept(other) for other in [*writers, *readers])

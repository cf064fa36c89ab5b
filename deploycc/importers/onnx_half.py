"""Widening networks that a file states in FP16: the target decides in what it computes, not the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.edit import replace_values
from deploycc.graph.half import all_nodes

HALF_WIDENED = "onnx-fp16-widened"
"""Code of the note: such a network equals its file only as far as FP16 is exact."""


def widen_half(graph: gs.Graph) -> list[Note]:
    """Turn every FP16 tensor into FP32, in place; each weight keeps its value.

    Returns:
        A note if there was any.
    """
    nodes = list(all_nodes(graph))
    used = [tensor for node in nodes for tensor in (*node.inputs, *node.outputs)]
    scopes = (graph, *graph.subgraphs(recursive=True))
    borders = [tensor for scope in scopes for tensor in (*scope.inputs, *scope.outputs)]
    halves = {id(tensor): tensor for tensor in (*used, *borders) if _is_half(tensor)}
    for tensor in halves.values():
        if isinstance(tensor, gs.Constant):
            replace_values(tensor, np.asarray(tensor.values).astype(np.float32))
        else:
            tensor.dtype = np.dtype(np.float32)
    for node in nodes:
        for name in ("to", "dtype"):
            if node.attrs.get(name) in (onnx.TensorProto.FLOAT16, np.float16):
                node.attrs[name] = onnx.TensorProto.FLOAT
        value = node.attrs.get("value")
        if isinstance(value, gs.Constant) and value.dtype == np.float16:  # of a Constant node: it has no name
            replace_values(value, np.asarray(value.values).astype(np.float32))
    if not halves:
        return []
    reason = f"{len(halves)} FP16 tensors of the file become FP32: the precision of the target decides instead"
    return [Note("", "onnx-fp16-widened", reason)]


def _is_half(tensor: gs.Tensor) -> bool:
    return not tensor.is_empty() and tensor.dtype is not None and tensor.dtype == np.float16

"""Narrowing INT64 to INT32 and FP64 to FP32, as parsers of older TensorRT releases do."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.edit import constant_values, is_output, producer, replace_values, set_constant
from deploycc.graph.half import Formal, all_nodes, formal, schema_of

_INT32 = np.iinfo(np.int32)
_MOVES_DATA = ("Gather", "Slice", "Concat", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile")
_SMALL_INTEGERS = tuple(np.dtype(name) for name in ("bool", "int8", "uint8", "int16", "uint16", "int32"))


def narrow_integers(graph: gs.Graph) -> tuple[bool, list[Note]]:
    """Turn INT64 tensors into INT32 if every operator that touches them takes INT32 and their values fit.

    Values are proved to fit: those of a constant are known; a variable only moves such values, or was cast from a
    narrower type. Operands that the ONNX definition fixes to INT64 (a Reshape's shape) stay INT64 in the file: TensorRT
    below 9 casts them itself, so only their range matters. Graph inputs and outputs keep their types.

    Returns:
        Whether anything changed, and one note per constant that does not fit INT32.
    """
    clamped = _clamp_slices(graph)
    notes: list[Note] = []
    chosen: dict[int, gs.Tensor] = {}
    operands: dict[int, list[tuple[gs.Node, Formal | None]]] = defaultdict(list)
    for node in all_nodes(graph):
        schema = schema_of(node, graph.opset)
        for tensors, formals in ((node.inputs, schema and schema.inputs), (node.outputs, schema and schema.outputs)):
            for index, tensor in enumerate(tensors):
                if not tensor.is_empty() and tensor.dtype == np.int64:
                    chosen[id(tensor)] = tensor
                    operands[id(tensor)].append((node, formal(list(formals or ()), index)))
    for key, tensor in list(chosen.items()):
        fits = _fits(tensor)
        if isinstance(tensor, gs.Constant) and not fits:
            readers = ", ".join(node.name or node.op for node in tensor.outputs)
            reason = f"constant {tensor.name} of {readers} does not fit INT32, to which this parser casts INT64"
            notes.append(Note(tensor.name, "int64-range", reason))
        takes_int32 = all(
            parameter is not None and "tensor(int32)" in parameter.types for _, parameter in operands[key]
        )
        border = any(source is tensor for source in graph.inputs) or is_output(graph, tensor)
        if not fits or not takes_int32 or border:
            del chosen[key]
    while tied := _tied_to_others(chosen, operands):
        for key in tied:
            del chosen[key]
    for tensor in chosen.values():
        if isinstance(tensor, gs.Constant):
            replace_values(tensor, np.asarray(tensor.values).astype(np.int32))
        else:
            tensor.dtype = np.dtype(np.int32)
            writer = producer(tensor)
            if writer is not None and writer.op == "Cast":
                writer.attrs["to"] = onnx.TensorProto.INT32
    return bool(chosen) or clamped, notes


def narrow_floats(graph: gs.Graph) -> tuple[bool, list[Note]]:
    """Turn FP64 tensors into FP32, except graph inputs and outputs; a constant that overflows FP32 gets a note.

    Returns:
        Whether anything changed, and the notes.
    """
    tensors = {id(t): t for node in all_nodes(graph) for t in [*node.inputs, *node.outputs] if t.dtype == np.float64}
    borders = [t for t in [*graph.inputs, *graph.outputs] if t.dtype == np.float64]
    if not tensors:
        return False, []
    if borders:
        reason = "graph inputs or outputs are FP64, so the FP64 part of the network stays"
        return False, [Note(borders[0].name, "fp64-border", reason)]
    notes = [Note("", "fp64-to-fp32", f"{len(tensors)} FP64 tensors become FP32, as the parser would cast them")]
    for tensor in tensors.values():
        if isinstance(tensor, gs.Constant):
            with np.errstate(over="ignore"):
                narrowed = np.asarray(tensor.values).astype(np.float32)
            if not np.isfinite(narrowed).all() and np.isfinite(tensor.values).all():
                notes.append(
                    Note(tensor.name, "fp64-range", f"constant {tensor.name} has values beyond the FP32 range")
                )
            replace_values(tensor, narrowed)
        else:
            tensor.dtype = np.dtype(np.float32)
    for node in all_nodes(graph):
        if node.op == "Cast" and node.attrs["to"] == onnx.TensorProto.DOUBLE:
            node.attrs["to"] = onnx.TensorProto.FLOAT
    return True, notes


def _clamp_slices(graph: gs.Graph) -> bool:
    """Write "to the end" of a Slice as the last INT32 number, not the last INT64: both lie beyond every axis."""
    changed = False
    for node in all_nodes(graph):
        for index in (1, 2) if node.op == "Slice" else ():
            values = constant_values(node.inputs[index]) if index < len(node.inputs) else None
            if values is not None and values.dtype == np.int64 and not _fits(node.inputs[index]):
                set_constant(graph, node, index, np.clip(values, _INT32.min, _INT32.max), f"{node.name}_clamped")
                changed = True
    return changed


def _fits(tensor: gs.Tensor) -> bool:
    values = constant_values(tensor)
    if values is not None:
        return bool(((values >= _INT32.min) & (values <= _INT32.max)).all())
    writer = producer(tensor)
    if writer is None:
        return False
    return writer.op in _MOVES_DATA or (writer.op == "Cast" and writer.inputs[0].dtype in _SMALL_INTEGERS)


def _tied_to_others(chosen: dict[int, gs.Tensor], operands: dict[int, list[tuple[gs.Node, Formal | None]]]) -> set[int]:
    """Return chosen tensors that share a type variable of a node with an INT64 tensor that is not chosen."""
    fixed = {
        (id(node), parameter.type_str)
        for key, uses in operands.items()
        if key not in chosen
        for node, parameter in uses
        if parameter is not None
    }
    return {
        key
        for key in chosen
        if any(parameter is not None and (id(node), parameter.type_str) in fixed for node, parameter in operands[key])
    }

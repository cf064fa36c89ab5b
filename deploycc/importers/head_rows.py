"""Bring a head's tensor into rows: [1, P, width] or [1, P * width], one row per prior.

Networks lay heads out in other ways too: [1, width, P] (NVIDIA's SSD), or the feature map itself, channels first
[1, A * width, H, W] or last [1, H, W, A * width] with A priors per cell. Their elements are in another order, so they
are transposed, never only reshaped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.importers.network_part import elements

_TO_CHANNELS_LAST = [0, 2, 3, 1]
_KEEPS_AXES = frozenset(
    ["Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Relu", "Sigmoid", "Softmax", "Sub", "Tanh"]
)


def as_rows(graph: gs.Graph, tensor: gs.Variable, rows: int, width: int, *, columns: bool | None = None) -> gs.Variable:
    """Return ``tensor`` as [1, rows, width] or [1, rows * width], adding a Transpose and a Reshape where needed.

    Args:
        graph: gets the new nodes.
        tensor: static shape, rows x width elements.
        rows: P.
        width: values per prior.
        columns: whether the last two axes are [width, P]; None decides by the shape.

    Raises:
        ValueError: the shape does not say which elements belong to a row; the message says why.
    """
    rank = len(tensor.shape)
    turn = [*range(rank - 2), rank - 1, rank - 2] if columns else None
    if columns is None:
        turn = transposition(tensor, rows, width)
    if turn is not None:
        shape = [tensor.shape[axis] for axis in turn]
        tensor = _append(graph, "Transpose", tensor, shape, attrs={"perm": turn})
    if tuple(tensor.shape) in ((1, rows, width), (1, rows * width)):
        return tensor
    target = gs.Constant(f"{tensor.name}_rows_shape", np.array([1, rows, width], dtype=np.int64))
    return _append(graph, "Reshape", tensor, [1, rows, width], operand=target)


def concatenated(graph: gs.Graph, parts: Sequence[gs.Variable], rows: Sequence[int], width: int) -> gs.Variable:
    """Return the rows of several tensors from `as_rows` as one, [1, sum of rows, width]."""
    shaped = []
    for part, count in zip(parts, rows, strict=True):
        if tuple(part.shape) != (1, count, width):
            target = gs.Constant(f"{part.name}_rows_shape", np.array([1, count, width], dtype=np.int64))
            part = _append(graph, "Reshape", part, [1, count, width], operand=target)
        shaped.append(part)
    result = gs.Variable(f"{parts[0].name}_and_more", dtype=np.float32, shape=[1, sum(rows), width])
    graph.nodes.append(gs.Node("Concat", result.name, {"axis": 1}, shaped, [result]))
    return result


def transposition(tensor: gs.Variable, rows: int, width: int) -> list[int] | None:
    """Return the axes that bring the elements of ``tensor`` into the order of rows; None if they are in it.

    Raises:
        ValueError: the shape does not say which elements belong to a row; the message says why.
    """
    if elements(tensor) != rows * width:
        raise ValueError(f"{rows} priors need {rows} x {width} values")
    shape: Sequence[int] = tensor.shape
    rank = len(shape)
    if sum(size != 1 for size in shape) < 2:
        return None
    maps = rank == 4 and shape[0] == 1
    first, last = maps and shape[1] % width == 0, maps and shape[3] % width == 0
    made = _axes_of(tensor) if first and last else ""
    if made == "first" or (first and not last):
        return _TO_CHANNELS_LAST
    if made == "last" or (last and not first) or shape[-1] == width:
        return None
    if tuple(shape[-2:]) == (width, rows):
        return [*range(rank - 2), rank - 1, rank - 2]
    raise ValueError(
        f"its shape does not show which {width} values belong to one of {rows} priors; understood are [1, P, {width}], "
        f"[1, {width}, P], [1, P * {width}] and feature maps [1, A * {width}, H, W] or [1, H, W, A * {width}]"
    )


def _axes_of(tensor: gs.Variable) -> str:
    """Return whether a feature map has its channels "first" or "last", by the node that made it; "" if unknown."""
    while tensor.inputs:
        node = tensor.inputs[0]
        if node.op == "Conv":
            return "first"
        if node.op == "Transpose" and list(node.attrs.get("perm", ())) == _TO_CHANNELS_LAST:
            return "last"
        if node.op not in _KEEPS_AXES:
            return ""
        tensor = next((source for source in node.inputs if isinstance(source, gs.Variable)), gs.Variable(""))
    return ""


def _append(
    graph: gs.Graph,
    op: str,
    tensor: gs.Variable,
    shape: list[int],
    *,
    attrs: dict[str, object] | None = None,
    operand: gs.Constant | None = None,
) -> gs.Variable:
    result = gs.Variable(f"{tensor.name}_{op.lower()}", dtype=np.float32, shape=shape)
    inputs = [tensor] if operand is None else [tensor, operand]
    graph.nodes.append(gs.Node(op, result.name, attrs or {}, inputs, [result]))
    return result

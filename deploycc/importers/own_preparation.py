"""What a network does to its picture before the first layer: resizing and normalising, as some exporters write it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import bypass, static_shape, type_float_constants
from deploycc.graph.shapes import infer_shapes
from deploycc.importers.single_loops import inline_single_loops

_LAYOUT = frozenset(
    ["Cast", "Expand", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze"]
)
_AFFINE = frozenset(["Add", "Sub", "Mul", "Div"])
_TRIALS = ((224, 288), (352, 160))  # sizes of pictures, height and width


def own_range(graph: gs.Graph) -> tuple[float, str] | None:
    """Return the range of pixels that the network expects, 1 or 255, if it normalises them itself.

    With a * x + b on the input x, the colour that becomes zero is -b / a: a mean above 1 belongs to pixels of 0..255,
    one below to 0..1; factors without a mean divide by about 255 or multiply by it.

    Returns:
        The largest pixel, and what the network computes; None if it does not normalise or the range is not clear.
    """
    factor, shift = np.ones(1), np.zeros(1)
    for node, tensor in _first_nodes(graph):
        if node.op in _AFFINE:
            values = _values(next(operand for operand in node.inputs if operand is not tensor))
            if values is None or not np.isfinite(values).all():
                return None
            first = node.inputs[0] is tensor
            if node.op in ("Add", "Sub"):
                sign = -1.0 if node.op == "Sub" else 1.0
                shift = shift + sign * values if first else values + sign * shift
                factor = factor if first or node.op == "Add" else -factor
            elif node.op == "Mul" or first:
                by = values if node.op == "Mul" else 1 / values
                factor, shift = factor * by, shift * by
            else:
                return None
    if not np.isfinite(factor).all() or (factor <= 0).any():
        return None
    mean = float(np.mean(-shift / factor))
    text = f"(pixel - {_listed(-shift / factor)}) * {_listed(factor)}"
    if mean > 1.5:
        return 255.0, text
    if mean > 0:
        return 1.0, text
    if mean == 0 and (factor <= 0.02).all():
        return 255.0, text
    return (1.0, text) if mean == 0 and (factor >= 100).all() else None


def own_size(graph: gs.Graph) -> tuple[int, int] | None:
    """Return the height and width that the network resizes any picture to; None if it does not resize it.

    Args:
        graph: one input with four axes, of open size; unchanged.
    """
    found = {_resized(graph, trial) for trial in _TRIALS}
    return found.pop() if len(found) == 1 else None


def drop_idle_resizing(graph: gs.Graph) -> None:
    """Remove resizing to the same size, and padding by nothing, in place."""
    for node in list(graph.nodes):
        if node.op not in ("Resize", "Pad") or node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
            continue
        before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        if before is not None and before == after and node.inputs[0].dtype == node.outputs[0].dtype:
            bypass(graph, node, node.inputs[0])
    graph.cleanup()


def _first_nodes(graph: gs.Graph) -> Iterator[tuple[gs.Node, gs.Tensor]]:
    """Yield the nodes that one after the other read the picture alone, and what they read."""
    tensor: gs.Tensor = graph.inputs[0]
    while True:
        readers = [node for node in tensor.outputs if node.op not in ("Shape", "Size")]
        if len(readers) != 1:
            return
        (node,) = readers
        computed = [operand for operand in node.inputs if operand is tensor]
        if len(computed) != 1 or (node.op not in _LAYOUT and node.op not in _AFFINE):
            return
        yield node, tensor
        tensor = node.outputs[0]


def _values(tensor: gs.Tensor) -> NDArray[np.float64] | None:
    """Return a constant of one value, or one per channel."""
    values = tensor.values if isinstance(tensor, gs.Constant) else None
    if values is None or values.size not in (1, 3):
        return None
    return np.asarray(values, np.float64).reshape(-1)


def _listed(values: NDArray[np.float64]) -> str:
    if np.ptp(values) == 0:
        return f"{values[0]:.4g}"
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def _resized(graph: gs.Graph, size: tuple[int, int]) -> tuple[int, int] | None:
    trial = graph.copy()
    (tensor,) = trial.inputs
    shape = [dim if isinstance(dim, int) and dim > 0 else None for dim in tensor.shape]
    last = shape[3] in (1, 3)
    filled = [1, *size, shape[3]] if last else [1, shape[1] or 3, *size]
    tensor.shape = [known or wanted for known, wanted in zip(shape, filled, strict=True)]
    for other in trial.tensors().values():
        if isinstance(other, gs.Variable) and other is not tensor:
            other.shape = None
    inline_single_loops(trial)
    type_float_constants(trial)
    try:
        infer_shapes(trial)
        trial.fold_constants().cleanup().toposort()
        infer_shapes(trial)
    except onnx.shape_inference.InferenceError:  # it does not take this size
        return None
    for node, _ in _first_nodes(trial):
        if node.op == "Resize":
            found = static_shape(node.outputs[0])
            if found is None or len(found) != 4:
                return None
            return (found[1], found[2]) if found[3] in (1, 3) else (found[2], found[3])
    return None

"""Folding constants, and removing nodes that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.graph.edit import bypass, constant_values, fresh_name, producer, static_shape, type_float_constants
from deploycc.graph.shapes import infer_shapes
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

_RESHAPERS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def fold_constants(detector: Detector, options: Options) -> Result:
    """Fold everything that depends only on constants and static shapes, and remove operators that change nothing.

    graphsurgeon evaluates the constant part in ONNX Runtime; only that part is exported, so the weights of the network
    are neither copied nor serialised. Then nodes that do nothing are removed: Identity, inference Dropout, one-input
    Concat, zero Pad, and Cast, Reshape, Flatten, Squeeze, Unsqueeze, Expand and Transpose whose result equals their
    input. A chain of reshapes becomes its last shape, a pair of transposes one permutation, and a Cast after a widening
    Cast reads the tensor before it.

    Before: ``y = Reshape(Flatten(x), Concat(Gather(Shape(x), 0), [-1]))``
    After:  ``y = Reshape(x, [1, 4420])``, or nothing if x already has that shape
    """
    graph, notes = detector.graph, []
    nodes = list(graph.nodes)
    type_float_constants(graph)
    infer_shapes(graph)
    try:
        # Before cleanup: the other order leaves Constant nodes without outputs, which the ONNX checker refuses.
        # Not in branches: graphsurgeon 0.6.1 passes each to ONNX Runtime with an IR version that it may not support.
        graph.fold_constants(error_ok=False, should_exclude_node=_not_evaluable, recurse_subgraphs=False)
    except Exception as error:  # any error of ONNX Runtime: the network stays valid, only unfolded
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        notes.append(Note("", "constants-not-folded", f"evaluating the constant part failed: {reason}"))
    _keep_constant_outputs(graph)
    graph.cleanup().toposort()
    if not _same_nodes(nodes, graph.nodes):
        infer_shapes(graph)
    edits = 0
    while swept := sum(_simplify(graph, node) for node in graph.nodes):
        edits += swept
        graph.cleanup()
    if edits:
        infer_shapes(graph)
    return Result(detector, bool(edits) or len(graph.nodes) != len(nodes), tuple(notes))


def _same_nodes(before: Sequence[gs.Node], after: Sequence[gs.Node]) -> bool:
    """Return whether nothing was folded, added or sorted, so that the shapes are known already."""
    return len(before) == len(after) and all(old is new for old, new in zip(before, after, strict=True))


def _not_evaluable(node: gs.Node) -> bool:
    """Return whether a node is a plugin, which ONNX Runtime lacks, or a random source, which has no fixed value."""
    domain = node.domain if node.domain not in (None, "ai.onnx") else ""
    return not onnx.defs.has(node.op, domain) or (not node.inputs and node.op != "Constant")


def _keep_constant_outputs(graph: gs.Graph) -> None:
    """Add an Identity before outputs that became constants: TensorRT needs a node to write every output."""
    for index, output in enumerate(graph.outputs):
        if isinstance(output, gs.Constant):
            name = output.name
            variable = gs.Variable(name, dtype=output.dtype, shape=list(output.shape))
            output.name = fresh_name(graph, f"{name}_value")
            graph.outputs[index] = variable
            graph.nodes.append(gs.Node("Identity", f"{name}_identity", inputs=[output], outputs=[variable]))


def _simplify(graph: gs.Graph, node: gs.Node) -> int:
    """Shorten the chain that ends in ``node``, then remove the node if it does nothing; return the number of edits."""
    if node.domain not in (None, "", "ai.onnx") or not node.inputs or not node.outputs:
        return 0
    shorten = {"Transpose": _join_transposes, "Cast": _join_casts}.get(node.op)
    if node.op in _RESHAPERS:
        shorten = _join_reshapes
    edits = int(shorten is not None and shorten(graph, node))
    does_nothing = _DOES_NOTHING.get(node.op)
    return edits + int(does_nothing is not None and does_nothing(node) and bypass(graph, node, node.inputs[0]))


def _join_transposes(graph: gs.Graph, node: gs.Node) -> bool:
    inner = producer(node.inputs[0])
    if inner is None or inner.op != "Transpose" or "perm" not in inner.attrs or "perm" not in node.attrs:
        return False
    node.attrs["perm"] = [inner.attrs["perm"][axis] for axis in node.attrs["perm"]]
    node.inputs[0] = inner.inputs[0]
    return True


def _join_casts(graph: gs.Graph, node: gs.Node) -> bool:
    inner = producer(node.inputs[0])
    if inner is None or inner.op != "Cast":
        return False
    first, middle = inner.inputs[0].dtype, inner.outputs[0].dtype
    if first is None or middle is None or not np.can_cast(first, middle, casting="safe"):
        return False
    node.inputs[0] = inner.inputs[0]
    return True


def _join_reshapes(graph: gs.Graph, node: gs.Node) -> bool:
    inner, shape = producer(node.inputs[0]), static_shape(node.outputs[0])
    if inner is None or inner.op not in _RESHAPERS or shape is None or 0 in shape:
        return False
    source = inner.inputs[0]
    if node.op != "Reshape":
        node.op, node.attrs = "Reshape", {}
    node.attrs.pop("allowzero", None)
    target = gs.Constant(fresh_name(graph, f"{node.outputs[0].name}_shape"), np.array(shape, dtype=np.int64))
    node.inputs = [source, target]
    return True


def _same_shape(node: gs.Node) -> bool:
    shape = static_shape(node.inputs[0])
    return shape is not None and shape == static_shape(node.outputs[0])


def _same_type(node: gs.Node) -> bool:
    dtype = node.inputs[0].dtype
    return dtype is not None and onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) == node.attrs["to"]


def _identity_permutation(node: gs.Node) -> bool:
    perm = node.attrs.get("perm")
    return perm is not None and list(perm) == list(range(len(perm)))


def _inference_dropout(node: gs.Node) -> bool:
    mask_read = len(node.outputs) > 1 and bool(node.outputs[1].outputs)
    if mask_read or len(node.inputs) < 3 or node.inputs[2].is_empty():
        return not mask_read
    training = constant_values(node.inputs[2])
    return training is not None and not training.any()


def _zero_pad(node: gs.Node) -> bool:
    pads = constant_values(node.inputs[1]) if len(node.inputs) > 1 else np.array(node.attrs.get("pads", [1]))
    return pads is not None and not pads.any()


_DOES_NOTHING: dict[str, Callable[[gs.Node], bool]] = {
    "Identity": lambda node: True,
    "Dropout": _inference_dropout,
    "Concat": lambda node: len(node.inputs) == 1,
    "Pad": _zero_pad,
    "Cast": _same_type,
    "Transpose": _identity_permutation,
    "Expand": _same_shape,
    **dict.fromkeys(_RESHAPERS, _same_shape),
}

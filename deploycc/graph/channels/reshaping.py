"""Rewriting the numbers in a graph that state a shape or a channel count, after channels were removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.channels.groups import ChannelGroups, Labelled
from deploycc.graph.channels.movement_rules import slices
from deploycc.graph.edit import constant_values, set_constant, static_shape


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A graph whose constants are cut and whose variables still have their old shapes.

    Attributes:
        graph: the graph.
        groups: of the graph before the cut.
        gone: [groups.count] whether a group is removed.
    """

    graph: gs.Graph
    groups: ChannelGroups
    gone: np.ndarray

    def labelled(self, tensor: gs.Tensor) -> Labelled | None:
        """Return the groups along a variable's channel axis."""
        return self.groups.tensors.get(tensor.name)

    def shape(self, tensor: gs.Tensor) -> list[int]:
        """Return the new shape of a variable."""
        shape, labelled = list(static_shape(tensor) or ()), self.labelled(tensor)
        if labelled is not None:
            shape[labelled.axis] = int(np.count_nonzero(~self.gone[labelled.groups]))
        return shape

    def changed(self, tensor: gs.Tensor) -> bool:
        """Return whether a variable lost channels."""
        labelled = self.labelled(tensor)
        return labelled is not None and bool(self.gone[labelled.groups].any())


def restate(shrunk: Shrunk, node: gs.Node) -> None:
    """Rewrite the numbers of a node that state shapes of its operands and results."""
    rewrite = _REWRITES.get(node.op)
    if rewrite is not None and any(shrunk.changed(tensor) for tensor in (*node.inputs, *node.outputs)):
        rewrite(shrunk, node)


def _set(shrunk: Shrunk, node: gs.Node, index: int, values: list[int], part: str) -> None:
    name = node.name or node.outputs[0].name
    set_constant(shrunk.graph, node, index, np.array(values, dtype=np.int64), f"{name}_{part}")


def _convolution(shrunk: Shrunk, node: gs.Node) -> None:
    """A depthwise convolution keeps as many groups as input channels; others keep their number of groups."""
    labelled, group = shrunk.labelled(node.inputs[0]), int(node.attrs.get("group", 1))
    if labelled is not None and group == len(labelled.groups):
        node.attrs["group"] = shrunk.shape(node.inputs[0])[1]


def _target_shape(shrunk: Shrunk, node: gs.Node) -> None:
    """Reshape and Expand: the shape of the result, in full."""
    _set(shrunk, node, 1, shrunk.shape(node.outputs[0]), "shape")


def _resize(shrunk: Shrunk, node: gs.Node) -> None:
    """Resize with sizes, which may name only some axes (opset 18); with scales the channel axis has scale 1."""
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        shape = shrunk.shape(node.outputs[0])
        axes = node.attrs.get("axes", range(len(shape)))
        _set(shrunk, node, 3, [shape[axis] for axis in axes], "sizes")


def _split(shrunk: Shrunk, node: gs.Node) -> None:
    """State every size: equal parts need not stay equal."""
    axis = int(node.attrs.get("axis", 0)) % len(static_shape(node.inputs[0]) or ())
    sizes = [shrunk.shape(tensor)[axis] for tensor in node.outputs]
    if shrunk.graph.opset < 13:
        node.attrs["split"] = sizes
    else:
        node.attrs.pop("num_outputs", None)
        _set(shrunk, node, 1, sizes, "sizes")


def _slice(shrunk: Shrunk, node: gs.Node) -> None:
    """Count the channels that are left before and in the cut."""
    labelled, shape = shrunk.labelled(node.inputs[0]), static_shape(node.inputs[0])
    cuts = slices(node, shape or ())
    if labelled is None or shape is None or cuts is None or labelled.axis not in cuts:
        return
    cut = cuts[labelled.axis]
    stays = ~shrunk.gone[labelled.groups]
    start = int(np.count_nonzero(stays[: cut.start]))
    end = int(np.count_nonzero(stays[: cut.stop]))
    where = [int(axis) % len(shape) for axis in _slice_axes(node)].index(labelled.axis)
    if "starts" in node.attrs:
        node.attrs["starts"] = [start if i == where else v for i, v in enumerate(node.attrs["starts"])]
        node.attrs["ends"] = [end if i == where else v for i, v in enumerate(node.attrs["ends"])]
        return
    for index, value, part in ((1, start, "starts"), (2, end, "ends")):
        values = np.array(constant_values(node.inputs[index]))
        values[where] = value
        _set(shrunk, node, index, values.tolist(), part)
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        _set(shrunk, node, 3, list(_slice_axes(node)), "axes")  # one integer type for all operands
    if len(node.inputs) > 4 and not node.inputs[4].is_empty():
        _set(shrunk, node, 4, np.array(constant_values(node.inputs[4])).tolist(), "steps")


def _slice_axes(node: gs.Node) -> list[int]:
    if "starts" in node.attrs:
        return list(node.attrs.get("axes", range(len(node.attrs["starts"]))))
    axes = constant_values(node.inputs[3]) if len(node.inputs) > 3 and not node.inputs[3].is_empty() else None
    starts = constant_values(node.inputs[1])
    return list(range(0 if starts is None else len(starts))) if axes is None else [int(axis) for axis in axes]


def _gather(shrunk: Shrunk, node: gs.Node) -> None:
    """Renumber the remaining indices among the remaining channels."""
    labelled, indices = shrunk.labelled(node.inputs[0]), constant_values(node.inputs[1])
    if labelled is None or indices is None or indices.ndim != 1:
        return
    if int(node.attrs.get("axis", 0)) % len(static_shape(node.inputs[0]) or ()) == labelled.axis:
        position = np.cumsum(~shrunk.gone[labelled.groups]) - 1
        # `indices` are an operand, so they are cut already; the channels that they name remain.
        _set(shrunk, node, 1, position[indices].tolist(), "indices")


_REWRITES: dict[str, Callable[[Shrunk, gs.Node], None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Reshape": _target_shape,
    "Expand": _target_shape,
    "Resize": _resize,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
}

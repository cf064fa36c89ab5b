"""Attributes whose value changes nothing, although it is not the default."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from deploycc.graph.edit import static_shape


def changes_nothing(node: gs.Node, attribute: str) -> bool:
    """Return whether a node computes the same without this attribute.

    Args:
        node: its shapes are inferred.
        attribute: one that it has.
    """
    value = node.attrs[attribute]
    if attribute in ("dilations", "strides"):
        return all(step == 1 for step in value)
    if attribute == "pads":
        return not any(value)
    if attribute == "ceil_mode":
        return not value or _divides(node)
    return False


def _divides(node: gs.Node) -> bool:
    """Return whether the windows of a pooling fit without a rest, so that rounding up is rounding down."""
    shape, kernel = static_shape(node.inputs[0]), node.attrs.get("kernel_shape")
    if shape is None or not kernel or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    spatial = len(kernel)
    pads = node.attrs.get("pads", [0] * 2 * spatial)
    strides, dilations = (node.attrs.get(name, [1] * spatial) for name in ("strides", "dilations"))
    reach = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True)]
    rests = [
        (size + pads[axis] + pads[axis + spatial] - reach[axis]) % strides[axis] for axis, size in enumerate(shape[2:])
    ]
    return not any(rests)

"""Padding that ONNX leaves to the runtime (``auto_pad``), in numbers."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from deploycc.graph.edit import static_shape
from deploycc.graph.half import all_nodes


def pad_dilated_convolutions(graph: gs.Graph) -> None:
    """Give convolutions with dilations and ``SAME`` padding their pads, in place: ONNX Runtime refuses the words.

    Args:
        graph: with its shapes inferred.
    """
    for node in all_nodes(graph):
        auto_pad = node.attrs.get("auto_pad", "NOTSET")
        if node.op == "Conv" and auto_pad.startswith("SAME") and max(node.attrs.get("dilations") or [1]) > 1:
            pads = explicit_pads(node, auto_pad)
            if pads is not None:
                del node.attrs["auto_pad"]
                node.attrs["pads"] = pads


def explicit_pads(node: gs.Node, auto_pad: str) -> list[int] | None:
    """Return the pads of SAME_UPPER, SAME_LOWER or VALID (ONNX, Conv): output = ceil(input / stride) for SAME.

    Args:
        node: a convolution or pooling.
        auto_pad: its mode.

    Returns:
        First the pads before, then those after each axis, in pixels; None where the input's size is open.
    """
    shape = static_shape(node.inputs[0])
    kernel = node.attrs.get("kernel_shape") or (static_shape(node.inputs[1]) or ())[2:]
    if shape is None or not kernel or node.attrs.get("ceil_mode", 0):
        return None
    spatial = len(kernel)
    strides, dilations = node.attrs.get("strides", [1] * spatial), node.attrs.get("dilations", [1] * spatial)
    first, last = [], []
    for size, taps, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
        reach = (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1
        total = max(reach - size, 0) if auto_pad != "VALID" else 0
        smaller, larger = total // 2, total - total // 2
        first.append(smaller if auto_pad == "SAME_UPPER" else larger)
        last.append(larger if auto_pad == "SAME_UPPER" else smaller)
    return first + last

"""Rules that write an operator as the operator set before means it.

One function per change of a definition that is more than new types or new attributes with harmless defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, fresh_name, set_constant, static_shape

Rule = Callable[[gs.Graph, gs.Node], bool]
"""Rewrites a node for the previous version, in place; returns False, with the node unchanged, if it cannot."""

RULES: dict[tuple[str, int], Rule] = {}
"""Operator and the version that changed it, to the rule."""


def _rule(version: int, *ops: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update({(op, version): function for op in ops})
        return function

    return register


def _constant_input(node: gs.Node, index: int) -> NDArray[Any] | None:
    present = index < len(node.inputs) and not node.inputs[index].is_empty()
    return constant_values(node.inputs[index]) if present else None


def _absent(node: gs.Node, index: int) -> bool:
    return index >= len(node.inputs) or node.inputs[index].is_empty()


_KEEP_ONE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")  # of one element: that element
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


@_rule(18, *(f"Reduce{kind}" for kind in _REDUCTIONS))
@_rule(13, "ReduceSum", "Squeeze", "Unsqueeze")
def _axes_as_attribute(graph: gs.Graph, node: gs.Node) -> bool:
    axes = _constant_input(node, 1)
    if axes is None and not _absent(node, 1):
        return False
    if node.attrs.pop("noop_with_empty_axes", 0) and (axes is None or not axes.size):
        if node.op not in _KEEP_ONE:
            return False
        node.op, node.attrs, node.inputs = "Identity", {}, node.inputs[:1]
        return True
    if axes is not None and axes.size:
        node.attrs["axes"] = [int(axis) for axis in axes.reshape(-1)]
    node.inputs = node.inputs[:1]
    return True


@_rule(18, "Split")
def _split_sizes(graph: gs.Graph, node: gs.Node) -> bool:
    if "num_outputs" in node.attrs:
        shapes = [static_shape(tensor) for tensor in node.outputs]
        axis = node.attrs.get("axis", 0)
        sizes = np.array([shape[axis] for shape in shapes if shape is not None], dtype=np.int64)
        if len(sizes) != len(node.outputs):
            return False
        node.attrs.pop("num_outputs")
        node.inputs = [node.inputs[0], gs.Constant(fresh_name(graph, f"{node.outputs[0].name}_split"), sizes)]
    return True


@_rule(13, "Split")
def _split_as_attribute(graph: gs.Graph, node: gs.Node) -> bool:
    sizes = _constant_input(node, 1)
    if sizes is None and not _absent(node, 1):
        return False
    if sizes is not None:
        node.attrs["split"] = [int(size) for size in sizes]
        node.inputs = node.inputs[:1]
    return True


@_rule(11, "Clip")
def _bounds_as_attributes(graph: gs.Graph, node: gs.Node) -> bool:
    bounds = {"min": _constant_input(node, 1), "max": _constant_input(node, 2)}
    if any(value is None and not _absent(node, index) for index, value in enumerate(bounds.values(), start=1)):
        return False
    if node.inputs[0].dtype not in (None, np.float32, np.float16):
        return False
    node.attrs.update({name: float(value.reshape(())) for name, value in bounds.items() if value is not None})
    node.inputs = node.inputs[:1]
    return True


@_rule(11, "Pad")
def _pads_as_attribute(graph: gs.Graph, node: gs.Node) -> bool:
    pads, value = _constant_input(node, 1), _constant_input(node, 2)
    if pads is None or (value is None and not _absent(node, 2)):
        return False
    node.attrs["pads"] = [int(pad) for pad in pads]
    if value is not None:
        node.attrs["value"] = float(value.reshape(()))
    node.inputs = node.inputs[:1]
    return True


@_rule(18, "Pad")
def _pad_every_axis(graph: gs.Graph, node: gs.Node) -> bool:
    if _absent(node, 3):
        node.inputs = node.inputs[:3]
        return True
    pads, axes, rank = _constant_input(node, 1), _constant_input(node, 3), len(node.inputs[0].shape or ())
    if pads is None or axes is None or not rank:
        return False
    every = np.zeros((2, rank), np.int64)
    every[:, axes % rank] = pads.reshape(2, -1)
    set_constant(graph, node, 1, every.reshape(-1), f"{node.outputs[0].name}_pads")
    node.inputs = node.inputs[:3]
    return True


@_rule(19, "Pad")
def _pad_without_wrap(graph: gs.Graph, node: gs.Node) -> bool:
    return bool(node.attrs.get("mode", "constant") != "wrap")


@_rule(13, "Softmax", "LogSoftmax", "Hardmax")
def _softmax_over_flattened(graph: gs.Graph, node: gs.Node) -> bool:
    """Before opset 13 the axis and all later ones were flattened: transpose unless the later ones have one element."""
    shape = static_shape(node.inputs[0])
    if shape is None:
        return False
    axis = node.attrs.get("axis", -1) % len(shape)
    node.attrs["axis"] = axis
    if all(dim == 1 for dim in shape[axis + 1 :]):
        return True
    last = len(shape) - 1
    perm = list(range(len(shape)))
    perm[axis], perm[last] = last, axis
    swapped_shape = [shape[i] for i in perm]
    source, result, stem = node.inputs[0], node.outputs[0], node.outputs[0].name
    swapped = gs.Variable(fresh_name(graph, f"{stem}_swapped"), dtype=source.dtype, shape=swapped_shape)
    normalised = gs.Variable(fresh_name(graph, f"{stem}_softmax"), dtype=source.dtype, shape=swapped_shape)
    scope = _scope(graph, node)
    scope.nodes.append(gs.Node("Transpose", f"{node.name}_swap", {"perm": perm}, [source], [swapped]))
    node.inputs, node.outputs, node.attrs["axis"] = [swapped], [normalised], last
    scope.nodes.append(gs.Node("Transpose", f"{node.name}_swap_back", {"perm": list(perm)}, [normalised], [result]))
    return True


def _scope(graph: gs.Graph, node: gs.Node) -> gs.Graph:
    """Return the graph or subgraph that holds the node."""
    return next(scope for scope in (graph, *graph.subgraphs(recursive=True)) if any(n is node for n in scope.nodes))


@_rule(10, "Slice")
def _slice_as_attributes(graph: gs.Graph, node: gs.Node) -> bool:
    starts, ends, axes, steps = (_constant_input(node, index) for index in range(1, 5))
    missing = any(_constant_input(node, i) is None and not _absent(node, i) for i in range(1, 5))
    rank = len(node.inputs[0].shape or ())
    if missing or starts is None or ends is None or (steps is not None and (steps != 1).any()) or not rank:
        return False
    node.attrs["starts"], node.attrs["ends"] = [int(v) for v in starts], [int(v) for v in ends]
    if axes is not None:
        node.attrs["axes"] = [int(axis) % rank for axis in axes]
    node.inputs = node.inputs[:1]
    return True


@_rule(10, "TopK")
def _k_as_attribute(graph: gs.Graph, node: gs.Node) -> bool:
    count = _constant_input(node, 1)
    if count is None:
        return False
    node.attrs["k"] = int(count.reshape(()))
    node.inputs = node.inputs[:1]
    return True


@_rule(11, "Gemm")
def _gemm_with_bias(graph: gs.Graph, node: gs.Node) -> bool:
    if _absent(node, 2):
        zero = np.zeros(1, dtype=node.inputs[0].dtype or np.float32)
        node.inputs = [*node.inputs[:2], gs.Constant(fresh_name(graph, f"{node.outputs[0].name}_bias"), zero)]
    return True


@_rule(14, "HardSwish")
def _hard_swish(graph: gs.Graph, node: gs.Node) -> bool:
    """Write ``x * HardSigmoid(x, 1/6, 1/2)``, the ONNX definition."""
    source, result = node.inputs[0], node.outputs[0]
    gate = gs.Variable(fresh_name(graph, f"{result.name}_gate"), dtype=source.dtype, shape=source.shape)
    scope = _scope(graph, node)
    node.op, node.attrs, node.outputs = "HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}, [gate]
    scope.nodes.append(gs.Node("Mul", f"{node.name}_mul", inputs=[source, gate], outputs=[result]))
    return True


@_rule(14, "BatchNormalization")
def _inference_batch_norm(graph: gs.Graph, node: gs.Node) -> bool:
    if node.attrs.get("training_mode", 0) or any(not tensor.is_empty() for tensor in node.outputs[1:]):
        return False
    node.attrs.pop("training_mode", None)
    return True


@_rule(19, "Resize")
def _resize_without_symmetry(graph: gs.Graph, node: gs.Node) -> bool:
    return bool(node.attrs.get("coordinate_transformation_mode") != "half_pixel_symmetric")


@_rule(13, "Resize")
def _resize_with_all_operands(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 11 requires the region and the scales, if only as empty tensors."""
    for index, kind in ((1, "roi"), (2, "scales")):
        if _absent(node, index):
            set_constant(graph, node, index, np.zeros(0, dtype=np.float32), f"{node.outputs[0].name}_{kind}")
    return True


@_rule(11, "Resize")
def _resize_by_scales(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 10 has one form: asymmetric coordinates, rounded down when enlarging."""
    scales, before, after = _constant_input(node, 2), static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return False
    if scales is None or not scales.size:
        scales = np.array(after, dtype=np.float32) / np.array(before, dtype=np.float32)
    mode = node.attrs.get("mode", "nearest")
    plain = node.attrs.get("coordinate_transformation_mode", "half_pixel") == "asymmetric"
    floors = mode == "linear" or node.attrs.get("nearest_mode", "round_prefer_floor") == "floor"
    if not plain or not floors or mode == "cubic" or (scales < 1).any():
        return False
    constant = gs.Constant(fresh_name(graph, f"{node.outputs[0].name}_scales"), scales.astype(np.float32))
    node.attrs, node.inputs = {"mode": mode}, [node.inputs[0], constant]
    return True


@_rule(18, "Resize")
def _resize_every_axis(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 18 added a choice of axes, aspect ratios, and antialiasing, which does nothing while enlarging."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return False
    shrinks = any(small < large for small, large in zip(after, before, strict=True))
    if node.attrs.get("antialias", 0) and shrinks:
        return False
    axes = node.attrs.get("axes")
    by_size = not _absent(node, 3)
    if by_size and node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    if axes is not None:
        given = _constant_input(node, 3 if by_size else 2)
        if given is None or node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
            return False
        every = np.array(before, np.int64) if by_size else np.ones(len(before), np.float32)
        every[[axis % len(before) for axis in axes]] = given
        set_constant(graph, node, 3 if by_size else 2, every, f"{node.outputs[0].name}_target")
    for name in ("antialias", "axes", "keep_aspect_ratio_policy"):
        node.attrs.pop(name, None)
    return True


@_rule(14, "Reshape")
def _reshape_without_zeros(graph: gs.Graph, node: gs.Node) -> bool:
    """``allowzero`` decides what a 0 in the shape means: nothing where there is none."""
    if not node.attrs.get("allowzero", 0):
        node.attrs.pop("allowzero", None)
        return True
    shape, result = _constant_input(node, 1), static_shape(node.outputs[0])
    if shape is None and result is None:
        return False
    if 0 in (list(shape) if shape is not None else result or ()):
        return False
    node.attrs.pop("allowzero")
    return True


@_rule(21, "GroupNormalization")
def _scale_per_channel(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 18 scaled groups instead of channels, and is deprecated."""
    return False


@_rule(16, "RoiAlign")
def _roi_align_between_pixels(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 16 made half pixels the default."""
    return bool(node.attrs.pop("coordinate_transformation_mode", "half_pixel") == "output_half_pixel")


@_rule(20, "GridSample")
def _grid_of_pictures(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 20 renamed the modes and added volumes."""
    if len(node.inputs[0].shape or ()) != 4:
        return False
    mode = node.attrs.get("mode", "linear")
    node.attrs["mode"] = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return True


@_rule(8, "Max", "Min", "Mean", "Sum")
def _equal_shapes(graph: gs.Graph, node: gs.Node) -> bool:
    shapes = {static_shape(tensor) for tensor in node.inputs}
    return len(shapes) == 1 and None not in shapes


@_rule(12, "Dropout")
def _inference_dropout(graph: gs.Graph, node: gs.Node) -> bool:
    ratio, training = _constant_input(node, 1), _constant_input(node, 2)
    if not _absent(node, 2) and (training is None or training.any()):
        return False
    if ratio is not None:
        node.attrs["ratio"] = float(ratio.reshape(()))
    node.attrs.pop("seed", None)
    node.inputs = node.inputs[:1]
    return _absent(node, 1)

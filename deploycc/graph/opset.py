"""Lowering a network's operator set, one version at a time, only if the result is provably the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, fresh_name, set_constant, static_shape
from deploycc.graph.half import all_nodes, formal, schema_of

OLDEST = 7  # before it, broadcasting was an attribute

Rule = Callable[[gs.Graph, gs.Node], bool]
"""Rewrites a node for the previous version, in place; returns False, with the node unchanged, if it cannot."""

_RULES: dict[tuple[str, int], Rule] = {}


def lower_opset(graph: gs.Graph, target: int) -> tuple[gs.Graph, list[tuple[gs.Node, str]]]:
    """Step down towards ``target`` as far as every node allows.

    A node needs no change for the previous version if its definition did not change, or changed only in types that it
    does not use and in attributes that it leaves at their defaults; otherwise a rule rewrites it.

    Returns:
        A copy of the graph in the lowest operator set reached (the graph itself if none is lower), and the nodes that
        stopped it, with the reason.
    """
    while graph.opset > target:
        version = graph.opset
        attempt = graph.copy()
        if version <= OLDEST:
            return graph, [(node, f"opset {OLDEST} is the oldest supported") for node in graph.nodes[:1]]
        stuck = [node for node in list(all_nodes(attempt)) if not _lower_node(attempt, node, version)]
        if stuck:
            reason = f"of opset {version} has no exact equivalent in opset {version - 1}"
            return graph, [(node, f"{node.op} {reason}") for node in stuck]
        _set_opset(attempt, version - 1)
        graph = attempt.cleanup().toposort()
    return graph, []


def _set_opset(graph: gs.Graph, version: int) -> None:
    for scope in (graph, *graph.subgraphs(recursive=True)):
        scope.opset = version
    others = [opset for opset in graph.import_domains or () if opset.domain not in ("", "ai.onnx")]
    graph.import_domains = [onnx.helper.make_opsetid("", version), *others]  # what graphsurgeon writes to the file


def _rule(version: int, *ops: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update({(op, version): function for op in ops})
        return function

    return register


def _lower_node(graph: gs.Graph, node: gs.Node, version: int) -> bool:
    new = schema_of(node, version)
    if new is None or new.since_version < version:
        return True  # a plugin, or unchanged in this version
    if version == 11 and not _count_axes_from_front(node):
        return False
    rule = _RULES.get((node.op, version))
    if rule is not None:
        return rule(graph, node)
    old = schema_of(node, version - 1)
    return old is not None and _same_meaning(node, new, old)


def _same_meaning(node: gs.Node, new: onnx.defs.OpSchema, old: onnx.defs.OpSchema) -> bool:
    """Return whether the older definition means the same; drop new attributes that only state their default."""
    redundant: list[str] = []
    for name, attribute in new.attributes.items():
        default = onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        default = default.decode() if isinstance(default, bytes) else default
        if name not in old.attributes:
            if name in node.attrs and node.attrs[name] != default:
                return False
            redundant.append(name)
        elif old.attributes[name].default_value != attribute.default_value and name not in node.attrs:
            return False
    if any(name not in new.attributes and name not in old.attributes for name in node.attrs):
        return False
    sides = ((node.inputs, new.inputs, old.inputs), (node.outputs, new.outputs, old.outputs))
    for tensors, new_parameters, old_parameters in sides:
        for index, tensor in enumerate(tensors):
            before, after = formal(list(old_parameters), index), formal(list(new_parameters), index)
            optional = before is None or before.option != onnx.defs.OpSchema.FormalParameterOption.Single
            if tensor.is_empty() and optional:
                continue
            if before is None or after is None or before.name != after.name or not _allows(before, tensor):
                return False
    if len(node.inputs) < old.min_input:
        return False
    for name in redundant:
        node.attrs.pop(name, None)
    return True


def _allows(parameter: onnx.defs.OpSchema.FormalParameter, tensor: gs.Tensor) -> bool:
    if tensor.dtype is None:
        return True
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return f"tensor({onnx.TensorProto.DataType.Name(number).lower()})" in parameter.types


def _count_axes_from_front(node: gs.Node) -> bool:
    """Make axes non-negative: negative ones came with opset 11."""
    for name in ("axis", "axes"):
        value = node.attrs.get(name)
        axes = [value] if isinstance(value, int) else list(value or ())
        if any(axis < 0 for axis in axes):
            tensor = node.outputs[0] if node.op == "Unsqueeze" else node.inputs[0]
            if tensor.shape is None:
                return False
            axes = [axis + len(tensor.shape) if axis < 0 else axis for axis in axes]
            node.attrs[name] = axes[0] if isinstance(value, int) else axes
    return True


def _constant_input(node: gs.Node, index: int) -> NDArray[Any] | None:
    present = index < len(node.inputs) and not node.inputs[index].is_empty()
    return constant_values(node.inputs[index]) if present else None


def _absent(node: gs.Node, index: int) -> bool:
    return index >= len(node.inputs) or node.inputs[index].is_empty()


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


@_rule(18, *(f"Reduce{kind}" for kind in _REDUCTIONS))
@_rule(13, "ReduceSum", "Squeeze", "Unsqueeze")
def _axes_as_attribute(graph: gs.Graph, node: gs.Node) -> bool:
    axes = _constant_input(node, 1)
    if axes is None and (not _absent(node, 1) or node.attrs.get("noop_with_empty_axes", 0)):
        return False
    node.attrs.pop("noop_with_empty_axes", None)
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


@_rule(19, "Pad")
def _pad_without_wrap(graph: gs.Graph, node: gs.Node) -> bool:
    return bool(node.attrs.get("mode", "constant") != "wrap")


@_rule(13, "Softmax", "LogSoftmax")
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

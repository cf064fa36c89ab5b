"""Lowering a network's operator set, one version at a time, only where the meaning provably stays."""

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
"""Respells a node for the version before, in place; False, with the node unchanged, where it cannot."""

_RULES: dict[tuple[str, int], Rule] = {}


def lower_opset(graph: gs.Graph, target: int) -> tuple[gs.Graph, list[tuple[gs.Node, str]]]:
    """Step down towards ``target`` as far as every node can follow.

    From one version to the one before, a node keeps its spelling where its definition did not change, or changed only
    by types it does not use and by attributes it leaves at their default; otherwise a rule respells it.

    Returns:
        A copy of the graph in the lowest operator set reached (the graph itself where none is lower), and the nodes
        that stopped it with the reason.
    """
    while graph.opset > target:
        version = graph.opset
        attempt = graph.copy()
        if version <= OLDEST:
            return graph, [(node, f"opset {OLDEST} is the oldest that is written") for node in graph.nodes[:1]]
        stuck = [node for node in list(all_nodes(attempt)) if not _lower_node(attempt, node, version)]
        if stuck:
            reason = f"of opset {version} has no exact spelling in opset {version - 1}"
            return graph, [(node, f"{node.op} {reason}") for node in stuck]
        _set_opset(attempt, version - 1)
        graph = attempt.cleanup().toposort()
    return graph, []


def _set_opset(graph: gs.Graph, version: int) -> None:
    for each in (graph, *graph.subgraphs(recursive=True)):
        each.opset = version
    others = [each for each in graph.import_domains or () if each.domain not in ("", "ai.onnx")]
    graph.import_domains = [onnx.helper.make_opsetid("", version), *others]  # what graphsurgeon writes to the file


def _rule(version: int, *ops: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update({(op, version): function for op in ops})
        return function

    return register


def _lower_node(graph: gs.Graph, node: gs.Node, version: int) -> bool:
    new = schema_of(node, version)
    if new is None or new.since_version < version:
        return True  # a plugin, or not defined anew in this version
    if version == 11 and not _count_axes_from_front(node):
        return False
    rule = _RULES.get((node.op, version))
    if rule is not None:
        return rule(graph, node)
    old = schema_of(node, version - 1)
    return old is not None and _same_meaning(node, new, old)


def _same_meaning(node: gs.Node, new: onnx.defs.OpSchema, old: onnx.defs.OpSchema) -> bool:
    """Whether the older definition reads the node the same; drops attributes that only say the default."""
    spare: list[str] = []
    for name, attribute in new.attributes.items():
        default = onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        default = default.decode() if isinstance(default, bytes) else default
        if name not in old.attributes:
            if name in node.attrs and node.attrs[name] != default:
                return False
            spare.append(name)
        elif old.attributes[name].default_value != attribute.default_value and name not in node.attrs:
            return False
    if any(name not in new.attributes and name not in old.attributes for name in node.attrs):
        return False
    for tensors, news, olds in ((node.inputs, new.inputs, old.inputs), (node.outputs, new.outputs, old.outputs)):
        for index, tensor in enumerate(tensors):
            was, now = formal(list(olds), index), formal(list(news), index)
            if tensor.is_empty() and (was is None or was.option != onnx.defs.OpSchema.FormalParameterOption.Single):
                continue
            if was is None or now is None or was.name != now.name or not _allows(was, tensor):
                return False
    if len(node.inputs) < old.min_input:
        return False
    for name in spare:
        node.attrs.pop(name, None)
    return True


def _allows(parameter: onnx.defs.OpSchema.FormalParameter, tensor: gs.Tensor) -> bool:
    if tensor.dtype is None:
        return True
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return f"tensor({onnx.TensorProto.DataType.Name(number).lower()})" in parameter.types


def _count_axes_from_front(node: gs.Node) -> bool:
    """Axes that count from the back came with opset 11."""
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
    """Before 13, the axis and all behind it were one: the same where those behind have one element, else transpose."""
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
    swapped = [shape[i] for i in perm]
    source, result, stem = node.inputs[0], node.outputs[0], node.outputs[0].name
    ahead = gs.Variable(fresh_name(graph, f"{stem}_swapped"), dtype=source.dtype, shape=swapped)
    behind = gs.Variable(fresh_name(graph, f"{stem}_softmax"), dtype=source.dtype, shape=swapped)
    home = next(each for each in (graph, *graph.subgraphs(recursive=True)) if any(n is node for n in each.nodes))
    home.nodes.append(gs.Node("Transpose", f"{node.name}_swap", {"perm": perm}, [source], [ahead]))
    node.inputs, node.outputs, node.attrs["axis"] = [ahead], [behind], last
    home.nodes.append(gs.Node("Transpose", f"{node.name}_swap_back", {"perm": list(perm)}, [behind], [result]))
    return True


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
    """``x * HardSigmoid(x, 1/6, 1/2)``, which is how ONNX defines it."""
    source, result = node.inputs[0], node.outputs[0]
    gate = gs.Variable(fresh_name(graph, f"{result.name}_gate"), dtype=source.dtype, shape=source.shape)
    home = next(each for each in (graph, *graph.subgraphs(recursive=True)) if any(n is node for n in each.nodes))
    node.op, node.attrs, node.outputs = "HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}, [gate]
    home.nodes.append(gs.Node("Mul", f"{node.name}_mul", inputs=[source, gate], outputs=[result]))
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
    """Opset 11 wants the region and the scales present, if only as empty tensors."""
    for index, kind in ((1, "roi"), (2, "scales")):
        if _absent(node, index):
            set_constant(graph, node, index, np.zeros(0, dtype=np.float32), f"{node.outputs[0].name}_{kind}")
    return True


@_rule(11, "Resize")
def _resize_by_scales(graph: gs.Graph, node: gs.Node) -> bool:
    """Opset 10 knows one form: asymmetric coordinates, rounded down when enlarging."""
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

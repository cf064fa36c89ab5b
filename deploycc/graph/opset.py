"""Lowering a network's operator set, one version at a time, only if the result is provably the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.graph.expansions import expand
from deploycc.graph.half import all_nodes, formal, schema_of
from deploycc.graph.neutral_attributes import changes_nothing
from deploycc.graph.opset_rules import RULES

OLDEST = 7  # before it, broadcasting was an attribute


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


def _lower_node(graph: gs.Graph, node: gs.Node, version: int) -> bool:
    new = schema_of(node, version)
    if new is None or new.since_version < version:
        return True  # a plugin, or unchanged in this version
    if version == 11 and not _count_axes_from_front(node):
        return False
    rule = RULES.get((node.op, version))
    if rule is not None:
        return rule(graph, node)
    old = schema_of(node, version - 1)
    return expand(graph, node) if old is None else _same_meaning(node, new, old)


def _same_meaning(node: gs.Node, new: onnx.defs.OpSchema, old: onnx.defs.OpSchema) -> bool:
    """Return whether the older definition means the same; drop new attributes that only state their default."""
    redundant: list[str] = []
    for name, attribute in new.attributes.items():
        default = onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        default = default.decode() if isinstance(default, bytes) else default
        if name not in old.attributes:
            if name in node.attrs and node.attrs[name] != default and not changes_nothing(node, name):
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

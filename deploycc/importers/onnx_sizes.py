"""Checks of an imported graph's shapes: what is too large to run, and operands that do not fit together."""

from __future__ import annotations

import math
import re
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from deploycc.errors import ModelError
from deploycc.graph.edit import static_shape
from deploycc.graph.shapes import without_weights_as_onnx
from deploycc.importers.onnx_tensors import graphs

LARGEST = 1 << 28
"""Elements of one tensor: 1 GiB in FP32, more than a board can hold twice."""

_WRONG_NODE = re.compile(r"\(op_type:(\w+), node name: (.*?)\): (?:\[\w+\] )?(.*)")
_BROADCASTS = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu")


def check_sizes(graph: gs.Graph, path: Path) -> None:
    """Refuse tensors that are too large, before anything of their size is allocated.

    Raises:
        ModelError: ``onnx-too-large``, ``onnx-shapes``.
    """
    for tensor in graph.tensors().values():
        shape = static_shape(tensor)
        if shape is None:
            continue
        if min(shape, default=0) < 0:
            raise ModelError(
                "onnx-shapes",
                "the shapes inside the network contradict one another",
                context={"file": path, "tensor": tensor.name, "shape": list(shape)},
                note="a size is negative: attributes ask for more than their input has",
            )
        if math.prod(shape) > LARGEST:
            node = tensor.inputs[0].name if tensor.inputs else None
            raise ModelError(
                "onnx-too-large",
                f"the tensor {tensor.name} has {math.prod(shape):,} elements",
                context={"file": path, **({"node": node} if node else {}), "shape": list(shape)},
                note=f"at most {LARGEST:,} are supported, which take 1 GiB in FP32",
                hint="check the size of the picture and the attributes of the node",
            )


def check_operands(graph: gs.Graph, path: Path) -> None:
    """Refuse nodes whose operands do not fit together, which ONNX's shape inference passes over.

    Raises:
        ModelError: ``onnx-operand-shape``.
    """
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for node in scope.nodes:
            problem = _problem(node)
            if problem is not None:
                raise ModelError(
                    "onnx-operand-shape",
                    f"the operands of {node.op} do not fit together",
                    context={
                        "file": path,
                        "node": node.name,
                        **{tensor.name: list(tensor.shape or ()) for tensor in node.inputs if not tensor.is_empty()},
                    },
                    note=problem,
                )


def check_operators(graph: gs.Graph, path: Path) -> None:
    """Refuse nodes whose attributes or types do not fit what they are given, by ONNX's own rules.

    What the file states of the tensors between nodes is left out, because exporters leave old shapes there.

    Raises:
        ModelError: ``onnx-operator``.
    """
    proto = without_weights_as_onnx(graph)
    for scope in graphs(proto.graph):
        scope.ClearField("value_info")
        _state_axes(scope)
    for output in proto.graph.output:
        output.ClearField("type")
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as reason:
        found = _WRONG_NODE.search(str(reason))
        operator, node, cause = found.groups() if found else ("an operator", None, str(reason).strip())
        raise ModelError(
            "onnx-operator",
            f"{operator} does not fit what it is given",
            context={"file": path, **({"node": node} if node else {})},
            note=cause.strip(),
            hint="export the network again",
        ) from None


def _state_axes(graph: onnx.GraphProto) -> None:
    """Write out the default axes of MeanVarianceNormalization, without which ONNX's inference contradicts itself."""
    for node in graph.node:
        if node.op_type == "MeanVarianceNormalization" and not any(a.name == "axes" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("axes", [0, 2, 3]))


def _problem(node: gs.Node) -> str | None:
    """Return what does not fit; None if everything does, or if a shape is unknown."""
    if node.domain not in (None, "", "ai.onnx"):
        return None
    shapes = [static_shape(tensor) if not tensor.is_empty() else None for tensor in node.inputs]
    if not shapes or shapes[0] is None:
        return None
    first, rest = shapes[0], shapes[1:]
    if node.op in ("Conv", "ConvTranspose"):
        return _convolution(node, first, rest)
    if node.op in ("BatchNormalization", "InstanceNormalization"):
        return _per_channel(first, rest)
    if node.op in _BROADCASTS:
        return _broadcast([shape for shape in shapes if shape is not None], one_way=node.op == "PRelu")
    if node.op == "MatMul" and rest and rest[0] and first:
        wanted = rest[0][-2] if len(rest[0]) > 1 else rest[0][0]
        return None if first[-1] == wanted else f"{first[-1]} columns are multiplied by {wanted} rows"
    if node.op == "Reshape":
        made = static_shape(node.outputs[0])
        if made is not None and math.prod(made) != math.prod(first):
            return f"{math.prod(first)} elements do not fill the shape {list(made)}"
    if node.op == "Gemm" and rest and rest[0] is not None:
        if len(first) != 2 or len(rest[0]) != 2:
            return "both matrices need two axes"
        columns = first[0] if node.attrs.get("transA", 0) else first[1]
        rows = rest[0][1] if node.attrs.get("transB", 0) else rest[0][0]
        return None if columns == rows else f"{columns} columns are multiplied by {rows} rows"
    return None


def _convolution(node: gs.Node, first: tuple[int, ...], rest: list[tuple[int, ...] | None]) -> str | None:
    weight = rest[0] if rest else None
    if weight is None:
        return None
    if len(weight) != len(first) or len(first) < 3:
        return f"weights of {len(weight)} axes do not fit an input of {len(first)}"
    groups = int(node.attrs.get("group", 1))
    transposed = node.op == "ConvTranspose"
    if groups < 1 or weight[0] % groups or first[1] != (weight[0] if transposed else weight[1] * groups):
        return f"the input has {first[1]} channels, and the weights {list(weight)} with {groups} group(s) take others"
    kernel = node.attrs.get("kernel_shape")
    if kernel is not None and list(kernel) != list(weight[2:]):
        return f"kernel_shape is {list(kernel)}, and the weights are {list(weight)}"
    made = weight[1] * groups if transposed else weight[0]
    bias = rest[1] if len(rest) > 1 else None
    return None if bias is None or bias == (made,) else f"{made} kernels have a bias of shape {list(bias)}"


def _per_channel(first: tuple[int, ...], rest: list[tuple[int, ...] | None]) -> str | None:
    channels = first[1] if len(first) > 1 else 1
    wrong = [shape for shape in rest if shape is not None and shape != (channels,)]
    return f"{channels} channels have parameters of shape {list(wrong[0])}" if wrong else None


def _broadcast(shapes: list[tuple[int, ...]], *, one_way: bool) -> str | None:
    rank = max(len(shape) for shape in shapes)
    for axis in range(1, rank + 1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis} - {1}
        if len(sizes) > 1:
            return f"axis {rank - axis} has sizes {sorted(sizes)}, which do not broadcast"
    if one_way and len(shapes) > 1:
        slopes, first = shapes[1], shapes[0]
        if len(slopes) > len(first) or any(s not in (1, f) for s, f in zip(slopes[::-1], first[::-1], strict=False)):
            return f"slopes of shape {list(slopes)} do not broadcast to {list(first)}"
    return None

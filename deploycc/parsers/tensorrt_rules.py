"""Restrictions of TensorRT's ONNX parser on operators that it supports: attributes, inputs, ranks, branches.

A rule is a function registered for operators; it reads one node and yields what the release would refuse. Source of
every limit unless it names another: the restriction column of docs/operators.md on each release branch of
onnx/onnx-tensorrt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.parsers import conditionals
from deploycc.parsers.limits import Limit, computed, constant, rank
from deploycc.parsers.tensorrt_releases import Version


@dataclass(frozen=True)
class Scope:
    """The parser that reads a node.

    Attributes:
        version: TensorRT release.
        opset: operator set that defines the node.
        rtx: TensorRT-RTX, whose measured behaviour takes precedence over the document of the same parser.
    """

    version: Version
    opset: int
    rtx: bool = False


Rule = Callable[[gs.Node, Scope], Iterator[Limit]]
RULES: dict[str, list[Rule]] = {}

MEASURED = "measured with TensorRT-RTX 1.7.1"
REDUCTIONS = tuple(f"Reduce{kind}" for kind in (
    "L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"
))  # fmt: skip


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(function: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(function)
        return function

    return register


def limits(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    """Yield everything that a release refuses of a node whose operator it supports."""
    for function in RULES.get(node.op, ()):
        yield from function(node, scope)


@rule("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
def _spatial_axes(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    dims = rank(node)
    if dims is None:
        return
    if dims not in (3, 4, 5):
        yield Limit(f"its input has {dims} axes; only 2-D and 3-D {node.op} is supported")
    elif dims == 5 and scope.version < (6, 0):
        yield Limit("it is 3-D; only 2-D is supported", "6.0")
    elif dims == 3 and scope.version < (8, 5):
        yield Limit("it is 1-D; only 2-D and 3-D are supported", "8.5")


@rule("Conv", "ConvTranspose")
def _weights(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if computed(node, 1) and scope.version < (8, 5):
        yield Limit("its weights are computed; they must be an initialiser", "8.5")


@rule("MaxPool", "AveragePool", "LpPool")
def _pool_dilations(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if any(d != 1 for d in node.attrs.get("dilations", ())):
        yield Limit(f"its dilations are {list(node.attrs['dilations'])}; they must be 1")


@rule("LpPool", "LpNormalization")
def _norm_order(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if node.attrs.get("p", 2) not in (1, 2):
        yield Limit(f"its p is {node.attrs['p']}; only L1 and L2 are supported", None, "onnxOpCheckers.cpp")


@rule("MaxPool")
def _pool_indices(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if len(node.outputs) > 1 and not node.outputs[1].is_empty():
        yield Limit("its Indices output is not supported")


@rule("Clip")
def _clip_bounds(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if len(node.inputs) > 1 and scope.version < (7, 0):
        yield Limit("its min and max are inputs (opset 11); only attributes are supported", "7.0")
    elif (computed(node, 1) or computed(node, 2)) and scope.version < (8, 2):
        yield Limit("its min or max is computed; both must be initialisers", "8.2")


@rule("Pad")
def _padding(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if scope.version >= (8, 2):
        return
    mode = node.attrs.get("mode", "constant")
    value = constant(node, 2)
    number = float(node.attrs.get("value", 0.0)) if value is None else float(value.reshape(-1)[0])
    if mode != "constant" or number != 0.0 or computed(node, 2):
        yield Limit(f"it pads with mode '{mode}' and value {number:g}; only zero padding is supported", "8.2")
    if len(node.inputs) > 1 and scope.version < (7, 0):
        yield Limit("its pads are an input (opset 11); only the attribute is supported", "7.0")
    pads = node.attrs.get("pads")
    if pads is None:
        amounts = constant(node, 1)
        pads = None if amounts is None else amounts.tolist()
    if pads is None:
        return
    half = len(pads) // 2
    axes = [axis for axis in range(half) if pads[axis] or pads[axis + half]]
    if scope.version >= (8, 0):
        if len(axes) > 2:
            yield Limit(f"it pads {len(axes)} axes; at most two are supported", "8.2")
    elif any(axis < half - 2 for axis in axes):
        yield Limit(f"it pads axis {axes[0]}; only the last two axes are supported", "8.0" if len(axes) <= 2 else "8.2")


@rule("TopK")
def _top_k(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if computed(node, 1) and scope.version < (8, 6):
        yield Limit("its K is computed; it must be an initialiser", "8.6")
    values = constant(node, 1)
    count = node.attrs.get("k") if values is None else int(values.reshape(-1)[0])
    largest = 3840 if scope.rtx else 3839  # measured with TensorRT-RTX 1.7.1; operators.md says less than 3840
    if count is not None and count > largest:
        yield Limit(f"its K is {count}; at most {largest} is supported", None, MEASURED if scope.rtx else "")
    if not node.attrs.get("sorted", 1) and scope.version >= (10, 1) and not scope.rtx:
        yield Limit("it asks for unsorted results; sorted must be 1")


@rule(*REDUCTIONS)
def _reduction_axes(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if len(node.inputs) > 1 and scope.version < (8, 0):
        yield Limit("its axes are an input (opset 13); only the attribute is supported", "8.0")
    elif computed(node, 1):
        yield Limit("its axes are computed; they must be an initialiser")


@rule("Split", "Squeeze", "Unsqueeze")
def _operand_as_input(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    what = "split sizes" if node.op == "Split" else "axes"
    if len(node.inputs) > 1 and scope.version < (7, 2):
        yield Limit(f"its {what} are an input (opset 13); only the attribute is supported", "7.2")
    elif computed(node, 1) and node.op != "Split":
        yield Limit("its axes are computed; they must resolve to a constant")
    elif computed(node, 1) and scope.version < (8, 2):
        yield Limit("its split sizes are computed; they must be an initialiser", "8.2")


@rule("Slice")
def _slice_axes(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if len(node.inputs) > 1 and scope.version < (6, 0):
        yield Limit("its starts and ends are inputs (opset 10), which 5.x rejects", "6.0")
    elif computed(node, 3) and scope.version < (10, 3):
        yield Limit("its axes are computed; they must be an initialiser", "10.3")


@rule("Resize")
def _resize(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    mode = node.attrs.get("mode", "nearest")
    if mode not in ("nearest", "linear") and not scope.rtx:
        yield Limit(f"its mode is '{mode}'; only nearest and linear are documented")
    since_11 = scope.opset >= 11  # opset 10 has neither attribute and means asymmetric and floor
    coordinates = node.attrs.get("coordinate_transformation_mode", "half_pixel" if since_11 else "asymmetric")
    rounding = node.attrs.get("nearest_mode", "round_prefer_floor" if since_11 else "floor")
    if coordinates in ("tf_crop_and_resize", "half_pixel_symmetric"):
        yield Limit(f"its coordinate mode {coordinates} is not supported")
    elif scope.version < (8, 0) and coordinates != "asymmetric":
        yield Limit(f"its coordinate mode is {coordinates}; only asymmetric is supported", "8.0")
    if scope.version < (8, 0) and mode == "nearest" and rounding != "floor":
        yield Limit(f"its nearest mode is {rounding}; only floor is supported", "8.0")
    if coordinates == "tf_half_pixel_for_nn" and mode == "nearest" and rounding != "round_prefer_floor" and scope.rtx:
        yield Limit(f"its nearest mode is {rounding}; with {coordinates} only round_prefer_floor is", None, MEASURED)
    if node.attrs.get("antialias", 0):
        yield Limit("antialiasing is not supported")
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        yield Limit("only the aspect ratio policy 'stretch' is supported")


@rule(*REDUCTIONS)
def _reduction_of_booleans(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if node.inputs and node.inputs[0].dtype == np.bool_:
        yield Limit("it reduces BOOL; only numbers are supported")


@rule("If")
def _conditional(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if constant(node, 0) is not None:
        return
    if scope.version < (8, 0):
        yield Limit("its condition is computed; before 8.0 it must be an initialiser, and one branch is inlined", "8.0")
        return
    yield from conditionals.limits(node, scope.version)
    branches = [node.attrs.get(name) for name in ("then_branch", "else_branch")]
    then_outputs, else_outputs = (branch.outputs if isinstance(branch, gs.Graph) else [] for branch in branches)
    for a, b in zip(then_outputs, else_outputs, strict=False):
        if a.name == b.name and scope.version < (8, 5):
            yield Limit(f"both branches name their output {a.name}; the names must differ", "8.5")
        if a.shape is None or b.shape is None:
            continue
        if len(a.shape) != len(b.shape):
            yield Limit(f"its branches give {list(a.shape)} and {list(b.shape)}; the ranks must be equal")
        elif list(a.shape) != list(b.shape) and scope.version < (10, 11):
            yield Limit(f"its branches give {list(a.shape)} and {list(b.shape)}; the shapes must be equal", "10.11")


@rule("NonMaxSuppression")
def _suppression(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if scope.version < (8, 5):
        yield Limit(
            "it becomes a plugin whose output is padded to max_output_boxes_per_class, unlike the ONNX operator; use"
            " EfficientNMS_TRT or raw heads",
            "8.5",
        )


@rule("Gather", "GatherElements")
def _negative_indices(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    indices = constant(node, 1)
    if scope.version < (8, 2) and indices is not None and np.any(indices < 0):  # type: ignore[operator]
        yield Limit("it has negative indices; only indices >= 0 are supported", "8.2")


@rule("ScatterND", "ScatterElements")
def _scatter_reduction(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    source = "" if node.op == "ScatterND" else MEASURED  # documented for ScatterND only
    if node.attrs.get("reduction", "none") != "none":
        yield Limit(f"its reduction is '{node.attrs['reduction']}'; only none is supported", None, source)


@rule("Einsum")
def _einsum(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    operands = str(node.attrs.get("equation", "")).replace(" ", "").split("->")[0].split(",")
    diagonal = any(re.search(r"([A-Za-z]).*\1", operand) for operand in operands)
    if scope.version < (10, 12) and (diagonal or any("..." in operand for operand in operands)):
        yield Limit(f"its equation {node.attrs['equation']} has an ellipsis or a diagonal", "10.12")


@rule("LayerNormalization")
def _layer_norm_outputs(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if any(not output.is_empty() for output in node.outputs[1:]):
        yield Limit("only its first output is supported")


@rule("InstanceNormalization")
def _instance_norm(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if scope.version >= (8, 6):
        return
    if computed(node, 1) or computed(node, 2):
        yield Limit("its scale or bias is computed; both must be initialisers", "8.6")
    dims = rank(node)
    if dims is not None and dims not in (3, 4, 5):
        yield Limit(f"its input has {dims} axes; 3 to 5 are supported", "8.6")


@rule("Dropout")
def _dropout(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    training = constant(node, 2)
    if computed(node, 2) or (training is not None and bool(training.any())):
        yield Limit("training_mode must be a false initialiser")


@rule("BatchNormalization")
def _batch_norm(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    # Every release computes inference only.
    if node.attrs.get("training_mode", 0) or any(not output.is_empty() for output in node.outputs[1:]):
        yield Limit("training_mode and its additional outputs are not supported", None, MEASURED)


@rule("QuantizeLinear", "DequantizeLinear")
def _quantisation(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    zero = constant(node, 2)
    if zero is not None and np.any(zero.astype(np.float32) != 0):
        yield Limit("its zero point is not zero")
    if scope.version < (8, 0) and (computed(node, 1) or computed(node, 2)):
        yield Limit("its scale or zero point is computed; both must be initialisers", "8.0")


@rule("OneHot")
def _one_hot_depth(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if computed(node, 1):
        yield Limit("its depth is computed; it must be a build-time constant")


@rule("CumSum")
def _cumsum_axis(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if computed(node, 1) and scope.version < (10, 8):
        yield Limit("its axis is computed; it must be an initialiser", "10.8")


@rule("Cast")
def _cast(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if scope.version < (7, 0) and node.attrs.get("to") not in (1, np.float32):
        yield Limit("only casts to FP32 are supported", "7.0")


_EFFICIENT_NMS = "efficientNMSPlugin.cpp"  # the PluginField lists and createPlugin on each release branch


@rule("EfficientNMS_TRT")
def _class_agnostic(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    if "class_agnostic" in node.attrs and scope.version < (8, 6):
        yield Limit("its attribute class_agnostic does not exist yet", "8.6", _EFFICIENT_NMS)


@rule("EfficientNMS_TRT")
def _validated_fields(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    boxes = node.attrs.get("max_output_boxes", 1)
    if boxes < 1:
        yield Limit(f"its max_output_boxes is {boxes}; it must be at least 1", None, _EFFICIENT_NMS)
    if scope.version < (8, 5):
        return
    for attribute, least in (("score_threshold", 0.0), ("iou_threshold", np.finfo(np.float32).smallest_subnormal)):
        value = np.float32(node.attrs.get(attribute, 1))
        if not value >= least:
            bound = "at least 0" if least == 0 else "above 0"
            yield Limit(f"its {attribute} is {value:g}; it must be {bound}", None, _EFFICIENT_NMS)
    for attribute in ("score_activation", "box_coding"):
        if node.attrs.get(attribute, 0) not in (0, 1):
            yield Limit(f"its {attribute} is {node.attrs[attribute]}; it must be 0 or 1", None, _EFFICIENT_NMS)


@rule("NMS_TRT", "BatchedNMS_TRT", "NMSDynamic_TRT", "BatchedNMSDynamic_TRT")
def _nms_attributes(node: gs.Node, scope: Scope) -> Iterator[Limit]:
    for attribute, since in (("scoreBits", (8, 0)), ("isBatchAgnostic", (8, 0)), ("caffeSemantics", (8, 2))):
        if attribute in node.attrs and scope.version < since:
            first = f"{since[0]}.{since[1]}"
            yield Limit(f"its attribute {attribute} does not exist yet", first, "plugin/ of NVIDIA/TensorRT")

"""Checks of the attributes of an ONNX file's operators: values that ONNX does not define mean nothing, or anything.

Runtimes differ in what they make of them: a ``keepdims`` of 2 is true for one and false for another.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from deploycc.errors import ModelError

TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
_FINITE = ("alpha", "beta", "gamma", "epsilon", "bias")
_AUTO_PAD = frozenset({"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"})
_REDUCTIONS = frozenset({"none", "add", "mul", "max", "min"})
_LOSSES = frozenset({"none", "sum", "mean"})
_DIRECTIONS = frozenset({"forward", "foward", "reverse", "bidirectional"})  # ONNX 1.0 wrote the second as its default
_HALVES = frozenset({"half_pixel", "output_half_pixel"})
_WORDS = {
    **dict.fromkeys([(op, "reduction") for op in ("ScatterElements", "ScatterND")], _REDUCTIONS),
    **dict.fromkeys([(op, "reduction") for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")], _LOSSES),
    **dict.fromkeys([(op, "direction") for op in ("GRU", "LSTM", "RNN")], _DIRECTIONS),
    ("BitShift", "direction"): frozenset({"LEFT", "RIGHT"}),
    ("DepthToSpace", "mode"): frozenset({"DCR", "CRD"}),
    ("Gelu", "approximate"): frozenset({"none", "tanh"}),
    ("GridSample", "mode"): frozenset({"bilinear", "linear", "nearest", "bicubic", "cubic"}),
    ("GridSample", "padding_mode"): frozenset({"zeros", "border", "reflection"}),
    ("Pad", "mode"): frozenset({"constant", "reflect", "edge", "wrap"}),
    ("Resize", "mode"): frozenset({"nearest", "linear", "cubic"}),
    ("Resize", "nearest_mode"): frozenset({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}),
    ("Resize", "keep_aspect_ratio_policy"): frozenset({"stretch", "not_larger", "not_smaller"}),
    ("Resize", "coordinate_transformation_mode"): frozenset(
        {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"}
        | {"tf_half_pixel_for_nn", "tf_crop_and_resize"}
    ),
    ("RoiAlign", "mode"): frozenset({"avg", "max"}),
    ("RoiAlign", "coordinate_transformation_mode"): _HALVES,
    ("Upsample", "mode"): frozenset({"nearest", "linear", "bilinear"}),
}
"""The words that each operator takes, in all opsets; ``auto_pad`` has the same for every operator."""
_POSITIVE = frozenset(
    {"strides", "dilations", "kernel_shape", "group", "num_groups", "offset_group", "blocksize", "size"}
)
_NOT_NEGATIVE = frozenset({"pads", "output_padding", "output_shape"})
_AXES = frozenset({"axis", "axes", "batch_axis", "perm", "time_axis"})
_MOST_AXES = 1 << 31  # ONNX's own inference takes the lower 32 bits of an axis
_FLAGS = frozenset(
    {"allowzero", "align_corners", "antialias", "ceil_mode", "center_point_box", "count_include_pad", "exclude_outside"}
    | {"exclusive", "fmod", "keepdims", "largest", "linear_before_reset", "noop_with_empty_axes", "reverse", "sorted"}
    | {"select_last_index", "spatial", "storage_order", "training_mode", "transA", "transB"}
)


def check_attributes(node: onnx.NodeProto, path: Path) -> None:
    """Refuse attributes whose value ONNX does not define, or that are not finite.

    Raises:
        ModelError: ``onnx-element-type``, ``onnx-attribute-value``.
    """
    standard = node.domain in ("", "ai.onnx")
    for attribute in node.attribute:
        if standard and node.op_type == "Cast" and attribute.name == "to" and attribute.i not in TYPES:
            raise ModelError(
                "onnx-element-type",
                f"Cast makes elements of the type {attribute.i}, which ONNX does not define",
                context={"file": path, "node": _name(node)},
                note=f"ONNX {onnx.__version__} defines 1 to {max(TYPES)}",
            )
        if attribute.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS):
            _check_floats(node, attribute, path)
        elif standard and attribute.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):
            _check_integers(node, attribute, path)
        elif standard and attribute.type == onnx.AttributeProto.STRING:
            _check_word(node, attribute, path)


def _check_floats(node: onnx.NodeProto, attribute: onnx.AttributeProto, path: Path) -> None:
    numbers = onnx.helper.get_attribute_value(attribute)
    numbers = [numbers] if attribute.type == onnx.AttributeProto.FLOAT else numbers
    finite = attribute.name in _FINITE
    if any(np.isnan(number) or (finite and np.isinf(number)) for number in numbers):
        raise ModelError(
            "onnx-attribute-value",
            f"the attribute {attribute.name} of {node.op_type} is not a finite number",
            context={"file": path, "node": _name(node), attribute.name: numbers[0]},
        )


def _check_integers(node: onnx.NodeProto, attribute: onnx.AttributeProto, path: Path) -> None:
    name = attribute.name
    numbers = [attribute.i] if attribute.type == onnx.AttributeProto.INT else list(attribute.ints)
    if name in _POSITIVE and min(numbers, default=1) < 1:
        _refuse(node, attribute, "1 or more", path)
    if name in _NOT_NEGATIVE and node.op_type != "Pad" and min(numbers, default=0) < 0:  # Pad crops with negative ones
        _refuse(node, attribute, "0 or more", path)
    if name in _AXES and any(not -_MOST_AXES <= number < _MOST_AXES for number in numbers):
        _refuse(node, attribute, "axes that the input has", path)
    if name in _FLAGS and any(number not in (0, 1) for number in numbers):
        _refuse(node, attribute, "0 or 1", path)


def _check_word(node: onnx.NodeProto, attribute: onnx.AttributeProto, path: Path) -> None:
    words = _AUTO_PAD if attribute.name == "auto_pad" else _WORDS.get((node.op_type, attribute.name))
    if words is not None and attribute.s.decode("utf-8", "replace") not in words:
        _refuse(node, attribute, ", ".join(sorted(words)), path)


def _refuse(node: onnx.NodeProto, attribute: onnx.AttributeProto, defined: str, path: Path) -> None:
    name, value = attribute.name, onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    raise ModelError(
        "onnx-attribute-value",
        f"the attribute {name} of {node.op_type} has a value that ONNX does not define",
        context={"file": path, "node": _name(node), name: value},
        note=f"defined: {defined}",
        hint="export the network again",
    )


def _name(node: onnx.NodeProto) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)

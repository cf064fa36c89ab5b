"""Attributes with values that ONNX does not define are refused where the file is read, not found out by a runtime."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from deploycc.errors import ModelError
from deploycc.importers.onnx_attributes import check_attributes

PATH = Path("net.onnx")


def checked(op: str, name: str, value: object, domain: str = "") -> None:
    check_attributes(helper.make_node(op, ["x"], ["y"], name="n", domain=domain, **{name: value}), PATH)


def refusals(attributes: Iterable[tuple[str, str, object]], domain: str = "") -> list[tuple[str, str, object]]:
    """Those of the attributes that are refused."""
    found = []
    for op, name, value in attributes:
        try:
            checked(op, name, value, domain)
        except ModelError:
            found.append((op, name, value))
    return found


UNDEFINED = [
    *[("Conv", name, [1, value]) for name in ("strides", "dilations", "kernel_shape") for value in (0, -1)],
    *[("Conv", "group", 0), ("MaxPool", "pads", [0, 0, 0, -1]), ("ConvTranspose", "output_padding", [-1, 0])],
    *[("LRN", "size", 0), ("DepthToSpace", "blocksize", 0), ("ConvTranspose", "output_shape", [-4, 4])],
    *[(op, "auto_pad", "NONSENSE") for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool")],
    *[("Resize", name, "Linear") for name in ("mode", "nearest_mode", "coordinate_transformation_mode")],
    *[
        ("Upsample", "mode", ""),
        ("Pad", "mode", "zeros"),
        ("DepthToSpace", "mode", "crd"),
        ("Gelu", "approximate", "t"),
    ],
    *[("GridSample", "padding_mode", "x"), ("RoiAlign", "mode", "sum"), ("ScatterND", "reduction", "mean")],
    *[("MaxPool", "ceil_mode", 2), ("ReduceMean", "keepdims", -1), ("AveragePool", "count_include_pad", 255)],
    *[("Concat", "axis", 2**62), ("Transpose", "perm", [0, 1, -(2**62)])],
    *[("Reshape", "allowzero", 3), ("TopK", "largest", 2), ("Gemm", "transB", -1)],
]


@pytest.mark.parametrize(("op", "name", "value"), UNDEFINED)
def test_undefined_values_are_refused(op: str, name: str, value: object) -> None:
    with pytest.raises(ModelError) as caught:
        checked(op, name, value)
    assert caught.value.code == "onnx-attribute-value"
    assert caught.value.message == f"the attribute {name} of {op} has a value that ONNX does not define"
    assert (caught.value.context["node"], caught.value.context[name]) == ("n", str(value))


def test_what_is_defined_is_said() -> None:
    with pytest.raises(ModelError) as caught:
        checked("Conv", "auto_pad", "NONSENSE")
    assert caught.value.render().splitlines()[1:] == [
        "      file: net.onnx",
        "      node: n",
        "  auto_pad: NONSENSE",
        "  note: defined: NOTSET, SAME_LOWER, SAME_UPPER, VALID",
        "  hint: export the network again",
    ]


DEFINED = [
    *[("Pad", "pads", [-1, 0, 0, 0]), ("Conv", "auto_pad", "SAME_LOWER"), ("Conv", "pads", [0, 0, 0, 0])],
    *[("Upsample", "mode", "bilinear"), ("Resize", "mode", "cubic"), ("MaxPool", "ceil_mode", 1)],
    *[("Reshape", "allowzero", 0), ("Clip", "max", math.inf), ("Softmax", "axis", -1)],
]


def test_defined_values_are_taken() -> None:
    assert refusals(DEFINED) == []


def test_operators_of_other_domains_have_attributes_of_their_own() -> None:
    nonsense = [("Conv", "auto_pad", "NONSENSE")]
    assert refusals(nonsense) == nonsense
    assert refusals(nonsense, domain="own") == []


def test_a_cast_to_no_known_type() -> None:
    with pytest.raises(ModelError, match="Cast makes elements of the type -4, which ONNX does not define"):
        checked("Cast", "to", -4)


@pytest.mark.parametrize("domain", ["", "own"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_attributes_that_are_not_finite(value: float, domain: str) -> None:
    with pytest.raises(ModelError, match="the attribute alpha of LeakyRelu is not a finite number"):
        checked("LeakyRelu", "alpha", value, domain)


def test_every_word_that_onnx_documents_for_an_attribute_is_taken() -> None:
    """Against ONNX's own defaults, in every opset."""
    kinds = (onnx.AttributeProto.INT, onnx.AttributeProto.STRING)
    defaults = [
        (schema.name, name, helper.get_attribute_value(attribute.default_value))
        for schema in onnx.defs.get_all_schemas_with_history()
        for name, attribute in schema.attributes.items()
        if schema.domain == "" and attribute.default_value.type in kinds
    ]
    assert len(defaults) > 100
    assert refusals(defaults) == []

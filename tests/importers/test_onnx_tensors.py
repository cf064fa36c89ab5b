from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycc.errors import ModelError
from deploycc.importers import load
from deploycc.importers.onnx_read import read_model

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
CONV = f"{HEAD} g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w = {{1,2,3,4,5,6}}> {{ y = Conv (x, w) }}"


def refused(model: onnx.ModelProto, folder: Path) -> list[str]:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        read_model(path)
    return [line.strip() for line in caught.value.render().replace(str(path), "net.onnx").splitlines()]


def accepted(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return read_model(path)[0]


def test_an_input_of_no_known_type(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(CONV)
    model.graph.input[0].type.tensor_type.elem_type = 99
    assert refused(model, tmp_path)[0] == (
        "error[onnx-element-type]: the tensor x has the element type 99, which ONNX does not define"
    )


@pytest.mark.parametrize("side", ["input", "output"])
def test_an_end_without_a_type(side: str, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(CONV)
    getattr(model.graph, side)[0].ClearField("type")
    name = {"input": "x", "output": "y"}[side]
    assert refused(model, tmp_path)[:3] == [
        f"error[onnx-element-type]: the file does not say what the elements of {name} are", "file: net.onnx", f"tensor: {name}",
    ]  # fmt: skip


def test_weights_of_strings(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(CONV)
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.STRING, [1], [b"a"]))
    lines = refused(model, tmp_path)
    assert lines[:3] == ["error[onnx-strings]: the tensor w holds strings", "file: net.onnx", "tensor: w"]


@pytest.mark.parametrize(
    "makes",
    ['y = Constant <value_string = "a"> ()', 'y = Constant <value_strings = ["a", "b"]> ()', "y = Cast <to = 8> (x)"],
)
def test_nodes_that_make_strings(makes: str, tmp_path: Path) -> None:
    """They ended in a traceback: only tensors were looked at."""
    model = onnx.parser.parse_model(
        f"{HEAD} g (float[1,3,4,4] x) => (float[1,3,4,4] z) {{ {makes} z = Cast <to = 1> (y) }}"
    )
    assert refused(model, tmp_path)[0] == "error[onnx-strings]: the tensor y holds strings"


def test_no_outputs(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(CONV)
    del model.graph.output[:]
    assert refused(model, tmp_path) == ["error[onnx-no-outputs]: the network has no outputs", "file: net.onnx"]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_weights(value: float, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(CONV)
    weights = np.array([1, value, 3, 4, 5, 6], np.float32).reshape(2, 3, 1, 1)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    assert refused(model, tmp_path)[0] == "error[infinite-weights]: 1 of 6 values of w are infinite"


def with_constant(operator: str, value: float) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,4] x) => (float[1,4] y) {{ y = {operator} (x, c) }}")
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(value).reshape(())))
    model.graph.node.insert(0, constant)
    return model


def test_constant_nodes_are_weights_too(tmp_path: Path) -> None:
    assert refused(with_constant("Add", math.nan), tmp_path)[:3] == [
        "error[nan-weights]: 1 of 1 values of c are NaN",
        "file: net.onnx",
        "node: c",
    ]
    assert refused(with_constant("Mul", math.inf), tmp_path)[0].startswith("error[infinite-weights]")


def test_constants_inside_a_branch(tmp_path: Path) -> None:
    branch = with_constant("Mul", math.nan).graph
    del branch.input[:]
    model = onnx.parser.parse_model(f"{HEAD} g (bool q, float[1,4] x) => (float[1,4] z) {{ z = Neg (x) }}")
    model.graph.node[0].CopyFrom(helper.make_node("If", ["q"], ["z"], then_branch=branch, else_branch=branch))
    assert refused(model, tmp_path)[0].startswith("error[nan-weights]")


def overflowing(weight: np.ndarray[Any, Any], nodes: str) -> onnx.ModelProto:
    """A convolution whose weight ``w`` the nodes compute from ``v``."""
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,1,4,4] x) => (float[1,4,4,4] y) {{ {nodes} y = Conv (x, w) }}")
    model.graph.initializer.append(numpy_helper.from_array(weight.reshape(4, 1, 1, 1), "v"))
    return model


@pytest.mark.parametrize(
    ("weight", "nodes", "code"),
    [
        (np.array([1, 1, 1, 1e39]), "w = Cast <to = 1> (v)", "infinite-weights"),
        (np.array([1, 1, 1, np.inf], np.float16), "w = Cast <to = 1> (v)", "infinite-weights"),
        (np.array([1, 1, 1, 100], np.float32), "w = Exp (v)", "infinite-weights"),
        (np.array([1, 1, 1, -1], np.float32), "w = Sqrt (v)", "nan-weights"),
        (np.ones(4, np.float32), "h = Constant <value_float = inf> ()  w = Mul (v, h)", "infinite-weights"),
    ],
)
def test_weights_that_overflow_while_they_are_folded(
    weight: np.ndarray[Any, Any], nodes: str, code: str, tmp_path: Path
) -> None:
    """They were found only in the written network, as a fault of this program."""
    model = overflowing(weight, nodes.replace("<value_float = inf> ", ""))
    if "value_float" in nodes:  # the text form has no infinity
        model.graph.node[0].attribute.append(helper.make_attribute("value_float", math.inf))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "net.onnx")
    assert (caught.value.code, caught.value.context["node"]) == (code, "y")
    assert caught.value.note == "they are computed from constants of the file"


def test_infinity_is_a_bound_or_a_mask_elsewhere(tmp_path: Path) -> None:
    for operator in ("Max", "Add"):
        read = accepted(with_constant(operator, -math.inf), tmp_path)
        [constant] = [node for node in read.graph.node if node.op_type == "Constant"]
        assert numpy_helper.to_array(constant.attribute[0].t) == -math.inf


def sparse(values: list[float], places: list[Any], name: str = "") -> onnx.SparseTensorProto:
    numbers = numpy_helper.from_array(np.array(values, np.float32), name)
    return helper.make_sparse_tensor(
        numbers, numpy_helper.from_array(np.array(places, np.int64), "places"), [4, 1, 1, 1]
    )


@pytest.mark.parametrize("places", [[0, 3], [[0, 0, 0, 0], [3, 0, 0, 0]]])
@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_sparse_weights_are_written_out(where: str, places: list[Any], tmp_path: Path) -> None:
    """A sparse Constant was refused as one without a value."""
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,1,4,4] x) => (float[1,4,4,4] y) {{ y = Conv (x, v) }}")
    if where == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["v"], sparse_value=sparse([2, 5], places)))
    else:
        model.graph.sparse_initializer.append(sparse([2, 5], places, "v"))
    onnx.save(model, tmp_path / "net.onnx")
    [node] = load(tmp_path / "net.onnx").graph.nodes
    np.testing.assert_array_equal(node.inputs[1].values.reshape(-1), [2, 0, 0, 5])


def test_sparse_weights_are_checked_too(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,1,4,4] x) => (float[1,4,4,4] y) {{ y = Conv (x, v) }}")
    model.graph.sparse_initializer.append(sparse([2, math.nan], [0, 3], "v"))
    assert refused(model, tmp_path)[0] == "error[nan-weights]: 1 of 4 values of v are NaN"


def test_functions_of_the_file_are_inlined(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13, "own": 1]>
    g (float[1,4] x) => (float[1,4] y) { y = own.twice (x) }
    <domain: "own", opset_import: ["": 13]> twice (a) => (b) { c = Add (a, a)  b = Relu (c) }"""
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    model = read_model(path)[0]
    assert [node.op_type for node in model.graph.node] == ["Add", "Relu"]
    assert not model.functions


def test_an_output_that_is_stated_as_what_it_is_not(tmp_path: Path) -> None:
    """ONNX Runtime refuses such a file; it used to be compiled to another that it refuses as well."""
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,3,4,4] x) => (bool[1,3,4,4] y) {{ y = Relu (x) }}")
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "net.onnx")
    assert caught.value.message == "the output y is stated as BOOL and computed as FLOAT"


def test_a_picture_of_a_type_that_numpy_lacks_is_diagnosed(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f"{HEAD} g (bfloat16[1,3,4,4] x) => (bfloat16[1,3,4,4] y) {{ y = Relu (x) }}")
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "net.onnx")
    assert caught.value.hint or caught.value.note

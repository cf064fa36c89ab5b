from __future__ import annotations

import math
from pathlib import Path

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


def test_infinity_is_a_bound_or_a_mask_elsewhere(tmp_path: Path) -> None:
    for operator in ("Max", "Add"):
        read = accepted(with_constant(operator, -math.inf), tmp_path)
        [constant] = [node for node in read.graph.node if node.op_type == "Constant"]
        assert numpy_helper.to_array(constant.attribute[0].t) == -math.inf


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

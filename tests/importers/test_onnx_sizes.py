from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from deploycc.errors import ModelError
from deploycc.importers import load


def loaded(text: str, folder: Path) -> str:
    """Return the first line and the note of the error that a network gives."""
    path = folder / "net.onnx"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {text}')
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path)
    return f"{caught.value.code}: {caught.value.note}"


def ones(count: int) -> str:
    return ",".join("1" * count)


TOO_LARGE = {
    "input": "g (float[1,3,20000,20000] x) => (float[1,3,20000,20000] y) { y = Relu (x) }",
    "pads": "g (float[1,3,8,8] x) => (float[1,1,a,b] y) <float[1,3,3,3] w = {ONES}> "
    "{ y = Conv <pads = [1099511627776, 0, 0, 0]> (x, w) }".replace("ONES", ones(27)),
    "tiles": "g (float[1,3,8,8] x) => (float[a,b,c,d] y) <int64[4] n = {1,1,1000000,1000}> { y = Tile (x, n) }",
    "filled": "g (float[1,3,8,8] x) => (float[a,b,c,d] y) <int64[4] n = {1,1,65536,65536}> "
    "{ z = ConstantOfShape (n)  y = Add (x, z) }",
}


@pytest.mark.parametrize("text", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_what_is_too_large_is_refused_before_it_is_allocated(text: str, tmp_path: Path) -> None:
    assert loaded(text, tmp_path) == "onnx-too-large: at most 268,435,456 are supported, which take 1 GiB in FP32"


W = f"float[2,3,3,3] w = {{{ones(54)}}}"
UNFIT = {
    "channels": (f"g (float[1,1,8,8] x) => (float[1,2,6,6] y) <{W}> {{ y = Conv (x, w) }}", "the input has 1 channels"),
    "groups": (
        f"g (float[1,3,8,8] x) => (float[1,2,6,6] y) <{W}> {{ y = Conv <group = 3> (x, w) }}",
        "the input has 3",
    ),
    "kernel": (
        f"g (float[1,3,8,8] x) => (float[1,2,6,6] y) <{W}> {{ y = Conv <kernel_shape = [1, 1]> (x, w) }}",
        "kernel_shape is [1, 1]",
    ),
    "bias": (
        f"g (float[1,3,8,8] x) => (float[1,2,6,6] y) <{W}, float[3] b = {{1,2,3}}> {{ y = Conv (x, w, b) }}",
        "2 kernels have a bias of shape [3]",
    ),
    "one axis": (
        f"g (float[1,3,8,8] x) => (float[1,2,6,6] y) <float[54] w = {{{ones(54)}}}> {{ y = Conv (x, w) }}",
        "weights of 1 axes do not fit",
    ),
    "deconvolution": (
        f"g (float[1,3,8,8] x) => (float[1,3,6,6] y) <{W}> {{ y = ConvTranspose (x, w) }}",
        "the input has 3 channels",
    ),
    "statistics": (
        "g (float[1,3,8,8] x) => (float[1,3,8,8] y) <float[3] s = {1,2,3}, float[2] v = {1,2}> "
        "{ y = BatchNormalization (x, s, s, s, v) }",
        "3 channels have parameters of shape [2]",
    ),
    "broadcast": (
        "g (float[1,3,8,8] x) => (float[1,3,8,8] y) <float[5] s = {1,2,3,4,5}> { y = Mul (x, s) }",
        "axis 3 has sizes [5, 8]",
    ),
    "slopes": (
        "g (float[1,3,1,1] x) => (float[1,3,1,1] y) <float[2,2] s = {1,2,3,4}> { y = PRelu (x, s) }",
        "slopes of shape [2, 2]",
    ),
    "matrix": (
        "g (float[1,3,8,8] x) => (float[1,3,8,1] y) <float[5,1] s = {1,2,3,4,5}> { y = MatMul (x, s) }",
        "8 columns are multiplied by 5 rows",
    ),
    "fully connected": (
        "g (float[1,3,1,1] x) => (float[1,1] y) <float[5,1] s = {1,2,3,4,5}> { f = Flatten (x)  y = Gemm (f, s) }",
        "3 columns are multiplied by 5 rows",
    ),
    "reshape": (
        "g (float[1,3,8,8] x) => (float[1,3,9] y) <int64[3] s = {1,3,9}> { y = Reshape (x, s) }",
        "192 elements do not fill the shape [1, 3, 9]",
    ),
}


@pytest.mark.parametrize(("text", "note"), UNFIT.values(), ids=UNFIT.keys())
def test_operands_that_do_not_fit_are_refused_by_node(text: str, note: str, tmp_path: Path) -> None:
    assert loaded(text, tmp_path).startswith(("onnx-operand-shape: " + note, "onnx-shapes: "))


WRONG = {
    "axis": ("s = Softmax <axis = 9> (x)", "'axis' must be in [-4 , 3]. Its actual value is: 9"),
    "perm": ("s = Transpose <perm = [0, 2, 3, 9]> (x)", "Invalid attribute perm {0, 2, 3, 9}"),
    "twice": ("s = Transpose <perm = [0, 2, 3, 3]> (x)", "Attribute perm for Transpose has repeated value"),
    "flatten": ("s = Flatten <axis = 1000> (x)", "Invalid value(1000) for attribute 'axis'"),
    "concat": ("s = Concat <axis = 4> (x, x)", "axis must be in [-rank, rank-1]"),
    "window": ("s = MaxPool <kernel_shape = [3]> (x)", "Attribute kernel_shape has incorrect size"),
    "strides": ("s = MaxPool <kernel_shape = [3, 3], strides = [1]> (x)", "Attribute strides has incorrect size"),
    "type": ("i = Cast <to = 3> (x)  s = Sigmoid (i)", "X typestr: T, has unsupported type: tensor(int8)"),
}


@pytest.mark.parametrize(("nodes", "note"), WRONG.values(), ids=WRONG.keys())
def test_operators_that_do_not_fit_their_input_are_refused(nodes: str, note: str, tmp_path: Path) -> None:
    """They passed wherever no runtime looked at the network: with --no-verify, for boards."""
    text = f"g (float[1,3,8,8] x) => (float[a,b,c,d] y) <float[1,3,8,8] s> {{ {nodes}  y = Relu (s) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {text}')
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == "onnx-operator"
    assert note in (caught.value.note or "")


def test_normalisation_over_its_default_axes_is_not_refused(tmp_path: Path) -> None:
    """ONNX's strict inference cannot expand this operator without its axes; the file is valid."""
    text = "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = MeanVarianceNormalization (x) }"
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {text}'), path)
    assert load(path).graph.outputs[0].shape == [1, 3, 4, 4]

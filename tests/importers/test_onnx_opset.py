from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from deploycc.cpu_session import open_session
from deploycc.errors import ModelError
from deploycc.graph.export import to_onnx
from deploycc.importers import load
from deploycc.importers.onnx_opset import to_common_opset
from deploycc.importers.onnx_read import read_model

CONV = """<ir_version: 8, opset_import: ["" : 13]>
small (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w = {1,2,3,4,5,6}>
{ a = Conv (x, w)  y = Relu (a) }"""


def write(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def old_model(body: str, opset: int, constants: str = "") -> onnx.ModelProto:
    """Return a model that takes x [1, 3, 4, 5]; the shape of its output y is left open."""
    text = f'<ir_version: 4, opset_import: ["" : {opset}]> old (float[1,3,4,5] x) => (y) <{constants}> {{ {body} }}'
    model = parse(text.replace("<>", ""))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4))
    return model


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    picture = np.random.default_rng(0).normal(0.5, 2, (1, 3, 4, 5)).astype(np.float32)
    result: NDArray[np.float32] = open_session(model, 1, {}).run(["y"], {"x": picture})[0]
    return result


def converted(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    path = write(model, folder)
    new, _ = to_common_opset(read_model(path)[0], path)
    assert new.opset_import[0].version == 13
    onnx.checker.check_model(new)
    return new


def test_no_opset() -> None:
    model = parse(CONV)
    model.opset_import[0].domain = "com.example"
    with pytest.raises(ModelError) as caught:
        to_common_opset(model, Path("net.onnx"))
    assert caught.value.code == "onnx-no-opset"


# What changed its spelling between opset 7 and 13, each with its newest old form.
SPELLINGS = {
    "dropout": "y = Dropout <ratio = 0.5> (x)",
    "clip": "y = Clip <min = 0.0, max = 6.0> (x)",
    "slice": "y = Slice <axes = [2], starts = [0], ends = [2]> (x)",
    "squeeze": "a = Unsqueeze <axes = [0]> (x)  y = Squeeze <axes = [0]> (a)",
    "pad": "y = Pad <pads = [0,0,1,1,0,0,1,1]> (x)",
    "softmax": "y = Softmax <axis = 1> (x)",
    "log softmax": "y = LogSoftmax (x)",
    "split": "y, z = Split <axis = 1, split = [1, 2]> (x)",
    "reduce": "y = ReduceSum <axes = [1], keepdims = 1> (x)",
    "norm": "y = BatchNormalization <epsilon = 0.001> (x, s, s, s, s)",
    "pool": "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)",
    "top-k": "y, i = TopK <k = 2, axis = 3> (x)",
}
# What changed its meaning and kept its spelling: the version converter leaves it as it was.
MEANINGS = {
    "hardmax": "y = Hardmax <axis = 2> (x)",
    "hardmax, default axis": "y = Hardmax (x)",
    "reflecting pad": 'y = Pad <mode = "reflect", pads = [0,0,1,1,0,0,1,1], value = 0.5> (x)',
    "edge pad": 'y = Pad <mode = "edge", pads = [0,0,1,1,0,0,1,1], value = 0.0> (x)',
}


@pytest.mark.parametrize("opset", [7, 9])
@pytest.mark.parametrize("body", [*SPELLINGS.values(), *MEANINGS.values()], ids=[*SPELLINGS, *MEANINGS])
def test_older_operator_sets_compute_the_same_afterwards(body: str, opset: int, tmp_path: Path) -> None:
    model = old_model(body, opset, "float[3] s = {1,2,3}")
    np.testing.assert_allclose(run(converted(model, tmp_path)), run(model), rtol=1e-6, atol=1e-6)


# (opset, mode, scales): enlarging by whole and by other factors, shrinking, and both at once.
RESIZES = [
    (7, "linear", "1,1,2,2"),
    (9, "linear", "1,1,2,2"),
    (9, "nearest", "1,1,2,2"),
    (9, "nearest", "1,1,1.25,1.7"),
    (10, "linear", "1,1,1.7,0.6"),
    (10, "nearest", "1,1,1.25,1.25"),
    (10, "nearest", "1,1,0.5,0.6"),
    (10, "nearest", "1,1,0.6,1.7"),
    (10, "nearest", "1,1,0.5,1"),
]


@pytest.mark.parametrize(("opset", "mode", "scales"), RESIZES)
def test_resizing_without_coordinate_modes_keeps_its_meaning(
    opset: int, mode: str, scales: str, tmp_path: Path
) -> None:
    op, constants = ("Resize" if opset == 10 else "Upsample"), f"float[4] s = {{{scales}}}"
    body = f'y = {op} <mode = "{mode}"> (x, s)'
    if opset < 9:
        floats = ",".join(str(float(scale)) for scale in scales.split(","))
        body, constants = f'y = {op} <mode = "{mode}", scales = [{floats}]> (x)', ""
    model = old_model(body, opset, constants)
    detector = load(write(model, tmp_path))
    np.testing.assert_allclose(run(to_onnx(detector.graph)), run(model), rtol=1e-6, atol=1e-6)


def test_resizing_inside_a_branch_keeps_its_meaning(tmp_path: Path) -> None:
    branch = 'g () => (float[a,b,c,d] {0}) {{ {0} = Resize <mode = "linear"> (x, s) }}'
    body = f"m = ReduceMax <keepdims = 0> (x)  q = Greater (m, zero)  y = If (q) <then_branch = {branch.format('t')}, "
    model = old_model(body + f"else_branch = {branch.format('e')}>", 10, "float[4] s = {1,1,2,1.5}, float zero = {0}")
    np.testing.assert_allclose(run(converted(model, tmp_path)), run(model), rtol=1e-6, atol=1e-6)


def test_mxnet_asks_for_statistics_of_every_element_and_means_every_channel(tmp_path: Path) -> None:
    """Right is what the file computes without ``spatial``, which its parameters do not fit."""
    written = old_model("y = BatchNormalization <spatial = 0> (x, s, s, s, s)", 7, "float[3] s = {1,2,3}")
    meant = old_model("y = BatchNormalization (x, s, s, s, s)", 7, "float[3] s = {1,2,3}")
    np.testing.assert_allclose(run(converted(written, tmp_path)), run(meant), rtol=1e-6, atol=1e-6)


# Before opset 7, an attribute aligned the second operand; ONNX Runtime runs none of these, so right is opset 7's form.
ALIGNED = {
    "add, channels": ("y = Add <broadcast = 1, axis = 1> (x, s)", "y = Add (x, s3)"),
    "add after a layer": ("a = Relu (x)  y = Add <broadcast = 1, axis = 1> (a, s)", "a = Relu (x)  y = Add (a, s3)"),
    "mul, maps": ("y = Mul <broadcast = 1, axis = 1> (x, m)", "y = Mul (x, m3)"),
    "sub, last axis": ("y = Sub <broadcast = 1> (x, r)", "y = Sub (x, r)"),
    "slopes": ("y = PRelu (x, s)", "y = PRelu (x, s3)"),
    "one slope": ("y = PRelu (x, o)", "y = PRelu (x, o)"),
}


@pytest.mark.parametrize(("old", "new"), ALIGNED.values(), ids=ALIGNED.keys())
def test_operands_are_aligned_as_before_opset_7(old: str, new: str, tmp_path: Path) -> None:
    numbers = ",".join(str(number) for number in range(1, 13))
    constants = (
        "float[3] s = {1,2,3}, float[3,1,1] s3 = {1,2,3}, float[1] o = {2}, float[5] r = {1,2,3,4,5}, "
        f"float[3,4] m = {{{numbers}}}, float[3,4,1] m3 = {{{numbers}}}"
    )
    result = run(converted(old_model(old, 6, constants), tmp_path))
    np.testing.assert_allclose(result, run(old_model(new, 7, constants)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("opset", range(13, 22))
def test_newer_operator_sets_stay(opset: int, tmp_path: Path) -> None:
    model = parse(CONV.replace('"" : 13', f'"" : {opset}'))
    new, written = to_common_opset(model, tmp_path)
    assert (written, new.opset_import[0].version) == (opset, opset)


def test_a_failed_opset_conversion_states_its_reason() -> None:
    model = parse(CONV.replace('"" : 13', '"" : 9').replace("Relu", "EfficientNMS_TRT"))
    with pytest.raises(ModelError) as caught:
        to_common_opset(model, Path("net.onnx"))
    text = caught.value.render()
    assert text.startswith(
        "error[onnx-opset-conversion]: the network cannot be converted from opset 9 to 13\n"
        "   file: net.onnx\n  opset: 9\n  note: "
    )
    assert "has no registered schema" in text
    assert text.endswith("hint: export it again with opset 13 or newer")

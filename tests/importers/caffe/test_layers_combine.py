from __future__ import annotations

import numpy as np
import pytest
from caffe_files import import_text, one_layer, pre

OTHERS = """layer { name: "a" type: "Power" bottom: "pre" top: "a" power_param { scale: 2 shift: 1 } }
layer { name: "b" type: "TanH" bottom: "pre" top: "b" }"""
SMALL = 'layer { name: "s" type: "Pooling" bottom: "pre" top: "s" pooling_param { kernel_size: 2 } }'


@pytest.mark.parametrize(
    ("params", "extra"),
    [
        ("", ["a", "b"]),
        ("eltwise_param { operation: PROD }", ["a", "b"]),
        ("eltwise_param { operation: MAX }", ["a", "b"]),
        ("eltwise_param { operation: SUM coeff: 2 coeff: -1 coeff: 1 }", ["a", "b"]),
        ("eltwise_param { coeff: 0.5 coeff: 0.25 }", ["b"]),
    ],
)
def test_eltwise_is_opencvs(params: str, extra: list[str]) -> None:
    case = one_layer("Eltwise", params, second=OTHERS, bottoms=["pre", *extra])
    np.testing.assert_allclose(case.imported()[-1], case.opencv(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", ["axis: 1", "axis: 2", "axis: -1", ""])
def test_concat_is_opencvs(axis: str) -> None:
    case = one_layer("Concat", f"concat_param {{ {axis} }}", second=OTHERS, bottoms=["pre", "a", "b"])
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-6)


def test_concat_takes_the_old_name_of_axis() -> None:
    # OpenCV ignores it.
    case = one_layer("Concat", "concat_param { concat_dim: 2 }", second=OTHERS, bottoms=["pre", "b"])
    expected = np.concatenate([pre(case), np.tanh(pre(case))], axis=2)
    np.testing.assert_allclose(case.imported()[-1], expected, rtol=1e-5, atol=1e-6)


def test_axpy_scales_channels_and_adds() -> None:
    # OpenCV turns it into layers that refuse these shapes, so it is written out.
    pooled = (
        'layer { name: "g" type: "Pooling" bottom: "pre" top: "g" pooling_param { pool: AVE global_pooling: true } }'
    )
    case = one_layer("Axpy", second=pooled + OTHERS, bottoms=["g", "a", "b"])
    x = pre(case)
    expected = x.mean((2, 3), keepdims=True) * (2 * x + 1) + np.tanh(x)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "params", "extra", "says"),
    [
        ("Eltwise", "", ["s"], "inputs of Eltwise must have the same shape, but have [1, 4, 5, 6] and [1, 4, 4, 5]"),
        ("Eltwise", "eltwise_param { coeff: 1 }", ["a"], "1 coeff for 2 inputs of SUM"),
        ("Eltwise", "eltwise_param { operation: MAX coeff: 1 coeff: 2 }", ["a"], "2 coeff for 2 inputs of MAX"),
        ("Concat", "", ["s"], "inputs of Concat differ in more than axis 1: [1, 4, 5, 6] and [1, 4, 4, 5]"),
        ("Axpy", "", ["a", "b"], "inputs a, x, y of Axpy do not match: [1, 4, 5, 6], [1, 4, 5, 6], [1, 4, 5, 6]"),
        ("Axpy", "", ["a"], "Axpy takes 3 bottoms, but has 2"),
    ],
)
def test_wrong_combination_is_refused(kind: str, params: str, extra: list[str], says: str) -> None:
    assert one_layer(kind, params, second=OTHERS + SMALL, bottoms=["pre", *extra]).refusal().message == says


def test_concat_of_one_input_adds_no_node() -> None:
    graph = import_text(one_layer("Concat").text).graph
    assert [node.op for node in graph.nodes] == ["Conv"]
    assert [output.name for output in graph.outputs] == ["under"]

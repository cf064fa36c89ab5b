from __future__ import annotations

import numpy as np
import pytest
from caffe_files import Array, Case, import_text, one_layer, pre

POOLED = """layer { name: "g" type: "Pooling" bottom: "pre" top: "g" pooling_param { pool: AVE global_pooling: true } }
layer { name: "f" type: "Flatten" bottom: "g" top: "f" }"""


def normed(params: str = "", factor: float = 2.5) -> Case:
    case = one_layer("BatchNorm", params, blobs=[(4,), (4,), (1,)])
    mean, variance, _ = case.weights["under"]
    case.weights["under"] = [mean, np.abs(variance), np.array([factor], np.float32)]
    return case


@pytest.mark.parametrize(
    "params", ["", "batch_norm_param { eps: 0.01 }", "batch_norm_param { use_global_stats: true }"]
)
def test_batch_norm_is_opencvs(params: str) -> None:
    case = normed(params)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


def test_batch_norm_divides_by_the_factor() -> None:
    case = normed("batch_norm_param { eps: 0.01 }", factor=4.0)
    mean, variance, _ = (blob[:, None, None] if blob.size > 1 else blob for blob in case.weights["under"])
    expected = (pre(case) - mean / 4) / np.sqrt(variance / 4 + 0.01)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_without_statistics_has_factor_zero() -> None:
    case = normed("batch_norm_param { eps: 0.25 }", factor=0.0)
    np.testing.assert_allclose(case.imported()[0], pre(case) / 0.5, rtol=1e-5, atol=1e-6)


def test_batch_norm_of_the_picture_itself() -> None:
    case = normed("batch_norm_param { use_global_stats: false }")
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)
    assert "caffe-picture-statistics" in {note.code for note in import_text(case.text, case.weights).notes}


def test_batch_norm_with_scale_and_shift() -> None:
    # NVIDIA's fork; OpenCV has no form of it.
    case = one_layer("BatchNorm", "batch_norm_param { scale_bias: true }", blobs=[(4,), (4,), (1,), (4,), (4,)])
    case.weights["under"][1][:] = np.abs(case.weights["under"][1])
    case.weights["under"][2][:] = 1
    mean, variance, _, scale, shift = (blob[:, None, None] if blob.size > 1 else blob for blob in case.weights["under"])
    expected = (pre(case) - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-4, atol=1e-4)


def test_batch_norm_after_inner_product_is_opencvs() -> None:
    case = one_layer("InnerProduct", "inner_product_param { num_output: 3 }", blobs=[(3, 120), (3,)])
    text = case.text + 'layer { name: "norm" type: "BatchNorm" bottom: "under" top: "under" }'
    text += 'layer { name: "scale" type: "Scale" bottom: "under" top: "under" scale_param { bias_term: true } }'
    values = [np.array([1, -2, 3], np.float32), np.array([4, 1, 2], np.float32), np.array([2], np.float32)]
    case = Case(text, case.weights | {"norm": values, "scale": values[:2]}, case.picture)
    mean, variance = values[0] / 2, values[1] / 2
    product = pre(case).reshape(1, -1) @ case.weights["under"][0].T + case.weights["under"][1]
    expected = (product - mean) / np.sqrt(variance + 1e-5) * values[0] + values[1]
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-4, atol=1e-4)


def test_negative_variance_is_refused() -> None:
    case = normed()
    case.weights["under"][1][2] = -1
    error = case.refusal()
    assert (error.code, error.message) == ("caffe-negative-variance", "layer under stores a negative variance")


@pytest.mark.parametrize(
    ("params", "blobs"),
    [
        ("", [(4,)]),
        ("scale_param { bias_term: true }", [(4,), (4,)]),
        ("scale_param { axis: 2 bias_term: true }", [(5,), (5,)]),
        ("scale_param { axis: 3 }", [(6,)]),
        ("scale_param { num_axes: 2 }", [(4, 5)]),
        ("scale_param { num_axes: -1 }", [(4, 5, 6)]),
    ],
)
def test_scale_is_opencvs(params: str, blobs: list[tuple[int, ...]]) -> None:
    case = one_layer("Scale", params, blobs=blobs)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-6)


def test_scale_by_a_scalar() -> None:
    # OpenCV reads no blob without dimensions.
    case = one_layer("Scale", "scale_param { num_axes: 0 bias_term: true }", blobs=[(), ()])
    scale, shift = case.weights["under"]
    np.testing.assert_allclose(case.imported()[0], pre(case) * scale + shift, rtol=1e-5, atol=1e-6)


def test_scale_by_a_second_input_is_opencvs() -> None:
    case = one_layer("Scale", "scale_param { axis: 0 }", second=POOLED, bottoms=["pre", "f"])
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-6)


def test_scale_by_a_second_input_with_its_own_shift() -> None:
    case = one_layer(
        "Scale", "scale_param { axis: 0 bias_term: true }", second=POOLED, bottoms=["pre", "f"], blobs=[(1, 4)]
    )
    x = pre(case)
    expected = x * x.mean((2, 3), keepdims=True) + case.weights["under"][0].reshape(1, 4, 1, 1)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-6)


def test_bias_learned_and_second_input() -> None:
    # OpenCV has no Bias layer.
    case = one_layer("Bias", "bias_param { axis: 2 num_axes: 2 }", blobs=[(5, 6)])
    np.testing.assert_allclose(case.imported()[0], pre(case) + case.weights["under"][0], rtol=1e-5, atol=1e-6)
    case = one_layer("Bias", "bias_param { axis: 0 }", second=POOLED, bottoms=["pre", "f"])
    np.testing.assert_allclose(
        case.imported()[0], pre(case) + pre(case).mean((2, 3), keepdims=True), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("kind", "params", "second", "says"),
    [
        ("Scale", "scale_param { axis: 5 }", False, "axis 5 does not exist in 4 dimensions"),
        ("Scale", "scale_param { num_axes: 4 }", False, "num_axes 4 from axis 1 on exceeds 4 dimensions"),
        ("Scale", "", True, "the second input [1, 4] does not match the first [1, 4, 5, 6] from axis 1 on"),
    ],
)
def test_wrong_scale_is_refused(kind: str, params: str, second: bool, says: str) -> None:
    error = one_layer(kind, params, second=POOLED, bottoms=["pre", "f"] if second else ["pre"]).refusal()
    assert error.message == says


@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("channel_shared", [False, True])
@pytest.mark.parametrize("eps", [1e-10, 0.5])
def test_normalize_is_caffes(across_spatial: bool, channel_shared: bool, eps: float) -> None:
    params = f"across_spatial: {str(across_spatial).lower()} channel_shared: {str(channel_shared).lower()} eps: {eps}"
    case = one_layer("Normalize", f"norm_param {{ {params} }}", blobs=[(1 if channel_shared else 4,)])
    x = pre(case)
    norm = np.sqrt((x * x).sum((1, 2, 3) if across_spatial else 1, keepdims=True) + eps)
    expected = x / norm * case.weights["under"][0].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-6)
    if channel_shared or not across_spatial:  # OpenCV refuses the fourth form
        np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "axes"), [("", (2, 3)), ("across_channels: true", (1, 2, 3)), ("normalize_variance: false", None)]
)
def test_mvn_is_caffes(params: str, axes: tuple[int, ...] | None) -> None:
    # Caffe adds eps to the deviation, OpenCV to the variance: they agree for a small one.
    case = one_layer("MVN", f"mvn_param {{ {params} }}")
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)
    if axes:
        case = one_layer("MVN", f"mvn_param {{ {params} eps: 0.5 }}")
        x: Array = pre(case)
        expected = (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 0.5)
        np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "params", ["scale_filler { value: 1 }", "bias_filler { value: 0 }", "scale_bias: true eps: 1e-9"]
)
def test_fillers_of_batch_norm_imply_scale_and_shift(params: str) -> None:
    # batch_norm_layer.cpp of NVIDIA's fork; its epsilon is at least 1e-5.
    case = one_layer("BatchNorm", f"batch_norm_param {{ {params} }}", blobs=[(4,), (4,), (1,), (4,), (4,)])
    case.weights["under"][1][:] = 1e-6
    case.weights["under"][2][:] = 1
    mean, variance, _, scale, shift = (blob[:, None, None] if blob.size > 1 else blob for blob in case.weights["under"])
    expected = (pre(case) - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-4, atol=1e-2)
    (node,) = [node for node in import_text(case.text).graph.nodes if node.op == "BatchNormalization"]
    assert len(set(node.inputs[1].values.tolist())) == 4  # random weights draw the scale too


def test_an_epsilon_that_leaves_no_variance_is_refused() -> None:
    case = normed("batch_norm_param { eps: -5 }")
    assert case.refusal().message == "eps is -5, which leaves a variance that is not positive"


def test_statistics_that_overflow_are_refused() -> None:
    case = normed(factor=1e-40)
    error = case.refusal()
    assert (error.code, error.message) == ("caffe-not-finite", "the mean of layer under is not finite")


@pytest.mark.parametrize(
    ("params", "eps"), [("", 1e-5), ("bn_param { var_eps: 0.25 }", 0.25), ("bn_param { eps: 0.5 frozen: true }", 0.5)]
)
def test_bn_with_four_blobs_normalises_and_scales(params: str, eps: float) -> None:
    case = one_layer("BN", params, blobs=[(1, 4, 1, 1)] * 4)
    case.weights["under"][3][:] = np.abs(case.weights["under"][3])
    scale, shift, mean, variance = case.weights["under"]
    expected = (pre(case) - mean) / np.sqrt(variance + eps) * scale + shift
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-4, atol=1e-4)


def test_bn_with_two_blobs_has_its_statistics_merged() -> None:
    case = one_layer("BN", "bn_param { bn_mode: INFERENCE }", blobs=[(1, 4, 1, 1)] * 2)
    scale, shift = case.weights["under"]
    np.testing.assert_allclose(case.imported()[0], pre(case) * scale + shift, rtol=1e-5, atol=1e-5)
    assert [node.op for node in import_text(case.text).graph.nodes] == ["Conv", "Mul", "Add"]


def test_bn_of_a_batch_is_refused() -> None:
    case = one_layer("BN", "bn_param { bn_mode: LEARN }", blobs=[(1, 4, 1, 1)] * 2)
    assert case.refusal().message == "BN with bn_mode LEARN is not supported"


def test_normalize_reads_its_parameters_under_both_names() -> None:
    params = "{ across_spatial: false channel_shared: false scale_filler { value: 20 } }"
    case = one_layer("Normalize", f"norm_param {params}", blobs=[(4,)])
    other = Case(case.text.replace("norm_param", "normalize_bbox_param"), case.weights, case.picture)
    np.testing.assert_array_equal(case.imported()[0], other.imported()[0])

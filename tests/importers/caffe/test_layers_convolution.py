from __future__ import annotations

import numpy as np
import pytest
from caffe_files import one_layer, pre
from examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import CaffeLayer, caffe_convolutions, caffe_deconvolutions


@given(caffe_convolutions(), st.integers(0, 99))
@settings(max_examples=examples(60))
def test_convolution_is_opencvs(layer: CaffeLayer, seed: int) -> None:
    depthwise = layer.shape[1] > 1 and layer.blobs[0][1] == 1
    assume(not depthwise or min(layer.shape[2:]) > 1)  # OpenCV 4.14 reads beyond its input: see the next test
    case = one_layer(layer.type, layer.params, shape=layer.shape, blobs=layer.blobs, seed=seed)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_depthwise_convolution_of_few_pixels(size: int) -> None:
    params = "convolution_param { num_output: 16 group: 16 kernel_size: 3 pad: 1 bias_term: false }"
    case = one_layer("Convolution", params, shape=(1, 16, size, size), blobs=[(16, 1, 3, 3)])
    padded = np.pad(pre(case), ((0, 0), (0, 0), (1, 1), (1, 1)))
    kernel = case.weights["under"][0][None, :, 0, :, :, None, None]
    expected = sum(padded[:, :, i : i + size, j : j + size] * kernel[:, :, i, j] for i in range(3) for j in range(3))
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-5)


@given(caffe_deconvolutions(), st.integers(0, 99))
@settings(max_examples=examples(40))
def test_deconvolution_is_opencvs(layer: CaffeLayer, seed: int) -> None:
    case = one_layer(layer.type, layer.params, shape=layer.shape, blobs=layer.blobs, seed=seed)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-4)


def test_dilated_deconvolution_spreads_the_kernel() -> None:
    # OpenCV has no dilation here: the same kernel with explicit holes is the reference.
    plain = "convolution_param { num_output: 2 bias_term: false kernel_size: %d stride: 2 dilation: %d }"
    dilated = one_layer("Deconvolution", plain % (2, 2), blobs=[(4, 2, 2, 2)])
    spread = one_layer("Deconvolution", plain % (3, 1), blobs=[(4, 2, 3, 3)])
    spread.weights["pre"], holes = dilated.weights["pre"], np.zeros((4, 2, 3, 3), np.float32)
    holes[:, :, ::2, ::2] = dilated.weights["under"][0]
    spread.weights["under"] = [holes]
    spread.picture[:] = dilated.picture
    np.testing.assert_allclose(dilated.imported()[0], spread.opencv(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_inner_product_multiplies_everything_behind_the_axis(axis: int, transpose: bool, bias: bool) -> None:
    # OpenCV ignores `transpose`, so the product is written out.
    shape = (1, 4, 5, 6)
    inner = int(np.prod(shape[axis:]))
    case = one_layer(
        "InnerProduct",
        f"inner_product_param {{ num_output: 3 axis: {axis} bias_term: {str(bias).lower()} "
        f"{'transpose: true' if transpose else ''} }}",
        shape=shape,
        blobs=[(inner, 3) if transpose else (3, inner), *([(3,)] if bias else [])],
    )
    weight, *shift = case.weights["under"]
    x = pre(case).reshape(*shape[: axis % 4], inner)
    expected = x @ (weight if transpose else weight.T) + (shift[0] if bias else 0)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-5)
    if not transpose:
        np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ("kernel_size: 1", "caffe-wrong-value", "num_output is missing; it must be at least 1"),
        ("num_output: 2", "caffe-wrong-value", "kernel_size is [0], but must be at least 1"),
        ("num_output: 2 kernel_size: 9", "caffe-empty-output", "the kernel [9, 9] is larger than the padded input of [5, 6] pixels"),
        ("num_output: 3 kernel_size: 1 group: 2", "caffe-wrong-value", "group 2 does not divide 4 input and 3 output channels"),
        ("num_output: 2 kernel_size: 1 kernel_h: 1", "caffe-wrong-value", "kernel_size and kernel_h/kernel_w are both given"),
        ("num_output: 2 kernel_size: 1 kernel_size: 1 kernel_size: 1", "caffe-wrong-value", "kernel_size has 3 values; pictures have two dimensions"),
        ("num_output: 2 kernel_size: 1 axis: 2", "caffe-unsupported-attribute", "Convolution with axis 2 is not supported"),
        ("num_output: 2 kernel_size: 1 kernal: 3", "caffe-unknown-attribute", "Convolution with the attribute kernal is not supported"),
        ("num_output: 400000000 kernel_size: 1", "caffe-too-large", "the weight of layer under would have the shape [400000000, 4, 1, 1]"),
        ("num_output: 2.5 kernel_size: 1", "caffe-wrong-value", "num_output is '2.5', but must be a whole number of 32 bits"),
    ],
)  # fmt: skip
def test_wrong_convolution_is_refused(params: str, code: str, says: str) -> None:
    error = one_layer("Convolution", f"convolution_param {{ {params} }}", blobs=[(2, 4, 1, 1), (2,)]).refusal()
    assert (error.code, error.message) == (code, says)
    assert error.context["layer"] == "under"
    assert error.context["line"] in ("6", "7")

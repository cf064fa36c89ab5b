from __future__ import annotations

from typing import Any

import caffe_reference
import numpy as np
import pytest
from caffe_files import import_text, one_layer, pre
from examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import CaffeLayer, caffe_poolings


@given(caffe_poolings(), st.integers(0, 99))
@settings(max_examples=examples(120))
def test_pooling_is_caffes(drawn: tuple[CaffeLayer, dict[str, Any]], seed: int) -> None:
    layer, numbers = drawn
    case = one_layer(layer.type, layer.params, shape=layer.shape, seed=seed)
    np.testing.assert_allclose(case.imported()[0], caffe_reference.pooling(pre(case), **numbers), rtol=1e-5, atol=1e-5)


@given(caffe_poolings(), st.integers(0, 99))
@settings(max_examples=examples(60))
def test_pooling_is_opencvs(drawn: tuple[CaffeLayer, dict[str, Any]], seed: int) -> None:
    layer, numbers = drawn
    # Padded in one direction only, OpenCV keeps a window beyond the picture in the other; Caffe drops it in both.
    span = np.array(layer.shape[2:]) + 2 * numbers["pad"] - numbers["kernel"]
    assume(not (numbers["round_up"] and (-(-span // numbers["stride"]) * numbers["stride"] >= layer.shape[2:]).any()))
    params = layer.params.replace("round_mode: FLOOR", "ceil_mode: false")  # OpenCV's name for it
    case = one_layer(layer.type, params, shape=layer.shape, seed=seed)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_global_pooling_is_opencvs(method: str) -> None:
    case = one_layer("Pooling", f"pooling_param {{ pool: {method} global_pooling: true }}")
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-6)


def test_rounding_up_without_padding_stays_one_node() -> None:
    graph = import_text(
        one_layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", shape=(1, 4, 5, 7)).text
    ).graph
    (node,) = [node for node in graph.nodes if node.op == "MaxPool"]
    assert node.attrs == {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    assert node.outputs[0].shape == [1, 4, 3, 4]


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ("pool: STOCHASTIC kernel_size: 2", "caffe-unsupported-attribute", "Pooling with pool STOCHASTIC is not supported"),
        ("kernel_size: 2 pad: 2", "caffe-wrong-value", "pad [2, 2] must be smaller than the kernel [2, 2]"),
        ("kernel_size: 9", "caffe-empty-output", "a window of [9, 9] lies outside the input of [5, 6] pixels"),
        ("kernel_size: 1 stride: 5", "caffe-empty-output", "a window of [1, 1] lies outside the input of [5, 6] pixels"),
        ("global_pooling: true kernel_size: 2", "caffe-wrong-value", "global_pooling takes no kernel size"),
        ("kernel_size: 2 pool: MEDIAN", "caffe-wrong-value", "pool is 'MEDIAN', but must be one of MAX, AVE, STOCHASTIC"),
    ],
)  # fmt: skip
def test_wrong_pooling_is_refused(params: str, code: str, says: str) -> None:
    error = one_layer("Pooling", f"pooling_param {{ {params} }}").refusal()
    assert (error.code, error.message, error.context["layer"]) == (code, says, "under")


@given(st.sampled_from([1, 3, 5]), st.sampled_from([0.1, 1.0, 2.5]), st.sampled_from([0.5, 0.75, 1.0]))
@settings(max_examples=examples(15))
def test_lrn_across_channels(size: int, alpha: float, beta: float) -> None:
    case = one_layer("LRN", f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} }}", shape=(1, 6, 3, 4))
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


def test_lrn_takes_k() -> None:
    # OpenCV reads `bias` where Caffe writes `k`, so the sum is written out.
    case = one_layer("LRN", "lrn_param { local_size: 3 alpha: 0.6 beta: 0.75 k: 2 }")
    x = pre(case)
    squares = np.pad(x * x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    np.testing.assert_allclose(case.imported()[0], x / (2 + 0.6 / 3 * total) ** 0.75, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn_within_a_channel(size: int) -> None:
    params = f"lrn_param {{ local_size: {size} alpha: 0.5 beta: 0.6 norm_region: WITHIN_CHANNEL }}"
    case = one_layer("LRN", params)
    expected = caffe_reference.normalise_within_channel(pre(case), size, 0.5, 0.6)
    np.testing.assert_allclose(case.imported()[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


def test_even_lrn_window_is_refused() -> None:
    assert one_layer("LRN", "lrn_param { local_size: 4 }").refusal().message == "local_size is 4, but must be odd"

"""Every number on its own: against OpenCV, or against the formula where OpenCV has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from caffe_files import Array, import_text, one_layer, pre
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CaffeLayer, caffe_activations


@given(caffe_activations(), st.integers(0, 99))
@settings(max_examples=examples(100))
def test_activation_is_opencvs(layer: CaffeLayer, seed: int) -> None:
    case = one_layer(layer.type, layer.params, shape=layer.shape, blobs=layer.blobs, seed=seed)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "params", "formula"),
    [
        ("Log", "log_param { base: 2 scale: 0.1 shift: 1 }", lambda x: np.log2(1 + 0.1 * x)),
        ("Log", "log_param { scale: 0.1 shift: 1 }", lambda x: np.log(1 + 0.1 * x)),
        ("Clip", "clip_param { min: -0.5 max: 0.75 }", lambda x: np.clip(x, -0.5, 0.75)),
        ("Threshold", "threshold_param { threshold: 0.5 }", lambda x: (x > 0.5).astype(np.float32)),
        ("Threshold", "", lambda x: (x > 0).astype(np.float32)),
        ("Swish", "swish_param { beta: 1.5 }", lambda x: x / (1 + np.exp(-1.5 * x))),
        ("Dropout", "dropout_param { dropout_ratio: 0.4 scale_train: false }", lambda x: 0.6 * x),
        ("Power", "power_param { power: -1 scale: 0.1 shift: 2 }", lambda x: 1 / (2 + 0.1 * x)),
        ("HSwish", "", lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("HSigmoid", "", lambda x: np.clip(x + 3, 0, 6) / 6),
        ("HardSigmoid", "hard_sigmoid_param { alpha: 0.3 beta: 0.4 }", lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
        ("SELU", "", lambda x: 1.050701 * np.where(x > 0, x, 1.6732632 * (np.exp(x) - 1))),
        ("SeLu", "selu_param { lambda: 2 alpha: 3 }", lambda x: 2 * np.where(x > 0, x, 3 * (np.exp(x) - 1))),
        ("CReLU", "", lambda x: np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], 1)),
        (
            "CReLU",
            "crelu_param { negative_slope: 0.5 concat_axis: 2 }",
            lambda x: np.concatenate([np.maximum(x, x / 2), np.maximum(-x, -x / 2)], 2),
        ),
    ],
)
def test_activation_is_its_formula(kind: str, params: str, formula: Callable[[Array], Array]) -> None:
    # OpenCV knows none of these forms, or leaves some of their parameters unread.
    case = one_layer(kind, params)
    np.testing.assert_allclose(case.imported()[0], formula(pre(case)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Mish", "HardSwish"])
def test_activations_without_parameters_are_opencvs(kind: str) -> None:
    case = one_layer(kind)
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_softmax_is_opencvs(axis: int) -> None:
    case = one_layer("Softmax", f"softmax_param {{ axis: {axis} }}")
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-5, atol=1e-6)


def test_dropout_and_neutral_power_leave_no_node() -> None:
    for kind in ("Dropout", "Power", "Split"):
        text = one_layer(kind).text + 'layer { name: "end" type: "ReLU" bottom: "under" top: "end" }'
        assert [node.op for node in import_text(text).graph.nodes] == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("Exp", "exp_param { base: 0 }", "base is 0, but must be positive and not 1, or -1 for e"),
        ("Clip", "clip_param { min: 0 }", "max is missing"),
        ("Softmax", "softmax_param { axis: 4 }", "axis 4 does not exist in 4 dimensions"),
        ("ReLU", "relu_param { slope: 1 }", "ReLU with the attribute slope is not supported"),
        ("ReLU", "relu_param { negative_slope: steep }", "negative_slope is 'steep', but must be a number"),
        ("Dropout", "dropout_param { sample_weights_test: true }", "Dropout with sample_weights_test is not supported"),
        ("HardSigmoid", "hardsigmoid_param { alpha: 0.2 }", "HardSigmoid with no beta is not supported"),
    ],
)
def test_wrong_activation_is_refused(kind: str, params: str, says: str) -> None:
    assert one_layer(kind, params).refusal().message == says

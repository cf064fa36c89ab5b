"""Small networks in one engine: the same outputs, and each gets its own layers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deploycc.documents.costs import Convolution
from deploycc.timing.convolutions import single_convolution
from deploycc.timing.profile_layers import TimedLayer
from deploycc.timing.side_by_side import joined, times_of_parts

CONVOLUTION = Convolution(
    inputs=8, kernels=8, groups=1, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), pads=(1, 1, 1, 1), size=(6, 6)
)


def test_the_networks_compute_what_they_computed_alone() -> None:
    models = [single_convolution(CONVOLUTION.narrowed(8, count)) for count in (3, 8)]
    whole = joined(models)
    onnx.checker.check_model(whole, full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 16, 6, 6)).astype(np.float32)
    found = ort.InferenceSession(whole.SerializeToString()).run(None, {"timed0_x": x, "timed1_x": 2 * x})
    for model, scale, values in zip(models, (1, 2), found, strict=True):
        expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": scale * x})[0]
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    assert [node.name for node in models[0].graph.node] == [""] * 4  # they stay as they are


def test_layers_are_shared_out_by_the_nodes_that_they_name() -> None:
    profile = [
        TimedLayer("timed0_1 + timed0_2", 2.0),
        TimedLayer("Reformatting CopyNode for Input Tensor 0 to timed0_1 + timed0_2", 0.5),
        TimedLayer("timed1_0 || timed10_0", 4.0),
        TimedLayer("slice_1", 7.0),
        TimedLayer("__myl_ConvConv_myl2_3", 3.0, ("timed2_1", "timed3_1", "timed3_2")),
    ]
    times = times_of_parts(profile, 11)
    assert times == pytest.approx([2.5, 2.0, 1.5, 1.5, *[0.0] * 6, 2.0], rel=1e-12, abs=0)

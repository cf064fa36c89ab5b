"""Automatic padding in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_text import run

from deploycc.importers import load

TEXT = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,7,8] x) => (float[1,2,h,v] y) {
  c = Conv <auto_pad = "%s", dilations = [2, 3], strides = [%d, %d]> (x, w)  y = Relu (c) }"""


@pytest.mark.parametrize(
    ("words", "stride", "pads"),
    [  # a window of 5 x 7: 11 - 7 rows are padded, and with a stride of 2 ((4 - 1) * 2 + 7) - 8 columns
        ("SAME_UPPER", 1, [2, 3, 2, 3]),
        ("SAME_UPPER", 2, [2, 2, 2, 3]),
        ("SAME_LOWER", 2, [2, 3, 2, 2]),
    ],
)
def test_a_dilated_convolution_gets_the_pads_that_its_words_mean(
    words: str, stride: int, pads: list[int], tmp_path: Path
) -> None:
    """ONNX Runtime refuses such words together with dilations, so the file was refused."""
    model = onnx.parser.parse_model(TEXT % (words, stride, stride))
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    graph = load(tmp_path / "net.onnx").graph
    assert graph.nodes[0].attrs["pads"] == pads
    assert run(graph)[0].shape == (1, 2, -(-7 // stride), -(-8 // stride))

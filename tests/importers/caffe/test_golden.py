"""One small detector as ONNX text: names, operators and attributes that the importer writes, to be read as a diff."""

from __future__ import annotations

import numpy as np
from caffe_files import SMALL_DETECTOR, import_text, run
from golden_files import assert_golden

from deploycc.graph.text import to_text


def test_small_detector_is_the_golden_text() -> None:
    detector = import_text(SMALL_DETECTOR, seed=1)
    outputs = run(detector, np.zeros((1, 3, 20, 24), np.float32))
    assert {name: values.shape for name, values in outputs.items()} == {"loc_flat": (1, 240), "conf_flat": (1, 180)}
    assert_golden("caffe_small_ssd.txt", to_text(detector.graph))

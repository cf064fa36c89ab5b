from __future__ import annotations

import numpy as np
import pytest
from caffe_files import import_text

from deploycc.errors import ModelError

NETWORK = """
input: "data" input_shape { dim: [1, 3, 8, 8] }
layer { name: "map" type: "Pooling" bottom: "data" top: "map" pooling_param { kernel_size: 4 stride: 4 } }
layer { name: "prior" type: "PriorBox" bottom: "map" bottom: "data" top: "prior" prior_box_param { min_size: 3 } }
layer { name: "prior2" type: "PriorBox" bottom: "map" bottom: "data" top: "prior2" prior_box_param { min_size: 5 } }
layer { name: "priors" type: "Concat" bottom: "prior" bottom: "prior2" top: "priors" concat_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "loc" type: "InnerProduct" bottom: "flat" top: "loc" inner_product_param { num_output: 32 } }
layer { name: "conf" type: "InnerProduct" bottom: "flat" top: "conf" inner_product_param { num_output: 24 } }
layer { name: "soft" type: "Sigmoid" bottom: "conf" top: "conf" }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "out"
  detection_output_param { num_classes: 3 %s } %s }
"""


def test_defaults_are_caffes() -> None:
    detector = import_text(NETWORK % ("", ""))
    heads, nms = detector.heads, detector.nms
    assert heads is not None
    assert (heads.locations, heads.scores, heads.classes, heads.background) == ("loc", "conf", 3, 0)
    assert (heads.box_coding, heads.variance_encoded, heads.clip, heads.y_first) == ("corner", False, False, False)
    assert (nms.iou_threshold, nms.top_k, nms.keep_top_k) == (pytest.approx(0.3, rel=1e-12), -1, -1)
    assert nms.score_threshold == float(np.finfo(np.float32).min)
    assert heads.priors.shape == heads.variances.shape == (8, 4)
    assert heads.priors.dtype == heads.variances.dtype == np.float32
    assert {float(value) for value in heads.variances.ravel()} == {float(np.float32(0.1))}
    # `conf` is written in place; the output keeps the blob's name, and nothing of DetectionOutput is in the graph.
    assert [(output.name, output.shape) for output in detector.graph.outputs] == [("loc", [1, 32]), ("conf", [1, 24])]
    assert {node.op for node in detector.graph.nodes} == {"Flatten", "Gemm", "Sigmoid"}


def test_everything_given() -> None:
    params = """share_location: true background_label_id: -1 code_type: CENTER_SIZE variance_encoded_in_target: true
      keep_top_k: 50 confidence_threshold: 0.35 clip: true save_output_param { output_directory: "x" }
      nms_param { nms_threshold: 0.45 top_k: 100 }"""
    detector = import_text(NETWORK % (params, "include { phase: TEST } transform_param { mean_value: 1 }"))
    heads, nms = detector.heads, detector.nms
    assert heads is not None
    assert (heads.background, heads.box_coding, heads.variance_encoded, heads.clip) == (None, "center_size", True, True)
    assert (nms.score_threshold, nms.iou_threshold, nms.top_k, nms.keep_top_k) == (0.35, 0.45, 100, 50)
    assert detector.input.assumed  # a transform_param outside the data layers says nothing about the picture


@pytest.mark.parametrize("label", [-1, 3, 4294967295])
def test_a_background_that_is_not_a_class_skips_none(label: int) -> None:
    heads = import_text(NETWORK % (f"background_label_id: {label}", "")).heads
    assert heads is not None
    assert heads.background is None


def test_code_types() -> None:
    for name, coding in (
        ("CORNER", "corner"),
        ("CENTER_SIZE", "center_size"),
        ("CORNER_SIZE", "corner_size"),
        ("2", "center_size"),
    ):
        heads = import_text(NETWORK % (f"code_type: {name}", "")).heads
        assert heads is not None
        assert heads.box_coding == coding


def test_layers_after_and_beside_the_detections() -> None:
    detector = import_text(NETWORK % ("", "") + 'layer { name: "quiet" type: "Silence" bottom: "out" }')
    assert detector.heads is not None
    side = 'layer { name: "side" type: "ReLU" bottom: "map" top: "side" }'
    detector = import_text(NETWORK % ("", "") + side)
    assert [(note.node, note.code) for note in detector.notes if note.code == "caffe-output-dropped"] == [
        ("side", "caffe-output-dropped")
    ]
    assert [output.name for output in detector.graph.outputs] == ["loc", "conf"]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (NETWORK % ("share_location: false", ""), "caffe-unsupported-attribute", "DetectionOutput with share_location false is not supported"),
        (NETWORK % ("nms_param { eta: 0.9 }", ""), "caffe-unsupported-attribute", "DetectionOutput with eta 0.9 is not supported"),
        (NETWORK % ("nms_param { soft: 1 }", ""), "caffe-unsupported-attribute", "DetectionOutput with nms_param soft (line 12) is not supported"),
        (NETWORK % ("objectness_score: 0.01", ""), "caffe-unknown-attribute", "DetectionOutput with the attribute objectness_score is not supported"),
        (NETWORK % ("", 'bottom: "map"'), "caffe-unsupported-attribute", "DetectionOutput with a fourth input is not supported"),
        ((NETWORK % ("", "")).replace("num_output: 24", "num_output: 25"), "caffe-shape-mismatch", "conf has 25 values, but 8 priors x 3 classes make 24"),
        ((NETWORK % ("", "")).replace("num_output: 32", "num_output: 31"), "caffe-shape-mismatch", "loc has 31 values, but 8 priors x 4 coordinates make 32"),
        ((NETWORK % ("", "")).replace('bottom: "priors" top: "out"', 'bottom: "map" top: "out"'), "caffe-unknown-priors", "the priors map are computed by layers other than PriorBox and Concat"),
        ((NETWORK % ("", "")).replace("concat_param { axis: 2 }", "concat_param { axis: 1 }"), "caffe-shape-mismatch", "the priors priors have the shape [1, 4, 16], not [1, 2, 4 P]"),
        (NETWORK % ("", "") + 'layer { name: "r" type: "ReLU" bottom: "out" top: "r" }', "caffe-unsupported-layer", "layer r reads the detections"),
        (NETWORK % ("", "") + 'layer { name: "o2" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "o2" detection_output_param { num_classes: 3 } }', "caffe-unsupported-layer", "the network has more than one DetectionOutput"),
    ],
)  # fmt: skip
def test_wrong_detection_layers_are_refused(text: str, code: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_text(text)
    assert (caught.value.code, caught.value.message) == (code, says)


def test_an_overlap_that_nothing_exceeds_suppresses_nothing() -> None:
    """Caffe takes any threshold of 0 or more; ONNX and TensorRT take at most 1, which was a traceback."""
    assert import_text(NETWORK % ("nms_param { nms_threshold: 2 }", "")).nms.iou_threshold == 1.0
    with pytest.raises(ModelError) as caught:
        import_text(NETWORK % ("nms_param { nms_threshold: -0.5 }", ""))
    assert caught.value.message == "nms_threshold is -0.5, but must not be negative"


def test_a_second_top_counts_the_detections() -> None:
    # sampleSSD of TensorRT
    plain, counted = NETWORK % ("", ""), NETWORK % ("", "top: 'keep_count'")
    detector, other = import_text(plain), import_text(counted)
    assert [output.name for output in other.graph.outputs] == [output.name for output in detector.graph.outputs]
    assert "caffe-output-dropped" not in {note.code for note in other.notes}
    with pytest.raises(ModelError) as caught:
        import_text(counted + "layer { name: 'r' type: 'ReLU' bottom: 'keep_count' top: 'r' }")
    assert caught.value.message == "layer r reads the detections"

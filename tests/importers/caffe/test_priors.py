from __future__ import annotations

import caffe_reference
import numpy as np
import pytest
from caffe_files import import_text, run_opencv
from examples import examples
from hypothesis import given, settings
from strategies import CaffePriors, caffe_priors

from deploycc.detector.prior_grid import PriorGrid, box_sizes
from deploycc.errors import ModelError


def network(cells: tuple[int, int], image: tuple[int, int], params: str) -> str:
    """A network whose heads fit any number of priors: the priors are read before the sizes are checked."""
    stride = image[0] // cells[0], image[1] // cells[1]
    return f"""
    input: "data" input_shape {{ dim: 1 dim: 3 dim: {image[0]} dim: {image[1]} }}
    layer {{ name: "pool" type: "Pooling" bottom: "data" top: "map"
      pooling_param {{ kernel_h: {stride[0]} kernel_w: {stride[1]} stride_h: {stride[0]} stride_w: {stride[1]} }} }}
    layer {{ name: "prior" type: "PriorBox" bottom: "map" bottom: "data" top: "prior" prior_box_param {{ {params} }} }}
    """


def with_heads(text: str, priors: int) -> str:
    return (
        text
        + f"""
    layer {{ name: "flat" type: "Flatten" bottom: "data" top: "flat" }}
    layer {{ name: "loc" type: "InnerProduct" bottom: "flat" top: "loc" inner_product_param {{ num_output: {4 * priors} }} }}
    layer {{ name: "conf" type: "InnerProduct" bottom: "flat" top: "conf" inner_product_param {{ num_output: {2 * priors} }} }}
    layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
      detection_output_param {{ num_classes: 2 }} }}
    """
    )


@given(caffe_priors())
@settings(max_examples=examples(40))
def test_priors_are_caffes(drawn: CaffePriors) -> None:
    expected = caffe_reference.priors(
        drawn.cells, drawn.image, drawn.min_sizes, drawn.max_sizes, drawn.ratios,
        flip=drawn.flip, step=drawn.step, offset=drawn.offset, clip=drawn.clip,
    )  # fmt: skip
    heads = import_text(with_heads(network(drawn.cells, drawn.image, drawn.text), len(expected))).heads
    assert heads is not None
    np.testing.assert_allclose(heads.priors, expected, rtol=0, atol=1e-6)
    rows = drawn.variances * 4 if len(drawn.variances) == 1 else drawn.variances
    np.testing.assert_allclose(heads.variances, np.broadcast_to(rows, expected.shape), rtol=1e-6, atol=0)


@given(caffe_priors(sizes=1, fractions=False))
@settings(max_examples=examples(40))
def test_priors_are_opencvs(drawn: CaffePriors) -> None:
    # OpenCV takes one min_size, and keeps its fraction.
    text = network(drawn.cells, drawn.image, drawn.text)
    (expected,) = run_opencv(text, {}, np.zeros((1, 3, *drawn.image), np.float32), ["prior"])
    heads = import_text(with_heads(text, expected.shape[2] // 4)).heads
    assert heads is not None
    np.testing.assert_allclose(heads.priors.ravel(), expected[0, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(heads.variances.ravel(), expected[0, 1], rtol=0, atol=1e-7)


def test_widths_heights_and_several_offsets_are_opencvs() -> None:
    params = (
        "width: 10 width: 20 height: 30 height: 5 offset_h: 0.25 offset_h: 0.75 offset_w: 0.5 offset_w: 0.1 clip: false"
    )
    text = network((2, 3), (40, 60), params + " variance: 0.1")
    (expected,) = run_opencv(text, {}, np.zeros((1, 3, 40, 60), np.float32), ["prior"])
    heads = import_text(with_heads(text, expected.shape[2] // 4)).heads
    assert heads is not None
    np.testing.assert_allclose(heads.priors.ravel(), expected[0, 0], rtol=0, atol=1e-6)


def test_picture_size_may_stand_in_the_parameters() -> None:
    params = "min_size: 10 clip: false variance: 0.1 img_h: 80 img_w: 120"
    text = network((2, 3), (40, 60), params).replace('bottom: "map" bottom: "data"', 'bottom: "map"')
    heads = import_text(with_heads(text, 6)).heads
    assert heads is not None
    expected = caffe_reference.priors((2, 3), (80, 120), [10], [], [], flip=True, step=None, offset=0.5, clip=False)
    np.testing.assert_allclose(heads.priors, expected, rtol=0, atol=1e-6)


def test_first_box_of_ssd300() -> None:
    # conv4_3 of SSD300: 38 x 38 cells of 8 pixels, min 30, max 60; centre at 4 pixels, square of 30 around it.
    grid = PriorGrid((38, 38), (300, 300), (8, 8), [(0.5, 0.5)], box_sizes([30], [60], [2], flip=True))
    boxes = grid.boxes()
    assert boxes.shape == (38 * 38 * 4, 4)
    np.testing.assert_allclose(boxes[0], np.array([-11, -11, 19, 19]) / 300, rtol=0, atol=1e-6)
    np.testing.assert_allclose(boxes[1, 2] - boxes[1, 0], np.sqrt(1800) / 300, rtol=1e-6, atol=0)
    np.testing.assert_allclose(boxes[5, 0] - boxes[1, 0], 8 / 300, rtol=1e-4, atol=0)


def test_priors_dropped_from_the_outputs_have_a_note() -> None:
    text = network((2, 2), (8, 8), "min_size: 3") + 'layer { name: "end" type: "ReLU" bottom: "map" top: "end" }'
    detector = import_text(text)
    assert [output.name for output in detector.graph.outputs] == ["end"]
    assert ("prior", "a constant blob cannot be an output") in [(note.node, note.reason) for note in detector.notes]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("", "min_size is missing; it must be positive"),
        ("min_size: 0", "min_size is [0.0]; it must be positive"),
        ("min_size: 5 max_size: 4", "max_size [4.0] must have one larger value per min_size [5.0]"),
        (
            "min_size: 5 max_size: 6 max_size: 7",
            "max_size [6.0, 7.0] must have one larger value per min_size [5.0]",
        ),
        ("min_size: 5 aspect_ratio: 0", "aspect_ratio is [0.0], but must be positive"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "variance is [0.1, 0.2], but must be 1 or 4 positive numbers"),
        ("min_size: 5 step: 8 step_h: 8", "step and step_h/step_w are both given"),
        ("min_size: 5 step_h: 8", "step is (8.0, 0.0), but must be positive"),
        ("min_size: 5 normalized_bbox: false", "PriorBox with normalized_bbox false is not supported"),
        ("min_size: 5 density: 2", "PriorBox with the attribute density is not supported"),
        ("fixed_size: 32 density: 2", "PriorBox with the attribute fixed_size is not supported"),
        ("min_size: 0.5", "min_size is [0.5]; Caffe reads whole numbers, and 0 is not a size"),
        ("min_size: 5 variance: nan", "variance is 'nan', but must be a finite number of 32 bits"),
        ("min_size: 5 offset: inf", "offset is 'inf', but must be a finite number of 32 bits"),
        ("min_size: 3e38 max_size: 3.4e38 img_size: 1 step: 3e38", "the priors of layer prior is not finite"),
        ("width: 5 height: -4", "width is [5.0] and height [-4.0]; they must be positive"),
        ("width: 5 height: 4 min_size: 3", "width and height must be of equal number, and without other sizes"),
        ("min_size: 5 offset_h: 0.5", "offset_h and offset_w must be of equal number, and without offset"),
    ],
)
def test_wrong_priors_are_refused(params: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_text(network((2, 2), (8, 8), params))
    assert caught.value.message == says
    assert caught.value.context["layer"] == "prior"


def test_fractions_of_sizes_are_dropped_with_a_note() -> None:
    text = with_heads(network((2, 3), (40, 60), "min_size: 14.4 max_size: 30.9 aspect_ratio: 2"), 24)
    detector = import_text(text)
    assert detector.heads is not None
    expected = caffe_reference.priors((2, 3), (40, 60), [14], [30], [2], flip=True, step=None, offset=0.5, clip=False)
    np.testing.assert_allclose(detector.heads.priors, expected, rtol=0, atol=1e-6)
    reasons = [note.reason for note in detector.notes if note.code == "caffe-whole-sizes"]
    assert [reason[: reason.index(";")] for reason in reasons] == [
        "min_size is read without its fraction, as Caffe does in training: 14.4 as 14",
        "max_size is read without its fraction, as Caffe does in training: 30.9 as 30",
    ]


def test_fractions_of_sizes_stay_beside_parameters_that_only_opencv_reads() -> None:
    text = network((2, 3), (40, 60), "min_size: 14.4 offset_h: 0.5 offset_w: 0.25 clip: false variance: 0.1")
    (expected,) = run_opencv(text, {}, np.zeros((1, 3, 40, 60), np.float32), ["prior"])
    heads = import_text(with_heads(text, 6)).heads
    assert heads is not None
    np.testing.assert_allclose(heads.priors.ravel(), expected[0, 0], rtol=0, atol=1e-6)


def test_too_many_priors_are_refused_before_they_are_made() -> None:
    with pytest.raises(ModelError) as caught:
        import_text(network((2000, 2000), (2000, 2000), "min_size: 3"))
    assert (caught.value.code, caught.value.message) == (
        "caffe-too-large", "PriorBox would write 4,000,000 boxes, more than 1,048,576"
    )  # fmt: skip

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from caffe_files import Array, import_text, one_layer, pre, run

SMALL = 'layer { name: "s" type: "Pooling" bottom: "pre" top: "s" pooling_param { kernel_size: 3 } }'


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("Flatten", ""),
        ("Flatten", "flatten_param { axis: 2 }"),
        ("Flatten", "flatten_param { axis: 1 end_axis: -2 }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
        ("Reshape", "reshape_param { shape { dim: 1 dim: 0 dim: 30 } }"),
        ("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }"),
        ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        ("Permute", "permute_param { order: 0 order: 1 order: 3 order: 2 }"),
        ("ShuffleChannel", "shuffle_channel_param { group: 2 }"),
    ],
)
def test_moving_numbers_is_opencvs(kind: str, params: str) -> None:
    case = one_layer(kind, params)
    found, expected = case.imported()[0], case.opencv()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_crop_is_opencvs() -> None:
    case = one_layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", second=SMALL, bottoms=["pre", "s"])
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-6, atol=1e-6)


# From here on OpenCV has no such layer, or no way to ask for outputs beside the first.
@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("Reshape", "reshape_param { shape { dim: 1 } axis: 1 num_axes: 0 }", lambda x: x[:, None]),
        ("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: -2 }", lambda x: x.reshape(1, 4, 5, 2, 3)),
        ("Flatten", "flatten_param { axis: 0 }", lambda x: x.reshape(-1)),
        ("Permute", "permute_param { order: 1 }", lambda x: x.transpose(1, 0, 2, 3)),
        ("Tile", "tile_param { axis: 2 tiles: 3 }", lambda x: np.tile(x, (1, 1, 3, 1))),
        ("Reduction", "", lambda x: x.sum()),
        ("Reduction", "reduction_param { axis: 1 operation: MEAN }", lambda x: x.mean((1, 2, 3))),
        ("Reduction", "reduction_param { axis: -1 operation: ASUM }", lambda x: abs(x).sum(3)),
        ("Reduction", "reduction_param { axis: 2 operation: SUMSQ coeff: 0.5 }", lambda x: (x * x).sum((2, 3)) / 2),
        ("ArgMax", "argmax_param { axis: 1 }", lambda x: x.argmax(1)[:, None].astype(np.float32)),
        ("ArgMax", "", lambda x: x.reshape(1, -1).argmax(1).reshape(1, 1, 1).astype(np.float32)),
    ],
)
def test_moving_numbers_is_its_definition(kind: str, params: str, expected: Callable[[Array], Array]) -> None:
    case = one_layer(kind, params)
    wanted = np.asarray(expected(pre(case)))
    found = case.imported()[0]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "cuts"),
    [
        ("slice_point: 1 slice_point: 3", [slice(0, 1), slice(1, 3), slice(3, 4)]),
        ("axis: 1", [slice(0, 2), slice(2, 4)]),
        ("slice_dim: 1", [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)]),
    ],
)
def test_slice_cuts_channels(params: str, cuts: list[slice]) -> None:
    case = one_layer("Slice", f"slice_param {{ {params} }}", tops=len(cuts))
    x: Array = pre(case)
    for found, cut in zip(case.imported(), cuts, strict=True):
        np.testing.assert_allclose(found, x[:, cut], rtol=1e-6, atol=1e-6)


def test_split_gives_the_same_blob_twice() -> None:
    case = one_layer("Split", tops=2)
    outputs = run(import_text(case.text, case.weights), case.picture)
    assert list(outputs) == ["under", "under1"]
    np.testing.assert_array_equal(outputs["under"], outputs["under1"])


def test_silence_keeps_blobs_from_being_outputs() -> None:
    text = one_layer("Slice", "", tops=2).text + 'layer { name: "hush" type: "Silence" bottom: "under" }'
    graph = import_text(text).graph
    assert [output.name for output in graph.outputs] == ["under1"]
    assert [node.name for node in graph.nodes] == ["pre", "under/part1"]


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("Flatten", "flatten_param { axis: 2 end_axis: 1 }", "end_axis 1 is before axis 2"),
        ("Reshape", "reshape_param { shape { dim: 7 dim: -1 } }", "cannot reshape [1, 4, 5, 6] to [7, -1]"),
        ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "cannot reshape [1, 4, 5, 6] to [-1, -1]"),
        ("Permute", "permute_param { order: 0 order: 0 }", "order [0, 0] names an axis twice"),
        ("Permute", "permute_param { order: 7 }", "order 7 does not exist in 4 dimensions"),
        ("ShuffleChannel", "shuffle_channel_param { group: 3 }", "group 3 does not divide 4 channels"),
        ("ArgMax", "argmax_param { top_k: 2 }", "ArgMax with out_max_val or top_k above 1 is not supported"),
        ("Slice", "slice_param { slice_point: 4 }", "Slice takes 1 or more tops, but has 0"),
    ],
)
def test_wrong_shape_layer_is_refused(kind: str, params: str, says: str) -> None:
    assert one_layer(kind, params, tops=0 if kind == "Slice" else 1).refusal().message == says


def test_wrong_slice_points_are_refused() -> None:
    error = one_layer("Slice", "slice_param { slice_point: 5 }", tops=2).refusal()
    assert error.message == "slice points [5] do not cut axis 1 of 4 into 2 parts"
    error = one_layer("Slice", "", tops=3).refusal()
    assert error.message == "axis 1 of 4 does not split into 3 equal parts"


def test_crop_beyond_the_border_is_refused() -> None:
    error = one_layer("Crop", "crop_param { offset: 4 }", second=SMALL, bottoms=["pre", "s"]).refusal()
    assert error.message == "cannot crop [1, 4, 3, 4] at [4, 4] out of [1, 4, 5, 6]"


def test_a_batch_in_a_shape_becomes_one_picture() -> None:
    case = one_layer("Reshape", "reshape_param { shape { dim: 8 dim: -1 dim: 3 } }")
    text = case.text.replace("dim: 1 dim: 3", "dim: 8 dim: 3")
    assert import_text(text).graph.outputs[0].shape == [1, 40, 3]

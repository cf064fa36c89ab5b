from __future__ import annotations

import caffe_reference
import numpy as np
import pytest
from caffe_files import one_layer, pre


@pytest.mark.parametrize("params", ["height: 11 width: 8", "height: 3 width: 4", "zoom_factor: 3", "zoom_factor: 2"])
def test_interp_is_opencvs(params: str) -> None:
    case = one_layer("Interp", f"interp_param {{ {params} }}")
    np.testing.assert_allclose(case.imported()[0], case.opencv(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "size", "crop"),
    [
        ("height: 9 width: 4", (9, 4), 0),
        ("shrink_factor: 2", (3, 3), 0),
        ("shrink_factor: 2 zoom_factor: 3", (7, 7), 0),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -1", (5, 7), 1),
        ("height: 1 width: 1", (1, 1), 0),
    ],
)
def test_interp_is_caffes(params: str, size: tuple[int, int], crop: int) -> None:
    # OpenCV knows no shrinking and no pads.
    case = one_layer("Interp", f"interp_param {{ {params} }}")
    x = pre(case)[:, :, crop : 5 - crop, crop : 6 - crop]
    np.testing.assert_allclose(case.imported()[0], caffe_reference.interpolate(x, *size), rtol=1e-4, atol=1e-5)


def test_interp_takes_its_size_from_a_second_input() -> None:
    second = 'layer { name: "s" type: "Pooling" bottom: "pre" top: "s" pooling_param { kernel_size: 3 } }'
    case = one_layer("Interp", second=second, bottoms=["pre", "s"])
    np.testing.assert_allclose(case.imported()[0], caffe_reference.interpolate(pre(case), 3, 4), rtol=1e-4, atol=1e-5)


def test_upsample_repeats_pixels() -> None:
    case = one_layer("Upsample", "upsample_param { scale: 3 }")
    np.testing.assert_allclose(case.imported()[0], pre(case).repeat(3, 2).repeat(3, 3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "params", "extra", "says"),
    [
        ("Interp", "", [], "no height and width, shrink_factor or zoom_factor is given"),
        ("Interp", "interp_param { height: 3 }", [], "height do not state one size"),
        ("Interp", "interp_param { height: 3 width: 3 }", ["pre"], "a second input and height both state the size"),
        ("Interp", "interp_param { zoom_factor: 2 pad_beg: 1 }", [], "Interp with positive pads is not supported"),
        ("Interp", "interp_param { zoom_factor: 2 pad_beg: -5 }", [], "pads -5 and 0 leave [0, 1] pixels"),
        ("Upsample", "", ["pre"], "Upsample with a mask as second input is not supported"),
        ("Upsample", "upsample_param { scale: 0 }", [], "scale is 0; it must be at least 1"),
    ],
)
def test_wrong_resize_is_refused(kind: str, params: str, extra: list[str], says: str) -> None:
    assert one_layer(kind, params, bottoms=["pre", *extra]).refusal().message == says

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from ssd_tails import grid_priors

from deploycc.importers.box_decoding import BoxDecoding, NotAnSsdDecoding, decode_boxes, identify

Array = NDArray[np.float64]
SHAPES = np.array([[0.25, 0.5], [0.5, 0.25], [0.1, 0.1]], dtype=np.float32)
CENTRES = grid_priors((3, 4), SHAPES)
CORNERS = np.concatenate([CENTRES[:, :2] - CENTRES[:, 2:] / 2, CENTRES[:, :2] + CENTRES[:, 2:] / 2], axis=1)
VARIANCES = np.tile([0.1, 0.1, 0.2, 0.2], (len(CORNERS), 1))


def recognise(function: object, count: int = len(CORNERS)) -> BoxDecoding | None:
    try:
        return identify(lambda x: np.asarray(function(x), dtype=np.float32), count, (300, 400))  # type: ignore[operator]
    except NotAnSsdDecoding:
        return None


def test_centre_and_size_by_hand() -> None:
    # a prior 0.2 x 0.4 about (0.5, 0.5); offsets 1 1 1 1 move by 0.1 of its size, and stretch by e**0.2
    boxes = decode_boxes(np.ones((1, 4)), np.array([[0.4, 0.3, 0.6, 0.7]]), VARIANCES[:1], "center_size")
    stretch = np.exp(0.2)
    expected = [[0.52 - 0.1 * stretch, 0.54 - 0.2 * stretch, 0.52 + 0.1 * stretch, 0.54 + 0.2 * stretch]]
    np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coding", ["center_size", "corner", "corner_size"])
def test_each_coding_is_told_from_the_others(coding: str) -> None:
    found = recognise(lambda x: decode_boxes(x, CORNERS, VARIANCES, coding))  # type: ignore[arg-type]
    assert found is not None
    assert (found.box_coding, found.y_first, found.axes_known, found.clamped) == (coding, False, True, False)
    np.testing.assert_allclose(found.priors, CORNERS, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.variances, VARIANCES, rtol=1e-6, atol=0)


def test_variances_may_differ_from_prior_to_prior() -> None:
    variances = VARIANCES * np.linspace(0.5, 2, len(VARIANCES))[:, None]
    found = recognise(lambda x: decode_boxes(x, CORNERS, variances, "center_size"))
    assert found is not None
    np.testing.assert_allclose(found.variances, variances, rtol=1e-5, atol=0)


def test_the_order_of_the_priors_tells_x_from_y() -> None:
    by_rows = recognise(lambda x: decode_boxes(x, CORNERS, VARIANCES, "center_size"))
    swapped = recognise(lambda x: decode_boxes(x[:, [1, 0, 3, 2]], CORNERS, VARIANCES, "center_size")[:, [1, 0, 3, 2]])
    assert by_rows is not None
    assert swapped is not None
    assert (by_rows.y_first, swapped.y_first) == (False, True)
    np.testing.assert_allclose(swapped.priors, by_rows.priors, rtol=0, atol=1e-6)


def test_priors_without_an_order_leave_the_axes_unknown() -> None:
    diagonal = np.array([[0.1, 0.1, 0.3, 0.3], [0.4, 0.4, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]])
    found = recognise(lambda x: decode_boxes(x, diagonal, VARIANCES[:3], "center_size"), 3)
    assert found is not None
    assert (found.axes_known, found.y_first) == (False, False)


@pytest.mark.parametrize(("limit", "width"), [(1e4, 400), (640.0, 640)])
def test_limits_in_pixels_are_a_picture_only_where_priors_fill_it(limit: float, width: int) -> None:
    """A clip to 10,000 pixels was read as a picture of that size, and priors became specks in its corner."""
    scale = np.array([width, 300] * 2)

    def pixels(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return (decode_boxes(x.astype(np.float64), CORNERS, VARIANCES, "center_size") * scale).astype(np.float32)

    found = identify(pixels, len(CORNERS), (300, 400), (limit, limit if limit > 1000 else 300.0))
    np.testing.assert_allclose(found.priors, CORNERS, rtol=0, atol=1e-5)


def test_a_limit_on_box_sizes_is_seen() -> None:
    def limited(x: Array) -> Array:
        offsets = x.astype(np.float64)
        offsets[:, 2:] = np.minimum(offsets[:, 2:], np.log(1000 / 16) / 0.2)
        return decode_boxes(offsets, CORNERS, VARIANCES, "center_size")

    found = recognise(limited)
    assert found is not None
    assert found.clamped


def _late_tanh(x: Array) -> Array:
    return decode_boxes(20 * np.tanh(x / 20), CORNERS, VARIANCES, "center_size")


def _half_the_rows_square(x: Array) -> Array:
    offsets = x.astype(np.float64)
    offsets[::2, 2:] **= 2
    return decode_boxes(offsets, CORNERS, VARIANCES, "center_size")


def _neighbours(x: Array) -> Array:
    return decode_boxes(np.roll(x, 1, axis=0), CORNERS, VARIANCES, "center_size")


def _one_more_step(x: Array) -> Array:  # right at the probes of single columns, wrong where offsets meet
    boxes = decode_boxes(x, CORNERS, VARIANCES, "center_size")
    boxes[:, 0] += 1e-4 * x[:, 0] * x[:, 1]
    return boxes


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: np.broadcast_to(CORNERS, x.shape),
        lambda x: np.zeros_like(x),
        lambda x: np.full_like(x, np.nan),
        lambda x: x * 300,
        lambda x: decode_boxes(np.tanh(x), CORNERS, VARIANCES, "center_size"),
        lambda x: decode_boxes(np.abs(x), CORNERS, VARIANCES, "center_size"),
        lambda x: decode_boxes(x, CORNERS[:, [0, 1, 0, 1]], VARIANCES, "center_size"),
        _late_tanh,
        _half_the_rows_square,
        _neighbours,
        _one_more_step,
    ],
)
def test_nothing_else_is_accepted(function: object) -> None:
    assert recognise(function) is None

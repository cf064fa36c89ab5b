"""Boxes go where the pixels go."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.lkam.augment import augment
from deploycc.trainable.augmentation import boxes_in_patch, centres_inside, mirrored_boxes, relight


def test_boxes_follow_marked_pixels_through_mirroring() -> None:
    pixels, box = np.zeros((20, 40), np.uint8), np.array([[0.1, 0.2, 0.35, 0.9]], np.float32)
    pixels[4:18, 4:14] = 1
    rows, columns = np.nonzero(pixels[:, ::-1])
    seen = [columns.min() / 40, rows.min() / 20, (columns.max() + 1) / 40, (rows.max() + 1) / 20]
    assert mirrored_boxes(box)[0] == pytest.approx(seen, abs=1e-6)
    assert mirrored_boxes(mirrored_boxes(box)) == pytest.approx(box, abs=1e-6)


def test_a_patch_shows_what_lies_in_it() -> None:
    patch = np.array([0.25, 0.5, 0.75, 1.0], np.float32)
    boxes = np.array([[0.0, 0.5, 0.5, 0.75], [0.3, 0.6, 0.6, 0.8], [0.8, 0.1, 0.9, 0.2]], np.float32)
    shown = boxes_in_patch(boxes, patch)
    assert shown[:2] == pytest.approx(np.array([[0, 0, 0.5, 0.5], [0.1, 0.2, 0.7, 0.6]]), abs=1e-6)
    assert (shown[2, 2:] <= shown[2, :2]).any()
    assert centres_inside(boxes, patch).tolist() == [False, True, False]  # a centre on the edge lies outside


def test_light_changes_without_a_cast_keep_grey_grey() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    plain = relight(grey, np.random.default_rng(2), cast=False)
    assert np.ptp(plain, axis=2).max() <= 1
    assert not np.array_equal(plain, grey)
    assert np.ptp(relight(grey, np.random.default_rng(2), cast=True), axis=2).max() > 1


def test_detectors_are_trained_with_a_cast() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    rng, expected = np.random.default_rng(5), np.random.default_rng(5)
    assert expected.random() >= 0.65  # neither zoomed out nor cropped
    turned = pixels[:, ::-1] if expected.random() < 0.5 else pixels
    assert np.array_equal(augment(pixels, boxes, labels, 8, rng)[0], relight(turned, expected, cast=True))

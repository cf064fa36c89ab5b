"""Drawn detections: every label can be read."""

from __future__ import annotations

import numpy as np

from deploycc.documents.detections import DetectedBox
from deploycc.report.drawing import draw_detections


def test_labels_of_detections_in_one_place_do_not_cover_one_another() -> None:
    def drawn(labels: range) -> set[tuple[int, int, int]]:
        """Colours that fill at least half a label's width of a row."""
        found = [DetectedBox(label=k, name="truck", score=0.9, box=(60, 60, 200, 200)) for k in labels]
        pixels = np.asarray(draw_detections(np.zeros((300, 300, 3), np.uint8), found))[30:190, 70:100]
        colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        return {tuple(map(int, colour)) for colour, count in zip(colours, counts, strict=True) if count > 100}

    black, white = (0, 0, 0), (255, 255, 255)
    each = [drawn(range(k, k + 1)) - {black, white} for k in range(3)]
    assert [len(colours) for colours in each] == [1, 1, 1]
    assert drawn(range(3)) - {black, white} == set.union(*each)

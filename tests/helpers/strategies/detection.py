"""Boxes, scores, heads; annotations and what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deploycc.detector import Nms, SsdHeads
from deploycc.evaluation.truth import Predictions, Truth

# Few values, so that scores tie, and equal the threshold 0.25.
_SCORES = st.sampled_from([0.0, 0.125, 0.25, 0.2500001, 0.5, 0.75, 0.875, 1.0])


@dataclass(frozen=True, eq=False)
class SuppressionCase:
    """Decoded boxes and what to do with them."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    nms: Nms
    background: int | None


@dataclass(frozen=True, eq=False)
class HeadsCase:
    """Raw outputs of an SSD network, [P, 4] and [P, C], and how to read them."""

    heads: SsdHeads
    offsets: NDArray[np.float32]
    scores: NDArray[np.float32]
    nms: Nms


@st.composite
def suppression_parameters(draw: st.DrawFn) -> Nms:
    """Limits small enough to bite; an IoU threshold of 1/2 is met exactly by boxes on a grid."""
    return Nms(
        score_threshold=draw(st.sampled_from([0.25, 0.01, 0.0])),
        iou_threshold=draw(st.sampled_from([0.5, 0.45, 0.25, 0.0])),
        top_k=draw(st.sampled_from([3, -1, 1, 400])),
        keep_top_k=draw(st.sampled_from([-1, 1, 2, 5, 200])),
    )


@st.composite
def suppression_cases(draw: st.DrawFn) -> SuppressionCase:
    """Boxes on a grid of eighths, so that equal boxes and exact IoUs are common; sides may be reversed or of no length.

    In a crowd most boxes overlap, so that few of many candidates stand.
    """
    priors, classes, crowded = draw(st.integers(1, 24)), draw(st.integers(1, 4)), draw(st.booleans())
    low = draw(hnp.arrays(np.int64, (priors, 2), elements=st.integers(0, 1) if crowded else st.integers(-1, 6)))
    size = draw(hnp.arrays(np.int64, (priors, 2), elements=st.integers(3, 4) if crowded else st.integers(-1, 4)))
    scores = draw(hnp.arrays(np.float32, (priors, classes), elements=_SCORES))
    return SuppressionCase(
        boxes=(np.concatenate([low, low + size], axis=1) / 8).astype(np.float32),
        scores=scores,
        nms=draw(suppression_parameters()),
        background=draw(st.sampled_from([None, *range(classes)])),
    )


@st.composite
def ssd_heads(draw: st.DrawFn, priors: int, classes: int) -> SsdHeads:
    """Heads of any coding; priors have an area and different variances a side."""
    low = draw(hnp.arrays(np.float32, (priors, 2), elements=st.sampled_from([-0.125, 0.0, 0.25, 0.5, 0.625])))
    size = draw(hnp.arrays(np.float32, (priors, 2), elements=st.sampled_from([0.125, 0.25, 0.5, 0.75])))
    variances = draw(hnp.arrays(np.float32, 4, elements=st.sampled_from([0.1, 0.2, 0.3, 0.5])))
    return SsdHeads(
        locations="locations",
        scores="scores",
        priors=np.concatenate([low, low + size], axis=1),
        variances=np.tile(variances, (priors, 1)),
        classes=classes,
        background=draw(st.sampled_from([None, *range(classes)])) if classes > 1 else None,
        box_coding=draw(st.sampled_from(["center_size", "corner", "corner_size"])),
        variance_encoded=draw(st.booleans()),
        y_first=draw(st.booleans()),
        clip=draw(st.booleans()),
    )


@st.composite
def heads_cases(draw: st.DrawFn) -> HeadsCase:
    """What a small SSD network might put out."""
    priors, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    offset = st.floats(-2, 2, width=32)
    return HeadsCase(
        heads=draw(ssd_heads(priors, classes)),
        offsets=draw(hnp.arrays(np.float32, (priors, 4), elements=offset)),
        scores=draw(hnp.arrays(np.float32, (priors, classes), elements=_SCORES)),
        nms=draw(suppression_parameters()),
    )


@dataclass(frozen=True, eq=False)
class AccuracyCase:
    """Annotations and detections of some pictures; annotated boxes do not overlap one another."""

    truths: list[Truth]
    predictions: list[Predictions]
    classes: int


@st.composite
def accuracy_cases(draw: st.DrawFn) -> AccuracyCase:
    """Objects in the cells of a grid; detections are objects moved a little, doubles, and misses.

    Scores differ from one another: which of two equal ones comes first is nobody's rule.
    """
    classes = draw(st.integers(1, 3))
    truths, predictions = [], []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        cells = draw(st.lists(st.integers(0, 15), min_size=0, max_size=6, unique=True))
        boxes, found = [], []
        for cell in cells:
            x, y = 20.0 * (cell % 4), 20.0 * (cell // 4)
            box = [x, y, x + draw(st.integers(4, 16)), y + draw(st.integers(4, 16))]
            boxes.append(box)
            for _ in range(draw(st.integers(0, 2))):
                found.append([v + draw(st.integers(-2, 2)) for v in box])
        found += [[x, x, x + 5.0, x + 7.0] for x in draw(st.lists(st.integers(0, 70), max_size=2))]
        found = [[a, b, max(c, a + 1), max(d, b + 1)] for a, b, c, d in found]
        order = draw(st.permutations(range(len(found))))
        scores = [0.9 - 0.01 * (number + k) for k in order]
        number += len(found)
        label = st.integers(0, classes - 1)
        truths.append(
            Truth(
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array([draw(label) for _ in boxes], np.int64),
                np.zeros(len(boxes), np.bool_),
            )
        )
        predictions.append(
            Predictions(
                np.array(found, np.float32).reshape(-1, 4),
                np.array([draw(label) for _ in found], np.int64),
                np.array(scores, np.float32),
            )
        )
    return AccuracyCase(truths, predictions, classes)

"""Every hypothesis strategy of the test suite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deploycc.detector import Nms, SsdHeads
from ssd_tails import Tail, grid_priors

# ---- detection: boxes, scores, heads --------------------------------------------------------------------------------

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
        background=draw(st.sampled_from([None, *range(classes)])),
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


# ---- reports: latency samples ---------------------------------------------------------------------------------------


def latency_samples(min_size: int = 1, max_size: int = 300) -> st.SearchStrategy[NDArray[np.float64]]:
    """Latencies in ms: positive, finite, over six decades, with ties."""
    value = st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1.0, 1.5, 2.0]))
    return st.lists(value, min_size=min_size, max_size=max_size).map(np.array)


# ---- importers: decodings spelled in a graph ------------------------------------------------------------------------


@st.composite
def ssd_tails(draw: st.DrawFn) -> Tail:
    """One SSD network with its decoding in the graph, in any of the usual spellings, with random priors and variances."""
    grid = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    side = st.sampled_from([0.0625, 0.1, 0.2, 0.35, 0.5, 0.9])
    shapes = np.array(draw(st.lists(st.tuples(side, side), min_size=1, max_size=3)), dtype=np.float32)
    centres = grid_priors(grid, shapes)
    row = draw(st.tuples(*[st.sampled_from([0.05, 0.1, 0.2, 0.125, 1.0])] * 4))
    variances = np.tile(np.array(row, dtype=np.float32), (len(centres), 1))
    if draw(st.booleans()):  # every prior its own
        variances *= np.linspace(0.5, 1.5, len(centres), dtype=np.float32)[:, None]
    form = draw(st.sampled_from(["corners", "centre", "top_left"]))
    pixels = draw(st.booleans())
    return Tail(
        grid=grid,
        centres=centres,
        variances=variances,
        classes=draw(st.integers(2, 4)),
        slicing=draw(st.sampled_from(["Slice", "Split", "Gather"])),
        form=form,
        y_out=draw(st.booleans()),
        y_offsets=draw(st.booleans()),
        variances_first=draw(st.booleans()),
        flat=draw(st.booleans()),
        pixels=pixels,
        clip=form == "corners" and not pixels and draw(st.booleans()),
        nms=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )

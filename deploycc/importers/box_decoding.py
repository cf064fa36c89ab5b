"""Identify the SSD box decoding that a function computes, by evaluating it.

Exporters write the same box arithmetic in many ways, so it is run rather than parsed. Zero offsets give the priors and
single non-zero offsets the variances; on random offsets the result must then agree with the SSD formula

    centre = prior centre + offset * variance * prior size,   size = prior size * exp(offset * variance)

(Liu et al., SSD, 2016, section 2.2), or with one of Caffe's two corner codings. Nothing is accepted unverified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import BoxCoding

Array = NDArray[np.float64]
Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_PROBE = 2.0  # offset from which variances are derived: large enough for rounding, small enough not to overflow
_RANGE = 6.0  # random offsets lie within +-6, as those of trained SSD heads do
_FAR = 30.0  # offsets large enough to reveal a clamp before the exponential
_ATOL = 1e-5  # tolerance, relative to a picture of size 1 (or to the box if that is larger)
_SWAP = [1, 0, 3, 2]  # x y x y <-> y x y x


class NotAnSsdDecoding(Exception):  # noqa: N818 - not an error of the user: the caller tries another tensor
    """A function decodes no SSD boxes.

    Attributes:
        stage: how far the function agreed: the larger, the closer.
        reason: what it does instead.
    """

    def __init__(self, stage: int, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.reason = stage, reason


@dataclass(frozen=True, eq=False)
class BoxDecoding:
    """An SSD decoding that reproduces the function it was identified from.

    Attributes:
        priors: [P, 4] float32, xmin ymin xmax ymax, 0..1 of the picture.
        variances: [P, 4] float32, in the order x y w h.
        box_coding: how offsets refer to priors.
        y_first: offsets are ordered y x h w.
        axes_known: False if x and y cannot be told apart (priors ordered neither row by row nor column by column).
        clamped: the function departs from the formula for offsets beyond 6; some exporters limit box sizes.
        error: largest difference from the function over the random offsets, as a fraction of the picture.
        to_corners: brings the function's own boxes [P, 4] to xmin ymin xmax ymax, 0..1 of the picture.
    """

    priors: NDArray[np.float32]
    variances: NDArray[np.float32]
    box_coding: BoxCoding
    y_first: bool
    axes_known: bool
    clamped: bool
    error: float
    to_corners: Callable[[Array], Array]

    @property
    def centred(self) -> bool:
        """Return whether the function's own boxes are centre and size."""
        return bool(self.to_corners(np.array([[1.0, 1.0, 2.0, 2.0]]))[0, 0] == 0)

    def decode(self, offsets: Array) -> Array:
        """Decode offsets [P, 4], in the function's order, to corners [P, 4] without clipping."""
        if self.y_first:
            offsets = offsets[:, _SWAP]
        return decode_boxes(offsets, self.priors.astype(np.float64), self.variances.astype(np.float64), self.box_coding)


def decode_boxes(offsets: Array, priors: Array, variances: Array, coding: BoxCoding) -> Array:
    """Decode offsets [P, 4] in x y w h order to corners [P, 4], as Caffe's DetectionOutput does without clipping."""
    offsets = offsets * variances
    if coding == "corner":
        return np.add(priors, offsets)
    size = priors[:, 2:] - priors[:, :2]
    if coding == "corner_size":
        shifted: Array = priors + offsets * np.concatenate([size, size], axis=1)
        return shifted
    centre: Array = (priors[:, :2] + priors[:, 2:]) / 2 + offsets[:, :2] * size
    half: Array = size * np.exp(offsets[:, 2:]) / 2
    boxes: Array = np.concatenate([centre - half, centre + half], axis=1)
    return boxes


def identify(
    decode: Decode, count: int, picture: tuple[int, int], limits: tuple[float, float] | None = None
) -> BoxDecoding:
    """Identify the decoding that ``decode`` computes.

    Args:
        decode: maps offsets [P, 4] to boxes [P, 4], float32, unclipped; boxes in any of the usual forms.
        count: P.
        picture: height and width in pixels; boxes in pixels are recognised by their size and scaled to 0..1.
        limits: what the file clips the first and the second coordinate of a box to, if it does; says which picture the
            pixels belong to if that is not ``picture`` (a network that resizes its input).

    Raises:
        NotAnSsdDecoding: no SSD formula agrees with the function.
    """
    rng = np.random.default_rng(0)
    probes = [np.zeros((count, 4)), *(_one_column(count, column) for column in range(4))]
    randoms = [rng.uniform(-reach, reach, (count, 4)) for reach in (_RANGE, _RANGE, _RANGE, _FAR)]
    inputs = [*probes, *randoms]
    failures: list[NotAnSsdDecoding] = []
    decodings = []
    with np.errstate(all="ignore"):  # far offsets overflow in some forms; results that are not finite are refused below
        outputs = [decode(inputs[0].astype(np.float32)).astype(np.float64)]
        forms = [form for form in _forms(picture, limits, outputs[0]) if _has_area(form(outputs[0]))]
        if not forms:
            raise NotAnSsdDecoding(0, "offsets of zero give boxes without area, not priors")
        outputs += [decode(x.astype(np.float32)).astype(np.float64) for x in inputs[1:]]
        if not all(np.isfinite(y).all() for y in outputs[:-1]):
            raise NotAnSsdDecoding(1, "ordinary offsets give boxes that are not finite")
        for form in forms:
            boxes = [form(y) for y in outputs]
            for y_first in (False, True):
                try:
                    decodings.append(_fit(inputs, boxes, y_first, form))
                except NotAnSsdDecoding as failure:
                    failures.append(failure)
    if not decodings:
        raise max(failures, key=lambda failure: failure.stage)
    # Exchanging x and y gives the same function: only the order of the priors tells them apart.
    best = max(decodings, key=lambda d: _scan(d.priors))  # the first of equals, which takes x to come first
    return replace(best, axes_known=_scan(best.priors) > 0)


def _one_column(count: int, column: int) -> Array:
    probe = np.zeros((count, 4))
    probe[:, column] = _PROBE
    return probe


def _forms(
    picture: tuple[int, int], limits: tuple[float, float] | None, priors: Array
) -> Iterator[Callable[[Array], Array]]:
    """Yield what brings the function's boxes to corners x y x y in 0..1, once per form that they may have."""
    for swapped in (False, True):
        for form in (_from_corners, _from_centre, _from_top_left):
            corners = form(priors[:, _SWAP] if swapped else priors)
            farthest = (corners[:, :2] + corners[:, 2:]).max(axis=0) / 2
            height, width = picture
            if limits is not None:
                bounds = limits if swapped else limits[::-1]
                if not all(size - 1 <= bound <= size for size, bound in zip(picture, bounds, strict=True)) and all(
                    bound / 2 <= centre <= bound for centre, bound in zip(farthest[::-1], bounds, strict=True)
                ):  # far limits belong to no picture: priors reach beyond the middle of theirs
                    height, width = (round(bound) for bound in bounds)
            # a prior centred beyond 2 must be in pixels
            size = np.array([width, height] * 2) if farthest.max() > 2 else np.ones(4)

            def convert(
                boxes: Array, swapped: bool = swapped, form: Callable[[Array], Array] = form, size: Array = size
            ) -> Array:
                return np.asarray(form(boxes[:, _SWAP] if swapped else boxes) / size)

            yield convert


def _has_area(priors: Array) -> bool:
    return bool((priors[:, 2:] > priors[:, :2]).all())


def _from_corners(boxes: Array) -> Array:
    return boxes


def _from_centre(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def _from_top_left(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _fit(inputs: list[Array], boxes: list[Array], y_first: bool, form: Callable[[Array], Array]) -> BoxDecoding:
    priors = boxes[0]
    size = priors[:, 2:] - priors[:, :2]
    columns = _SWAP if y_first else [0, 1, 2, 3]
    offsets = [x[:, columns] for x in inputs]
    responses = [boxes[1 + column] for column in columns]  # to a single offset of x, y, w or h
    smallest = np.inf
    for coding, variances in _variances(responses, priors, size):
        if not (variances > 0).all():  # an offset that does not move the boxes is not decoded
            continue
        rounded = _rounded(variances)
        for candidate in (rounded, variances) if rounded is not variances else (variances,):
            error = _error(offsets[5:-1], boxes[5:-1], priors, candidate, coding)
            if error <= 1.0:
                far = _error(offsets[-1:], boxes[-1:], priors, candidate, coding, slack=100.0)
                return BoxDecoding(
                    priors.astype(np.float32),
                    candidate.astype(np.float32),
                    coding,
                    y_first,
                    axes_known=True,
                    clamped=not far <= 1.0,
                    error=error * _ATOL,
                    to_corners=form,
                )
            smallest = min(smallest, error * _ATOL)
    if smallest == np.inf:
        raise NotAnSsdDecoding(2, "an offset does not move boxes along its axis or change their size")
    raise NotAnSsdDecoding(3, f"the closest SSD decoding differs from it by {smallest:.1e} of the picture")


def _variances(responses: list[Array], priors: Array, size: Array) -> Iterator[tuple[BoxCoding, Array]]:
    """Yield each coding with the variances that would explain the responses, [P, 4] in x y w h order."""
    centre = (priors[:, :2] + priors[:, 2:]) / 2
    moved = [((responses[k][:, k] + responses[k][:, k + 2]) / 2 - centre[:, k]) / size[:, k] for k in (0, 1)]
    grown = [np.log((responses[k + 2][:, k + 2] - responses[k + 2][:, k]) / size[:, k]) for k in (0, 1)]
    variances = np.stack([*moved, *grown], axis=1) / _PROBE
    if np.isfinite(variances).all():
        yield "center_size", variances
    shift = np.stack([responses[k][:, k] - priors[:, k] for k in range(4)], axis=1) / _PROBE
    relative = shift / np.concatenate([size, size], axis=1)
    if _constant(relative):
        yield "corner_size", relative
    yield "corner", shift


def _constant(variances: Array) -> bool:
    return bool(np.allclose(variances, np.median(variances, axis=0), rtol=1e-4, atol=1e-6))


def _rounded(variances: Array) -> Array:
    """Round variances that all priors share to the decimals the exporter was given (0.1, 0.2)."""
    if not _constant(variances):
        return variances
    row = [float(f"{value:.4g}") for value in np.median(variances, axis=0)]
    return np.array([row]).repeat(len(variances), axis=0)


def _error(
    offsets: list[Array], boxes: list[Array], priors: Array, variances: Array, coding: BoxCoding, slack: float = 1.0
) -> float:
    """Return the largest difference in units of the tolerance; infinite if any value is not finite."""
    worst = 0.0
    for x, y in zip(offsets, boxes, strict=True):
        decoded = decode_boxes(x, priors, variances, coding)
        allowed = _ATOL * slack * np.maximum(1.0, np.abs(decoded).max(axis=1, keepdims=True))
        ratio = np.abs(decoded - y) / allowed
        worst = max(worst, float(ratio.max()) if np.isfinite(ratio).all() else np.inf)
    return worst


def _scan(priors: NDArray[np.float32]) -> int:
    """Return how much more often x than y changes between neighbouring priors; feature maps are scanned by rows."""
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    changes = (np.abs(np.diff(centres, axis=0)) > 1e-4).sum(axis=0)
    return int(changes[0] - changes[1])

"""Finding the parameters of the PriorBox layer that writes given priors.

For every ``min_size`` m, a PriorBox layer writes the square m, the square sqrt(m M) if there is a ``max_size`` M, and
one box of area m*m per aspect ratio. Anchors of another form are fitted by reordering them, or by adding squares that
no anchor uses (*spare* slots), to which the caller gives kernels that never score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploycc.detector.prior_grid import PriorGrid, box_sizes

Array = NDArray[np.float64]

ATOL = 1e-6  # of the picture: largest distance of the layer's boxes from the priors
_SAME = 1e-4  # relative: sides, areas or ratios that differ by less are equal


@dataclass(frozen=True)
class PriorBox:
    """The parameters of one layer.

    Attributes:
        cells: height and width of the feature map.
        image: height and width of the picture, pixels.
        min_sizes, max_sizes, ratios, flip: see `deploycc.detector.prior_grid.box_sizes`; pixels.
        step: vertical and horizontal, pixels; None: picture size over cells.
        offset: of a cell's centre, share of the step.
        clip: corners are clipped to the picture.
        slots: the anchor of each box that the layer writes in a cell; None for a spare one.
    """

    cells: tuple[int, int]
    image: tuple[int, int]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    flip: bool
    step: tuple[float, float] | None
    offset: float
    clip: bool
    slots: tuple[int | None, ...]

    def sizes(self) -> list[tuple[float, float]]:
        """Return width and height of each slot, pixels."""
        return box_sizes(self.min_sizes, self.max_sizes, self.ratios, self.flip)

    def boxes(self) -> NDArray[np.float32]:
        """Return the boxes that the layer writes, [rows, columns, slots, 4]."""
        step = self.step or (self.image[0] / self.cells[0], self.image[1] / self.cells[1])
        grid = PriorGrid(self.cells, self.image, step, [(self.offset, self.offset)], self.sizes(), self.clip)
        return grid.boxes().reshape(*self.cells, -1, 4)


class NoPriorBox(Exception):  # noqa: N818 - the caller turns it into an error that names the layer
    """No PriorBox layer writes these boxes; the message says why."""


def find_prior_box(boxes: NDArray[np.float32], image: tuple[int, int]) -> PriorBox:
    """Find the layer that writes these priors, with the fewest spare slots, whole sizes and the fewest decimals.

    Args:
        boxes: [rows, columns, anchors, 4] xmin ymin xmax ymax, 0..1 of the picture.
        image: height and width, pixels.

    Raises:
        NoPriorBox: the boxes are not the same in every cell, or not on a regular grid.
    """
    at_border = boxes.min() >= 0 and boxes.max() <= 1 and (boxes.min() == 0 or boxes.max() == 1)
    layers, reasons = [], []
    for clip in (False, True) if at_border else (False,):  # boxes may end at the border without clipping
        try:
            layers.append(_find(boxes, image, clip=clip))
        except NoPriorBox as reason:
            reasons.append(reason)
    if not layers:
        raise reasons[-1]
    return min(layers, key=lambda box: len(box.slots))


def with_whole_sizes(box: PriorBox) -> PriorBox:
    """Return the layer with every size rounded to a whole number of pixels, which is all that Caffe reads of it.

    Raises:
        NoPriorBox: the layer clips boxes, so that boxes of other sizes do not have the same centres.
    """
    minimums = tuple(float(max(1, round(size))) for size in box.min_sizes)
    pairs = zip(box.max_sizes, minimums, strict=False)
    maximums = tuple(float(max(round(size), smallest + 1)) for size, smallest in pairs)
    if (minimums, maximums) == (box.min_sizes, box.max_sizes):
        return box
    whole = replace(box, min_sizes=minimums, max_sizes=maximums)
    if box.clip and any(
        (np.abs(layer.boxes() - replace(layer, clip=False).boxes()) > ATOL).any() for layer in (box, whole)
    ):
        sizes = ", ".join(f"{size:.6g}" for size in (*box.min_sizes, *box.max_sizes))
        raise NoPriorBox(f"its clipped boxes have the sizes {sizes}, of which Caffe reads only whole pixels")
    return whole


def _find(boxes: NDArray[np.float32], image: tuple[int, int], *, clip: bool) -> PriorBox:
    rows, columns = boxes.shape[:2]
    y, height = _axis(boxes[..., 1], boxes[..., 3], 0, clip)
    x, width = _axis(boxes[..., 0], boxes[..., 2], 1, clip)
    offset, steps = _spacing(y * image[0], x * image[1])
    sizes = np.stack([width * image[1], height * image[0]], axis=-1)
    closest, first = math.inf, None
    for layout in _layouts(_completions(sizes)):
        for digits in (*range(8), None):
            layer = _rounded(PriorBox((rows, columns), image, *layout[:4], steps, offset, clip, layout[4]), digits)
            used = [slot for slot, anchor in enumerate(layer.slots) if anchor is not None]
            order = [anchor for anchor in layer.slots if anchor is not None]
            if len(layer.sizes()) != len(layer.slots) or sorted(order) != list(range(boxes.shape[2])):
                continue
            distance = float(np.abs(layer.boxes()[:, :, used] - boxes[:, :, order]).max())
            if distance <= ATOL:
                if first is None or (len(layer.slots) == len(first.slots) and _has_whole_sizes(layer)):
                    first = layer
                break
            closest = min(closest, distance)
        if first is not None and _has_whole_sizes(first):
            return first
    if first is not None:
        return first
    away = f"; the closest is {closest:.1g} of the picture away" if closest < math.inf else ""
    shown = ", ".join(f"{w:.4g}x{h:.4g}" for w, h in sizes)
    raise NoPriorBox(f"no PriorBox layer writes its boxes ({shown} pixels) on {rows}x{columns} cells{away}")


def _has_whole_sizes(box: PriorBox) -> bool:
    return all(size.is_integer() for size in (*box.min_sizes, *box.max_sizes))


def _axis(low: NDArray[Any], high: NDArray[Any], axis: int, clip: bool) -> tuple[Array, Array]:
    """Return cell centres and anchor lengths along one axis; NaN for a length that is clipped in every cell."""
    low, high = (np.moveaxis(side.astype(np.float64), axis, 0).reshape(side.shape[axis], -1, side.shape[2])
                 for side in (low, high))  # fmt: skip
    whole = (low > 0) & (high < 1) if clip else np.ones(low.shape, np.bool_)
    centres = np.array([_mean((low[i] + high[i]) / 2, whole[i]) for i in range(len(low))])
    known = np.flatnonzero(~np.isnan(centres))
    if len(known) < min(2, len(centres)):  # boxes exceed the picture: assume evenly spaced centres
        centres = (np.arange(len(centres)) + 0.5) / len(centres)
    elif len(known) < len(centres):
        slope, start = np.polyfit(known, centres[known], 1)
        centres = start + slope * np.arange(len(centres))
    halves = np.concatenate([centres[:, None, None] - low, high - centres[:, None, None]])
    seen = np.concatenate([low > 0, high < 1]) if clip else np.ones(halves.shape, np.bool_)
    return centres, np.array([2 * _mean(halves[..., a], seen[..., a]) for a in range(low.shape[2])])


def _mean(values: Array, where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else math.nan


def _spacing(y: Array, x: Array) -> tuple[float, tuple[float, float]]:
    """Return the offset and the (vertical, horizontal) step in pixels; a single cell gives only their product."""
    steps = [(c[-1] - c[0]) / (len(c) - 1) if len(c) > 1 else None for c in (y, x)]
    offsets = [float(c[0] / step) for c, step in zip((y, x), steps, strict=True) if step]
    offset = offsets[0] if offsets else 0.5
    vertical, horizontal = (float(step or c[0] / (offset or 0.5)) for c, step in zip((y, x), steps, strict=True))
    if min(vertical, horizontal) <= 0:
        raise NoPriorBox("its boxes do not run from the top left to the bottom right")
    return offset, (vertical, horizontal)


def _completions(sizes: Array) -> list[Array]:
    """Return candidate sizes, with clipped lengths inferred from the other side: as a square, and as a ratio's box.

    The boxes decide which is right. A ratio's box has the area of a square: the smallest with a longer side than the
    box's short side.
    """
    if np.isnan(sizes).all(axis=1).any():
        raise NoPriorBox("an anchor is clipped on all sides in every cell, so its size is unknown")
    if not np.isnan(sizes).any():
        return [sizes]
    known = np.nanmin(sizes, axis=1, keepdims=True)
    sides = [w for w, h in sizes if _close(w, h)]
    bases = [min((side for side in sides if side > short), default=short) for short in known[:, 0]]
    areas = np.square(bases)[:, None] / known
    return [np.where(np.isnan(sizes), filled, sizes) for filled in (known, areas)]


_Layout = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], bool, tuple[int | None, ...]]


def _layouts(completions: Sequence[Array]) -> Iterator[_Layout]:
    """Yield candidates, best first: in the anchors' order, then reordered, by the number of spare slots."""
    options = [(sizes, paired) for sizes in completions for paired in (False, True)]
    in_order = (_in_order(sizes, paired) for sizes, paired in options)
    yield from (layout for layout in in_order if layout is not None)
    yield from sorted((_completed(sizes, paired) for sizes, paired in options), key=lambda layout: len(layout[4]))


def _in_order(sizes: Array, paired: bool) -> _Layout | None:
    """Read anchors in the order of PriorBox; None if they are not; ``paired``: every min_size has a max_size."""
    minimums: list[float] = []
    maximums: list[float] = []
    ratios: list[list[float]] = []
    after_min = False
    for width, height in sizes:
        if not _close(width, height):
            if not ratios or (after_min and paired):
                return None
            ratios[-1].append(float(width / height))
        elif paired and after_min:
            maximums.append(float(width * width / minimums[-1]))
            after_min = False
        else:
            minimums.append(float(width))
            ratios.append([])
            after_min = True
    if (paired and len(maximums) != len(minimums)) or any(len(r) != len(ratios[0]) for r in ratios):
        return None
    chosen, flip = _flipped(ratios[0])
    return tuple(minimums), tuple(maximums), chosen, flip, tuple(range(len(sizes)))


def _completed(sizes: Array, paired: bool) -> _Layout:
    """Assign a slot to every anchor; min_sizes are the sides of squares of the anchors' areas."""
    squares = [a for a, (w, h) in enumerate(sizes) if _close(w, h)]
    others = [a for a in range(len(sizes)) if a not in squares]
    sides = np.sqrt(sizes.prod(axis=1))
    bases = _distinct(sides[others])
    seconds: dict[int, int] = {}
    for a in sorted(squares, key=lambda a: sides[a]):
        if _index(bases, sides[a]) is not None:
            continue
        free = [i for i, base in enumerate(bases) if base < sides[a] and i not in seconds]
        if paired and free:
            seconds[free[-1]] = a
        else:
            bases.append(float(sides[a]))
    ratios = _distinct([sizes[a, 0] / sizes[a, 1] for a in others])
    ratios.sort(key=lambda r: (round(max(r, 1 / r), 3), -r))  # 2 1/2 3 1/3
    maximums = [float(sides[seconds[i]]) ** 2 / base if i in seconds else 1.21 * base for i, base in enumerate(bases)]
    slots: list[int | None] = []
    free_anchors = set(range(len(sizes)))

    def take(side: float, ratio: float) -> int | None:
        for a in sorted(free_anchors):
            if _close(sides[a], side) and _close(sizes[a, 0] / sizes[a, 1], ratio):
                free_anchors.discard(a)
                return a
        return None

    for i, base in enumerate(bases):
        slots.append(take(base, 1.0))
        if seconds:
            slots.append(take(math.sqrt(base * maximums[i]), 1.0) if i in seconds else None)
        slots += [take(base, ratio) for ratio in ratios]
    chosen, flip = _flipped(ratios)
    return tuple(bases), tuple(maximums) if seconds else (), chosen, flip, tuple(slots)


def _flipped(ratios: Sequence[float]) -> tuple[tuple[float, ...], bool]:
    """Return every second ratio and True if each is followed by its inverse, which ``flip`` adds; else all ratios."""
    pairs = list(zip(ratios[::2], ratios[1::2], strict=False))
    if ratios and len(ratios) % 2 == 0 and all(_close(r * inverse, 1.0) for r, inverse in pairs):
        return tuple(r for r, _ in pairs), True
    return tuple(ratios), False


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_SAME, abs_tol=0.0)


def _index(values: Sequence[float], value: float) -> int | None:
    return next((i for i, known in enumerate(values) if _close(known, value)), None)


def _distinct(values: Sequence[float] | Array) -> list[float]:
    distinct: list[float] = []
    for value in values:
        if _index(distinct, value) is None:
            distinct.append(float(value))
    return distinct


def _rounded(layer: PriorBox, digits: int | None) -> PriorBox:
    """Return the parameters rounded to ``digits`` decimals; a step equal to picture size over cells becomes None."""
    offset, step = layer.offset, layer.step
    if digits is not None:
        layer = replace(
            layer,
            min_sizes=tuple(round(size, digits) or size for size in layer.min_sizes),
            max_sizes=tuple(round(size, digits) or size for size in layer.max_sizes),
            ratios=tuple(round(ratio, digits) or ratio for ratio in layer.ratios),
            offset=round(offset, max(digits, 1)),
        )
        assert step is not None
        natural = [size / cells for size, cells in zip(layer.image, layer.cells, strict=True)]
        scaled = [value * offset / (layer.offset or 1.0) if cells == 1 else value
                  for value, cells in zip(step, layer.cells, strict=True)]  # fmt: skip
        if all(_close(value, plain) for value, plain in zip(scaled, natural, strict=True)):
            return replace(layer, step=None)
        step = (round(scaled[0], digits) or scaled[0], round(scaled[1], digits) or scaled[1])
    return replace(layer, step=step)

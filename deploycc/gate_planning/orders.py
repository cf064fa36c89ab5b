"""Orders of the kernels of a gated convolution with which few contiguous pieces are needed at a time.

The kernels of one unit stay together. Orders are derived from recorded decisions, [pictures, kernels].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]


def by_utilisation(active: Bools, unit_of: Sequence[int]) -> Indices:
    """Return kernels from the most to the least used; those of a unit keep their order."""
    units, firing = _units(active, unit_of)
    ranked = np.argsort(-firing.mean(0), kind="stable")
    return _kernels(units, ranked)


def by_prefix(active: Bools, unit_of: Sequence[int]) -> Indices:
    """Return an order that keeps the last kernel which is on in a picture near the front.

    A picture needs all kernels up to the last one that is on in it. The order is filled from the back: last comes the
    least used unit, and before it, each time, the unit that is on in the fewest pictures that do not need the kernels
    after it anyway.
    """
    units, firing = _units(active, unit_of)
    ranked = np.argsort(firing.mean(0), kind="stable")
    rows = np.ascontiguousarray(firing.T[ranked])
    left, order = np.ones(len(ranked), np.bool_), list[int]()
    covered, added = np.zeros(len(active), np.bool_), rows.sum(1)
    while left.any() and not covered.all():
        pick = int(np.argmin(np.where(left, added, len(active) + 1)))  # of several, the least used
        left[pick] = False
        order.append(pick)
        added -= rows[:, rows[pick] & ~covered].sum(1)
        covered |= rows[pick]
    order += np.flatnonzero(left).tolist()  # every picture is covered; the least used of them still come last
    return _kernels(units, ranked[order[::-1]])


def by_firing_together(active: Bools, unit_of: Sequence[int], block: int) -> Indices:
    """Return kernels in blocks that are on in the same pictures, from the most to the least needed block.

    Each block starts with the most used unit that is left, and takes, one by one, the unit that adds the fewest
    pictures to those which need the block.

    Args:
        active: decisions, [pictures, kernels].
        unit_of: for each kernel its unit.
        block: least number of kernels of a block; units are not divided.
    """
    units, firing = _units(active, unit_of)
    widths = [len(kernels) for kernels in units]
    ranked = np.argsort(-firing.mean(0), kind="stable")
    rows = np.ascontiguousarray(firing.T[ranked])
    left, blocks = np.ones(len(ranked), np.bool_), list[tuple[float, list[int]]]()
    while left.any():
        pick = int(np.argmax(left))
        members, covered, size, added = list[int](), np.zeros(len(active), np.bool_), 0, rows.sum(1)
        while True:
            left[pick] = False
            members.append(int(ranked[pick]))
            added -= rows[:, rows[pick] & ~covered].sum(1)
            covered |= rows[pick]
            size += widths[ranked[pick]]
            if size >= block or not left.any():
                break
            pick = int(np.argmin(np.where(left, added, len(active) + 1)))
        blocks.append((float(covered.mean()), members))
    blocks.sort(key=lambda block: -block[0])
    return _kernels(units, np.array([unit for _, members in blocks for unit in members], np.intp))


def needed_width(active: Bools, order: Indices) -> Indices:
    """Return for each picture how many kernels from the front cover all that are on."""
    ordered = active[:, order]
    width: Indices = np.where(ordered.any(1), ordered.shape[1] - np.argmax(ordered[:, ::-1], 1), 0)
    return width


def boundaries(order: Indices, unit_of: Sequence[int], block: int) -> tuple[int, ...]:
    """Return the positions where a piece may end, ascending, up to the number of kernels.

    These are the ends of units, or multiples of ``block`` if each kernel is its own unit or the order divides a unit.
    """
    kernels = len(order)
    units = np.asarray(unit_of)[order]
    ends = [*(np.flatnonzero(np.diff(units)) + 1).tolist(), kernels]
    if len(ends) == kernels or len(ends) != len(set(unit_of)):
        ends = [*range(block, kernels, block), kernels]
    return tuple(ends)


def _units(active: Bools, unit_of: Sequence[int]) -> tuple[list[Indices], Bools]:
    """Return the kernels of each unit, and the decisions of the units, [pictures, units]."""
    numbers = np.asarray(unit_of)
    first = dict.fromkeys(unit_of)
    units = [np.flatnonzero(numbers == unit) for unit in first]
    return units, np.stack([active[:, kernels].any(1) for kernels in units], 1)


def _kernels(units: list[Indices], ranked: Indices) -> Indices:
    return np.concatenate([units[number] for number in ranked])

"""In which order the kernels of a gated convolution stand, so that few contiguous pieces are needed at a time.

Kernels that one unit decides about stay together. Everything is judged by recorded decisions, [pictures, kernels].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]


def by_utilisation(active: Bools, unit_of: Sequence[int]) -> Indices:
    """Kernels from the most to the least used; those of a unit stay in their order."""
    units, firing = _units(active, unit_of)
    ranked = np.argsort(-firing.mean(0), kind="stable")
    return _kernels(units, ranked)


def by_prefix(active: Bools, unit_of: Sequence[int]) -> Indices:
    """Kernels so that the highest one that is on lies low: from the back, whatever adds fewest pictures comes next.

    A picture needs every kernel in front of the last that it has on. So the last is the least used one, and in front
    of it comes the one with the fewest pictures that none of those behind it has asked for yet.
    """
    units, firing = _units(active, unit_of)
    ranked = np.argsort(firing.mean(0), kind="stable")
    rows = np.ascontiguousarray(firing.T[ranked])
    left, order = np.ones(len(ranked), np.bool_), list[int]()
    covered, added = np.zeros(len(active), np.bool_), rows.sum(1)
    while left.any() and not covered.all():
        pick = int(np.argmin(np.where(left, added, len(active) + 1)))  # the first of equals is the least used
        left[pick] = False
        order.append(pick)
        added -= rows[:, rows[pick] & ~covered].sum(1)
        covered |= rows[pick]
    order += np.flatnonzero(left).tolist()  # nothing more can be won; the least used of them still come last
    return _kernels(units, ranked[order[::-1]])


def by_firing_together(active: Bools, unit_of: Sequence[int], block: int) -> Indices:
    """Kernels in blocks that are on in the same pictures, the blocks from the most to the least needed.

    Each block starts with the most used kernel that is left and takes the one that adds fewest pictures, one by one.

    Args:
        active: decisions.
        unit_of: for each kernel the unit that decides.
        block: kernels of a block, at least; units are not divided.
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
    blocks.sort(key=lambda each: -each[0])
    return _kernels(units, np.array([unit for _, members in blocks for unit in members], np.intp))


def needed_width(active: Bools, order: Indices) -> Indices:
    """For each picture the number of kernels from the front that covers all that are on."""
    ordered = active[:, order]
    width: Indices = np.where(ordered.any(1), ordered.shape[1] - np.argmax(ordered[:, ::-1], 1), 0)
    return width


def boundaries(order: Indices, unit_of: Sequence[int], block: int) -> tuple[int, ...]:
    """Positions where a piece may end, ascending, the last behind all kernels.

    Every block where each kernel has its own unit; else the ends of units, unless the order divides one.
    """
    kernels = len(order)
    units = np.asarray(unit_of)[order]
    ends = [*(np.flatnonzero(np.diff(units)) + 1).tolist(), kernels]
    if len(ends) == kernels or len(ends) != len(set(unit_of)):
        ends = [*range(block, kernels, block), kernels]
    return tuple(ends)


def _units(active: Bools, unit_of: Sequence[int]) -> tuple[list[Indices], Bools]:
    """Kernels of each unit, and the units' decisions, [pictures, units]."""
    numbers = np.asarray(unit_of)
    first = dict.fromkeys(unit_of)
    units = [np.flatnonzero(numbers == unit) for unit in first]
    return units, np.stack([active[:, kernels].any(1) for kernels in units], 1)


def _kernels(units: list[Indices], ranked: Indices) -> Indices:
    return np.concatenate([units[number] for number in ranked])

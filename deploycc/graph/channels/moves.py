"""Operators that only move numbers. Their rules move any array that has one value a channel, labels among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.channels.site import Array, Rule, Site, laid_out
from deploycc.graph.edit import constant_values

MOVES: dict[str, Rule] = {}


def moves(operators: str) -> Callable[[Rule], Rule]:
    """Register the rule of one or more operators, separated by blanks."""

    def register(function: Rule) -> Rule:
        MOVES.update(dict.fromkeys(operators.split(), function))
        return function

    return register


@moves("Concat")
def concat(site: Site) -> None:
    """Join channels, or unite them where another axis is joined."""
    rank = len(site.output_shape())
    axis = int(site.node.attrs["axis"]) % rank
    found = [site.channels(index) for index in range(len(site.node.inputs))]
    axes = {channels.axis for channels in found if channels is not None}
    if not axes:
        return
    if axes == {axis}:
        parts = [
            site.fixed(site.shape(index)[axis], f"{site.node.inputs[index].name} has no channels")
            if channels is None
            else channels.values
            for index, channels in enumerate(found)
        ]
        site.write(axis, np.concatenate(parts))
        return
    known = [channels for channels in found if channels is not None]
    if len(axes) > 1 or axis in axes or len(known) < len(found):
        for channels in known:
            site.pin(channels.values, "channel-axes", "it joins tensors along an axis that is not their channels'")
        return
    for channels in known[1:]:
        site.unite(channels.values, known[0].values)
    site.write(known[0].axis, site.common([channels.values for channels in known]))


@moves("Split")
def split(site: Site) -> None:
    """Cut the channels, or hand all of them on where another axis is cut."""
    channels = site.channels(0)
    if channels is None:
        return
    axis = int(site.node.attrs.get("axis", 0)) % len(site.shape(0))
    start = 0
    for index in range(len(site.node.outputs)):
        size = site.output_shape(index)[axis]
        part = channels.values[start : start + size] if axis == channels.axis else channels.values
        site.write(channels.axis, part, index)
        start += size


@moves("Slice")
def slice_(site: Site) -> None:
    """Cut the channels; with a step they must stay."""
    channels = site.channels(0)
    if channels is None:
        return
    cuts = slices(site.node, site.shape(0))
    if cuts is None:
        site.pin(channels.values, "channel-slice", "its limits are not constant")
        return
    cut = cuts.get(channels.axis, slice(None))
    if cut.step not in (None, 1):
        site.pin(channels.values, "channel-slice", f"it takes channels in steps of {cut.step}")
        return
    site.write(channels.axis, channels.values[cut])


def slices(node: gs.Node, shape: Sequence[int]) -> dict[int, slice] | None:
    """What a Slice takes of each axis it names; None where that is computed."""
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes", range(len(starts))), [1] * len(starts)
    else:
        operands = [None if t.is_empty() else constant_values(t) for t in node.inputs[1:]]
        given = [t.is_empty() or values is not None for t, values in zip(node.inputs[1:], operands, strict=True)]
        if not all(given):
            return None
        lists: list[Any] = [None if values is None else values.tolist() for values in operands] + [None] * 2
        starts, ends, axes, steps = lists[:4]
        axes = range(len(starts)) if axes is None else axes
        steps = [1] * len(starts) if steps is None else steps
    cuts = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = int(axis) % len(shape)
        first, last, step = slice(int(start), int(end), int(step)).indices(shape[axis])
        cuts[axis] = slice(first, max(first, last), 1) if step == 1 else slice(int(start), int(end), step)
    return cuts


@moves("Gather")
def gather(site: Site) -> None:
    """Pick channels. Picked at most once, they are moved; a repeated one gives new channels, and stays itself."""
    channels = site.channels(0)
    indices = constant_values(site.node.inputs[1])
    if channels is None:
        return
    axis = int(site.node.attrs.get("axis", 0)) % len(site.shape(0))
    if indices is None or indices.ndim != 1:
        site.pin(channels.values, "channel-gather", "its indices are not one constant row")
    elif axis != channels.axis:
        site.write(channels.axis, channels.values)
    elif len(np.unique(indices % len(channels.values))) == len(indices):
        picked = channels.values[indices]
        site.operand(1, 0, picked)
        site.write(axis, picked)
    else:
        site.pin(channels.values, "channel-gather", "some are picked more than once")
        made = site.copies(channels.values[indices])
        site.operand(1, 0, made)
        site.write(axis, made)


@moves("Transpose")
def transpose(site: Site) -> None:
    """Axes in another order."""
    channels = site.channels(0)
    if channels is not None:
        rank = len(site.shape(0))
        perm = list(site.node.attrs.get("perm", range(rank - 1, -1, -1)))
        site.write(perm.index(channels.axis), channels.values)


@moves("Reshape Flatten Squeeze Unsqueeze")
def reshape(site: Site) -> None:
    """Follow the index map exactly: numbers keep their order, and each keeps its channel."""
    channels = site.channels(0)
    if channels is not None:
        old, new = site.shape(0), site.output_shape()
        if math.prod(old) != math.prod(new) or 0 in old:
            site.pin(channels.values, "channel-reshape", "its shapes do not hold the same numbers")
            return
        found = site.collapse(reshaped(laid_out(old, channels), old, new))
        if found is not None:
            site.write(*found)
        elif len(channels.values) > 1:
            site.pin(channels.values, "channel-reshape", "all its numbers belong to one channel")


def reshaped(values: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Reshape an array that stands for its broadcast to ``old``; axes on which nothing varies are not written out.

    Both shapes are cut into the smallest blocks of neighbouring axes with the same number of elements; a block on
    which nothing varies stays of size one.

    Args:
        values: each dimension is that of ``old`` or 1.
        old: shape before.
        new: shape after, with the same number of elements.

    Returns:
        An array that broadcasts to ``new``.
    """
    before: list[int] = []
    after: list[int] = []
    for take, give in _blocks(old, new):
        block = values.shape[take.start : take.stop]
        if all(size == 1 for size in block):
            before += [1] * len(block)
            after += [1] * (give.stop - give.start)
        else:
            before += old[take.start : take.stop]
            after += new[give.start : give.stop]
    return np.broadcast_to(values, before).reshape(after)


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        left = right = 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        blocks.append((range(first_i, i), range(first_j, j)))
    return blocks


@moves("Resize Upsample")
def resize(site: Site) -> None:
    """Pictures in another size; the channel axis keeps its own."""
    channels = site.channels(0)
    if channels is None:
        return
    if len(channels.values) != site.output_shape()[channels.axis]:
        site.pin(channels.values, "channel-resize", "it interpolates between channels")
        return
    site.write(channels.axis, channels.values)


@moves("Expand")
def expand(site: Site) -> None:
    """Repeat axes of size one."""
    channels = site.channels(0)
    if channels is None:
        return
    axis = channels.axis + len(site.output_shape()) - len(site.shape(0))
    if site.output_shape()[axis] != len(channels.values):
        site.pin(channels.values, "channel-broadcast", "one channel is repeated")
        return
    site.write(axis, channels.values)


@moves("Tile")
def tile(site: Site) -> None:
    """Repeat along axes."""
    channels = site.channels(0)
    if channels is not None:
        count = site.output_shape()[channels.axis] // len(channels.values)
        site.write(channels.axis, np.tile(channels.values, count))


@moves("Pad")
def pad(site: Site) -> None:
    """Add a border; channels added in front or behind can never go."""
    channels = site.channels(0)
    if channels is None:
        return
    rank = len(site.shape(0))
    pads = padding(site.node, rank)
    if pads is None or min(pads[channels.axis]) < 0:
        site.pin(channels.values, "channel-pad", "how much it adds is not known, or it cuts")
        return
    before, after = pads[channels.axis]
    reason = "it adds channels"
    if before or after:
        if site.node.attrs.get("mode", "constant") not in ("constant", b"constant"):
            site.pin(channels.values, "channel-pad", "it repeats channels")
        parts = [site.fixed(before, reason), channels.values, site.fixed(after, reason)]
        site.write(channels.axis, np.concatenate(parts))
        return
    site.write(channels.axis, channels.values)


def padding(node: gs.Node, rank: int) -> list[tuple[int, int]] | None:
    """What a Pad adds before and after each axis; None where that is computed."""
    given = node.attrs.get("pads") or node.attrs.get("paddings")
    if given is None:
        values = constant_values(node.inputs[1])
        given = None if values is None else values.tolist()
    axes: list[int] = list(range(rank))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        chosen = constant_values(node.inputs[3])
        given, axes = (None, []) if chosen is None else (given, [int(axis) % rank for axis in chosen.tolist()])
    if given is None:
        return None
    pads = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pads[axis] = (int(given[position]), int(given[position + len(axes)]))
    return pads

"""Rules of operators that only move data; they move any array with one value per channel, labels or constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.channels.site import Array, Rule, Site, spread
from deploycc.graph.edit import constant_values

MOVEMENT_RULES: dict[str, Rule] = {}


def movement_rule(operators: str) -> Callable[[Rule], Rule]:
    """Register the rule of one or more operators, separated by spaces."""

    def register(function: Rule) -> Rule:
        MOVEMENT_RULES.update(dict.fromkeys(operators.split(), function))
        return function

    return register


@movement_rule("Concat")
def concat(site: Site) -> None:
    """Concatenate channels, or unite them if the node concatenates another axis."""
    rank = len(site.output_shape())
    axis = int(site.node.attrs["axis"]) % rank
    operands = [site.channels(index) for index in range(len(site.node.inputs))]
    axes = {channels.axis for channels in operands if channels is not None}
    if not axes:
        return
    if axes == {axis}:
        parts = [
            site.fixed(site.shape(index)[axis], f"{site.node.inputs[index].name} has no channels")
            if channels is None
            else channels.values
            for index, channels in enumerate(operands)
        ]
        site.write(axis, np.concatenate(parts))
        return
    known = [channels for channels in operands if channels is not None]
    if len(axes) > 1 or axis in axes or len(known) < len(operands):
        for channels in known:
            site.pin(channels.values, "channel-axes", "it concatenates tensors with different channel axes")
        return
    for channels in known[1:]:
        site.unite(channels.values, known[0].values)
    site.write(known[0].axis, site.common([channels.values for channels in known]))


@movement_rule("Split")
def split(site: Site) -> None:
    """Cut the channels, or pass all of them on if another axis is cut."""
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


@movement_rule("Slice")
def slice_(site: Site) -> None:
    """Cut the channels; a step other than 1 pins them."""
    channels = site.channels(0)
    if channels is None:
        return
    cuts = slices(site.node, site.shape(0))
    if cuts is None:
        site.pin(channels.values, "channel-slice", "its bounds are not constant")
        return
    cut = cuts.get(channels.axis, slice(None))
    if cut.step not in (None, 1):
        site.pin(channels.values, "channel-slice", f"it slices channels with a step of {cut.step}")
        return
    site.write(channels.axis, channels.values[cut])


def slices(node: gs.Node, shape: Sequence[int]) -> dict[int, slice] | None:
    """Return the slice that a Slice takes of each axis it names; None if its operands are computed."""
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes", range(len(starts))), [1] * len(starts)
    else:
        operands = [None if t.is_empty() else constant_values(t) for t in node.inputs[1:]]
        known = [t.is_empty() or values is not None for t, values in zip(node.inputs[1:], operands, strict=True)]
        if not all(known):
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


@movement_rule("Gather")
def gather(site: Site) -> None:
    """Gather channels: each at most once moves them, repeats make new channels and pin the gathered ones."""
    channels = site.channels(0)
    indices = constant_values(site.node.inputs[1])
    if channels is None:
        return
    axis = int(site.node.attrs.get("axis", 0)) % len(site.shape(0))
    if indices is None or indices.ndim != 1:
        site.pin(channels.values, "channel-gather", "its indices are not a constant vector")
    elif axis != channels.axis:
        site.write(channels.axis, channels.values)
    elif len(np.unique(indices % len(channels.values))) == len(indices):
        gathered = channels.values[indices]
        site.operand(1, 0, gathered)
        site.write(axis, gathered)
    else:
        site.pin(channels.values, "channel-gather", "it gathers some channels more than once")
        copies = site.copies(channels.values[indices])
        site.operand(1, 0, copies)
        site.write(axis, copies)


@movement_rule("Transpose")
def transpose(site: Site) -> None:
    """Permute the axes."""
    channels = site.channels(0)
    if channels is not None:
        rank = len(site.shape(0))
        perm = list(site.node.attrs.get("perm", range(rank - 1, -1, -1)))
        site.write(perm.index(channels.axis), channels.values)


@movement_rule("Reshape Flatten Squeeze Unsqueeze")
def reshape(site: Site) -> None:
    """Follow the index map exactly: elements keep their order, and each keeps its channel."""
    channels = site.channels(0)
    if channels is not None:
        old, new = site.shape(0), site.output_shape()
        if math.prod(old) != math.prod(new) or 0 in old:
            site.pin(channels.values, "channel-reshape", "its input and output differ in size")
            return
        collapsed = site.collapse(reshaped(spread(old, channels), old, new))
        if collapsed is not None:
            site.write(*collapsed)
        elif len(channels.values) > 1:
            site.pin(channels.values, "channel-reshape", "all its elements belong to one channel")


def reshaped(values: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Reshape an array that represents its broadcast to ``old``, without writing out axes along which nothing varies.

    Both shapes are cut into the smallest runs of neighbouring axes with the same number of elements; a run along which
    nothing varies keeps size one.

    Args:
        values: each dimension equals that of ``old`` or is 1.
        old: shape before.
        new: shape after, with the same number of elements.

    Returns:
        An array that broadcasts to ``new``.
    """
    before: list[int] = []
    after: list[int] = []
    for old_run, new_run in _runs(old, new):
        sizes = values.shape[old_run.start : old_run.stop]
        if all(size == 1 for size in sizes):
            before += [1] * len(sizes)
            after += [1] * (new_run.stop - new_run.start)
        else:
            before += old[old_run.start : old_run.stop]
            after += new[new_run.start : new_run.stop]
    return np.broadcast_to(values, before).reshape(after)


def _runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    runs, i, j = [], 0, 0
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
        runs.append((range(first_i, i), range(first_j, j)))
    return runs


@movement_rule("Resize Upsample")
def resize(site: Site) -> None:
    """Resize maps; the channel axis keeps its size."""
    channels = site.channels(0)
    if channels is None:
        return
    if len(channels.values) != site.output_shape()[channels.axis]:
        site.pin(channels.values, "channel-resize", "it interpolates between channels")
        return
    site.write(channels.axis, channels.values)


@movement_rule("Expand")
def expand(site: Site) -> None:
    """Repeat axes of size one."""
    channels = site.channels(0)
    if channels is None:
        return
    axis = channels.axis + len(site.output_shape()) - len(site.shape(0))
    if site.output_shape()[axis] != len(channels.values):
        site.pin(channels.values, "channel-broadcast", "it repeats one channel")
        return
    site.write(axis, channels.values)


@movement_rule("Tile")
def tile(site: Site) -> None:
    """Repeat along axes."""
    channels = site.channels(0)
    if channels is not None:
        count = site.output_shape()[channels.axis] // len(channels.values)
        site.write(channels.axis, np.tile(channels.values, count))


@movement_rule("Pad")
def pad(site: Site) -> None:
    """Add a border; channels added before or after the others can never be removed."""
    channels = site.channels(0)
    if channels is None:
        return
    rank = len(site.shape(0))
    pads = padding(site.node, rank)
    if pads is None or min(pads[channels.axis]) < 0:
        site.pin(channels.values, "channel-pad", "its padding is not constant, or it crops channels")
        return
    before, after = pads[channels.axis]
    reason = "it adds channels"
    if before or after:
        if site.node.attrs.get("mode", "constant") not in ("constant", b"constant"):
            site.pin(channels.values, "channel-pad", "it pads with copies of channels")
        parts = [site.fixed(before, reason), channels.values, site.fixed(after, reason)]
        site.write(channels.axis, np.concatenate(parts))
        return
    site.write(channels.axis, channels.values)


def padding(node: gs.Node, rank: int) -> list[tuple[int, int]] | None:
    """Return how much a Pad adds before and after each axis; None if that is computed."""
    sizes = node.attrs.get("pads") or node.attrs.get("paddings")
    if sizes is None:
        values = constant_values(node.inputs[1])
        sizes = None if values is None else values.tolist()
    axes: list[int] = list(range(rank))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        padded = constant_values(node.inputs[3])
        sizes, axes = (None, []) if padded is None else (sizes, [int(axis) % rank for axis in padded.tolist()])
    if sizes is None:
        return None
    pads = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pads[axis] = (int(sizes[position]), int(sizes[position + len(axes)]))
    return pads

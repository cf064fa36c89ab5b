"""SSD heads, priors and decodings, as networks and layers spell them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from anchor_networks import AnchorNetwork
from hypothesis import strategies as st
from ssd_tails import Tail, grid_priors


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
    nms = draw(st.booleans())
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
        clip=form == "corners" and draw(st.booleans()),
        clipping=draw(st.sampled_from(["coordinate", "vector"] if pixels else ["coordinate", "vector", "tensor"])),
        limit=draw(st.sampled_from([None, 4.135])),
        best=draw(st.integers(2, len(centres))) if nms and draw(st.booleans()) else None,
        columns=not nms and len(centres) != 4 and draw(st.booleans()),  # 4 x 4 shows no order
        nms=nms,
        seed=draw(st.integers(0, 99)),
    )


@st.composite
def anchor_networks(draw: st.DrawFn) -> AnchorNetwork:
    """One to three maps with up to three anchors each, about a third of them dead; whole maps may be."""
    kinds = st.sampled_from(["trained", "trained", "dead", "dead", "loud", "close", "half"])
    activation = draw(st.sampled_from(["Softmax", "Sigmoid"]))
    return AnchorNetwork(
        maps=tuple(tuple(draw(st.lists(kinds, min_size=1, max_size=3))) for _ in range(draw(st.integers(1, 3)))),
        classes=draw(st.integers(2, 4)),
        # softmax without a background: some class is never below the threshold
        background=draw(st.sampled_from([0, 1] if activation == "Softmax" else [0, 1, None])),
        activation=activation,
        layout=draw(st.sampled_from(["flat", "rows", "planes"])),
        seed=draw(st.integers(0, 9)),
    )


@st.composite
def exported_networks(draw: st.DrawFn) -> tuple[AnchorNetwork, dict[str, Any]]:
    """Networks of trained anchors of any size, and changes of how their boxes are coded."""
    net = draw(anchor_networks())
    maps = tuple(tuple("dead" if kind == "dead" else "trained" for kind in kinds) for kinds in net.maps)
    background = 0 if net.background is None else net.background
    coding = draw(st.sampled_from(["center_size", "corner"]))
    changes = {
        "y_first": draw(st.booleans()),
        # offsets of corners that are not made small turn boxes inside out, of which nobody says what they overlap
        "variance_encoded": coding == "center_size" and draw(st.booleans()),
        "box_coding": coding,
    }
    return replace(net, maps=maps, background=background), changes


@dataclass(frozen=True)
class PriorLayer:
    """Parameters of a PriorBox layer, and which of its anchors are used, in which order (None: all)."""

    cells: tuple[int, int]
    image: tuple[int, int]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    flip: bool
    step: tuple[float, float] | None
    offset: float
    clip: bool
    picked: tuple[int, ...] | None = None


@st.composite
def prior_layers(draw: st.DrawFn) -> PriorLayer:
    """Layers on pictures that are no squares. Where clipping would hide the grid, it is that of a picture over cells."""
    cells = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    image = draw(st.sampled_from([(240, 320), (300, 300), (129, 257)]))
    sizes = sorted(draw(st.lists(st.integers(8, 100), min_size=1, max_size=3, unique=True)))
    largest = [draw(st.integers(12, 20)) / 10 * size for size in sizes] if draw(st.booleans()) else []
    ratios = draw(st.lists(st.sampled_from([2.0, 3.0, 1.5, 0.4]), max_size=3, unique=True))
    clip = draw(st.booleans())
    outside = 32 * max(cells) > min(image)  # cells beyond the picture show nothing of their boxes
    hidden = clip and (min(cells) < 4 or sizes[0] > 16 or outside)
    step = None if hidden else draw(st.sampled_from([None, (16.0, 16.0), (32.0, 30.0)]))
    total = len(sizes) * (1 + bool(largest) + 2 * len(ratios))
    return PriorLayer(
        cells=cells,
        image=image,
        min_sizes=tuple(map(float, sizes)),
        max_sizes=tuple(largest),
        ratios=tuple(ratios),
        flip=draw(st.booleans()),
        step=step,
        offset=0.5 if hidden else draw(st.sampled_from([0.5, 0.25])),
        clip=clip,
        picked=draw(st.none() | st.permutations(range(total)).map(lambda order: tuple(order[: len(order) // 2 + 1]))),
    )

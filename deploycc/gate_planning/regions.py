"""Predicted time of gated convolutions, for each recorded picture, under one way of carrying their gates out.

A region is one to three convolutions in a row; with ``widths`` each but the first is computed inside the branches of
the one before. What a region costs beside its convolutions: the branches that are entered, the masks that stay, and
rearranging and filling up the map that leaves it (`deploycc.gate_planning.operations`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploycc.documents.costs import Convolution
from deploycc.documents.gate_plan import Lowering
from deploycc.gate_planning.costs import Array, CostModel
from deploycc.gate_planning.orders import boundaries, by_firing_together, by_prefix, by_utilisation, needed_width

BLOCK = 16  # kernels of the smallest piece: the widest vector unit takes as many
_MOST_ENDS = 32  # candidates for the end of a piece; larger layers get larger blocks

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """A convolution as the planner sees it.

    Attributes:
        name: node.
        convolution: with all channels.
        active: recorded decisions, [pictures, kernels]; all True where there is no gate.
        unit_of: for each kernel the unit that decides about it.
        nested: units go off from the last to the first, so a width that covers one that is on holds no idle one.
        gated: False for a convolution that can only be taken along.
        joins: it may stand inside the branches of the layer before it.
        movable: its kernels may change places.
        divisible: it may be computed in parts at all.
        map_elements: of one kernel's response, where the mask multiplies in the network as it is.
        end_elements: of one kernel's map behind everything that a branch takes along.
        start_elements: of the map that a branch reads, where it comes out of a convolution in blocks; else 0.
    """

    name: str
    convolution: Convolution
    active: NDArray[np.bool_]
    unit_of: tuple[int, ...]
    nested: bool = False
    gated: bool = True
    joins: bool = False
    movable: bool = True
    divisible: bool = True
    map_elements: int = 0
    end_elements: int = 0
    start_elements: int = 0

    @property
    def kernels(self) -> int:
        """Number of kernels."""
        return self.convolution.kernels


@dataclass(frozen=True)
class Choice:
    """One way to carry out a region.

    Attributes:
        layers: names, in order.
        lowering: of all of them.
        sizes: for each layer, see `deploycc.documents.gate_plan.LayerPlan`.
        always: of a layer in blocks.
        orders: for each layer.
        expected_ms: mean over the recorded pictures.
        all_on_ms: with every kernel on.
    """

    layers: tuple[str, ...]
    lowering: Lowering
    sizes: tuple[tuple[int, ...], ...]
    orders: tuple[tuple[int, ...], ...] = field(repr=False)
    expected_ms: float
    all_on_ms: float
    added_bytes: int = 0
    branches: int = 0
    always: int = 0


class LayerTimes:
    """One layer with an order: lookup tables over the candidates for widths. Index 0 stands for no kernels."""

    def __init__(self, layer: PlannedLayer, model: CostModel, order: Indices) -> None:
        self.layer, self.model, self.order = layer, model, order
        block = BLOCK * math.ceil(layer.kernels / BLOCK / _MOST_ENDS)
        self.ends = np.array([0, *boundaries(order, layer.unit_of, block)], np.intp)
        need = needed_width(layer.active, order)
        self.need = np.searchsorted(self.ends, need)  # index of the smallest candidate that covers the picture
        self.multiplies = layer.gated and not (layer.nested and len(self.ends) - 1 == len(set(layer.unit_of)))
        line, size = model.lines["multiply"], layer.end_elements
        masks = np.array([line(size * int(end)) if end else 0.0 for end in self.ends])
        self.multiply_ms: Array = masks if self.multiplies else np.zeros_like(masks)

    @property
    def last(self) -> int:
        """Index of the candidate that holds all kernels."""
        return len(self.ends) - 1

    def table(self, before: LayerTimes | None) -> Array:
        """Time of convolution and mask, [candidates of the layer before or 1, candidates]."""
        inputs = np.array([self.layer.convolution.inputs], np.intp) if before is None else before.ends
        times = self.model.grids[self.layer.convolution](inputs[:, None], self.ends[None, :])
        result: Array = times + self.multiply_ms
        return result

    def leaving_ms(self) -> Array:
        """Cost of filling up and rearranging the map behind the region, [candidates]."""
        lines, elements = self.model.lines, self.layer.end_elements * self.layer.kernels
        cost = np.full(len(self.ends), lines["pad"](elements) + lines["branch"].element_ms * elements)
        cost[0] = lines["zeros"](elements)
        cost[-1] -= lines["pad"](elements)
        return cost


def best_order(layer: PlannedLayer, model: CostModel) -> LayerTimes:
    """The layer with the order whose prefixes cost least on the recorded pictures."""
    identity = np.arange(layer.kernels)
    orders = [identity]
    if layer.movable and layer.gated:
        orders = [by_utilisation(layer.active, layer.unit_of), by_prefix(layer.active, layer.unit_of)]
    tried = [LayerTimes(layer, model, order) for order in orders]
    return min(tried, key=lambda each: float(each.table(None)[0][each.need].mean()))


def multiply(layer: PlannedLayer, model: CostModel) -> Choice:
    """Compute all kernels and multiply."""
    mask = model.lines["multiply"](layer.map_elements * layer.kernels) if layer.gated else 0.0
    ms = float(model.grids[layer.convolution](layer.convolution.inputs, layer.kernels)) + mask
    identity = tuple(range(layer.kernels))
    return Choice((layer.name,), "multiply", ((),), (identity,), ms, ms)


def widths(times: Sequence[LayerTimes], counts: Sequence[int]) -> Choice:
    """The best widths of a region, at most ``counts`` of each layer.

    Each layer's widths are chosen by dynamic programming for given widths of the others, in turns until nothing gets
    better.
    """
    tables = [each.table(times[number - 1] if number else None) for number, each in enumerate(times)]
    chosen = [np.array([each.last]) for each in times]
    taken = [np.full(len(each.need), each.last) for each in times]
    leaving = times[-1].leaving_ms()
    best = math.inf
    while True:
        for number, each in enumerate(times):
            rows = taken[number - 1] if number else np.zeros(len(each.need), np.intp)
            cost = tables[number][rows]
            cost = cost + (tables[number + 1].T[taken[number + 1]] if number + 1 < len(times) else leaving)
            chosen[number] = choose_widths(each.need, cost, counts[number] if each.layer.gated else 1)
            taken[number] = chosen[number][np.searchsorted(chosen[number], each.need)]
        total = sum(
            float(table[taken[number - 1] if number else 0, taken[number]].mean())
            for number, table in enumerate(tables)
        ) + float(leaving[taken[-1]].mean())
        if total >= best * (1 - 1e-9):
            break
        best = total
    fixed = entering_ms(times[0]) + sum(_tests(len(each)) for each in chosen) * times[0].model.lines["branch"].fixed_ms
    all_on = sum(float(table[-1, -1]) for table in tables) + float(leaving[-1])
    sizes = tuple(tuple(each.ends[own].tolist()) for each, own in zip(times, chosen, strict=True))
    return Choice(
        layers=tuple(each.layer.name for each in times),
        lowering="widths",
        sizes=sizes,
        orders=tuple(tuple(each.order.tolist()) for each in times),
        expected_ms=total + fixed,
        all_on_ms=all_on + fixed,
        added_bytes=added_bytes([each.layer.convolution for each in times], sizes),
        branches=math.prod(map(len, sizes)) - 1,
    )


def order_of_blocks(layer: PlannedLayer) -> Indices:
    """The order in which blocks of kernels are on together, where kernels may move."""
    return by_firing_together(layer.active, layer.unit_of, BLOCK) if layer.movable else np.arange(layer.kernels)


def blocks(layer: PlannedLayer, model: CostModel, count: int, order: Indices | None = None) -> Choice | None:
    """Return the best division into at most ``count`` blocks after kernels that are always computed.

    None where no division has a finite cost.
    """
    order = order_of_blocks(layer) if order is None else order
    times = LayerTimes(layer, model, order)
    ends, last = times.ends, times.last
    ordered = layer.active[:, order]
    needed = np.stack([ordered[:, low:high].any(1) for low, high in itertools.pairwise(ends)], 1)
    rates = np.zeros((last + 1, last + 1))  # how often a piece from one end to another is needed
    for low in range(last):
        rates[low, low + 1 :] = np.logical_or.accumulate(needed[:, low:], axis=1).mean(0)
    lines, convolution = model.lines, layer.convolution
    size = ends[None, :] - ends[:, None]
    piece = model.grids[convolution](convolution.inputs, np.maximum(size, 0))
    masks = lines["multiply"].element_ms * layer.map_elements * np.maximum(size, 0)
    if len(ends) - 1 == len(set(layer.unit_of)) < layer.kernels:
        masks[np.arange(last), np.arange(last) + 1] = 0  # one unit decides about the whole piece
    reading = lines["branch"].element_ms * convolution.inputs * math.prod(convolution.size) / 2  # each packs the input
    zeros = lines["zeros"].element_ms * layer.map_elements * np.maximum(size, 0)
    taken = piece + reading + masks
    branch = lines["branch"].fixed_ms
    expected = branch + rates * taken + (1 - rates) * zeros
    outside = piece[0] + lines["multiply"].element_ms * layer.map_elements * ends
    outside[0] = 0.0
    # best[k][end]: least cost up to an end with k blocks
    best, back = [outside], list[Indices]()
    for _ in range(count):
        step = best[-1][:, None] + np.where(size > 0, expected, np.inf)
        back.append(step.argmin(0))
        best.append(step.min(0))
    number = min(range(1, count + 1), key=lambda k: best[k][last])
    cuts = [last]
    for k in range(number, 0, -1):
        cuts.insert(0, int(back[k - 1][cuts[0]]))
    if not math.isfinite(best[number][last]):
        return None
    elements = layer.map_elements * layer.kernels
    fixed = entering_ms(times) + lines["concat"](elements) + lines["branch"].element_ms * elements / 2
    pairs = list(itertools.pairwise(cuts))
    all_on = float(outside[cuts[0]]) + sum(branch + float(taken[low, high]) for low, high in pairs)
    return Choice(
        layers=(layer.name,),
        lowering="blocks",
        sizes=(tuple(int(size[low, high]) for low, high in pairs),),
        orders=(tuple(order.tolist()),),
        expected_ms=float(best[number][last]) + fixed,
        all_on_ms=all_on + fixed,
        branches=len(pairs),
        always=int(ends[cuts[0]]),
    )


def choose_widths(need: Indices, cost: Array, count: int) -> Indices:
    """At most ``count`` candidates, the last always among them, with the least total cost.

    Args:
        need: for each picture the first candidate that covers it.
        cost: of each candidate, [pictures, candidates].
        count: at least 1.

    Returns:
        Indices of candidates, ascending.
    """
    last = cost.shape[1] - 1
    rows = np.argsort(need, kind="stable")
    present, starts = np.unique(need[rows], return_index=True)
    sums = np.zeros((last + 2, last + 1))  # sums[b, c]: cost of candidate c over the pictures that need less than b
    sums[present + 1] = np.add.reduceat(cost[rows], starts, axis=0)
    sums = np.cumsum(sums, axis=0)
    every = np.arange(last + 1)
    served = sums[every + 1, every]  # by c alone, all that it covers
    best, back = served.copy(), [np.full(last + 1, -1)]
    totals = [best[last]]
    for _ in range(1, count):
        step = best[:, None] + served[None, :] - sums[every[:, None] + 1, every[None, :]]
        step[every[:, None] >= every[None, :]] = np.inf
        back.append(step.argmin(0))
        best = step.min(0)
        totals.append(best[last])
    number = int(np.argmin(totals))
    found = [last]
    for k in range(number, 0, -1):
        found.insert(0, int(back[k][found[0]]))
    return np.array(found, np.intp)


def added_bytes(convolutions: Sequence[Convolution], sizes: Sequence[Sequence[int]]) -> int:
    """Bytes of weights beyond one copy: every branch holds the kernels of its width, as wide as those before them."""
    copies, own, ways = 0, 0, 1
    before: tuple[int, ...] = (convolutions[0].inputs,)
    for convolution, widths in zip(convolutions, sizes, strict=True):
        window = math.prod(convolution.kernel)
        own += window * convolution.inputs * convolution.kernels
        copies += window * ways * sum(before) * sum(widths)
        ways, before = ways * len(before), tuple(each for each in widths if each)
    return np.dtype(np.float32).itemsize * (copies - own)


def entering_ms(times: LayerTimes) -> float:
    """Cost of bringing the region's input into plain form, where a convolution gives it in blocks."""
    return times.model.lines["branch"].element_ms * times.layer.start_elements


def _tests(count: int) -> int:
    """Branches on the way to one of ``count`` widths."""
    return math.ceil(math.log2(count)) if count > 1 else 0

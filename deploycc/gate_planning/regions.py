"""Predicted times of gated convolutions on the recorded pictures, for each lowering of their gates.

A region is one to three convolutions in a row; with ``widths`` each but the first is computed inside the branches of
the one before. Beside its convolutions, a region costs the branches that are entered, the multiplications that stay,
and rearranging and padding the map that leaves it (`deploycc.gate_planning.operations`).
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

BLOCK = 16  # kernels of the smallest piece, as many as the widest vector unit processes at once
_MOST_ENDS = 32  # candidates for the end of a piece; larger layers get larger blocks

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """A convolution as the planner sees it.

    Attributes:
        name: name of the node.
        convolution: with all its channels.
        active: recorded decisions, [pictures, kernels]; all True without a gate.
        unit_of: for each kernel its unit.
        nested: whether units go off from the last to the first, so that the smallest width which covers all units that
            are on holds no idle one.
        gated: False for a convolution that can only be joined to the layer before it.
        joins: whether it may be computed inside the branches of the layer before it.
        movable: whether its kernels may change places.
        divisible: whether it may be computed in parts.
        map_elements: elements of one kernel's response, by which the gate multiplies in the network as it is.
        end_elements: elements of one kernel's map after everything that a branch computes.
        start_elements: elements of the map that a branch reads, if a convolution leaves it in blocks; else 0.
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
    """A lowering of a region.

    Attributes:
        layers: names, in order.
        lowering: of all layers.
        sizes: for each layer, see `deploycc.documents.gate_plan.LayerPlan`.
        orders: for each layer, see there.
        expected_ms: mean over the recorded pictures.
        all_on_ms: with every kernel on.
        added_bytes: bytes of weights in branches beyond one copy of each weight.
        branches: number of conditional branches; each must save time (`deploycc.gate_planning.planner.NEAR_TIE`).
        always: with ``blocks``: number of kernels outside any branch.
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
    """Tables of a layer with an order of kernels, over the candidates for widths; candidate 0 has no kernels."""

    def __init__(self, layer: PlannedLayer, model: CostModel, order: Indices) -> None:
        self.layer, self.model, self.order = layer, model, order
        block = BLOCK * math.ceil(layer.kernels / BLOCK / _MOST_ENDS)
        self.ends = np.array([0, *boundaries(order, layer.unit_of, block)], np.intp)
        need = needed_width(layer.active, order)
        self.need = np.searchsorted(self.ends, need)  # [pictures] the smallest candidate that is enough
        self.multiplies = layer.gated and not (layer.nested and len(self.ends) - 1 == len(set(layer.unit_of)))
        line, size = model.lines["multiply"], layer.end_elements
        times = np.array([line(size * int(end)) if end else 0.0 for end in self.ends])
        self.multiply_ms: Array = times if self.multiplies else np.zeros_like(times)

    @property
    def last(self) -> int:
        """The candidate that holds all kernels."""
        return len(self.ends) - 1

    def table(self, before: LayerTimes | None) -> Array:
        """Return times of convolution and multiplication, [candidates of the layer before or 1, candidates]."""
        inputs = np.array([self.layer.convolution.inputs], np.intp) if before is None else before.ends
        times = self.model.grids[self.layer.convolution](inputs[:, None], self.ends[None, :])
        result: Array = times + self.multiply_ms
        return result

    def leaving_ms(self) -> Array:
        """Return the cost of padding and rearranging the map that leaves the region, [candidates]."""
        lines, elements = self.model.lines, self.layer.end_elements * self.layer.kernels
        cost = np.full(len(self.ends), lines["pad"](elements) + lines["branch"].element_ms * elements)
        cost[0] = lines["zeros"](elements)
        cost[-1] -= lines["pad"](elements)
        return cost


def best_order(layer: PlannedLayer, model: CostModel) -> LayerTimes:
    """Return the tables of the order whose prefixes cost least on the recorded pictures."""
    identity = np.arange(layer.kernels)
    orders = [identity]
    if layer.movable and layer.gated:
        orders = [by_utilisation(layer.active, layer.unit_of), by_prefix(layer.active, layer.unit_of)]
    candidates = [LayerTimes(layer, model, order) for order in orders]
    return min(candidates, key=lambda times: float(times.table(None)[0][times.need].mean()))


def multiply(layer: PlannedLayer, model: CostModel) -> Choice:
    """Return the lowering that computes all kernels and multiplies by the gate."""
    multiply_ms = model.lines["multiply"](layer.map_elements * layer.kernels) if layer.gated else 0.0
    ms = float(model.grids[layer.convolution](layer.convolution.inputs, layer.kernels)) + multiply_ms
    identity = tuple(range(layer.kernels))
    return Choice((layer.name,), "multiply", ((),), (identity,), ms, ms)


def widths(times: Sequence[LayerTimes], counts: Sequence[int]) -> Choice:
    """Return the best widths of a region, at most ``counts`` of each layer.

    The widths of one layer are chosen by dynamic programming for fixed widths of the others, layer after layer, until
    nothing gets better.

    Args:
        times: tables of the layers, in order.
        counts: for each layer.
    """
    tables = [layer.table(times[number - 1] if number else None) for number, layer in enumerate(times)]
    chosen = [np.array([layer.last]) for layer in times]
    taken = [np.full(len(layer.need), layer.last) for layer in times]
    leaving = times[-1].leaving_ms()
    best = math.inf
    while True:
        for number, layer in enumerate(times):
            rows = taken[number - 1] if number else np.zeros(len(layer.need), np.intp)
            cost = tables[number][rows]
            cost = cost + (tables[number + 1].T[taken[number + 1]] if number + 1 < len(times) else leaving)
            chosen[number] = choose_widths(layer.need, cost, counts[number] if layer.layer.gated else 1)
            taken[number] = chosen[number][np.searchsorted(chosen[number], layer.need)]
        total = sum(
            float(table[taken[number - 1] if number else 0, taken[number]].mean())
            for number, table in enumerate(tables)
        ) + float(leaving[taken[-1]].mean())
        if total >= best * (1 - 1e-9):
            break
        best = total
    tests = sum(_tests(len(widths)) for widths in chosen)
    fixed = entering_ms(times[0]) + tests * times[0].model.lines["branch"].fixed_ms
    all_on = sum(float(table[-1, -1]) for table in tables) + float(leaving[-1])
    sizes = tuple(tuple(layer.ends[widths].tolist()) for layer, widths in zip(times, chosen, strict=True))
    return Choice(
        layers=tuple(layer.layer.name for layer in times),
        lowering="widths",
        sizes=sizes,
        orders=tuple(tuple(layer.order.tolist()) for layer in times),
        expected_ms=total + fixed,
        all_on_ms=all_on + fixed,
        added_bytes=added_bytes([layer.layer.convolution for layer in times], sizes),
        branches=math.prod(map(len, sizes)) - 1,
    )


def order_of_blocks(layer: PlannedLayer) -> Indices:
    """Return the order in which blocks of kernels are on together, if the kernels may move."""
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
    rates = np.zeros((last + 1, last + 1))  # share of the pictures that need the piece from one end to another
    for low in range(last):
        rates[low, low + 1 :] = np.logical_or.accumulate(needed[:, low:], axis=1).mean(0)
    lines, convolution = model.lines, layer.convolution
    size = ends[None, :] - ends[:, None]
    piece = model.grids[convolution](convolution.inputs, np.maximum(size, 0))
    multiplying = lines["multiply"].element_ms * layer.map_elements * np.maximum(size, 0)
    if len(ends) - 1 == len(set(layer.unit_of)) < layer.kernels:
        multiplying[np.arange(last), np.arange(last) + 1] = 0  # one unit decides about the whole piece
    reading = lines["branch"].element_ms * convolution.inputs * math.prod(convolution.size) / 2  # each packs its input
    zeros = lines["zeros"].element_ms * layer.map_elements * np.maximum(size, 0)
    taken = piece + reading + multiplying
    branch = lines["branch"].fixed_ms
    expected = branch + rates * taken + (1 - rates) * zeros
    outside = piece[0] + lines["multiply"].element_ms * layer.map_elements * ends
    outside[0] = 0.0
    # best[k][end]: least cost of the kernels up to an end, in k blocks
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
    """Choose at most ``count`` candidates with the least total cost; the last one is always among them.

    Args:
        need: for each picture the smallest candidate that is enough for it.
        cost: of each candidate, [pictures, candidates].
        count: at least 1.

    Returns:
        Indices of candidates, ascending.
    """
    last = cost.shape[1] - 1
    rows = np.argsort(need, kind="stable")
    present, starts = np.unique(need[rows], return_index=True)
    sums = np.zeros((last + 2, last + 1))  # [b, c]: cost of candidate c for pictures that need less than b
    sums[present + 1] = np.add.reduceat(cost[rows], starts, axis=0)
    sums = np.cumsum(sums, axis=0)
    every = np.arange(last + 1)
    served = sums[every + 1, every]  # if candidate c serves all pictures for which it is enough
    best, back = served.copy(), [np.full(last + 1, -1)]
    totals = [best[last]]
    for _ in range(1, count):
        step = best[:, None] + served[None, :] - sums[every[:, None] + 1, every[None, :]]
        step[every[:, None] >= every[None, :]] = np.inf
        back.append(step.argmin(0))
        best = step.min(0)
        totals.append(best[last])
    number = int(np.argmin(totals))
    chosen = [last]
    for k in range(number, 0, -1):
        chosen.insert(0, int(back[k][chosen[0]]))
    return np.array(chosen, np.intp)


def added_bytes(convolutions: Sequence[Convolution], sizes: Sequence[Sequence[int]]) -> int:
    """Return the bytes of weights beyond one copy of each.

    Every branch holds the kernels of its width, each with as many inputs as the branch around it computes.

    Args:
        convolutions: of a region, in order.
        sizes: widths of each.
    """
    copies, single, ways = 0, 0, 1
    before: tuple[int, ...] = (convolutions[0].inputs,)
    for convolution, widths in zip(convolutions, sizes, strict=True):
        window = math.prod(convolution.kernel)
        single += window * convolution.inputs * convolution.kernels
        copies += window * ways * sum(before) * sum(widths)
        ways, before = ways * len(before), tuple(width for width in widths if width)
    return np.dtype(np.float32).itemsize * (copies - single)


def entering_ms(times: LayerTimes) -> float:
    """Return the cost of bringing the input of a region into plain form, if a convolution leaves it in blocks."""
    return times.model.lines["branch"].element_ms * times.layer.start_elements


def _tests(count: int) -> int:
    """Return the number of tests on the way to one of ``count`` widths."""
    return math.ceil(math.log2(count)) if count > 1 else 0

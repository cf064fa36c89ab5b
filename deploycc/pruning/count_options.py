"""The numbers of kernels that layers may keep, and the channels that every convolution then reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.documents.costs import Convolution
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.pruning.decide import Bundle, Choice, bundles, group_use, kept, round_down, round_up
from deploycc.timing.convolutions import convolution_of
from deploycc.timing.staircase import WIDTHS

Counts = NDArray[np.int64]
State = tuple[int, ...]
"""The option that each bundle takes."""

STEP = 8  # kernels: no tile is narrower, and FP16 computes in pairs, fours and eights


@dataclass(frozen=True, eq=False)
class BundleOptions:
    """What one bundle of layers may keep.

    Attributes:
        bundle: the layers.
        gone: groups that each option removes; the last option keeps most kernels.
        kept: kernels of the first layer that stay, by option, ascending.
        asked: kernels of the first layer that stay if exactly the useless ones go.
    """

    bundle: Bundle
    gone: tuple[frozenset[int], ...]
    kept: tuple[int, ...]
    asked: int


class CountOptions:
    """What all bundles may keep, and the convolutions that it changes.

    Attributes:
        bundles: those that may lose kernels.
        layers: names of all convolutions, in graph order.
        convolutions: with all channels.
    """

    def __init__(
        self,
        graph: gs.Graph,
        groups: ChannelGroups,
        choice: Choice,
        removable: Iterable[int],
        layers: Iterable[str],
        spare: Iterable[int] = (),
    ) -> None:
        """List the options: multiples of `STEP` kernels from the useful ones up to all.

        Args:
            graph: as analysed, nothing removed.
            groups: channel groups of the graph.
            choice: the useless kernels, including those of spare groups.
            removable: groups that may go.
            layers: names of layers that may lose kernels.
            spare: groups that may go in addition, a few per layer, where a full tile then suffices.
        """
        removable, spare = frozenset(removable), frozenset(spare)
        self.bundles = [
            _options(groups, bundle, choice, removable, spare)
            for bundle in bundles(groups, layers)
            if removable & bundle.groups
        ]
        nodes = [(node, name, conv) for node, name in layer_names(graph.nodes) if (conv := convolution_of(node))]
        self.layers = tuple(name for _, name, _ in nodes)
        self.convolutions = tuple(convolution for *_, convolution in nodes)
        self._full = tiled_channels(self.convolutions)
        labels = [(_labels(groups, node.inputs[0]), groups.layers.get(name)) for node, name, _ in nodes]
        self._affected: list[Counts] = []
        self._lost: list[Counts] = []
        for options in self.bundles:
            lost = np.stack([_lost(gone, labels, groups.count) for gone in options.gone])
            lost[..., 0] //= [conv.inputs + 1 if is_depthwise(conv) else conv.groups for conv in self.convolutions]
            affected = np.flatnonzero(lost.any(axis=(0, 2)))
            self._affected.append(affected)
            self._lost.append(lost[:, affected])

    def everything(self) -> State:
        """Every bundle keeps as many kernels as it may."""
        return tuple(len(options.gone) - 1 for options in self.bundles)

    def gone(self, state: Sequence[int]) -> frozenset[int]:
        """Return the groups that go."""
        return frozenset().union(*(of.gone[option] for of, option in zip(self.bundles, state, strict=True)))

    def channels(self, state: Sequence[int]) -> Counts:
        """Return inputs and kernels of every convolution as `tiled_channels` counts them, [layers, 2]."""
        left = self._full.copy()
        for affected, lost, option in zip(self._affected, self._lost, state, strict=True):
            left[affected] -= lost[option]
        return left

    def around(self, number: int, state: Sequence[int]) -> tuple[Counts, Counts]:
        """Return what one bundle's options change, the other bundles as they are.

        Returns:
            Numbers of the convolutions, and their inputs and kernels, [options, convolutions, 2].
        """
        affected, lost = self._affected[number], self._lost[number]
        return affected, self.channels(state)[affected] + lost[state[number]] - lost

    def narrowed(self, state: Sequence[int]) -> tuple[Convolution, ...]:
        """Return all convolutions with the channels that are left."""
        rows = zip(self.convolutions, self.channels(state).tolist(), strict=True)
        return tuple(
            convolution.narrowed(kernels if is_depthwise(convolution) else inputs * convolution.groups, kernels)
            for convolution, (inputs, kernels) in rows
        )


def is_depthwise(convolution: Convolution) -> bool:
    """Return whether each kernel reads one input of its own."""
    return convolution.groups == convolution.inputs > 1


def tiled_channels(convolutions: Sequence[Convolution]) -> Counts:
    """Return the inputs that each kernel sums over and the kernels, [convolutions, 2]."""
    return np.array([[conv.inputs // conv.groups, conv.kernels] for conv in convolutions], np.int64).reshape(-1, 2)


def _options(
    groups: ChannelGroups, bundle: Bundle, choice: Choice, removable: frozenset[int], spare: frozenset[int]
) -> BundleOptions:
    largest = bundle.layers[0]
    asked = round_up(groups, bundle, removable, choice, 1)
    order = sorted(
        asked & set(groups.layers[largest].tolist()), key=lambda group: (-group_use(groups, group, choice), group)
    )
    least, full = kept(groups, largest, asked), len(groups.layers[largest])
    gone: dict[int, frozenset[int]] = {}
    for count in [*range(-(-least // STEP) * STEP, full + 1, STEP), least + len(order)]:
        if least <= count <= least + len(order):
            gone.setdefault(count, asked - frozenset(order[: count - least]))
    for multiple in WIDTHS if spare else ():
        fewer = round_down(groups, bundle, removable, spare, choice, multiple)
        gone.setdefault(kept(groups, largest, fewer), fewer)
    counts = sorted(gone)
    return BundleOptions(bundle, tuple(gone[count] for count in counts), tuple(counts), least)


def _labels(groups: ChannelGroups, tensor: gs.Tensor) -> Counts | None:
    labelled = groups.tensors.get(tensor.name)
    return None if labelled is None else labelled.groups


def _lost(gone: frozenset[int], labels: Sequence[tuple[Counts | None, Counts | None]], count: int) -> Counts:
    """Channels that convolutions lose, [convolutions, 2]."""
    goes = np.zeros(count, np.int64)
    goes[list(gone)] = 1
    return np.array([[0 if of is None else int(goes[of].sum()) for of in both] for both in labels], np.int64)

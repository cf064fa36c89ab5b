"""Decide how many kernels each layer keeps: a fixed multiple, or the count that computes fastest on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.documents.costs import Convolution
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.progress import Say, quiet
from deploycc.pruning.decide import Bundle, Choice, bundles, kept, round_down, round_up
from deploycc.pruning.whole_network import fastest, relative_times
from deploycc.timing.convolutions import Costs, convolution_of

REFERENCE = 16  # a multiple of vectors of 4, 8 and 16 numbers; used unless another multiple is clearly faster
MULTIPLES = (REFERENCE, 32, 8, 1)
_WORTH = 0.95  # another count must save 5 % in the median, and its slowest round must beat the reference's fastest


@dataclass(frozen=True)
class Rounded:
    """The number of kernels decided for a bundle of layers.

    Attributes:
        layers: their names.
        before, least, kept: kernels of the first layer: all of them, the useful ones, and those that stay.
        multiple: to which the count was rounded.
        times_ms: pairs of multiple and predicted time of the convolutions that produce or read these channels; empty
            if nothing was timed.
    """

    layers: tuple[str, ...]
    before: int
    least: int
    kept: int
    multiple: int
    times_ms: tuple[tuple[int, float], ...] = ()


def fixed_multiple(
    groups: ChannelGroups,
    choice: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    multiple: int,
    spare: Iterable[int] = (),
) -> tuple[frozenset[int], tuple[Rounded, ...]]:
    """Round every layer up to the same multiple, or down if removing a few spare channels suffices.

    Args:
        groups: channel groups of the graph.
        choice: the useless kernels, including those of spare groups.
        removable: removable groups.
        layers: names of layers that may lose kernels.
        multiple: of kernels.
        spare: groups that may be removed in addition.

    Returns:
        The groups to remove, and the decision for each bundle with removable groups.
    """
    removable, spare = frozenset(removable), frozenset(spare)
    going: frozenset[int] = frozenset()
    decided = []
    for bundle in bundles(groups, layers):
        if removable & bundle.groups:
            gone = round_down(groups, bundle, removable, spare, choice, multiple)
            going |= gone
            decided.append(rounded(groups, bundle, removable, gone, multiple))
    return going, tuple(decided)


def fastest_multiple(
    graph: gs.Graph,
    groups: ChannelGroups,
    choice: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    say: Say = quiet,
) -> tuple[frozenset[int], tuple[Rounded, ...]]:
    """Choose for each layer the multiple that minimises the measured time of the convolutions it affects.

    Layers are decided in graph order; later ones are counted with their useful kernels, rounded up to 16. That is also
    the default for a layer: another multiple must be clearly faster, because the smallest of four noisy times is
    biased, and because an odd count slows down neighbours that are not measured here.

    Args:
        graph: as analysed, nothing removed.
        groups: channel groups of the graph.
        choice: the useless kernels.
        removable: removable groups.
        layers: names of layers that may lose kernels.
        costs: measures times that it does not know.
        say: called with the number of layers timed.
    """
    removable = frozenset(removable)
    all_bundles = bundles(groups, layers)
    going = {index: round_up(groups, bundle, removable, choice, REFERENCE) for index, bundle in enumerate(all_bundles)}
    nodes = [(node, name, conv) for node, name in layer_names(graph.nodes) if (conv := convolution_of(node))]
    decided = []
    for index, bundle in enumerate(all_bundles):
        say("timing kept kernels", index, len(all_bundles))
        if not removable & bundle.groups:
            continue
        options: dict[frozenset[int], int] = {}
        for multiple in MULTIPLES:
            options.setdefault(round_up(groups, bundle, removable, choice, multiple), multiple)
        elsewhere = frozenset().union(*(gone for other, gone in going.items() if other != index))
        affected = [(node, name, conv) for node, name, conv in nodes if is_affected(groups, bundle, node, name)]
        narrowed = {
            gone: [narrowed_convolution(groups, node, name, conv, elsewhere | gone) for node, name, conv in affected]
            for gone in options
        }
        costs.measure(conv for convolutions in narrowed.values() for conv in convolutions)
        times = {gone: _Times.of(convolutions, costs) for gone, convolutions in narrowed.items()}
        reference = times[going[index]]
        faster = [gone for gone in options if times[gone].clearly_below(reference)]
        best = min(faster, key=lambda gone: times[gone].median, default=going[index])
        going[index] = best
        measured = tuple((multiple, times[gone].median) for gone, multiple in options.items())
        decided.append(rounded(groups, bundle, removable, best, options[best], measured))
    return frozenset().union(*going.values()), tuple(decided)


def fastest_counts(
    graph: gs.Graph,
    groups: ChannelGroups,
    choice: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    spare: Iterable[int] = (),
    say: Say = quiet,
) -> tuple[frozenset[int], tuple[Rounded, ...], dict[str, float]]:
    """Choose the fastest of several whole networks: with `fastest_multiple` per layer, or with a multiple for all.

    Args:
        graph: as analysed, nothing removed.
        groups: channel groups of the graph.
        choice: the useless kernels, including those of spare groups.
        removable: removable groups.
        layers: names of layers that may lose kernels.
        costs: measures times that it does not know.
        spare: groups that may be removed in addition if the network is then faster: a few per layer.
        say: called with the number of layers and networks timed.

    Returns:
        The groups to remove, the decision for each bundle, and the candidates' times relative to multiples of 16
        (medians of `deploycc.pruning.whole_network.relative_times`), by candidate: ``each``, ``down`` or the multiple.
    """
    removable, layers, reference = frozenset(removable), list(layers), str(REFERENCE)
    decided = {str(multiple): fixed_multiple(groups, choice, removable, layers, multiple) for multiple in MULTIPLES}
    decided["each"] = fastest_multiple(graph, groups, choice, removable, layers, costs, say)
    decided["down"] = fixed_multiple(groups, choice, removable, layers, REFERENCE, spare)
    first: dict[frozenset[int], str] = {}
    for key, (going, _) in decided.items():
        first.setdefault(going, key)
    candidates = {key: going for going, key in first.items()}
    if len(candidates) == 1:
        return *decided[reference], {}
    ratios = relative_times(graph, groups, candidates, reference, costs.timer, say)
    medians = {key: float(np.median(rounds)) for key, rounds in ratios.items()}
    return *decided[fastest(ratios, reference)], medians


@dataclass(frozen=True)
class _Times:
    """Total times of several convolutions, milliseconds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, convolutions: Iterable[Convolution], costs: Costs) -> _Times:
        samples = [costs.samples_ms(conv) for conv in convolutions]
        least, median, most = (float(sum(map(pick, samples))) for pick in (min, np.median, max))
        return cls(least, median, most)

    def clearly_below(self, other: _Times) -> bool:
        return self.median <= _WORTH * other.median and self.most < other.least


def rounded(
    groups: ChannelGroups,
    bundle: Bundle,
    removable: frozenset[int],
    gone: frozenset[int],
    multiple: int,
    times_ms: tuple[tuple[int, float], ...] = (),
) -> Rounded:
    """Return the decision for a bundle."""
    layer = bundle.layers[0]
    least, left = kept(groups, layer, removable & bundle.groups), kept(groups, layer, gone)
    return Rounded(bundle.layers, len(groups.layers[layer]), least, left, multiple, times_ms)


def is_affected(groups: ChannelGroups, bundle: Bundle, node: gs.Node, name: str) -> bool:
    """Return whether a convolution produces or reads channels of a bundle."""
    source = groups.tensors.get(node.inputs[0].name)
    read = () if source is None else source.groups.tolist()
    return name in bundle.layers or not bundle.groups.isdisjoint(read)


def narrowed_convolution(
    groups: ChannelGroups, node: gs.Node, name: str, convolution: Convolution, gone: frozenset[int]
) -> Convolution:
    """Return a convolution with the channels that are left."""
    source = groups.tensors.get(node.inputs[0].name)
    inputs = convolution.inputs
    if source is not None:
        inputs = sum(group not in gone for group in source.groups.tolist())
    return convolution.narrowed(inputs, kept(groups, name, gone))

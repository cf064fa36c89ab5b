"""Decide how many kernels each layer keeps, by times that were predicted: exact numbers, so no margin for noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_graphsurgeon as gs

from deploycc.documents.costs import Convolution
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.pruning.decide import Choice, bundles, round_down, round_up
from deploycc.pruning.kept_counts import REFERENCE, Rounded, is_affected, narrowed_convolution, rounded
from deploycc.timing.convolutions import convolution_of

MULTIPLES = (1, 8, 16, 32, 64, 128)
_EQUAL = 1e-3  # of the time: below that, the more kernels the better


def cheapest_counts(
    graph: gs.Graph,
    groups: ChannelGroups,
    choice: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    time_ms: Callable[[Convolution], float],
    spare: Iterable[int] = (),
) -> tuple[frozenset[int], tuple[Rounded, ...]]:
    """Choose for each layer the number of kernels at which the convolutions that it affects take least time.

    Layers are decided in graph order; later ones are counted with their useful kernels, rounded up to 16.

    Args:
        graph: as analysed, nothing removed.
        groups: channel groups of the graph.
        choice: the useless kernels, including those of spare groups.
        removable: removable groups.
        layers: names of layers that may lose kernels.
        time_ms: of a convolution.
        spare: groups that may be removed in addition, a few per layer.

    Returns:
        The groups to remove, and the decision for each bundle with removable groups.
    """
    removable, spare = frozenset(removable), frozenset(spare)
    every = bundles(groups, layers)
    going = {index: round_up(groups, bundle, removable, choice, REFERENCE) for index, bundle in enumerate(every)}
    nodes = [(node, name, conv) for node, name in layer_names(graph.nodes) if (conv := convolution_of(node))]
    decided = []
    for index, bundle in enumerate(every):
        if not removable & bundle.groups:
            continue
        options: dict[frozenset[int], int] = {}
        for multiple in MULTIPLES:
            options.setdefault(round_up(groups, bundle, removable, choice, multiple), multiple)
            options.setdefault(round_down(groups, bundle, removable, spare, choice, multiple), multiple)
        elsewhere = frozenset().union(*(gone for other, gone in going.items() if other != index))
        affected = [(node, name, conv) for node, name, conv in nodes if is_affected(groups, bundle, node, name)]
        times = {
            gone: sum(
                time_ms(narrowed_convolution(groups, node, name, conv, elsewhere | gone))
                for node, name, conv in affected
            )
            for gone in options
        }
        least = min(times.values())
        best = min((gone for gone in options if times[gone] <= least * (1 + _EQUAL)), key=len)
        going[index] = best
        shown = tuple({multiple: times[gone] for gone, multiple in options.items()}.items())
        decided.append(rounded(groups, bundle, removable, best, options[best], shown))
    return frozenset().union(*going.values()), tuple(decided)

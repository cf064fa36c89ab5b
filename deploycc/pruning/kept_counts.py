"""How many kernels each layer keeps: as few as can be, a multiple, or what computes fastest here."""

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

REFERENCE = 16  # divides well into vectors of 4, 8 and 16 numbers: kept wherever nothing is clearly faster
MULTIPLES = (REFERENCE, 32, 8, 1)
_WORTH = 0.95  # another count must take 5 % less time in the median, and its slowest round be faster than any other


@dataclass(frozen=True)
class Rounded:
    """What was decided for layers that keep equally many kernels.

    Attributes:
        layers: their names.
        before, least, kept: kernels of the first layer: all, those that are not useless, and those that stay.
        multiple: what the count was rounded to.
        times_ms: multiple and predicted time of the convolutions that make or read these channels; empty where no
            time was asked for.
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
    able: Iterable[int],
    layers: Iterable[str],
    multiple: int,
    spare: Iterable[int] = (),
) -> tuple[frozenset[int], tuple[Rounded, ...]]:
    """Round every layer up to one multiple, or down where a few spare channels make up for it.

    Args:
        groups: of the graph.
        choice: the useless kernels, those of spare channels among them.
        able: groups that can go.
        layers: those that may lose kernels.
        multiple: of kernels.
        spare: groups that can go beside them.

    Returns:
        The groups that go, and what was decided where something could go.
    """
    able, spare = frozenset(able), frozenset(spare)
    going: frozenset[int] = frozenset()
    decided = []
    for bundle in bundles(groups, layers):
        if able & bundle.groups:
            gone = round_down(groups, bundle, able, spare, choice, multiple)
            going |= gone
            decided.append(_rounded(groups, bundle, able, gone, multiple))
    return going, tuple(decided)


def fastest_multiple(
    graph: gs.Graph,
    groups: ChannelGroups,
    choice: Choice,
    able: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    say: Say = quiet,
) -> tuple[frozenset[int], tuple[Rounded, ...]]:
    """Choose for each layer the multiple with the least measured time of the convolutions that its kernels touch.

    Layers are decided in graph order, each after those in front of it; the ones behind still count with what they
    keep at least, rounded up to 16. That is also what a layer keeps unless another multiple is clearly faster: the
    least of four noisy times is the luckiest, and an odd count costs its neighbours time that is not measured here.

    Args:
        graph: as analysed, nothing removed.
        groups: of the graph.
        choice: the useless kernels.
        able: groups that can go.
        layers: those that may lose kernels.
        costs: measures what it does not know.
        say: told how many layers are timed.
    """
    able = frozenset(able)
    all_bundles = bundles(groups, layers)
    going = {index: round_up(groups, bundle, able, choice, REFERENCE) for index, bundle in enumerate(all_bundles)}
    nodes = [(node, name, found) for node, name in layer_names(graph.nodes) if (found := convolution_of(node))]
    decided = []
    for index, bundle in enumerate(all_bundles):
        say("timing kept kernels", index, len(all_bundles))
        if not able & bundle.groups:
            continue
        options: dict[frozenset[int], int] = {}
        for multiple in MULTIPLES:
            options.setdefault(round_up(groups, bundle, able, choice, multiple), multiple)
        others = frozenset().union(*(gone for other, gone in going.items() if other != index))
        touched = [(node, name, found) for node, name, found in nodes if _touches(groups, bundle, node, name)]
        asked = {
            gone: [_narrowed(groups, node, name, found, others | gone) for node, name, found in touched]
            for gone in options
        }
        costs.measure(each for convolutions in asked.values() for each in convolutions)
        times = {gone: _Times.of(convolutions, costs) for gone, convolutions in asked.items()}
        reference = times[going[index]]
        clear = [gone for gone in options if times[gone].clearly_below(reference)]
        best = min(clear, key=lambda gone: times[gone].median, default=going[index])
        going[index] = best
        measured = tuple((multiple, times[gone].median) for gone, multiple in options.items())
        decided.append(_rounded(groups, bundle, able, best, options[best], measured))
    return frozenset().union(*going.values()), tuple(decided)


def fastest_counts(
    graph: gs.Graph,
    groups: ChannelGroups,
    choice: Choice,
    able: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    spare: Iterable[int] = (),
    say: Say = quiet,
) -> tuple[frozenset[int], tuple[Rounded, ...], dict[str, float]]:
    """Time the whole network: with what `fastest_multiple` chooses for each layer, and with one multiple for all.

    Args:
        graph: as analysed, nothing removed.
        groups: of the graph.
        choice: the useless kernels, those of spare channels among them.
        able: groups that can go.
        layers: those that may lose kernels.
        costs: measures what it does not know.
        spare: groups that can go beside them where the network is faster for it: a few for each layer.
        say: told how many layers and networks are timed.

    Returns:
        The groups that go, what was decided for each layer, and the candidates' times relative to multiples of 16
        (medians of `deploycc.pruning.whole_network.relative_times`): ``each``, ``down`` or the multiple.
    """
    able, layers, reference = frozenset(able), list(layers), str(REFERENCE)
    decided = {str(multiple): fixed_multiple(groups, choice, able, layers, multiple) for multiple in MULTIPLES}
    decided["each"] = fastest_multiple(graph, groups, choice, able, layers, costs, say)
    decided["down"] = fixed_multiple(groups, choice, able, layers, REFERENCE, spare)
    first: dict[frozenset[int], str] = {}
    for key, (going, _) in decided.items():
        first.setdefault(going, key)
    candidates = {key: going for going, key in first.items()}
    if len(candidates) == 1:
        return *decided[reference], {}
    ratios = relative_times(graph, groups, candidates, reference, costs.machine.threads, say)
    medians = {key: float(np.median(of)) for key, of in ratios.items()}
    return *decided[fastest(ratios, reference)], medians


@dataclass(frozen=True)
class _Times:
    """Of several convolutions together, milliseconds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, convolutions: Iterable[Convolution], costs: Costs) -> _Times:
        samples = [costs.samples_ms(each) for each in convolutions]
        least, median, most = (float(sum(map(pick, samples))) for pick in (min, np.median, max))
        return cls(least, median, most)

    def clearly_below(self, other: _Times) -> bool:
        return self.median <= _WORTH * other.median and self.most < other.least


def _rounded(
    groups: ChannelGroups,
    bundle: Bundle,
    able: frozenset[int],
    gone: frozenset[int],
    multiple: int,
    times_ms: tuple[tuple[int, float], ...] = (),
) -> Rounded:
    layer = bundle.layers[0]
    least, left = kept(groups, layer, able & bundle.groups), kept(groups, layer, gone)
    return Rounded(bundle.layers, len(groups.layers[layer]), least, left, multiple, times_ms)


def _touches(groups: ChannelGroups, bundle: Bundle, node: gs.Node, name: str) -> bool:
    """Whether a convolution makes or reads channels of a bundle."""
    source = groups.tensors.get(node.inputs[0].name)
    read = () if source is None else source.groups.tolist()
    return name in bundle.layers or not bundle.groups.isdisjoint(read)


def _narrowed(
    groups: ChannelGroups, node: gs.Node, name: str, convolution: Convolution, gone: frozenset[int]
) -> Convolution:
    source = groups.tensors.get(node.inputs[0].name)
    inputs = convolution.inputs
    if source is not None:
        inputs = sum(group not in gone for group in source.groups.tolist())
    return convolution.narrowed(inputs, kept(groups, name, gone))

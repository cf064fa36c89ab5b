"""Select useless kernels, and decide how many of them to remove.

Three criteria select useless kernels: low utilisation, small weights, or a list. Whether a channel is removable depends
on its use in the network (`deploycc.passes.prune_channels.choose`). Some removable ones are kept here: the most used
one if a layer would be left empty, and as many as are needed to reach a number of kernels that computes fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import InputError
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.edit import constant_values

Array = NDArray[np.float64]
Kernels = dict[str, tuple[int, ...]]
_SPARE_USE = 1.5  # kernels used less than this multiple of the threshold are hardly more useful
_SPARE_SHARE = 1 / 16  # of a layer (and a quarter of the multiple): removing more could cost accuracy


@dataclass(frozen=True, eq=False)
class Choice:
    """Useless kernels.

    Attributes:
        kernels: by layer.
        use: [kernels] by layer, larger for more important kernels.
        why: the criterion in words.
        spare: kernels that are hardly more useful, by layer; they may also be removed if the remaining count then
            computes faster.
    """

    kernels: Mapping[str, tuple[int, ...]]
    use: Mapping[str, Array]
    why: str
    spare: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def with_spare(self) -> Choice:
        """Return the choice with the spare kernels among the useless ones."""
        both = {name: tuple(sorted({*self.kernels.get(name, ()), *more})) for name, more in self.spare.items()}
        return Choice({**self.kernels, **both}, self.use, self.why)


@dataclass(frozen=True)
class Bundle:
    """Layers that produce the same channels, so that they keep equally many kernels.

    Attributes:
        layers: names, the layer with the most kernels first, the others in graph order.
        groups: all their channel groups.
    """

    layers: tuple[str, ...]
    groups: frozenset[int]


def by_utilisation(use: Mapping[str, Array], below: float, layers: Iterable[str]) -> Choice:
    """Select kernels whose utilisation is below a threshold.

    Args:
        use: mean utilisation of each kernel, 0..1, by layer; a layer without an entry loses nothing.
        below: threshold, exclusive.
        layers: names of layers that may lose kernels.

    Raises:
        InputError: ``prune-utilisation``: a utilisation is NaN or outside 0..1.
    """
    for name, values in use.items():
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1 + 1e-9)))
        if wrong.size:
            raise InputError(
                "prune-utilisation",
                f"the utilisation of kernel {wrong[0]} of layer {name} is {values[wrong[0]]:g}, not between 0 and 1",
            )
    allowed = set(layers)
    allowed_use = {name: values for name, values in use.items() if name in allowed}
    useless = {name: _indices(values < below) for name, values in allowed_use.items()}
    spare = {name: _indices((values >= below) & (values < _SPARE_USE * below)) for name, values in allowed_use.items()}
    return Choice(_filled(useless), dict(use), f"used in less than {below:.4g} of all cases", _filled(spare))


def by_norm(graph: gs.Graph, groups: ChannelGroups, share: float, layers: Iterable[str]) -> Choice:
    """Select a share of the channels with the smallest weights (Li et al., Pruning Filters for ConvNets, 2017).

    A channel's norm is the sum of the L1 norms of all filters that produce it, each divided by its layer's mean, so
    that layers whose outputs are added have equal weight. Pinned channels are not counted.

    Args:
        graph: as analysed.
        groups: channel groups of the graph.
        share: of the channels that each layer could lose, 0..1, rounded down.
        layers: names of layers that may lose kernels.
    """
    use = filter_norms(graph, groups)
    useless, spare = dict[str, list[int]](), dict[str, list[int]]()
    for bundle in bundles(groups, layers):
        free = sorted(group for group in bundle.groups if group not in groups.pins)
        norms = {group: sum(use[name][kernel] for name, kernel in groups.kernels(group)) for group in free}
        ordered, count = sorted(free, key=lambda group: norms[group]), math.floor(share * len(free) + 1e-9)
        more = math.floor(_SPARE_SHARE * len(free)) if count else 0
        for rank, group in enumerate(ordered[: count + more]):
            for name, kernel in groups.kernels(group):
                (useless if rank < count else spare).setdefault(name, []).append(kernel)
    why = f"among the {share:.4g} of the layer's filters with the smallest L1 norm"
    return Choice(_sorted(useless), use, why, _sorted(spare))


def by_mask(
    graph: gs.Graph, groups: ChannelGroups, kernels: Mapping[str, tuple[int, ...]], layers: Iterable[str]
) -> Choice:
    """Select listed kernels of ``layers``; those with the largest filters are kept first."""
    allowed = set(layers)
    listed = {name: tuple(sorted(set(indices))) for name, indices in kernels.items() if name in allowed}
    return Choice(_filled(listed), filter_norms(graph, groups), "listed in the mask file")


def filter_norms(graph: gs.Graph, groups: ChannelGroups) -> dict[str, Array]:
    """Return the L1 norm of each filter, divided by the mean of its layer, [kernels] by layer."""
    norms = {}
    for node, name in layer_names(graph.nodes):
        weight = constant_values(node.inputs[1]) if name in groups.layers else None
        if weight is None:
            continue
        kernels = len(groups.layers[name])
        if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
            rows = weight.reshape(kernels, -1)
        elif node.op == "ConvTranspose":  # [inputs, outputs per group, ...], groups stacked along the inputs
            count = int(node.attrs.get("group", 1))
            stacked = weight.reshape(count, weight.shape[0] // count, weight.shape[1], -1)
            rows = np.moveaxis(stacked, 2, 1).reshape(kernels, -1)
        else:
            rows = weight.T
        sums = np.abs(rows).sum(1, dtype=np.float64)
        norms[name] = sums / (sums.mean() or 1.0)
    return norms


def bundles(groups: ChannelGroups, layers: Iterable[str]) -> list[Bundle]:
    """Bundle layers that share channels; bundles without any of ``layers`` are omitted."""
    parent = {name: name for name in groups.layers}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[int, str] = {}
    for name, layer_groups in groups.layers.items():
        for group in np.unique(layer_groups).tolist():
            earlier, later = root(first.setdefault(group, name)), root(name)
            if earlier != later:
                parent[later] = earlier
    allowed, members = set(layers), dict[str, list[str]]()
    for name in groups.layers:
        members.setdefault(root(name), []).append(name)
    result = []
    for names in members.values():
        if allowed & set(names):
            largest = max(names, key=lambda name: len(groups.layers[name]))  # the first of equals
            ordered = (largest, *(name for name in names if name != largest))
            bundle_groups = frozenset(group for name in names for group in groups.layers[name].tolist())
            result.append(Bundle(ordered, bundle_groups))
    return result


def kept(groups: ChannelGroups, layer: str, gone: Iterable[int]) -> int:
    """Return the number of kernels that a layer keeps if the groups ``gone`` are removed."""
    return int(np.count_nonzero(~np.isin(groups.layers[layer], list(gone))))


def round_up(
    groups: ChannelGroups, bundle: Bundle, gone: Iterable[int], choice: Choice, multiple: int
) -> frozenset[int]:
    """Keep the most used removable channels until a bundle's number of kernels is a multiple.

    Args:
        groups: channel groups of the graph.
        bundle: its largest layer's number of kernels is rounded up, at most to all that it has.
        gone: removable groups; those of other bundles are ignored.
        choice: gives the use of kernels.
        multiple: of kernels; 1 only keeps one channel in every layer.

    Returns:
        The groups of the bundle to remove.
    """
    going = set(gone) & bundle.groups
    use = {group: group_use(groups, group, choice) for group in going}
    by_use = sorted(going, key=lambda group: (-use[group], group))
    largest = bundle.layers[0]
    left = kept(groups, largest, going)
    target = min(len(groups.layers[largest]), multiple * max(1, math.ceil(left / multiple)))
    for group in by_use:
        too_small = [name for name in bundle.layers if not kept(groups, name, going)]
        if kept(groups, largest, going) < target:
            too_small.append(largest)
        if not too_small:
            break
        if any(group in groups.layers[name] for name in too_small):
            going.discard(group)
    return frozenset(going)


def round_down(
    groups: ChannelGroups, bundle: Bundle, gone: Iterable[int], spare: Iterable[int], choice: Choice, multiple: int
) -> frozenset[int]:
    """Round a bundle's kernels down to a multiple if removing a few spare channels suffices, else up.

    Args:
        groups: channel groups of the graph.
        bundle: its largest layer's number of kernels is rounded, at most to all that it has.
        gone: removable groups; those of other bundles are ignored.
        spare: groups that may be removed in addition, the least used first: at most a quarter of the multiple, and a
            16th of the largest layer.
        choice: gives the use of kernels, including those of spare groups.
        multiple: of kernels.

    Returns:
        The groups of the bundle to remove.
    """
    going, largest = set(gone) & bundle.groups, bundle.layers[0]
    left = kept(groups, largest, going)
    over = left % multiple if left > multiple else 0
    available = set(groups.layers[largest].tolist()) & set(spare) - going
    if over <= min(multiple // 4, _SPARE_SHARE * len(groups.layers[largest]), len(available)):
        going |= set(sorted(available, key=lambda group: (group_use(groups, group, choice), group))[:over])
    return round_up(groups, bundle, going, choice, multiple)


def group_use(groups: ChannelGroups, group: int, choice: Choice) -> float:
    """Return the highest use of any useless kernel of a group."""
    uses = [
        float(choice.use[name][kernel])
        for name, kernel in groups.kernels(group)
        if name in choice.use and kernel in choice.kernels.get(name, ())
    ]
    return max(uses, default=0.0)


def kernels_of(groups: ChannelGroups, choice: Choice, gone: Iterable[int]) -> Kernels:
    """Return the useless kernels that belong to these groups."""
    is_gone = np.zeros(groups.count, np.bool_)
    is_gone[list(gone)] = True
    removed = {
        name: tuple(kernel for kernel in kernels if is_gone[groups.layers[name][kernel]])
        for name, kernels in choice.kernels.items()
    }
    return _filled(removed)


def _indices(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _sorted(kernels: Mapping[str, list[int]]) -> Kernels:
    return {name: tuple(sorted(indices)) for name, indices in kernels.items()}


def _filled(kernels: Mapping[str, tuple[int, ...]]) -> Kernels:
    return {name: indices for name, indices in kernels.items() if indices}

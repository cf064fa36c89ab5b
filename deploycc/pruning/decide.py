"""Which kernels are useless, and how many of them are worth removing.

Three criteria name useless kernels: how little they are used, how small their weights are, or a list. Whether a channel
can go is decided by what the network does with it (`deploycc.passes.prune_channels.choose`). Of those that can, some
are kept here: the most used where a layer would be left empty, and as many as a layer needs to have a number of kernels
that computes fast.
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
_NEXT_USE = 1.5  # of the threshold: what is used less than that is hardly more useful
_NEXT_SHARE = 1 / 16  # of a layer, and a quarter of the multiple: more than that would be missed


@dataclass(frozen=True, eq=False)
class Choice:
    """Useless kernels.

    Attributes:
        kernels: by layer.
        use: by layer one number a kernel, [kernels], larger for kernels that are missed more.
        why: the criterion in words.
        next: kernels that are hardly more useful, by layer: they may go too where that leaves a count that computes
            faster.
    """

    kernels: Mapping[str, tuple[int, ...]]
    use: Mapping[str, Array]
    why: str
    next: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def with_next(self) -> Choice:
        """The same with those hardly more useful kernels among the useless ones."""
        both = {name: tuple(sorted({*self.kernels.get(name, ()), *more})) for name, more in self.next.items()}
        return Choice({**self.kernels, **both}, self.use, self.why)


@dataclass(frozen=True)
class Bundle:
    """Layers whose kernels make the same channels, so that they keep equally many.

    Attributes:
        layers: by name, in graph order; the first has the most kernels.
        groups: all their groups.
    """

    layers: tuple[str, ...]
    groups: frozenset[int]


def by_utilisation(use: Mapping[str, Array], below: float, layers: Iterable[str]) -> Choice:
    """Kernels that are used less than a threshold.

    Args:
        use: mean utilisation of each kernel, 0..1, by layer; a layer that is missing here loses nothing.
        below: threshold, exclusive.
        layers: those that may lose kernels.

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
    found = {name: _indices(values < below) for name, values in use.items() if name in allowed}
    hardly = {name: (values >= below) & (values < _NEXT_USE * below) for name, values in use.items() if name in allowed}
    following = {name: _indices(each) for name, each in hardly.items()}
    return Choice(_filled(found), dict(use), f"used in less than {below:.4g} of all cases", _filled(following))


def by_norm(graph: gs.Graph, groups: ChannelGroups, share: float, layers: Iterable[str]) -> Choice:
    """The share of channels with the smallest weights (Li et al., Pruning Filters for Efficient ConvNets, 2017).

    A channel's norm is the sum of the L1 norms of all filters that make it, each divided by its layer's mean, so that
    layers that add into one sum count alike. Channels that must stay anyway take no part.

    Args:
        graph: as analysed.
        groups: of the graph.
        share: of the channels that each layer could lose, 0..1, rounded down.
        layers: those that may lose kernels.
    """
    use = filter_norms(graph, groups)
    found, following = dict[str, list[int]](), dict[str, list[int]]()
    for bundle in bundles(groups, layers):
        free = sorted(group for group in bundle.groups if group not in groups.pins)
        norms = {group: sum(use[name][kernel] for name, kernel in groups.kernels(group)) for group in free}
        ordered, count = sorted(free, key=lambda group: norms[group]), math.floor(share * len(free) + 1e-9)
        more = math.floor(_NEXT_SHARE * len(free)) if count else 0
        for place, group in enumerate(ordered[: count + more]):
            for name, kernel in groups.kernels(group):
                (found if place < count else following).setdefault(name, []).append(kernel)
    kernels, hardly = ({name: tuple(sorted(each)) for name, each in both.items()} for both in (found, following))
    return Choice(kernels, use, f"among the {share:.4g} of the layer's filters with the smallest L1 norm", hardly)


def by_mask(
    graph: gs.Graph, groups: ChannelGroups, kernels: Mapping[str, tuple[int, ...]], layers: Iterable[str]
) -> Choice:
    """A list, as far as its layers are among ``layers``; the kernels with the largest filters are kept first."""
    allowed = set(layers)
    wanted = {name: tuple(sorted(set(indices))) for name, indices in kernels.items() if name in allowed}
    return Choice(_filled(wanted), filter_norms(graph, groups), "listed in the mask file")


def filter_norms(graph: gs.Graph, groups: ChannelGroups) -> dict[str, Array]:
    """L1 norm of each filter, divided by the mean of its layer, [kernels] by layer."""
    found = {}
    for node, name in layer_names(graph.nodes):
        weight = constant_values(node.inputs[1]) if name in groups.layers else None
        if weight is None:
            continue
        kernels = len(groups.layers[name])
        if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
            rows = weight.reshape(kernels, -1)
        elif node.op == "ConvTranspose":  # [inputs, outputs a group, ...], the groups stacked along the inputs
            count = int(node.attrs.get("group", 1))
            stacked = weight.reshape(count, weight.shape[0] // count, weight.shape[1], -1)
            rows = np.moveaxis(stacked, 2, 1).reshape(kernels, -1)
        else:
            rows = weight.T
        norms = np.abs(rows).sum(1, dtype=np.float64)
        found[name] = norms / (norms.mean() or 1.0)
    return found


def bundles(groups: ChannelGroups, layers: Iterable[str]) -> list[Bundle]:
    """Join layers that share channels; bundles without any of ``layers`` are left out."""
    parent = {name: name for name in groups.layers}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[int, str] = {}
    for name, own in groups.layers.items():
        for group in np.unique(own).tolist():
            one, other = root(first.setdefault(group, name)), root(name)
            if one != other:
                parent[other] = one
    allowed, members = set(layers), dict[str, list[str]]()
    for name in groups.layers:
        members.setdefault(root(name), []).append(name)
    found = []
    for names in members.values():
        if allowed & set(names):
            largest = max(names, key=lambda name: len(groups.layers[name]))  # the first of them
            ordered = (largest, *(name for name in names if name != largest))
            own_groups = frozenset(group for name in names for group in groups.layers[name].tolist())
            found.append(Bundle(ordered, own_groups))
    return found


def kept(groups: ChannelGroups, layer: str, gone: Iterable[int]) -> int:
    """Number of kernels that a layer keeps."""
    return int(np.count_nonzero(~np.isin(groups.layers[layer], list(gone))))


def round_up(
    groups: ChannelGroups, bundle: Bundle, gone: Iterable[int], choice: Choice, multiple: int
) -> frozenset[int]:
    """Keep the most used channels that could go, until a bundle's kernels are a multiple.

    Args:
        groups: of the graph.
        bundle: the largest layer's number of kernels is rounded, up to all that it has.
        gone: groups that can go; those of other bundles do not matter.
        choice: says how much a kernel is used.
        multiple: 1 to keep only what no layer can be without: one channel.

    Returns:
        The groups of the bundle that still go.
    """
    going = set(gone) & bundle.groups
    use = {group: group_use(groups, group, choice) for group in going}
    back = sorted(going, key=lambda group: (-use[group], group))
    largest = bundle.layers[0]
    left = kept(groups, largest, going)
    target = min(len(groups.layers[largest]), multiple * max(1, math.ceil(left / multiple)))
    for group in back:
        needy = [name for name in bundle.layers if not kept(groups, name, going)]
        if kept(groups, largest, going) < target:
            needy.append(largest)
        if not needy:
            break
        if any(group in groups.layers[name] for name in needy):
            going.discard(group)
    return frozenset(going)


def round_down(
    groups: ChannelGroups, bundle: Bundle, gone: Iterable[int], spare: Iterable[int], choice: Choice, multiple: int
) -> frozenset[int]:
    """Round a bundle's kernels down to a multiple where a few spare channels make up for it, else up.

    Args:
        groups: of the graph.
        bundle: the largest layer's number of kernels is rounded, up to all that it has.
        gone: groups that can go; those of other bundles do not matter.
        spare: groups that can go beside them, the least used first: at most a quarter of the multiple, and a 16th of
            the largest layer.
        choice: says how much a kernel is used, those of spare groups among them.
        multiple: of kernels.

    Returns:
        The groups of the bundle that go.
    """
    going, largest = set(gone) & bundle.groups, bundle.layers[0]
    left = kept(groups, largest, going)
    over = left % multiple if left > multiple else 0
    others = set(groups.layers[largest].tolist()) & set(spare) - going
    if over <= min(multiple // 4, _NEXT_SHARE * len(groups.layers[largest]), len(others)):
        going |= set(sorted(others, key=lambda group: (group_use(groups, group, choice), group))[:over])
    return round_up(groups, bundle, going, choice, multiple)


def group_use(groups: ChannelGroups, group: int, choice: Choice) -> float:
    """How much the useless kernels of a group are used: the most of any of them."""
    uses = [
        float(choice.use[name][kernel])
        for name, kernel in groups.kernels(group)
        if name in choice.use and kernel in choice.kernels.get(name, ())
    ]
    return max(uses, default=0.0)


def kernels_of(groups: ChannelGroups, choice: Choice, gone: Iterable[int]) -> Kernels:
    """The useless kernels that lie in these groups."""
    going = np.zeros(groups.count, np.bool_)
    going[list(gone)] = True
    found = {
        name: tuple(kernel for kernel in kernels if going[groups.layers[name][kernel]])
        for name, kernels in choice.kernels.items()
    }
    return _filled(found)


def _indices(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _filled(kernels: Mapping[str, tuple[int, ...]]) -> Kernels:
    return {name: indices for name, indices in kernels.items() if indices}

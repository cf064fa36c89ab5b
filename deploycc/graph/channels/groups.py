"""Channel groups: the result of the channel analysis.

A *channel group* is a set of places that hold the same channel, each place being one index of one axis of one tensor.
A group is removed from all of its places or from none. The groups of a network are numbered from 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labelled:
    """The groups along one axis.

    Attributes:
        axis: of the tensor; its other axes hold no channels.
        groups: [shape[axis]] group of each index.
    """

    axis: int
    groups: Ids


@dataclass(frozen=True, eq=False)
class Operand:
    """One axis of a constant that a node reads, and the groups along it.

    Attributes:
        node: name of the node's first output, which exists and is unique, unlike the node's name.
        index: position among the node's operands.
        axis: of the constant.
        groups: [shape[axis]].
    """

    node: str
    index: int
    axis: int
    groups: Ids


@dataclass(frozen=True, eq=False)
class Read:
    """An operand whose channels a node sums over: the channels end here.

    Attributes:
        node: name of the node's first output.
        index: position among the node's operands.
        axis: of the operand.
        groups: [shape[axis]].
    """

    node: str
    index: int
    axis: int
    groups: Ids


@dataclass(frozen=True)
class Place:
    """Indices of one axis of one tensor."""

    tensor: str
    axis: int
    indices: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.tensor} axis {self.axis} [{', '.join(map(str, self.indices))}]"


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """All groups of one graph.

    Attributes:
        count: number of groups.
        layers: for each layer with kernels (Conv, ConvTranspose, Gemm, MatMul), by name, the group of each kernel.
        outputs: name of the tensor that each layer writes.
        tensors: for each variable that carries channels, by name, the groups along its channel axis.
        operands: all axes of constants that shrink with the groups.
        reads: all places where channels end.
        pins: the groups that must stay, each with the first reason found and the node that gives it.
        notes: why groups stay that neither an input nor an output pins, one per node and reason.
    """

    count: int
    layers: Mapping[str, Ids]
    outputs: Mapping[str, str]
    tensors: Mapping[str, Labelled]
    operands: tuple[Operand, ...]
    reads: tuple[Read, ...]
    pins: Mapping[int, Note]
    notes: tuple[Note, ...]

    @cached_property
    def free(self) -> Ids:
        """The groups that are not pinned."""
        return np.array([group for group in range(self.count) if group not in self.pins], np.int64)

    @cached_property
    def _kernels(self) -> list[list[tuple[str, int]]]:
        kernels: list[list[tuple[str, int]]] = [[] for _ in range(self.count)]
        for name, groups in self.layers.items():
            for kernel, group in enumerate(groups.tolist()):
                kernels[group].append((name, kernel))
        return kernels

    def kernels(self, group: int) -> list[tuple[str, int]]:
        """Return the kernels of a group as (layer, index)."""
        return list(self._kernels[group])

    def places(self, group: int) -> list[Place]:
        """Return every place of a group: first in variables, then in constants."""
        axes = [(name, labelled.axis, labelled.groups) for name, labelled in self.tensors.items()]
        axes += [
            (f"operand {operand.index} of {operand.node}", operand.axis, operand.groups) for operand in self.operands
        ]
        hits = ((name, axis, np.flatnonzero(groups == group)) for name, axis, groups in axes)
        return [Place(name, axis, tuple(indices.tolist())) for name, axis, indices in hits if len(indices)]

    def of_kernels(self, kernels: Mapping[str, Iterable[int]]) -> set[int]:
        """Return the groups that hold any of these kernels, given as indices by layer."""
        return {int(self.layers[name][kernel]) for name, indices in kernels.items() for kernel in indices}

    def describe(self, group: int) -> str:
        """Describe a group: its kernels, its places, and the reason if it is pinned."""
        kernels = ", ".join(f"{name}[{kernel}]" for name, kernel in self._kernels[group]) or "no kernel"
        lines = [f"group {group}: {kernels}", *(f"  {place}" for place in self.places(group))]
        if group in self.pins:
            pin = self.pins[group]
            lines.append(f"  stays: {pin.node}: {pin.reason} ({pin.code})")
        return "\n".join(lines)

    def __str__(self) -> str:
        """One line per set of layers that groups join, with the reason below it if they are pinned."""
        kinds = Counter(
            (tuple(dict.fromkeys(name for name, _ in self._kernels[group])), self.pins.get(group))
            for group in range(self.count)
        )
        lines = []
        for (names, pin), count in kinds.items():
            lines.append(f"{count:6d} x {' + '.join(names) or 'no kernel'}")
            if pin is not None:
                lines.append(f"{'':9}stays: {pin.node}: {pin.reason} ({pin.code})")
        return "\n".join(lines)


def node_key(node: gs.Node) -> str:
    """Return the name of the node's first non-empty output, which identifies the node in a graph and its copies."""
    return next((str(tensor.name) for tensor in node.outputs if not tensor.is_empty()), "")


def layer_names(nodes: Iterable[gs.Node]) -> Iterator[tuple[gs.Node, str]]:
    """Yield each node with the name the user knows; `node_key` if its name is empty or not unique."""
    nodes = list(nodes)
    uses = Counter(node.name for node in nodes)
    for node in nodes:
        yield node, str(node.name) if node.name and uses[node.name] == 1 else node_key(node)

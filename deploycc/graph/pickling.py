"""Graphs that travel to other processes: pickle meets them as a flat list, however deep they are.

A graph of graphsurgeon refers to its nodes, they to their tensors, and these back to the nodes: pickle would follow
them one into the other, to a depth that it does not reach. A graph that two objects share is one for both afterwards.
"""

from __future__ import annotations

import copyreg
from dataclasses import dataclass
from typing import Any

import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues, Tensor

_PARTS = (gs.Graph, gs.Node, Tensor, LazyValues)
_LISTS = ("inputs", "outputs")


@dataclass(frozen=True)
class _Reference:
    """A part of the graph: its number in the list."""

    number: int


def _reduced(graph: gs.Graph) -> tuple[Any, ...]:
    return _restored, (_flattened(graph),)


def _flattened(graph: gs.Graph) -> list[tuple[type, dict[str, Any]]]:
    """Return class and attributes of each part that can be reached, the graph first."""
    parts: list[Any] = [graph]
    numbers = {id(graph): 0}

    def flat(value: Any) -> Any:
        if isinstance(value, _PARTS):
            if id(value) not in numbers:
                numbers[id(value)] = len(parts)
                parts.append(value)
            return _Reference(numbers[id(value)])
        if isinstance(value, dict):
            return type(value)((key, flat(each)) for key, each in value.items())
        if isinstance(value, tuple):
            return tuple(map(flat, value))
        if hasattr(value, "append"):  # a list, also graphsurgeon's and protobuf's, which pickle does not take
            return [flat(each) for each in value]
        return value

    states = []
    for part in parts:  # which grows meanwhile
        states.append((type(part), {name: flat(value) for name, value in vars(part).items()}))
    return states


def _restored(states: list[tuple[type, dict[str, Any]]]) -> gs.Graph:
    parts: list[Any] = [object.__new__(kind) for kind, _ in states]

    def deep(value: Any) -> Any:
        if isinstance(value, _Reference):
            return parts[value.number]
        if isinstance(value, dict):
            return type(value)((key, deep(each)) for key, each in value.items())
        if isinstance(value, list | tuple):
            return type(value)(map(deep, value))
        return value

    for part, (kind, state) in zip(parts, states, strict=True):
        for name, value in state.items():
            if name in _LISTS and not issubclass(kind, gs.Graph):
                vars(part)[name] = _linked(part, name, deep(value))
            else:
                vars(part)[name] = deep(value)
    graph: gs.Graph = parts[0]
    return graph


def _linked(part: Any, name: str, members: list[Any]) -> Any:
    """Return graphsurgeon's list of a node's or tensor's neighbours, which know of it already."""
    from onnx_graphsurgeon.util.misc import SynchronizedList

    other = _LISTS[1 - _LISTS.index(name)]
    linked = SynchronizedList(part, field_name=other, initial=[])
    list.extend(linked, members)
    return linked


for _kind in (gs.Graph, gs.Function):  # when this module is loaded: a pickler looks into the registry when it starts
    copyreg.pickle(_kind, _reduced)

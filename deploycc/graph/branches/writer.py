"""Writing conditional branches: pasted parts, zeros, and `If` nodes whose branches hold their own constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

_IR = 10  # ONNX Runtime 1.20, the oldest supported, reads it


class Writer:
    """Adds nodes to a graph or a branch. Every name gets a number, so that it is unique in the network.

    A branch reads tensors of the graphs around it, as ONNX allows, but has constants of its own: a constant that is
    copied into a subgraph under its old name would shadow the outer one.
    """

    def __init__(self, graph: gs.Graph, numbers: count[int] | None = None) -> None:
        """Write into ``graph``; the writers of its branches share ``numbers``."""
        self.graph = graph
        self._numbers = count(1) if numbers is None else numbers
        self._taken = _names(graph) if numbers is None else set[str]()

    def name(self, stem: str) -> str:
        """Return an unused name."""
        while (name := f"{stem}#{next(self._numbers)}") in self._taken:
            pass
        return name

    def variable(self, stem: str, shape: Sequence[int], dtype: type[np.generic] = np.float32) -> gs.Variable:
        """Return a new tensor."""
        return gs.Variable(self.name(stem), np.dtype(dtype), list(shape))

    def constant(self, stem: str, values: NDArray[np.generic]) -> gs.Constant:
        """Return a new constant of this graph."""
        return gs.Constant(self.name(stem), values)

    def node(
        self,
        op: str,
        stem: str,
        inputs: Sequence[gs.Tensor],
        shape: Sequence[int],
        dtype: type[np.generic] = np.float32,
        **attrs: object,
    ) -> gs.Variable:
        """Add a node with a single output of this shape and type; ``stem`` is the start of the new names."""
        result = self.variable(stem, shape, dtype)
        self.graph.nodes.append(gs.Node(op, self.name(stem), attrs, list(inputs), [result]))
        return result

    def paste(self, part: gs.Graph, feeds: Mapping[str, gs.Tensor]) -> tuple[gs.Variable, ...]:
        """Add a copy of a part whose inputs are ``feeds``, by name, and return its outputs."""
        copies: dict[int, gs.Tensor] = {id(tensor): feeds[tensor.name] for tensor in part.inputs}
        for node in part.nodes:
            for tensor in (*node.inputs, *node.outputs):
                if tensor.is_empty() or id(tensor) in copies:
                    continue
                if isinstance(tensor, gs.Constant):
                    copies[id(tensor)] = gs.Constant(self.name(tensor.name), np.asarray(tensor.values))
                else:
                    copies[id(tensor)] = gs.Variable(self.name(tensor.name), tensor.dtype, tensor.shape)
            operands = [gs.Variable.empty() if t.is_empty() else copies[id(t)] for t in node.inputs]
            results = [gs.Variable.empty() if t.is_empty() else copies[id(t)] for t in node.outputs]
            name = self.name(node.name)
            self.graph.nodes.append(gs.Node(node.op, name, dict(node.attrs), operands, results, domain=node.domain))
        return tuple(copies[id(tensor)] for tensor in part.outputs)

    def pick(self, tensor: gs.Tensor, channels: Sequence[int]) -> gs.Tensor:
        """Return channels of [1, C, ...], in any order and with repetition; consecutive ones are the cheapest."""
        first, last = min(channels), max(channels)
        if list(channels) == list(range(first, last + 1)):
            return self.cut(tensor, first, last + 1)
        shape = [tensor.shape[0], len(channels), *tensor.shape[2:]]
        indices = self.constant(f"{tensor.name}_indices", np.array(channels))
        return self.node("Gather", f"{tensor.name}_picked", [tensor, indices], shape, tensor.dtype, axis=1)

    def cut(self, tensor: gs.Tensor, start: int, stop: int) -> gs.Tensor:
        """Return the channels from ``start`` up to ``stop`` of [1, C, ...]; the tensor itself if these are all."""
        shape = list(tensor.shape)
        if (start, stop) == (0, shape[1]):
            return tensor
        shape[1] = stop - start
        if self.graph.opset < 10:
            spans = {"starts": [start], "ends": [stop], "axes": [1]}
            return self.node("Slice", f"{tensor.name}_cut", [tensor], shape, tensor.dtype, **spans)
        named = {"start": start, "stop": stop, "axis": 1}
        limits = [self.constant(f"{tensor.name}_{what}", np.array([value])) for what, value in named.items()]
        return self.node("Slice", f"{tensor.name}_cut", [tensor, *limits], shape, tensor.dtype)

    def element(self, stem: str, tensor: gs.Tensor, place: NDArray[np.int64]) -> gs.Tensor:
        """Return one element of a tensor, as a scalar."""
        if self.graph.opset >= 11:
            where = self.constant(f"{stem}_place", place)
            return self.node("GatherND", stem, [tensor, where], [], tensor.dtype)
        number = np.array(np.ravel_multi_index(place.tolist(), tuple(tensor.shape)))
        count, every = [int(np.prod(tensor.shape))], self.constant(f"{stem}_all", np.array([-1]))
        row = self.node("Reshape", f"{stem}_row", [tensor, every], count, tensor.dtype)
        return self.node("Gather", stem, [row, self.constant(f"{stem}_number", number)], [], tensor.dtype, axis=0)

    def pad(self, tensor: gs.Tensor, channels: int) -> gs.Tensor:
        """Append channels of zeros to [1, C, H, W], up to ``channels``."""
        shape = list(tensor.shape)
        added = [0, 0, 0, 0, 0, channels - shape[1], 0, 0]
        shape[1] = channels
        if not any(added):
            return tensor
        if self.graph.opset < 11:
            return self.node("Pad", f"{tensor.name}_padded", [tensor], shape, pads=added)
        pads = self.constant(f"{tensor.name}_pads", np.array(added))
        return self.node("Pad", f"{tensor.name}_padded", [tensor, pads], shape)

    def spread(self, stem: str, values: NDArray[np.float32]) -> gs.Tensor:
        """Return a constant [1, C, H, W]; uniform maps are stored as one number each, uniform values as one number."""
        for axes in ((1, 2, 3), (2, 3)):
            few = values[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))]
            if (values == few).all():
                shape = self.constant(f"{stem}_shape", np.array(values.shape))
                return self.node("Expand", stem, [self.constant(f"{stem}_value", few), shape], values.shape)
        return self.node("Identity", stem, [self.constant(f"{stem}_value", values)], values.shape)

    def choose(
        self,
        stem: str,
        condition: gs.Tensor,
        shapes: Sequence[Sequence[int]],
        yes: Callable[[Writer], Sequence[gs.Tensor]],
        no: Callable[[Writer], Sequence[gs.Tensor]],
    ) -> tuple[gs.Variable, ...]:
        """Add an `If`.

        Args:
            stem: start of the new names.
            condition: scalar bool of this graph or of one around it.
            shapes: of the outputs of both branches.
            yes: writes the branch that a true condition takes, and returns its outputs.
            no: the same for the other branch.

        Returns:
            The outputs of the `If`.

        Raises:
            ValueError: an output of a branch has another shape.
        """
        branches = {}
        for attribute, write in (("then_branch", yes), ("else_branch", no)):
            # ONNX text reads back a graph's name only where it is a plain word.
            branch = gs.Graph(name=attribute, opset=self.graph.opset, import_domains=self.graph.import_domains)
            writer = Writer(branch, self._numbers)
            writer._taken = self._taken
            for result, shape in zip(write(writer), shapes, strict=True):
                if list(result.shape) != list(shape):
                    raise ValueError(f"a branch of {stem} returns {list(result.shape)}, not {list(shape)}")
                if not any(result is made for node in branch.nodes for made in node.outputs):
                    result = writer.node("Identity", stem, [result], shape)  # a branch cannot return an outer tensor
                branch.outputs.append(result)
            branches[attribute] = branch
        results = tuple(self.variable(stem, shape) for shape in shapes)
        self.graph.nodes.append(gs.Node("If", self.name(stem), branches, [condition], list(results)))
        return results


def _names(graph: gs.Graph) -> set[str]:
    graphs = (graph, *graph.subgraphs(recursive=True))
    return {node.name for part in graphs for node in part.nodes} | {name for part in graphs for name in part.tensors()}


def largest(writer: Writer, stem: str, tensor: gs.Tensor) -> gs.Variable:
    """Write the largest element of a tensor, as a scalar."""
    return writer.node("ReduceMax", stem, [tensor], [], tensor.dtype, keepdims=0)


def above(writer: Writer, stem: str, numbers: gs.Tensor, limit: np.generic, op: str = "Greater") -> gs.Variable:
    """Write which numbers exceed a limit of the same type, as bools; ``op``: ``Greater`` or ``GreaterOrEqual``."""
    constant = writer.constant(f"{stem}_limit", np.array(limit))
    return writer.node(op, stem, [numbers, constant], numbers.shape, np.bool_)


def evaluated(part: gs.Graph) -> NDArray[np.float32]:
    """Return the output of a graph without inputs, computed by ONNX Runtime."""
    from deploycc.cpu_session import open_session

    model = gs.export_onnx(part)
    model.ir_version = _IR
    result: NDArray[np.float32] = open_session(model, 1, {"network": part.name}).run(None, {})[0]
    return result

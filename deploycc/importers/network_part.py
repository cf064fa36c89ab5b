"""Run the part of a graph between some of its tensors, without the rest of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.errors import MeasureError
from deploycc.graph.export import to_onnx

_THREADS = 2

Skipped = Mapping[int, gs.Tensor]
"""Nodes to leave out, by id, with the operand that their readers get instead."""

NOTHING: Skipped = MappingProxyType({})

# Box arithmetic uses none of these: the search for heads ends here.
NETWORK = frozenset(
    [
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "LSTM", "GRU"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LRN"),
    ]
)

_SELECTIONS = frozenset(["Gather", "GatherElements", "GatherND"])


class NetworkPart:
    """The part of a graph from some tensors to ``end``, ready to run."""

    def __init__(
        self,
        graph: gs.Graph,
        starts: Sequence[gs.Variable],
        end: gs.Variable,
        skipped: Skipped = NOTHING,
    ) -> None:
        """Copy the part.

        Args:
            graph: unchanged.
            starts: tensors that separate ``end`` from the rest of the network; constants may bypass them.
            end: what the part computes.
            skipped: nodes that the copy leaves out.

        Raises:
            MeasureError: ONNX Runtime cannot run an operator of the part, or the part holds subgraphs.
        """
        copies: dict[int, gs.Tensor] = {
            id(tensor): gs.Variable(tensor.name, dtype=tensor.dtype, shape=list(tensor.shape)) for tensor in starts
        }
        nodes: list[gs.Node] = []
        stack: list[gs.Tensor] = [end]
        while stack:
            tensor = stack[-1]
            if id(tensor) in copies:
                stack.pop()
                continue
            if isinstance(tensor, gs.Constant):
                copies[id(tensor)] = gs.Constant(tensor.name, tensor._values)
            elif tensor.is_empty() or not tensor.inputs:
                copies[id(tensor)] = gs.Variable(tensor.name, dtype=tensor.dtype, shape=tensor.shape)
            else:
                node = tensor.inputs[0]
                operands = [skipped[id(node)]] if id(node) in skipped else node.inputs
                missing = [operand for operand in operands if id(operand) not in copies]
                if missing:
                    stack.extend(missing)
                    continue
                if id(node) in skipped:
                    copies[id(tensor)] = copies[id(operands[0])]
                    continue
                if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
                    raise MeasureError("onnxruntime-refuses", f"{node.name} ({node.op}) holds subgraphs")
                results = [gs.Variable(output.name, dtype=output.dtype) for output in node.outputs]
                copies.update((id(old), new) for old, new in zip(node.outputs, results, strict=True))
                inputs = [copies[id(operand)] for operand in node.inputs]
                nodes.append(gs.Node(node.op, node.name, dict(node.attrs), inputs, results, domain=node.domain))
        leave = copies[id(end)]
        if any(leave is copies[id(tensor)] for tensor in starts):  # a part without nodes
            leave = gs.Variable("part_end", dtype=end.dtype)
            nodes.append(gs.Node("Identity", "part_end", {}, [copies[id(end)]], [leave]))
        part = gs.Graph(
            nodes,
            [copies[id(tensor)] for tensor in starts],
            [leave],
            name=f"part of {graph.name}",
            opset=graph.opset,
            import_domains=graph.import_domains,
            functions=graph.functions,
            ir_version=graph.ir_version,
        )
        self._shapes = {tensor.name: tuple(tensor.shape) for tensor in starts}
        self._session = session(part)

    def __call__(self, *values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the part on one value per start, reshaped as needed.

        Raises:
            RuntimeError: ONNX Runtime cannot run it on these values.
        """
        feeds = {name: value.reshape(shape) for (name, shape), value in zip(self._shapes.items(), values, strict=True)}
        try:
            result: NDArray[np.float32] = self._session.run(None, feeds)[0]
        except Exception as reason:  # ONNX Runtime's exceptions share no class
            raise RuntimeError(str(reason).splitlines()[0]) from None
        return result


def session(graph: gs.Graph) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on the CPU."""
    return open_session(to_onnx(graph), _THREADS, {"network": graph.name})


def elements(tensor: gs.Tensor) -> int:
    """Return the number of elements, or 0 if the shape is not static."""
    shape = tensor.shape
    return math.prod(shape) if shape and all(isinstance(d, int) for d in shape) else 0


def after_network(end: gs.Tensor, skipped: Skipped = NOTHING) -> tuple[list[gs.Node], list[gs.Variable]]:
    """Walk back from ``end`` to the network's layers.

    Returns:
        The nodes in between, the nearest first, and what they read from the network: outputs of its layers, and graph
        inputs.
    """
    nodes: list[gs.Node] = []
    border: list[gs.Variable] = []
    seen: set[int] = set()
    queue: list[gs.Tensor] = [end]
    for tensor in queue:  # grows while it is walked
        if id(tensor) in seen or not isinstance(tensor, gs.Variable) or tensor.is_empty():
            continue
        seen.add(id(tensor))
        if not tensor.inputs or tensor.inputs[0].op in NETWORK:
            border.append(tensor)
            continue
        node = tensor.inputs[0]
        if id(node) not in seen:
            seen.add(id(node))
            nodes.append(node)
            queue.extend([skipped[id(node)]] if id(node) in skipped else node.inputs)
    return nodes, border


def selects_rows(node: gs.Node) -> bool:
    """Return whether the node picks rows by computed indices: its output differs from its data in one axis at most."""
    if node.op not in _SELECTIONS or isinstance(node.inputs[1], gs.Constant) or not elements(node.outputs[0]):
        return False
    data, result = tuple(node.inputs[0].shape), tuple(node.outputs[0].shape)
    if len(data) != len(result):
        return False
    return bool(sum(before != after for before, after in zip(data, result, strict=True)) <= 1)


def separators(end: gs.Variable, skipped: Skipped = NOTHING) -> Iterator[gs.Variable]:
    """Yield float tensors that alone cut ``end`` off from the network, the nearest first; ``end`` is the first.

    Constants may bypass the cut.
    """
    nodes, border = after_network(end, skipped)
    between = [tensor for node in nodes for tensor in node.inputs if isinstance(tensor, gs.Variable)]
    for tensor in {id(t): t for t in (end, *between, *border)}.values():
        if elements(tensor) and tensor.dtype == np.float32 and separates(tensor, end, skipped):
            yield tensor


def separates(cut: gs.Variable, end: gs.Variable, skipped: Skipped = NOTHING) -> bool:
    """Return whether every path from the network's layers to ``end`` passes through ``cut``."""
    seen: set[int] = {id(cut)}
    stack: list[gs.Tensor] = [end]
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen or isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        seen.add(id(tensor))
        if not tensor.inputs or tensor.inputs[0].op in NETWORK:
            return False
        node = tensor.inputs[0]
        stack.extend([skipped[id(node)]] if id(node) in skipped else node.inputs)
    return True

"""Responses inside a network, and the one that a pruned layer has to match."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.errors import MeasureError
from deploycc.graph.affine import affine_chain
from deploycc.graph.channels.groups import layer_names
from deploycc.graph.edit import static_shape
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.search import Gate

_THREADS = 2

Tensors = Mapping[str, NDArray[np.float32]]


class Responses:
    """A network in ONNX Runtime that returns intermediate tensors.

    Attributes:
        inputs: names of the tensors to feed.
    """

    def __init__(self, network: str, graph: gs.Graph, wanted: Iterable[str], start: Collection[str] = ()) -> None:
        """Load the part of a network that computes the wanted tensors.

        Args:
            network: its name, for messages.
            graph: not changed.
            wanted: names of the tensors to return.
            start: names of tensors that are already known and not computed again.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        part = graph.copy()
        tensors = part.tensors()
        self._wanted = tuple(dict.fromkeys(wanted))
        self.inputs = tuple(sorted(frontier(part, self._wanted, start)))
        for name in self.inputs:
            tensors[name].inputs.clear()
        self._computed = [name for name in self._wanted if name not in self.inputs]
        part.inputs = [tensors[name] for name in self.inputs]
        part.outputs = [tensors[name] for name in self._computed]
        part.cleanup()
        self._session = _session(network, part) if self._computed else None

    def run(self, feed: Tensors, picture: int) -> dict[str, NDArray[np.float32]]:
        """Return the wanted tensors by name.

        Args:
            feed: values of `inputs`.
            picture: number of the picture, for messages.

        Raises:
            MeasureError: ``response-not-finite``.
        """
        values = self._session.run(self._computed, dict(feed)) if self._session is not None else []
        for name, value in zip(self._computed, values, strict=True):
            if not np.isfinite(value).all():
                raise MeasureError(
                    "response-not-finite",
                    f"the tensor {name} has NaN or infinite values",
                    context={"picture": f"number {picture + 1}", "tensor": name},
                    hint="check the model's mean and scale, and its weights",
                )
        computed = dict(zip(self._computed, values, strict=True))
        return {name: computed[name] if name in computed else feed[name] for name in self._wanted}


def frontier(graph: gs.Graph, wanted: Iterable[str], start: Collection[str]) -> set[str]:
    """Return the tensors of ``start`` and the graph's inputs from which the wanted ones are computed."""
    tensors, inputs = graph.tensors(), {tensor.name for tensor in graph.inputs}
    sources: set[str] = set()
    seen: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in start or name in inputs:
            sources.add(name)
        else:
            read = [tensor for node in tensors[name].inputs for tensor in node.inputs]
            queue += [tensor.name for tensor in read if isinstance(tensor, gs.Variable) and not tensor.is_empty()]
    return sources


def _session(network: str, graph: gs.Graph) -> ort.InferenceSession:
    # Two networks share the memory.
    return open_session(to_onnx(graph), _THREADS, {"network": network}, keep_memory=False)


@dataclass(frozen=True, eq=False)
class Target:
    """The response of the original network that a layer of the pruned one has to match.

    Attributes:
        response: tensor [1, kernels, height, width].
        vector: tensor of the gate's decisions, if the response is not yet multiplied by them.
        kept: kernels that the pruned layer still has.
    """

    response: str
    vector: str | None
    kept: NDArray[np.intp]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that `values` needs."""
        return (self.response,) if self.vector is None else (self.response, self.vector)

    def values(self, tensors: Tensors) -> NDArray[np.float32]:
        """Return the response [kept kernels, height, width]."""
        response: NDArray[np.float32] = tensors[self.response][0]
        if self.vector is not None:
            response = response * tensors[self.vector].reshape(-1, 1, 1)
        kept: NDArray[np.float32] = response[self.kept]
        return kept


def target_of(
    original: gs.Graph, pruned: gs.Graph, name: str, gone: tuple[int, ...], gate: Gate | None
) -> Target | str:
    """Return the target response of a layer of the pruned network, or the reason why it is unknown.

    A folded gate became part of the convolution, whose target is the tensor after the multiply. If the multiply came
    after an activation that commutes with it, the target is the convolution's response times the gate. If the multiply
    is still there, after an activation that does not commute (`deploycc.passes.fold_gates`), the target is the
    convolution's response itself.

    Args:
        original: with gates.
        pruned: without the folded gates.
        name: of the convolution.
        gone: removed kernels, numbered as in the original.
        gate: its gate, if it was folded.
    """
    node = next((node for node, layer in layer_names(original.nodes) if layer == name), None)
    shape = static_shape(node.outputs[0]) if node is not None else None
    if node is None or shape is None:
        return "the original network has no such layer"
    output = node.outputs[0]
    kept = np.setdiff1d(np.arange(shape[1]), gone)
    if gate is None or any(node.name == gate.multiply for node in pruned.nodes):
        return Target(output.name, None, kept)
    tensors = original.tensors()
    steps = affine_chain(original, output)
    if gate.response in (output.name, *(step.node.outputs[0].name for step in steps)):
        multiply = next(node for node in original.nodes if node.name == gate.multiply)
        after = affine_chain(original, multiply.outputs[0])
        return Target(after[-1].node.outputs[0].name if after else multiply.outputs[0].name, None, kept)
    return Target(output.name, tensors[gate.vector].name, kept)

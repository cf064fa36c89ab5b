"""What a network answers inside, and which of it a pruned layer has to match."""

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
    """A network in ONNX Runtime that returns tensors from its inside.

    Attributes:
        inputs: tensors that it has to be fed.
    """

    def __init__(self, network: str, graph: gs.Graph, wanted: Iterable[str], start: Collection[str] = ()) -> None:
        """Load the part of a network that makes the wanted tensors.

        Args:
            network: its name, for messages.
            graph: stays as it is.
            wanted: tensors to be returned.
            start: tensors that are known already; what makes them is left out.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        part = graph.copy()
        known = part.tensors()
        self._wanted = tuple(dict.fromkeys(wanted))
        self.inputs = tuple(sorted(frontier(part, self._wanted, start)))
        for name in self.inputs:
            known[name].inputs.clear()
        self._made = [name for name in self._wanted if name not in self.inputs]
        part.inputs = [known[name] for name in self.inputs]
        part.outputs = [known[name] for name in self._made]
        part.cleanup()
        self._session = _session(network, part) if self._made else None

    def run(self, feed: Tensors, picture: int) -> dict[str, NDArray[np.float32]]:
        """Return the wanted tensors by name.

        Args:
            feed: `inputs`.
            picture: its number, for messages.

        Raises:
            MeasureError: ``response-not-finite``.
        """
        values = self._session.run(self._made, dict(feed)) if self._session is not None else []
        for name, value in zip(self._made, values, strict=True):
            if not np.isfinite(value).all():
                raise MeasureError(
                    "response-not-finite",
                    f"the network answers with NaN or infinity at {name}",
                    context={"picture": f"number {picture + 1}", "tensor": name},
                    hint="check the model's mean and scale, and its weights",
                )
        made = dict(zip(self._made, values, strict=True))
        return {name: made[name] if name in made else feed[name] for name in self._wanted}


def frontier(graph: gs.Graph, wanted: Iterable[str], start: Collection[str]) -> set[str]:
    """The tensors among ``start`` and the graph's inputs from which the wanted ones are made."""
    tensors, inputs = graph.tensors(), {tensor.name for tensor in graph.inputs}
    found: set[str] = set()
    seen: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in start or name in inputs:
            found.add(name)
        else:
            read = [each for node in tensors[name].inputs for each in node.inputs]
            queue += [each.name for each in read if isinstance(each, gs.Variable) and not each.is_empty()]
    return found


def _session(network: str, graph: gs.Graph) -> ort.InferenceSession:
    # two networks share the memory
    return open_session(to_onnx(graph), _THREADS, {"network": network}, keep_memory=False)


@dataclass(frozen=True, eq=False)
class Target:
    """What a layer answers in the original network, where its counterpart in the pruned one answers.

    Attributes:
        response: tensor [1, kernels, height, width].
        vector: its gate's decisions, where the response is not yet multiplied with them.
        kept: kernels that the pruned layer still has.
    """

    response: str
    vector: str | None
    kept: NDArray[np.intp]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of what `values` needs."""
        return (self.response,) if self.vector is None else (self.response, self.vector)

    def values(self, tensors: Tensors) -> NDArray[np.float32]:
        """[kept kernels, height, width]."""
        response: NDArray[np.float32] = tensors[self.response][0]
        if self.vector is not None:
            response = response * tensors[self.vector].reshape(-1, 1, 1)
        kept: NDArray[np.float32] = response[self.kept]
        return kept


def target_of(
    original: gs.Graph, pruned: gs.Graph, name: str, gone: tuple[int, ...], gate: Gate | None
) -> Target | str:
    """What a layer of the pruned network should answer, or why that is unknown.

    A folded gate's product became part of the convolution: it should answer what stood behind the product. Where the
    product stood behind an activation that lets it through, that is the convolution's response times the gate. Where
    the product is still there, behind an activation that does not (`deploycc.passes.fold_gates`), the convolution
    itself answers as before.

    Args:
        original: with gates.
        pruned: without those that were folded.
        name: of the convolution.
        gone: kernels of the original that the pruned network has no more.
        gate: its gate, where it was folded.
    """
    node = next((node for node, own in layer_names(original.nodes) if own == name), None)
    shape = static_shape(node.outputs[0]) if node is not None else None
    if node is None or shape is None:
        return "the original network has no such layer"
    own = node.outputs[0]
    kept = np.setdiff1d(np.arange(shape[1]), gone)
    if gate is None or any(each.name == gate.multiply for each in pruned.nodes):
        return Target(own.name, None, kept)
    tensors = original.tensors()
    steps = affine_chain(original, own)
    if gate.response in (own.name, *(step.node.outputs[0].name for step in steps)):
        multiply = next(each for each in original.nodes if each.name == gate.multiply)
        behind = affine_chain(original, multiply.outputs[0])
        return Target(behind[-1].node.outputs[0].name if behind else multiply.outputs[0].name, None, kept)
    return Target(own.name, tensors[gate.vector].name, kept)

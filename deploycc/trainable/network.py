"""An imported network as a PyTorch module: executed node by node, and written back into its own graph.

Nothing is exported: after training, the parameters go into the same constants of the same graph, so that names, heads,
gates and metadata stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, nn

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.trainable import elementwise, layers, shapes  # noqa: F401 - they fill the table
from deploycc.trainable.table import OPERATORS, Run

_WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "InstanceNormalization": (1, 2),
}
_NORMALISATION = {"BatchNormalization": (1, 2)}
_OLDEST_OPSET = 13  # importers bring every network to it or higher


class TrainableNetwork(nn.Module):
    """Runs the graph of a detector on batches of pictures.

    The graph has batch 1; `torch.vmap` maps it over the pictures, so that whatever is true of one is true of many.

    Args:
        detector: its graph is copied.
        outputs: tensors to return, outputs of the graph or any inside; None: the outputs of the graph.
        inputs: tensors to start from, which `forward` takes in this order; None: the picture.
        train_normalisation: scale and shift of batch normalisation are parameters too; the statistics never are.

    Raises:
        ModelError: ``training-operator``: an operator that PyTorch does not run here.
    """

    def __init__(
        self,
        detector: Detector,
        outputs: Sequence[str] | None = None,
        *,
        inputs: Sequence[str] | None = None,
        train_normalisation: bool = False,
    ) -> None:
        super().__init__()
        self._detector = detector
        self.inputs = tuple(inputs or [detector.input.name])
        self.outputs = tuple(outputs or [tensor.name for tensor in detector.graph.outputs])
        graph = detector.graph.copy()
        graph.outputs = [_tensor(graph, name) for name in self.outputs]
        for name in self.inputs:
            _tensor(graph, name).inputs.clear()
        graph.cleanup(recurse_subgraphs=False).toposort()
        if int(graph.opset) < _OLDEST_OPSET:
            raise ModelError("training-opset", f"operator set {graph.opset} is older than {_OLDEST_OPSET}")
        slots = {**_WEIGHTS, **(_NORMALISATION if train_normalisation else {})}
        trained = _trained(graph, slots)
        self._names = tuple(trained)
        self.weights = nn.ParameterList([nn.Parameter(torch.from_numpy(trained[name].copy())) for name in trained])
        self._fixed: list[str] = []
        for tensor in graph.tensors().values():
            if isinstance(tensor, gs.Constant) and tensor.name not in trained:
                self.register_buffer(f"constant_{len(self._fixed)}", _fixed(tensor), persistent=False)
                self._fixed.append(tensor.name)
        self._steps = [Step(node) for node in graph.nodes]

    @property
    def names(self) -> tuple[str, ...]:
        """The constant of the graph that each of `weights` comes from."""
        return self._names

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Run a batch.

        Args:
            batches: a tensor per name in `inputs`, with N in place of the graph's batch 1; pictures [N, C, H, W] are
                made as the detector's input says.

        Returns:
            Each output, with N in place of its batch 1.
        """
        fixed = {name: self.get_buffer(f"constant_{number}") for number, name in enumerate(self._fixed)}
        weights = dict(zip(self._names, self.weights, strict=True))

        def run_one(*tensors: Tensor) -> tuple[Tensor, ...]:
            values: dict[str, Any] = {**fixed, **weights, **dict(zip(self.inputs, tensors, strict=True))}
            self._execute(values)
            return tuple(values[name] for name in self._returned)

        results = torch.vmap(run_one)(*(_channels_last(batch).unsqueeze(1) for batch in batches))
        return tuple(result.flatten(0, 1) if result.dim() > 1 else result for result in results)

    @property
    def _returned(self) -> tuple[str, ...]:
        return self.outputs

    def _execute(self, values: dict[str, Any]) -> None:
        """Run every node on one picture; `values` has the tensors by name."""
        for step in self._steps:
            step.run(values)

    def computed(self, tensor: str, values: Tensor) -> Tensor:
        """Return the values [N, C, H, W] of a map, less those channels that this network does not compute."""
        return values

    def take(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Give weights new values, by the constants of the graph; the others, and constants unknown here, stay."""
        for name, weight in zip(self._names, self.weights, strict=True):
            if name in values:
                with torch.no_grad():
                    weight.copy_(torch.from_numpy(values[name]))

    def trained(self) -> Detector:
        """Return the detector with the weights as they are now; everything else is as it was.

        Raises:
            ModelError: ``training-not-finite``: a weight is no longer a number.
        """
        graph = self._detector.graph.copy()
        tensors = graph.tensors()
        for name, weight in zip(self._names, self.weights, strict=True):
            values = weight.detach().to("cpu", torch.float32).numpy()
            if not np.isfinite(values).all():
                raise ModelError("training-not-finite", "a weight is not finite", context={"tensor": name})
            tensors[name].values = values.copy()
        return replace(self._detector, graph=graph)


def _channels_last(batch: Tensor) -> Tensor:
    """Lay maps out with the channels last, in which convolutions and what follows them take less time on a CPU."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


class Step:
    """A node, and the names of its tensors."""

    def __init__(self, node: gs.Node) -> None:
        if node.op not in OPERATORS:
            raise ModelError(
                "training-operator",
                f"{node.op} cannot be trained: it is not supported",
                context={"node": node.name},
                hint="give the network before it as outputs, or train with another tool",
            )
        self._name = node.name
        self._call: Run = OPERATORS[node.op](node)
        self._inputs = [None if tensor.is_empty() else tensor.name for tensor in node.inputs]
        self.outputs = [tensor.name for tensor in node.outputs]

    def run(self, values: dict[str, Any]) -> None:
        """Compute the node's outputs from what is known."""
        results = self._call(*(None if name is None else values[name] for name in self._inputs))
        for name, result in zip(self.outputs, results if isinstance(results, tuple) else (results,), strict=False):
            values[name] = result


def _tensor(graph: gs.Graph, name: str) -> Any:
    tensors = graph.tensors()
    if name not in tensors:
        raise ModelError("training-output", "the network has no such tensor", context={"tensor": name})
    return tensors[name]


def _fixed(tensor: gs.Constant) -> Tensor:
    return torch.from_numpy(np.array(tensor.values))


def _trained(graph: gs.Graph, slots: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    """The constants that are weights: float32, in a place where a layer has its weights, in the order of the graph."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for node in graph.nodes:
        for index in slots.get(node.op, ()):
            if index < len(node.inputs) and isinstance(node.inputs[index], gs.Constant):
                found[node.inputs[index].name] = np.asarray(node.inputs[index].values)
        if node.op in ("Mul", "Add"):
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and _is_per_channel(tensor, node.outputs[0]):
                    found[tensor.name] = np.asarray(tensor.values)
    return {name: values for name, values in found.items() if values.dtype == np.float32}


def _is_per_channel(constant: gs.Constant, result: Any) -> bool:
    """Whether a constant is a factor or shift per channel of maps, as Caffe's Scale layer has."""
    shape = list(result.shape or ())
    if len(shape) != 4:
        return False
    own = [1] * (4 - len(constant.shape)) + list(constant.shape)
    return own[1] > 1 and own == [1, shape[1], 1, 1]

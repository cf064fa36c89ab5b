"""The executor of a detector with its convolutions as PyTorch modules, for tools that only see modules.

`deploycc.trainable.network` holds weights as plain parameters and maps one picture's operators over a batch: a tool that
looks for ``nn.Conv2d`` finds nothing in it. Here each convolution is a module with its node's weights and geometry, and
all other operators are the executor's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, nn

from deploycc.detector import Detector
from deploycc.trainable.network import Step

Part = tuple[Step, int | None, str]  # a node, the number of its module, the tensor that it reads


class ExecutorLayers(nn.Module):
    """Runs one picture through the graph of a detector.

    Args:
        detector: its convolutions have two dimensions; each module has a bias, which is 0 where the node has none.

    Attributes:
        layers: the convolutions, in the order of the graph.
        nodes: the name of each one's node.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        graph = detector.graph.copy()
        graph.cleanup(recurse_subgraphs=False).toposort()
        self._input, self._outputs = detector.input.name, [tensor.name for tensor in graph.outputs]
        self._constants = {
            name: torch.from_numpy(np.array(tensor.values))
            for name, tensor in graph.tensors().items()
            if isinstance(tensor, gs.Constant)
        }
        convolutions = [node for node in graph.nodes if node.op == "Conv"]
        self.nodes = [node.name for node in convolutions]
        self.layers = nn.ModuleList(_module(node) for node in convolutions)
        numbers = {node.name: number for number, node in enumerate(convolutions)}
        self._parts: list[Part] = [(Step(node), numbers.get(node.name), node.inputs[0].name) for node in graph.nodes]

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the graph for one picture, [1, C, H, W]."""
        values: dict[str, Any] = {**self._constants, self._input: picture}
        for step, number, source in self._parts:
            if number is None:
                step.run(values)
            else:
                values[step.outputs[0]] = self.layers[number](values[source])
        return tuple(values[name] for name in self._outputs)


class _PaddedConv2d(nn.Conv2d):
    """A convolution whose sides are padded by different widths: left, right, top, bottom."""

    sides = (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, self.sides))


def _module(node: gs.Node) -> nn.Conv2d:
    weight = node.inputs[1].values
    bias = node.inputs[2].values if len(node.inputs) > 2 else np.zeros(len(weight), np.float32)
    top, left, bottom, right = (int(value) for value in node.attrs.get("pads") or (0,) * 4)
    if weight.ndim != 4 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError(f"{node.name} is a convolution that is not supported here")
    even = (top, left) == (bottom, right)
    groups = int(node.attrs.get("group", 1))
    layer = (nn.Conv2d if even else _PaddedConv2d)(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        tuple(node.attrs.get("strides") or (1, 1)),
        (top, left) if even else 0,
        tuple(node.attrs.get("dilations") or (1, 1)),
        groups,
    )
    if isinstance(layer, _PaddedConv2d):
        layer.sides = (left, right, top, bottom)
    layer.weight.data, layer.bias.data = (torch.from_numpy(np.array(values)) for values in (weight, bias))
    return layer

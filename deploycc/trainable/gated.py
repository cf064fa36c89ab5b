"""An imported network with kernel gates, which are trained with it and then written as nodes of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, nn

from deploycc.detector import Detector
from deploycc.documents.document import Granularity
from deploycc.errors import InputError
from deploycc.graph.cost import node_macs
from deploycc.graph.edit import constant_values, sole_reader
from deploycc.trainable.gate import FollowingGate, KernelGate, engaged_kernels, unit_sizes
from deploycc.trainable.gate_nodes import write_gates
from deploycc.trainable.network import TrainableNetwork

_ZERO_KEEPING = frozenset(
    ["Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "HardSwish", "Mish", "Tanh"]
)  # f(0) = 0
_MEMORY = 0.98  # of the running shares of pictures that engage a unit


@dataclass(frozen=True)
class GateShape:
    """What the gates of a network decide about.

    Attributes:
        granularity: see `deploycc.trainable.gate.KernelGate`.
        block: kernels per block, for ``block`` and ``nested``.
        shared: see `deploycc.trainable.gate.unit_sizes`; 0: each layer has a gate of its own.
        hidden: channels between a gate's two convolutions.
    """

    granularity: Granularity = "kernel"
    block: int = 32
    shared: int | tuple[float, ...] = 0
    hidden: int = 16


class GatedNetwork(TrainableNetwork):
    """Runs the graph of a detector with gates at some of its convolutions.

    The gate multiplies after the layer's activation where f(0) = 0, so that a kernel that is off still learns what it
    would add; written, it multiplies before the activation, which gives the same values.

    Args:
        detector: its graph is copied.
        outputs, inputs: see `TrainableNetwork`.
        layers: names of ungrouped convolutions, in graph order.
        shape: of the gates.

    Attributes:
        layers: as given.
        gates: a gate per layer.
        macs: layer to its MACs with every kernel engaged.

    Raises:
        InputError: ``gate-layer``, ``gate-block``, ``gate-shared``.
        ModelError: as `TrainableNetwork`.
    """

    def __init__(
        self,
        detector: Detector,
        outputs: Sequence[str],
        inputs: Sequence[str],
        layers: Sequence[str],
        shape: GateShape,
    ) -> None:
        super().__init__(detector, outputs, inputs=inputs)
        if shape.shared and shape.granularity == "kernel":
            raise InputError("gate-shared", "a shared gate decides about blocks of kernels, not about single kernels")
        nodes = {node.name: node for node in detector.graph.nodes}
        self.layers, self.macs = tuple(layers), {name: node_macs(_gateable(nodes, name)) for name in layers}
        self.gates = nn.ModuleList()
        self.reads: dict[str, str] = {}
        self._masked: dict[str, int] = {}
        leader: KernelGate | None = None
        for number, name in enumerate(layers):
            node = nodes[name]
            kernels, channels = (int(size) for size in node.inputs[1].shape[:2])
            sizes = unit_sizes(name, kernels, shape.granularity, shape.block, shape.shared)
            if leader is None or not shape.shared:
                leader = KernelGate(channels, kernels, shape.granularity, sizes, shape.hidden)
                self.gates.append(leader)
                self.register_buffer(f"use_{number}", torch.ones(leader.units))
            else:
                self.gates.append(FollowingGate(leader, kernels, sizes))
            self.reads[name] = node.inputs[0].name
            self._masked[_where_masked(detector.graph, node)] = number

    @property
    def by_layer(self) -> dict[str, KernelGate | FollowingGate]:
        """Layer to gate."""
        return dict(zip(self.layers, cast("Iterable[KernelGate | FollowingGate]", self.gates), strict=True))

    @property
    def deciding(self) -> list[tuple[str, KernelGate]]:
        """Layer and gate, of the gates that decide themselves."""
        return [(name, gate) for name, gate in self.by_layer.items() if isinstance(gate, KernelGate)]

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Run a batch as `TrainableNetwork` does; the gates then have read and decided for all its pictures."""
        results = super().forward(*batches)
        count, gates = len(self.outputs), [gate for _, gate in self.deciding]
        for gate, decided, pooled in zip(gates, results[count::2], results[count + 1 :: 2], strict=True):
            gate.decided, gate.pooled = decided, pooled
        return results[:count]

    @property
    def _returned(self) -> tuple[str, ...]:
        return (*self.outputs, *(what(name) for name, _ in self.deciding for what in (_decision_of, _read_for)))

    def _execute(self, values: dict[str, Any]) -> None:
        for step in self._steps:
            step.run(values)
            for name in step.outputs:
                if name in self._masked:
                    layer = self.layers[self._masked[name]]
                    gate = self.gates[self._masked[name]]
                    values[name] = values[name] * gate(values[self.reads[layer]]).to(values[name].dtype)
                    if isinstance(gate, KernelGate):
                        values[_decision_of(layer)], values[_read_for(layer)] = gate.decided, gate.pooled

    def computed(self, tensor: str, values: Tensor) -> Tensor:
        """Return the values of a map, with zeros where the gates of the last batch switched kernels off."""
        number = self._masked.get(tensor)
        if number is None:
            return values
        return values * engaged_kernels(self.by_layer[self.layers[number]]).detach()[:, :, None, None]

    def count_use(self) -> None:
        """Remember how many pictures of the last batch engage each unit, as a running share."""
        for number, name in enumerate(self.layers):
            gate = self.gates[number]
            if isinstance(gate, KernelGate):
                assert gate.engaged is not None, name
                self.get_buffer(f"use_{number}").lerp_(gate.engaged.detach().mean(0), 1 - _MEMORY)

    def shift_gates(self, logits: float) -> None:
        """Let all gates engage a few units more, or fewer where it is below 0."""
        for _, gate in self.deciding:
            gate.shift(logits)

    def retire(self, below: float) -> int:
        """Switch units off for good that less than this share of the pictures engages; return their number."""
        count = 0
        for number, gate in enumerate(self.gates):
            if isinstance(gate, KernelGate):
                rare = self.get_buffer(f"use_{number}") < below
                gate.retire(rare)
                count += int(rare.sum())
        return count

    def trained(self) -> Detector:
        """Return the detector with weights and gates as they are now."""
        detector = super().trained()
        described = write_gates(detector.graph, self.by_layer)
        return replace(detector, gates=(*detector.gates, *described))


def _decision_of(layer: str) -> str:
    return f"decision of {layer}"


def _read_for(layer: str) -> str:
    return f"read for {layer}"


def _gateable(nodes: dict[str, gs.Node], name: str) -> gs.Node:
    node = nodes.get(name)
    if node is None or node.op != "Conv" or int(node.attrs.get("group", 1)) != 1:
        what = "is not a convolution of the network" if node is None or node.op != "Conv" else "is depthwise or grouped"
        raise InputError("gate-layer", f"{name} cannot be gated: it {what}", context={"layer": name})
    return node


def _where_masked(graph: gs.Graph, conv: gs.Node) -> str:
    """The tensor that the mask multiplies in training: after the activation where that keeps zeros."""
    response = conv.outputs[0]
    reader = sole_reader(graph, response)
    if reader is None:
        return str(response.name)
    return str(reader.outputs[0].name if _keeps_zeros(reader) else response.name)


def _keeps_zeros(node: gs.Node) -> bool:
    if node.op in _ZERO_KEEPING:
        return True
    if node.op != "Clip":
        return False
    limits = [None if t.is_empty() else constant_values(t) for t in node.inputs[1:]]
    if any(limit is None and not tensor.is_empty() for limit, tensor in zip(limits, node.inputs[1:], strict=True)):
        return False
    low, high = (*limits, None, None)[:2]
    return (low is None or float(low) <= 0) and (high is None or float(high) >= 0)

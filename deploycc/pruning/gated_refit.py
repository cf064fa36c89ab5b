"""Weights of a network whose gates switch kernels off: the rest is refitted, as after a cut, while the gates decide.

What a layer must make up for differs from picture to picture. Refitted to what is off in most pictures instead, a
network is far from what it was as soon as a few gates decide otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.graph.channels.groups import layer_names
from deploycc.progress import Say, quiet
from deploycc.pruning.reconstruct import reconstruct, rewired_nodes
from deploycc.pruning.stages import Read

_WEIGHT, _BIAS = 1, 2


def refit_gated(
    network: Detector, gated: Detector, read: Read, count: int, say: Say = quiet
) -> dict[str, NDArray[np.float32]]:
    """Refit a network with gates to its own responses without them.

    Args:
        network: without the gates; its graph stays as it is.
        gated: the same with gates at some convolutions; its graph stays as it is.
        read: returns the input tensor of a picture.
        count: number of pictures.
        say: progress.

    Returns:
        New values by constant of the network. Layers that share their weights with others or have no bias keep theirs.

    Raises:
        InputError: ``reconstruct-few-pictures``.
        MeasureError: a network does not run.
    """
    refitted = replace(gated, graph=gated.graph.copy())
    rewired = rewired_nodes(network.graph, refitted.graph)
    reconstruct(network, refitted, {}, (), read, count, say, rewired=rewired)
    before = {name: node for node, name in layer_names(network.graph.nodes)}
    found: dict[str, NDArray[np.float32]] = {}
    for node, name in layer_names(refitted.graph.nodes):
        if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or not _same_constants(node, before.get(name)):
            continue
        for index in (_WEIGHT, _BIAS):
            values, trained = (np.array(one.inputs[index].values) for one in (node, before[name]))
            if not np.array_equal(values, trained):
                found[node.inputs[index].name] = values
    return found


def _same_constants(node: gs.Node, other: gs.Node | None) -> bool:
    return (
        other is not None
        and len(node.inputs) == len(other.inputs) > _BIAS
        and all(
            isinstance(node.inputs[index], gs.Constant) and node.inputs[index].name == other.inputs[index].name
            for index in (_WEIGHT, _BIAS)
        )
    )

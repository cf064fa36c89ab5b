"""Weights of a network in which gates switch kernels off: the others are refitted, as after a cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.graph.channels.groups import layer_names
from deploycc.graph.edit import constant_values, set_constant
from deploycc.progress import Say, quiet
from deploycc.pruning.reconstruct import reconstruct
from deploycc.pruning.stages import Read

_WEIGHT, _BIAS = 1, 2


def refit_without(
    network: Detector, off: Mapping[str, NDArray[np.bool_]], read: Read, count: int, say: Say = quiet
) -> dict[str, NDArray[np.float32]]:
    """Refit a network to its own responses while some of its kernels give zero.

    Args:
        network: its graph stays as it is; gates multiply the convolutions' responses.
        off: kernels that give zero, [kernels] by convolution.
        read: returns the input tensor of a picture.
        count: number of pictures.
        say: progress.

    Returns:
        New values by constant. Kernels that are off keep the weights that they were trained with, and so do layers
        that share their weights with others or have no bias.

    Raises:
        InputError: ``reconstruct-few-pictures``.
        MeasureError: the network does not run.
    """
    off = {name: kernels for name, kernels in off.items() if kernels.any()}
    refitted = replace(network, graph=_without(network.graph, off))
    reconstruct(network, refitted, {}, (), read, count, say, rewired=off)
    before = {name: node for node, name in layer_names(network.graph.nodes)}
    found: dict[str, NDArray[np.float32]] = {}
    for node, name in layer_names(refitted.graph.nodes):
        if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or not _same_constants(node, before[name]):
            continue
        for index in (_WEIGHT, _BIAS):
            values, trained = (np.array(one.inputs[index].values) for one in (node, before[name]))
            if name in off:
                values[off[name]] = trained[off[name]]
            if not np.array_equal(values, trained):
                found[node.inputs[index].name] = values
    return found


def _without(graph: gs.Graph, off: Mapping[str, NDArray[np.bool_]]) -> gs.Graph:
    """Return a copy in which kernels that are off are zeros."""
    graph = graph.copy()
    for node, name in layer_names(graph.nodes):
        if name in off:
            for index in (_WEIGHT, _BIAS):
                values = constant_values(node.inputs[index]) if len(node.inputs) > index else None
                if values is not None:
                    zeroed = values.copy()
                    zeroed[off[name]] = 0
                    set_constant(graph, node, index, zeroed, f"{name}_without")
    return graph


def _same_constants(node: gs.Node, other: gs.Node) -> bool:
    return len(node.inputs) == len(other.inputs) > _BIAS and all(
        isinstance(node.inputs[index], gs.Constant) and node.inputs[index].name == other.inputs[index].name
        for index in (_WEIGHT, _BIAS)
    )

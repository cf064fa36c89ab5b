"""How much a trained network's own outputs change without each whole block: Fisher information, without labels.

A factor m of a block is 1 in the network and 0 without the block: its tensor y becomes ``m y + (1 - m) r``, where r is
zero for a branch and the block's source for an identity. The divergence at m = 0 is estimated as for single channels
(`deploycc.distillation.importance`), from the derivative at m = 1: ``1/2 E[(e' dz/dm)^2]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.distillation.importance import backward_passes, compared
from deploycc.graph.blocks.search import Block, Key
from deploycc.graph.edit import fresh_name, redirect_readers
from deploycc.progress import Say, quiet
from deploycc.trainable.network import TrainableNetwork


def block_change(
    detector: Detector,
    blocks: Sequence[Block],
    picture: Callable[[int], NDArray[np.float32]],
    numbers: Sequence[int],
    *,
    seed: int = 1,
    say: Say = quiet,
) -> dict[Key, float]:
    """Estimate how much the outputs change without each block.

    Args:
        detector: the trained network, with SSD heads.
        blocks: of its graph.
        picture: returns a picture as the network's input, [1, C, H, W].
        numbers: of the pictures to use.
        seed: of the random directions.
        say: progress.

    Returns:
        Divergence per prior that sees an object, as `deploycc.distillation.importance.output_change` has it.

    Raises:
        ModelError: ``distillation-no-heads``; ``training-operator``.
    """
    probed = replace(detector, graph=detector.graph.copy())
    factors = {block.key: _probe(probed.graph, block) for block in blocks}
    probed.graph.toposort()
    network = TrainableNetwork(probed, compared(detector))
    parameters = dict(zip(network.names, network.weights, strict=True))
    worth = dict.fromkeys(factors, 0.0)
    for seen in backward_passes(network, detector, picture, numbers, seed=seed, say=say):
        for key, (own, source) in factors.items():
            change = _gradient(parameters[own]) - (0.0 if source is None else _gradient(parameters[source]))
            worth[key] += 0.5 * change**2 / max(1, seen) / len(numbers)
    return worth


def _probe(graph: gs.Graph, block: Block) -> tuple[str, str | None]:
    """Let factors of the block's tensor, and of an identity's source, take part; returns the names of the factors."""
    tensors = graph.tensors()
    result = tensors[block.tensor]
    scaled = gs.Variable(fresh_name(graph, f"{result.name}_probed"), result.dtype, result.shape)
    redirect_readers(result, scaled)
    if block.kind != "identity":
        return _scale(graph, result, 1.0, scaled), None
    parts = [
        gs.Variable(fresh_name(graph, f"{result.name}_{part}_probed"), result.dtype, result.shape)
        for part in ("own", "source")
    ]
    own = _scale(graph, result, 1.0, parts[0])
    source = _scale(graph, tensors[block.source], 0.0, parts[1])
    graph.nodes.append(gs.Node("Add", scaled.name, inputs=parts, outputs=[scaled]))
    return own, source


def _scale(graph: gs.Graph, tensor: gs.Tensor, factor: float, result: gs.Variable) -> str:
    """A depthwise convolution of 1x1, whose weights are parameters of the trainable network."""
    channels = int(tensor.shape[1])
    weight = gs.Constant(fresh_name(graph, f"{result.name}_factor"), np.full((channels, 1, 1, 1), factor, np.float32))
    attrs = {"group": channels, "kernel_shape": [1, 1]}
    graph.nodes.append(gs.Node("Conv", result.name, attrs, [tensor, weight], [result]))
    return str(weight.name)


def _gradient(parameter: torch.nn.Parameter) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.double().sum())

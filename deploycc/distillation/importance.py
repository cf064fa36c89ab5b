"""How much a trained network's own outputs change without each channel: Fisher information, without labels.

A factor m of a channel is 1 in the network and 0 without the channel. The divergence of the scores from what they were
is 0 at m = 1, where its gradient is 0 too, so its second derivative counts: with logits z and H the divergence's second
derivative by them (p (1 - p) for sigmoids, diag(p) - p p' for softmax),

    divergence at m = 0  ~  1/2 E[(dz/dm)' H (dz/dm)]

(Theis et al., Faster gaze prediction with dense networks and Fisher pruning, 2018; by channel group: Liu et al., Group
Fisher Pruning, 2021). For random e with E[e e'] = H, it is 1/2 E[(e' dz/dm)^2], one backward pass per picture and e.
Softened scores, doubtful ones and the offsets of priors that see an object count likewise, as in
`deploycc.distillation.loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploycc.detector import Detector
from deploycc.distillation.heads import Activation, score_tensor
from deploycc.distillation.loss import (
    DOUBT_WEIGHT,
    SEEN,
    doubt_weight,
    foreground,
    probabilities_of,
    soft_probabilities,
)
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.progress import Say, quiet
from deploycc.trainable.network import TrainableNetwork

Array = NDArray[np.float64]


def output_change(
    detector: Detector,
    groups: ChannelGroups,
    picture: Callable[[int], NDArray[np.float32]],
    numbers: Sequence[int],
    *,
    seed: int = 1,
    say: Say = quiet,
) -> dict[str, Array]:
    """Estimate how much the outputs change without each channel group.

    Args:
        detector: the trained network, with SSD heads.
        groups: channel groups of its graph.
        picture: returns a picture as the network's input, [1, C, H, W].
        numbers: of the pictures to use.
        seed: of the random directions.
        say: progress.

    Returns:
        Divergence per prior that sees an object, [kernels] by layer; what a group is worth is spread over its kernels,
        so that the sum over them is the group's.

    Raises:
        ModelError: ``distillation-no-heads``; ``training-operator``.
    """
    network = TrainableNetwork(detector, compared(detector))
    layers = _layers(network, detector, groups)
    squares, members = np.zeros(groups.count), np.zeros(groups.count)
    for labels, _, _ in layers.values():
        members += np.bincount(labels, minlength=groups.count)
    for seen in backward_passes(network, detector, picture, numbers, seed=seed, say=say):
        change = np.zeros(groups.count)
        for labels, weights, axis in layers.values():
            change += np.bincount(labels, by_kernel(weights, axis), groups.count)
        squares += 0.5 * change**2 / max(1, seen)
    worth = squares / max(1, len(numbers)) / np.maximum(members, 1)
    return {name: worth[labels] for name, (labels, _, _) in layers.items()}


def backward_passes(
    network: TrainableNetwork,
    detector: Detector,
    picture: Callable[[int], NDArray[np.float32]],
    numbers: Sequence[int],
    *,
    seed: int,
    say: Say,
) -> Iterator[int]:
    """Let gradients flow back from random directions of the outputs, one picture after the other.

    Args:
        network: of ``detector``, with the outputs that `compared` names; its parameters have their gradients whenever
            this yields.
        detector: the trained network, with SSD heads.
        picture: returns a picture as the network's input, [1, C, H, W].
        numbers: of the pictures to use.
        seed: of the random directions.
        say: progress.

    Yields:
        Number of priors that see an object in a picture.
    """
    scores = score_tensor(detector)
    assert detector.heads is not None
    classes, background = detector.heads.classes, detector.heads.background
    generator = torch.Generator().manual_seed(seed)
    for done, number in enumerate(numbers):
        say("finding what the outputs depend on", done, len(numbers))
        logits, offsets = (values.float() for values in network(torch.from_numpy(picture(number))))
        logits, offsets = logits.reshape(-1, classes), offsets.reshape(-1, 4)
        probabilities = probabilities_of(logits.detach()[None], scores.activation)[0]
        seen = foreground(probabilities[None], background)[0]
        weight = torch.where(seen > SEEN, seen, torch.zeros_like(seen)).sqrt()[:, None]
        direction = _direction(probabilities, scores.activation, generator)
        soft = soft_probabilities(probabilities, scores.activation)
        direction = direction + weight / classes**0.5 * _direction(soft, scores.activation, generator)
        direction = direction + _doubts(probabilities, scores.activation, background, generator)
        if scores.activation == "probabilities":  # the directions are of logits
            direction = direction / (probabilities * (1 - probabilities)).clamp(min=1e-4)
        noise = torch.randn(offsets.shape, generator=generator)
        network.zero_grad(set_to_none=True)
        ((direction * logits).sum() + (weight * noise * offsets).sum()).backward()
        yield int((seen > SEEN).sum())


def compared(detector: Detector) -> list[str]:
    """Return the names of the outputs that count: scores before their activation where that is known, and offsets.

    Raises:
        ModelError: ``distillation-no-heads``.
    """
    scores = score_tensor(detector)
    assert detector.heads is not None
    return [scores.name, detector.heads.locations]


def _layers(
    network: TrainableNetwork, detector: Detector, groups: ChannelGroups
) -> dict[str, tuple[NDArray[np.int64], list[torch.nn.Parameter], int]]:
    """The groups of the kernels of layers that make channels, their parameters, and the axis of kernels in weights."""
    by_name = dict(zip(network.names, network.weights, strict=True))
    found = {}
    for node, name in layer_names(detector.graph.nodes):
        plain = node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0))
        if name not in groups.layers or not (plain or int(node.attrs.get("group", 1)) == 1):
            continue
        read = groups.tensors.get(node.inputs[0].name)
        if read is not None and np.isin(groups.layers[name], read.groups).all():
            continue  # a depthwise convolution: the channels are those that it reads, and count where they are made
        parameters = [by_name[tensor.name] for tensor in node.inputs[1:] if tensor.name in by_name]
        if parameters:
            found[name] = (np.asarray(groups.layers[name]), parameters, 0 if plain else 1)
    return found


def by_kernel(parameters: Sequence[torch.nn.Parameter], axis: int) -> Array:
    """The derivative by a factor of each kernel's output: the output is linear in the kernel's weights and bias."""
    parts = []
    for parameter in parameters:
        kernels_first = parameter.detach().movedim(axis if parameter.dim() > 1 else 0, 0)
        if parameter.grad is None:  # a layer of outputs that nothing is compared with
            parts.append(np.zeros(len(kernels_first)))
            continue
        gradient = parameter.grad.movedim(axis if parameter.dim() > 1 else 0, 0)
        parts.append((gradient * kernels_first).double().reshape(len(kernels_first), -1).sum(1).numpy())
    return np.asarray(sum(parts), np.float64)


def _direction(probabilities: Tensor, activation: Activation, generator: torch.Generator) -> Tensor:
    """Random values with the divergence's second derivative by the logits as their covariance, [P, C]."""
    noise = torch.randn(probabilities.shape, generator=generator)
    if activation == "softmax":
        root = probabilities.sqrt()
        return root * noise - probabilities * (root * noise).sum(1, keepdim=True)
    return (probabilities * (1 - probabilities)).sqrt() * noise


def _doubts(
    probabilities: Tensor, activation: Activation, background: int | None, generator: torch.Generator
) -> Tensor:
    """Likewise for the logits of objects that are not ruled out, whose square differences count; [P, C]."""
    weight = DOUBT_WEIGHT * doubt_weight(probabilities, background)
    noise = weight.sqrt() * torch.randn(probabilities.shape, generator=generator)
    return noise - probabilities * noise.sum(1, keepdim=True) if activation == "softmax" else noise

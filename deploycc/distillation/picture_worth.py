"""What kernels are worth in each picture, beside what the layer reads in it: the evidence from which gates begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.distillation.importance import backward_passes, by_kernel, compared
from deploycc.progress import Say, quiet
from deploycc.trainable.network import TrainableNetwork

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PictureWorth:
    """What each picture says about layers.

    Attributes:
        worths: divergence of the outputs without a kernel of this layer alone, per prior that sees an object
            (`deploycc.distillation.importance`), [pictures, kernels] by layer.
        means: of the maps that the layers read, [pictures, channels] by layer.
    """

    worths: Mapping[str, Array]
    means: Mapping[str, Array]

    def mean_worths(self) -> dict[str, Array]:
        """What kernels are worth over all pictures, [kernels] by layer."""
        return {layer: worths.mean(0) for layer, worths in self.worths.items()}


def picture_worth(
    detector: Detector,
    layers: Sequence[str],
    picture: Callable[[int], NDArray[np.float32]],
    numbers: Sequence[int],
    *,
    seed: int = 1,
    say: Say = quiet,
) -> PictureWorth:
    """Estimate what each kernel of some layers is worth in each picture.

    Args:
        detector: the trained network, with SSD heads.
        layers: names of convolutions with weights of their own.
        picture: returns a picture as the network's input, [1, C, H, W].
        numbers: of the pictures to use.
        seed: of the random directions, one per picture.
        say: progress.

    Raises:
        ModelError: ``distillation-no-heads``; ``training-operator``.
    """
    nodes = {node.name: node for node in detector.graph.nodes}
    network = TrainableNetwork(detector, compared(detector))
    named = dict(zip(network.names, network.weights, strict=True))
    parameters = {
        layer: [named[tensor.name] for tensor in nodes[layer].inputs[1:] if tensor.name in named] for layer in layers
    }
    worths: dict[str, list[Array]] = {layer: [] for layer in layers}
    for seen in backward_passes(network, detector, picture, numbers, seed=seed, say=say):
        for layer, values in worths.items():
            values.append(0.5 * by_kernel(parameters[layer], 0) ** 2 / max(1, seen))
    reads = {layer: str(nodes[layer].inputs[0].name) for layer in layers}
    return PictureWorth(
        {layer: np.array(values) for layer, values in worths.items()}, _means(detector, reads, picture, numbers)
    )


def _means(
    detector: Detector, reads: Mapping[str, str], picture: Callable[[int], NDArray[np.float32]], numbers: Sequence[int]
) -> dict[str, Array]:
    """Means of the map that each layer reads, [pictures, channels]."""
    watched = list(dict.fromkeys(reads.values()))
    network = TrainableNetwork(detector, watched)
    found: dict[str, list[Array]] = {name: [] for name in watched}
    for number in numbers:
        with torch.no_grad():
            maps = network(torch.from_numpy(picture(number)))
        for name, values in zip(watched, maps, strict=True):
            found[name].append(values.mean((0, 2, 3)).double().numpy())
    return {layer: np.array(found[name]) for layer, name in reads.items()}

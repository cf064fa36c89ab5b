"""Which convolutions the layers of a profile are: runtimes merge layers, and name them after a network's nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_BETWEEN = re.compile(r" \+ | \|\| |[(),]")
_COPIES = ("Reformatting ",)  # "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1" is no convolution
_MYELIN = re.compile(r"_myl\d+_\d+$")  # "conv1+conv2_myl3_7": TensorRT 10's compiler of merged layers


class TimedLayer(NamedTuple):
    """One layer of a profile.

    Attributes:
        name: in the runtime's words.
        median_ms: its time in milliseconds.
        nodes: names of the network's nodes that it computes; empty where the runtime does not tell them.
    """

    name: str
    median_ms: float
    nodes: tuple[str, ...] = ()


def convolution_times(profile: Iterable[TimedLayer], macs: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Share the time of a profile's layers out among the convolutions that they compute.

    TensorRT merges a convolution with what follows it (``conv1 + relu1``), and convolutions of one input with one
    another (``conv1 || conv2``): the time of the latter is shared out by multiply-accumulates. Which nodes a layer
    computes is read from its name only where the runtime does not tell it.

    Args:
        profile: layers with their times.
        macs: of each convolution by its name.

    Returns:
        Milliseconds by convolution, and of all that computes none.
    """
    times_ms: dict[str, float] = {}
    others_ms = 0.0
    for layer in profile:
        names = _convolutions(layer, macs)
        total = sum(macs[name] for name in names)
        if not names:
            others_ms += layer.median_ms
        for name in names:
            share = macs[name] / total if total else 1 / len(names)
            times_ms[name] = times_ms.get(name, 0.0) + layer.median_ms * share
    return times_ms, others_ms


def _convolutions(layer: TimedLayer, macs: Mapping[str, int]) -> list[str]:
    if layer.name.startswith(_COPIES):
        return []
    if layer.nodes:
        return [node for node in layer.nodes if node in macs]
    if layer.name in macs:
        return [layer.name]
    words = [word.strip() for word in _BETWEEN.split(layer.name)]
    if _MYELIN.search(layer.name):
        whole = _MYELIN.sub("", layer.name)
        words = [whole] if whole in macs else whole.split("+")
    return [word for word in dict.fromkeys(words) if word in macs]

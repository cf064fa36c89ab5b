"""Which convolutions the layers of a profile are: runtimes merge layers, and name them after a network's nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_BETWEEN = re.compile(r" \+ | \|\| |[(),]")
_COPIES = ("Reformatting ",)  # "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1" is no convolution


def convolution_times(profile: Iterable[tuple[str, float]], macs: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Share the time of a profile's layers out among the convolutions that they compute.

    TensorRT merges a convolution with what follows it (``conv1 + relu1``), and convolutions of one input with one
    another (``conv1 || conv2``): the time of the latter is shared out by multiply-accumulates.

    Args:
        profile: layers in the runtime's words, each with its time in milliseconds.
        macs: of each convolution by its name.

    Returns:
        Milliseconds by convolution, and of all that computes none.
    """
    times_ms: dict[str, float] = {}
    others_ms = 0.0
    for layer, took_ms in profile:
        words = () if layer.startswith(_COPIES) else dict.fromkeys(word.strip() for word in _BETWEEN.split(layer))
        names = [layer] if layer in macs else [word for word in words if word in macs]
        total = sum(macs[name] for name in names)
        if not names:
            others_ms += took_ms
        for name in names:
            share = macs[name] / total if total else 1 / len(names)
            times_ms[name] = times_ms.get(name, 0.0) + took_ms * share
    return times_ms, others_ms

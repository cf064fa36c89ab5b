"""Gates are fitted to what they read: to its scale where they begin, and to what training changes in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from deploycc.detector import Detector
from deploycc.detector.pictures import prepare
from deploycc.distillation.samples import Samples
from deploycc.distillation.teacher import Teacher
from deploycc.trainable.gated import GatedNetwork
from deploycc.trainable.sparsity import engaged_share

_VIEWS = 128  # on which new gates are calibrated
_BATCH = 8
_RECALIBRATIONS = 2  # the first leaves what the gates before a gate change
_STRONGER = 1.25  # at most, between two checks
_FAINT = 1e-6


def calibrate(network: GatedNetwork, teacher: Detector, samples: Samples) -> None:
    """Scale new gates to what they read (`KernelGate.calibrate`); only means of maps are kept."""
    deciding = network.deciding
    source = Teacher(teacher, [network.reads[name] for name, _ in deciding], samples, 0, torch.get_num_threads())
    pooled: list[list[Tensor]] = [[] for _ in deciding]
    for first in range(0, _VIEWS, _BATCH):
        for parts, maps in zip(pooled, source.answers(range(first, first + _BATCH)), strict=True):
            parts.append(maps.mean((2, 3), keepdim=True))
    for (_, gate), parts in zip(deciding, pooled, strict=True):
        gate.calibrate(torch.cat(parts))


def recalibrate(
    network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector, spread: float
) -> None:
    """Give what gates follow its mean and deviation again, and the engaged share its spread between pictures.

    Again and again, since what a gate reads depends on the gates before it.
    """
    gates = [gate for _, gate in network.deciding]
    for _ in range(_RECALIBRATIONS):
        pooled: list[list[Tensor]] = [[] for _ in gates]
        shares: list[float] = []
        for _ in batches(network, numbers, samples, teacher):
            shares += engaged_share(network.by_layer, network.macs).tolist()
            for gate, parts in zip(gates, pooled, strict=True):
                assert gate.pooled is not None
                parts.append(gate.pooled)
        for gate, parts in zip(gates, pooled, strict=True):
            gate.recalibrate(torch.cat(parts))
    # Gates may agree less than they did at the beginning; a little at a time, since all of them follow.
    factor = float(np.clip(spread / max(float(np.std(shares)), _FAINT), 1 / _STRONGER, _STRONGER))
    for gate in gates:
        gate.strengthen(factor)


def engaged_on(network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector) -> tuple[float, ...]:
    """The share of the gated MACs that each picture engages."""
    shares: list[float] = []
    for _ in batches(network, numbers, samples, teacher):
        shares += engaged_share(network.by_layer, network.macs).tolist()
    return tuple(shares)


def batches(network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector) -> Iterator[None]:
    """Run whole pictures; the gates have read and decided for a batch whenever this yields."""
    for first in range(0, len(numbers), _BATCH):
        pictures = [prepare(samples.picture(number), teacher.input) for number in numbers[first : first + _BATCH]]
        with torch.no_grad():
            network(torch.from_numpy(np.concatenate(pictures)))
        yield

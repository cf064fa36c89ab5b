"""Published figures of the white paper, shown in reports for the same network and board.

Optimizing Deep-Learning Inference for Embedded Devices, Silexica and Irida Labs, 2018, tables 4 and 5: batch 1, Caffe,
FP32, maximum performance mode. Networks are recognised by the MACs and parameters of the paper's table 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deploycc.documents.compile import CompileReport, SizeRecord

PAPER = "white paper, Silexica and Irida Labs, 2018"
SOURCE = f"{PAPER}, table 4: original network in Caffe, FP32, batch 1"

_BY_SIZE = {("31.4", "26.3"): "VGG-SSD", ("1.3", "5.7"): "PVA-SSD", ("1.2", "5.5"): "SqueezeNet-SSD"}
"""GMACs and millions of parameters, as printed in table 1."""

_NETWORKS = ("VGG-SSD", "PVA-SSD", "SqueezeNet-SSD")

_TABLE_4 = {
    ("drive-px2", "CPU"): ((1869.3, 1532.6), (286.3, 278.9), (215.9, 176.1)),
    ("drive-px2", "iGPU"): ((160.7, 138.6), (67.4, 62.4), (35.1, 31.8)),
    ("drive-px2", "dGPU"): ((49.1, 43.7), (56.8, 56.1), (24.6, 23.2)),
    ("jetson-tx2", "CPU"): ((1806.8, 1432.6), (281.7, 261.1), (204.5, 174.2)),
    ("jetson-tx2", "GPU"): ((157.1, 136.1), (65.9, 60.9), (34.8, 31.4)),
}
"""Milliseconds of the original and the pruned network, by board and unit, for each of the networks."""

_UNITS = {
    "jetson-tx2": ("jetson-tx2", "GPU"),
    "drive-px2-igpu": ("drive-px2", "iGPU"),
    "drive-px2-dgpu": ("drive-px2", "dGPU"),
}
"""Board and unit of the paper, by prefix of the target's name."""

_TABLE_5 = {
    ("VGG-SSD", "original", "drive-px2"): (77.2, 14, 105),
    ("VGG-SSD", "pruned", "drive-px2"): (77.4, 18, 100),
    ("SqueezeNet-SSD", "original", "jetson-tx2"): (64.3, 25, 22),
}
"""mAP in percent, pictures per second from the camera on, megabytes of weights."""


@dataclass(frozen=True)
class PublishedLatency:
    """Figures of the paper's table 4.

    Attributes:
        network: its name in the paper.
        board, unit: what ran it, in the paper.
        latency_ms: for one picture, of the original network.
        pruned_ms: of the pruned one.
    """

    network: str
    board: str
    unit: str
    latency_ms: float
    pruned_ms: float


@dataclass(frozen=True)
class PublishedDemonstration:
    """Figures of the paper's table 5: a live demonstration, one camera per network.

    Attributes:
        network, kind, board: what ran where.
        map_percent: accuracy on Pascal VOC.
        fps: pictures per second, from the camera on.
        weights_mb: megabytes of weights.
    """

    network: str
    kind: str
    board: str
    map_percent: float
    fps: int
    weights_mb: int


def table_4() -> Iterator[PublishedLatency]:
    """Yield every figure of the paper's table 4."""
    for (board, unit), times in _TABLE_4.items():
        for network, (original_ms, pruned_ms) in zip(_NETWORKS, times, strict=True):
            yield PublishedLatency(network, board, unit, original_ms, pruned_ms)


def demonstration(latency: PublishedLatency, kind: str) -> PublishedDemonstration | None:
    """Return the figures of table 5 for a network and board of table 4; None where it has none."""
    key = (latency.network, kind, latency.board)
    return PublishedDemonstration(*key, *_TABLE_5[key]) if key in _TABLE_5 else None


def published_latency(report: CompileReport) -> PublishedLatency | None:
    """Return the paper's latency of this network on this board, or None if it has none."""
    place = next((_UNITS[name] for name in _UNITS if report.target.name.startswith(name)), None)
    sizes = [size for network in report.networks for step in network.steps for size in (step.before, step.after)]
    network = next((_BY_SIZE[_printed(size)] for size in sizes if _printed(size) in _BY_SIZE), None)
    return next((each for each in table_4() if ((each.board, each.unit), each.network) == (place, network)), None)


def _printed(size: SizeRecord) -> tuple[str, str]:
    return f"{size.macs / 1e9:.1f}", f"{size.params / 1e6:.1f}"

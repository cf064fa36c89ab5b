"""Fit the constants of Caffe with cuDNN to table 4 of the white paper, beside `fit_prediction.py`.

The table has three networks, each original and pruned, on three GPUs: too few to leave one out, so the constants start
from what `caffe time` says of single layers on a Jetson TX1 (public: a ReLU takes at least 57 us there, a convolution
about 0.3 ms), and the model has only eight. The paper says by how much it pruned, not which kernels: seeded kernels are
removed from every layer of the back-end until as many MACs are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prediction_data import ROOT, Networks, gpu

from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.prediction.launches import Fusion
from deploycc.prediction.stacks import Model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NETWORKS = {
    "vgg_ssd": "vgg_ssd300_voc_deploy",
    "squeezenet_ssd": "squeezenet_ssd_voc_deploy",
    "pva_ssd": "pva_ssd",
}
PRIORS = {
    "winograd": (0.75, 0.3),
    "direct": (0.5, 0.3),
    "latency_cycles": (130.0, 0.6),
    "bandwidth": (0.6, 0.3),
    "launch_us": (57.0, 0.3),
    "convolution_us": (143.0, 0.4),
    "network_ms": (4.0, 0.5),
}
FIXED = {
    "pixel_tile": 32,
    "depthwise": 0.01,
    "pooling": 1.0,
    "latency_fp16": 1.0,
    "launch_cycles": 0.0,
    "copy_gb_s": 0.0,
    "elementwise_fp32": False,
}
_CHANGES = 2.0  # weight of an error in the change by pruning


@dataclass(frozen=True)
class Cell:
    """One network on one GPU, in milliseconds."""

    board: str
    network: str
    original: float
    pruned: float


def cells(facts: Path) -> list[Cell]:
    """The GPU cells of the table."""
    table = tomllib.loads((facts / "paper-tables.toml").read_text(encoding="utf-8"))["table4"]
    columns = {
        "jetson_tx2.gpu": table["jetson_tx2"]["gpu"],
        "drive_px2.igpu": table["drive_px2"]["igpu"],
        "drive_px2.dgpu": table["drive_px2"]["dgpu"],
    }
    return [Cell(board, name, *column[name]) for board, column in columns.items() for name in NETWORKS]


def caffe_networks(assets: Path) -> tuple[Networks, Networks]:
    """The networks as Caffe runs them, nothing folded or merged: original and pruned."""
    from pruned_networks import NETWORKS as SHARES
    from pruned_networks import choose_groups, copy_of, import_seeded

    originals, pruned = {}, {}
    for name, definition in NETWORKS.items():
        detector = import_seeded(assets, definition)
        _, gone = choose_groups(detector, SHARES[definition])
        small = copy_of(detector)
        remove_channels(small.graph, channel_groups(small.graph), gone)
        originals[name], pruned[name] = detector.graph, small.graph
    return Networks(originals, Fusion()), Networks(pruned, Fusion())


def default_assets() -> Path:
    return ROOT.parent / "shared" / "assets"


def predict(model: Model, networks: Networks) -> Mapping[tuple[str, str], float]:
    """Milliseconds by board and network."""
    boards = ("jetson_tx2.gpu", "drive_px2.igpu", "drive_px2.dgpu")
    times = {board: networks.predict(gpu(board), model, "fp32") for board in boards}
    return {
        (board, name): float(times[board][number]) for board in boards for number, name in enumerate(networks.names)
    }


def fit(facts: Path, original: Networks, pruned: Networks) -> Model:
    from fit_prediction import TILES, WEIGHT, minimise

    measured, free = cells(facts), tuple(PRIORS)
    start = np.log([PRIORS[name][0] for name in free])
    width = np.array([PRIORS[name][1] for name in free])

    def model(x: np.ndarray) -> Model:
        values = dict(zip(free, map(float, np.exp(x)), strict=True))
        return Model.model_construct(kernel_tiles=TILES, **FIXED, **values)

    def loss(x: np.ndarray) -> float:
        whole, small = predict(model(x), original), predict(model(x), pruned)
        total = WEIGHT * float(np.sum(((x - start) / width) ** 2))
        for cell in measured:
            at = cell.board, cell.network
            total += np.log(whole[at] / cell.original) ** 2
            total += (_CHANGES * (small[at] / whole[at] - cell.pruned / cell.original)) ** 2
        return float(total)

    return model(minimise(loss, start))

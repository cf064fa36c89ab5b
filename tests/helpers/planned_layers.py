"""Layers and costs to plan with: no network, no measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploycc.documents.costs import Convolution
from deploycc.gate_planning.costs import CostModel, make_grid
from deploycc.gate_planning.operations import Line
from deploycc.gate_planning.regions import PlannedLayer

SIDE = 20
CHEAP = {"branch": 0.004, "multiply": 0.004, "pad": 0.001, "concat": 0.004, "zeros": 0.002}
"""Fixed parts, ms; each element costs a millionth of a millisecond."""


def convolution(inputs: int = 64, kernels: int = 64, side: int = SIDE) -> Convolution:
    return Convolution(
        inputs=inputs, kernels=kernels, groups=1, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), pads=(1, 1, 1, 1),
        size=(side, side),
    )  # fmt: skip


def layer(name: str, active: NDArray[np.bool_], inputs: int = 64, **changes: Any) -> PlannedLayer:
    """A gated 3x3 convolution whose kernels each have a gate of their own."""
    kernels = active.shape[1]
    fields: dict[str, Any] = {
        "name": name,
        "convolution": convolution(inputs, kernels),
        "active": active,
        "unit_of": tuple(range(kernels)),
        "map_elements": SIDE * SIDE,
        "end_elements": SIDE * SIDE,
    }
    return PlannedLayer(**{**fields, **changes})


def model(layers: list[PlannedLayer], ms_per_mac: float = 1e-8, **fixed_ms: float) -> CostModel:
    """Convolutions take time in proportion to their operations; the rest costs `CHEAP`, or what is given."""
    grids = {}
    for each in layers:
        c = each.convolution
        counts = [sorted({max(1, n * part // 4) for part in (1, 2, 3, 4)}) for n in (c.inputs, c.kernels)]
        per_pair = 9 * SIDE * SIDE * ms_per_mac
        grids[c] = make_grid(*counts, [[i * k * per_pair for k in counts[1]] for i in counts[0]])
    lines = {name: Line(value, 1e-6) for name, value in {**CHEAP, **fixed_ms}.items()}
    return CostModel(grids, lines)  # type: ignore[arg-type]


def prefixes(pictures: int, kernels: int, widths: list[int], seed: int = 0) -> NDArray[np.bool_]:
    """Decisions of a nested gate: each picture has the first kernels on, as many as one of the widths."""
    chosen = np.random.default_rng(seed).choice(widths, pictures)
    return np.arange(kernels)[None, :] < chosen[:, None]

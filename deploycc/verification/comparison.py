"""Where two networks are compared, and how far they may be apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import producer

FP32_TOLERANCE = 1e-3
"""Share of an output's largest magnitude. Folding and another order of sums change the last bits: 1e-5 in deep nets."""

FP16_TOLERANCE = 0.5
"""FP16 storage changes outputs by about 1e-3; how far is reported, not judged. Only a wrong network differs by half."""

STEPPED_TOLERANCE = 0.05
"""For quantised values, or a file in FP16: a number beside the edge of a step makes a whole one of difference."""

_PICKS = ("TopK", "NonMaxSuppression", "ArgMax", "ArgMin", "NonZero", "Unique", "Compress", "Loop", "Scan")
_COMPARES = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Sign", "Round", "Floor", "Ceil")


@dataclass(frozen=True)
class Difference:
    """The output that differs most.

    Attributes:
        output: its name; empty if nothing was compared.
        share: largest difference over the largest magnitude in the reference; infinite if shapes or NaN differ.
    """

    output: str = ""
    share: float = 0.0


def comparable_tensors(graph: gs.Graph) -> list[str]:
    """Return the tensors that show what a network computes.

    These are its outputs. An output that picks among numbers may change its order with the last bit of one of them:
    instead of it, the numbers that it picks among are taken.
    """
    picked: set[int] = set()
    for node in graph.nodes:
        if node.op in _PICKS or any(id(tensor) in picked for tensor in node.inputs):
            picked.update(id(tensor) for tensor in node.outputs)
    names: dict[str, None] = {}
    queue: list[gs.Tensor] = list(graph.outputs)
    seen: set[int] = set()
    for tensor in queue:  # grows while it is walked
        writer = producer(tensor)
        if id(tensor) in seen or writer is None:
            continue
        seen.add(id(tensor))
        if id(tensor) in picked:
            queue += writer.inputs
        elif tensor.dtype is not None and np.dtype(tensor.dtype).kind == "f":
            names[tensor.name] = None
    return list(names)


def has_thresholds(graph: gs.Graph) -> bool:
    """Return whether a number beside a threshold may change the outputs: gates, branches, rounding."""
    scopes = (graph, *graph.subgraphs(recursive=True))
    return any(node.op in (*_COMPARES, *_PICKS, "If") for scope in scopes for node in scope.nodes)


def is_quantised(graph: gs.Graph) -> bool:
    """Return whether the network rounds numbers to the steps of a quantised type."""
    return any(node.op in ("QuantizeLinear", "DynamicQuantizeLinear") for node in graph.nodes)


def largest_difference(reference: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> Difference:
    """Compare outputs by name; what ``other`` lacks is not compared."""
    shares = [Difference(name, _share(reference[name], other[name])) for name in reference if name in other]
    return max(shares, key=lambda difference: difference.share, default=Difference())


def not_finite(outputs: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the names of the outputs that hold NaN or infinity."""
    return [name for name, values in outputs.items() if values.dtype.kind == "f" and not np.isfinite(values).all()]


def first_not_finite(values: Iterable[tuple[str, NDArray[Any]]]) -> tuple[str, int, int] | None:
    """Return name, number of values that are not finite and size of the first tensor that has any."""
    for name, value in values:
        if value.dtype.kind == "f" and (count := int(value.size - np.isfinite(value).sum())):
            return name, count, value.size
    return None


def _share(reference: NDArray[Any], other: NDArray[Any]) -> float:
    if reference.size != other.size:
        return math.inf
    expected, got = reference.reshape(-1).astype(np.float64), other.reshape(-1).astype(np.float64)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    if same.all():
        return 0.0
    if not (np.isfinite(expected) & np.isfinite(got))[~same].all():
        return math.inf
    largest = float(np.abs(expected, where=np.isfinite(expected), out=np.zeros_like(expected)).max())
    difference = float(np.abs(expected - got, where=~same, out=np.zeros_like(expected)).max()) if largest else math.inf
    return difference / largest if largest else math.inf

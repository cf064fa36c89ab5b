"""Predict one network on one target: every launch with its bound, the total, and where fewer kernels would pay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.documents.prediction import Bound, Interval, KernelStep, LaunchPrediction
from deploycc.prediction.launches import Launch, launches
from deploycc.prediction.stacks import Basis
from deploycc.prediction.times import Array, LaunchTable, Times, launch_times, network_ms, tile_macs

_STEPS = 3  # smaller numbers of kernels that are named per convolution
_WORTH_IT = 0.02  # of the layer's time that a smaller number must save to be a step


@dataclass(frozen=True)
class NetworkPrediction:
    """One network.

    Attributes:
        time: of the whole network.
        network_ms: part of it that belongs to no launch.
        macs, wasted_macs: of all launches.
        launches: in the network's order.
    """

    time: Interval
    network_ms: float
    macs: int
    wasted_macs: int
    launches: tuple[LaunchPrediction, ...]


def predict_network(graph: gs.Graph, basis: Basis, precision: str) -> NetworkPrediction:
    """Predict a network with static shapes; of an `If`, the costlier branch counts.

    Args:
        graph: as the runtime reads it.
        basis: the constants and the GPU (`deploycc.prediction.stacks.basis_for`).
        precision: ``fp32`` or ``fp16``.
    """
    made = launches(graph, basis.stack.merges)
    table = LaunchTable.of(made)
    times = launch_times(table, basis.gpu, basis.model, precision)
    whole = tile_macs(table, basis.model)
    wasted = np.where(table.multiplies(), np.maximum(whole - table.macs, 0), 0)
    beside = network_ms(basis.gpu, basis.model, sum(_elements(tensor) for tensor in graph.inputs))
    records = tuple(
        _record(launch, number, times, basis, precision, round(float(wasted[number])))
        for number, launch in enumerate(made)
    )
    return NetworkPrediction(
        time=interval(basis, float(times.total.sum()) + beside),
        network_ms=beside,
        macs=sum(launch.macs for launch in made),
        wasted_macs=sum(record.wasted_macs for record in records),
        launches=records,
    )


def interval(basis: Basis, ms: float, *, layer: bool = False) -> Interval:
    """A predicted time with its interval."""
    low, high = basis.interval(ms, layer=layer)
    return Interval(ms=ms, low_ms=low, high_ms=high)


def gated_ms(
    graph: gs.Graph, basis: Basis, precision: str, kept: Mapping[str, Sequence[int]], branch_us: float
) -> float:
    """Return the mean time over pictures if gated convolutions computed only their active kernels.

    Args:
        graph: the network whose gates are multiplied in.
        basis: the constants and the GPU.
        precision: ``fp32`` or ``fp16``.
        kept: gated convolution to the number of active kernels in each picture.
        branch_us: cost of one decision, paid by every gated convolution that has any kernel off.
    """
    made = launches(graph, replace(basis.stack.merges, siblings=False))
    table = LaunchTable.of(made)
    total = launch_times(table, basis.gpu, basis.model, precision).total
    ms = float(total.sum()) + network_ms(basis.gpu, basis.model, sum(_elements(t) for t in graph.inputs))
    for number, launch in enumerate(made):
        for name in set(kept) & set(launch.nodes):
            counts = np.asarray(kept[name])
            smaller = narrowed_ms(launch, sorted(set(counts.tolist())), basis, precision)
            times = dict(zip(sorted(set(counts.tolist())), smaller, strict=True))
            mean = float(np.mean([times[count] for count in counts.tolist()]))
            ms += mean - float(total[number]) + branch_us * 1e-3
    return ms


def narrowed_ms(launch: Launch, counts: Sequence[int], basis: Basis, precision: str) -> Array:
    """Return the time of a convolution with other numbers of kernels; 0 kernels cost nothing."""
    full = max(launch.kernels, 1)
    narrowed = [
        replace(
            launch,
            kernels=count,
            macs=round(launch.macs * count / full),
            written=round(launch.written * count / full),
            weights=round(launch.weights * count / full),
            groups=count if launch.kind == "depthwise" else launch.groups,
        )
        for count in counts
    ]
    total = launch_times(LaunchTable.of(narrowed), basis.gpu, basis.model, precision).total
    return np.where(np.asarray(counts) > 0, total, 0.0)


def kernel_steps(launch: Launch, basis: Basis, precision: str) -> tuple[KernelStep, ...]:
    """Return the nearest smaller numbers of kernels at which a convolution takes less time."""
    if launch.kind != "convolution" or launch.groups > 1 or launch.merged > 1:
        return ()
    tile = min(kernels for kernels, _ in basis.model.kernel_tiles)
    counts = [*range(launch.kernels // tile * tile, 0, -tile)]
    if counts and counts[0] == launch.kernels:
        counts.pop(0)
    now, *times = narrowed_ms(launch, [launch.kernels, *counts], basis, precision).tolist()
    steps, best = [], now
    for count, ms in zip(counts, times, strict=True):
        if best - ms > _WORTH_IT * now:
            steps.append(KernelStep(kernels=count, saved_ms=now - ms))
            best = ms
    return tuple(steps[:_STEPS])


def _record(
    launch: Launch, number: int, times: Times, basis: Basis, precision: str, wasted_macs: int
) -> LaunchPrediction:
    convolution = launch.kind in ("convolution", "depthwise")
    return LaunchPrediction(
        name=launch.name,
        nodes=launch.nodes,
        kind=launch.kind,
        time=interval(basis, float(times.total[number]), layer=True),
        bound=_bound(times, number),
        work_ms=float(times.work[number]),
        padding_ms=float(times.padding[number]),
        latency_ms=float(times.latency[number]),
        memory_ms=float(times.memory[number]),
        launch_ms=float(times.launch[number]),
        macs=launch.macs,
        wasted_macs=wasted_macs,
        kernels=launch.kernels if convolution else None,
        steps=kernel_steps(launch, basis, precision),
    )


def _bound(times: Times, number: int) -> Bound:
    parts: dict[Bound, float] = {"launch": times.launch[number]}
    if times.memory[number] > times.arithmetic[number]:
        parts["memory"] = times.memory[number]
    else:
        parts["compute"] = times.work[number]
        parts["tile waste"] = times.padding[number]
        parts["latency"] = times.latency[number]
    return max(parts, key=lambda part: parts[part])


def _elements(tensor: gs.Tensor) -> int:
    shape = tensor.shape or ()
    return math.prod(dim for dim in shape if isinstance(dim, int))

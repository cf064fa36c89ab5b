"""How long each launch takes: the larger of arithmetic and memory traffic, and what a launch costs by itself.

With the launch's multiply-accumulates M, its sum's length D, peak rate R, bandwidth B and the stack's constants,

    arithmetic = M' / (e R) + c D / clock      memory = bytes / (b B)      time = launch + max(arithmetic, memory)

M' counts whole tiles, e is the efficiency of that kind of convolution, and c D / clock is the time that a sum of D
steps takes even where few outputs are computed. Tiles are as many kernels wide as those that TensorRT tries on these
GPUs (32, 64 or 128; the fastest is taken), and are spread over the multiprocessors in whole rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.prediction.launches import Launch
from deploycc.prediction.stacks import Gpu, Model

Array = NDArray[np.float64]
_KINDS = ("convolution", "depthwise", "matrix", "pooling", "elementwise", "copy", "normalise", "plugin")


@dataclass(frozen=True, eq=False)
class LaunchTable:
    """Launches as columns, one entry per launch; see `Launch`."""

    kind: NDArray[np.int64]
    winograd: NDArray[np.bool_]
    macs: Array
    pixels: Array
    kernels: Array
    depth: Array
    groups: Array
    window: Array
    read: Array
    written: Array
    weights: Array

    @classmethod
    def of(cls, launches: Sequence[Launch]) -> LaunchTable:
        """Make the table."""

        def column(name: str) -> Array:
            return np.array([getattr(launch, name) for launch in launches], np.float64)

        return cls(
            kind=np.array([_KINDS.index(launch.kind) for launch in launches], np.int64),
            winograd=np.array([launch.winograd for launch in launches], np.bool_),
            window=np.array([launch.window[0] * launch.window[1] for launch in launches], np.float64),
            **{
                name: column(name)
                for name in ("macs", "pixels", "kernels", "depth", "groups", "read", "written", "weights")
            },
        )

    def repeated(self, **columns: Array) -> LaunchTable:
        """Return a table of one launch again and again, with these columns instead of its own."""
        length = len(next(iter(columns.values())))
        same = {name: np.repeat(getattr(self, name), length) for name in self.__dataclass_fields__}
        return LaunchTable(**{**same, **columns})

    def multiplies(self) -> NDArray[np.bool_]:
        """Which launches are convolutions or matrix products in tiles."""
        return self.is_kind("convolution") | self.is_kind("matrix")

    def is_kind(self, kind: str) -> NDArray[np.bool_]:
        """Which launches are of a kind."""
        return np.asarray(self.kind == _KINDS.index(kind), np.bool_)


@dataclass(frozen=True, eq=False)
class Times:
    """Parts of the time of each launch, in milliseconds.

    Attributes:
        work: arithmetic without padding.
        padding: arithmetic on padding to whole tiles.
        latency: the length of the sum.
        memory: memory traffic.
        launch: what the launch costs by itself.
    """

    work: Array
    padding: Array
    latency: Array
    memory: Array
    launch: Array

    @property
    def arithmetic(self) -> Array:
        """Time of the arithmetic, padding and latency included."""
        return self.work + self.padding + self.latency

    @property
    def total(self) -> Array:
        """Time of the launch."""
        return self.launch + np.maximum(self.arithmetic, self.memory)


def launch_times(table: LaunchTable, gpu: Gpu, model: Model, precision: str) -> Times:
    """Return the time of each launch.

    Args:
        table: the launches.
        gpu: facts of the GPU.
        model: constants of the stack.
        precision: ``fp32`` or ``fp16``.
    """
    half = precision == "fp16"
    tiled = table.multiplies()
    efficiency = np.where(table.winograd, model.winograd, model.direct)
    work = np.where(tiled, table.macs / (gpu.macs(precision) * efficiency), 0.0)
    whole = np.where(tiled, padded_macs(table, gpu, model) / (gpu.macs(precision) * efficiency), 0.0)
    cycles = model.latency_cycles * (model.latency_fp16 if half else 1.0)
    latency = np.where(tiled, cycles * table.depth / gpu.clock_hz, 0.0)
    plain = np.where(table.is_kind("depthwise"), table.macs / (gpu.fp32_macs * model.depthwise), 0.0)
    plain += np.where(table.is_kind("pooling"), table.written * table.window / (gpu.fp32_macs * model.pooling), 0.0)
    size = np.where(table.is_kind("elementwise") & model.elementwise_fp32, 4, 2 if half else 4)
    memory = (table.read + table.written + table.weights) * size / (gpu.bandwidth * model.bandwidth)
    launch = np.full(table.kind.shape, model.launch_us * 1e-6 + model.launch_cycles / gpu.clock_hz)
    launch += np.where(tiled | table.is_kind("depthwise"), model.convolution_us * 1e-6, 0.0)
    return Times(
        work=(work + plain) * 1e3,
        padding=np.maximum(whole - work, 0.0) * 1e3,
        latency=latency * 1e3,
        memory=memory * 1e3,
        launch=launch * 1e3,
    )


def padded_macs(table: LaunchTable, gpu: Gpu, model: Model) -> Array:
    """Return the multiply-accumulates of whole rounds of tiles, at the largest tile's rate; the fastest tile counts."""
    return _least(
        np.ceil(_blocks(table, model, kernels) / gpu.sm_count) * gpu.sm_count * _block(table, model, kernels) / rate
        for kernels, rate in model.kernel_tiles
    )


def tile_macs(table: LaunchTable, model: Model) -> Array:
    """Return the multiply-accumulates of whole tiles, of the tile that pads least."""
    return _least(_blocks(table, model, kernels) * _block(table, model, kernels) for kernels, _ in model.kernel_tiles)


def _least(arrays: Iterable[Array]) -> Array:
    return np.asarray(np.min(list(arrays), axis=0), np.float64)


def _blocks(table: LaunchTable, model: Model, kernels: int) -> Array:
    """Number of tiles of each launch."""
    return np.ceil(table.pixels / model.pixel_tile) * np.ceil(table.kernels / table.groups / kernels) * table.groups


def _block(table: LaunchTable, model: Model, kernels: int) -> Array:
    """Multiply-accumulates of one tile."""
    return model.pixel_tile * kernels * table.depth


def network_ms(gpu: Gpu, model: Model, input_elements: int) -> float:
    """Return what a network costs beside its launches: a fixed part, and the copy of the picture where it was timed."""
    copy = input_elements * 4 / (model.copy_gb_s * 1e9) * 1e3 if model.copy_gb_s else 0.0
    return model.network_ms + copy

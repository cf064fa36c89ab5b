"""How long a launch takes once its tensors have fewer channels: all counts at once, without a narrower graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.prediction.launches import Launch, launches
from deploycc.prediction.stacks import Basis
from deploycc.prediction.times import Array, LaunchTable, launch_times


class NarrowedLaunch:
    """The time of one launch by the channels that its tensors keep.

    Attributes:
        tensors: that it reads and writes, by name.
    """

    def __init__(self, launch: Launch, channels: Mapping[str, int], basis: Basis, precision: str) -> None:
        """Prepare.

        Args:
            launch: with all channels.
            channels: of each tensor that may lose some.
            basis: the constants and the GPU.
            precision: ``fp32`` or ``fp16``.
        """
        both = (*launch.inputs, *launch.outputs)
        self.tensors = tuple(name for name, _ in both)
        self._launch, self._basis, self._precision = launch, basis, precision
        self._elements = np.array([elements for _, elements in both], np.float64)
        self._channels = np.array([channels.get(name, 1) for name in self.tensors], np.float64)

    def costs(self, kept: NDArray[np.int64]) -> Array:
        """Return the times.

        Args:
            kept: channels of each of `tensors` (1 for one that cannot lose any), [cases, tensors].

        Returns:
            Milliseconds, [cases].
        """
        launch, count = self._launch, len(self._launch.inputs)
        shares = kept / self._channels
        moved = shares * self._elements
        read, written = moved[:, :count].sum(axis=1), moved[:, count:].sum(axis=1)
        made = written / max(launch.written, 1)
        dense = launch.kind in ("convolution", "matrix") and launch.groups == 1
        taken = shares[:, 0] if dense and count else np.ones(len(kept))
        table = LaunchTable.of([launch]).repeated(
            macs=launch.macs * made * taken,
            kernels=np.round(launch.kernels * made),
            depth=launch.depth * taken,
            groups=np.round(launch.groups * made) if launch.kind == "depthwise" else np.full(len(kept), launch.groups),
            read=read,
            written=written,
            weights=launch.weights * made * taken,
        )
        return launch_times(table, self._basis.gpu, self._basis.model, self._precision).total


def narrowed_launches(
    graph: gs.Graph, channels: Mapping[str, int], basis: Basis, precision: str
) -> list[NarrowedLaunch]:
    """Return the launches of a network by the channels that its tensors keep.

    Args:
        graph: with static shapes and all channels.
        channels: of each tensor that may lose some.
        basis: the constants and the GPU.
        precision: ``fp32`` or ``fp16``.
    """
    return [NarrowedLaunch(launch, channels, basis, precision) for launch in launches(graph, basis.stack.merges)]

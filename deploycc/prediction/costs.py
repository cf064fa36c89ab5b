"""Predicted times of single convolutions on a target: what decides how many kernels a layer keeps for it."""

from __future__ import annotations

import functools
import math
from typing import Literal

from deploycc.documents.costs import Convolution
from deploycc.prediction.launches import Launch
from deploycc.prediction.stacks import basis_for
from deploycc.prediction.times import LaunchTable, launch_times
from deploycc.target import Target


class PredictedCosts:
    """Times of convolutions on a target that is not here.

    Args:
        target: the board and its software; FP16 where it builds that.

    Raises:
        TargetError: ``prediction-none``, ``prediction-facts``: the target cannot be predicted.
    """

    evidence: Literal["predicted"] = "predicted"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.precision: Literal["fp16", "fp32"] = "fp16" if "fp16" in target.precisions else "fp32"
        self.basis = basis_for(target, self.precision)
        self.time_ms = functools.cache(self._time_ms)

    def describe(self) -> str:
        """Say what was predicted, and by which constants."""
        return f"{self.target.name} {self.precision}, constants of {self.basis.stack.title}"

    def _time_ms(self, convolution: Convolution) -> float:
        """Return the predicted time of one convolution."""
        c = convolution
        height, width = (
            (size + c.pads[axis] + c.pads[axis + 2] - c.dilation[axis] * (c.kernel[axis] - 1) - 1) // c.stride[axis] + 1
            for axis, size in enumerate(c.size)
        )
        pixels, depth = height * width, c.inputs // c.groups * math.prod(c.kernel)
        launch = Launch(
            name="convolution",
            kind="depthwise" if c.groups > 1 and c.groups == c.inputs else "convolution",
            nodes=("convolution",),
            macs=pixels * c.kernels * depth,
            pixels=pixels,
            kernels=c.kernels,
            depth=depth,
            groups=c.groups,
            window=c.kernel,
            stride=c.stride[0],
            read=c.inputs * math.prod(c.size),
            written=c.kernels * pixels,
            weights=c.kernels * depth,
        )
        table = LaunchTable.of([launch])
        return float(launch_times(table, self.basis.gpu, self.basis.model, self.precision).total[0])

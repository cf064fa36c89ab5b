"""Two small SSD detectors: a MobileNet-style and a SqueezeNet-style trunk with the same heads.

The trunk (`backend`) computes features; the extra layers and heads (`frontend`) predict from four maps at strides
8, 16, 32 and 64. The later trunk stages are standard 3x3 convolutions: they have most of the multiply-accumulates, so
kernel gates save most there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from deploycc.lkam.priors import ASPECTS

Architecture = Literal["mobilenet", "squeezenet"]
_Width = Callable[[int], int]


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class SeparableUnit(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1, each with BatchNorm and ReLU (Howard et al., MobileNets, 2017)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(ConvUnit(inputs, inputs, 3, stride, inputs), ConvUnit(inputs, outputs, 1))


class Fire(nn.Module):
    """Squeeze 1x1, then 1x1 and 3x3 in parallel (Iandola et al., SqueezeNet, 2016), with BatchNorm."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = ConvUnit(inputs, squeeze, 1)
        self.expand1 = ConvUnit(squeeze, expand, 1)
        self.expand3 = ConvUnit(squeeze, expand, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, 2 * expand, H, W]."""
        x = self.squeeze(x)
        return torch.cat([self.expand1(x), self.expand3(x)], 1)


@dataclass(frozen=True)
class SsdConfig:
    """The parameters of a network.

    Attributes:
        classes: number of classes including the background, which is class 0.
        size: height and width of the input, pixels, a multiple of 32.
        architecture: the trunk.
        width: multiplies the trunk's channel counts, rounded to multiples of 8.
    """

    classes: int
    size: int = 192
    architecture: Architecture = "mobilenet"
    width: float = 1.0


class Ssd(nn.Module):
    """A detector with raw heads.

    `forward` returns offsets [N, P, 4] and class logits [N, P, C]; priors are ordered by map, row, column, aspect.
    """

    def __init__(self, config: SsdConfig) -> None:
        super().__init__()
        self.config = config

        def w(channels: int) -> int:
            return max(8, round(channels * config.width / 8) * 8)

        if config.architecture == "mobilenet":
            stages, channels = _mobilenet(w)
        else:
            stages, channels = _squeezenet(w)
        self.backend = nn.ModuleList(stages)
        extra = 128
        self.frontend = nn.Sequential(ConvUnit(channels[-1], extra // 2, 1), SeparableUnit(extra // 2, extra, 2))
        channels = [*channels, extra]
        self.location = nn.ModuleList(_head(c, len(ASPECTS) * 4) for c in channels)
        self.score = nn.ModuleList(_head(c, len(ASPECTS) * config.classes) for c in channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets [N, P, 4] and class logits [N, P, C] of pictures [N, 3, size, size]."""
        maps = []
        for stage in self.backend:
            x = stage(x)
            maps.append(x)
        maps.append(self.frontend(x))
        locations = [_rows(head(m), 4) for head, m in zip(self.location, maps, strict=True)]
        scores = [_rows(head(m), self.config.classes) for head, m in zip(self.score, maps, strict=True)]
        return torch.cat(locations, 1), torch.cat(scores, 1)


class Deployed(nn.Module):
    """The exported form of the network, with offsets and *activated* scores."""

    def __init__(self, network: Ssd) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets [N, P, 4] and softmax scores [N, P, C]."""
        locations, logits = self.network(x)
        return locations, torch.softmax(logits, 2)


def _mobilenet(w: _Width) -> tuple[list[nn.Module], list[int]]:
    c = [w(n) for n in (16, 32, 48, 64, 64, 96, 128, 128, 128, 128)]
    stride8 = nn.Sequential(
        ConvUnit(3, c[0], 3, 2),
        SeparableUnit(c[0], c[1], 2),
        SeparableUnit(c[1], c[2]),
        SeparableUnit(c[2], c[3], 2),
        ConvUnit(c[3], c[4]),
        ConvUnit(c[4], c[5]),
    )
    stride16 = nn.Sequential(ConvUnit(c[5], c[6], 3, 2), ConvUnit(c[6], c[7]))
    stride32 = nn.Sequential(ConvUnit(c[7], c[8], 3, 2), ConvUnit(c[8], c[9]))
    return [stride8, stride16, stride32], [c[5], c[7], c[9]]


def _squeezenet(w: _Width) -> tuple[list[nn.Module], list[int]]:
    stride8 = nn.Sequential(
        ConvUnit(3, w(32), 3, 2),
        nn.MaxPool2d(2),
        Fire(w(32), w(16), w(32)),
        nn.MaxPool2d(2),
        Fire(2 * w(32), w(24), w(48)),
        Fire(2 * w(48), w(24), w(48)),
    )
    stride16 = nn.Sequential(nn.MaxPool2d(2), Fire(2 * w(48), w(32), w(64)), Fire(2 * w(64), w(32), w(96)))
    stride32 = nn.Sequential(nn.MaxPool2d(2), Fire(2 * w(96), w(48), w(128)))
    return [stride8, stride16, stride32], [2 * w(48), 2 * w(96), 2 * w(128)]


def _head(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(ConvUnit(inputs, inputs, 3, 1, inputs), nn.Conv2d(inputs, outputs, 1))


def _rows(x: Tensor, width: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)

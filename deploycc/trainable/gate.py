"""The gate module of training: maps the input of a convolution to one binary value per kernel.

LKAM (Theodorakopoulos et al., Parsimonious Inference, 2017): global average pooling, 1x1 convolutions, a sigmoid and a
hard threshold. The threshold has no gradient; the sigmoid's is used instead (straight-through).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploycc.documents.document import Granularity
from deploycc.errors import InputError

_MULTIPLE = 8  # channels that vector units and tensor cores process at once
_ALWAYS = 10.0  # logit of a unit that is always engaged
_SPAN = 5.0  # between the initial logits of the units that are worth least and most
_ALWAYS_ABOVE = 4.0  # deviations below its mean at which a hidden channel is cut off: almost never
_LEAST_DEVIATION = 1e-6  # of a hidden channel; below, all pictures are the same
_STEP = math.log1p(math.exp(-1.0))  # initial distance between the logits of nested units


class _HardThreshold(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(probability: Tensor, threshold: float) -> Tensor:
        return (probability > threshold).to(probability.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is saved: the gradient passes as it is."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def hard_threshold(probability: Tensor, threshold: float) -> Tensor:
    """Return 1 where the value exceeds the threshold, else 0; the gradient passes unchanged."""
    result: Tensor = _HardThreshold.apply(probability, threshold)
    return result


class KernelGate(nn.Module):
    """Decides from the input of a convolution which of its kernels are engaged.

    Args:
        inputs: channels of the convolution's input.
        kernels: output channels of the gated convolution.
        granularity: ``kernel``: one decision per kernel (as in the paper). ``block``: one per block of neighbouring
            kernels. ``nested``: a single number decides, and as it falls, blocks are switched off from the last to
            the first. The first block is always engaged: a layer without kernels would output nothing.
        blocks: number of blocks, which must divide `kernels`, or the number of kernels of each; ignored for
            ``kernel``.
        hidden: channels between two 1x1 convolutions; 0 uses a single one.

    Attributes:
        threshold, slope: the decision is ``sigmoid(slope * z) > threshold``; schedules may change both in training.
        imposed: [N, units] of zeros and ones to use instead of deciding, or None.
        decided: [N, units, 1, 1] of zeros and ones of the last call, with gradient.
        pooled: [N, inputs, 1, 1]: the means that were read for it.
    """

    def __init__(
        self,
        inputs: int,
        kernels: int,
        granularity: Granularity = "kernel",
        blocks: int | Sequence[int] = 4,
        hidden: int = 16,
    ) -> None:
        super().__init__()
        unit_of = _unit_of(kernels, kernels if granularity == "kernel" else blocks)
        units = int(unit_of[-1]) + 1
        self.granularity: Granularity = granularity
        self.kernels, self.units = kernels, units
        self.threshold, self.slope = 0.5, 1.0
        self.squeeze = nn.Conv2d(inputs, hidden, 1) if hidden else None
        self.decide = nn.Conv2d(hidden or inputs, 1 if granularity == "nested" else units, 1)
        nn.init.normal_(self.decide.weight, std=0.3)
        assert self.decide.bias is not None
        nn.init.constant_(self.decide.bias, 2.0)  # all kernels are engaged initially
        # Nested blocks: logit k is the common logit minus a sum of non-negative steps, which fixes the order.
        # Initially their sum is below the bias.
        step = math.log(math.expm1(min(_STEP, 1.5 / max(1, units - 1))))  # inverse of softplus
        self.steps = nn.Parameter(torch.full((units - 1,), step)) if granularity == "nested" else None
        self.register_buffer("unit_of", unit_of, persistent=False)
        self.imposed: Tensor | None = None
        self.decided: Tensor | None = None
        self.pooled: Tensor | None = None

    @property
    def engaged(self) -> Tensor | None:
        """Decisions [N, units] of the last call, with gradient."""
        return None if self.decided is None else self.decided.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to a mask [N, kernels, 1, 1] of zeros and ones, in 32 bits."""
        mask = self.decided = self._decide(x) if self.imposed is None else self.imposed[:, :, None, None]
        if self.units == self.kernels:
            return mask
        unit_of: Tensor = self.get_buffer("unit_of")
        return mask.index_select(1, unit_of)

    def _decide(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # 16 bits would decide otherwise near the threshold
            y = self.pooled = functional.adaptive_avg_pool2d(x.float(), 1)
            if self.squeeze is not None:
                y = functional.relu(self.squeeze(y))
            weight, bias = self.logit_filters()
            return hard_threshold(torch.sigmoid(functional.conv2d(y, weight, bias)), self.threshold)

    def calibrate(self, maps: Tensor) -> None:
        """Scale the hidden channels to mean 0 and deviation 1 over some inputs [N, inputs, H, W].

        Spatial averages vary little between pictures; without this a new gate hardly responds to its input.
        """
        if self.squeeze is None:
            return
        with torch.no_grad():
            hidden = self.squeeze(functional.adaptive_avg_pool2d(maps, 1))
            # A channel that varies by less than a twentieth of its magnitude is noise and is not amplified further.
            least = 0.05 * hidden.square().mean((0, 2, 3)).sqrt()
            mean, deviation = hidden.mean((0, 2, 3)), torch.maximum(hidden.std((0, 2, 3)), least + 1e-6)
            assert self.squeeze.bias is not None
            self.squeeze.weight.div_(deviation.view(-1, 1, 1, 1))
            self.squeeze.bias.sub_(mean).div_(deviation)

    def start_in_order(self, order: Tensor, off: float) -> None:
        """Let the units that come first be off for every input, each nearer to being on than the one before.

        Args:
            order: [units], from 0 for the first to 1 for the last.
            off: place in the order up to which units are off; below 0, all are on.
        """
        assert self.steps is None, "nested units have an order already"
        with torch.no_grad():
            assert self.decide.bias is not None
            self.decide.bias.copy_(_SPAN * (order - off))
            self.decide.weight.zero_()

    def follow(self, weights: Tensor, bias: float, places: float) -> None:
        """Let all units come nearer to being on where a linear function of the input is high.

        Args:
            weights: of the input's spatial means, [inputs].
            bias: added; over the inputs to expect the function should have mean 0 and deviation 1.
            places: share of the units that change when the function rises by 1, of units that began in order.
        """
        rise = _SPAN * places
        with torch.no_grad():
            assert self.decide.bias is not None
            if self.squeeze is None:
                self.decide.weight.copy_((rise * weights)[None, :, None, None])
                self.decide.bias.add_(rise * bias)
                return
            assert self.squeeze.bias is not None
            self.squeeze.weight[0], self.squeeze.bias[0] = weights[:, None, None], bias + _ALWAYS_ABOVE
            self.decide.weight[:, 0] = rise
            self.decide.bias.sub_(rise * _ALWAYS_ABOVE)

    def recalibrate(self, pooled: Tensor) -> None:
        """Let what units `follow` have its mean and deviation again.

        Args:
            pooled: what the gate reads of some pictures, [N, inputs, 1, 1]. Gates without hidden channels stay.
        """
        if self.squeeze is None:
            return
        with torch.no_grad():
            assert self.squeeze.bias is not None
            found = self.squeeze(pooled)[:, 0]
            mean, deviation = found.mean(), found.std()
            if deviation < _LEAST_DEVIATION:
                return
            self.squeeze.weight[0] /= deviation
            self.squeeze.bias[0] = (self.squeeze.bias[0] - mean) / deviation + _ALWAYS_ABOVE

    def strengthen(self, factor: float) -> None:
        """Let what units `follow` move them by so many times as many places; their mean stays."""
        if self.squeeze is None:
            return
        with torch.no_grad():
            assert self.decide.bias is not None
            rise = self.decide.weight[:, 0, 0, 0]
            self.decide.bias.sub_((factor - 1) * rise * _ALWAYS_ABOVE)
            rise.mul_(factor)

    def shift(self, logits: float) -> None:
        """Add to the logits of all units; those that are on or off for every input stay so."""
        with torch.no_grad():
            assert self.decide.bias is not None
            fixed = (self.decide.bias == -_ALWAYS) & (self.decide.weight == 0).all((1, 2, 3))
            self.decide.bias.add_(torch.where(fixed, 0.0, logits))

    def retire(self, units: Tensor) -> None:
        """Switch units off for every input.

        Args:
            units: [units] of bool, True for units to switch off. Of ``nested`` units all later ones are included.
        """
        with torch.no_grad():
            if self.steps is not None:
                self.steps[units[1:]] = 4 * _ALWAYS
                return
            assert self.decide.bias is not None
            self.decide.weight[units] = 0
            self.decide.bias[units] = -_ALWAYS

    def logit_filters(self) -> tuple[Tensor, Tensor]:
        """Return weight [units, C, 1, 1] and bias [units] of the last 1x1 convolution, multiplied by the slope."""
        weight, bias = self.decide.weight, self.decide.bias
        assert bias is not None
        if self.steps is not None:
            falls = torch.cat([torch.zeros(1), torch.cumsum(functional.softplus(self.steps), 0)])
            weight, bias = weight.expand(self.units, -1, -1, -1), bias - falls
        if self.granularity != "kernel":
            weight = torch.cat([torch.zeros_like(weight[:1]), weight[1:]])
            bias = torch.cat([torch.full_like(bias[:1], _ALWAYS), bias[1:]])
        return weight * self.slope, bias * self.slope


class FollowingGate(nn.Module):
    """Applies the decisions of another gate, which has run before.

    If one decision covers a whole trunk, the network after it has as many widths as the gate has units, and no layer
    in between needs its full number of channels.

    Args:
        leader: the gate that decides, of ``block`` or ``nested`` granularity.
        kernels: output channels of this gate's convolution.
        blocks: number of kernels of each of the leader's units; None: equal numbers, which must divide `kernels`.

    Attributes:
        granularity, units, threshold, engaged: the leader's.
    """

    def __init__(self, leader: KernelGate, kernels: int, blocks: Sequence[int] | None = None) -> None:
        super().__init__()
        unit_of = _unit_of(kernels, leader.units if blocks is None else blocks)
        if int(unit_of[-1]) + 1 != leader.units:
            raise ValueError(f"{int(unit_of[-1]) + 1} blocks for a gate of {leader.units} units")
        self._leader = (leader,)  # in a tuple, so that it remains a submodule of the other convolution only
        self.kernels = kernels
        self.register_buffer("unit_of", unit_of, persistent=False)

    @property
    def granularity(self) -> Granularity:
        """The leader's granularity."""
        return self._leader[0].granularity

    @property
    def units(self) -> int:
        """The leader's number of units."""
        return self._leader[0].units

    @property
    def threshold(self) -> float:
        """The leader's threshold."""
        return self._leader[0].threshold

    @property
    def engaged(self) -> Tensor | None:
        """The leader's decisions."""
        return self._leader[0].engaged

    def forward(self, x: Tensor) -> Tensor:
        """Return the leader's mask [N, kernels, 1, 1] of zeros and ones, whatever the values of `x`."""
        decided = self._leader[0].decided
        assert decided is not None, "the leader has not run"
        assert len(decided) == len(x), "the leader has seen other pictures"
        return decided.index_select(1, self.get_buffer("unit_of"))


def engaged_kernels(gate: KernelGate | FollowingGate) -> Tensor:
    """Return the decisions [N, kernels] of the gate's last call, with gradient; the sparsity term counts them."""
    assert gate.engaged is not None
    return gate.engaged.index_select(1, gate.get_buffer("unit_of"))


def match_layers(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that match a pattern, in their order.

    Args:
        patterns: with ``*`` and ``[...]`` as in shell patterns.
        names: of convolutions without gates.

    Raises:
        InputError: ``gate-pattern``: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                "gate-pattern",
                f"no convolution matches {pattern!r}",
                note="convolutions that are already gated do not count",
                hint=f"convolutions: {', '.join(list(names)[:8])} ...",
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def unit_sizes(
    layer: str, kernels: int, granularity: Granularity, block: int, shared: int | Sequence[float]
) -> list[int]:
    """Return the number of kernels of each unit.

    Args:
        layer: named in an error.
        kernels: of the gated convolution.
        granularity: see `KernelGate`.
        block: kernels per block, for ``block`` and ``nested``.
        shared: if not 0, the number of units that one gate has for all layers, each with an equal share of the
            kernels; or the shares at which units end, rising to 1, rounded to multiples of 8 kernels.

    Raises:
        InputError: ``gate-block``: the kernels cannot be split so.
    """
    if granularity == "kernel":
        return [1] * kernels
    if isinstance(shared, int):
        size = kernels // shared if shared else block
        if size and kernels % size == 0 and (not shared or kernels == size * shared):
            return [size] * (kernels // size)
        division = f"{shared} equal blocks" if shared else f"blocks of {block}"
    else:
        ends = [0, *(_MULTIPLE * round(kernels * share / _MULTIPLE) for share in shared)]
        sizes = [last - first for first, last in pairwise(ends)]
        if min(sizes) > 0 and ends[-1] == kernels:
            return sizes
        division = f"blocks that end at {', '.join(f'{100 * share:g} %' for share in shared)}, in steps of {_MULTIPLE}"
    raise InputError("gate-block", f"{kernels} kernels cannot be split into {division}", context={"layer": layer})


def _unit_of(kernels: int, blocks: int | Sequence[int]) -> Tensor:
    if isinstance(blocks, int):
        if kernels % blocks:
            raise ValueError(f"{kernels} kernels cannot be split into {blocks} equal blocks")
        blocks = [kernels // blocks] * blocks
    if sum(blocks) != kernels or min(blocks) < 1:
        raise ValueError(f"blocks of {', '.join(map(str, blocks))} do not sum to {kernels} kernels")
    return torch.arange(len(blocks)).repeat_interleave(torch.tensor(blocks))

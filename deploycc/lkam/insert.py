"""Insert gates into a trained PyTorch model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from deploycc.documents.document import Granularity
from deploycc.errors import InputError
from deploycc.lkam.network import ConvUnit
from deploycc.trainable.gate import FollowingGate, KernelGate, match_layers, unit_sizes

Place = Literal["conv", "norm"]
_ZERO_KEEPING = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.SiLU, nn.Mish, nn.GELU, nn.ELU, nn.Tanh)  # f(0) = 0


class GatedConv(nn.Module):
    """A convolution, optionally its BatchNorm and its activation, and the gate that multiplies the result.

    With the BatchNorm inside, engaged kernels are unchanged and idle ones are exactly 0 (also after a ReLU); without
    it, an idle kernel becomes the constant to which a later BatchNorm maps 0.

    The gate multiplies before the activation, as the exported network does. Only in training it multiplies after it:
    where f(0) = 0 the values are the same, but a ReLU has no gradient at 0, so a kernel that is off could never learn
    from the detector's loss that it is needed.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        gate: KernelGate | FollowingGate,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.gate, self.activation = conv, norm, gate, activation

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and what follows it, with idle kernels zero."""
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        mask = self.gate(x)
        result: Tensor
        if self.activation is None:
            result = y * mask
        elif self.training:
            result = self.activation(y) * mask
        else:
            result = self.activation(y * mask)
        return result


def insert_gates(
    model: nn.Module,
    patterns: Sequence[str],
    *,
    granularity: Granularity = "kernel",
    block: int = 32,
    shared: int | Sequence[float] = 0,
    hidden: int = 16,
    place: Place = "norm",
) -> list[str]:
    """Gate convolutions of a model, in place; with thresholds up to 0.6 all kernels are engaged initially.

    Args:
        model: any module whose convolutions are `torch.nn.Conv2d`.
        patterns: module names, with ``*`` and ``[...]`` as in shell patterns.
        granularity: see `KernelGate`.
        block: kernels per block, for ``block`` and ``nested``.
        shared: if not 0, a single gate at the first of the convolutions decides for all of them, ``block`` or
            ``nested``. It has this many units, each with an equal share of every convolution's kernels. Alternatively
            the shares at which units end, rising to 1, rounded to multiples of 8 kernels in each convolution.
        hidden: see `KernelGate`.
        place: where the mask multiplies: ``conv`` after the convolution and its bias, ``norm`` after the BatchNorm
            that follows it among its parent's children (after the bias if none follows).

    Returns:
        Names of the gated modules, in the model's order.

    Raises:
        InputError: a pattern matches no convolution, a convolution is depthwise or already gated, its kernels cannot
            be split into blocks, or a shared gate has ``kernel`` granularity.
    """
    if shared and granularity == "kernel":
        raise InputError("gate-shared", "a shared gate decides about blocks of kernels, not about single kernels")
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and not _inside_gate(model, n)}
    chosen = match_layers(patterns, list(convs))
    for name in chosen:
        conv = convs[name]
        if conv.groups != 1:
            raise InputError(
                "gate-grouped", "a depthwise or grouped convolution cannot be gated", context={"layer": name}
            )
    blocks = {name: unit_sizes(name, convs[name].out_channels, granularity, block, shared) for name in chosen}
    leader: KernelGate | None = None
    for name in chosen:
        parent_name, _, child = name.rpartition(".")
        parent, conv = model.get_submodule(parent_name), convs[name]
        gate: KernelGate | FollowingGate
        if leader is None or not shared:
            gate = leader = KernelGate(conv.in_channels, conv.out_channels, granularity, blocks[name], hidden)
        else:
            gate = FollowingGate(leader, conv.out_channels, blocks[name])
        following = _following(parent, child) if place == "norm" else None
        norm = None
        if following is not None:
            norm = parent.get_submodule(following)
            setattr(parent, following, nn.Identity())
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        activation = _take_activation(parent, following or child)
        setattr(parent, child, GatedConv(conv, norm, gate, activation).train(model.training))
    return chosen


def calibrate_gates(model: nn.Module, pictures: Tensor) -> None:
    """Scale every new gate to its inputs on some pictures, see `KernelGate.calibrate`."""
    hooks = [
        gate.register_forward_pre_hook(lambda gate, inputs: gate.calibrate(inputs[0])) for gate in deciding_gates(model)
    ]
    was_training = model.training
    with torch.no_grad():
        model.eval()(pictures)
    model.train(was_training)
    for hook in hooks:
        hook.remove()


def retire_units(model: nn.Module, pictures: Tensor, below: float) -> int:
    """Switch units off for good that are engaged by less than a share `below` of some pictures; return their number."""
    was_training = model.training
    with torch.no_grad():
        model.eval()(pictures)
    model.train(was_training)
    count = 0
    for gate in deciding_gates(model):
        assert gate.engaged is not None
        rare = gate.engaged.mean(0) < below
        gate.retire(rare)
        count += int(rare.sum())
    return count


def impose_units(model: nn.Module, pictures: int, seed: int | None) -> None:
    """Make every gate engage a random number of units per picture, at least one; seed None lets gates decide again."""
    random = None if seed is None else torch.Generator().manual_seed(seed)
    for gate in deciding_gates(model):
        if random is None:
            gate.imposed = None
        else:
            counts = torch.randint(1, gate.units + 1, (pictures, 1), generator=random)
            gate.imposed = (torch.arange(gate.units) < counts).float()


def parameters_before_gates(model: nn.Module, picture: Tensor) -> list[nn.Parameter]:
    """Return the parameters that the inputs of the gates depend on.

    Args:
        model: with gates.
        picture: an input of the model.
    """
    read: list[Tensor] = []
    hooks = [gate.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])) for gate in deciding_gates(model)]
    was_training = model.training
    model.eval()(picture)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    parameters, learned = list(model.parameters()), [maps.sum() for maps in read if maps.requires_grad]
    if not learned:  # the gates read the picture itself
        return []
    gradients = torch.autograd.grad(learned, parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def hold_statistics(model: nn.Module, held: Sequence[nn.Parameter]) -> None:
    """Put the BatchNorms of these parameters into evaluation mode, so that their statistics no longer change."""
    held_ids = {id(parameter) for parameter in held}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and id(module.weight) in held_ids:
            module.eval()


def gated_convs(model: nn.Module) -> Iterator[tuple[str, GatedConv]]:
    """Yield name and module of every gated convolution, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, GatedConv):
            yield name, module


def gates_by_layer(model: nn.Module) -> dict[str, KernelGate | FollowingGate]:
    """Return the gate of every gated convolution, in the model's order."""
    return {name: module.gate for name, module in gated_convs(model)}


def deciding_gates(model: nn.Module) -> list[KernelGate]:
    """Return the gates that decide themselves, in the model's order: all but `FollowingGate`."""
    return [module.gate for _, module in gated_convs(model) if isinstance(module.gate, KernelGate)]


def _take_activation(parent: nn.Module, child: str) -> nn.Module | None:
    """Take the activation after a child out of its parent, if it keeps zeros; None: nothing was taken."""
    if not isinstance(parent, (nn.Sequential, ConvUnit)):  # others may call their children in any order, and again
        return None
    names = [name for name, _ in parent.named_children()]
    later = names[names.index(child) + 1 :]
    activation = parent.get_submodule(later[0]) if later else None
    if not isinstance(activation, _ZERO_KEEPING):
        return None
    setattr(parent, later[0], nn.Identity())
    return activation


def _following(parent: nn.Module, child: str) -> str | None:
    names = [name for name, _ in parent.named_children()]
    later = names[names.index(child) + 1 :]
    return later[0] if later and isinstance(parent.get_submodule(later[0]), nn.BatchNorm2d) else None


def _inside_gate(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    return any(isinstance(model.get_submodule(".".join(parts[:k])), GatedConv) for k in range(1, len(parts)))

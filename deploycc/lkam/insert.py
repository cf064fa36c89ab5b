"""Putting gates around the convolutions of a trained PyTorch model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from deploycc.documents.document import Granularity
from deploycc.errors import InputError
from deploycc.lkam.gate import FollowingGate, KernelGate

Place = Literal["conv", "norm"]
_STEP = 8  # channels that vector units and tensor cores take at once


class GatedConv(nn.Module):
    """A convolution, its BatchNorm where there is one, and the gate that multiplies the result.

    With BatchNorm inside, an engaged kernel gives what it gave before and any other gives exactly 0 (also after a
    ReLU); without, an idle kernel becomes the constant that a later BatchNorm makes of 0.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, gate: KernelGate | FollowingGate) -> None:
        super().__init__()
        self.conv, self.norm, self.gate = conv, norm, gate

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution, with idle kernels zero."""
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        masked: Tensor = y * self.gate(x)
        return masked


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
    """Gate convolutions of a model, in place; with thresholds up to 0.6 everything is engaged at first.

    Args:
        model: any module whose convolutions are `torch.nn.Conv2d`.
        patterns: module names, with ``*`` and ``[...]`` as in shell patterns.
        granularity: see `KernelGate`.
        block: kernels per block, for ``block`` and ``nested``.
        shared: where not 0, one gate in front of the first of the convolutions decides for all of them, and has this
            many units, each an equal share of every convolution's kernels; ``block`` or ``nested``. Or the shares
            at which units end, rising to 1: each convolution takes the nearest multiples of 8 kernels.
        hidden: see `KernelGate`.
        place: where the mask multiplies: ``conv`` after the convolution and its bias, ``norm`` after the BatchNorm
            that follows it among its parent's children (after the bias where none follows).

    Returns:
        Names of the gated modules, in the model's order.

    Raises:
        InputError: a pattern matches no convolution, a convolution is depthwise or already gated, its kernels cannot
            be split into blocks, or kernels that each have their own gate shall share one.
    """
    if shared and granularity == "kernel":
        raise InputError("gate-shared", "a shared gate decides about blocks of kernels, not about each kernel")
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and not _inside_gate(model, n)}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in convs):
            raise InputError(
                "gate-pattern",
                f"no convolution is called {pattern!r}",
                note="convolutions that are gated already do not count",
                hint=f"convolutions: {', '.join(list(convs)[:8])} ...",
            )
    chosen = [name for name in convs if any(fnmatchcase(name, p) for p in patterns)]
    for name in chosen:
        conv = convs[name]
        if conv.groups != 1:
            raise InputError(
                "gate-grouped", "a depthwise or grouped convolution cannot be gated", context={"layer": name}
            )
    blocks = {name: _blocks(name, convs[name].out_channels, granularity, block, shared) for name in chosen}
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
        setattr(parent, child, GatedConv(conv, norm, gate).train(model.training))
    return chosen


def settle_gates(model: nn.Module, pictures: Tensor) -> None:
    """Fit every new gate to what its convolution sees of some pictures, see `KernelGate.settle`."""
    hooks = [
        gate.register_forward_pre_hook(lambda gate, inputs: gate.settle(inputs[0])) for gate in deciding_gates(model)
    ]
    was_training = model.training
    with torch.no_grad():
        model.eval()(pictures)
    model.train(was_training)
    for hook in hooks:
        hook.remove()


def retire_units(model: nn.Module, pictures: Tensor, below: float) -> int:
    """Switch the units off for good that fewer than a share `below` of some pictures engage; return how many."""
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
    """Let every gate engage a random number of units for each picture, at least one; None: let them decide again."""
    random = None if seed is None else torch.Generator().manual_seed(seed)
    for gate in deciding_gates(model):
        if random is None:
            gate.imposed = None
        else:
            counts = torch.randint(1, gate.units + 1, (pictures, 1), generator=random)
            gate.imposed = (torch.arange(gate.units) < counts).float()


def in_front_of_gates(model: nn.Module, picture: Tensor) -> list[nn.Parameter]:
    """Parameters that decide what the gates look at: those that the maps they read depend on.

    Args:
        model: with gates.
        picture: an input of it.
    """
    seen: list[Tensor] = []
    hooks = [gate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for gate in deciding_gates(model)]
    was_training = model.training
    model.eval()(picture)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    parameters, learned = list(model.parameters()), [maps.sum() for maps in seen if maps.requires_grad]
    if not learned:  # they look at the picture
        return []
    found = torch.autograd.grad(learned, parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, found, strict=True) if gradient is not None]


def hold_statistics(model: nn.Module, held: Sequence[nn.Parameter]) -> None:
    """Let the BatchNorms of these parameters normalise as they do after training, and count no more batches."""
    known = {id(parameter) for parameter in held}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and id(module.weight) in known:
            module.eval()


def gated_convs(model: nn.Module) -> Iterator[tuple[str, GatedConv]]:
    """Name and module of every gated convolution, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, GatedConv):
            yield name, module


def deciding_gates(model: nn.Module) -> list[KernelGate]:
    """The gates that decide, in the model's order: all but those that follow another."""
    return [module.gate for _, module in gated_convs(model) if isinstance(module.gate, KernelGate)]


def _blocks(layer: str, kernels: int, granularity: Granularity, block: int, shared: int | Sequence[float]) -> list[int]:
    """Kernels of each unit."""
    if granularity == "kernel":
        return [1] * kernels
    if isinstance(shared, int):
        size = kernels // shared if shared else block
        if size and kernels % size == 0 and (not shared or kernels == size * shared):
            return [size] * (kernels // size)
        into = f"{shared} equal blocks" if shared else f"blocks of {block}"
    else:
        ends = [0, *(_STEP * round(kernels * share / _STEP) for share in shared)]
        sizes = [last - first for first, last in pairwise(ends)]
        if min(sizes) > 0 and ends[-1] == kernels:
            return sizes
        into = f"blocks that end at {', '.join(f'{100 * share:g} %' for share in shared)}, in steps of {_STEP}"
    raise InputError("gate-block", f"{kernels} kernels cannot be split into {into}", context={"layer": layer})


def _following(parent: nn.Module, child: str) -> str | None:
    names = [name for name, _ in parent.named_children()]
    later = names[names.index(child) + 1 :]
    return later[0] if later and isinstance(parent.get_submodule(later[0]), nn.BatchNorm2d) else None


def _inside_gate(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    return any(isinstance(model.get_submodule(".".join(parts[:k])), GatedConv) for k in range(1, len(parts)))

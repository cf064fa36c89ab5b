"""What the gated convolutions of a PyTorch model cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deploycc.lkam.insert import gated_convs


def conv_macs(model: nn.Module, picture: Tensor) -> dict[str, int]:
    """Count the MACs of each gated convolution for one picture [1, C, H, W], all kernels engaged."""
    counts: dict[str, int] = {}
    hooks = []
    for name, module in gated_convs(model):

        def count(conv: nn.Module, _inputs: object, output: Tensor, name: str = name) -> None:
            weight = conv.get_parameter("weight")
            counts[name] = math.prod(output.shape[1:]) * math.prod(weight.shape[1:])

        hooks.append(module.conv.register_forward_hook(count))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(picture)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return counts

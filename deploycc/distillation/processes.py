"""Several processes that train one network, as `torchrun` starts them; alone, nothing here changes a value.

Each process takes its part of a batch. Terms of the loss are sums divided by counts of the whole batch, so that the sum
of all processes' gradients is the gradient that one process would have.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from deploycc.errors import InputError

_T = TypeVar("_T")


def join(batch: int) -> None:
    """Meet the other processes, if `torchrun` started any.

    Args:
        batch: pictures per step of all processes together.

    Raises:
        InputError: ``train-processes``: there are more processes than pictures.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > batch:
        raise InputError(
            "train-processes",
            f"{count} processes cannot share {batch} pictures per step",
            hint="fewer processes, or a larger --batch",
        )
    if count > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
        atexit.register(distributed.destroy_process_group)  # its threads, left running, may abort the process


def is_first() -> bool:
    """Return whether this process is the one that writes and speaks."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def part_of(batch: Sequence[_T]) -> Sequence[_T]:
    """Return what this process does of a batch."""
    if not distributed.is_initialized():
        return batch
    return batch[distributed.get_rank() :: distributed.get_world_size()]


def total(values: Tensor) -> Tensor:
    """Return the sum over all processes, without gradient."""
    if not distributed.is_initialized():
        return values
    result = values.detach().clone()
    distributed.all_reduce(result)
    return result


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the sum of all gradients."""
    if not distributed.is_initialized():
        return
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)


def said_by_first(value: float) -> float:
    """Return what the first process has: clocks differ."""
    if not distributed.is_initialized():
        return value
    result = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(result, 0)
    return float(result)

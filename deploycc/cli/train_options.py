"""Options that the training commands share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from deploycc.cli.model_options import comma_list
from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.documents.document import Granularity


def read_blocks(shared: str | None) -> int | tuple[float, ...]:
    """Read ``4`` as a number of blocks, and ``40,60,80,100`` as the shares where they end.

    Raises:
        InputError: ``train-shared``.
    """
    if shared is None:
        return 0
    try:
        numbers = [float(part) for part in comma_list(shared)]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0].is_integer() and numbers[0] >= 2:
        return int(numbers[0])
    if len(numbers) > 1 and all(low < high for low, high in pairwise((0, *numbers))) and numbers[-1] == 100:
        return tuple(number / 100 for number in numbers)
    raise InputError(
        "train-shared",
        f"--shared {shared} is neither a number of blocks from 2 on nor rising percentages up to 100",
        hint="--shared 4 or --shared 40,60,80,100",
    )


def read_granularity(text: str) -> Granularity:
    """Read what one decision of a gate switches.

    Raises:
        InputError: ``train-gates``.
    """
    from deploycc.workflows.train import GRANULARITIES

    if text not in GRANULARITIES:
        raise InputError("train-gates", f"{text} is not a kind of gate", hint="--gates kernel, block or nested")
    return text  # type: ignore[return-value]

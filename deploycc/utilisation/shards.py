"""Readings of many pictures, taken by several processes or machines, and handed on one by one in their order.

Sums of floating-point numbers depend on their order, so workers return readings, which are then added one after the
other: the result is that of one process to the last bit.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future

import numpy as np
from numpy.typing import NDArray

from deploycc.detector.picture_list import PictureList
from deploycc.detector.pictures import prepare
from deploycc.errors import MeasureError
from deploycc.utilisation.probe import Probe, Reading

_SHARD = 8
"""Pictures that a worker gets at once, beside the network."""

_MOST_WAITING = 32
"""Shards that are handed out or done and not yet summed up: pictures are read only so far ahead."""


def readings(probe: Probe, pictures: PictureList, first: int, executor: Executor | None) -> Iterator[list[Reading]]:
    """Yield the readings of each picture, in order.

    Args:
        probe: what reads them.
        pictures: to read.
        first: number of the first of them.
        executor: of ``concurrent.futures``, whose workers run the network; None: this process does.

    Raises:
        PictureError: a picture cannot be read.
        MeasureError: the network does not run, or ``worker-lost``.
    """
    if executor is None:
        for number in range(first, len(pictures.names)):
            yield probe.read(prepare(pictures.read(number), probe.input), pictures.names[number])
        return
    waiting: collections.deque[Future[list[list[Reading]]]] = collections.deque()
    starts = iter(range(first, len(pictures.names), _SHARD))
    try:
        while True:
            while len(waiting) < _MOST_WAITING and (start := next(starts, None)) is not None:
                names = pictures.names[start : start + _SHARD]
                shard = [pictures.read(start + number) for number in range(len(names))]
                waiting.append(executor.submit(read_shard, probe, shard, names))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenExecutor as error:
        raise MeasureError(
            "worker-lost",
            "a process that measured pictures has ended without a word",
            context={"network": probe.network},
            note=str(error) or None,
            hint="where memory ran out, use fewer of them: `jobs=1`",
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def read_shard(probe: Probe, pictures: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> list[list[Reading]]:
    """Return the readings of each picture; what a worker does."""
    return [probe.read(prepare(picture, probe.input), name) for picture, name in zip(pictures, names, strict=True)]

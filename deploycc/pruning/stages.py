"""Run pictures through a network step by step, while the weights of later steps still change."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.graph.edit import static_shape
from deploycc.pruning.responses import Responses, Tensors, frontier

_KEPT_BYTES = 4 << 20  # larger tensors, which only the first layers have, are recomputed

Read = Callable[[int], NDArray[np.float32]]


class Stages:
    """A network, with files of the tensors from which its next step starts, for all pictures.

    Weights before a tensor that a step has returned must not change afterwards.
    """

    def __init__(self, detector: Detector, read: Read, count: int, folder: Path) -> None:
        """Start at the pictures.

        Args:
            detector: its graph may change after the tensors returned so far.
            read: returns the input tensor of a picture.
            count: number of pictures.
            folder: an empty folder for the tensors.
        """
        self._detector, self._read, self._count, self._folder = detector, read, count, folder
        self._numbers: dict[str, int] = {}
        self._next = 0

    def run(self, wanted: Collection[str], later: Collection[str]) -> Iterator[Tensors]:
        """Yield tensors of every picture, in order; the iterator must be exhausted.

        Args:
            wanted: names of the tensors.
            later: names of tensors that later steps need.
        """
        graph = self._detector.graph
        step = Responses(self._detector.name, graph, wanted, self._numbers)
        kept = {name: self._next + number for number, name in enumerate(self._small(wanted))}
        self._next += len(kept)
        for picture in range(self._count):
            values = step.run({name: self._load(name, picture) for name in step.inputs}, picture)
            for name, number in kept.items():
                np.save(self._file(number, picture), values[name])
            yield values
        self._numbers.update(kept)
        needed = frontier(graph, later, self._numbers)
        for name in [name for name in self._numbers if name not in needed]:
            self._forget(self._numbers.pop(name))

    def _small(self, names: Collection[str]) -> Sequence[str]:
        tensors = self._detector.graph.tensors()
        sizes = {name: 4 * math.prod(static_shape(tensors[name]) or (_KEPT_BYTES,)) for name in names}
        new = [name for name in names if name not in self._numbers and name != self._detector.input.name]
        return [name for name in new if sizes[name] <= _KEPT_BYTES]

    def _load(self, name: str, picture: int) -> NDArray[np.float32]:
        if name not in self._numbers:
            return self._read(picture)
        values: NDArray[np.float32] = np.load(self._file(self._numbers[name], picture))
        return values

    def _file(self, number: int, picture: int) -> Path:
        return self._folder / f"{number}-{picture}.npy"

    def _forget(self, number: int) -> None:
        for picture in range(self._count):
            self._file(number, picture).unlink()

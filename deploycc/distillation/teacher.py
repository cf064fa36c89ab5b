"""What the teacher says of pictures, by ONNX Runtime, which is faster than training's executor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploycc.cpu_session import open_session, run_session
from deploycc.detector import Detector
from deploycc.distillation.samples import Samples
from deploycc.graph.export import to_onnx

_MIB = 1024 * 1024

Answer = tuple[NDArray[np.floating], ...]


class Teacher:
    """Answers for the views of pictures, and remembers the last answers as far as the memory goes.

    Args:
        detector: the trained network.
        tensors: names of the tensors to answer with.
        samples: pictures.
        memory_mib: for answers that are remembered.
        threads: of ONNX Runtime.
    """

    def __init__(
        self, detector: Detector, tensors: Sequence[str], samples: Samples, memory_mib: int, threads: int = 1
    ) -> None:
        graph = detector.graph.copy()
        self._input, self._tensors = detector.input.name, tuple(tensors)
        self._computed = [name for name in dict.fromkeys(self._tensors) if name != self._input]
        known = graph.tensors()
        graph.outputs = [known[name] for name in self._computed]
        for tensor in graph.outputs:
            tensor.dtype = tensor.dtype or np.float32
        graph.cleanup(recurse_subgraphs=False).toposort()
        self._context = {"network": detector.name}
        self._session = open_session(to_onnx(graph), threads, self._context)
        self._samples, self._left = samples, memory_mib * _MIB
        self._known: dict[int, Answer] = {}

    def answers(self, views: Sequence[int]) -> tuple[Tensor, ...]:
        """Return each of the tensors for a batch of views, in 32 bits, with the views as the first dimension."""
        rows = [self._answer(view) for view in views]
        return tuple(torch.from_numpy(np.concatenate(parts).astype(np.float32)) for parts in zip(*rows, strict=True))

    def _answer(self, view: int) -> Answer:
        if view in self._known:
            return self._known[view]
        picture = self._samples.view(view)
        outputs = run_session(self._session, self._computed, {self._input: picture}, self._context)
        values = {self._input: picture, **dict(zip(self._computed, outputs, strict=True))}
        answer = tuple(_halved(values[name]) for name in self._tensors)
        self._remember(view, answer)
        return answer

    def _remember(self, view: int, answer: Answer) -> None:
        """Keep an answer; what was answered first is forgotten first."""
        self._left -= _size(answer)
        self._known[view] = answer
        while self._left < 0:
            self._left += _size(self._known.pop(next(iter(self._known))))


def _size(answer: Answer) -> int:
    return sum(array.nbytes for array in answer)


def _halved(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """As float16 where that can hold the values: a picture's answer takes half the memory."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else values

"""Networks in a row in ONNX Runtime: a first one decides which of several second ones runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from deploycc.cpu_session import open_session

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


class SessionsInARow:
    """A network that decides, and those that may follow it, on this machine's CPU."""

    def __init__(
        self, models: Iterable[onnx.ModelProto], decision: str, threads: int, context: Mapping[str, object]
    ) -> None:
        """Load all networks, one after another, so that of an iterator's only one is in memory as a file.

        Args:
            models: the first one, whose only input is the picture, then each second one, which reads outputs of the
                first, and the picture where it needs that.
            decision: output of the first, [1]: number of the second one that is to run.
            threads: of each.
            context: of an error, naming the network.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        self._first, *self._second = [open_session(model, threads, context) for model in models]
        self._decision, self._picture = decision, self._first.get_inputs()[0].name
        self._made = [value.name for value in self._first.get_outputs()]
        self._reads = [[value.name for value in session.get_inputs()] for session in self._second]
        self._outputs = [value.name for value in self._second[0].get_outputs()]

    @property
    def count(self) -> int:
        """Number of second networks."""
        return len(self._second)

    def run(self, picture: NDArray[np.float32], number: int | None = None) -> tuple[int, dict[str, NDArray[Any]]]:
        """Run a prepared picture.

        Args:
            picture: NCHW.
            number: of the second network, to time one that was not decided on: its outputs are not those of the whole
                then. None: as decided.

        Returns:
            The number of the second network that ran, and its outputs by name.
        """
        tensors: dict[str, Any] = {self._picture: picture}
        tensors |= zip(self._made, self._first.run(None, {self._picture: picture}), strict=True)
        chosen = int(tensors[self._decision][0]) if number is None else number
        feeds = {name: tensors[name] for name in self._reads[chosen]}
        return chosen, dict(zip(self._outputs, self._second[chosen].run(None, feeds), strict=True))

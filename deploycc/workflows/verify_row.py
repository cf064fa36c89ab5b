"""Running the files of networks in a row, as the agent will: for their verification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.documents.plan import Network
    from deploycc.passes.options import Options


class RowRunner:
    """Networks in a row, read back from their files; of the tensors of a detector it has those that all second ones do.

    Attributes:
        names: of these tensors.
    """

    def __init__(self, reference: Detector, network: Network, folder: Path, options: Options, threads: int) -> None:
        """Read the files.

        Args:
            reference: what the row is compared with.
            network: of the plan, with a row.
            folder: that holds its files.
            options: of the passes.
            threads: inside one operator.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        import onnx_graphsurgeon as graphsurgeon

        from deploycc.graph.session import GraphRunner, cut_at
        from deploycc.verification.comparison import comparable_tensors

        assert network.row is not None
        self._row, self._input = network.row, network.input.name
        first = _read(folder / network.file, options)
        second = [_read(folder / each.file, options) for each in network.row.second]
        tensors = [graph.tensors() for graph in second]
        self.names = [
            name
            for name in comparable_tensors(reference.graph)
            if all(isinstance(each.get(name), graphsurgeon.Variable) and each[name].inputs for each in tensors)
        ]
        context = {"network": reference.name}
        self._first = GraphRunner(first, threads, context)
        self._second = [GraphRunner(cut_at(graph, self.names), threads, context) for graph in second]

    def values(self, picture: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return the tensors for a prepared picture."""
        made = {self._input: picture, **self._first({self._input: picture})}
        return self._second[int(made[self._row.decision][0])](made)


def _read(file: Path, options: Options) -> gs.Graph:
    import onnx
    import onnx_graphsurgeon as graphsurgeon

    from deploycc.precision.comparison import store_as_half

    graph = graphsurgeon.import_onnx(onnx.load(file))
    # ONNX Runtime drops the Casts that would round
    return store_as_half(graph) if options.typed and options.precision == "fp16" else graph

"""What a trained ONNX file computes by itself: its own bytes in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.errors import MeasureError
from deploycc.files import sha256_of
from deploycc.graph.edit import producer
from deploycc.graph.session import GraphRunner

Array = NDArray[Any]


class CannotRun(Exception):  # noqa: N818 - not an error of the user: the network is verified without the file
    """The file cannot be run as it is; the message says why, as the end of a sentence."""


class FileOutputs:
    """The file that a detector was imported from, ready to give the values of the detector's tensors.

    The importer keeps tensor names. What it adds after the file's last tensor (a Transpose, a Reshape) is run too.
    """

    def __init__(self, detector: Detector, tensors: Sequence[str], threads: int) -> None:
        """Load the file.

        Args:
            detector: as imported, not changed since.
            tensors: of its graph, whose values are wanted.
            threads: inside one operator.

        Raises:
            CannotRun: there is no ONNX file, it has changed, or ONNX Runtime or this class does not understand it.
        """
        model = _read(detector)
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in weights]
        if len(inputs) != 1:
            raise CannotRun(f"it has {len(inputs)} inputs")
        self._input = inputs[0]
        written = {name for node in graph.node for name in node.output if name}
        tails = [_Tail(detector.graph, name, written) for name in tensors]
        self._context = {"file": detector.source.files[0]}
        del graph.output[:]
        wanted = dict.fromkeys(name for tail in tails for name in tail.entries)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        try:
            self._session = open_session(model, threads, self._context)
        except MeasureError as error:
            raise CannotRun(f"ONNX Runtime cannot run the file itself ({error.note})") from None
        self._wanted = list(wanted)
        self._tails = [tail.open(threads, self._context) for tail in tails]

    def __call__(self, picture: NDArray[np.float32]) -> dict[str, Array]:
        """Return the values for one input, in the layout of the detector.

        Raises:
            CannotRun: ONNX Runtime fails while it runs the file.
        """
        try:
            values = self._session.run(self._wanted, {self._input.name: _as_input(picture, self._input)})
        except Exception as error:  # ONNX Runtime's exceptions share no class
            raise CannotRun(f"ONNX Runtime fails while it runs the file ({str(error).splitlines()[0]})") from None
        named = dict(zip(self._wanted, values, strict=True))
        return {tail.name: tail(named) for tail in self._tails}


def _read(detector: Detector) -> onnx.ModelProto:
    source = detector.source
    if source.format != "onnx" or not source.files:
        raise CannotRun("it is not an ONNX file")
    path = Path(source.files[0])
    recorded = source.file_sha256[0] if source.file_sha256 else source.sha256
    if not path.is_file() or sha256_of(path) != recorded:
        raise CannotRun("it is not there any more as it was")
    model = onnx.load(path)
    model.ir_version = min(model.ir_version, onnx.IR_VERSION)
    return model


def _as_input(picture: NDArray[np.float32], described: onnx.ValueInfoProto) -> Array:
    """Convert a picture to the layout and type of the file's input, of which the importer changes both."""
    tensor_type = described.type.tensor_type
    dims = [dim.dim_value for dim in tensor_type.shape.dim]
    channels = picture.shape[1]
    if len(dims) == 4 and dims[1] != channels and dims[3] == channels:
        picture = np.ascontiguousarray(picture.transpose(0, 2, 3, 1))
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type))
    return np.rint(picture).astype(dtype) if dtype.kind in "iu" else picture.astype(dtype)


class _Tail:
    """The part of an imported graph between the file's own tensors and one of the graph's."""

    def __init__(self, graph: gs.Graph, name: str, written: Iterable[str]) -> None:
        self.name = name
        self.entries: list[str] = []
        self._run: GraphRunner | None = None
        self._graph: gs.Graph | None = None
        tensors = graph.tensors()
        if name in written:
            self.entries = [name]
            return
        queue: list[gs.Tensor] = [tensors[name]]
        for tensor in queue:  # grows while it is walked
            if isinstance(tensor, gs.Constant) or tensor.is_empty() or tensor.name in self.entries:
                continue
            writer = producer(tensor)
            if tensor.name in written:
                self.entries.append(tensor.name)
            elif writer is None or any(writer.subgraphs()):
                raise CannotRun(f"the file has no tensor {name}")
            else:
                queue += writer.inputs
        clone = graph.copy()
        copies = clone.tensors()
        for entry in self.entries:
            copies[entry].inputs.clear()
        clone.inputs, clone.outputs = [copies[entry] for entry in self.entries], [copies[name]]
        self._graph = clone.cleanup()

    def open(self, threads: int, context: dict[str, str]) -> _Tail:
        if self._graph is not None:
            self._types = {tensor.name: np.dtype(tensor.dtype) for tensor in self._graph.inputs}
            self._run = GraphRunner(self._graph, threads, context)
        return self

    def __call__(self, values: dict[str, Array]) -> Array:
        if self._run is None:
            return values[self.name]
        return self._run({name: values[name].astype(dtype) for name, dtype in self._types.items()})[self.name]

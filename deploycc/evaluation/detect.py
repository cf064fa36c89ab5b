"""Run a detector on a picture with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deploycc.cpu_session import open_session, run_session
from deploycc.detector import Detector
from deploycc.detector.pictures import prepare
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.nms import Detections
from deploycc.evaluation.plugin_tail import plugin_tail
from deploycc.graph.export import to_onnx

THREADS = 2


class OnnxRuntimeDetector:
    """A detector in an ONNX Runtime session on the CPU.

    Attributes:
        detector: the detector; raw heads are decoded here, in-graph detections are only unpacked.
        session: the ONNX Runtime session.
    """

    def __init__(self, detector: Detector, *, threads: int = THREADS) -> None:
        """Load the detector's graph.

        Args:
            detector: its graph may only contain operators that ONNX Runtime knows, but for a TensorRT plugin at its
                end: what that would do is done here.
            threads: number of threads within an operator; operators run one after another.

        Raises:
            MeasureError: ONNX Runtime refuses the network.
        """
        self.detector = detector
        self._tail = plugin_tail(detector)
        graph = detector.graph if self._tail is None else self._tail.detector.graph
        self.session = open_session(to_onnx(graph), threads, {"network": detector.name})
        self._names = [output.name for output in self.session.get_outputs()]

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return the network's outputs by name for one input tensor, shape ``detector.input.shape``.

        Where it ends in a plugin, these are the plugin's inputs.

        Raises:
            MeasureError: ``onnxruntime-fails``.
        """
        context = {"network": self.detector.name}
        outputs = run_session(self.session, None, {self.detector.input.name: tensor}, context)
        return dict(zip(self._names, outputs, strict=True))

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        """Detect objects in a picture, [height, width, 3] uint8, red first.

        Raises:
            ModelError: the detector's outputs cannot be read as detections.
        """
        return self.read(self.run(prepare(picture, self.detector.input)))

    def read(self, outputs: Mapping[str, NDArray[np.generic]]) -> Detections:
        """Return the detections in what `run` returned.

        Raises:
            ModelError: the detector's outputs cannot be read as detections.
        """
        return read_detections(self.detector, outputs) if self._tail is None else self._tail.read(outputs)

"""Running a detector on a picture with ONNX Runtime: prepare, run, read."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import MeasureError
from deploycc.evaluate.decode import read_detections
from deploycc.evaluate.nms import Detections
from deploycc.pictures import prepare

THREADS = 2


class OnnxRuntimeDetector:
    """A detector in an ONNX Runtime session on the CPU.

    Attributes:
        detector: what runs: raw heads are decoded here, in-graph detections are only unpacked.
        session: the ONNX Runtime session.
    """

    def __init__(self, detector: Detector, *, threads: int = THREADS) -> None:
        """Load the detector's graph.

        Args:
            detector: its graph must hold operators that ONNX Runtime knows: no TensorRT plugin.
            threads: inside one operator; operators run one after another.

        Raises:
            MeasureError: ONNX Runtime refuses the network.
        """
        self.detector = detector
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads spin while a picture runs, for speed, and stop when it ends, for whatever else needs the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        model = gs.export_onnx(detector.graph).SerializeToString()
        try:
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no class
            raise MeasureError(
                "onnxruntime-refuses",
                "ONNX Runtime cannot load the network",
                context={"network": detector.name},
                note=str(error).splitlines()[0],
            ) from None
        self._names = [output.name for output in self.session.get_outputs()]

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return the network's outputs by name for one input tensor, shape ``detector.input.shape``."""
        outputs = self.session.run(None, {self.detector.input.name: tensor})
        return dict(zip(self._names, outputs, strict=True))

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        """Find objects in a picture, [height, width, 3] uint8, red first.

        Raises:
            ModelError: the detector's outputs cannot be read as detections.
        """
        return read_detections(self.detector, self.run(prepare(picture, self.detector.input)))

"""Writing a network as Caffe: prototxt and caffemodel, with layers of stock SSD-Caffe and TensorRT's parser.

The optimisation tool of DRIVE PX 2 reads nothing else. Fold BatchNorm and constants before. A node that Caffe cannot
express is refused by name. `save` writes the bare network; `save_with_detection` adds PriorBox and DetectionOutput.
"""

from __future__ import annotations

from pathlib import Path

from deploycc.detector import Detector
from deploycc.exporters.caffe import elementwise, layout, spatial
from deploycc.exporters.caffe.caffemodel import write_caffemodel
from deploycc.exporters.caffe.prototxt import to_prototxt
from deploycc.exporters.caffe.ssd import save_with_detection
from deploycc.exporters.caffe.writer import Writer
from deploycc.files import replacing

__all__ = ["elementwise", "layout", "save", "save_with_detection", "spatial"]


def save(detector: Detector, prototxt: Path, caffemodel: Path) -> None:
    """Write a detector with raw heads, without its priors and suppression.

    Args:
        detector: FP32, static shapes, batch 1; graph in topological order.
        prototxt: file to write.
        caffemodel: file to write; both files are complete or neither exists.

    Raises:
        ModelError: ``caffe-cannot-express``, with the node and the reason.
        ArtefactError: ``file-unwritable``.
    """
    writer = Writer([tensor.name for tensor in detector.graph.outputs])
    shape = {"shape": {"dim": list(detector.graph.inputs[0].shape)}}
    writer.layer("input", "Input", [], [detector.input.name], {"input_param": shape})
    for node in detector.graph.nodes:
        writer.node(node)
    name = detector.name
    with replacing(prototxt) as text, replacing(caffemodel) as weights:
        text.write_text(to_prototxt({"name": name, "layer": writer.layers}), encoding="utf-8")
        with weights.open("wb") as stream:
            write_caffemodel(stream, name, writer.weights)

"""A small SSD network with decoding inside, and what is added to such networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from ssd_tails import Tail, grid_priors

from deploycc.detector import Detector
from deploycc.importers import onnx_file

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
VARIANCES = np.tile(np.array([0.1, 0.1, 0.2, 0.2], dtype=np.float32), (len(PRIORS), 1))
TAIL = Tail(grid=(3, 4), centres=PRIORS, variances=VARIANCES)


def load(model: onnx.ModelProto, folder: Path) -> Detector:
    path = folder / "tail.onnx"
    onnx.save(model, path)
    return onnx_file.load(path)


def codes(detector: Detector) -> set[str]:
    return {note.code for note in detector.notes}


def add(model: onnx.ModelProto, op: str, inputs: list[str], output: str, **attrs: object) -> None:
    model.graph.node.append(onnx.helper.make_node(op, inputs, [output], **attrs))


def constant(model: onnx.ModelProto, name: str, values: object, dtype: type = np.float32) -> str:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
    return name


def give(model: onnx.ModelProto, name: str, shape: list[int | str], kind: int = onnx.TensorProto.FLOAT) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))

"""Teacher and student are compared prior by prior, in whatever shape a network has its scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc import load  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.detector.picture_list import PictureList  # noqa: E402
from deploycc.distillation.loss import Loss  # noqa: E402
from deploycc.distillation.pair import Pair  # noqa: E402
from deploycc.distillation.samples import LEAST_PICTURES, Samples  # noqa: E402


def with_scores_as_rows(detector: Detector) -> Detector:
    """Softmax over a matrix whose rows are priors, as operator sets before 13 compute it."""
    graph = detector.graph.copy()
    (softmax,) = (node for node in graph.nodes if node.op == "Softmax")
    logits, scores = softmax.inputs[0], softmax.outputs[0]
    rows, soft = (gs.Variable(name, np.float32, tuple(logits.shape[1:])) for name in ("rows", "soft"))
    shape = gs.Constant("batch_shape", np.array(logits.shape, np.int64))
    softmax.inputs, softmax.outputs, softmax.attrs["axis"] = [rows], [soft], 1
    graph.nodes += [
        gs.Node("Flatten", "flat", {"axis": 2}, [logits], [rows]),
        gs.Node("Reshape", "batch", {}, [soft, shape], [scores]),
    ]
    return replace(detector, graph=graph.toposort())


def louder(detector: Detector) -> Detector:
    graph = detector.graph.copy()
    last = next(node for node in reversed(graph.nodes) if node.op == "Conv")
    last.inputs[1] = gs.Constant("louder", last.inputs[1].values * np.float32(2))
    return replace(detector, graph=graph)


def loss(teacher: Detector) -> Loss:
    pictures = [np.random.default_rng(n).integers(0, 256, (40, 40, 3), np.uint8) for n in range(LEAST_PICTURES)]
    noise = PictureList("noise", tuple(map(str, range(LEAST_PICTURES))), "0" * 64, pictures.__getitem__)
    pair = Pair(louder(teacher), teacher, Samples(noise, teacher.input, 1), 0, 1.0)
    with torch.no_grad():
        result: Loss = pair.loss((0, 1, 2), False)
    return result


def test_scores_of_a_batch_may_be_rows_of_a_matrix() -> None:
    plain = load("street_ssd")
    expected, found = loss(plain), loss(with_scores_as_rows(plain))
    assert float(expected.total) > 1e-3
    assert float(found.scores) == pytest.approx(float(expected.scores), rel=1e-4)
    assert float(found.locations) == pytest.approx(float(expected.locations), rel=1e-4)

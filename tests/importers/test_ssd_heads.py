from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from ssd_tails import Tail, build, grid_priors, to_corners
from strategies import ssd_tails

from deploycc.detector import Detector
from deploycc.evaluate.decode import decode_boxes
from deploycc.importers import onnx_file

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
VARIANCES = np.tile(np.array([0.1, 0.1, 0.2, 0.2], dtype=np.float32), (len(PRIORS), 1))
TAIL = Tail(grid=(3, 4), centres=PRIORS, variances=VARIANCES)


def run(model: onnx.ModelProto, picture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"data": picture}), strict=True))


def load(model: onnx.ModelProto, folder: Path) -> Detector:
    path = folder / "tail.onnx"
    onnx.save(model, path)
    return onnx_file.load(path)


def codes(detector: Detector) -> set[str]:
    return {note.code for note in detector.notes}


@given(tail=ssd_tails())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spelling_is_recognised_and_decodes_to_the_files_own_boxes(tail: Tail, tmp_path: Path) -> None:
    model = build(tail)
    detector = load(model, tmp_path)
    heads = detector.heads
    assert heads is not None, detector.notes
    np.testing.assert_allclose(heads.priors, tail.corners, rtol=0, atol=1e-6)
    np.testing.assert_allclose(heads.variances, tail.variances, rtol=1e-4, atol=0)
    assert (heads.y_first, heads.clip, heads.classes) == (tail.y_offsets, tail.clip, tail.classes)

    picture = np.random.default_rng(tail.seed).uniform(-1, 1, detector.input.shape).astype(np.float32)
    raw = run(gs.export_onnx(detector.graph), picture)
    own = decode_boxes(raw[heads.locations].reshape(-1, 4), heads)
    whole = run(build(replace(tail, nms=False)), picture)
    expected = to_corners(tail, whole["boxes"])
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(
        raw[heads.scores].reshape(-1), whole["scores"].reshape(-1), rtol=0, atol=1e-6
    )


@given(tail=ssd_tails())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("distortion", ["tanh", "softplus", "coupled", "rows"])
def test_what_is_no_ssd_decoding_is_left_in_the_graph(distortion: str, tail: Tail, tmp_path: Path) -> None:
    detector = load(build(replace(tail, distortion=distortion, nms=False, seed=1)), tmp_path)
    if distortion in ("tanh", "rows") and detector.heads is not None:
        # legitimate: the distortion itself stays in the network, the decoding behind it is cut off
        heads = detector.heads
        picture = np.random.default_rng(1).uniform(-1, 1, detector.input.shape).astype(np.float32)
        own = decode_boxes(run(gs.export_onnx(detector.graph), picture)[heads.locations].reshape(-1, 4), heads)
        whole = run(build(replace(tail, distortion=distortion, nms=False, seed=1)), picture)
        np.testing.assert_allclose(own, to_corners(tail, whole["boxes"]), rtol=1e-5, atol=2e-5)
        return
    assert detector.heads is None
    assert [output.name for output in detector.graph.outputs] == ["boxes", "scores"]
    assert "ssd-decoding-unknown" in codes(detector)

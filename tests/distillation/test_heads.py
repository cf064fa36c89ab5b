"""Priors that teacher and student share, and scores before their activation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc import load  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.heads import common_rows, score_tensor  # noqa: E402
from deploycc.errors import ModelError  # noqa: E402


def with_priors(detector: Detector, rows: np.ndarray) -> Detector:
    assert detector.heads is not None
    heads = replace(detector.heads, priors=detector.heads.priors[rows], variances=detector.heads.variances[rows])
    return replace(detector, heads=heads)


def test_rows_follow_priors() -> None:
    teacher = load("street_ssd")
    rows = np.array([3, 0, 7, 8])
    assert common_rows(with_priors(teacher, rows), teacher).tolist() == rows.tolist()


def test_equal_priors_keep_their_order() -> None:
    detector = load("street_ssd")
    teacher = with_priors(detector, np.array([0, 1, 0, 1, 0]))
    assert common_rows(with_priors(detector, np.array([0, 0, 1])), teacher).tolist() == [0, 2, 1]


def test_foreign_priors_are_refused() -> None:
    teacher = load("street_ssd")
    assert teacher.heads is not None
    moved = replace(teacher, heads=replace(teacher.heads, priors=teacher.heads.priors + np.float32(0.1)))
    with pytest.raises(ModelError) as error:
        common_rows(moved, teacher)
    assert error.value.code == "distillation-other-heads"


def test_a_network_without_heads_is_refused() -> None:
    with pytest.raises(ModelError) as error:
        score_tensor(replace(load("street_ssd"), heads=None))
    assert error.value.code == "distillation-no-heads"


def test_logits_lie_before_the_softmax() -> None:
    detector = load("street_ssd")
    found = score_tensor(detector)
    assert found.activation == "softmax"
    [reader] = [node for node in detector.graph.nodes if found.name in [tensor.name for tensor in node.inputs]]
    assert reader.op == "Softmax"

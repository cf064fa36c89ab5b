"""An accuracy is stated only of a network whose outputs are numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ssd_tails import Tail, build, grid_priors

from deploycc.errors import MeasureError
from deploycc.evaluation.accuracy import measure_accuracy
from deploycc.evaluation.dataset import open_dataset
from deploycc.importers import load

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
NAMES = ("background", "car", "person")


@pytest.mark.parametrize("broken", [False, True])
def test_outputs_that_are_not_finite_are_named_instead_of_an_accuracy_of_zero(broken: bool, tmp_path: Path) -> None:
    model = build(Tail(grid=(3, 4), centres=PRIORS, variances=np.ones_like(PRIORS)))
    if broken:  # finite weights whose sums are not
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, 3e38), tensor.name))
    onnx.save(model, tmp_path / "net.onnx")
    detector, dataset = load(tmp_path / "net.onnx", mean=(0.0,), scale=(1.0,)), open_dataset("generated:1:1", size=32)
    if not broken:
        assert measure_accuracy(detector, dataset, names=NAMES).summary()["pictures"] == 1
        return
    with pytest.raises(MeasureError) as caught:
        measure_accuracy(detector, dataset, names=NAMES)
    assert caught.value.code == "outputs-not-finite"
    assert caught.value.context["picture"] == "scene-1-0"

"""The detectors that ship with the package are what their card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deploycc import importers, models
from deploycc.detector.file import read_gates
from deploycc.detector.pictures import prepare
from deploycc.evaluation.accuracy import measure_accuracy
from deploycc.evaluation.dataset import open_dataset
from deploycc.graph.gates.search import find_gates
from deploycc.scenes import CLASS_NAMES

NAMES = tuple(models.names())
GATED = tuple(name for name in NAMES if name != "street_ssd")
LIMIT_BYTES = 4_000_000


def record(name: str) -> dict[str, dict[str, Any]]:
    """The metrics of the run that made a detector."""
    loaded: dict[str, dict[str, Any]] = json.loads(
        (models.resolve(name).parent / f"{name}.metrics.json").read_text(encoding="utf-8")
    )
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_is_small_complete_and_found_by_its_name(name: str) -> None:
    path = models.resolve(name)
    assert name in models.names()
    assert path.stat().st_size < LIMIT_BYTES
    detector = importers.load(path)
    assert detector.class_names == ("background", *CLASS_NAMES)
    assert detector.heads is not None
    assert not detector.notes


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_that_of_the_card(name: str) -> None:
    """On a part of the test set, for which the record has its own figure."""
    detector = importers.load(models.resolve(name))
    part = record(name)["part"]
    accuracy = measure_accuracy(detector, open_dataset(str(part["data"]), size=detector.input.height))
    # Another version of Pillow may draw an edge differently.
    assert accuracy.summary()["map50_area"] == pytest.approx(part["map50_area"], rel=0, abs=0.02)


@pytest.mark.parametrize("name", GATED)
def test_gates_are_proved_and_save_as_much_as_the_card_says(name: str) -> None:
    path: Path = models.resolve(name)
    detector = importers.load(path)
    found = find_gates(detector.graph, detector.gates)
    assert len(found) == 6
    assert {gate.source for gate in found} == {"metadata"}
    described, _ = read_gates(onnx.load(str(path)))
    model = onnx.load(str(path))
    names = list(dict.fromkeys(gate.decision for gate in described))  # several layers may share one
    for each in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(each, onnx.TensorProto.BOOL, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    statistics = record(name)["result"]["gates"]
    macs = {layer: values["macs"] for layer, values in statistics["layers"].items()}
    data, saved = open_dataset("generated:2:80", size=detector.input.height), []
    for number in range(len(data)):
        tensor = prepare(data.sample(number)[0], detector.input)
        decisions = dict(zip(names, session.run(names, {detector.input.name: tensor}), strict=True))
        engaged = sum(
            macs[gate.layer] * float(decisions[gate.decision].ravel()[list(gate.unit_of)].mean()) for gate in described
        )
        saved.append(100 * (1 - engaged / sum(macs.values())))
    assert np.mean(saved) == pytest.approx(statistics["saved_percent"]["mean"], rel=0, abs=2.5)
    assert np.mean(saved) >= 30
    assert np.std(saved) >= 2


@pytest.mark.parametrize("name", GATED)
def test_gates_cost_at_most_a_point_of_accuracy(name: str) -> None:
    """By the records: the dense detector and each gated one were scored on the same 500 scenes."""
    dense, gated = record("street_ssd")["result"], record(name)["result"]
    assert (dense["data"], dense["pictures"]) == (gated["data"], gated["pictures"]) == ("generated:2:500", 500)
    assert dense["map50_area"] >= 0.85
    assert gated["map50_area"] >= dense["map50_area"] - 0.01
    assert gated["gates"]["used_below_5_percent"] >= 0.15

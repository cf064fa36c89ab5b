"""A detector in two stages: outputs, what belongs to the detector, files, and what cannot be staged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from branching_networks import Block, Branching, Pattern, Wish
from gate_lowering import ATOL, RTOL
from graph_text import run

from deploycc import target
from deploycc.detector import Detector
from deploycc.detector.file import KEY
from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import InputError, ModelError
from deploycc.graph.gates.search import find_gates, gates_by_decision
from deploycc.workflows.staged import StagedDetector, StagedSession, stage

CPU = target.load("x86-cpu")
MADE = Branching((Block("two", "nested", (0, 2, 0, 0)),), (Wish("widths", 0, False),), 3, True)
CLASSES = ("background", "car")
CHOOSING: dict[Pattern, int] = {"off": 0, "on": 2}
"""Which of the three second stages each pattern needs."""


def built(pattern: Pattern) -> tuple[Detector, tuple[LayerPlan, ...]]:
    detector = replace(MADE.build(pattern), class_names=CLASSES)
    return detector, MADE.plan(detector.graph)


@pytest.fixture(scope="module")
def staged() -> StagedDetector:
    return stage(*built("on"), CPU)


@pytest.mark.parametrize("pattern", CHOOSING)
def test_outputs_are_those_of_the_detector(pattern: Pattern) -> None:
    detector, plan = built(pattern)
    staged = stage(detector, plan, CPU)
    number, outputs = StagedSession(staged).run(MADE.picture())
    assert number == CHOOSING[pattern]
    assert list(outputs) == [tensor.name for tensor in detector.graph.outputs]
    for found, expected in zip(outputs.values(), run(detector.graph, MADE.picture()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)


def test_a_stage_that_was_not_decided_on_can_be_run_for_its_time(staged: StagedDetector) -> None:
    assert StagedSession(staged).run(MADE.picture(), 1)[0] == 1


def test_second_stages_are_detectors(staged: StagedDetector) -> None:
    assert staged.notes == ()
    for stage_ in staged.second:
        assert stage_.class_names == CLASSES
        assert stage_.input.name == "x"
        assert stage_.gates == ()


def test_files_are_networks_of_their_own(tmp_path: Path, staged: StagedDetector) -> None:
    staged.write(tmp_path / "out")
    names = {"first.onnx", "second-0.onnx", "second-1.onnx", "second-2.onnx"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    first, last = (onnx.load(tmp_path / "out" / name) for name in ("first.onnx", "second-2.onnx"))
    assert first.graph.output[0].name == staged.decision
    assert {value.name for value in last.graph.input} <= {value.name for value in first.graph.output} | {"x"}
    assert KEY in {entry.key for entry in last.metadata_props}


def test_layers_of_another_decision_multiply_with_a_note() -> None:
    blocks = (Block("residual", "nested", (2, 5, 5, 4)), Block("two", "layer", (4, 4, 11, 8)))
    two = Branching(blocks, (Wish("widths", 1241, False),), 494, True)
    detector = two.build("on")
    first, last = [gates[0].layer for gates in gates_by_decision(find_gates(detector.graph))]
    staged = stage(detector, two.plan(detector.graph), CPU)
    assert [(note.node, note.code) for note in staged.notes] == [(first, "gate-not-staged")]
    assert "which another gate switches" in staged.notes[0].reason
    assert last not in {node.name for node in staged.first.nodes}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ([{"lowering": "multiply", "sizes": ()}] * 2, "stages-none"),
        ([{"sizes": (4, 6)}, {}], "stages-impossible"),
        ([{"sizes": (6,)}] * 2, "stages-impossible"),
        ([{"layer": "nowhere"}, {}], "gate-plan-unknown-layer"),
    ],
)
def test_a_plan_that_has_no_stages_is_refused(changes: list[dict[str, Any]], code: str) -> None:
    detector, plan = built("on")
    wrong = [layer.model_copy(update=change) for layer, change in zip(plan, changes, strict=True)]
    with pytest.raises((InputError, ModelError)) as caught:
        stage(detector, wrong, CPU)
    assert caught.value.code == code

"""Priors that never give a detection go; every detection stays."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from anchor_networks import AnchorNetwork, build, detections
from channel_removal import NO_NETWORK
from examples import examples
from golden_files import assert_golden
from hypothesis import given, settings
from mutation import find_example, mutant
from opencv_ssd import VOC21
from strategies import anchor_networks

from deploycc.detector import Detector
from deploycc.detector.pictures import read_picture
from deploycc.errors import ModelError
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.graph.cost import measure_cost
from deploycc.graph.text import to_text
from deploycc.importers import load
from deploycc.parsers.support import Contract
from deploycc.passes import FIT, FOLD, LOWER, PIPELINE, PRUNE, run
from deploycc.passes.options import Options

PASS = importlib.import_module("deploycc.passes.drop_dead_priors")
OPTIONS = Options(Contract("onnxruntime"))
DEAD = AnchorNetwork((("dead", "trained", "dead"), ("trained", "trained")))


def copied(detector: Detector) -> Detector:
    return replace(detector, graph=detector.graph.copy())


def equal(got: Detections, expected: Detections) -> bool:
    return (
        np.array_equal(got.classes, expected.classes)
        and np.allclose(got.scores, expected.scores, rtol=0, atol=1e-6)
        and np.allclose(got.boxes, expected.boxes, rtol=0, atol=1e-6)
    )


def agrees(net: AnchorNetwork, module: object = PASS) -> bool:
    """Return whether detections are the same, and the remaining priors are those that can give one."""
    source = build(net)
    expected = detections(source, net.seed)
    result = module.drop_dead_priors(copied(source), OPTIONS)  # type: ignore[attr-defined]
    heads = result.detector.heads
    if not equal(detections(result.detector, net.seed), expected):
        return False
    stays = net.stays if net.stays.any() else np.ones_like(net.stays)
    return np.array_equal(heads.priors, source.heads.priors[stays])  # type: ignore[union-attr]


@settings(max_examples=examples(60))
@given(anchor_networks())
def test_detections_stay_and_dead_priors_go(net: AnchorNetwork) -> None:
    assert agrees(net)


BUGS = {
    "keep mask inverted": ("values[kept], f", "values[~kept], f"),
    "priors are not cut": ("heads.priors[~gone]", "heads.priors"),
    "the wrong priors are cut": ("heads.priors[~gone]", "heads.priors[: (~gone).sum()]"),
    "location channels of another anchor": (
        "self.stays[channels] = False",
        "self.stays[channels if trace.head == 'scores' else (channels + 4) % total] = False",
    ),
    "the background counts": ("if label != heads.background]", "if True]"),
    "one quiet class is enough": ("below.all(axis=1)", "below.any(axis=1)"),
    "rounding may lift a score": ("_CLEARLY_BELOW * abs(threshold)", "0.0"),
    "empty maps stay in Concat": ("if 0 not in self.shapes[tensor.name]]", "]"),
    "shapes are not updated": ('node.op == "Reshape" and', 'node.op == "Shape" and'),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_show(bug: str) -> None:
    broken = mutant(PASS, *BUGS[bug])

    def shows(net: AnchorNetwork) -> bool:
        try:
            return not agrees(net, broken)
        except (
            ModelError,
            *NO_NETWORK,
        ):  # a graph that ONNX Runtime refuses, or heads that do not fit, show the bug too
            return True

    shown = find_example(anchor_networks(), shows)
    assert shows(shown)
    assert agrees(shown)


def test_golden() -> None:
    source = build(DEAD)
    assert_golden("passes/drop_dead_priors.before.txt", to_text(source.graph) + "\n")
    result = PASS.drop_dead_priors(source, OPTIONS)
    assert result.changed
    assert [str(note.code) for note in result.notes] == ["dead-priors"]
    assert result.notes[0].reason == (
        "128 of 224 priors are dropped: their scores are constants below the score threshold 0.05"
    )
    assert_golden("passes/drop_dead_priors.after.txt", to_text(result.detector.graph) + "\n")


def test_without_dead_priors_there_is_no_note() -> None:
    result = PASS.drop_dead_priors(build(AnchorNetwork((("trained", "loud"),))), OPTIONS)
    assert not result.changed
    assert result.notes == ()


def test_a_detector_of_dead_priors_only_stays() -> None:
    source = build(AnchorNetwork((("dead",), ("dead",))))
    result = PASS.drop_dead_priors(source, OPTIONS)
    assert not result.changed
    assert [note.code for note in result.notes] == ["dead-priors-stay"]
    assert "no prior would be left" in result.notes[0].reason


def test_a_threshold_of_caffes_default_keeps_every_prior() -> None:
    source = build(DEAD)
    lowest = replace(source, nms=replace(source.nms, score_threshold=float(np.finfo(np.float32).min)))
    assert not PASS.drop_dead_priors(lowest, OPTIONS).changed


def _read_elsewhere(detector: Detector) -> None:
    tensor = detector.graph.tensors()["s0c"]
    spy = gs.Variable("spy", np.float32, list(tensor.shape))
    detector.graph.nodes.append(gs.Node("Relu", "spy", inputs=[tensor], outputs=[spy]))
    detector.graph.outputs.append(spy)


def _multiplied(detector: Detector) -> None:
    tensor = detector.graph.tensors()["s0t"]
    writer = tensor.inputs[0]
    plain = gs.Variable("plain", np.float32, list(tensor.shape))
    writer.outputs = [plain]
    two = gs.Constant("two", np.array(2.0, np.float32))
    detector.graph.nodes.append(gs.Node("Mul", "double", inputs=[plain, two], outputs=[tensor]))
    detector.graph.toposort()


def _an_output_in_between(detector: Detector) -> None:
    detector.graph.outputs.append(detector.graph.tensors()["l0t"])


@pytest.mark.parametrize(
    ("change", "node", "reason"),
    [
        (_read_elsewhere, "score_0", "other nodes read its output"),
        (_multiplied, "double", "Mul lies between the predictors and the head"),
        (_an_output_in_between, "", "other nodes read its output"),
    ],
)
def test_what_is_not_understood_stays_with_a_note(change: object, node: str, reason: str) -> None:
    source = build(DEAD)
    change(source)  # type: ignore[operator]
    before = to_text(source.graph)
    result = PASS.drop_dead_priors(source, OPTIONS)
    assert not result.changed
    assert to_text(result.detector.graph) == before
    [note] = result.notes
    assert (note.node, note.code) == (node, "dead-priors-stay")
    assert reason in note.reason


def test_a_real_detector_loses_the_priors_that_its_converter_added(assets: Path) -> None:
    """Three of six anchors on the first map are zero: without them it has the priors and MACs of its ONNX spelling."""
    spec, folder = VOC21.input, assets / VOC21.folder
    source = load(folder / VOC21.topology, mean=spec.mean, scale=spec.scale, colour=spec.colour)
    without = run(source, OPTIONS, FOLD + PRUNE + LOWER + FIT).detector
    dropped = run(source, OPTIONS, PIPELINE).detector
    assert without.heads is not None
    assert dropped.heads is not None
    assert (len(without.heads.priors), len(dropped.heads.priors)) == (3000, 1917)
    as_onnx = measure_cost(load(folder / "voc21_ssd_mnv1_075_boxes.onnx").graph).macs
    assert measure_cost(dropped.graph).macs == as_onnx
    complete, reduced = OnnxRuntimeDetector(without), OnnxRuntimeDetector(dropped)
    for name in VOC21.pictures:
        pixels = read_picture(assets / name)
        expected, got = complete.detect(pixels), reduced.detect(pixels)
        assert len(expected) > 50
        assert equal(got, expected)


def test_trained_detectors_keep_every_prior(assets: Path) -> None:
    source = load(assets / "yufacedetect_v2" / "yufacedetectnet-open-v2.prototxt")
    result = PASS.drop_dead_priors(source, OPTIONS)
    assert not result.changed
    assert result.notes == ()

"""Exported detectors give in OpenCV, an independent reader, the same detections as the trained files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_graphsurgeon as gs
import pytest
from anchor_networks import AnchorNetwork, build
from anchor_networks import detections as found_by
from caffe_files import seeded_files
from examples import examples
from graph_text import run as graph_run
from hypothesis import given, settings
from mutation import find_example, mutant
from numerics import assert_same_detections
from opencv_ssd import RES10, VOC21, YUFACE, read_rows
from strategies import exported_networks

from deploycc.detector import BoxCoding, DetectionOutputs, Detector, InputSpec
from deploycc.detector.pictures import prepare, read_picture
from deploycc.detector.prior_grid import PriorGrid
from deploycc.errors import ModelError
from deploycc.evaluation.decode import decode_boxes
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.exporters.caffe import head_layout, save_with_detection, ssd
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.cost import measure_cost
from deploycc.graph.split import split_heads
from deploycc.importers import load
from deploycc.parsers.support import Contract
from deploycc.passes import PIPELINE, Options, run
from deploycc.passes.options import Prune
from deploycc.passes.prune_channels import prune
from deploycc.pruning.decide import by_norm
from deploycc.workflows.export import for_caffe

RAW = 1e-4  # absolute, of raw outputs
TRAINED = {"voc21": VOC21, "res10": RES10, "yuface": YUFACE}
# Name -> (absolute tolerance for raw outputs of this size, priors left out at the end). OpenCV 4.14 reads past its input
# in 3x3 depthwise convolutions of one pixel, so the last feature map says nothing there, nor do detections.
SEEDED = {"squeezenet_ssd_voc_deploy": (RAW, 0), "MobileNetv2_SSDLite_voc_deploy": (3e-4, 6)}
PICTURES = VOC21.pictures


def trained(assets: Path, name: str, folder: Path) -> tuple[Path, Path, InputSpec | None]:
    """Definition and weights of a model, and its picture input if the file does not state it."""
    if name in TRAINED:
        model = TRAINED[name]
        return assets / model.folder / model.topology, assets / model.folder / model.weights, model.input
    return *seeded_files(assets / "prototxt" / f"{name}.prototxt", folder, seed=1), None


def read(topology: Path, weights: Path, spec: InputSpec | None) -> Detector:
    if spec is None:
        return load(topology, weights=weights)
    return load(topology, weights=weights, mean=spec.mean, scale=spec.scale, colour=spec.colour)


def export(detector: Detector, folder: Path) -> tuple[Path, Path]:
    files = folder / "exported.prototxt", folder / "exported.caffemodel"
    save_with_detection(detector, *files)
    return files


def opencv(files: tuple[Path, Path], tensor: np.ndarray, *blobs: str) -> list[np.ndarray]:
    network = cv2.dnn.readNetFromCaffe(*map(str, files))
    network.setInput(tensor)
    return list(network.forward([*blobs, "detection_out"]))


@pytest.mark.parametrize("name", [*TRAINED, *SEEDED])
def test_round_trip(name: str, assets: Path, tmp_path: Path) -> None:
    topology, weights, spec = trained(assets, name, tmp_path)
    source = read(topology, weights, spec)
    files = export(for_caffe(source).detector, tmp_path)
    again = read(*files, spec)
    atol, skipped = SEEDED.get(name, (RAW, 0))
    for picture in TRAINED[name].pictures if name in TRAINED else PICTURES[:1]:
        pixels = read_picture(assets / picture)
        tensor = prepare(pixels, source.input)
        *expected, boxes = opencv((topology, weights), tensor, source.heads.locations, source.heads.scores)
        *raw, got = opencv(files, tensor, "mbox_loc", "mbox_conf_flatten")
        for one, other in zip(raw, expected, strict=True):
            rows = len(source.heads.priors)
            one, other = (array.reshape(rows, -1)[: rows - skipped] for array in (one, other))
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)
        assert len(read_rows(boxes)) > 0
        if not skipped:
            assert_same_detections(read_rows(got), read_rows(boxes), score_atol=1e-3, min_iou=0.99)
        ours = OnnxRuntimeDetector(source).detect(pixels)
        assert_same_detections(OnnxRuntimeDetector(again).detect(pixels), ours, score_atol=1e-3, min_iou=0.99)
    np.testing.assert_allclose(again.heads.priors, source.heads.priors, rtol=0, atol=1e-6)
    np.testing.assert_allclose(again.heads.variances, source.heads.variances, rtol=0, atol=0)
    same = {"locations": "", "scores": "", "priors": None, "variances": None}
    assert replace(again.heads, **same).__dict__ == replace(source.heads, **same).__dict__
    assert again.nms == source.nms


def test_the_file_says_how_pictures_are_fed(assets: Path, tmp_path: Path) -> None:
    """Only the order of colours has no field in Caffe; a comment tells it."""
    source = read(*trained(assets, "voc21", tmp_path))
    files = export(for_caffe(source).detector, tmp_path)
    assert replace(load(files[0]).input, colour="RGB") == source.input
    assert files[0].read_text().startswith("# 300x300 RGB, (pixel - 128) * 0.0078125\n")


def test_what_was_assumed_is_not_stated_as_a_fact(tmp_path: Path) -> None:
    source = build(NET)
    files = export(replace(source, input=replace(source.input, assumed=True)), tmp_path)
    text = files[0].read_text()
    assert "transform_param" not in text
    assert text.startswith("# 8x8 BGR, (pixel - 0) * 1; assumed: the trained file does not say\n")


def test_priors_in_another_order_and_boxes_with_y_first(assets: Path, tmp_path: Path) -> None:
    """TensorFlow's anchors: the second square comes last, the first map has a square of another size than its ratios."""
    source = load(assets / VOC21.folder / "voc21_ssd_mnv1_075_boxes.onnx")
    assert source.heads.y_first
    files = tmp_path / "exported.prototxt", tmp_path / "exported.caffemodel"
    notes = save_with_detection(for_caffe(source).detector, *files)
    assert [note.code for note in notes] == ["caffe-spare-anchors", *["caffe-anchor-order"] * 6, "caffe-input"]
    ours = OnnxRuntimeDetector(source)
    for name in PICTURES:
        picture = read_picture(assets / name)
        [rows] = opencv(files, prepare(picture, source.input))
        expected = ours.detect(picture)
        assert len(expected) > 50
        assert_same_detections(read_rows(rows), expected, score_atol=1e-3, min_iou=0.99)


def test_dropped_priors_come_back_where_prior_box_cannot_leave_them_out(assets: Path, tmp_path: Path) -> None:
    topology, weights, spec = trained(assets, "voc21", tmp_path)
    source = read(topology, weights, spec)
    dropped = run(source, Options(Contract("onnxruntime")), PIPELINE).detector
    files = export(dropped, tmp_path)
    assert (len(dropped.heads.priors), len(load(files[0]).heads.priors)) == (1917, 3000)
    tensor = prepare(read_picture(assets / PICTURES[0]), source.input)
    [expected], [got] = opencv((topology, weights), tensor), opencv(files, tensor)
    assert_same_detections(read_rows(got), read_rows(expected), score_atol=1e-3, min_iou=0.99)


def agrees(example: tuple[AnchorNetwork, dict[str, Any]], folder: Path, module: Any = ssd) -> bool:
    """Return whether OpenCV detects in the exported files what this project detects."""
    net, changes = example
    source = build(net)
    small = 0.02 if changes["box_coding"] == "corner" else 1.0
    heads = replace(source.heads, variances=source.heads.variances * np.float32(small), **changes)
    detector = replace(source, heads=heads)
    files = folder / "exported.prototxt", folder / "exported.caffemodel"
    module.save_with_detection(detector, *files)
    x = np.random.default_rng(net.seed).normal(size=(1, 3, 8, 8)).astype(np.float32)
    got: Detections = read_rows(opencv(files, x)[0])
    expected = found_by(detector, net.seed)
    try:
        assert_same_detections(got, expected, score_atol=1e-4, min_iou=0.99)
    except AssertionError:
        return False
    return True


@settings(max_examples=examples(60))
@given(exported_networks())
def test_any_anchors_are_found_again(
    tmp_path_factory: pytest.TempPathFactory, example: tuple[AnchorNetwork, dict[str, Any]]
) -> None:
    assert agrees(example, tmp_path_factory.mktemp("export"))


BUGS = {
    "all anchors share the first one's boxes": (ssd, "_rows(head.location_kernels, slots)", "_rows(head.location_kernels[:1].repeat(9, 0), slots)"),
    "spare anchors are seen": (ssd, "_SILENT = -20.0", "_SILENT = 20.0"),
    "offsets are multiplied twice": (ssd, "if heads.variance_encoded else", "if False else"),
    "planes before cells": (ssd, '{"order": [0, 2, 3, 1]}', '{"order": [0, 1, 2, 3]}'),
    "scores in one axis": (ssd, '"dim": [0, -1, self.heads.classes]', '"dim": [0, self.heads.classes, -1]'),
    "fractions of sizes are lost": (ssd, "_rebased(box, whole,", "_rebased(whole, whole,"),
    "variances do not scale what is added": (ssd, "return factors, terms / variance", "return factors, terms"),
    "y before x": (head_layout, "[:, [1, 0, 3, 2]]", "[:, [0, 1, 2, 3]]"),
    "kernels of another order": (head_layout, "anchors[:, kernels[0].shape[1] :]", "anchors[::-1][:, kernels[0].shape[1] :]"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_show(bug: str, tmp_path: Path) -> None:
    module, old, new = BUGS[bug]
    broken = mutant(module, old, new)
    if module is head_layout:
        lay_out, broken = broken.lay_out, mutant(ssd, "_SILENT = -20.0", "_SILENT = -20.0")
        broken.lay_out = lay_out  # type: ignore[attr-defined]

    def shows(example: tuple[AnchorNetwork, dict[str, Any]]) -> bool:
        try:
            return not agrees(example, tmp_path, broken)
        except (ModelError, cv2.error):  # priors that do not fit, or a network that OpenCV refuses, show the bug too
            return True

    shown = find_example(exported_networks(), shows)
    assert shows(shown)
    assert agrees(shown, tmp_path)


def refusal(detector: Detector, folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        export(detector, folder)
    assert not list(folder.iterdir())
    return caught.value


NET = AnchorNetwork((("trained", "trained"), ("trained",)))


def test_variances_that_differ_are_refused(tmp_path: Path) -> None:
    source = build(NET)
    source.heads.variances[3] *= 2
    error = refusal(source, tmp_path)
    assert error.render() == (
        "error[caffe-cannot-express]: the network cannot be written as Caffe: the variances of its priors differ; a "
        "PriorBox layer has one set\n"
        "      node: score_0\n"
        "  operator: Conv\n"
        "  hint: `deploycc inspect MODEL` lists the targets that read the network as ONNX"
    )


def test_priors_off_the_grid_are_refused_with_their_distance(tmp_path: Path) -> None:
    source = build(NET)
    source.heads.priors[5] += 0.01
    error = refusal(source, tmp_path)
    assert error.context == {"node": "score_0", "operator": "Conv"}
    assert "its priors do not fit PriorBox: no PriorBox layer writes its boxes (" in error.message
    assert error.message.endswith("pixels) on 8x8 cells; the closest is 0.009 of the picture away")


def test_spare_anchors_need_a_threshold_that_hides_them(tmp_path: Path) -> None:
    source = build(NET)
    open_ = replace(source, nms=replace(source.nms, score_threshold=0.0))
    assert "without spare ones, which would be detected" in refusal(open_, tmp_path).message


def test_softmax_without_a_background_has_no_class_for_spare_anchors(tmp_path: Path) -> None:
    source = build(replace(NET, background=None))
    assert "without spare ones, which would be detected" in refusal(source, tmp_path).message


def test_heads_that_are_not_predicted_by_convolutions_are_refused(tmp_path: Path) -> None:
    source = build(NET)
    tensor = source.graph.tensors()["s0t"]
    plain = gs.Variable("plain", np.float32, list(tensor.shape))
    tensor.inputs[0].outputs = [plain]
    source.graph.nodes.append(gs.Node("Relu", "rectify", inputs=[plain], outputs=[tensor]))
    source.graph.toposort()
    error = refusal(source, tmp_path)
    assert error.context == {"node": "rectify"}
    assert error.message.endswith("Relu lies between the predictors and the head")


@pytest.mark.parametrize(
    ("detections", "why"),
    [(None, "it has no SSD heads"), (DetectionOutputs("b", "s", "c"), "its detections are computed in the graph")],
)
def test_a_detector_without_raw_heads_is_refused(detections: DetectionOutputs | None, why: str, tmp_path: Path) -> None:
    source = replace(build(NET), heads=None, detections=detections)
    assert refusal(source, tmp_path).render() == (
        f"error[caffe-cannot-express]: the network cannot be written with SSD layers: {why}\n"
        "  hint: export the trained file, or describe its heads in MODEL.detector.toml"
    )


def test_a_pruned_network_answers_in_opencv_as_it_does_here(assets: Path, tmp_path: Path) -> None:
    """A third of the back-end's filters gone, rounded to nothing: counts, depthwise groups and heads follow."""
    source = for_caffe(read(*trained(assets, "voc21", tmp_path))).detector
    groups = channel_groups(source.graph)
    layers = split_heads(source.graph, source.heads.locations, source.heads.scores).backend.nodes
    before = measure_cost(source.graph).macs
    report = prune(source, Prune(dict(by_norm(source.graph, groups, 0.35, layers).kernels)))
    assert measure_cost(source.graph).macs < 0.65 * before
    assert len(report.removed) > 20
    files = export(source, tmp_path)
    runner = OnnxRuntimeDetector(source)
    for picture in VOC21.pictures:
        tensor = prepare(read_picture(assets / picture), source.input)
        ours = runner.run(tensor)
        *raw, _ = opencv(files, tensor, "mbox_loc", "mbox_conf_flatten")
        for got, name in zip(raw, (source.heads.locations, source.heads.scores), strict=True):
            np.testing.assert_allclose(got.reshape(-1), ours[name].reshape(-1), rtol=0, atol=RAW)


@pytest.mark.parametrize("coding", ["center_size", "corner", "corner_size"])
def test_sizes_are_written_as_caffe_reads_them(coding: BoxCoding, tmp_path: Path) -> None:
    source = build(NET)
    grids = (
        PriorGrid((8, 8), (8, 8), (1, 1), [(0.5, 0.5)], [(2.4, 2.4), (3.3, 3.3)]),
        PriorGrid((4, 4), (8, 8), (2, 2), [(0.5, 0.5)], [(0.7, 0.7)]),
    )
    priors = np.concatenate([grid.boxes() for grid in grids])
    heads = replace(source.heads, priors=priors, box_coding=coding, variances=source.heads.variances * np.float32(0.2))
    files = tmp_path / "exported.prototxt", tmp_path / "exported.caffemodel"
    notes = save_with_detection(replace(source, heads=heads), *files)
    sizes = re.findall(r"(?:min|max)_size: (\S+)", files[0].read_text())
    assert sizes
    assert all(float(size).is_integer() for size in sizes)
    assert [note.node for note in notes if note.code == "caffe-whole-sizes"] == ["score_0", "score_1"]
    again = load(files[0])
    assert "caffe-whole-sizes" not in {note.code for note in again.notes}
    assert not np.allclose(again.heads.priors, heads.priors, rtol=0, atol=1e-3)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    got, expected = (graph_run(graph, x)[0].reshape(-1, 4) for graph in (again.graph, source.graph))
    np.testing.assert_allclose(decode_boxes(got, again.heads), decode_boxes(expected, heads), rtol=0, atol=1e-5)


def test_clipped_boxes_with_fractions_of_pixels_are_refused(tmp_path: Path) -> None:
    source = build(NET)
    clipped = replace(source, heads=replace(source.heads, priors=source.heads.priors.clip(0, 1)))
    message = refusal(clipped, tmp_path).message
    assert "its clipped boxes have the sizes" in message
    assert message.endswith("of which Caffe reads only whole pixels")

"""Real networks: the outputs of OpenCV's importer, the published sizes, the record of where they came from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from caffe_files import Array, caffemodel, check_shapes, run, runner, seeded_files

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.graph.cost import measure_cost
from deploycc.importers.caffe import SUFFIXES, load

RAW = 1e-4  # absolute, on heads of magnitude up to 13
PRIORS = 1e-6  # absolute, of the picture
TRAINED = {
    "voc21_ssd_mobilenet/voc21_ssd_mnv1_075": {"mean": 128, "scale": 1 / 128, "colour": "RGB"},
    "voc21_ssd_mobilenet/voc21_ssd_mnv1_075_bvlc": {"mean": 128, "scale": 1 / 128, "colour": "RGB"},
    "res10_face_ssd/deploy": {"mean": (104, 177, 123), "weights": "res10_300x300_ssd_iter_140000.caffemodel"},
    "yufacedetect_v2/yufacedetectnet-open-v2": {"mean": (104, 117, 123)},
    "ultralight_rfb320/RFB-320": {"mean": 127, "scale": 1 / 128, "colour": "RGB"},
}
# Name -> (layer before which it is cut, priors left out at the end).
SEEDED = {
    "squeezenet_ssd_voc_deploy": (None, 0),
    "MobileNetSSD_bn_deploy": (None, 0),
    "MobileNetSSD_voc_deploy": (None, 0),
    # OpenCV 4.14 reads beyond its input in 3x3 depthwise convolutions of one pixel, so the last feature map, of six
    # priors, says nothing; test_layers_convolution compares that case with numbers written out.
    "MobileNetv2_SSDLite_voc_deploy": (None, 6),
    # Cut before its matrix products: 80 of 83 million numbers, tested on their own.
    "pvanet_pva9.1_imagenet": ("fc6", 0),
    "vgg_ssd300_voc_deploy": (None, 0),
}


def pictures(assets: Path, count: int) -> list[Array]:
    names = ["res10_face_ssd/test_faces.jpg", "voc100/JPEGImages/2007_000027.jpg", "voc100/JPEGImages/2007_000032.jpg"]
    return [cv2.imread(str(assets / name)) for name in names[:count]]


def tensor(picture: Array, detector: Detector) -> Array:
    spec = detector.input
    resized = cv2.resize(picture, (spec.width, spec.height)).astype(np.float32)
    planes = resized[..., ::-1] if spec.colour == "RGB" else resized
    normalised = (planes - np.float32(spec.mean)) * np.float32(spec.scale)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


class Differences(NamedTuple):
    """Largest absolute ones: of the outputs over all pictures, and of the head's description where there is one."""

    outputs: float
    priors: float
    variances: float


def differences_from_opencv(
    detector: Detector, text: Path, model: Path, images: list[Array], skipped_priors: int = 0
) -> Differences:
    net = cv2.dnn.readNetFromCaffe(str(text), str(model))
    names = [output.name for output in detector.graph.outputs]
    outputs = priors = variances = 0.0
    ours = runner(detector)
    for image in images:
        x = tensor(image, detector)
        net.setInput(x)
        expected = net.forward([*names, *(["mbox_priorbox"] if detector.heads else [])])
        found = ours(x)
        for name, wanted in zip(names, expected, strict=False):
            assert found[name].shape == wanted.shape
            assert np.ptp(wanted) > 0.05, "an output that says nothing would prove nothing"
            assert np.isfinite(found[name]).all()
            kept = wanted.size
            if skipped_priors:
                assert detector.heads
                kept -= skipped_priors * (4 if name == detector.heads.locations else detector.heads.classes)
            worst = np.abs(found[name].ravel()[:kept] - wanted.ravel()[:kept]).max()
            outputs = max(outputs, float(worst))
    if detector.heads:
        described = np.stack([detector.heads.priors, detector.heads.variances])
        wanted = expected[-1].reshape(2, -1, 4)
        assert described.shape == wanted.shape
        priors, variances = np.abs(described - wanted).max(axis=(1, 2)).tolist()
    return Differences(outputs, priors, variances)


@pytest.mark.parametrize("name", TRAINED)
def test_trained_network_is_opencvs(name: str, assets: Path) -> None:
    options = dict(TRAINED[name])
    text = assets / f"{name}.prototxt"
    model = text.with_name(str(options.pop("weights", f"{text.stem}.caffemodel")))
    detector = load(text, model, **options)  # type: ignore[arg-type]
    found = differences_from_opencv(detector, text, model, pictures(assets, 3))
    assert found.outputs <= RAW
    assert found.priors <= PRIORS
    assert found.variances == 0


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_network_is_opencvs(name: str, assets: Path, tmp_path: Path) -> None:
    """On one picture: every layer is at work on it."""
    until, skipped = SEEDED[name]
    text, model = seeded_files(assets / "prototxt" / f"{name}.prototxt", tmp_path, seed=7, until=until)
    found = differences_from_opencv(load(text, model), text, model, pictures(assets, 1), skipped)
    assert found.outputs <= RAW
    assert found.priors <= PRIORS
    assert found.variances == 0


@pytest.mark.parametrize(
    ("name", "gmacs", "mparams", "priors"),
    [
        ("vgg_ssd300_voc_deploy", 31.374, 26.285, 8732),
        ("squeezenet_ssd_voc_deploy", 1.176, 5.531, 8030),
        ("MobileNetSSD_voc_deploy", 1.148, 5.783, 1917),
        ("MobileNetSSD_bn_deploy", 1.148, 5.796, 1917),
        ("MobileNetv2_SSDLite_voc_deploy", 0.646, 3.337, 1917),
    ],
)
def test_networks_have_their_published_size(name: str, gmacs: float, mparams: float, priors: int, assets: Path) -> None:
    detector = load(assets / "prototxt" / f"{name}.prototxt", random_weights=0)
    cost = measure_cost(detector.graph)
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0, abs=5e-4)
    assert cost.params / 1e6 == pytest.approx(mparams, rel=0, abs=5e-4)
    assert detector.heads is not None
    assert detector.heads.priors.shape == detector.heads.variances.shape == (priors, 4)
    check_shapes(detector)


def test_spellings_of_the_same_weights_agree(assets: Path) -> None:
    folder = assets / "voc21_ssd_mobilenet"
    stock, short = (load(folder / f"voc21_ssd_mnv1_075{name}.prototxt") for name in ("_bvlc", ""))
    (picture,) = pictures(assets, 1)
    outputs = [list(run(detector, tensor(picture, detector)).values()) for detector in (stock, short)]
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=RAW)
    assert {node.op for node in short.graph.nodes} == {
        "Conv",
        "Clip",
        "Transpose",
        "Flatten",
        "Concat",
        "Reshape",
        "Sigmoid",
    }


def test_head_description_of_a_real_network(assets: Path) -> None:
    detector = load(assets / "res10_face_ssd" / "deploy.prototxt", random_weights=1, mean=(104, 177, 123))
    assert detector.heads is not None
    assert (detector.heads.locations, detector.heads.scores) == ("mbox_loc", "mbox_conf_flatten")
    assert (detector.heads.classes, detector.heads.background) == (2, 0)
    assert detector.heads.box_coding == "center_size"
    nms = detector.nms
    assert (nms.score_threshold, nms.iou_threshold, nms.top_k, nms.keep_top_k) == (0.01, 0.45, 400, 200)
    assert detector.class_names == ()
    assert detector.graph.opset == 13
    assert [tensor.name for tensor in detector.graph.inputs] == ["data"]


def test_faster_rcnn_is_refused_with_every_layer_that_stands_in_the_way(assets: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(assets / "prototxt" / "pvanet_pva9.1_faster_rcnn_21cls.prototxt", random_weights=0)
    error = caught.value
    assert error.code == "caffe-unknown-layer"
    assert error.message == "layer proposal has the type Python, which is not supported"
    assert error.context["line"] == "6587"
    assert error.note == "nor are roi_pool_conv5 (ROIPooling, line 6606)"


SMALL = """name: "small"
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
"""


def test_source_names_both_files_and_digests_their_bytes(tmp_path: Path) -> None:
    text, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    text.write_text(SMALL)
    weights = {"conv": [np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)]}
    model.write_bytes(caffemodel(weights))
    for detector in (load(text), load(model), load(text, model)):
        assert detector.source.files == (str(text), str(model))
        assert detector.source.sha256 == hashlib.sha256(text.read_bytes() + model.read_bytes()).hexdigest()
        assert (detector.source.format, detector.source.random_weights) == ("caffe", None)
        assert detector.name == "small"
    seeded = load(text, random_weights=5).source
    assert seeded.files == (str(text),)
    assert seeded.sha256 == hashlib.sha256(SMALL.encode() + b"seed:5").hexdigest()
    assert seeded.random_weights == 5
    assert set(SUFFIXES) == {".prototxt", ".caffemodel"}


def test_trained_weights_are_not_copied(tmp_path: Path) -> None:
    text, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    text.write_text(SMALL)
    model.write_bytes(caffemodel({"conv": [np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)]}))
    (node,) = load(text).graph.nodes
    assert not node.inputs[1].values.flags.owndata


def test_missing_weights_have_a_hint(tmp_path: Path) -> None:
    text = tmp_path / "net.prototxt"
    text.write_text(SMALL)
    with pytest.raises(ModelError) as caught:
        load(text)
    assert caught.value.render() == (
        "error[caffe-no-weights]: there are no weights beside the definition: net.caffemodel does not exist\n"
        f"  file: {text}\n"
        "  hint: give a file with `weights=FILE`, or random weights with `random_weights=SEED`"
    )
    with pytest.raises(ModelError, match="the weight file does not exist"):
        load(text, tmp_path / "other.caffemodel")


def test_trained_and_seeded_weights_exclude_one_another(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="from a seed, but not from both"):
        load(tmp_path / "net.caffemodel", random_weights=1)


def test_network_without_detection_output_has_no_heads_and_a_note(tmp_path: Path) -> None:
    text = tmp_path / "net.prototxt"
    text.write_text(SMALL)
    detector = load(text, random_weights=0)
    assert detector.heads is None
    assert [note.reason for note in detector.notes if note.code == "caffe-no-detection-output"] == [
        "the network has no DetectionOutput layer, so boxes are not decoded; its outputs are conv"
    ]

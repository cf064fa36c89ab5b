from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ssd_tails import Tail, build, grid_priors

from deploycc.detector import Detector
from deploycc.detector.file import save
from deploycc.errors import ModelError
from deploycc.importers import load

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5]], dtype=np.float32))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A detector of three classes whose file states its heads."""
    path = tmp_path / "net.onnx"
    onnx.save(build(Tail(grid=(3, 4), centres=PRIORS, variances=np.full_like(PRIORS, 0.1))), path)
    save(load(path), path)
    return path


def described(model: Path, text: str) -> Detector:
    (model.parent / "net.detector.toml").write_text(text)
    return load(model)


def test_names_may_leave_the_background_out(saved: Path) -> None:
    assert described(saved, 'class_names = ["cat", "dog"]').class_names == ("background", "cat", "dog")
    assert described(saved, 'class_names = ["none", "cat", "dog"]').class_names == ("none", "cat", "dog")
    with pytest.raises(ModelError) as caught:
        described(saved, 'class_names = ["cat"]')
    assert caught.value.render() == (
        "error[class-names-count]: 1 class names for 3 classes\n"
        f"  file: {saved.with_name('net.detector.toml')}\n   key: class_names\n"
        "  note: class 0 is the background; its name may be omitted"
    )


def test_only_the_given_suppression_parameters_change(saved: Path) -> None:
    before = load(saved).nms
    after = described(saved, "[nms]\nkeep_top_k = 9").nms
    assert (after.keep_top_k, after.top_k, after.iou_threshold) == (9, before.top_k, before.iou_threshold)


def test_only_the_background_of_known_heads_can_change(saved: Path) -> None:
    heads = described(saved, "[heads]\nbackground = 2").heads
    assert heads is not None
    assert heads.background == 2
    with pytest.raises(ModelError) as caught:
        described(saved, "[heads]\nclip = true")
    assert caught.value.message == "the file states its own heads; clip cannot be changed"
    with pytest.raises(ModelError) as caught:
        described(saved, "[heads]\nbackground = 3")
    assert caught.value.message == "the background class 3 does not exist: there are 3 classes"


def test_the_description_is_named_in_the_notes(saved: Path) -> None:
    notes = described(saved, "").notes
    assert notes[-1].code == "description-used"
    assert "net.detector.toml" in notes[-1].reason


def test_caffe_heads_without_a_detection_layer_can_be_described(assets: Path, tmp_path: Path) -> None:
    describe = tmp_path / "rfb.toml"
    decoded = load(assets / "ultralight_rfb320" / "version-RFB-320.onnx").heads
    assert decoded is not None
    np.save(tmp_path / "priors.npy", decoded.priors)
    describe.write_text(
        'class_names = ["face"]\n[input]\ncolour = "RGB"\nmean = [127]\nscale = [0.0078125]\n'
        '[heads]\nlocations = "boxes"\nscores = "scores"\nbackground = 0\npriors = "priors.npy"\n'
    )
    detector = load(assets / "ultralight_rfb320" / "RFB-320.prototxt", describe=describe)
    assert detector.heads is not None
    assert (detector.heads.classes, len(detector.heads.priors)) == (2, 4420)
    assert detector.class_names == ("background", "face")
    assert (detector.input.colour, detector.input.mean, detector.input.assumed) == ("RGB", (127.0,) * 3, False)

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ssd_tails import Tail, build, grid_priors

from deploycc import importers
from deploycc.errors import ModelError
from deploycc.importers import caffe, load, onnx_file

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5]], dtype=np.float32))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(build(Tail(grid=(3, 4), centres=PRIORS, variances=np.full_like(PRIORS, 0.1))), path)
    return path


def test_the_dispatcher_knows_every_importers_suffixes() -> None:
    assert (importers.CAFFE, importers.ONNX) == (caffe.SUFFIXES, onnx_file.SUFFIXES)


@pytest.mark.parametrize(
    ("name", "hint"), [("net.onx", "did you mean net.onnx?"), ("net", None), ("net.weights", None), ("a.engine", None)]
)
def test_an_unknown_suffix_lists_the_known_ones(name: str, hint: str | None) -> None:
    with pytest.raises(ModelError) as caught:
        load(name)
    expected = f"error[unknown-format]: the suffix of {name} is not supported\n  file: {name}\n"
    expected += "  note: supported: .prototxt, .caffemodel, .onnx"
    assert caught.value.render() == expected + (f"\n  hint: {hint}" if hint else "")


def test_arguments_override_the_description(model: Path) -> None:
    model.with_name("net.detector.toml").write_text('[input]\ncolour = "BGR"\nmean = [1.0]\n')
    spec = load(model, mean=(7.0,), scale=(2.0, 3.0, 4.0)).input
    assert (spec.colour, spec.mean, spec.scale, spec.assumed) == ("BGR", (7.0,) * 3, (2.0, 3.0, 4.0), False)


@pytest.mark.parametrize("option", [{"weights": Path("a.caffemodel")}, {"random_weights": 1}])
def test_weights_are_for_caffe(option: dict[str, object], model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(model, **option)  # type: ignore[arg-type]
    assert caught.value.code == "onnx-has-weights"


def test_nothing_is_printed(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(model)
    assert capfd.readouterr() == ("", "")


def test_a_caffe_model_by_its_weights(assets: Path) -> None:
    folder = assets / "ultralight_rfb320"
    detector = load(folder / "RFB-320.caffemodel")
    assert detector.source.format == "caffe"
    assert [Path(file).name for file in detector.source.files] == ["RFB-320.prototxt", "RFB-320.caffemodel"]

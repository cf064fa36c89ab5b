from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.detector.pictures import prepare
from deploycc.errors import ModelError
from deploycc.importers import load

HEAD = '<ir_version: 8, opset_import: ["": 13]>\n'
WEIGHT = "<float[2,3,3,3] w = {" + ", ".join(f"{value:.3f}" for value in np.linspace(-0.3, 0.5, 54)) + "}"


def write(text: str, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    return path


def own(path: Path, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": pixels})[0]
    return result


def compiled(detector: Detector, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = gs.export_onnx(detector.graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": prepare(picture, detector.input)})[0]
    return result


def picture(height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def codes(detector: Detector) -> set[str]:
    return {note.code for note in detector.notes}


NHWC_UINT8 = f"""g (uint8[1,6,8,3] x) => (float[1,2,4,6] y) {WEIGHT}, float f = {{0.0078125}}, float one = {{1}}> {{
    t = Transpose <perm = [0, 3, 1, 2]> (x)
    c = Cast <to = 1> (t)
    m = Mul (c, f)
    s = Sub (m, one)
    y = Conv (s, w)
}}"""
NCHW = f"""g (float[1,3,6,8] x) => (float[1,2,4,6] y) {WEIGHT}, float[1,3,1,1] m = {{MEAN}}, float[1,3,1,1] s = {{STD}}> {{
    z = Sub (x, m)
    n = Div (z, s)
    y = Conv (n, w)
}}"""
ALONE = NCHW.replace("float[1,3,6,8] x", "float[3,6,8] x").replace(
    "z = Sub (x, m)", "a = int64[1] {0}\nb = Unsqueeze (x, a)\nz = Sub (b, m)"
)
ALONE = ALONE.replace("a = int64[1] {0}\n", "a = Constant <value = int64[1] {0}> ()\n")


def test_whole_pixels_are_taken_as_floats(tmp_path: Path) -> None:
    path = write(NHWC_UINT8, tmp_path)
    detector = load(path, colour="RGB")
    spec = detector.input
    assert (spec.shape, spec.mean, spec.scale, spec.assumed) == ((1, 3, 6, 8), (0.0,) * 3, (1.0,) * 3, False)
    assert "Cast" not in {node.op for node in detector.graph.nodes}
    assert {"onnx-integer-input", "onnx-nhwc-input"} <= codes(detector)
    np.testing.assert_allclose(compiled(detector, picture()), own(path, picture()[None]), rtol=1e-5, atol=1e-5)


def test_whole_pixels_that_are_computed_with_are_refused(tmp_path: Path) -> None:
    path = write("g (uint8[1,3,6,8] x) => (uint8[1,3,6,8] y) { y = Add (x, x) }", tmp_path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.message.endswith("its type is uint8, not float32, and y (Add) computes with it before any Cast")


@pytest.mark.parametrize(
    ("mean", "std", "largest"),
    [
        ("0.485, 0.456, 0.406", "0.229, 0.224, 0.225", 1),
        ("0.5, 0.5, 0.5", "0.5, 0.5, 0.5", 1),
        ("0.48235, 0.45882, 0.40784", "0.00392, 0.00392, 0.00392", 1),  # torchvision's SSD300
        ("123.0, 117.0, 104.0", "1, 1, 1", 255),
        ("127.5, 127.5, 127.5", "127.5, 127.5, 127.5", 255),
        ("0, 0, 0", "255, 255, 255", 255),
    ],
)
def test_the_networks_own_normalisation_tells_the_range_of_pixels(
    mean: str, std: str, largest: int, tmp_path: Path
) -> None:
    path = write(NCHW.replace("MEAN", mean).replace("STD", std), tmp_path)
    detector = load(path)
    assert (detector.input.mean, detector.input.scale) == ((0.0,) * 3, (largest / 255,) * 3)
    (note,) = [note for note in detector.notes if note.code == "input-normalised"]
    assert note.reason.endswith(f"itself, so it gets pixels of 0..{largest}")
    pixels = picture().transpose(2, 0, 1)[None] * np.float32(largest / 255)
    np.testing.assert_allclose(compiled(detector, picture()), own(path, pixels), rtol=1e-4, atol=1e-4)
    assert load(path, mean=(1.0,), scale=(2.0,)).input.mean == (1.0,) * 3


@pytest.mark.parametrize(("mean", "std"), [("0, 0, 0", "2, 2, 2"), ("-3, -3, -3", "1, 1, 1"), ("0, 0, 0", "-1, 1, 1")])
def test_a_normalisation_that_tells_nothing_is_assumed_as_ever(mean: str, std: str, tmp_path: Path) -> None:
    detector = load(write(NCHW.replace("MEAN", mean).replace("STD", std), tmp_path))
    assert detector.input.mean == (127.5,) * 3
    assert "input-normalised" not in codes(detector)


def test_a_picture_without_a_batch_axis_gets_one(tmp_path: Path) -> None:
    path = write(ALONE.replace("MEAN", "0.5, 0.5, 0.5").replace("STD", "0.5, 0.5, 0.5"), tmp_path)
    detector = load(path)
    assert detector.input.shape == (1, 3, 6, 8)
    assert {"onnx-no-batch", "input-normalised"} <= codes(detector)
    pixels = picture().transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(compiled(detector, picture()), own(path, pixels), rtol=1e-4, atol=1e-4)


LOOP = """g (uint8[1,h,v,3] x) => (float[1,2,4,6] y) WEIGHT, int64 once = {1}, float least = {0}, float most = {1},
    int64[2] size = {6, 8}> {
    holds = Less (least, most)
    c = Cast <to = 1> (x)
    resized = Loop (once, holds) <body = b (int64 i, bool go) => (bool on, float[a,b2,d] small)
        <int64[1] front = {0}, int64[1] zero = {0}, int64[1] two = {2}, float[0] none = {}> {
        on = Identity (go)
        one = Gather (c, i)
        batch = Unsqueeze (one, front)
        planes = Transpose <perm = [0, 3, 1, 2]> (batch)
        shape = Shape (planes)
        first = Slice (shape, zero, two)
        sizes = Concat <axis = 0> (first, size)
        r = Resize <coordinate_transformation_mode = "half_pixel", mode = "linear"> (planes, none, none, sizes)
        last = Transpose <perm = [0, 2, 3, 1]> (r)
        small = Squeeze (last, front)
    }>
    t = Transpose <perm = [0, 3, 1, 2]> (resized)
    y = Conv (t, w)
}""".replace("WEIGHT", WEIGHT)


def test_a_loop_that_resizes_one_picture_is_written_out(tmp_path: Path) -> None:
    """As TensorFlow's detection models prepare their pictures."""
    text = LOOP.replace("resized = Loop (once, holds) <body", "resized = Loop <body").replace(
        "    }>\n", "    }> (once, holds)\n"
    )
    path = write(text, tmp_path)
    detector = load(path)
    assert detector.input.shape == (1, 3, 6, 8)
    assert {"onnx-loop-inlined", "onnx-own-size", "onnx-integer-input"} <= codes(detector)
    assert not {"Loop", "Resize"} & {node.op for node in detector.graph.nodes}
    np.testing.assert_allclose(compiled(detector, picture()), own(path, picture()[None]), rtol=1e-5, atol=1e-3)

    (path.parent / "net.detector.toml").write_text("[input]\nsize = [12, 16]")
    larger = load(path)
    assert larger.input.shape == (1, 3, 12, 16)
    assert "Resize" in {node.op for node in larger.graph.nodes}
    pixels = picture(12, 16)
    np.testing.assert_allclose(compiled(larger, pixels), own(path, pixels[None]), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("trips", "least"), [(2, 0), (1, 2)])
def test_other_loops_stay(trips: int, least: int, tmp_path: Path) -> None:
    text = f"""g (float[1,3,4,4] x) => (float[1,3,4,4] y)
        <int64 count = {{{trips}}}, float least = {{{least}}}, float most = {{1}}> {{
        holds = Less (least, most)
        y = Loop <body = b (int64 i, bool go, float[1,3,4,4] before) => (bool on, float[1,3,4,4] after) {{
            on = Identity (go)
            after = Add (before, before)
        }}> (count, holds, x)
    }}"""
    detector = load(write(text, tmp_path))
    assert "Loop" in {node.op for node in detector.graph.nodes}
    assert "onnx-loop-inlined" not in codes(detector)

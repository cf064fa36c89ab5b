from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.evaluation.decode import decode_boxes
from deploycc.importers import load, onnx_file
from deploycc.importers.description import Description, HeadsDescription, InputDescription

Array = NDArray[np.float32]


def outputs(model: onnx.ModelProto | Path, picture: Array) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: picture}), strict=True))


def cut_outputs(detector: Detector, picture: Array) -> dict[str, Array]:
    model = gs.export_onnx(detector.graph)
    onnx.checker.check_model(model, full_check=True)
    return outputs(model, picture)


def pictures(assets: Path, detector: Detector) -> list[Array]:
    """Three real pictures as the network takes them."""
    from PIL import Image

    files = sorted((assets / "voc100").rglob("*.jpg"))[:3]
    size = (detector.input.width, detector.input.height)
    loaded = [np.asarray(Image.open(f).convert("RGB").resize(size), dtype=np.float32) for f in files]
    return [((x - 127.5) / 127.5).transpose(2, 0, 1)[None].copy() for x in loaded]


def codes(detector: Detector) -> list[str]:
    return [note.code for note in detector.notes]


# ---- real models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voc(assets: Path) -> Path:
    return assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx"


@pytest.fixture(scope="module")
def ultralight(assets: Path) -> Path:
    return assets / "ultralight_rfb320"


def caffe_rows() -> list[int]:
    """Rows of the Caffe definition's priors in the order of the ONNX file.

    The definition has six priors per cell everywhere and its first map uses three; a cell's mean square comes second
    there and last in the ONNX file.
    """
    first = [6 * cell + box for cell in range(19 * 19) for box in (0, 4, 5)]
    cells = [100, 25, 9, 4, 1]
    rest = [6 * cell + box for cell in range(19 * 19, 19 * 19 + sum(cells)) for box in (0, 2, 3, 4, 5, 1)]
    return first + rest


def test_priors_read_from_arithmetic_are_those_of_the_caffe_definition(voc: Path) -> None:
    ours = onnx_file.load(voc).heads
    theirs = load(voc.with_name("voc21_ssd_mnv1_075.prototxt")).heads
    assert ours is not None
    assert theirs is not None
    rows = caffe_rows()
    np.testing.assert_allclose(ours.priors, theirs.priors[rows], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.variances, theirs.variances[rows])
    assert (ours.y_first, ours.classes, ours.background) == (True, 21, 0)


def test_decoding_outside_the_graph_gives_the_files_own_boxes(voc: Path, assets: Path) -> None:
    detector = onnx_file.load(voc)
    assert detector.heads is not None
    for picture in pictures(assets, detector):
        raw, whole = cut_outputs(detector, picture), outputs(voc, picture)
        boxes = decode_boxes(raw[detector.heads.locations][0], detector.heads)
        np.testing.assert_allclose(boxes, whole["boxes"][0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(raw[detector.heads.scores], whole["scores"], rtol=0, atol=1e-5)


def test_opset_9_with_weights_as_inputs_and_unfolded_batch_norm(ultralight: Path, assets: Path) -> None:
    path = ultralight / "version-RFB-320.onnx"
    detector = onnx_file.load(path)
    ops = [node.op for node in detector.graph.nodes]
    assert (detector.graph.opset, len(detector.graph.inputs)) == (13, 1)
    assert ops.count("BatchNormalization") == 35
    assert not {"Shape", "Gather", "Unsqueeze", "Constant"} & set(ops)
    assert "onnx-opset-converted" in codes(detector)
    assert detector.heads is not None
    for picture in pictures(assets, detector):
        raw, whole = cut_outputs(detector, picture), outputs(path, picture)
        boxes = decode_boxes(raw[detector.heads.locations][0], detector.heads)
        np.testing.assert_allclose(boxes, whole["boxes"][0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(raw["scores"], whole["scores"], rtol=0, atol=1e-5)


def test_three_spellings_of_one_network_have_the_same_raw_outputs(ultralight: Path, assets: Path) -> None:
    decoded = onnx_file.load(ultralight / "version-RFB-320.onnx")
    picture = pictures(assets, decoded)[0]
    assert decoded.heads is not None
    expected = cut_outputs(decoded, picture)
    for name in ("version-RFB-320_simplified.onnx", "version-RFB-320_without_postprocessing.onnx"):
        raw = onnx_file.load(ultralight / name)
        assert raw.heads is None
        assert "ssd-decoding-unknown" in codes(raw)
        found = cut_outputs(raw, picture)
        np.testing.assert_allclose(found["boxes"], expected[decoded.heads.locations], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=1e-5)


RFB_DESCRIPTION = """
class_names = ["background", "face"]
[input]
mean = [127.0]
scale = [0.0078125]
colour = "RGB"
[heads]
[[heads.prior_box]]
feature = [30, 40]
min_size = [10, 16, 24]
[[heads.prior_box]]
feature = [15, 20]
min_size = [32, 48]
[[heads.prior_box]]
feature = [8, 10]
min_size = [64, 96]
[[heads.prior_box]]
feature = [4, 5]
min_size = [128, 192, 256]
"""


def test_a_description_gives_raw_outputs_their_priors(ultralight: Path, tmp_path: Path) -> None:
    describe = tmp_path / "rfb.toml"
    describe.write_text(RFB_DESCRIPTION)
    decoded = onnx_file.load(ultralight / "version-RFB-320.onnx").heads
    described = load(ultralight / "version-RFB-320_without_postprocessing.onnx", describe=describe)
    assert decoded is not None
    assert described.heads is not None
    assert described.class_names == ("background", "face")
    assert (described.input.mean, described.input.scale[0], described.input.assumed) == ((127.0,) * 3, 2**-7, False)
    assert (described.heads.background, described.heads.classes) == (0, 2)
    low, high = described.heads.priors[:, :2], described.heads.priors[:, 2:]
    half = np.minimum(high - low, 1) / 2  # the file limits centres and sizes, not corners, to the picture
    limited = np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half], axis=1)
    np.testing.assert_allclose(limited, decoded.priors, rtol=0, atol=1e-6)


# ---- small files ----------------------------------------------------------------------------------------------------


def write(text: str, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def network(inputs: str, body: str = "y = Relu (x)", output: str = "float[n,c,h,w] y", opset: int = 13) -> str:
    return f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => ({output}) {{ {body} }}'


def refused(path: Path, description: Description | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        onnx_file.load(path, description)
    return caught.value.render().replace(str(path), "net.onnx")


def test_open_batch_becomes_one_through_shape_arithmetic(tmp_path: Path) -> None:
    body = """
        s = Shape (x)
        i = Constant <value = int64[1] {0}> ()
        b = Gather (s, i)
        r = Constant <value = int64[1] {-1}> ()
        t = Concat <axis = 0> (b, r)
        y = Reshape (x, t)
    """
    detector = onnx_file.load(write(network("float[batch,3,4,4] x", body, "float[batch,n] y"), tmp_path))
    assert [node.op for node in detector.graph.nodes] == ["Reshape"]
    assert detector.graph.outputs[0].shape == [1, 48]
    assert detector.input.shape == (1, 3, 4, 4)


def test_an_opaque_network_has_a_note_on_missing_heads(tmp_path: Path) -> None:
    detector = onnx_file.load(write(network("float[1,3,4,4] x"), tmp_path))
    assert detector.heads is None
    note = next(note for note in detector.notes if note.code == "ssd-heads-unknown")
    assert note.reason == (
        "no tensor has the shape [1, P, 4] of an SSD's boxes (outputs: y [1, 3, 4, 4]), so the network is compiled "
        "without heads: if some tensors are raw offsets and scores, give them as [heads] in a description (`describe`)"
    )


def test_an_unstated_normalisation_is_assumed_with_a_note(tmp_path: Path) -> None:
    spec = onnx_file.load(write(network("float[1,3,4,4] x"), tmp_path)).input
    assert (spec.colour, spec.mean, spec.scale, spec.assumed) == ("RGB", (127.5,) * 3, (1 / 127.5,) * 3, True)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = write(network("float[1,3,4,4] x"), tmp_path)
    model = onnx.load(path)
    model.graph.node[0].name = "qqqq"
    path.write_bytes(model.SerializeToString().replace(b"qqqq", b"q\xff\xfeq"))
    assert refused(path).startswith("error[onnx-unreadable]: net.onnx is a damaged ONNX file\n")


def test_grey_pictures(tmp_path: Path) -> None:
    spec = onnx_file.load(write(network("float[1,1,4,4] x"), tmp_path)).input
    assert (spec.colour, spec.channels) == ("GRAY", 1)


def test_nhwc_input_with_the_exporters_transpose_becomes_nchw_without_one(tmp_path: Path) -> None:
    body = "a = Transpose <perm = [0, 3, 1, 2]> (x)  y = Relu (a)"
    detector = onnx_file.load(write(network("float[n,6,8,3] x", body), tmp_path))
    assert [node.op for node in detector.graph.nodes] == ["Relu"]
    assert (detector.input.name, detector.input.shape) == ("x", (1, 3, 6, 8))
    assert "onnx-nhwc-input" in codes(detector)


def test_nhwc_input_read_otherwise_computes_the_same(tmp_path: Path) -> None:
    path = write(network("float[1,6,8,3] x", "y = Softmax <axis = 2> (x)"), tmp_path)
    detector = onnx_file.load(path)
    picture = np.random.default_rng(0).normal(size=(1, 3, 6, 8)).astype(np.float32)
    own = cut_outputs(detector, picture)["y"]
    np.testing.assert_allclose(own, outputs(path, picture.transpose(0, 2, 3, 1).copy())["y"], rtol=1e-6, atol=0)


def test_open_size_asks_for_a_description(tmp_path: Path) -> None:
    path = write(network("float[1,3,h,w] x"), tmp_path)
    assert refused(path) == (
        "error[onnx-open-size]: the network does not fix the size of its picture\n"
        "   file: net.onnx\n  input: x\n  shape: [1, 3, 'h', 'w']\n"
        "  note: an engine is built for one size\n"
        "  hint: write `[input]` `size = [height, width]` into a description and pass it as `describe`"
    )
    detector = onnx_file.load(path, Description(input=InputDescription(size=(6, 8))))
    assert detector.input.shape == (1, 3, 6, 8)
    assert detector.graph.outputs[0].shape == [1, 3, 6, 8]


def test_another_size_than_the_files(tmp_path: Path) -> None:
    text = refused(write(network("float[1,3,4,4] x"), tmp_path), Description(input=InputDescription(size=(4, 8))))
    assert text.startswith("error[input-size]: the description says 8, but the network is fixed to 4\n")


@pytest.mark.parametrize(
    ("inputs", "first_line"),
    [
        ("float[2,3,4,4] x", "error[onnx-batch]: the network takes 2 pictures at once, but only batch 1 is supported"),
        ("float[1,5,4,4] x", "error[onnx-no-picture]: the input x is not a picture: it has 5 channels, or 4 if it is NHWC"),
        ("float[1,3] x", "error[onnx-no-picture]: the input x is not a picture: its shape is [1, 3], not "
         "[1, channels, height, width]"),
        ("int8[1,3,4,4] x", "error[onnx-no-picture]: the input x is not a picture: its type is int8, which does not hold "
            "pixels of 0..255"),
        ("double[1,3,4,4] x", "error[onnx-no-picture]: the input x is not a picture: its type is float64, not float32"),
        ("float[1,3,4,4] x, float[1] z", "error[onnx-several-inputs]: the network has 2 inputs, but a detector takes one "
         "picture"),
        ("", "error[onnx-no-input]: the network has no input"),
    ],
)  # fmt: skip
def test_inputs_that_are_not_a_picture(inputs: str, first_line: str, tmp_path: Path) -> None:
    kind = inputs.split("[")[0] or "float"
    body = "y = Identity (x)" if inputs else "y = Constant <value = float[1] {1}> ()"
    text = refused(
        write(network(inputs, body, f"{kind}[n] y" if "[1,3] x" not in inputs else "float[1,3] y"), tmp_path)
    )
    assert text.splitlines()[0] == first_line


def test_a_description_that_does_not_fit(tmp_path: Path) -> None:
    path = write(network("float[1,3,4,4] x"), tmp_path)
    grey = refused(path, Description(input=InputDescription(colour="GRAY")))
    assert grey.startswith("error[input-colour]: GRAY does not fit an input of 3 channels")
    means = refused(path, Description(input=InputDescription(mean=(1.0, 2.0))))
    assert means.startswith("error[input-mean]: 2 values of mean do not fit 3 channels")
    heads = refused(path, Description(heads=HeadsDescription(locations="y")))
    assert heads.startswith("error[description-no-priors]: the description gives no priors, and the network does")


def test_float_constants_written_as_attributes_stay_float32(tmp_path: Path) -> None:
    path = tmp_path / "scaled.onnx"
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 13]>
    g (float[1,3,4,4] x) => (float[1,3,4,4] y) { c = Constant <value_float = 2.5> () y = Mul (x, c) }""")
    onnx.save(model, path)
    detector = onnx_file.load(path)
    picture = np.ones((1, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(cut_outputs(detector, picture)["y"], 2.5 * picture)


def test_old_shapes_that_a_branch_states_do_not_change_outer_tensors(tmp_path: Path) -> None:
    """PyTorch writes into a branch what it knew of outer tensors; the condition on their rank must still be computed."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 13]>
    g (float[n,3,4,4] x) => (float[a,b,c,d] y) <int64[4] s = {1,3,2,8}, int64 four = {4}, int64 zero = {0}> {
      r = Reshape (x, s)  h = Shape (r)  k = Shape (h)  n = Gather (k, zero)  q = Equal (n, four)
      y = If (q) <then_branch = t () => (float[a,b,c,d] u) <float[7,7] r> { u = Relu (r) },
                  else_branch = e () => (float[a,b,c,d] v) <float[7,7] r> { v = Neg (r) }>
    }""")
    path = tmp_path / "branch.onnx"
    onnx.save(model, path)
    detector = onnx_file.load(path)
    assert {node.op for node in detector.graph.nodes} == {"Reshape", "Relu"}
    assert detector.graph.outputs[0].shape == [1, 3, 2, 8]


def test_an_output_keeps_the_shape_that_the_file_states_where_inference_has_none(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 13, "own": 1]>
    g (float[1,3,4,4] x) => (float[1,rows,5] y) { y = own.Detect (x) }""")
    path = tmp_path / "detect.onnx"
    onnx.save(model, path)
    assert onnx_file.load(path).graph.outputs[0].shape == [1, "rows", 5]


def test_a_file_in_fp16_becomes_fp32(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
    g (float16[1,3,4,4] x) => (float[1,3,4,4] y) <float16[1] w> {
      two = Constant <value = float16[1] {16384}> ()  m = Mul (x, two)  z = Mul (m, w)  y = Cast <to = 1> (z)
    }""".replace(" <float16[1] w>", "")
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.1], np.float16), "w"))
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    detector = onnx_file.load(path)
    assert "onnx-fp16-widened" in codes(detector)
    assert {str(np.dtype(tensor.dtype)) for tensor in detector.graph.tensors().values()} == {"float32"}
    picture = np.full((1, 3, 4, 4), 3.0, np.float32)
    expected = picture * 2 * np.float32(np.float16(0.1))
    np.testing.assert_allclose(cut_outputs(detector, picture)["y"], expected, rtol=1e-6, atol=0)


def test_nothing_is_printed_while_constants_are_folded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime warns of an initialiser that nothing reads, from its own sessions inside graphsurgeon too."""
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,3,4,4] x) => (float[1,3,4,4] y) <float[1] a = {2}, float[2] b = {1, 2}, float[3] z = {1, 2, 3}> {
      c = Add (a, a)  d = Add (b, z)  y = Mul (x, c)
    }"""
    path = tmp_path / "constants.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    load(path)
    assert capfd.readouterr() == ("", "")

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from onnx.helper import make_node
from ssd_tails import Tail, build, grid_priors

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.importers import load

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
TAIL = Tail(grid=(3, 4), centres=PRIORS, variances=np.ones_like(PRIORS))
RAW = "t3_0"  # the offsets before any arithmetic


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(build(TAIL), path)
    return path


def described(model: Path, text: str) -> Detector:
    (model.parent / "net.detector.toml").write_text(text)
    return load(model)


def refused(model: Path, text: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        described(model, text)
    return caught.value


def offsets_name(model: Path) -> str:
    return str(onnx.load(model).graph.node[2].output[0])


def test_named_tensors_with_priors_from_a_file(model: Path) -> None:
    np.save(model.parent / "priors.npy", np.concatenate([TAIL.corners, np.full_like(PRIORS, 0.3)], axis=1))
    name = offsets_name(model)
    detector = described(
        model, f'[heads]\nlocations = "{name}"\nscores = "scores"\npriors = "priors.npy"\ny_first = true'
    )
    heads = detector.heads
    assert heads is not None
    assert (heads.locations, heads.scores, heads.classes, heads.y_first) == (name, "scores", 3, True)
    np.testing.assert_array_equal(heads.priors, TAIL.corners)
    np.testing.assert_array_equal(heads.variances, np.full_like(PRIORS, 0.3))
    assert [note.code for note in detector.notes if note.code.startswith("ssd-heads")] == ["ssd-heads-described"]


def test_priors_as_centres_with_one_variance(model: Path) -> None:
    np.save(model.parent / "priors.npy", PRIORS.astype(np.float64))
    detector = described(
        model,
        f'[heads]\nlocations = "{offsets_name(model)}"\nscores = "scores"\npriors = "priors.npy"\n'
        'priors_form = "centers"\nvariance = [0.1, 0.2, 0.3, 0.4]',
    )
    assert detector.heads is not None
    np.testing.assert_allclose(detector.heads.priors, TAIL.corners, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(detector.heads.variances[7], np.float32([0.1, 0.2, 0.3, 0.4]))


def test_unknown_tensor(model: Path) -> None:
    np.save(model.parent / "priors.npy", TAIL.corners)
    error = refused(model, '[heads]\nlocations = "boxs"\npriors = "priors.npy"')
    assert error.render() == (
        "error[description-unknown-tensor]: the network has no tensor boxs\n"
        f"  file: {model.with_name('net.detector.toml')}\n   key: heads.locations\n  hint: did you mean boxes?"
    )


def test_priors_that_do_not_fit(model: Path) -> None:
    np.save(model.parent / "priors.npy", TAIL.corners[1:])
    error = refused(model, '[heads]\npriors = "priors.npy"')
    assert error.message == "boxes [1, 24, 4] does not fit: 23 priors need 92 offsets"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 5), np.float32), "priors must be [P, 4] or [P, 8] floats, but the file holds [4, 5] of float32"),
        (np.zeros((24, 4), np.int64), "priors must be [P, 4] or [P, 8] floats, but the file holds [24, 4] of int64"),
        (np.full((24, 4), np.nan), "the priors contain values that are not finite"),
        (np.tile([0, 0, 1, 1e39], (24, 1)), "the priors contain values that are not finite"),
        (np.tile([0, 0, 1, 1, 0.1, 0.1, 0.2, 1e-50], (24, 1)), "variances must be positive as numbers of 32 bits"),
        (PRIORS, "prior 2 has no area: [0.375, 0.1666666716337204, 0.25, 0.5]"),
    ],
)
def test_wrong_priors(values: np.ndarray, message: str, model: Path) -> None:
    np.save(model.parent / "priors.npy", values)
    if values is PRIORS:
        values = values.copy()
        values[0] = [0, 0, 1, 1]
        np.save(model.parent / "priors.npy", values)
    assert refused(model, '[heads]\npriors = "priors.npy"').message == message


@pytest.mark.parametrize("data", [None, b"", b"not numpy", b"\x93NUMPY\x01\x00"])
def test_priors_that_cannot_be_read(data: bytes | None, model: Path) -> None:
    if data is not None:
        (model.parent / "priors.npy").write_bytes(data)
    assert refused(model, '[heads]\npriors = "priors.npy"').code == "description-file"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("feature = [0, 4]\nmin_size = [8]", "feature and min_size must be positive"),
        ("feature = [3, 4]\nmin_size = [8]\nmax_size = [9, 10]", "2 max_size for 1 min_size"),
        ("feature = [3, 4]\nmin_size = [8]\nmax_size = [8]", "max_size must be larger than its min_size"),
        ("feature = [3, 4]\nmin_size = [8]\naspect_ratio = [0]", "aspect_ratio, step and variance must be positive"),
    ],
)
def test_wrong_prior_boxes(layer: str, message: str, model: Path) -> None:
    error = refused(model, f"[[heads.prior_box]]\n{layer}")
    assert (error.message, error.context["key"]) == (message, "heads.prior_box, number 1")


def test_outputs_that_do_not_tell_heads(model: Path) -> None:
    network = build(replace(TAIL, nms=True))
    onnx.save(network, model)
    np.save(model.parent / "priors.npy", TAIL.corners)
    error = refused(model, '[heads]\npriors = "priors.npy"')
    assert (error.code, error.hint) == ("description-ambiguous", "name it: [heads] locations = ...")


@pytest.mark.parametrize("layout", ["columns", "flat columns", "channels first", "channels last", "flat"])
def test_heads_in_other_layouts_are_turned_to_rows(layout: str, model: Path) -> None:
    network = onnx.load(model)
    rows = [network.graph.node[2].output[0], "scores"]
    names = rows
    if "columns" in layout:
        network.graph.node.extend(make_node("Transpose", [name], [f"{name}_t"], perm=[0, 2, 1]) for name in rows)
        names = [f"{name}_t" for name in rows]
        if layout == "flat columns":
            network.graph.node.extend(make_node("Squeeze", [name], [f"{name}_s"]) for name in names)
            names = [f"{name}_s" for name in names]
    elif layout == "flat":
        network.graph.node.extend(make_node("Flatten", [name], [f"{name}_f"]) for name in rows)
        names = [f"{name}_f" for name in rows]
    else:  # the feature maps themselves; the softmax comes from the description
        step = 0 if layout == "channels first" else 1
        names = [network.graph.node[number + step].output[0] for number in (0, 3)]
    save(network, names, model)
    np.save(model.parent / "priors.npy", TAIL.corners)
    detector = described(
        model,
        f'[heads]\nlocations = "{names[0]}"\nscores = "{names[1]}"\npriors = "priors.npy"\nactivation = "softmax"',
    )
    heads = detector.heads
    assert heads is not None
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    wanted = run(network, rows, picture)
    found = run(gs.export_onnx(detector.graph), [heads.locations, heads.scores], picture)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=0, atol=1e-6)


def save(network: onnx.ModelProto, names: list[str], path: Path) -> None:
    """Write the network with further outputs: what leads to no output is dropped when a file is read."""
    inferred = onnx.shape_inference.infer_shapes(network)
    known = {value.name: value for value in inferred.graph.value_info}
    inferred.graph.output.extend(known[name] for name in names if name != "scores")
    onnx.save(inferred, path)


def run(network: onnx.ModelProto, names: list[str], picture: np.ndarray) -> list[np.ndarray]:
    network = onnx.ModelProto.FromString(network.SerializeToString())
    del network.graph.output[:]
    network.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {"data": picture})


def test_a_layout_that_does_not_tell_rows_is_refused(model: Path) -> None:
    network = onnx.load(model)
    shape = onnx.numpy_helper.from_array(np.array([2, 12, 4, 1]), "odd")
    network.graph.initializer.append(shape)
    network.graph.node.append(make_node("Reshape", [offsets_name(model), "odd"], ["folded"]))
    save(network, ["folded"], model)
    np.save(model.parent / "priors.npy", TAIL.corners)
    error = refused(model, '[heads]\nlocations = "folded"\nscores = "scores"\npriors = "priors.npy"')
    assert error.message.startswith("folded [2, 12, 4, 1] does not fit: its shape does not show which 4 values belong")


def test_variances_are_given_once(model: Path) -> None:
    np.save(model.parent / "priors.npy", np.concatenate([TAIL.corners, np.full_like(PRIORS, 0.3)], axis=1))
    error = refused(model, '[heads]\npriors = "priors.npy"\nvariance = 0.1')
    assert error.message == "the variances are given twice: in columns 5 to 8 of the priors and as heads.variance"


def test_layers_take_the_variance_of_the_heads_unless_they_state_one(model: Path) -> None:
    layer = "[[heads.prior_box]]\nfeature = [3, 4]\nmin_size = 8"
    tensors = f'[heads]\nlocations = "{offsets_name(model)}"\nscores = "scores"\n'
    for text, variance in (("", 0.1), ("variance = 0.3", 0.1)):
        heads = described(model, f"{tensors}{text}\n{layer}\nvariance = 0.1\n{layer}").heads
        assert heads is not None
        np.testing.assert_allclose(heads.variances[[0, 23], 3], [variance, 0.3 if text else 0.2], rtol=1e-6, atol=0)


def test_the_input_is_named_as_in_the_network(model: Path) -> None:
    assert refused(model, '[input]\nname = "picture"').code == "input-name"
    assert described(model, '[input]\nname = "data"').input.name == "data"

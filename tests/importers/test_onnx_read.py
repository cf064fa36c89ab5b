from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploycc.errors import ModelError
from deploycc.importers.onnx_read import read_model

CONV = """<ir_version: 8, opset_import: ["" : 13]>
small (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w = {1,2,3,4,5,6}>
{ a = Conv (x, w)  y = Relu (a) }"""


def write(model: onnx.ModelProto | bytes, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(path)
    return caught.value.render().replace(str(path), "net.onnx")


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def test_a_good_file_and_its_digest(tmp_path: Path) -> None:
    path = write(parse(CONV), tmp_path)
    model, files, digest, _ = read_model(path)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]
    assert files == (path,)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "net.onnx") == "error[file-missing]: net.onnx does not exist\n  file: net.onnx"


def test_folder(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.mkdir()
    assert refused(path).startswith("error[file-unreadable]: net.onnx cannot be read\n  file: net.onnx\n  note: ")


def test_empty(tmp_path: Path) -> None:
    assert refused(write(b"", tmp_path)) == "error[file-empty]: net.onnx is empty\n  file: net.onnx"


def test_not_onnx(tmp_path: Path) -> None:
    assert refused(write(b"layer { name: 'conv' }\n" * 9, tmp_path)) == (
        "error[onnx-unreadable]: net.onnx is not an ONNX file\n   file: net.onnx\n  bytes: 207\n"
        "  hint: copy or export it again"
    )


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_truncated_anywhere(share: float, tmp_path: Path) -> None:
    data = parse(CONV).SerializeToString()
    text = refused(write(data[: int(len(data) * share)], tmp_path))
    assert text.startswith("error[onnx-")
    assert "file: net.onnx" in text


@pytest.mark.parametrize("seed", range(20))
def test_damaged_anywhere_is_diagnosed_or_still_valid(seed: int, tmp_path: Path) -> None:
    data = bytearray(parse(CONV).SerializeToString())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 4):
        data[place] = rng.integers(0, 256)
    with contextlib.suppress(ModelError):  # anything else would be a bug, and fails here
        model, _, _, _ = read_model(write(bytes(data), tmp_path))
        onnx.checker.check_model(model)


def test_no_operators(tmp_path: Path) -> None:
    model = parse(CONV)
    del model.graph.node[:]
    assert refused(write(model, tmp_path)) == ("error[onnx-no-nodes]: the network has no operators\n  file: net.onnx")


def test_an_ir_that_is_too_old_is_refused(tmp_path: Path) -> None:
    model = parse(CONV)
    model.ir_version = 2
    text = refused(write(model, tmp_path))
    assert text.startswith("error[onnx-ir-version]: IR version 2 is not supported\n")
    assert text.endswith("hint: export it with a current exporter")


@pytest.mark.parametrize("version", [14, 99])
def test_a_newer_ir_is_read_as_the_newest_known(version: int, tmp_path: Path) -> None:
    model = parse(CONV)
    model.ir_version = version
    read, _, _, notes = read_model(write(model, tmp_path))
    assert read.ir_version == 13
    assert [note.code for note in notes] == ["onnx-ir-newer"]
    assert f"IR {version}" in notes[0].reason
    assert read_model(write(parse(CONV), tmp_path))[3] == ()


def test_an_unknown_opset_is_refused(tmp_path: Path) -> None:
    text = refused(write(parse(CONV.replace('"" : 13', '"" : 99')), tmp_path))
    assert text.startswith("error[onnx-opset-unknown]: opset 99 is unknown\n")


def test_a_tensor_from_nowhere_names_its_node(tmp_path: Path) -> None:
    model = parse(CONV)
    model.graph.node[0].name, model.graph.node[0].input[0] = "first", "lost"
    text = refused(write(model, tmp_path))
    assert "error[onnx-invalid]" in text
    assert "input 'lost' of node: name: first" in text


def test_cycle_names_the_loop(tmp_path: Path) -> None:
    model = parse(CONV.replace("a = Conv (x, w)", "b = Add (x, d)  c = Relu (b)  d = Relu (c)  a = Conv (d, w)"))
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    assert refused(write(model, tmp_path)) == (
        "error[onnx-cycle]: the network feeds its own output back into itself\n"
        "   file: net.onnx\n"
        "  nodes: make_c -> make_d -> make_b -> make_c"
    )


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    model = parse(CONV)
    model.graph.node.insert(0, model.graph.node.pop(1))
    read, _, _, _ = read_model(write(model, tmp_path))
    assert [node.op_type for node in read.graph.node] == ["Conv", "Relu"]


def test_unknown_operator(tmp_path: Path) -> None:
    text = refused(write(parse(CONV.replace("Relu", "Rleu")), tmp_path))
    assert text.startswith("error[onnx-invalid]: the file violates the ONNX standard\n  file: net.onnx\n  note: ")
    assert "Rleu" in text


def test_missing_tensor(tmp_path: Path) -> None:
    text = refused(write(parse(CONV.replace("Conv (x, w)", "Conv (x, v)")), tmp_path))
    assert text.startswith("error[onnx-invalid]")
    assert "v" in text


def test_nan_weights(tmp_path: Path) -> None:
    model = parse(CONV)
    values = np.array([1, np.nan, 3, 4, np.nan, 6], dtype=np.float32).reshape(2, 3, 1, 1)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    assert refused(write(model, tmp_path)) == (
        "error[nan-weights]: 2 of 6 values of w are NaN\n    file: net.onnx\n  tensor: w\n"
        "  hint: the training diverged; use an earlier snapshot"
    )


def test_weights_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    model = parse(CONV)
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.raw_data = b"\0" * 20
    text = refused(write(model, tmp_path))
    assert text.startswith(("error[onnx-weight-data]", "error[onnx-invalid]"))  # by the age of the onnx package
    assert "w" in text


def test_weights_of_no_known_type(tmp_path: Path) -> None:
    model = parse(CONV)
    model.graph.initializer[0].data_type = 77
    assert refused(write(model, tmp_path)).startswith(
        "error[onnx-element-type]: the tensor w has the element type 77, which ONNX does not define\n"
    )


def external(folder: Path) -> Path:
    path = folder / "net.onnx"
    model = parse(CONV)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))  # only raw data can lie outside
    onnx.save_model(model, path, save_as_external_data=True, location="net.weights", size_threshold=0)
    return path


def test_external_weights_are_read_and_digested(tmp_path: Path) -> None:
    path = external(tmp_path)
    model, files, digest, _ = read_model(path)
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]).ravel(), [1, 2, 3, 4, 5, 6])
    assert files == (path, tmp_path / "net.weights")
    assert digest == hashlib.sha256(path.read_bytes() + files[1].read_bytes()).hexdigest()


def test_external_weights_missing(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "net.weights").unlink()
    text = refused(path)
    assert text.startswith("error[onnx-external-data]: the external weights of the file cannot be read\n")
    assert "net.weights" in text


def test_external_weights_truncated(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "net.weights").write_bytes(b"\0" * 8)
    assert refused(path).startswith("error[onnx-")


def test_external_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 24)
    model = onnx.load(external(tmp_path / "model"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    path = tmp_path / "model" / "net.onnx"
    path.write_bytes(model.SerializeToString())
    assert refused(path).startswith("error[onnx-external-data]")

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from deploycc.importers import load
from deploycc.verification.comparison import comparable_tensors
from deploycc.verification.file_outputs import CannotRun, FileOutputs
from deploycc.verification.pictures import seeded_picture


def write(folder: Path, text: str) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {text}').SerializeToString())
    return path


def file_values(path: Path, names: list[str] | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    detector = load(path)
    picture = seeded_picture(detector.input, 0)
    return picture, FileOutputs(detector, names or comparable_tensors(detector.graph), 1)(picture)


def test_an_open_batch(tmp_path: Path) -> None:
    picture, values = file_values(write(tmp_path, "g (float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Neg (x) }"))
    np.testing.assert_array_equal(values["y"], -picture)


def test_a_file_that_takes_the_channels_last(tmp_path: Path) -> None:
    path = write(tmp_path, "g (float[1,8,8,3] x) => (float[1,8,8,3] y) { y = Neg (x) }")
    picture, values = file_values(path)
    np.testing.assert_array_equal(values["y"], -picture.transpose(0, 2, 3, 1))


def test_what_the_importer_adds_after_the_file_is_run_too(tmp_path: Path) -> None:
    """The importer turns scores of [1, C, P] and writes them to a tensor that the file does not have."""
    detector = load(write(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Neg (x) }"))
    graph = detector.graph
    turned = gs.Variable("turned", np.dtype(np.float32), [1, 8, 8, 3])
    graph.nodes.append(gs.Node("Transpose", "turn", {"perm": [0, 2, 3, 1]}, list(graph.outputs), [turned]))
    graph.outputs = [turned]
    picture = seeded_picture(detector.input, 0)
    values = FileOutputs(detector, ["turned"], 1)(picture)
    np.testing.assert_array_equal(values["turned"], -picture.transpose(0, 2, 3, 1))


def test_a_changed_file_is_not_the_one_that_was_imported(tmp_path: Path) -> None:
    path = write(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Neg (x) }")
    detector = load(path)
    write(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Abs (x) }")
    with pytest.raises(CannotRun, match="not there any more as it was"):
        FileOutputs(detector, ["y"], 1)


def test_operators_that_onnx_runtime_lacks(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    text = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Plugin.New (x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13, "Plugin": 1]> {text}')
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CannotRun, match="ONNX Runtime cannot run the file itself"):
        FileOutputs(load(path), ["y"], 1)

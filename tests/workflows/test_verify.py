from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploycc import passes, target
from deploycc.detector import Detector
from deploycc.documents.compile import VerificationRecord
from deploycc.errors import MeasureError, ModelError
from deploycc.importers import load
from deploycc.passes import Options, Result
from deploycc.passes.options import Prune
from deploycc.workflows import verify
from deploycc.workflows.networks import run_passes, write_network
from deploycc.workflows.verify import Verifier
from deploycc.workflows.written import read_back

TEXT = """<ir_version: 8, opset_import: ["": 13]>
net (float[1,3,16,16] x) => (float[1,4,8,8] y) <float[4] s, float[4] m>
{ c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)  b = BatchNormalization (c, s, m, m, s)  r = Relu (b)
  y = Conv (r, v) }"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(folder: Path, **changed: Any) -> Path:
    generator = np.random.default_rng(0)
    values = {"w": (4, 3, 3, 3), "v": (4, 4, 1, 1), "s": (4,), "m": (4,)}
    weights = {name: generator.normal(1, 0.3, shape).astype(np.float32) for name, shape in values.items()}
    model = onnx.parser.parse_model(TEXT.replace(" <float[4] s, float[4] m>", ""))
    arrays = {**weights, **changed}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def compiled(
    source: Path, folder: Path, name: str = "x86-cpu", precision: str = "fp32", **options: Any
) -> VerificationRecord:
    """Compile a file as `compile` does, and verify what was written."""
    start, board = load(source), target.load(name)
    out = folder / "out"
    out.mkdir()
    done = run_passes(start, board, precision, **options)  # type: ignore[arg-type]
    written = write_network(done, board, out, "compiled")
    return Verifier().verify(start, written, out / written.network.file)


def test_a_network_equals_its_file(source: Path, tmp_path: Path) -> None:
    record = compiled(source, tmp_path)
    assert (record.against, record.pictures, record.tensors, record.reason) == ("file", 2, 1, None)
    assert record.largest_difference < 1e-5
    assert record.seconds > 0


def test_a_plugin_is_left_out_and_a_typed_network_is_near(source: Path, tmp_path: Path) -> None:
    record = compiled(source, tmp_path, "x86-rtx", "fp16")
    assert (record.against, record.tensors, record.tolerance) == ("file", 1, 0.5)
    assert 0 < record.largest_difference < 0.01


def test_a_caffe_network_is_read_back_as_caffe(source: Path, tmp_path: Path) -> None:
    record = compiled(source, tmp_path, "drive-px2-igpu")
    assert (record.tensors, record.largest_difference < 1e-5) == (1, True)


def test_a_pruned_network_is_compared_with_the_network_after_pruning(source: Path, tmp_path: Path) -> None:
    record = compiled(source, tmp_path, prune=Prune({"c": (1,)}))
    assert (record.against, record.tensors) == ("pruned", 1)
    assert record.largest_difference < 1e-5


def test_the_same_network_is_verified_once(source: Path, tmp_path: Path) -> None:
    start, board, verifier = load(source), target.load("jetson-tx2-jp461"), Verifier()
    records = []
    for precision in ("fp32", "fp16"):  # the builder is told the precision: both are one file
        written = write_network(run_passes(start, board, precision), board, tmp_path, "compiled")  # type: ignore[arg-type]
        records.append(verifier.verify(start, written, tmp_path / written.network.file))
    assert [record.precision for record in records] == ["fp32", "fp16"]
    assert [record.seconds > 0 for record in records] == [True, False]


def test_a_wrong_pass_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trim_kernels(detector: Detector, options: Options) -> Result:
        convolution = next(node for node in detector.graph.nodes if node.op == "Conv")
        convolution.inputs[1].values = convolution.inputs[1].values * np.float32(1.01)
        return Result(detector, changed=True)

    wrong = tuple(trim_kernels if step.__name__ == "trim_kernels" else step for step in passes.PIPELINE)
    monkeypatch.setattr(passes, "PIPELINE", wrong)
    with pytest.raises(ModelError) as caught:
        compiled(source, tmp_path)
    lines = caught.value.render().splitlines()
    assert lines[0] == "error[network-differs]: the compiled network does not compute what its file computes"
    assert [line.strip() for line in lines[2:5:2]] == ["output: y", "since: trim_kernels"]


def test_a_wrong_import_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = load(source)
    [constant] = [tensor for name, tensor in right.graph.tensors().items() if name == "v"]
    constant.values = constant.values * np.float32(1.01)
    monkeypatch.setattr(f"{__name__}.load", lambda path: right)
    for prune in (None, Prune({"c": (1,)})):
        folder = tmp_path / str(prune is None)
        folder.mkdir()
        with pytest.raises(ModelError) as caught:
            compiled(source, folder, prune=prune)
        assert (caught.value.code, caught.value.context["since"]) == ("network-differs", "import")


def test_a_file_that_gives_infinity_is_refused_with_the_first_node_that_does(tmp_path: Path) -> None:
    huge = np.full((4, 4, 1, 1), 3e38, np.float32)
    with pytest.raises(ModelError) as caught:
        compiled(write(tmp_path, v=huge), tmp_path)
    error = caught.value
    assert (error.code, error.context["node"]) == ("network-not-finite", "y")
    assert error.context["tensor"].startswith("y: ")


def test_a_file_that_overflows_in_its_own_fp16_nodes_is_named_as_the_cause(tmp_path: Path) -> None:
    """The import computes in FP32, where nothing overflows: no tensor of it can be named."""
    text = """<ir_version: 8, opset_import: ["": 13]>
    net (float[1,3,16,16] x) => (float[1,3,16,16] y) <float k = {70000}>
    { h = Cast <to = 10> (k)  f = Cast <to = 1> (h)  y = Mul (x, f) }"""
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(ModelError) as caught:
        compiled(path, tmp_path)
    assert caught.value.message == "the file gives NaN or infinity in y"
    assert list(caught.value.context) == ["file"]


def test_an_fp16_network_that_overflows_is_refused_with_the_layer_to_keep(tmp_path: Path) -> None:
    large = np.full((4, 4, 1, 1), 3e4, np.float32)
    with pytest.raises(ModelError) as caught:
        compiled(write(tmp_path, v=large), tmp_path, "x86-rtx", "fp16")
    assert (caught.value.code, caught.value.hint) == ("network-not-finite", "`keep_fp32=y`")


def test_what_cannot_be_read_back_is_refused(source: Path, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes()[:200])
    with pytest.raises(ModelError) as caught:
        read_back(source)
    assert caught.value.render().startswith(
        "error[written-unreadable]: net.onnx, which was just written, cannot be read back\n"
    )


def test_without_its_file_a_network_is_compared_with_its_import(source: Path, tmp_path: Path) -> None:
    start, board = load(source), target.load("x86-cpu")
    source.unlink()
    written = write_network(run_passes(start, board, "fp32"), board, tmp_path, "compiled")
    record = Verifier().verify(start, written, tmp_path / written.network.file)
    assert (record.against, record.reason) == ("import", "it is not there any more as it was")


def test_a_network_with_thresholds_is_wrong_only_on_most_pictures(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploycc.verification.comparison import Difference

    start = load(source)
    for wrong_seeds, expected in (({0}, False), ({0, 1, 2}, True)):
        shares = {seed: 1.0 if seed in wrong_seeds else 0.0 for seed in range(5)}
        monkeypatch.setattr(verify, "_difference", lambda a, b, seed, s=shares: Difference("y", s[seed]))
        monkeypatch.setattr("deploycc.verification.comparison.has_thresholds", lambda graph: True)
        reference = verify._own_graph(start, "import", "")
        found = verify._compare(reference, verify._Runner(start, start.graph), 1e-3)
        assert (found.wrong, found.pictures) == (expected, 5)


def test_a_file_that_fails_while_it_runs_is_diagnosed(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> net (float[1,3,16,16] x) => (float[1,16,16] y)
    { m = ReduceMax <keepdims = 0> (x)  k = Constant <value = float {1000.0}> ()  a = Add (m, k)
      i = Cast <to = 7> (a)  r = Relu (x)  y = Gather <axis = 1> (r, i) }"""
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())  # the index is far beyond three channels
    with pytest.raises(MeasureError) as caught:
        compiled(path, tmp_path)
    assert caught.value.code == "onnxruntime-fails"
    assert "Gather" in (caught.value.note or "")

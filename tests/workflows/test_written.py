"""A network that cannot be read back does not replace what was there before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ssd_tails import Tail, build, grid_priors

import deploycc
from deploycc.cli import main
from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.importers import load
from deploycc.workflows.export import export_files
from deploycc.workflows.load import save

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    file = tmp_path_factory.mktemp("source") / "net.onnx"
    onnx.save(build(Tail(grid=(3, 4), centres=PRIORS, variances=np.ones_like(PRIORS))), file)
    return load(file, mean=(0.0,), scale=(1.0,))


def spoil(detector: Detector) -> Detector:
    """Make a weight of a copy infinite, as a pass with a fault might."""
    graph = detector.graph.copy()
    weight = next(each for node in graph.nodes if node.op == "Conv" for each in node.inputs[1:])
    assert isinstance(weight, gs.Constant)
    weight.values = np.full_like(weight.values, np.inf)
    return Detector(**{**vars(detector), "graph": graph})


def test_a_network_that_can_be_read_back_takes_its_name(detector: Detector, tmp_path: Path) -> None:
    save(detector, tmp_path / "small.anything")
    assert [path.name for path in tmp_path.iterdir()] == ["small.anything"]
    assert load((tmp_path / "small.anything").rename(tmp_path / "small.onnx")).heads is not None


def test_one_that_cannot_leaves_the_old_file(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "small.onnx").write_bytes(b"old")
    with pytest.raises(ModelError) as caught:
        save(spoil(detector), tmp_path / "small.onnx")
    assert caught.value.code == "written-unreadable"
    assert caught.value.context["file"] == str(tmp_path / "small.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("small.onnx", b"old")]


def test_caffe_files_that_cannot_be_read_back_leave_neither(detector: Detector, tmp_path: Path) -> None:
    export_files(detector, tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.caffemodel", "a.prototxt"]
    with pytest.raises(ModelError, match="cannot be read back"):
        export_files(spoil(detector), tmp_path / "b.prototxt", tmp_path / "b.caffemodel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.caffemodel", "a.prototxt"]


def test_prune_writes_nothing_that_it_cannot_read_back(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploycc.workflows import prune

    kept = prune.prune
    monkeypatch.setattr(
        prune,
        "prune",
        lambda *a, **k: (lambda done: type(done)(**{**vars(done), "detector": spoil(done.detector)}))(kept(*a, **k)),
    )
    save(detector, tmp_path / "net.onnx")
    output = tmp_path / "small.onnx"
    assert main(["prune", str(tmp_path / "net.onnx"), "--by", "l1", "--round-to", "1", "-o", str(output)]) == 1
    assert "error[written-unreadable]" in capsys.readouterr().err
    assert not output.exists()


def test_nothing_else_writes_networks_of_the_user() -> None:
    """Whatever saves a detector otherwise does it in a folder that is not the user's yet, or never will be."""
    package = Path(deploycc.__file__).parent
    unchecked = {
        path.relative_to(package).as_posix()
        for room in ("cli", "workflows")
        for path in (package / room).glob("*.py")
        if "from deploycc.detector.file import save\n" in path.read_text(encoding="utf-8")
    }
    assert unchecked == {f"workflows/{name}.py" for name in ("written", "networks", "device_timer", "staged")}

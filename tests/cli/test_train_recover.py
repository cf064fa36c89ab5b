"""``deploycc train recover``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc
from deploycc.cli import main


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pruned") / "small.onnx"
    settings = deploycc.PruneSettings(by="l1", below=0.3, multiple=1)
    deploycc.save(deploycc.prune(deploycc.load("street_ssd"), settings).detector, path)
    return path


def recover(pruned: Path, output: Path, *more: str) -> list[str]:
    data = ["--teacher", "street_ssd", "--data", "generated:6:30", "--batch", "2", "--float32"]
    return ["train", "recover", str(pruned), *data, "-o", str(output), *more]


def test_the_recovered_network_is_written_and_compiles(
    pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "good.onnx"
    assert main(recover(pruned, output, "--steps", "12", "--check-every", "6")) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(output)
    assert "agreement with the teacher" in shown.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.checkpoint.pt", "good.metrics.json", "good.onnx"]
    metrics = json.loads((tmp_path / "good.metrics.json").read_text(encoding="utf-8"))
    assert metrics["after"] > metrics["before"]
    assert [record["step"] for record in metrics["history"]] == [6, 12]
    assert all(record["labels"] > 0 for record in metrics["history"])
    detector = deploycc.load(output)
    assert detector.prunings == deploycc.load(pruned).prunings
    (note,) = (note for note in detector.notes if note.code == "weights-recovered")
    assert "and their labels" in note.reason


def test_a_training_that_does_not_help_writes_no_network(
    pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "good.onnx"
    output.write_bytes(b"a file of the user's")
    assert main(recover(pruned, output, "--steps", "1", "--lr", "0", "--label-weight", "0")) == 0
    assert output.read_bytes() == b"a file of the user's"
    assert "no better" in " ".join(capsys.readouterr().err.split())
    metrics = json.loads((tmp_path / "good.metrics.json").read_text(encoding="utf-8"))
    assert "labels" not in metrics["history"][0]


def test_labels_of_other_classes_are_refused(pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "background,car,truck,bus,pedestrian,cyclist,sign"
    assert main(recover(pruned, tmp_path / "good.onnx", "--names", names)) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert (
        "error[labels-of-other-classes]: the data set labels objects that the detector does not know: person" in shown
    )
    assert "hint:" in shown
    assert not list(tmp_path.iterdir())


def test_a_network_of_the_user_is_never_replaced_by_its_successor(
    pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pruned.read_bytes()
    assert main(recover(pruned, pruned, "--steps", "1")) == 1
    assert "output-is-the-input" in capsys.readouterr().err
    assert pruned.read_bytes() == before


def test_a_network_is_pruned_and_recovered_in_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "small.onnx"
    options = ["--teacher", "street_ssd", "--data", "generated:5:24", "--batch", "2", "-o", str(output)]
    options += ["--stages", "2", "--below", "0.75", "--steps", "6", "--check-every", "3"]
    assert main(["train", "recover", "street_ssd", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(output)
    metrics = json.loads((tmp_path / "small.metrics.json").read_text(encoding="utf-8"))
    first, second = metrics["stages"]
    assert first["steps"] == second["steps"] == 3
    assert first["after"] >= first["before"] > second["before"]
    detector = deploycc.load(output)
    assert len(detector.prunings) == 2
    assert all(record.reconstruction is not None for record in detector.prunings)
    for record in detector.prunings:  # both cuts together leave a quarter
        (macs,) = (part.macs for part in record.parts if part.name == "back-end")
        assert macs[1] / macs[0] == pytest.approx(0.5, abs=0.03)

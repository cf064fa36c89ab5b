"""``deploycc train``: refusals that need no PyTorch, and a run of a few steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deploycc.cli import main


def test_without_pytorch_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    command = ["train", "ssd", "--data", "generated:1:2", "--validation", "generated:2:2", "-o", str(tmp_path)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "error[train-extra-missing]" in err
    assert "python3 -m pip install 'torch>=2.4'" in err


def test_training_evaluating_and_compiling_speak_of_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    size = ["--size", "96", "--width", "0.25", "--steps", "2", "--batch", "2"]
    data = ["--data", "generated:1:4", "--validation", "generated:2:3"]
    assert main(["train", "ssd", *data, *size, "-o", str(tmp_path / "dense"), "--name", "tiny"]) == 0
    gates = ["--gates", "nested", "--gate-layers", "backend.1.*.conv", "--block", "8", "--keep", "0.5"]
    start = ["--from", str(tmp_path / "dense" / "checkpoint.pt")]
    assert main(["train", "ssd", *data, *size, *gates, *start, "-o", str(tmp_path / "gated"), "--name", "tiny"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(tmp_path / "gated" / "tiny.onnx")
    metrics = json.loads((tmp_path / "gated" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["config"]["gates"]["granularity"] == "nested"
    assert set(metrics["result"]["gates"]["layers"]) == {"backend.1.0.conv", "backend.1.1.conv"}
    assert main(["evaluate", str(tmp_path / "gated" / "tiny.onnx"), "--data", "generated:2:3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 3


@pytest.mark.parametrize("command", ["ssd", "export"])
def test_a_network_that_cannot_be_read_back_leaves_the_old_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    from deploycc.lkam import export, training

    def train(config: object, samples: object, held_out: object, folder: Path, **options: object) -> None:
        (folder / training.METRICS).write_text('{"result": {}}')

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(export, "export_checkpoint", lambda checkpoint, path, **options: path.write_bytes(b"spoilt"))
    (tmp_path / "net.onnx").write_bytes(b"old")
    (tmp_path / "checkpoint.pt").touch()
    options = {
        "ssd": ["--data", "generated:1:1", "--validation", "generated:2:1", "--size", "96", "-o", str(tmp_path)],
        "export": [str(tmp_path / "checkpoint.pt"), "-o", str(tmp_path / "net.onnx")],
    }[command]
    assert main(["train", command, *options, *(["--name", "net"] if command == "ssd" else [])]) == 1
    assert "error[written-unreadable]: net.onnx, which was just written" in capsys.readouterr().err
    assert (tmp_path / "net.onnx").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--size", "100"], "train-size"),
        (["--arch", "resnet"], "train-architecture"),
        (["--gates", "some"], "train-gates"),
        (["--gates", "kernel", "--gate-place", "later"], "train-gates"),
        (["--gates", "kernel", "--gate-layers", "nothing.*"], "gate-pattern"),
        (["--gates", "block", "--block", "7"], "gate-block"),
        (["--gates", "nested", "--shared", "7"], "gate-block"),
        (["--gates", "kernel", "--shared", "4"], "gate-shared"),
        (["--gates", "nested", "--shared", "40,99,100"], "gate-block"),
        (["--gates", "nested", "--shared", "1"], "train-shared"),
        (["--gates", "nested", "--shared", "50,40,100"], "train-shared"),
        (["--gates", "nested", "--shared", "half"], "train-shared"),
        (["--gates", "block", "--explore", "0.5"], "train-explore"),
        (["--gates", "nested", "--explore", "0.75"], "train-explore"),
        (["--gates", "nested", "--shared", "40,nan,100"], "train-shared"),
        (["--shared", "4"], "train-gates"),
        (["--keep", "0.6"], "train-gates"),
        (["--explore", "0.4"], "train-gates"),
        (["--retire", "0.1"], "train-gates"),
        (["--from", "missing.pt"], "checkpoint-missing"),
        (["--data", "voc:missing"], "data-folder"),
    ],
)
def test_what_cannot_work_is_refused(
    options: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    command = ["train", "ssd", "--data", "generated:1:2", "--validation", "generated:2:2", "-o", str(tmp_path / "run")]
    assert main([*command, *options]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())

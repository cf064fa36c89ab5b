"""``deploycc export``: what it writes, says and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploycc.cli import main
from deploycc.errors import EXIT_DIAGNOSED
from deploycc.importers import load

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny_ssd.prototxt"


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_writes_both_files_and_prints_their_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "caffe"
    assert export(TINY, "--random-weights", 1, "--format", "caffe", "-o", folder) == 0
    printed = capsys.readouterr()
    files = [folder / f"{TINY.stem}{suffix}" for suffix in (".prototxt", ".caffemodel")]
    assert printed.out.splitlines() == [str(file) for file in files]
    assert sorted(folder.iterdir()) == sorted(files)
    assert "picture input: " in printed.err
    again, source = load(files[0]), load(TINY, random_weights=1)
    assert again.heads is not None
    assert source.heads is not None
    assert again.heads.priors.shape == source.heads.priors.shape


def test_a_shipped_detector_can_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("street_ssd", "-o", tmp_path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_never_over_the_trained_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = Path(shutil.copy(TINY, tmp_path / "net.prototxt"))
    before = trained.read_bytes()
    assert export(trained, "--random-weights", 1, "-o", tmp_path) == EXIT_DIAGNOSED
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "error[output-is-the-input]: net.prototxt would replace the trained file",
        f"  path: {trained}",
        "  hint: choose another folder with --output",
    ]
    assert trained.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [trained]


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert export(TINY, "--random-weights", 1, "-o", file) == EXIT_DIAGNOSED
    assert "error[output-is-a-file]: the output folder is a file" in capsys.readouterr().err
    assert export(TINY, "--random-weights", 1, "-o", file / "below") == EXIT_DIAGNOSED
    assert "error[output-unwritable]: the output folder cannot be made" in capsys.readouterr().err


def test_unknown_formats_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(TINY, "--random-weights", 1, "--format", "darknet", "-o", tmp_path) == EXIT_DIAGNOSED
    assert capsys.readouterr().err.splitlines() == ["error[export-format]: --format darknet is not one of caffe"]


def test_a_network_without_heads_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "bare.prototxt"
    text = 'name: "bare" input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
    layer = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }'
    source.write_text(f"{text}\n{layer}\n")
    assert export(source, "--random-weights", 1, "-o", tmp_path / "out") == EXIT_DIAGNOSED
    said = capsys.readouterr().err
    assert "error[caffe-cannot-express]: the network cannot be written with SSD layers: it has no SSD heads" in said
    assert not list((tmp_path / "out").iterdir())

"""Output folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.errors import ArtefactError
from deploycc.workflows.staging import MARKS, staged_folder

MARK = MARKS[0]


def fill(folder: Path, text: str) -> None:
    (folder / MARK).write_text(text, encoding="utf-8")


def write_and_fail(final: Path, error: type[BaseException]) -> None:
    with staged_folder(final) as folder:
        fill(folder, "half")
        raise error


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    with staged_folder(final) as folder:
        fill(folder, "new")
        assert not final.exists()
    assert (final / MARK).read_text(encoding="utf-8") == "new"
    assert [path.name for path in final.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_and_fail(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_the_old_output_survives_a_failure(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as folder:
        fill(folder, "old")
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "out", RuntimeError)
    assert (tmp_path / "out" / MARK).read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_output_is_replaced_whole(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as folder:
        fill(folder, "old")
        (folder / "stale.engine").touch()
    with staged_folder(tmp_path / "out") as folder:
        fill(folder, "new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARK]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ArtefactError, match="files that deploycc did not write"), staged_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ArtefactError, match="is a file"), staged_folder(tmp_path / "out"):
        pass


def test_a_folder_that_cannot_be_made_is_diagnosed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError) as caught, staged_folder(tmp_path / "file" / "deep" / "out"):
        pass
    assert caught.value.code == "output-unwritable"
    assert caught.value.note == "Not a directory"


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError) as caught, staged_folder(Path()):
        pass
    assert caught.value.code == "output-is-here"


def test_an_interruption_between_the_renames_brings_the_old_output_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "out"
    with staged_folder(final) as folder:
        fill(folder, "old")
    rename = Path.rename

    def interrupted(source: Path, destination: Path) -> Path:
        if ".partial-" in source.name:
            raise KeyboardInterrupt
        return rename(source, destination)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_folder(final) as folder:
        fill(folder, "new")
    assert (final / MARK).read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [final]

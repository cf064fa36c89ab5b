"""Output folders change whole or not at all, and what is not the tool's stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.documents.document import read_document
from deploycc.documents.folder import FolderManifest
from deploycc.errors import ArtefactError
from deploycc.workflows import folder_journal
from deploycc.workflows.staging import check_output_folder, revised_folder, staged_folder

MANIFEST = "deploycc-manifest.json"


class Killed(BaseException):
    """Nothing that comes after it in the process is done."""


def fill(folder: Path, *names: str, text: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def output(final: Path, *names: str, text: str) -> Path:
    """Write an output folder that holds these files."""
    with staged_folder(final) as folder:
        fill(folder, *names, text=text)
    return final


def write_and_fail(final: Path, error: type[BaseException]) -> None:
    with staged_folder(final) as folder:
        fill(folder, "a.txt", text="half")
        raise error


def content(folder: Path) -> dict[str, str]:
    """Every file but for the manifest, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def listed(folder: Path) -> set[str]:
    return {file.name for file in read_document(folder, FolderManifest).files}


def test_files_appear_when_the_block_ends(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    with staged_folder(final) as folder:
        fill(folder, "a.txt", "sub/b.txt", text="new")
        assert not (final / "a.txt").exists()
    assert content(final) == {"a.txt": "new", "sub/b.txt": "new"}
    assert listed(final) == {"a.txt", "sub/b.txt"}
    assert [path.name for path in final.parent.iterdir()] == ["out"]
    assert (final / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_and_fail(tmp_path / "deep" / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_the_old_output_survives_a_failure(tmp_path: Path) -> None:
    final = output(tmp_path / "out", "a.txt", text="old")
    with pytest.raises(RuntimeError):
        write_and_fail(final, RuntimeError)
    assert content(final) == {"a.txt": "old"}


def test_an_earlier_output_is_replaced_whole(tmp_path: Path) -> None:
    final = output(tmp_path / "out", "a.txt", "stale.engine", text="old")
    output(final, "a.txt", text="new")
    assert content(final) == {"a.txt": "new"}


def test_files_of_others_stay(tmp_path: Path) -> None:
    final = output(tmp_path / "out", "a.txt", "b.txt", "c.txt", text="old")
    fill(final, "thesis.tex", "figures/1.txt", text="mine")
    fill(final, "b.txt", text="edited")  # is written again
    fill(final, "c.txt", text="edited")  # is not
    said: list[str] = []
    with staged_folder(final, on_kept=said.append) as folder:
        fill(folder, "a.txt", "b.txt", "thesis.tex", text="new")
    mine = {"b.txt.kept": "edited", "c.txt": "edited", "thesis.tex.kept": "mine", "figures/1.txt": "mine"}
    assert content(final) == {"a.txt": "new", "b.txt": "new", "thesis.tex": "new", **mine}
    assert listed(final) == {"a.txt", "b.txt", "thesis.tex"}
    assert [sentence.split(" ")[0] for sentence in said] == ["b.txt", "thesis.tex"]
    output(final, "d.txt", text="newest")
    assert content(final) == {"d.txt": "newest", **mine}


def test_a_link_in_the_place_of_a_file_is_kept_and_not_followed(tmp_path: Path) -> None:
    final = output(tmp_path / "out", "a.txt", text="same")
    (tmp_path / "elsewhere").write_text("same")
    (final / "a.txt").unlink()
    (final / "a.txt").symlink_to(tmp_path / "elsewhere")
    output(final, "a.txt", text="new")
    assert (final / "a.txt.kept").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "same"


def test_an_input_is_neither_removed_nor_replaced(tmp_path: Path) -> None:
    final = output(tmp_path / "out", "profile.json", "network.onnx", "plan.txt", text="old")
    inputs = [final / "profile.json", final / "plan.txt"]
    with staged_folder(final, inputs) as folder:
        fill(folder, "plan.txt", text="new")
    assert content(final) == {"plan.txt": "new", "plan.txt.kept": "old", "profile.json": "old"}
    assert listed(final) == {"plan.txt"}


@pytest.mark.parametrize("name", ["network-fp32.onnx", "compile.json"])
def test_an_output_that_would_replace_what_it_is_made_from_is_refused_at_once(tmp_path: Path, name: str) -> None:
    final = output(tmp_path / "out", name, text="old")
    with pytest.raises(ArtefactError) as caught:
        check_output_folder(final, [tmp_path / "out" / ".." / "out" / name])
    assert caught.value.code == "output-is-the-input"
    check_output_folder(final, [final / "my.onnx", tmp_path / name])


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "out/thesis.tex", text="mine")
    with pytest.raises(ArtefactError, match="files that deploycc did not write"), staged_folder(tmp_path / "out"):
        pass
    assert content(tmp_path / "out") == {"thesis.tex": "mine"}


def test_a_new_volume_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert content(output(tmp_path, "a.txt", text="new")) == {"a.txt": "new"}


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_a_file_in_the_place_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    before = (tmp_path / "out").lstat()
    with pytest.raises(ArtefactError, match="is a file"), staged_folder(tmp_path / "out"):
        pass
    after = (tmp_path / "out").lstat()  # without the time of access, which a look at a link changes
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)


def test_a_folder_that_cannot_be_made_is_diagnosed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError) as caught, staged_folder(tmp_path / "file" / "deep" / "out"):
        pass
    assert caught.value.code == "output-unwritable"
    assert caught.value.note == "Not a directory"


@pytest.mark.parametrize("spelling", [".", "../h", "../a/../h", "../link", "../missing/../h"])
def test_a_folder_is_found_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    final = output(tmp_path / "h", "a.txt", text="old")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(final)
    monkeypatch.chdir(final)
    output(Path(spelling), "a.txt", text="new")
    assert content(final) == {"a.txt": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "h", "link"]


def test_the_folder_itself_is_never_renamed(tmp_path: Path) -> None:
    """It may be a mount point, which cannot be."""
    final = output(tmp_path / "out", "a.txt", text="old")
    before = final.stat().st_ino
    output(final, "a.txt", text="new")
    assert final.stat().st_ino == before


def revise(final: Path) -> None:
    with revised_folder(final) as change:
        fill(change.new, "a.txt", "c.txt", text="new")
        change.aside["a.txt"] = "runs/1/a.txt"


def replace(final: Path) -> None:
    output(final, "a.txt", "c.txt", text="new")


OLD = {"a.txt": "old", "b.txt": "old"}
REPLACED = {"a.txt": "new", "c.txt": "new"}
REVISED = {"runs/1/a.txt": "old", "b.txt": "old", **REPLACED}


def test_a_revision_keeps_what_it_does_not_replace(tmp_path: Path) -> None:
    final = output(tmp_path / "out", *OLD, text="old")
    revise(final)
    assert content(final) == REVISED
    assert listed(final) == {"a.txt", "b.txt", "c.txt"}


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize(("change", "expected"), [(replace, REPLACED), (revise, REVISED)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed, PermissionError])
def test_a_change_cut_short_at_any_rename_is_undone_or_completed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    expected: dict[str, str],
    step: int,
    error: type[BaseException],
) -> None:
    final = output(tmp_path / "out", *OLD, text="old")
    rename, done = folder_journal._rename, 0

    def cut(folder: Path, source: str, to: str) -> None:
        nonlocal done
        done += 1
        if done == step + 1 or (done > step and error is Killed):
            raise error
        rename(folder, source, to)

    monkeypatch.setattr(folder_journal, "_rename", cut)
    try:
        change(final)
    except (error, ArtefactError):
        assert step < 6
    monkeypatch.undo()
    if done <= step:  # fewer renames than that
        assert content(final) == expected
    elif error is Killed:
        check_output_folder(final)
        assert content(final) == expected
    else:
        assert content(final) == OLD
    assert listed(final) <= content(final).keys()
    assert not list(final.glob(".*"))


def killed_while_writing(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dead:
        dead.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            write_and_fail(final, Killed)


@pytest.mark.parametrize("old", [False, True])
def test_what_a_killed_process_left_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    final = tmp_path / "out"
    if old:
        output(final, *OLD, text="old")
    killed_while_writing(final, monkeypatch)
    assert list(final.glob(".deploycc-*"))
    folder_journal.recover(final)
    assert content(final) == (OLD if old else {})
    killed_while_writing(final, monkeypatch)
    replace(final)
    assert content(final) == REPLACED


def test_what_a_living_process_works_on_is_left_alone(tmp_path: Path) -> None:
    final = output(tmp_path / "out", *OLD, text="old")
    with staged_folder(final) as slow:
        fill(slow, "a.txt", text="slow")
        replace(final)
        assert (slow / "a.txt").read_text() == "slow"
    assert content(final) == {"a.txt": "slow"}
    assert not list(final.glob(".*"))


def test_what_was_written_since_the_kill_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = output(tmp_path / "out", "a.txt", text="old")
    rename = folder_journal._rename

    def cut(folder: Path, source: str, to: str) -> None:
        if to == "a.txt":
            raise Killed
        rename(folder, source, to)

    monkeypatch.setattr(folder_journal, "_rename", cut)
    with pytest.raises(Killed):
        replace(final)
    monkeypatch.undo()
    fill(final, "a.txt", text="mine")
    folder_journal.recover(final)
    assert content(final) == {**REPLACED, "a.txt.kept": "mine"}


def test_new_files_are_on_the_disk_before_anything_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename = folder_journal._rename

    def renamed(folder: Path, source: str, to: str) -> None:
        events.append("rename")
        rename(folder, source, to)

    monkeypatch.setattr(folder_journal, "_rename", renamed)
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    output(tmp_path / "final", "a.txt", "deep/b.txt", text="new")
    first, last = events.index("rename"), len(events) - events[::-1].index("rename")
    assert {"a.txt", "b.txt", "deep", "new", MANIFEST} <= set(events[: events.index("journal.json")])
    assert events.index("journal.json") < first
    assert {"final", "deep"} <= set(events[last:])


@pytest.mark.parametrize("victim", ["../victim.txt", "sub/victim.txt"])
def test_a_journal_from_elsewhere_moves_nothing_out_of_the_folder(tmp_path: Path, victim: str) -> None:
    final, work = tmp_path / "out", tmp_path / "out" / ".deploycc-hostile"
    work.mkdir(parents=True)
    (final / "sub").symlink_to(tmp_path)
    fill(tmp_path, "victim.txt", text="mine")
    journal = folder_journal.FolderJournal(tool=folder_journal.this_tool(), moves=())
    text = journal.to_json().replace('"moves": []', f'"moves": [{{"from": "{victim}", "to": "taken.txt"}}]')
    (work / "journal.json").write_text(text, encoding="utf-8")
    with pytest.raises((ArtefactError, OSError)):
        folder_journal.recover(final)
    assert (tmp_path / "victim.txt").exists()

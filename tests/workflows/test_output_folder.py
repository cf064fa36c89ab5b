"""Building and measuring in an output folder, which may come from anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploycc.workflows.output_folder import WRITTEN, drop_links


def test_what_is_written_in_a_folder_is_written_nowhere_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "victim.json"
    folder.mkdir()
    outside.write_text("mine")
    (folder / "report.md").symlink_to(outside)
    (folder / "compile.json").symlink_to(outside)
    (folder / "latency.json").symlink_to(tmp_path / "absent")
    (folder / "report.html").symlink_to("/dev/zero")
    os.mkfifo(folder / "build.json")
    drop_links(folder)
    for name in WRITTEN:
        (folder / name).write_text("ours")
        assert not (folder / name).is_symlink()
    assert outside.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "victim.json"]


def test_documents_behind_links_can_still_be_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("document")
    (tmp_path / "compile.json").symlink_to(tmp_path / "elsewhere.json")
    drop_links(tmp_path)
    assert (tmp_path / "compile.json").read_text() == "document"


@pytest.mark.parametrize("name", WRITTEN)
def test_plain_files_and_folders_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    drop_links(tmp_path)
    assert (tmp_path / name).is_dir()

"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from deploycc.errors import ArtefactError
from deploycc.files import replacing, sha256_of, write_text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def interrupted(path: Path, error: BaseException) -> None:
    with replacing(path) as beside:
        beside.write_text("half", encoding="utf-8")
        raise error


def test_a_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with replacing(file) as beside:
        beside.write_text("new", encoding="utf-8")
        assert file.read_text(encoding="utf-8") == "old"
    assert file.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["a.txt"]


def test_an_interruption_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(file, KeyboardInterrupt())
    assert file.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_diagnosed_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="No space left on device") as raised:
        interrupted(tmp_path / "a.txt", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert raised.value.code == "file-unwritable"
    assert names(tmp_path) == []


def test_a_missing_folder_is_diagnosed(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="No such file"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_digest_of_more_than_one_block(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()

"""Folders for what is not finished: found and removed if their owner was killed, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.agent import scratch
from deploycc.agent.outcome import Failed
from deploycc.agent.scratch import Scratch


def test_it_exists_while_it_is_entered(tmp_path: Path) -> None:
    with Scratch(str(tmp_path)) as made:
        (Path(made.path) / "half").write_text("x")
        with Scratch(str(tmp_path)) as other:  # does not take the first for abandoned
            assert Path(made.path).exists()
            assert other.path != made.path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    (left / "half").write_text("x")
    (tmp_path / "kept").mkdir()
    outside = tmp_path / "kept" / "victim"
    outside.mkdir()
    (outside / "lock").touch()
    (tmp_path / f"{scratch.PREFIX}link").symlink_to(outside)
    (tmp_path / f"{scratch.PREFIX}no-lock").mkdir()
    scratch.sweep(str(tmp_path))
    assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{scratch.PREFIX}link", f"{scratch.PREFIX}no-lock", "kept",
    ]  # fmt: skip
    assert (outside / "lock").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed, match="cannot write into"), Scratch(str(tmp_path / "file")):
        pass

"""Writing results: in the folder nothing is followed, at the user's own word devices and pipes are."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from deploycc.agent import files


def test_a_pipe_or_link_in_the_folder_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "link.json"):
        files.write_json({"a": 1}, str(tmp_path / name))
        assert stat.S_ISREG((tmp_path / name).lstat().st_mode)
        assert json.loads((tmp_path / name).read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 2


def test_the_users_device_and_link_are_written_to(tmp_path: Path) -> None:
    files.write_answer({"a": 1}, "/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    files.write_answer({"a": 1}, str(tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "file.json").read_text()) == {"a": 1}


def test_a_pipe_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        files.write_answer({}, str(tmp_path / "pipe"))

"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.errors import ArtefactError
from deploycc.files import (
    check_writable,
    parse_toml,
    path_text,
    read_bytes,
    read_text,
    replacing,
    sha256_of,
    write_text,
)


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


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to("real/a.txt")
    for text in ("first", "second"):  # where the link leads nowhere yet, and where it does
        write_text(link, text)
        assert (tmp_path / "real" / "a.txt").read_text(encoding="utf-8") == text
    assert link.is_symlink()
    assert names(tmp_path / "real") == ["a.txt"]


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "secret")
    file.chmod(0o600)
    write_text(file, "more")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    link = tmp_path / "link"
    link.symlink_to(f"/dev/fd/{writer}")
    check_writable(link)
    write_text(link, "x" * 1000)
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == "x" * 1000
    assert names(tmp_path) == ["link"]


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.write_text("x", encoding="utf-8")
    except PermissionError:
        pytest.skip("only root makes devices")
    check_writable(null)
    write_text(null, "x")
    assert null.is_char_device()
    assert names(tmp_path) == ["null"]


@pytest.mark.parametrize("write", [check_writable, lambda path: write_text(path, "x")])
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, write: Callable[[Path], None]) -> None:
    here = socket.socket(socket.AF_UNIX)
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    with here:
        here.bind(str(tmp_path / "socket"))
        for name, note in (("folder", "a folder"), ("socket", "a socket"), ("circle", "symbolic links")):
            with pytest.raises(ArtefactError, match=note):
                write(tmp_path / name)
    assert sorted(names(tmp_path)) == ["circle", "folder", "socket"]


def test_what_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "link").symlink_to("model.onnx")
    with pytest.raises(ArtefactError, match="its folder does not exist"):
        check_writable(None, tmp_path / "nowhere" / "a.txt")
    with pytest.raises(ArtefactError) as caught:
        check_writable(tmp_path / "link", inputs=[None, str(tmp_path / "model.onnx")])
    assert caught.value.code == "output-is-the-input"
    check_writable(tmp_path / "new.txt", None, tmp_path / "model.onnx", inputs=[tmp_path / "new.txt"])
    assert sorted(names(tmp_path)) == ["link", "model.onnx"]


def test_a_path_that_is_not_utf8_becomes_text() -> None:
    assert path_text(Path(os.fsdecode(b"caf\xe9.onnx"))) == "caf\\xe9.onnx"
    assert path_text("café.onnx") == "café.onnx"


def test_a_pipe_that_nobody_writes_to_is_empty_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(tmp_path / "pipe") == b""


def test_a_pipe_with_a_writer_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"{}")
    os.close(writing)
    assert read_bytes(Path(f"/dev/fd/{reading}")) == b"{}"
    os.close(reading)


@pytest.mark.parametrize("device", [True, False])
def test_what_would_fill_the_memory_is_refused(tmp_path: Path, device: bool) -> None:
    path = Path("/dev/zero") if device else tmp_path / "large"
    if not device:
        with path.open("wb") as file:
            file.truncate((3 << 20) + 1)
    with pytest.raises(OSError, match="larger than 3 MiB"):
        read_bytes(path, 3 << 20)


def test_text_that_is_not_utf_8_and_a_folder_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(OSError, match="not UTF-8"):
        read_text(tmp_path / "latin")
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a = ", "a = 1\na = 2"])
def test_every_toml_that_python_refuses_is_a_value_error(text: str) -> None:
    """Nested arrays end in a RecursionError of the standard library, long numbers in a ValueError of their own."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_toml(text)


def test_an_input_that_is_a_loop_of_links_does_not_stop_the_check(tmp_path: Path) -> None:
    """Who reads it says what is wrong with it."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    check_writable(tmp_path / "out.json", inputs=[tmp_path / "loop"])

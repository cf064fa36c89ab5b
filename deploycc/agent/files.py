"""Files of a plan's folder: reading, digests, writing whole or not at all."""

import hashlib
import json
import os
import stat
from typing import Any

from .outcome import Failed

PARTIAL = ".partial"
SCHEMA = 1


def read_json(path: str, most_bytes: int = 1 << 30) -> "Any":
    """Return the content of a JSON file.

    Raises:
        Failed: missing, not an ordinary file, larger than ``most_bytes``, not JSON, or with NaN or Infinity in it.
    """
    data = read_bytes(path, most_bytes)
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Failed("{} is not JSON: {}".format(path, error)) from error
    except MemoryError as error:
        raise Failed("{} does not fit into memory".format(path)) from error


def read_bytes(path: str, most_bytes: int) -> bytes:
    """Return the content of an ordinary file.

    Raises:
        Failed: missing, not an ordinary file, larger than ``most_bytes``.
    """
    try:
        with open_regular(path) as file:
            data = file.read(most_bytes + 1)  # type: bytes
    except OSError as error:
        raise Failed("cannot read {}: {}".format(path, error.strerror)) from error
    if len(data) > most_bytes:
        raise Failed("{} is larger than {}".format(path, _size(most_bytes)))
    return data


def _size(size: int) -> str:
    return "{} MiB".format(size >> 20) if size >= 1 << 20 else "{} KiB".format(size >> 10)


def _refuse(name: str) -> "Any":
    raise ValueError(name + " is not a number of JSON")


def open_regular(path: str) -> "Any":
    """Open an ordinary file for reading; a device or a pipe could keep its reader for ever.

    Raises:
        Failed: it is something else.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failed("{} is not an ordinary file".format(path))
    return os.fdopen(descriptor, "rb")


def inside(folder: str, name: str) -> str:
    """Return the path of a file of the plan's folder.

    Raises:
        Failed: the name leads out of the folder.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        raise Failed("{} is not inside the plan's folder".format(name))
    return path


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        Failed: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise Failed("cannot read {}: {}".format(path, error.strerror)) from error
    return digest.hexdigest()


def checked(folder: str, name: str, sha256: str) -> str:
    """Return the path of a file whose bytes are the ones the plan names.

    Raises:
        Failed: missing, outside the folder, or changed.
    """
    path = inside(folder, name)
    if sha256_of(path) != sha256:
        raise Failed("{} is not the file the plan was made for".format(name), hint="compile again")
    return path


def write_json(value: "Any", path: str) -> None:
    """Write JSON beside ``path``, then rename; whatever is there, a link or a pipe too, is replaced."""
    partial = path + PARTIAL
    remove(partial)  # of a process that was killed; or a link, which must not be followed
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _dump(value, file)
        os.replace(partial, path)
    finally:
        remove(partial)


def write_answer(value: "Any", path: str) -> None:
    """Write JSON where the user wants it: into a device or a pipe that is there, otherwise as `write_json`.

    Raises:
        OSError: it cannot be written; nobody reads the pipe.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _dump(value, file)
    else:
        write_json(value, os.path.realpath(path))


def _dump(value: "Any", file: "Any") -> None:
    json.dump(value, file, indent=1, sort_keys=True)
    file.write("\n")


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        os.remove(path)
    except OSError:
        pass

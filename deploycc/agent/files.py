"""Files of a plan's folder: reading, digests, writing whole or not at all."""

import hashlib
import json
import os
from typing import Any, Dict

from .outcome import Failed

PARTIAL = ".partial"
PLAN_SCHEMA = 1


def read_json(path: str) -> "Any":
    """Return the content of a JSON file.

    Raises:
        Failed: missing or not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise Failed("cannot read {}: {}".format(path, error.strerror)) from error
    except ValueError as error:
        raise Failed("{} is not JSON: {}".format(path, error)) from error


def read_plan(path: str) -> "Dict[str, Any]":
    """Return a plan. Its fields were checked when it was written; here only that it is one.

    Raises:
        Failed: missing, not JSON, or of another schema.
    """
    plan = read_json(path)
    if not isinstance(plan, dict) or plan.get("schema") != PLAN_SCHEMA:
        raise Failed("{} is not a plan of schema {}".format(path, PLAN_SCHEMA))
    return plan


def inside(folder: str, name: str) -> str:
    """Return the path of a file of the plan's folder.

    Raises:
        Failed: the name leads out of the folder.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if not path.startswith(root + os.sep):
        raise Failed("{} is not inside the plan's folder".format(name))
    return path


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        Failed: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
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
    """Write JSON beside ``path``, then rename."""
    partial = path + PARTIAL
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        os.remove(path)
    except OSError:
        pass

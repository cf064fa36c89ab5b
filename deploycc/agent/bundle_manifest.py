"""``manifest.json`` of a bundle: what it lists, and the names that a file of a bundle may have.

The same rules hold where it is written (``deploycc/documents/bundle.py``).
"""

import json
from typing import Any, Dict, List

from . import fields, seal
from .outcome import Failed

NAME = "manifest.json"
SIGNATURE = "manifest.sig"
MOST_BYTES = 4 << 20
MOST_FILES = 4096
MOST_FILE_BYTES = (1 << 33) - 1  # what a tar header can say in octal

_MOST_NAME_BYTES = 100  # of the name field of a tar header
_PART = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
_FILE_NAME = fields.text(_PART + "(/" + _PART + ")*", _MOST_NAME_BYTES, "a path inside the bundle, in plain ASCII")
_SHA256 = fields.text("[0-9a-f]{64}", what="a SHA-256 in lower case")
_VERSION = fields.text("[0-9A-Za-z][0-9A-Za-z.+~-]*", 100, "a version such as 1.2.0")
_TEXT = fields.text(most=4096)

_FILE = fields.record(
    {
        "name": _FILE_NAME,
        "sha256": _SHA256,
        "size_bytes": fields.whole(0, MOST_FILE_BYTES),
        "executable": fields.flag,
    }
)
_ENGINE = fields.record(
    {
        "file": _FILE_NAME,
        "builder_version": fields.optional(_TEXT),
        "compute_capability": fields.optional(_TEXT),
        "l4t": fields.optional(_TEXT),
    }
)
_LINK = fields.record({"what": _TEXT, "name": _TEXT, "sha256": fields.optional(_SHA256)})
_MANIFEST = fields.record(
    {
        "schema": fields.whole(1, 1),
        "tool": fields.record({"deploycc": fields.text(most=100), "agent": fields.optional(fields.text(most=100))}),
        "name": fields.text("[a-z0-9][a-z0-9.+-]*", 100, "a name in lower case"),
        "version": _VERSION,
        "target": fields.text(most=200),
        "architecture": fields.text(most=32),
        "runtime": fields.one_of("onnxruntime", "tensorrt", "tensorrt-rtx"),
        "runtime_version": fields.optional(_TEXT),
        "compute_capability": fields.optional(_TEXT),
        "build_on_device": fields.flag,
        "plan": _FILE_NAME,
        "engines": fields.list_of(_ENGINE, 0, 100),
        "chain": fields.list_of(_LINK, 0, 1000),
        "files": fields.list_of(_FILE, 1, MOST_FILES),
    }
)


def parsed(text: bytes) -> "Dict[str, Any]":
    """Return the manifest that these bytes are.

    Raises:
        Failed: they are not JSON, not a manifest, or it lists names that cannot be together in one folder.
    """
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Failed("{} is not JSON: {}".format(NAME, error)) from error
    if not isinstance(value, dict):
        raise Failed("{} is not an object".format(NAME))
    seal.check(value, NAME)
    value.pop(seal.FIELD, None)
    try:
        manifest = _MANIFEST(value, "")  # type: Dict[str, Any]
    except fields.Wrong as error:
        raise Failed("{} cannot be used: {}".format(NAME, error)) from error
    _check_names([file["name"] for file in manifest["files"]])
    return manifest


def _check_names(names: "Any") -> None:
    """Refuse a list in which a name occurs twice, differs from another in case only, or is a folder of another."""
    if names != sorted(names):
        raise Failed("{} does not list its files in order".format(NAME))
    taken = {NAME: NAME, SIGNATURE: SIGNATURE}
    for name in names:
        if name.lower() in taken:
            other = taken[name.lower()]
            raise Failed("{} lists {} beside {}: one file would replace the other".format(NAME, name, other))
        taken[name.lower()] = name
    for name in names:
        for folder in folders_of(name.lower()):
            if folder in taken:
                raise Failed("{} lists {} as a file and as a folder".format(NAME, taken[folder]))


def folders_of(name: str) -> "List[str]":
    """Return the folders that a file of a bundle lies in, the outermost first."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]

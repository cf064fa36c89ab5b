"""``build.json``: what the agent reads back of it before it measures."""

import os
from typing import Any, Dict, List, Optional

from . import fields, files, plan_file, seal
from .outcome import Failed

FILE_NAME = "build.json"
MOST_BYTES = 256 << 20  # it lists every layer of every engine

_TEXT = fields.optional(fields.text(most=1 << 20))
_SHA256 = fields.text("[0-9a-f]{64}", what="a SHA-256 in lower case")
_SECOND = fields.record({"file": fields.text(), "network_sha256": _SHA256, "sha256": _SHA256}, others=True)
_ROW = fields.record(
    {
        "precision": fields.one_of("fp32", "fp16"),
        "variant": fields.one_of("compiled", "original"),
        "network_sha256": _SHA256,
        "status": fields.one_of("built", "not-possible", "failed"),
        "reason": _TEXT,
        "hint": _TEXT,
        "sha256": fields.optional(_SHA256),
        "second": fields.list_of(_SECOND, 0, plan_file.MOST_SECOND),
        "builder_version": _TEXT,
        "compute_capability": _TEXT,
    },
    {
        "variant": "compiled",
        "reason": None,
        "hint": None,
        "sha256": None,
        "second": [],
        "builder_version": None,
        "compute_capability": None,
    },
    others=True,
)
_ENVIRONMENT = fields.record({"l4t": _TEXT}, {"l4t": None}, others=True)
_FILE = fields.record(
    {"engines": fields.list_of(_ROW, 0, 1000), "environment": _ENVIRONMENT}, {"environment": {"l4t": None}}, others=True
)


def read_rows(folder: str) -> "List[Dict[str, Any]]":
    """Return one row per engine.

    Raises:
        Failed: there is no such file, or it is not valid.
    """
    rows = _read(folder)["engines"]  # type: List[Dict[str, Any]]
    return rows


def read_release(folder: str) -> "Optional[str]":
    """Return the release of Linux for Tegra that the engines were built under; None where it is not told.

    Raises:
        Failed: as for `read_rows`.
    """
    release = _read(folder)["environment"]["l4t"]  # type: Optional[str]
    return release


def _read(folder: str) -> "Dict[str, Any]":
    path = os.path.join(folder, FILE_NAME)
    hint = "build it again: deploycc build, or on the board python3 agent.pyz build plan.json"
    if not os.path.exists(path):
        raise Failed("there is no {} beside the plan".format(FILE_NAME), hint=hint)
    try:
        raw = files.read_json(path, MOST_BYTES)
        content = _FILE(raw, "")  # type: Dict[str, Any]
    except fields.Wrong as error:
        raise Failed("{} is not valid: {}".format(FILE_NAME, error), hint=hint) from error
    seal.check(raw, FILE_NAME)
    return content

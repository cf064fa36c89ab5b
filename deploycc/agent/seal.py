"""The digest of its own content that a document carries (``deploycc/documents/seal.py``)."""

import hashlib
import json
from typing import Any, Dict

from .outcome import Failed

FIELD = "content_sha256"


def sealed(value: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return a document with its digest."""
    result = dict(value)
    result[FIELD] = _digest(json.loads(json.dumps(value)))
    return result


def check(value: "Dict[str, Any]", path: str) -> None:
    """Refuse a document whose content is not the one that its digest names; one without a digest is taken.

    Raises:
        Failed: the content is another one.
    """
    content = {key: part for key, part in value.items() if key != FIELD}
    if FIELD in value and value[FIELD] != _digest(content):
        raise Failed("{} was changed after it was written".format(path), hint="take the file as it was written")


def _digest(content: "Any") -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()

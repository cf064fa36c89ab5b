"""The digest of its own content that a document carries, so that a value that was edited is noticed.

It is not a signature: there is no secret in it. It finds what was changed by mistake or by hand. Whoever computes the
digest anew, and those of the documents that name this one, is not found out.

The digest is the SHA-256 of the content, without the field itself, as JSON with sorted keys, without spaces, in ASCII.
Spacing and the order of fields do not matter. The agent computes the same (``deploycc/agent/seal.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIELD = "content_sha256"


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a document's content, as JSON is read; `FIELD` does not count.

    Raises:
        RecursionError: it is nested too deeply.
    """
    counted = {key: value for key, value in content.items() if key != FIELD}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def sealed(text: str) -> str:
    """Return the JSON text of an object with its digest as the last field.

    Args:
        text: the object, with at least one other field; a digest that it carries is replaced.
    """
    content = json.loads(text)
    if FIELD in content:
        del content[FIELD]
        text = json.dumps(content, indent=2) + "\n"
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body},\n  "{FIELD}": "{content_digest(content)}"\n}}\n'

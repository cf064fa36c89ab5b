"""Hostile edits of documents, and the digests of a folder made consistent again afterwards."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploycc.documents.seal import FIELD, content_digest

ESCAPES = "\x1b[2J\x1b]0;title\x07\n\r\u202e\x9b31m"
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**70, -(2**70), 10**400, 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "a", "\x00", "\ud800", ESCAPES, "x" * 100_000, "../victim", "/etc/passwd", "/dev/zero", "link", "pipe", "."),
    *("-o", "$(touch victim)", "a;touch victim", "a b'c\"d", "a,b:c", "plan.json", "compile.json", "fp16", "original"),
    *([], {}, [None], {"a": None}, [[[[]]]], list(range(1000)), {str(key): key for key in range(1000)}),
]
_INSERTED = (b"[" * 100_000, b'{"a":' * 50_000, b"\x00", b"NaN", b"1e999", b"\xff\xfe")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the holder and the key of every value of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in list(items) for place in [(value, key), *places(each)]]


def edit_values(document: Any, chance: random.Random) -> None:
    """Replace, remove, repeat or swap a few values of a document, or change numbers of it a little or a lot."""
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        found = places(document)
        if not found:
            return
        holder, key = chance.choice(found)
        change = chance.choice(("replace", "replace", "replace", "scale", "scale", "remove", "repeat", "swap"))
        if change == "replace":
            holder[key] = copy.deepcopy(chance.choice(VALUES))
        elif change == "scale":
            _scale(document, chance)
        elif change == "remove":
            del holder[key]
        elif change == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif change == "repeat":
            holder[f"{key} "] = copy.deepcopy(holder[key])
        else:
            other, other_key = chance.choice(found)
            holder[key] = copy.deepcopy(other[other_key])


def _scale(document: Any, chance: random.Random) -> None:
    """Change a number to one of its own type that a check of types lets pass."""
    numbers = [place for place in places(document) if type(place[0][place[1]]) in (int, float)]
    if not numbers:
        return
    holder, key = chance.choice(numbers)
    kind = type(holder[key])
    value = chance.choice(
        (-holder[key], holder[key] * chance.choice((0, 2, 1000, 10**9)), holder[key] + 1, 0, 1, 2, -1)
    )
    holder[key] = kind(value)


def edit_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, insert or repeat bytes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 20))):
        at = chance.randrange(len(changed)) if changed else 0
        kind = chance.choice(("flip", "cut", "insert", "digits"))
        if kind == "flip" and changed:
            changed[at] = chance.randrange(256)
        elif kind == "cut":
            del changed[at : at + chance.choice((1, 10, 1000))]
        elif kind == "insert":
            changed[at:at] = chance.choice(_INSERTED)
        else:
            changed[at:at] = b"9" * chance.choice((1, 30, 5000))
    return bytes(changed)


def digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the files that are there."""
    found = {name: folder / name for name in names}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if path.is_file()}


def reseal(folder: Path, names: Sequence[str], before: Mapping[str, str]) -> None:
    """Make the digests of a folder's documents consistent again, as somebody would who knows how they are computed.

    Args:
        folder: with documents, of which some were edited.
        names: files, each before the documents that name it.
        before: the digests that they had, by `digests`.
    """
    stale: dict[str, str] = {}
    for name in names:
        path = folder / name
        if path.suffix == ".json" and path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
                for old, new in stale.items():
                    text = text.replace(old, new)
                document = json.loads(text)
                if FIELD in document:
                    document[FIELD] = content_digest(document)
                path.write_text(json.dumps(document))
            except (ValueError, TypeError, RecursionError):
                pass  # it is not an object any more
        now = digests(folder, [name]).get(name)
        if now is not None and name in before and now != before[name]:
            stale[before[name]] = now


def toml_text(table: Mapping[str, Any]) -> str:
    """Return a table as TOML, with every inner table written inline; None, which TOML lacks, is left out."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False) if key.isprintable() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(each) for each in value if each is not None) + "]"
    return str(value)

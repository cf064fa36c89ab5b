"""Suggestions for misspelt names, and only for those."""

from __future__ import annotations

from collections.abc import Iterable

_SHORTEST = 6


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which ``name`` is a misspelling, or None.

    Letters may be of another case, and underscores and hyphens may be missing. In a name of at least six letters, one
    letter may also be wrong, missing, extra or exchanged with its neighbour, but neither the first nor the last: names
    that differ there (Swish and HSwish, pad_h and pad_w) usually mean different things. So do names that differ in a
    digit.

    Args:
        name: as written.
        known: every name that exists.
    """
    plain = _plain(name)
    candidates = {_plain(candidate): candidate for candidate in known}
    if plain in candidates:
        return candidates[plain]
    if len(plain) < _SHORTEST:
        return None
    return next((candidate for other, candidate in candidates.items() if _one_slip(plain, other)), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _one_slip(written: str, known: str) -> bool:
    """Return whether two names differ in one inner letter that is not a digit, or in two neighbours' order."""
    if written[:1] != known[:1] or written[-1:] != known[-1:] or abs(len(written) - len(known)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(written, known, strict=False)) if a != b), 0)
    if any(letter.isdigit() for letter in written[start : start + 1] + known[start : start + 1]):
        return False
    if len(written) != len(known):
        longer, shorter = sorted((written, known), key=len, reverse=True)
        return longer[start + 1 :] == shorter[start:]
    swapped = known[:start] + known[start + 1 : start + 2] + known[start : start + 1] + known[start + 2 :]
    return written[start + 1 :] == known[start + 1 :] or written == swapped

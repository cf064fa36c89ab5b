"""Opset and IR limits that TensorRT's ONNX parser states, and what an ``If`` becomes there, by release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Version = tuple[int, ...]
Conditional = Literal["none", "constant", "select", "unconnected", "plain", "equal-shapes", "equal-ranks", "any"]
LATEST: Version = (11, 1)
"""Newest release whose parser documentation was read."""


@dataclass(frozen=True)
class Parser:
    """ONNX limits of a release and of those after it, up to the next entry.

    Attributes:
        since: first release.
        opset: newest operator set it states.
        ir: IR version of the onnx package it was built with.
    """

    since: Version
    opset: int
    ir: int


# Opset: as stated by onnx-tensorrt's README and docs/operators.md on each release branch. 7.2 states 13 only at the
# branch tip and 11 at the tag that was shipped; 5.0 asserts opset < 10 operator by operator. IR: general knowledge of
# the onnx release each was built with. The parser accepts a newer opset or IR, and reads operators with the newest
# definition it knows; both limits are this compiler's own.
PARSERS = (
    Parser((5, 0), 9, 3),
    Parser((6, 0), 10, 5),
    Parser((7, 0), 11, 6),
    Parser((8, 0), 13, 6),
    Parser((8, 2), 13, 7),
    Parser((8, 4), 17, 8),
    Parser((9, 0), 19, 9),
    Parser((10, 0), 20, 10),
    Parser((10, 9), 22, 10),
    Parser((10, 11), 22, 11),
    Parser((10, 13), 24, 11),
    Parser((11, 0), 24, 13),
)


def parser_of(version: Version) -> Parser:
    """Return the limits of a release; those of the oldest if the version is unknown (empty)."""
    return max((p for p in PARSERS if p.since <= version), key=lambda p: p.since, default=PARSERS[0])


def conditional(version: Version) -> Conditional:
    """Return what an ONNX ``If`` becomes in a release of TensorRT (`deploycc.parsers.conditionals` has the sources)."""
    if version < (7, 1):
        return "none"
    if version < (8, 0):
        return "constant"  # the importer needs a one-element initialiser and inlines one branch
    if version < (8, 2):
        return "select"  # ISelectLayer over both branches; IIfConditional came with 8.2
    if (8, 2, 2) <= version[:3] < (8, 5):
        return "unconnected"
    if version < (10, 0):
        return "plain"
    return "equal-shapes" if version < (10, 11) else "equal-ranks"  # release notes 10.11: condition-dependent shapes


def first_with(*, opset: int = 0, ir: int = 0) -> str | None:
    """Return the first release that states this operator set and IR version, ``8.4``; None if none does."""
    return next((dotted(p.since) for p in PARSERS if p.opset >= opset and p.ir >= ir), None)


def dotted(version: Version) -> str:
    """Return ``(8, 2, 1)`` as ``8.2.1``."""
    return ".".join(str(part) for part in version)


def numbers(version: str) -> Version:
    """Return ``8.2.1`` as ``(8, 2, 1)``."""
    return tuple(int(part) for part in version.split("."))

"""Targets: one board with one software stack, as data, and the capabilities of its runtime, derived in code."""

from __future__ import annotations

from deploycc.target.target import (
    DEFAULT,
    Capabilities,
    Target,
    Tier,
    capabilities,
    contract,
    folder,
    load,
    names,
    version_of,
)

__all__ = [
    "DEFAULT",
    "Capabilities",
    "Target",
    "Tier",
    "capabilities",
    "contract",
    "folder",
    "load",
    "names",
    "version_of",
]

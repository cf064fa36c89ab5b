"""Licences and notices that go with a bundle."""

from __future__ import annotations

from pathlib import Path

import deploycc

LICENCE = "LICENSE"
NOTICE = "NOTICE"

LKAM_PATENTS = ("US 11,321,613", "US 11,526,753", "US 12,591,777")
"""They cover learned kernel gates (LKAM) at inference."""


def licence_text() -> str:
    """Return the licence of deploycc, which the agent in the bundle is under."""
    package = Path(deploycc.__file__).parent
    places = (package.parent / LICENCE, package / "_LICENSE")  # a checkout; installed (see pyproject.toml)
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def notice_text(name: str, *, has_gates: bool) -> str:
    """Return what whoever ships the bundle must know.

    Args:
        name: of the bundle.
        has_gates: the trained network has kernel gates, or had before compiling.
    """
    text = (
        f"{name}\n\n"
        "agent.pyz and the generated files that accompany it are part of deploycc, under the Apache License 2.0\n"
        "(LICENSE). The network, its weights and the engines are under the licence of whoever trained the network;\n"
        "deploycc does not know it, and claims no copyright in them. TensorRT and CUDA are not in this bundle.\n"
    )
    if has_gates:
        text += (
            "\nThe network has, or had before it was compiled, learned kernel gates (LKAM). They are covered by\n"
            f"{', '.join(LKAM_PATENTS)}. A build whose gates became constants no longer executes them.\n"
            "This is a fact to consider before you ship, not legal advice.\n"
        )
    return text

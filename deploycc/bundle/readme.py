"""The README inside a bundle."""

from __future__ import annotations

from importlib import resources
from string import Template

from deploycc.documents.bundle import BundledEngine

FILE_NAME = "README.md"

_BUILDS = """\
`prepare` prints `model/` of the release where its engines fit the board. Else it builds them from the network (minutes)
and keeps them per board and release below `/var/lib/deploycc/engines`. Run it once as root, at the first boot: whoever
made this bundle permits that."""
_BUILDS_NOT = """\
`prepare` prints `model/` of the release. Its engines run only on the TensorRT, the GPU and the release that they were
built with: `verify` and `install` check it. This bundle does not permit the board to build others."""


def readme(
    *,
    name: str,
    version: str,
    target: str,
    architecture: str,
    runtime: str,
    engines: tuple[BundledEngine, ...],
    build_on_device: bool,
) -> str:
    """Return the text; arguments as the fields of `BundleManifest`."""
    text = resources.files("deploycc.bundle").joinpath("BUNDLE_README.md").read_text(encoding="utf-8")
    return Template(text).substitute(
        name=name,
        version=version,
        target=target,
        architecture=architecture,
        runtime=runtime,
        engines="its engines" if engines else "no engine yet",
        first_boot=_BUILDS if build_on_device else _BUILDS_NOT,
    )
